"""Tests for wsserver/hub/deferreds.py: code that waits only if it must."""

import pytest
from twisted.internet.defer import CancelledError, Deferred, FirstError, fail, succeed

from wsserver.hub.deferreds import as_deferred, gather, may_wait, then


def outcome(done):
    """Return what a Deferred has fired with, an exception as such; None if it has not fired."""
    found = []
    done.addCallbacks(found.append, lambda failure: found.append(failure.value))
    return found[0] if found else None


class ThenTests:
    """`then`, `gather` and `as_deferred`."""

    def test_calls_the_function_at_once_with_a_value(self):
        assert then(1, lambda value: value + 1) == 2

    def test_calls_the_function_when_the_deferred_fires(self):
        waiting = Deferred()
        done = then(waiting, lambda value: value + 1)
        assert outcome(done) is None
        waiting.callback(1)
        assert outcome(then(succeed(1), lambda value: value + 1)) == 2

    def test_gathers_values_without_a_deferred(self):
        assert gather([1, 2]) == [1, 2]
        assert gather([]) == []

    def test_gathers_values_and_deferreds_in_order(self):
        waiting = Deferred()
        done = gather([1, waiting, succeed(3)])
        waiting.callback(2)
        assert outcome(done) == [1, 2, 3]

    def test_a_gathered_failure_is_a_first_error(self):
        assert isinstance(outcome(gather([1, fail(ValueError("no"))])), FirstError)

    def test_as_deferred_returns_a_deferred_unchanged(self):
        waiting = Deferred()
        assert as_deferred(waiting) is waiting
        assert outcome(as_deferred(5)) == 5


class Problem(Exception):
    """An error of the function under test."""


@may_wait
def add(*numbers):
    """Return the sum, and -1 for each number that fails."""
    total = 0
    for number in numbers:
        try:
            total += yield number
        except Problem:
            total -= 1
    if total > 100:
        raise Problem
    return total


class DriverTests:
    """`may_wait`."""

    def test_returns_the_value_if_nothing_waits(self):
        """Also if it yields nothing, or a Deferred that has fired."""
        assert add() == 0
        assert add(1, 2) == 3
        assert add(1, succeed(2), fail(Problem()), 3) == 5

    def test_raises_the_exception_if_nothing_waits(self):
        with pytest.raises(Problem):
            add(101)
        with pytest.raises(ValueError, match="other"):
            add(fail(ValueError("other")))

    @pytest.mark.parametrize("rest", [(), (3,), (succeed(3),), (fail(Problem()), 4)])
    def test_returns_a_deferred_if_a_deferred_has_not_fired(self, rest):
        waiting = Deferred()
        done = add(1, waiting, *rest)
        assert isinstance(done, Deferred)
        assert outcome(done) is None
        later = []
        done.addCallback(lambda _: later.append(1))
        waiting.callback(2)
        assert later == [1]

    def test_the_deferred_fires_with_the_result(self):
        first, second, third, fired = Deferred(), Deferred(), Deferred(), []
        add(1, first, 2, second, third).addCallback(fired.append)
        first.callback(10)
        second.errback(Problem())
        assert fired == []
        third.callback(20)
        assert fired == [32]

    @pytest.mark.parametrize("last", [200, ValueError("other")])
    def test_the_deferred_fails_with_the_exception(self, last):
        waiting, failures = Deferred(), []
        add(waiting).addErrback(lambda failure: failures.append(failure.type))
        (waiting.errback if isinstance(last, Exception) else waiting.callback)(last)
        assert failures == [ValueError if isinstance(last, Exception) else Problem]

    def test_cancelling_the_deferred_cancels_what_it_waits_for(self):
        cancelled, failures = [], []
        waiting = Deferred(cancelled.append)
        done = add(waiting)
        done.addErrback(lambda failure: failures.append(failure.type))
        done.cancel()
        assert cancelled == [waiting]
        assert failures == [CancelledError]

    def test_a_thousand_values_need_no_recursion(self):
        waiting, fired = Deferred(), []
        add(*[0] * 5000, waiting, *[0] * 5000).addCallback(fired.append)
        waiting.callback(1)
        assert fired == [1]
