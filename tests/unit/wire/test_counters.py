"""Tests for wsserver/wire/counters.py and lag.py: histograms, labels of close codes, and the lag of the event loop."""

import pytest
from twisted.internet.task import Clock

from wsserver.closecodes import CloseCode
from wsserver.wire.counters import Counters, Histogram, show_code
from wsserver.wire.lag import INTERVAL, LagMeter


def test_a_histogram_counts_each_duration_in_the_bucket_of_the_next_bound():
    histogram = Histogram(0.1, 1)
    for seconds in (0.0, 0.1, 0.2, 1, 1.1, 60):
        histogram.observe(seconds)
    assert histogram.counts == [2, 2, 2]
    assert histogram.total == pytest.approx(62.4)


def test_known_close_codes_have_a_label_of_their_own_and_others_share_one():
    """A client may send 2,000 codes. Each value of a label is a time series."""
    assert show_code(CloseCode.GOING_AWAY) == "1001"
    assert show_code(3503) == "3503"
    assert len({show_code(code) for code in range(3000, 5000)}) < 30
    assert show_code(4999) == "4xxx"


def test_open_connections_are_those_that_were_opened_and_not_closed():
    counters = Counters()
    counters.opened["websocket"] += 3
    counters.opened["sse"] += 1
    counters.close("websocket", 1000, "peer")
    counters.close("websocket", 4999, "server")
    assert counters.open() == {"websocket": 1, "sse": 1}


class LateClock(Clock):
    """A clock whose calls are late, as if something blocked the event loop."""

    late = 0.0

    def callLater(self, when, what, *arguments, **keywords):
        return super().callLater(when + self.late, what, *arguments, **keywords)


class LagTests:
    """The meter reports by how much its timer is late."""

    def test_reports_how_late_the_timer_is(self):
        clock, found = LateClock(), []
        meter = LagMeter(clock, found.append)
        meter.start()
        clock.late = 0.3
        clock.advance(INTERVAL)
        clock.advance(INTERVAL + 0.3)
        assert found == pytest.approx([0.0, 0.3])

    def test_start_twice_measures_once_and_stop_leaves_no_timer(self):
        clock, found = Clock(), []
        meter = LagMeter(clock, found.append)
        meter.start()
        meter.start()
        clock.advance(INTERVAL)
        assert len(found) == 1
        meter.stop()
        meter.stop()
        assert clock.getDelayedCalls() == []
