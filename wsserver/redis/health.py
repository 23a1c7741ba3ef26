"""
A check that Redis accepts the writes that publishing needs.

The probe that `wsserver.redis.supervisor` sends shows only that messages arrive. A Redis that is a read-only replica,
out of memory or unable to save its data delivers the probe, but refuses every publication.
"""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

__all__ = ["CHECK_INTERVAL", "WriteCheck"]

# At module level, because Twisted replaces the namespace of a class's logger by the class's name.
_log = Logger(namespace="wsserver.redis")

CHECK_INTERVAL = 2.0
"""Seconds between two writes of the check."""

UNCHECKED = "Redis has not confirmed a write yet"


class WriteCheck:
    """
    Writes to Redis every `CHECK_INTERVAL` seconds, and records whether Redis accepts the write.

    A write needs no timeout. If Redis does not answer, the probe of the `RedisLink` does not come back either. The link
    then closes its connections, which ends the check.

    Args:
        write: publishes to a channel without subscribers, and returns a Deferred. It fails with `BrokerDown` if Redis
            refuses the publication.
        reactor: schedules the writes.
    """

    def __init__(self, write: "Callable[[], Deferred[Any]]", reactor: Any) -> None:
        self._write = write
        self._pending: Deferred[Any] | None = None
        self._calls = LoopingCall(self._check)
        self._calls.clock = reactor
        self._reported: str | None = None
        self.problem: str | None = UNCHECKED
        """Why Redis accepts no publications, or that no write has ended yet; None if the last write succeeded."""

    def begin(self) -> None:
        """Start the check with a first write; called when the `RedisLink` is up."""
        self.problem = UNCHECKED
        self._calls.start(CHECK_INTERVAL)

    def end(self) -> None:
        """Stop the check, and ignore the result of a write in progress; called when the `RedisLink` is down."""
        self._pending = None
        if self._calls.running:
            self._calls.stop()

    def _check(self) -> None:
        if self._pending is not None:
            return
        pending = self._pending = self._write()

        def done(result: Any) -> None:
            if self._pending is pending:
                self._pending = None
                self._report(result.getErrorMessage() if isinstance(result, Failure) else None)

        pending.addBoth(done)

    def _report(self, problem: str | None) -> None:
        self.problem = problem
        if problem == self._reported:
            return
        self._reported = problem
        if problem is None:
            _log.info("Redis accepts publications again")
        else:
            _log.warn("Redis accepts no publications: {problem}", problem=problem)
