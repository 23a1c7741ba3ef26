"""Tests for wsserver/wire/timers.py: deadlines of many connections on few reactor timers."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import LogLevel

from wsserver.wire.timers import Deadlines


@pytest.fixture
def deadlines(clock):
    """Give deadlines on that clock."""
    return Deadlines(clock)


class CallTests:
    """When a deadline is called."""

    def test_on_time(self, clock, deadlines):
        """It is called once, when its time has come and not before."""
        calls = []
        deadlines.call_later(5, lambda: calls.append(clock.seconds()))
        clock.advance(4.999)
        assert calls == []
        clock.advance(0.001)
        assert calls == [5]
        clock.pump([5] * 10)
        assert calls == [5]

    def test_due(self, clock, deadlines):
        """It tells when that will be."""
        clock.advance(3)
        assert deadlines.call_later(5, list).due == 8

    def test_order(self, clock, deadlines):
        """Deadlines are called in the order in which they are due, whatever their delay."""
        calls = []
        for delay in (3, 1, 2):
            deadlines.call_later(delay, lambda delay=delay: calls.append(delay))
        clock.pump([0.5] * 6)
        assert calls == [1, 2, 3]

    def test_order_of_one_delay(self, clock, deadlines):
        """Those set at the same time for the same time are called in the order in which they were set."""
        calls = []
        for number in range(5):
            deadlines.call_later(1, lambda number=number: calls.append(number))
        clock.advance(1)
        assert calls == [0, 1, 2, 3, 4]

    def test_one_after_another(self, clock, deadlines):
        """Each of those set one after another keeps its own time."""
        calls = []
        for _ in range(4):
            deadlines.call_later(10, lambda: calls.append(clock.seconds()))
            clock.advance(1)
        clock.pump([1] * 20)
        assert calls == [10, 11, 12, 13]

    def test_late_clock(self, clock, deadlines):
        """After a long pause of the program all that is due is called at once, in order."""
        calls = []
        for number in range(3):
            deadlines.call_later(10, lambda number=number: calls.append(number))
            clock.advance(1)
        clock.advance(1000)
        assert calls == [0, 1, 2]

    def test_never_early_after_a_cancel(self, clock, deadlines):
        """A timer that was set for a cancelled deadline does not call the next one before its time."""
        calls = []
        first = deadlines.call_later(10, lambda: calls.append("first"))
        clock.advance(6)
        deadlines.call_later(10, lambda: calls.append(clock.seconds()))
        first.cancel()
        clock.advance(4)
        assert calls == []
        clock.advance(5.5)
        assert calls == []
        clock.advance(0.5)
        assert calls == [16]


class CancelTests:
    """Deadlines that are called off."""

    def test_cancel(self, clock, deadlines):
        """A cancelled deadline is not called; the others are."""
        calls = []
        handles = [deadlines.call_later(1, lambda number=number: calls.append(number)) for number in range(3)]
        handles[1].cancel()
        clock.advance(1)
        assert calls == [0, 2]

    def test_cancel_again(self, clock, deadlines):
        """Cancelling again, or after the call, does nothing."""
        calls = []
        cancelled = deadlines.call_later(1, lambda: calls.append("cancelled"))
        called = deadlines.call_later(1, lambda: calls.append("called"))
        cancelled.cancel()
        cancelled.cancel()
        clock.advance(1)
        called.cancel()
        assert calls == ["called"]

    def test_cancel_inside_a_call(self, clock, deadlines):
        """A call may cancel those that are due at the same moment, and itself."""
        calls = []
        handles = []

        def first():
            calls.append("first")
            for handle in handles:
                handle.cancel()

        handles.append(deadlines.call_later(1, first))
        handles.append(deadlines.call_later(1, lambda: calls.append("second")))
        deadlines.call_later(1, lambda: calls.append("third"))
        clock.advance(1)
        assert calls == ["first", "third"]

    def test_cancel_the_last(self, clock, deadlines):
        """Once all are cancelled the timer runs out and none is left."""
        deadlines.call_later(1, list).cancel()
        clock.advance(1)
        assert clock.getDelayedCalls() == []


class InsideTests:
    """Deadlines that are set by a call."""

    def test_same_delay(self, clock, deadlines):
        """A call may set the next one with the same delay, as pings do."""
        calls = []

        def again():
            calls.append(clock.seconds())
            deadlines.call_later(10, again)

        deadlines.call_later(10, again)
        clock.pump([1] * 35)
        assert calls == [10, 20, 30]
        assert len(clock.getDelayedCalls()) == 1

    def test_same_delay_with_others_waiting(self, clock, deadlines):
        """Neither the others that wait nor the new one are called early, late or twice."""
        calls = []

        def again(name):
            calls.append((name, clock.seconds()))
            if clock.seconds() < 20:
                deadlines.call_later(10, lambda: again(name))

        deadlines.call_later(10, lambda: again("a"))
        clock.advance(4)
        deadlines.call_later(10, lambda: again("b"))
        clock.pump([1] * 40)
        assert calls == [("a", 10), ("b", 14), ("a", 20), ("b", 24)]
        assert clock.getDelayedCalls() == []

    def test_other_delay(self, clock, deadlines):
        """A call may set one with another delay."""
        calls = []
        deadlines.call_later(10, lambda: deadlines.call_later(3, lambda: calls.append(clock.seconds())))
        clock.pump([1] * 20)
        assert calls == [13]


class RaisingTests:
    """Calls that fail."""

    def test_others_go_on(self, clock, deadlines, logged):
        """A call that fails does not stop the others, neither those of the same moment nor later ones."""
        calls = []
        deadlines.call_later(1, lambda: calls.append("before"))
        deadlines.call_later(1, lambda: 1 / 0)
        deadlines.call_later(1, lambda: calls.append("after"))
        clock.advance(0.5)
        deadlines.call_later(1, lambda: calls.append("later"))
        clock.pump([0.5] * 2)
        assert calls == ["before", "after", "later"]

    def test_logged(self, clock, deadlines, logged):
        """The failure is logged with its traceback."""
        deadlines.call_later(1, lambda: 1 / 0)
        clock.advance(1)
        event = logged[-1]
        assert event["log_level"] is LogLevel.critical
        assert event["log_namespace"] == "wsserver.timers"
        assert event["log_format"] == "a deadline's call failed"
        assert event["log_failure"].check(ZeroDivisionError)
        assert len(logged) == 1


class StopTests:
    """The end of the server."""

    def test_stop(self, clock, deadlines):
        """After the stop nothing is called and no timer is left."""
        calls = []
        for delay in (1, 2, 2, 3):
            deadlines.call_later(delay, lambda: calls.append("called"))
        deadlines.stop()
        assert clock.getDelayedCalls() == []
        clock.advance(10)
        assert calls == []

    def test_cancel_after_stop(self, clock, deadlines):
        """A deadline may still be cancelled then."""
        handle = deadlines.call_later(1, list)
        deadlines.stop()
        handle.cancel()
        assert clock.getDelayedCalls() == []

    def test_stop_twice(self, deadlines):
        """Stopping twice does nothing more."""
        deadlines.call_later(1, list)
        deadlines.stop()
        deadlines.stop()

    def test_set_after_stop(self, clock, deadlines):
        """What is set after the stop is called in its time."""
        calls = []
        deadlines.call_later(1, lambda: calls.append("before"))
        deadlines.stop()
        deadlines.call_later(1, lambda: calls.append("after"))
        clock.advance(1)
        assert calls == ["after"]

    def test_stop_inside_a_call(self, clock, deadlines):
        """A call may stop all others, also those that are due at the same moment."""
        calls = []
        deadlines.call_later(1, deadlines.stop)
        deadlines.call_later(1, lambda: calls.append("same moment"))
        clock.advance(1)
        assert calls == []
        assert clock.getDelayedCalls() == []

    def test_stop_inside_a_call_with_others_waiting(self, clock, deadlines):
        """And those that are due later: no timer is left behind, and none fails."""
        calls = []
        deadlines.call_later(10, deadlines.stop)
        clock.advance(1)
        deadlines.call_later(10, lambda: calls.append("later"))
        clock.advance(9)
        assert clock.getDelayedCalls() == []
        clock.advance(10)
        assert calls == []


class TimerTests:
    """How many timers of the reactor are used."""

    def test_one_a_delay(self, clock, deadlines):
        """Any number of deadlines of the same delay need one timer."""
        for number in range(1000):
            deadlines.call_later(5 if number % 2 else 10, list)
            clock.advance(0.001)
        assert len(clock.getDelayedCalls()) == 2

    def test_churn(self, clock, deadlines):
        """Deadlines that are set and cancelled all the time pile up nowhere, as with a ping timeout."""
        for _ in range(1000):
            deadlines.call_later(5, list).cancel()
            clock.advance(0.1)
            assert len(clock.getDelayedCalls()) <= 1
        clock.advance(5)
        assert clock.getDelayedCalls() == []

    def test_none_at_rest(self, clock, deadlines):
        """When all have been called no timer is left."""
        for delay in (1, 2, 3):
            deadlines.call_later(delay, list)
        clock.pump([1] * 3)
        assert clock.getDelayedCalls() == []


# Fractions of a power of two, so that sums are exact and a difference is never rounding.
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["set", "set again", "set again", "cancel", "wait", "wait"]),
        st.sampled_from([0.25, 1.0, 2.5]),
        st.integers(1, 12),
    ),
    min_size=4,
    max_size=40,
)


class ModelTests:
    """Against a list of all deadlines, searched again at each step."""

    @settings(max_examples=200, deadline=None, database=None)
    @given(steps=STEPS)
    def test_any_order(self, steps):
        """Whatever is set, set again by its call, or cancelled: each is called at its time, the cancelled are not."""
        clock = Clock()
        deadlines = Deadlines(clock)
        calls, expected, handles = [], [], []

        def set_one(delay, again):
            name = len(handles)
            expected.append((clock.seconds() + delay, name))
            handles.append(deadlines.call_later(delay, lambda: call(name, delay, again)))

        def call(name, delay, again):
            calls.append((clock.seconds(), name))
            if again:
                set_one(delay, False)

        for action, delay, number in steps:
            if action == "cancel" and handles:
                name = number % len(handles)
                handles[name].cancel()
                expected[:] = [due for due in expected if due[1] != name or due[0] <= clock.seconds()]
            elif action == "wait":
                clock.pump([0.25] * number)
            else:
                set_one(delay, action == "set again")
        clock.pump([0.25] * 40)
        assert sorted(calls) == sorted(expected)
        assert [due for due, _ in calls] == sorted(due for due, _ in calls)
        assert clock.getDelayedCalls() == []
