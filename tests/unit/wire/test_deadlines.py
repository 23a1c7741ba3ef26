"""Tests for wsserver/wire/timers.py: deadlines of many connections on few reactor timers."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import LogLevel

from wsserver.wire.timers import Deadlines


@pytest.fixture
def deadlines(clock):
    """Make deadlines on the test clock."""
    return Deadlines(clock)


class CallTests:
    """The time at which a deadline is called."""

    def test_calls_a_deadline_once_when_it_is_due_and_not_before(self, clock, deadlines):
        calls = []
        deadlines.call_later(5, lambda: calls.append(clock.seconds()))
        clock.advance(4.999)
        assert calls == []
        clock.advance(0.001)
        assert calls == [5]
        clock.pump([5] * 10)
        assert calls == [5]

    def test_due_is_the_current_time_plus_the_delay(self, clock, deadlines):
        clock.advance(3)
        assert deadlines.call_later(5, list).due == 8

    def test_calls_deadlines_of_different_delays_in_the_order_in_which_they_are_due(self, clock, deadlines):
        calls = []
        for delay in (3, 1, 2):
            deadlines.call_later(delay, lambda delay=delay: calls.append(delay))
        clock.pump([0.5] * 6)
        assert calls == [1, 2, 3]

    def test_calls_deadlines_due_at_the_same_time_in_the_order_they_were_set(self, clock, deadlines):
        calls = []
        for number in range(5):
            deadlines.call_later(1, lambda number=number: calls.append(number))
        clock.advance(1)
        assert calls == [0, 1, 2, 3, 4]

    def test_deadlines_set_one_second_apart_are_called_one_second_apart(self, clock, deadlines):
        calls = []
        for _ in range(4):
            deadlines.call_later(10, lambda: calls.append(clock.seconds()))
            clock.advance(1)
        clock.pump([1] * 20)
        assert calls == [10, 11, 12, 13]

    def test_calls_all_overdue_deadlines_at_once_in_order(self, clock, deadlines):
        """The reactor was blocked for a long time."""
        calls = []
        for number in range(3):
            deadlines.call_later(10, lambda number=number: calls.append(number))
            clock.advance(1)
        clock.advance(1000)
        assert calls == [0, 1, 2]

    def test_the_timer_of_a_cancelled_deadline_does_not_call_the_next_one_early(self, clock, deadlines):
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
    """Cancelled deadlines."""

    def test_a_cancelled_deadline_is_not_called_and_the_others_are(self, clock, deadlines):
        calls = []
        handles = [deadlines.call_later(1, lambda number=number: calls.append(number)) for number in range(3)]
        handles[1].cancel()
        clock.advance(1)
        assert calls == [0, 2]

    def test_cancelling_again_or_after_the_call_does_nothing(self, clock, deadlines):
        calls = []
        cancelled = deadlines.call_later(1, lambda: calls.append("cancelled"))
        called = deadlines.call_later(1, lambda: calls.append("called"))
        cancelled.cancel()
        cancelled.cancel()
        clock.advance(1)
        called.cancel()
        assert calls == ["called"]

    def test_a_call_can_cancel_itself_and_others_due_at_the_same_time(self, clock, deadlines):
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

    def test_no_timer_is_left_when_all_deadlines_were_cancelled(self, clock, deadlines):
        """The reactor timer itself is not cancelled; it expires once, and is not set again."""
        deadlines.call_later(1, list).cancel()
        clock.advance(1)
        assert clock.getDelayedCalls() == []


class NestedTests:
    """Deadlines that a deadline's call sets."""

    def test_a_call_can_set_the_next_deadline_with_the_same_delay(self, clock, deadlines):
        """Pings are scheduled in this way."""
        calls = []

        def again():
            calls.append(clock.seconds())
            deadlines.call_later(10, again)

        deadlines.call_later(10, again)
        clock.pump([1] * 35)
        assert calls == [10, 20, 30]
        assert len(clock.getDelayedCalls()) == 1

    def test_other_deadlines_of_that_delay_are_called_on_time_and_once(self, clock, deadlines):
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

    def test_a_call_can_set_a_deadline_with_another_delay(self, clock, deadlines):
        calls = []
        deadlines.call_later(10, lambda: deadlines.call_later(3, lambda: calls.append(clock.seconds())))
        clock.pump([1] * 20)
        assert calls == [13]


