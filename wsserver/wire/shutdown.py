"""
Shutdown: the deadline of a stopping server, after which it drops the connections that are still open.

The drains of the WebSockets (`ServerFactory.drain`) and of the HTTP connections (`FrontendFactory.drain`) have no
deadline of their own.
"""

from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from wsserver.wire.frontend import FrontendFactory
from wsserver.wire.linger import LINGER
from wsserver.wire.protocol import ServerFactory

__all__ = ["ABORT_AFTER", "Shutdown"]

# A module-level logger: as a class attribute, Twisted would replace its namespace with the name of the class.
_log = Logger(namespace="wsserver")

ABORT_AFTER = 0.25
"""Seconds between the Close frames that `Shutdown.abort` sends and the end of the connections."""


class Shutdown:
    """
    Ends the drain of a server: at its deadline, or earlier by `abort`.

    Close frames are sent before the deadline, at most `LINGER` seconds, so that clients may still receive them.

    Args:
        connections: the server's WebSockets and endless responses.
        frontend: the server's connections.
        reactor: the reactor, for the timers.
        timeout: seconds until the deadline.
    """

    def __init__(
        self, connections: ServerFactory, frontend: FrontendFactory, reactor: IReactorTime, timeout: float
    ) -> None:
        self._connections = connections
        self._frontend = frontend
        self._reactor: Any = reactor
        self._count, self._began = len(frontend.sockets), reactor.seconds()
        if self._count:
            _log.info("draining connections={count} timeout={timeout:g}s", count=self._count, timeout=timeout)
        last = min(LINGER, timeout / 2)
        self._timer: Any = self._reactor.callLater(timeout - last, self._close_rest, last)

    def finished(self) -> None:
        """Cancel the deadline: all connections are closed."""
        if self._count:
            seconds = self._reactor.seconds() - self._began
            _log.info("drained connections={count} seconds={seconds:.1f}", count=self._count, seconds=seconds)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def abort(self) -> None:
        """Send the remaining Close frames at once, and drop all connections `ABORT_AFTER` seconds later."""
        if self._timer is not None:
            self._timer.cancel()
            self._close_rest(ABORT_AFTER)

    def _close_rest(self, last: float) -> None:
        self._timer = self._reactor.callLater(last, self._drop_rest)
        self._connections.finish_drain()
        self._frontend.close_all()

    def _drop_rest(self) -> None:
        self._timer = None
        count = len(self._frontend.sockets)
        if count:
            self._connections.counters.limits["drain_timeout"] += count
            _log.warn("connections dropped count={count}; see --drain-timeout", count=count)
        self._frontend.abort_all()
