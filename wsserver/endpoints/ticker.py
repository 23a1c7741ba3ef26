"""`/ticker?every=1s&count=3&text=tick`: send messages at an interval, without waiting for messages from the client."""

from typing import Any, ClassVar

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from wsserver.config.parsers import parse_duration
from wsserver.text import quote
from wsserver.wire.protocol import ConnectionDeny, ConnectionRequest, ServerProtocol

__all__ = ["TickerProtocol"]

MIN_INTERVAL, MAX_INTERVAL = 0.01, 3600.0
"""Bounds of the query parameter `every`, in seconds."""

MAX_COUNT = 1_000_000
"""Maximum of the query parameter `count`."""


class TickerProtocol(ServerProtocol):
    """
    Send a numbered text at an interval: `tick 1`, `tick 2` and so on. The first is sent after one interval.

    No ticks are sent while the client does not read. Afterwards the numbers continue without a gap.
    """

    clock: ClassVar[IReactorTime]

    _call: IDelayedCall | None = None
    _write_blocked = False
    _number = 0

    def onConnect(self, request: ConnectionRequest) -> Any:
        """
        Parse the query parameters `every`, `count` and `text`.

        Raises:
            ConnectionDeny: 400, a parameter is unknown, repeated or invalid.
        """
        query = self.request.query or {}
        unknown = set(query) - {"every", "count", "text", "tap"}
        if unknown:
            raise ConnectionDeny(400, f"unknown parameter {quote(min(unknown))}: expected every, count or text")
        if repeated := [name for name, values in query.items() if len(values) > 1]:
            raise ConnectionDeny(400, f"parameter {quote(repeated[0])} is repeated: expected it at most once")
        self._text = query.get("text", ["tick"])[0]
        self._every = _parse_interval(query.get("every", ["1s"])[0])
        self._count = _parse_count(query["count"][0]) if "count" in query else None
        return super().onConnect(request)

    def onOpen(self) -> None:
        """Schedule the first tick."""
        self._next = self.clock.seconds()
        self._schedule()

    def _schedule(self) -> None:
        # Count the interval from the time when the last tick was due, so that delays do not add up. If the next tick
        # would be due in the past, as after a pause, count from now.
        now = self.clock.seconds()
        self._next += self._every
        if self._next <= now:
            self._next = now + self._every
        self._call = self.clock.callLater(self._next - now, self._tick)

    def _tick(self) -> None:
        self._call = None
        if self._write_blocked or self.state != self.STATE_OPEN:
            return
        self._number += 1
        self.sendMessage(f"{self._text} {self._number}".encode())
        if self._number == self._count:
            self.close(1000, f"{self._count} of {self._count} sent")
        else:
            self._schedule()

    def pauseProducing(self) -> None:
        """Pause the ticks: the client does not read."""
        self._write_blocked = True
        super().pauseProducing()

    def resumeProducing(self) -> None:
        """Resume the ticks: the client reads again."""
        super().resumeProducing()
        self._write_blocked = False
        if self._call is None and self.state == self.STATE_OPEN:
            self._schedule()

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:  # noqa: ARG002
        """Cancel the next tick."""
        if self._call is not None:
            self._call.cancel()
            self._call = None


def _parse_interval(text: str) -> float:
    try:
        return parse_duration(text, MIN_INTERVAL, MAX_INTERVAL)
    except ValueError as error:
        raise ConnectionDeny(400, f"every={quote(text)}: {error}") from None


def _parse_count(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= len(str(MAX_COUNT)) and 1 <= int(text) <= MAX_COUNT:
        return int(text)
    raise ConnectionDeny(400, f"count={quote(text)}: expected a whole number from 1 to {MAX_COUNT}")
