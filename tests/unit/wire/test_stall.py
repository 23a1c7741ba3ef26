"""Tests for wsserver/wire/stall.py: clients that send, but do not read."""

import pytest
from twisted.internet.task import Clock

from wsserver.wire.stall import Stall
from wsserver.wire.timers import Deadlines


class Transport:
    """A transport with data that waits."""

    def __init__(self, unsent, unread):
        self.unsent, self.unread = unsent, unread


@pytest.fixture
def watch():
    """Return a function that watches a transport: it returns the clock and the list of drops."""

    def watch(transport, seconds=5.0, waiting=0):
        clock, dropped = Clock(), []
        drop = lambda: dropped.append(clock.seconds())  # noqa: E731
        watch.stall = Stall(transport, Deadlines(clock), seconds, drop, lambda: waiting)
        return clock, dropped

    return watch


def test_drops_a_client_that_has_sent_something_and_accepts_nothing(watch):
    clock, dropped = watch(Transport(1000, 6))
    clock.pump([0.1] * 48)
    assert dropped == []
    clock.pump([0.1] * 5)
    assert len(dropped) == 1
    assert clock.getDelayedCalls() == []


def test_does_not_drop_a_client_that_has_sent_nothing(watch):
    """It may be slow, or suspended; pings decide about it."""
    clock, dropped = watch(Transport(1000, 0))
    clock.pump([1] * 60)
    assert dropped == []


def test_drops_a_client_whose_last_bytes_have_been_read_and_wait(watch):
    """Such as a command behind a large message: the server has read it, and executes it when the client reads."""
    clock, dropped = watch(Transport(1000, 0), waiting=9)
    clock.pump([0.1] * 53)
    assert len(dropped) == 1


def test_does_not_drop_a_client_that_reads_slowly(watch):
    transport = Transport(1000, 6)
    clock, dropped = watch(transport)
    for _ in range(60):
        clock.advance(1)
        transport.unsent -= 1
    assert dropped == []


def test_drops_a_client_that_stops_reading_later(watch):
    transport = Transport(1000, 6)
    clock, dropped = watch(transport)
    for _ in range(10):
        clock.advance(1)
        transport.unsent -= 1
    clock.pump([0.1] * 76)
    assert len(dropped) == 1


def test_does_nothing_once_it_is_stopped(watch):
    clock, dropped = watch(Transport(1000, 6))
    watch.stall.stop()
    watch.stall.stop()
    clock.advance(60)
    assert dropped == []


def test_watches_nothing_if_the_transport_does_not_tell_how_much_waits(watch):
    clock, dropped = watch(object())
    assert clock.getDelayedCalls() == []
    assert dropped == []
