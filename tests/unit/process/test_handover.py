"""Tests for wsserver/process/handover.py: settings that a worker gets from the supervisor."""

import json

import pytest
from twisted.logger import capturedLogs, formatEvent

from wsserver.config.settings import TABLE, Settings
from wsserver.errors import SettingError
from wsserver.process.handover import dump, dump_files, load, load_files
from wsserver.wire.handed_files import Files

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


def test_a_worker_gets_the_files_of_the_certificates_in_use():
    class Source:
        contents = {"/cert.pem": b"\xff PEM"}
        states = {"/cert.pem": (1, 2), "/missing.pem": None}

    found = json.loads(json.dumps(dump_files([Source()])))
    assert load_files(found) == Files(Source.contents, Source.states)


class UpgradeTests:
    """A worker of a new version gets its first message from a supervisor of an older one."""

    def test_files_that_an_older_supervisor_does_not_send_are_read_by_the_worker(self):
        assert load_files({}) == Files()

    def test_the_contents_of_an_older_supervisor_have_no_states(self):
        assert load_files({"files": {"/cert.pem": "eA=="}}) == Files({"/cert.pem": b"x"})

    def test_options_that_were_removed_are_ignored_with_a_warning(self):
        channel = [["c:*", {"presence": True, "old_limit": "1"}]]
        with capturedLogs() as events:
            found = load({"port": "9000", "old_name": "1", "channel": channel})
        assert found == Settings(port=9000, channel=(("c:*", {"presence": True}),))
        (event,) = events
        line = "options ignored that this version does not have names=--old-limit,--old-name"
        assert (formatEvent(event), event["log_level"].name) == (line, "warn")

    def test_nothing_is_logged_if_all_options_are_known(self):
        with capturedLogs() as events:
            load(dump(MANY))
        assert events == []

    def test_a_value_that_this_version_refuses_is_an_error(self):
        with pytest.raises(SettingError, match="port"):
            load({"port": "old"})
