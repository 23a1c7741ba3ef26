"""Tests for wsserver/wire/timers.py: a reactor whose timers do not follow the system clock."""

import time

import pytest
from twisted.internet import base
from twisted.internet.epollreactor import EPollReactor

from wsserver.wire.timers import use_monotonic_clock


@pytest.fixture
def wall(monkeypatch):
    """Return the system clock that Twisted reads: a list of one number, which a test may change."""
    now = [1_800_000_000.0]
    monkeypatch.setattr(base.ReactorBase, "seconds", staticmethod(lambda: now[0]))
    return now


@pytest.fixture
def reactor(wall):
    """Make a reactor for this test only; it is not installed."""
    reactor = EPollReactor()
    yield reactor
    for reader in reactor.removeAll():
        reader.connectionLost(None)
    reactor._poller.close()


def run_until_due(reactor, done):
    """Run a reactor's timers until a list is filled; fail after 15 seconds."""
    end = time.monotonic() + 15
    while not done:
        assert time.monotonic() < end, "the call was not made within 15 seconds"
        reactor.runUntilCurrent()
        reactor.doIteration(min(reactor.timeout() or 0, 0.01))


@pytest.mark.parametrize("jump", [-86_400, -3600, 3600, 86_400])
class ClockJumpTests:
    """The system clock is set while calls are scheduled."""

    def test_a_call_scheduled_afterwards_is_made_after_its_delay(self, reactor, wall, jump):
        """A clock set forward does not make the later call early; a clock set back does not delay the first one."""
        use_monotonic_clock(reactor)
        soon, late = [], []
        reactor.callLater(0.02, soon.append, 1)
        reactor.callLater(3000, late.append, 1)
        wall[0] += jump
        run_until_due(reactor, soon)
        assert late == []

    def test_a_call_scheduled_before_is_made_after_its_delay(self, reactor, wall, jump):
        """Calls of the application are converted, whether or not the reactor has queued them yet."""
        soon, reset, late = [], [], []
        reactor.callLater(0.02, soon.append, 1)
        moved = reactor.callLater(3000, reset.append, 1)
        reactor.timeout()
        reactor.callLater(3000, late.append, 1)
        use_monotonic_clock(reactor)
        assert 2990 < moved.getTime() - reactor.seconds() <= 3000
        wall[0] += jump
        run_until_due(reactor, soon)
        moved.reset(0.02)
        run_until_due(reactor, reset)
        assert late == []


class UseMonotonicClockTests:
    """`use_monotonic_clock`."""

    def test_a_second_call_changes_nothing(self, reactor):
        """A service and an application may both call the function."""
        use_monotonic_clock(reactor)
        before = time.monotonic()
        call = reactor.callLater(10, list)
        use_monotonic_clock(reactor)
        assert before + 10 <= call.getTime() <= time.monotonic() + 10
        assert reactor.seconds is time.monotonic

    def test_a_cancelled_call_stays_cancelled(self, reactor):
        """Cancelled calls are not converted; Twisted drops them later."""
        call = reactor.callLater(10, list)
        call.cancel()
        use_monotonic_clock(reactor)
        assert reactor.getDelayedCalls() == []
