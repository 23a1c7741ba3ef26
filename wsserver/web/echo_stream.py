"""
`/.sse`: an event stream that shows the request, then the time each second, as at echo.websocket.org.

It has three kinds of events: `server`, `request` and `time`. Each event has a number as its ID.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from wsserver.centrifugecodes import CONNECTION_CLOSED
from wsserver.text import redact_header
from wsserver.web.responses import Response, StreamResponse, write_lines
from wsserver.web.whoami import refuse_method
from wsserver.wire.access_log import show_path
from wsserver.wire.drain import Wait
from wsserver.wire.eventstream import HEADERS, LAST_CHUNK
from wsserver.wire.http11 import Request
from wsserver.wire.linger import LINGER
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


@implementer(IPushProducer)
class _Stream:
    """The response to one client."""

    def __init__(self, factory: ServerFactory, now: Callable[[], float], request: Request, peer: str) -> None:
        self._factory, self._now = factory, now
        self._path, self._peer = show_path(request.raw_path), peer
        self._is_chunked = request.version == (1, 1)
        self._started = factory.reactor.seconds()
        self._number = 0
        self._transport: Any = None
        self._is_over = self._is_blocked = False
        self._next: Deadline | None = None
        self._abort: Deadline | None = None

    def event(self, name: str, data: str) -> bytes:
        """Return the next event."""
        self._number += 1
        lines = "".join(f"data: {line}\n" for line in data.splitlines())
        return f"event: {name}\n{lines}id: {self._number}\n\n".encode()

    def begin(self, transport: Any, head: bytes, frame: bytes) -> None:  # noqa: ARG002
        """Send the head of the response, with the first events."""
        self._transport = transport
        self._factory.add(self)
        transport.registerProducer(self, True)
        transport.write(head)
        self._schedule()

    def _schedule(self) -> None:
        self._next = self._factory.deadlines.call_later(INTERVAL, self._tick)

    def _tick(self) -> None:
        self._schedule()
        if not self._is_blocked:
            time = datetime.fromtimestamp(self._now(), UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
            data = self.event("time", time)
            self._transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data)

    def half_closed(self) -> None:
        """End the response: the client has closed its sending side, and may have disconnected."""
        self._end()

    def connectionLost(self) -> None:
        """Stop the timer, and log the end."""
        self._leave()
        if self._abort is not None:
            self._abort.cancel()
        self._factory.connections.discard(self)

    def close(self, code: int = 0, reason: str = "") -> None:  # noqa: ARG002 (named as for WebSockets)
        """End the response."""
        self._end()

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

    def _end(self) -> None:
        if self._is_over:
            return
        self._leave()
        if self._is_chunked:
            self._transport.write(LAST_CHUNK)
        self._transport.unregisterProducer()
        self._abort = self._factory.deadlines.call_later(LINGER, self._transport.abortConnection)
        self._transport.loseConnection()

    # IPushProducer.

    def pauseProducing(self) -> None:
        """Send no times: the client does not read."""
        self._is_blocked = True

    def resumeProducing(self) -> None:
        """Send times again."""
        self._is_blocked = False

    def stopProducing(self) -> None:
        """Do nothing: `connectionLost` is called, too."""
