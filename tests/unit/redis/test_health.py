"""Whether Redis accepts publications: the check of writes, on a clock."""

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogLevel, globalLogPublisher

from wsserver.errors import BrokerDown
from wsserver.redis.health import CHECK_INTERVAL, UNCHECKED, WriteCheck


class Checked:
    """A check whose writes are answered by the test."""

    def __init__(self):
        self.clock = Clock()
        self.writes = []
        self.check = WriteCheck(self.write, self.clock)

    def write(self):
        self.writes.append(Deferred())
        return self.writes[-1]

    def answer(self, problem=None):
        """Answer the last write, and let the next one begin."""
        self.writes[-1].errback(BrokerDown(problem)) if problem else self.writes[-1].callback([1, b"e"])
        found = self.check.problem
        self.clock.advance(CHECK_INTERVAL)
        return found


@pytest.fixture
def checked():
    """Make one whose link is up."""
    made = Checked()
    made.check.begin()
    return made


@pytest.fixture
def lines():
    """Collect levels and texts of the log."""
    found = []

    def observe(event):
        if event.get("log_namespace") == "wsserver.redis":
            found.append((event["log_level"], event["log_format"].format(**event)))

    globalLogPublisher.addObserver(observe)
    yield found
    globalLogPublisher.removeObserver(observe)


class WriteCheckTests:
    """`WriteCheck`."""

    def test_a_link_that_has_just_come_up_counts_once_a_write_has_succeeded(self, checked):
        """The first write is sent at once."""
        assert checked.check.problem == UNCHECKED
        assert len(checked.writes) == 1
        assert checked.answer() is None

    def test_there_is_one_write_at_a_time_and_at_most_one_in_an_interval(self, checked):
        """A slow Redis gets no second one."""
        checked.clock.pump([CHECK_INTERVAL] * 10)
        assert len(checked.writes) == 1
        checked.answer()
        checked.answer()
        assert len(checked.writes) == 3

    def test_a_change_is_noticed_an_interval_later(self, checked):
        """In both directions: each interval has its write, if Redis answers."""
        assert [checked.answer(problem) for problem in (None, "READONLY", None)] == [None, "READONLY", None]
        assert checked.clock.seconds() == 3 * CHECK_INTERVAL
        assert len(checked.writes) == 4

    def test_a_failing_write_and_its_end_are_logged_once_each(self, checked, lines):
        """However often it fails; another reason is another line."""
        for problem in ("disk full", "disk full", "disk full", "memory full", None, None, "disk full"):
            assert checked.answer(problem) == problem
        assert lines == [
            (LogLevel.warn, "Redis accepts no publications: disk full"),
            (LogLevel.warn, "Redis accepts no publications: memory full"),
            (LogLevel.info, "Redis accepts publications again"),
            (LogLevel.warn, "Redis accepts no publications: disk full"),
        ]

    def test_a_write_that_was_pending_when_the_link_fell_does_not_count(self, checked, lines):
        """The link says why it fell."""
        checked.check.end()
        checked.writes[0].errback(BrokerDown("away"))
        checked.clock.advance(10 * CHECK_INTERVAL)
        assert (lines, len(checked.writes)) == ([], 1)
        checked.check.begin()
        assert checked.check.problem == UNCHECKED
        assert checked.answer() is None
