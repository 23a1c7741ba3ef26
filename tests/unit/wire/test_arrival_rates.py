"""Tests for wsserver/wire/arrival_rates.py: limits of events per second, and of log lines."""

from wsserver.wire.arrival_rates import KeyedRates, Rate, Throttle


class RateTests:
    """`Rate`."""

    def test_allows_a_burst_then_the_rate(self):
        rate = Rate(10, 3)
        assert [rate.take(0) for _ in range(4)] == [True, True, True, False]
        assert [rate.take(now) for now in (0.05, 0.11, 0.12, 0.21)] == [False, True, False, True]

    def test_the_burst_is_available_again_after_a_pause(self):
        rate = Rate(10, 3)
        assert [rate.take(now) for now in (0, 0, 0, 5, 5, 5, 5)] == [True] * 6 + [False]

    def test_a_refused_event_costs_nothing(self):
        rate = Rate(1, 1)
        assert rate.take(0)
        assert not any(rate.take(0.5) for _ in range(100))
        assert rate.take(1)


class KeyedRatesTests:
    """`KeyedRates`."""

    def test_each_key_has_a_limit_of_its_own(self):
        rates = KeyedRates(1, 2, 10)
        assert [rates.take(key, 0) for key in "aabab"] == [True, True, True, False, True]
        assert [rates.take(key, 1) for key in "ab"] == [True, True]

    def test_forgets_keys_whose_burst_is_available_again(self):
        rates = KeyedRates(10, 5, 1000)
        for index in range(500):
            rates.take(f"old {index}", 0)
        for index in range(500):
            rates.take(f"new {index}", 10)
        assert len(rates) == 500

    def test_forgets_the_key_that_was_used_least_recently_if_there_are_too_many(self):
        rates = KeyedRates(1, 1, 3)
        assert all(rates.take(key, 0) for key in "abc")
        assert not rates.take("a", 0)
        assert rates.take("d", 0)
        assert [rates.take(key, 0) for key in "acd"] == [False] * 3
        assert rates.take("b", 0)
        assert len(rates) == 3


def test_a_throttle_lets_one_event_through_per_interval_and_counts_the_others():
    throttle = Throttle(10)
    assert [throttle.take(now) for now in (0, 1, 9, 10, 11, 30)] == [0, None, None, 2, None, 1]
