"""The periodic check whether Redis accepts publications, on a test clock."""

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogLevel, globalLogPublisher

from wsserver.errors import BrokerDown
from wsserver.redis.health import CHECK_INTERVAL, UNCHECKED, WriteCheck


class Checked:
    """A check whose writes the test answers."""

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
    """Make a check whose link is up."""
    made = Checked()
    made.check.begin()
    return made


@pytest.fixture
def lines():
    """Collect the levels and texts of log lines."""
    found = []

    def observe(event):
        if event.get("log_namespace") == "wsserver.redis":
            found.append((event["log_level"], event["log_format"].format(**event)))

    globalLogPublisher.addObserver(observe)
    yield found
    globalLogPublisher.removeObserver(observe)


class WriteCheckTests:
    """`WriteCheck`."""

    def test_a_new_link_is_unchecked_until_a_write_has_succeeded(self, checked):
        """The first write is sent at once."""
        assert checked.check.problem == UNCHECKED
        assert len(checked.writes) == 1
        assert checked.answer() is None

    def test_writes_once_at_a_time_and_at_most_once_per_interval(self, checked):
        """A slow Redis is not sent a second write."""
        checked.clock.pump([CHECK_INTERVAL] * 10)
        assert len(checked.writes) == 1
        checked.answer()
        checked.answer()
        assert len(checked.writes) == 3

    def test_a_change_is_noticed_an_interval_later(self, checked):
        """This is true for failures and for recoveries. Each interval has one write if Redis answers."""
        assert [checked.answer(problem) for problem in (None, "READONLY", None)] == [None, "READONLY", None]
        assert checked.clock.seconds() == 3 * CHECK_INTERVAL
        assert len(checked.writes) == 4

    def test_logs_each_failure_and_each_recovery_once(self, checked, lines):
        """Repeated failures with the same reason are logged once. A different reason is logged again."""
        for problem in ("disk full", "disk full", "disk full", "memory full", None, None, "disk full"):
            assert checked.answer(problem) == problem
        assert lines == [
            (LogLevel.warn, "Redis accepts no publications: disk full"),
            (LogLevel.warn, "Redis accepts no publications: memory full"),
            (LogLevel.info, "Redis accepts publications again"),
            (LogLevel.warn, "Redis accepts no publications: disk full"),
        ]

    def test_ignores_a_write_that_was_pending_when_the_link_went_down(self, checked, lines):
        """The link itself reports why it went down."""
        checked.check.end()
        checked.writes[0].errback(BrokerDown("away"))
        checked.clock.advance(10 * CHECK_INTERVAL)
        assert (lines, len(checked.writes)) == ([], 1)
        checked.check.begin()
        assert checked.check.problem == UNCHECKED
        assert checked.answer() is None
