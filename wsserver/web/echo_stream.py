"""
`/.sse`: an event stream that shows the request, then the time each second, as at echo.websocket.org.

It has three kinds of events: `server`, `request` and `time`. Each event has a number as its ID.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from wsserver.centrifugecodes import CONNECTION_CLOSED
from wsserver.text import redact_header
from wsserver.web.endless import EndlessResponse
from wsserver.web.responses import Response, StreamResponse, write_lines
from wsserver.web.whoami import refuse_method
from wsserver.wire.access_log import show_path
from wsserver.wire.drain import Wait
from wsserver.wire.eventstream import HEADERS
from wsserver.wire.http11 import Request
from wsserver.wire.protocol import ServerFactory
from wsserver.wire.timers import Deadline

__all__ = ["EchoStreams"]

INTERVAL = 1.0
"""Seconds between two events with the time."""

_LINES = write_lines(HEADERS)


class EchoStreams:
    """
    Answers requests for `/.sse`.

    Args:
        factory: the server's factory, which ends the streams when the server stops.
        now: returns UNIX time in seconds.
    """

    def __init__(self, factory: ServerFactory, now: Callable[[], float]) -> None:
        self._factory, self._now = factory, now

    def answer(self, request: Request, body: bytes, peer: str) -> Response | StreamResponse:  # noqa: ARG002
        """Answer a request with a stream."""
        refused = refuse_method(request)
        if refused is not None or request.method == "HEAD":
            return refused or Response(HTTPStatus.OK, _LINES)
        stream = _Stream(self._factory, self._now, request, peer)
        start = stream.event("server", "wsserver") + stream.event("request", _show_request(request))
        return StreamResponse(stream, _LINES, start, b"")


def _show_request(request: Request) -> str:
    head = f"{request.method} {request.raw_path} HTTP/{request.version[0]}.{request.version[1]}"
    headers = [f"{name}: {redact_header(name, value)}" for name, value in request.headers]
    return "\n".join([head, "", *headers])


class _Stream(EndlessResponse):
    """The response to one client."""

    def __init__(self, factory: ServerFactory, now: Callable[[], float], request: Request, peer: str) -> None:
        super().__init__(factory, is_chunked=request.version == (1, 1))
        self._now = now
        self._path, self._peer = show_path(request.raw_path), peer
        self._started = factory.reactor.seconds()
        self._number = 0
        self._next: Deadline | None = None

    def event(self, name: str, data: str) -> bytes:
        """Return the next event."""
        self._number += 1
        lines = "".join(f"data: {line}\n" for line in data.splitlines())
        return f"event: {name}\n{lines}id: {self._number}\n\n".encode()

    def begin(self, transport: Any, head: bytes, frame: bytes) -> None:
        """Send the head of the response, with the first events."""
        super().begin(transport, head, frame)
        self._schedule()

    def _schedule(self) -> None:
        self._next = self._factory.deadlines.call_later(INTERVAL, self._tick)

    def _tick(self) -> None:
        self._schedule()
        if not self._is_blocked:
            time = datetime.fromtimestamp(self._now(), UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
            self._write(self.event("time", time))

    def drain(self, code: int, reason: str, wait: Wait) -> bool:  # noqa: ARG002
        """End the response: the server is stopping."""
        self._end()
        return True

    def _leave(self) -> None:
        if self._is_over:
            return
        self._is_over = True
        if self._next is not None:
            self._next.cancel()
        self._factory.access_log.streamed(
            method="GET",
            path=self._path,
            peer=self._peer,
            code=CONNECTION_CLOSED.code,
            reason=CONNECTION_CLOSED.reason,
            seconds=self._factory.reactor.seconds() - self._started,
        )
