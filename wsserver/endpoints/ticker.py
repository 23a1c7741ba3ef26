"""`/ticker?every=1s&count=3&text=tick`: the server speaks first, and goes on whether or not the client speaks."""

from typing import Any, ClassVar

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from wsserver.config.parsers import parse_duration
from wsserver.wire.protocol import ConnectionDeny, ConnectionRequest, ServerProtocol

__all__ = ["TickerProtocol"]

SHORTEST, LONGEST = 0.01, 3600.0
"""Bounds of `every`, in seconds."""

MOST = 1_000_000
"""Bound of `count`."""


class TickerProtocol(ServerProtocol):
    """
    Push a numbered text at an interval: `tick 1`, `tick 2` ... The first comes after one interval.

    While the client does not read, no tick is made; those that follow go on counting.
    """

    clock: ClassVar[IReactorTime]

    _call: IDelayedCall | None = None
    _held = False
    _number = 0

    def onConnect(self, request: ConnectionRequest) -> Any:
        """Read the query."""
        query = self.request.query or {}
        unknown = set(query) - {"every", "count", "text"}
        if unknown:
            raise ConnectionDeny(400, f"unknown parameter {min(unknown)!r}: expected every, count or text")
        if repeated := [name for name, values in query.items() if len(values) > 1]:
            raise ConnectionDeny(400, f"the parameter {repeated[0]!r} is given more than once")
        self._text = query.get("text", ["tick"])[0]
        self._every = _every(query.get("every", ["1s"])[0])
        self._count = _count(query["count"][0]) if "count" in query else None
        return super().onConnect(request)

    def onOpen(self) -> None:
        """Start."""
        self._next = self.clock.seconds()
        self._schedule()

    def _schedule(self) -> None:
        # From when the last one was due, so that lateness does not add up; after a stall or a pause, from now.
        now = self.clock.seconds()
        self._next += self._every
        if self._next <= now:
            self._next = now + self._every
        self._call = self.clock.callLater(self._next - now, self._tick)

    def _tick(self) -> None:
        self._call = None
        if self._held or self.state != self.STATE_OPEN:
            return
        self._number += 1
        self.sendMessage(f"{self._text} {self._number}".encode())
        if self._number == self._count:
            self.close(1000, f"{self._count} of {self._count} sent")
        else:
            self._schedule()

    def pauseProducing(self) -> None:
        """Hold: the client does not read."""
        self._held = True
        super().pauseProducing()

    def resumeProducing(self) -> None:
        """Go on."""
        super().resumeProducing()
        self._held = False
        if self._call is None and self.state == self.STATE_OPEN:
            self._schedule()

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:  # noqa: ARG002
        """Stop."""
        if self._call is not None:
            self._call.cancel()
            self._call = None


def _every(text: str) -> float:
    try:
        return parse_duration(text, SHORTEST, LONGEST)
    except ValueError as error:
        raise ConnectionDeny(400, f"every={text!r}: {error}") from None


def _count(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= len(str(MOST)) and 1 <= int(text) <= MOST:
        return int(text)
    raise ConnectionDeny(400, f"count={text!r}: expected a whole number from 1 to {MOST}")
