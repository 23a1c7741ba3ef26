"""
Whether Redis accepts what publishing needs.

The probe of the link shows that messages arrive. A Redis that is a read-only replica, out of memory or unable to save
still passes it, and refuses every publication.
"""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

__all__ = ["CHECK_INTERVAL", "WriteCheck"]

# Of the module, not of a class: on a class Twisted would replace the namespace by the class's name.
_log = Logger(namespace="wsserver.redis")

CHECK_INTERVAL = 2.0
"""Seconds between two checks."""

UNCHECKED = "Redis has not confirmed a write yet"


class WriteCheck:
    """
    Write to Redis at an interval, one write at a time.

    A write that is not answered needs no timeout: then no probe comes back either, and the link goes down.

    Args:
        write: publishes to a channel that nobody subscribes to; fails with `BrokerDown`.
        reactor: for the interval.
    """

    def __init__(self, write: "Callable[[], Deferred[Any]]", reactor: Any) -> None:
        self._write = write
        self._pending: Deferred[Any] | None = None
        self._calls = LoopingCall(self._check)
        self._calls.clock = reactor
        self._reported: str | None = None
        self.problem: str | None = UNCHECKED
        """Why Redis accepts no publications; None if the last write succeeded."""

    def begin(self) -> None:
        """Start checking, at once: the link is up."""
        self.problem = UNCHECKED
        self._calls.start(CHECK_INTERVAL)

    def end(self) -> None:
        """Stop checking: the link is down. The result of a pending write no longer counts."""
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
