"""
Drain: close all connections of a stopping server, spread over time, each one after its pending answers.

If all connections were closed at once, all clients would connect to the next server at once. So the server closes them
in random order, over a time that grows with their number: `PER_SECOND` of them in each second, but within the option
`drain_jitter`. The first `AT_ONCE` are closed immediately, so that a server with few clients stops without a delay.
"""

import random
from collections.abc import Iterable
from enum import IntEnum
from typing import Any, Protocol

from twisted.internet.interfaces import IReactorTime

from wsserver.wire.connections import ConnectionSet

__all__ = ["AT_ONCE", "INTERVAL", "MAX_PER_STEP", "PER_SECOND", "Drain", "Drainable", "Wait", "must_wait"]

AT_ONCE = 50
"""Number of connections that are closed immediately."""

PER_SECOND = 200
"""Number of connections that are closed per second, unless `drain_jitter` is too short for their number."""

INTERVAL = 0.02
"""Seconds between two steps, each of which closes the connections that are due."""

MAX_PER_STEP = 500
"""Maximum number of connections that are closed in one turn of the reactor, so that it serves the others meanwhile."""


class Wait(IntEnum):
    """What a connection may wait for before it is closed. Each level includes those below it."""

    NOTHING = 0
    ANSWERS = 1
    """The server's answers to what it has received."""
    PEER = 2
    """A peer that does not read what the server sends."""


def must_wait(wait: Wait, *, is_answering: bool, is_blocked: bool) -> bool:
    """
    Return whether a connection must not be closed yet.

    Args:
        wait: what the connection may wait for.
        is_answering: whether the connection has received something that is not answered.
        is_blocked: whether the peer does not read what the server sends, so that it cannot be answered.
    """
    return wait == Wait.PEER if is_blocked else is_answering and wait >= Wait.ANSWERS


class Drainable(Protocol):
    """A connection that can be drained: a WebSocket, or an endless response."""

    def drain(self, code: int, reason: str, wait: Wait) -> bool:
        """
        Receive nothing more, and close the connection once everything that was received is answered.

        Args:
            code: the close code.
            reason: the close reason.
            wait: what to wait for.

        Returns:
            True if the connection is closing or closed; False if the method must be called again later.
        """


class Drain:
    """
    Closes the connections of a set.

    Args:
        connections: the set. Connections that are added to it during the drain are closed, too.
        reactor: the reactor, for the clock and the timer.
        code: the close code.
        reason: the close reason.
        jitter: maximum number of seconds over which the closes are spread.
        patience: maximum number of seconds to wait for a peer that does not read, before its connection is closed.
    """

    def __init__(
        self,
        connections: ConnectionSet[Any],
        reactor: IReactorTime,
        *,
        code: int,
        reason: str,
        jitter: float,
        patience: float,
    ) -> None:
        self._connections = connections
        self._reactor = reactor
        self._code, self._reason = code, reason
        self._patience = patience
        self._started = reactor.seconds()
        self._left = _shuffle(connections)
        """The connections that are not due yet."""
        self._pending: dict[Drainable, float] = {}
        """The connections that are due and have pending answers -> since when."""
        self._total = len(self._left)
        self._rate = max(PER_SECOND, self._total / jitter) if jitter else float("inf")
        self._next_step: Any = None
        self._step()

    def add(self, connection: Drainable) -> None:
        """Close a connection that was opened after the start of the drain, because authorizing it has taken time."""
        self._pending[connection] = self._reactor.seconds()
        if self._next_step is None:
            self._next_step = self._reactor.callLater(0, self._step)

    def finish(self) -> None:
        """Close all connections now, whatever is still pending."""
        self.stop()
        for connection in self._connections:
            connection.drain(self._code, self._reason, Wait.NOTHING)

    def stop(self) -> None:
        """Stop the timer. Connections that are not due yet stay open."""
        if self._next_step is not None:
            self._next_step.cancel()
            self._next_step = None

    def _step(self) -> None:
        self._next_step = None
        now = self._reactor.seconds()
        pending, self._pending = self._pending, {}
        for connection, since in pending.items():
            self._drain(connection, since, now)
        late = self._due(now) - (self._total - len(self._left))
        for _ in range(min(late, MAX_PER_STEP)):
            self._drain(self._left.pop(), now, now)
        if self._left or self._pending:
            self._next_step = self._reactor.callLater(0 if late > MAX_PER_STEP else INTERVAL, self._step)

    def _due(self, now: float) -> int:
        """Return how many connections should be closed or closing by now."""
        elapsed = now - self._started
        if self._rate == float("inf"):
            return self._total
        return min(self._total, AT_ONCE + int(self._rate * elapsed))

    def _drain(self, connection: Drainable, since: float, now: float) -> None:
        wait = Wait.PEER if now - since < self._patience else Wait.ANSWERS
        if not connection.drain(self._code, self._reason, wait):
            self._pending[connection] = since


def _shuffle(connections: Iterable[Any]) -> list[Any]:
    found = list(connections)
    random.shuffle(found)
    return found
