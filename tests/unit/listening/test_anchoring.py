"""Tests for wsserver/listening/anchoring.py: relative paths in the options become absolute."""

import pytest

from wsserver.config.settings import TABLE, Settings
from wsserver.listening.anchoring import anchor

PEM = "-----BEGIN PUBLIC KEY-----\nabc\n-----END PUBLIC KEY-----"


@pytest.mark.parametrize("name", ["tls_cert", "tls_key", "token_public_key"])
def test_a_path_starts_from_the_directory(name):
    assert getattr(anchor(Settings(**{name: "pki/a.pem"}), "/srv/ws"), name) == "/srv/ws/pki/a.pem"


@pytest.mark.parametrize("name", ["listen", "admin_listen"])
def test_a_path_in_an_endpoint_string_starts_from_the_directory(name):
    settings = Settings(**{name: ["tcp:1", "ssl:2:privateKey=a.pem"]})
    assert getattr(anchor(settings, "/srv"), name) == ("tcp:1", "ssl:2:privateKey=/srv/a.pem")


@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings(tls_cert="/a.pem", tls_key="/b.pem"),
        Settings(token_public_key=PEM),
        Settings(listen=["unix:ws.sock", "ssl:1:privateKey=/a.pem", "systemd:domain=INET:index=0"]),
    ],
)
def test_everything_else_stays_as_it_is(settings):
    assert anchor(settings, "/srv") is settings


def test_all_options_whose_value_is_a_file_are_known_here():
    """A new one has to be added to `anchor`."""
    named = {name for name, option in TABLE.items() if "FILE" in option.metavar or "PATH" in option.metavar}
    assert named == {"tls_cert", "tls_key", "token_public_key"}
