"""Tests for wsserver/process/backoff.py: how long to wait before a worker is replaced."""

from wsserver.process.backoff import MAX_DELAY, Backoff


def delays(*exits):
    """Return the delays after exits, which are pairs of a time and the seconds of service."""
    backoff = Backoff()
    return [backoff.exited(now, served) for now, served in exits]


def test_replaces_the_first_four_at_once():
    assert delays(*((now, 0.5) for now in range(4))) == [0, 0, 0, 0]


def test_doubles_the_delay_from_the_fifth_exit_within_10_seconds_on_up_to_30_seconds():
    found = delays(*((now, 0.5) for now in range(12)))
    assert found == [0, 0, 0, 0, 1, 2, 4, 8, 16, MAX_DELAY, MAX_DELAY, MAX_DELAY]


def test_does_not_delay_exits_that_are_more_than_10_seconds_apart_in_five():
    assert delays(*((2.6 * number, 1.0) for number in range(20))) == [0] * 20


def test_keeps_the_delay_of_a_worker_that_exits_soon_after_a_delay():
    assert delays(*((0.1 * number, 0) for number in range(5)), (40, 1.0), (80, 1.0))[-2:] == [2, 4]


def test_a_worker_that_served_10_seconds_ends_the_delay():
    assert delays(*((0.1 * number, 0) for number in range(5)), (40, 10.0), (40.1, 0.1)) == [0, 0, 0, 0, 1, 0, 0]


def test_a_process_that_cannot_be_started_is_started_later_from_the_first_time_on():
    backoff = Backoff()
    assert [backoff.failed() for _ in range(7)] == [1, 2, 4, 8, 16, MAX_DELAY, MAX_DELAY]
    assert backoff.exited(60, 10.0) == 0
