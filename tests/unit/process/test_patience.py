"""Tests for wsserver/process/patience.py: a time in which the reactor keeps up with its work."""

import pytest
from twisted.internet.task import Clock

from wsserver.process.patience import MAX_FACTOR, call_when_punctual


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def called(clock):
    """Start to wait for one second; return the list of the times at which the function was called."""
    times = []
    call_when_punctual(clock, 1.0, lambda: times.append(clock.seconds()))
    return times


def test_calls_the_function_after_the_time(clock, called):
    clock.pump([0.01] * 95)
    assert called == []
    clock.pump([0.01] * 20)
    assert called == [pytest.approx(1.0, abs=0.11)]


def test_begins_again_after_the_reactor_stood_still(clock, called):
    clock.pump([0.01] * 90)
    clock.advance(3.0)
    assert called == []
    clock.pump([0.01] * 95)
    assert called == []
    clock.pump([0.01] * 20)
    assert len(called) == 1


def test_calls_the_function_at_the_limit_if_the_reactor_is_always_late(clock, called):
    clock.pump([0.25] * 19)
    assert called == []
    clock.pump([0.25] * 2)
    assert called == [pytest.approx(MAX_FACTOR * 1.0, abs=0.3)]
