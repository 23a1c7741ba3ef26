"""Tests for wsserver/process/handover.py: settings that a worker gets from the supervisor."""

import json

import pytest

from wsserver.config.settings import TABLE, Settings
from wsserver.process.handover import dump, dump_files, load, load_files

SECRET = "0123456789abcdef0123456789abcdef"

MANY = Settings(
    port=9000,
    listen=("unix:/run/a b.sock", "tcp:1"),
    workers=4,
    max_message_size="3000B",
    open_timeout=0.25,
    ping_interval=0,
    redis="redis://:secret@localhost:1/2",
    token_secret=SECRET,
    api_key="key",
    timezone="Europe/Berlin",
    anonymous=True,
    channel_allow=("a", "b:*"),
    channel=(("c:*", {"history_size": 7, "history_ttl": "90s", "presence": True, "slow": "drop-oldest"}),),
)


@pytest.mark.parametrize("settings", [Settings(), MANY], ids=["defaults", "many"])
def test_a_worker_gets_the_same_settings(settings):
    assert load(json.loads(json.dumps(dump(settings)))) == settings


def test_only_options_that_differ_from_their_defaults_are_sent():
    assert dump(Settings()) == {}
    assert dump(Settings(port=9000)) == {"port": "9000"}


@pytest.mark.parametrize("name", [name for name, option in TABLE.items() if not option.many and not option.is_flag])
def test_every_default_can_be_sent(name):
    option = TABLE[name]
    assert option.check(option.show(option.default)) == option.default


def test_a_worker_gets_the_contents_of_the_files_that_can_be_read(tmp_path):
    class Source:
        def files(self):
            return str(tmp_path / "cert.pem"), str(tmp_path / "missing.pem")

    (tmp_path / "cert.pem").write_bytes(b"\xff PEM")
    found = json.loads(json.dumps(dump_files([Source()])))
    assert load_files(found) == {str(tmp_path / "cert.pem"): b"\xff PEM"}
