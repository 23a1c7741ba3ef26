"""
The door: what every accepted connection meets first.

It reads the head of each request within its limits and its deadline, and decides who speaks next: an endpoint (for
good) or the HTTP side (for one request and its response; then the door reads the next head). So a WebSocket handshake
may come on a kept-alive connection, and neither side ever sees a request that the rules in `requests` refuse.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Any
from typing import Protocol as Shape

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol, IProtocolNegotiationFactory, ITransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from wsserver.config.parsers import show_duration
from wsserver.typing import Path
from wsserver.wire import access_log
from wsserver.wire.access_log import show_path, show_peer
from wsserver.wire.chunked import ChunkedBody
from wsserver.wire.connections import ConnectionSet
from wsserver.wire.deadlines import Deadline, Deadlines
from wsserver.wire.eventstream import is_temporary, temporary_response, wants_event_stream
from wsserver.wire.handshake import Policy, check
from wsserver.wire.http11 import MAX_HEAD, Header, Refusal, Request, check_length, parse, unavailable
from wsserver.wire.limits import MAX_UNSERVED, WorkQueue
from wsserver.wire.linger import LINGER, linger
from wsserver.wire.protocol import ServerProtocol
from wsserver.wire.tls_server import ALPN

__all__ = ["Frontend", "FrontendFactory", "HTTPSide"]

# Of the module, not of a class: on a class Twisted would replace the namespace by the class's name.
_log = Logger(namespace="wsserver.connection")

MAX_TURNED_AWAY = 32
"""Most connections over the limit that are answered with 503 at a time; the next ones are dropped."""

TURN_AWAY_TIMEOUT = 2.0
"""Seconds for the request of a connection over the limit: an event stream is refused in another way than the rest."""

_FIRST_BYTES = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}( |\Z)")
_TLS_HELLO = b"\x16\x03"
_TLS_ON_PLAIN = "TLS hello on a plain HTTP port; use http:// or ws://, or start the server with --tls-cert"


class HTTPSide(Shape):
    """What the door hands whole requests to: `wsserver.web.site.Channel`."""

    def makeConnection(self, transport: ITransport) -> None:
        """Take the transport to answer on."""

    def dataReceived(self, data: bytes) -> None:
        """Take a whole request; tell the door `answered` once its response is written and another may follow."""

    def connectionLost(self, reason: Failure) -> None:
        """Take note that the transport is gone."""

    def half_closed(self) -> None:
        """End what has no end of its own: the client sends nothing more, though it may still read."""

    def loseConnection(self) -> None:
        """Close the connection after what was written."""

    def release(self) -> None:
        """Let go of the transport: an endpoint takes it."""


@implementer(IProtocolNegotiationFactory)
class FrontendFactory(Factory):
    """
    What all doors of a server share.

    Args:
        find: returns what makes the protocol of a path and a query, or a refusal.
        policy: what handshakes are checked against; may be replaced while the server runs.
        response_headers: returns headers that a refusal of a request carries besides its own.
        http: makes the HTTP side of a connection, given the peer's address and the door.
        sockets: where every connection is noted.
        deadlines: where deadlines are set.
        work: serves the requests of all connections in turns.
        open_timeout: seconds for a request's head and body to come.
        max_connections: most connections at a time.
        always_served: paths of the HTTP side that are served while the server stops, too.
    """

    noisy = False

    def __init__(
        self,
        *,
        find: Callable[[Path, Mapping[str, list[str]]], Callable[[], ServerProtocol] | Refusal],
        policy: Policy,
        http: "Callable[[IAddress, Frontend], HTTPSide]",
        response_headers: Callable[[Request], tuple[Header, ...]],
        sockets: ConnectionSet[Any],
        deadlines: Deadlines,
        work: WorkQueue,
        open_timeout: float,
        max_connections: int,
        always_served: frozenset[str] = frozenset(),
    ) -> None:
        self.find = find
        self.policy = policy
        self.http = http
        self.response_headers = response_headers
        self.deadlines = deadlines
        self.work = work
        self.open_timeout = open_timeout
        self.max_connections = max_connections
        self.sockets = sockets
        self.always_served = always_served
        self.stopping = False
        """Nothing new is begun: the server stops."""
        self.turned_away = 0
        """How many of them are one too many, and only stay to read that."""

    def stop(self) -> None:
        """Refuse what comes from here on, on connections that are there already too: 503."""
        self.stopping = True

    def close_all(self) -> "Deferred[None]":
        """
        Close every connection that is no WebSocket, or not yet.

        Returns:
            Fires when no connection is left; what does not end by itself is dropped after `LINGER`.
        """
        for socket in self.sockets:
            socket.transport.loseConnection()
            self.deadlines.call_later(LINGER, socket.transport.abortConnection)
        return self.sockets.emptied()

    def acceptableProtocols(self) -> list[bytes]:
        """Return what is spoken over TLS, for ALPN where TLS is that of Twisted or of an application."""
        return [ALPN]

    def buildProtocol(self, addr: Any) -> "Frontend":  # noqa: ARG002 (a proxy's header may change it)
        """Make the door of a new connection."""
        return Frontend(self)


@implementer(IHalfCloseableProtocol)
class Frontend(Protocol):
    """One connection: see the module."""

    transport: Any

    def __init__(self, house: FrontendFactory) -> None:
        self._house = house
        self._buffer = bytearray()
        self._searched = 0
        self._deadline: Deadline | None = None
        self._http: HTTPSide | None = None
        self._endpoint: ServerProtocol | None = None
        self._request: Request | None = None
        """The request whose head has been read and whose body is waited for."""
        self._chunked: ChunkedBody | None = None
        """Its body, if it is chunked."""
        self._answering = False
        self._handing = False
        self._refused = False
        self._paused = False
        self._held = False
        self._turned_away = False
        self._half_closed = False
        """The client sends nothing more, but may still read."""

    # Called by Twisted.

    def connectionMade(self) -> None:
        """Start the deadline of the first request, or refuse where there are too many connections."""
        house = self._house
        house.sockets.add(self)
        if len(house.sockets) - house.turned_away > house.max_connections:
            self._turn_away()
            return
        self._deadline = house.deadlines.call_later(house.open_timeout, self._too_slow)

    def dataReceived(self, data: bytes) -> None:
        """Take bytes of a request."""
        if self._refused:
            return
        self._buffer += data
        work = self._house.work
        if not self._answering and not self._held:
            work.submit(self)
        if len(self._buffer) > MAX_UNSERVED and (self._answering or self._held or self in work):
            # Pipelined requests wait in the kernel until those before them are answered, and the answers are read.
            self._paused = True
            self.transport.pauseProducing()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell whoever speaks that the transport is gone."""
        self._house.turned_away -= self._turned_away
        self._house.work.discard(self)
        self._disarm()
        for side in (self._endpoint, self._http):
            if side is not None:
                side.connectionLost(reason)
        self._endpoint = self._http = None
        self._house.sockets.discard(self)

    def readConnectionLost(self) -> None:
        """
        Answer the requests that have arrived, then close: the client has ended its side of the connection.

        A request ends by its length, not by the end of the connection (RFC 9112 section 6.3), so it is to be answered.
        """
        self._half_closed = True
        if self._refused or self._endpoint is not None:
            self.transport.loseConnection()
            return
        if self._http is not None and self._answering:
            self._http.half_closed()
        self._house.work.submit(self)

    def writeConnectionLost(self) -> None:
        """Do nothing: only a refused connection is ended so, and its deadline is set."""

    # From the bytes to a request.

    def serve_one(self) -> bool:
        """Serve one request, if a whole one has arrived; return whether there may be another one to serve now."""
        if not self._can_serve():
            return False
        if self._request is None:
            self._read_head()
        request = self._request
        served = False
        # A handshake must not have a body; whether it claims one is judged without waiting for it.
        if request is not None and request.wants_websocket:
            self._serve_websocket(request)
        elif request is not None and (body := self._read_body(request)) is not None:
            self._serve_http(request if self._chunked is None else request.with_length(len(body)), body)
            served = True
        if self._paused and not self._held and (len(self._buffer) <= MAX_UNSERVED or not served):
            self._read_on()
        more = served and bool(self._buffer)
        if self._half_closed and not more and self._can_serve():
            (self._http or self.transport).loseConnection()
        return more and self._can_serve()

    def _can_serve(self) -> bool:
        return not (self._answering or self._refused or self._held)

    def _read_on(self) -> None:
        if self._paused:
            self._paused = False
            self.transport.resumeProducing()

    def finish_turn(self) -> None:
        """Do nothing: responses are written one by one."""

    def work_failed(self) -> None:
        """Drop the connection: its handler has raised."""
        _log.failure("a connection's handler failed")
        self.transport.abortConnection()

    def _read_head(self) -> None:
        """Take a request's head off the buffer, if it is all there."""
        # RFC 9112 section 2.2: an empty line before a request should be ignored.
        while self._buffer.startswith(b"\r\n"):
            del self._buffer[:2]
        if not self._buffer:
            return
        if self._deadline is None:
            self._deadline = self._house.deadlines.call_later(self._house.open_timeout, self._too_slow)
        end = self._find_end()
        if end is None:
            return
        head = bytes(self._buffer[:end])
        del self._buffer[: end + 4]
        request = parse(head)
        if isinstance(request, Refusal):
            self._refuse(request)
            return
        if self._turned_away:
            self._refuse(_too_many_connections(), request)
            return
        if self._house.stopping and (request.wants_websocket or request.path not in self._house.always_served):
            self._refuse(unavailable("the server is stopping"), request)
            return
        # A handshake is refused for having a body at all.
        if not request.wants_websocket and (refusal := check_length(request)) is not None:
            self._refuse(refusal, request)
            return
        self._request = request
        self._chunked = ChunkedBody() if request.chunked else None
        # RFC 9110 section 10.1.1: the client waits for this before it sends the body.
        waits = not self._buffer if request.chunked else request.content_length > len(self._buffer)
        if waits and not request.wants_websocket and "100-continue" in request.tokens("expect"):
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _read_body(self, request: Request) -> bytes | None:
        """Take a request's body off the buffer; return None while it is incomplete, or after it has been refused."""
        if self._chunked is not None:
            refusal = self._chunked.feed(self._buffer)
            if refusal is not None:
                self._refuse(refusal, request)
                return None
            return bytes(self._chunked.data) if self._chunked.complete else None
        if len(self._buffer) < request.content_length:
            return None
        body = bytes(self._buffer[: request.content_length])
        del self._buffer[: request.content_length]
        return body

    def _find_end(self) -> int | None:
        """Find where the head ends; None while it has not come, or after it has been refused."""
        buffer, start = self._buffer, max(0, self._searched - 3)
        end = buffer.find(b"\r\n\r\n", start)
        self._searched = 0 if end >= 0 else len(buffer)
        head_end = end if end >= 0 else len(buffer)
        reason = None
        # A lone CR may be the half of an empty line before the request.
        if buffer != b"\r" and not _FIRST_BYTES.match(buffer):
            # Answered in plain text, not with a TLS alert: clients know this mistake by it. OpenSSL says "wrong version
            # number" and Go "server gave HTTP response to HTTPS client"; any alert looks like a fault of our TLS.
            reason = _TLS_ON_PLAIN if buffer.startswith(_TLS_HELLO) else "this is not HTTP"
        elif buffer.count(b"\n", start, head_end) != buffer.count(b"\r\n", max(0, start - 1), head_end):
            reason = "lines of a request head end with CRLF, not with LF alone"
        if reason is not None:
            self._refuse(Refusal(HTTPStatus.BAD_REQUEST, reason))
            return None
        if head_end > MAX_HEAD:
            reason = f"the request head is over {MAX_HEAD} bytes"
            self._refuse(Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, reason))
            return None
        return end if end >= 0 else None

    # From a request to whoever answers it.

    def _serve_websocket(self, request: Request) -> None:
        accept = check(request, self._house.policy)
        if isinstance(accept, Refusal):
            self._refuse(accept, request)
            return
        assert request.path is not None
        protocol = self._house.find(request.path, request.query or {})
        if isinstance(protocol, Refusal):
            self._refuse(protocol, request)
            return
        try:
            endpoint = protocol()
        except Exception:
            _log.failure("the endpoint of {path} could not be made", path=show_path(request.raw_path))
            self._refuse(Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "the server failed"), request)
            return
        self._disarm()
        self._read_on()
        self._answering = True
        if self._http is not None:
            self._http.release()
            self._http = None
        self._endpoint = endpoint
        rest = bytes(self._buffer)
        self._buffer.clear()
        self._hand_over(endpoint)
        endpoint.makeConnection(self.transport)
        endpoint.begin(request, accept, rest)

    def _hand_over(self, endpoint: ServerProtocol) -> None:
        """Let the transport call the endpoint from now on; the door is gone."""
        transport = self.transport
        # What a TLS connection calls is its wrapped protocol; its own attribute `protocol` is the TCP connection's.
        name = "wrappedProtocol" if getattr(transport, "wrappedProtocol", None) is self else "protocol"
        if getattr(transport, name, None) is self:
            setattr(transport, name, endpoint)
            self._house.sockets.replace(self, endpoint)
        else:
            self.dataReceived = endpoint.dataReceived  # type: ignore[method-assign]

    def _serve_http(self, request: Request, body: bytes) -> None:
        self._disarm()
        # Permission to send the body has been given.
        whole = request.encode(without="expect") + b"\r\n" + body
        self._request = self._chunked = None
        self._answering = self._handing = True
        if self._http is None:
            self._http = self._house.http(self.transport.getPeer(), self)
            self._http.makeConnection(self.transport)
        self._http.dataReceived(whole)
        self._handing = False

    # Called by the HTTP side.

    def answered(self, size: int) -> None:
        """
        Go on: the response is written, and the connection stays open.

        Args:
            size: bytes of the response.
        """
        self._answering = False
        self._house.work.charge(size)
        if self._paused:
            # The HTTP side has resumed the transport at the end of its request.
            self.transport.pauseProducing()
        # While the HTTP side is still being handed the request, `serve_one` is on the stack already.
        if not self._handing and not self._held:
            self._house.work.submit(self)

    def hold(self) -> None:
        """Take no further request: the peer does not read the responses."""
        self._held = True

    def go_on(self) -> None:
        """Take requests again."""
        self._held = False
        if not self._handing:
            self._house.work.submit(self)

    # Refusals.

    def _turn_away(self) -> None:
        house = self._house
        house.turned_away += 1
        self._turned_away = True
        if house.turned_away > MAX_TURNED_AWAY:
            self._refused = True
            self.transport.abortConnection()
            return
        self._deadline = house.deadlines.call_later(TURN_AWAY_TIMEOUT, self._turn_away_unread)

    def _turn_away_unread(self) -> None:
        self._deadline = None
        self._refuse(_too_many_connections())

    def _refuse(self, refusal: Refusal, request: Request | None = None) -> None:
        self._refused = True
        self._disarm()
        self._buffer.clear()
        path = show_path(request.raw_path) if request else None
        access_log.refused(refusal, number=None, peer=show_peer(self.transport.getPeer()), path=path)
        if request is not None:
            # Without them a page of another origin could not read why it was refused.
            refusal = replace(refusal, headers=(*refusal.headers, *self._house.response_headers(request)))
        in_kind = request is not None and is_temporary(refusal) and wants_event_stream(request)
        response = temporary_response(refusal) if in_kind else refusal.response()
        self.transport.write(response)
        self._house.work.charge(len(response))
        self._deadline = linger(self.transport, self._house.deadlines)

    def _too_slow(self) -> None:
        self._deadline = None
        limit = show_duration(self._house.open_timeout)
        if getattr(self.transport, "handshaking", False):
            # Nothing can be said to the client before TLS is there.
            self.transport.abort_handshake(f"not finished within {limit}")
            return
        reason = f"no whole request came within {limit}"
        self._refuse(Refusal(HTTPStatus.REQUEST_TIMEOUT, reason), self._request)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _too_many_connections() -> Refusal:
    return unavailable("the server has too many connections", 5)