class RaisingTests:
    """Calls that raise."""

    def test_a_call_that_raises_does_not_stop_the_others(self, clock, deadlines, logged):
        """The other deadlines are called, whether they are due at the same time or later."""
        calls = []
        deadlines.call_later(1, lambda: calls.append("before"))
        deadlines.call_later(1, lambda: 1 / 0)
        deadlines.call_later(1, lambda: calls.append("after"))
        clock.advance(0.5)
        deadlines.call_later(1, lambda: calls.append("later"))
        clock.pump([0.5] * 2)
        assert calls == ["before", "after", "later"]

    def test_logs_the_exception_with_its_traceback_as_critical(self, clock, deadlines, logged):
        deadlines.call_later(1, lambda: 1 / 0)
        clock.advance(1)
        event = logged[-1]
        assert event["log_level"] is LogLevel.critical
        assert event["log_namespace"] == "wsserver.timers"
        assert event["log_format"] == "a deadline's call failed"
        assert event["log_failure"].check(ZeroDivisionError)
        assert len(logged) == 1


class StopTests:
    """The server stops."""

    def test_after_stop_no_deadline_is_called_and_no_timer_is_left(self, clock, deadlines):
        calls = []
        for delay in (1, 2, 2, 3):
            deadlines.call_later(delay, lambda: calls.append("called"))
        deadlines.stop()
        assert clock.getDelayedCalls() == []
        clock.advance(10)
        assert calls == []

    def test_a_deadline_can_be_cancelled_after_stop(self, clock, deadlines):
        handle = deadlines.call_later(1, list)
        deadlines.stop()
        handle.cancel()
        assert clock.getDelayedCalls() == []

    def test_stopping_twice_raises_nothing(self, deadlines):
        deadlines.call_later(1, list)
        deadlines.stop()
        deadlines.stop()

    def test_a_deadline_set_after_stop_is_called_when_it_is_due(self, clock, deadlines):
        calls = []
        deadlines.call_later(1, lambda: calls.append("before"))
        deadlines.stop()
        deadlines.call_later(1, lambda: calls.append("after"))
        clock.advance(1)
        assert calls == ["after"]

    def test_stop_in_a_call_cancels_deadlines_due_at_the_same_time(self, clock, deadlines):
        calls = []
        deadlines.call_later(1, deadlines.stop)
        deadlines.call_later(1, lambda: calls.append("same moment"))
        clock.advance(1)
        assert calls == []
        assert clock.getDelayedCalls() == []

    def test_stop_in_a_call_cancels_later_deadlines_and_their_timer(self, clock, deadlines):
        calls = []
        deadlines.call_later(10, deadlines.stop)
        clock.advance(1)
        deadlines.call_later(10, lambda: calls.append("later"))
        clock.advance(9)
        assert clock.getDelayedCalls() == []
        clock.advance(10)
        assert calls == []


class TimerTests:
    """The number of reactor timers."""

    def test_1000_deadlines_with_two_delays_use_two_timers(self, clock, deadlines):
        for number in range(1000):
            deadlines.call_later(5 if number % 2 else 10, list)
            clock.advance(0.001)
        assert len(clock.getDelayedCalls()) == 2

    def test_setting_and_cancelling_repeatedly_uses_at_most_one_timer(self, clock, deadlines):
        """Ping timeouts are set and cancelled in this way."""
        for _ in range(1000):
            deadlines.call_later(5, list).cancel()
            clock.advance(0.1)
            assert len(clock.getDelayedCalls()) <= 1
        clock.advance(5)
        assert clock.getDelayedCalls() == []

    def test_no_timer_is_left_when_all_deadlines_were_called(self, clock, deadlines):
        for delay in (1, 2, 3):
            deadlines.call_later(delay, list)
        clock.pump([1] * 3)
        assert clock.getDelayedCalls() == []


# Multiples of 0.25, so that sums of floats are exact.
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
    """Comparison with a model: a list of all deadlines, searched at each step."""

    @settings(max_examples=200, deadline=None, database=None)
    @given(steps=STEPS)
    def test_random_steps_call_each_deadline_on_time_except_cancelled_ones(self, steps):
        """A step sets a deadline, whose call may set it again, or cancels one, or waits."""
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
