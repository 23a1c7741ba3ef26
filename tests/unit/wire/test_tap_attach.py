"""A connection without a tap does not pass through the code of taps."""

from collections import defaultdict
from types import SimpleNamespace

import pytest
from twisted.internet.task import Clock

from wsserver.config.settings import Settings
from wsserver.testing import MemoryServer
from wsserver.wire import tap_attach
from wsserver.wire.protocol import ServerProtocol
from wsserver.wire.tap_attach import attach
from wsserver.wire.taps import Taps
from wsserver.wire.timers import Deadlines

SECRET = "ab" * 16


@pytest.fixture
def make_connection():
    """Return a function that makes the part of a connection that `attach` uses; given whether there are taps."""

    def make(*, enabled):
        taps = Taps(lambda: SimpleNamespace(max_taps=1), defaultdict(int), Deadlines(Clock()))
        taps.enabled = enabled
        factory = SimpleNamespace(taps=taps, reactor=Clock())
        return SimpleNamespace(factory=factory, maxMessagePayloadSize=100, number=1)

    return make


def request(tap):
    return SimpleNamespace(
        query={"tap": [tap]} if tap else {}, method="GET", target="/echo", version=(1, 1), headers=()
    )


@pytest.mark.parametrize(
    ("enabled", "tap"), [(True, ""), (True, "not a secret"), (False, SECRET)], ids=["unasked", "no secret", "off"]
)
def test_without_a_tap_the_protocol_and_the_transport_are_those_of_the_connection(make_connection, enabled, tap):
    connection, transport = make_connection(enabled=enabled), object()
    protocol, used = attach(connection, transport, request(tap), b"")
    assert protocol is connection
    assert used is transport


def test_beyond_max_taps_a_connection_has_none(make_connection):
    connection, transport = make_connection(enabled=True), object()
    assert attach(connection, transport, request(SECRET), b"")[0] is not connection
    assert attach(connection, transport, request("cd" * 16), b"") == (connection, transport)


def test_an_echo_without_a_tap_runs_no_code_of_taps(monkeypatch):
    """Also if taps are enabled, which is the default on a developer's machine."""

    def fail(*_, **__):
        raise AssertionError("a tap has been used")

    monkeypatch.setattr(tap_attach, "_record", fail)
    server = MemoryServer(Settings(tap="on"))
    client = server.connect()
    client.open("/echo")
    client.send_text("hello")
    assert client.messages() == ["hello"]
    [connection] = server.service.connections.connections
    assert isinstance(connection, ServerProtocol)
    assert type(connection.transport).__module__ != tap_attach.__name__
