"""
Frontend: the protocol of every accepted connection until it becomes a WebSocket.

A `Frontend` reads each request head, within a size limit and a deadline, and dispatches the request:

- An opening handshake goes to a WebSocket endpoint, which owns the connection from then on.
- Any other request goes to the HTTP side, which answers it. The frontend then reads the next request head.

A client may therefore send an opening handshake on a kept-alive HTTP connection. Requests that `wsserver.wire.http11`
refuses reach neither an endpoint nor the HTTP side.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocolNegotiationFactory
from twisted.internet.protocol import Factory, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from wsserver.config.parsers import show_duration
from wsserver.config.settings import Settings
from wsserver.typing import Header, Path
from wsserver.wire.access_log import AccessLog, show_path
from wsserver.wire.admission import Admission
from wsserver.wire.connections import ConnectionSet
from wsserver.wire.counters import Counters
from wsserver.wire.eventstream import is_temporary, temporary_response, wants_event_stream
from wsserver.wire.forwarded import TrustedProxies
from wsserver.wire.handshake import Policy, check
from wsserver.wire.http11 import Refusal, Request, check_length, unavailable
from wsserver.wire.http_side import HTTPSide
from wsserver.wire.identification import IdentifiedConnection
from wsserver.wire.limits import MAX_UNSERVED, WorkQueue
from wsserver.wire.linger import LINGER, linger
from wsserver.wire.protocol import STOPPING, ServerProtocol
from wsserver.wire.request_reader import RequestReader
from wsserver.wire.tap_attach import attach
from wsserver.wire.timers import Deadline, Deadlines
from wsserver.wire.tls_server import ALPN

__all__ = ["Frontend", "FrontendFactory"]

# A module-level logger: as a class attribute, Twisted would replace its namespace with the name of the class.
_log = Logger(namespace="wsserver.connection")

_LIMITS = {
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "max_request_head",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "max_request_body",
    HTTPStatus.REQUEST_TIMEOUT: "open_timeout",
}
"""Status of a refusal -> the name of the limit that the request exceeds, for the counters."""

FRESH_TIMEOUT = 0.5
"""Seconds that a stopping server waits for the first request of a connection that it has accepted."""

TURN_AWAY_TIMEOUT = 2.0
"""
Seconds that the server waits for the request of a connection over a limit before it sends the refusal.

The server reads the request because event streams are refused with a different response: `wsserver.wire.eventstream`.
"""


@implementer(IProtocolNegotiationFactory)
class FrontendFactory(Factory):
    """
    A protocol factory that builds the frontend of each accepted connection, with the state that all frontends share.

    Args:
        find: returns, for a path and its query parameters, a callable that makes the endpoint, or a refusal.
        policy: rules that opening handshakes are checked against; may be replaced while the server runs.
        response_headers: returns the headers that are added to the refusal of a request.
        http: makes the HTTP side of a connection, given its frontend.
        sockets: the set that every connection is added to.
        admission: decides which connections are served.
        proxies: the trusted proxies.
        deadlines: schedules the deadlines.
        work: serves the requests of all connections in turns.
        counters: what the frontends count for the metrics.
        access_log: logs the refused requests.
        open_timeout: seconds within which a whole request, head and body, must arrive.
        max_head: maximum size of a request head, in bytes.
        max_body: maximum size of a request body, in bytes.
        long_lived: HTTP paths with endless responses: such a request counts as a connection of its client. During
            shutdown, requests for them are refused with 503.
    """

    noisy = False

    def __init__(
        self,
        *,
        find: Callable[[Path, Mapping[str, list[str]]], Callable[[], ServerProtocol] | Refusal],
        policy: Policy,
        http: "Callable[[Frontend], HTTPSide]",
        response_headers: Callable[[Request], tuple[Header, ...]],
        sockets: ConnectionSet[Any],
        admission: Admission,
        proxies: TrustedProxies,
        deadlines: Deadlines,
        work: WorkQueue,
        counters: Counters,
        access_log: AccessLog,
        open_timeout: float,
        max_head: int,
        max_body: int,
        long_lived: frozenset[str] = frozenset(),
    ) -> None:
        self.find = find
        self.policy = policy
        self.http = http
        self.response_headers = response_headers
        self.deadlines = deadlines
        self.work = work
        self.counters = counters
        self.access_log = access_log
        self.open_timeout = open_timeout
        self.max_head = max_head
        self.max_body = max_body
        self.sockets = sockets
        self.admission = admission
        self.proxies = proxies
        self.long_lived = long_lived
        self.stopping = False
        """Set during shutdown: handshakes and requests for endless responses get 503, and other responses are the last
        ones of their connections."""

    def configure(self, settings: Settings) -> None:
        """Replace the limits of requests, and the trusted proxies. What has been received is not checked again."""
        self.open_timeout = settings.open_timeout
        self.max_head, self.max_body = settings.max_request_head, settings.max_request_body
        self.proxies.configure(settings.trusted_proxy, settings.trusted_proxy_header)

    def drain(self, patience: float) -> "Deferred[None]":
        """
        Close the idle connections, and every other one after the response to its request.

        WebSockets and endless responses are closed by `ServerFactory.drain`.

        Args:
            patience: seconds in which an incomplete request must arrive.

        Returns:
            A Deferred that fires when no connection is left.
        """
        self.stopping = True
        self._close_idle(Frontend.is_idle)
        self.deadlines.call_later(FRESH_TIMEOUT, partial(self._close_idle, Frontend.is_silent))
        self.deadlines.call_later(patience, partial(self._close_idle, Frontend.is_receiving))
        return self.sockets.emptied()

    def _close_idle(self, condition: "Callable[[Frontend], bool]") -> None:
        for socket in self.sockets:
            if self.stopping and isinstance(socket, Frontend) and condition(socket):
                self.close(socket)

    def close(self, socket: Any) -> None:
        """Close a connection after what is queued for it has been sent, at the latest after `LINGER` seconds."""
        self.deadlines.call_later(LINGER, socket.transport.abortConnection)
        socket.dropConnection()

    def close_all(self) -> "Deferred[None]":
        """
        Close every connection, even one that waits for a response.

        Connections that are still open after `LINGER` seconds are dropped.

        Returns:
            A Deferred that fires when no connection is left.
        """
        for socket in self.sockets:
            self.close(socket)
        return self.sockets.emptied()

    def abort_all(self) -> None:
        """Drop every connection, without sending what is queued for it."""
        for socket in self.sockets:
            socket.transport.abortConnection()

    def acceptableProtocols(self) -> list[bytes]:
        """Return the protocols offered by ALPN. Called where Twisted or an application provides TLS."""
        return [ALPN]

    def buildProtocol(self, addr: Any) -> "Frontend":  # noqa: ARG002 (a proxy's header may change it)
        """Return the frontend of a new connection."""
        return Frontend(self)


@implementer(IHalfCloseableProtocol)
class Frontend(IdentifiedConnection):
    """
    A protocol that reads the requests of one connection and dispatches them, as the module's docstring describes.

    Args:
        factory: the factory, with the state that all frontends share.
    """

    transport: Any

    # Initial values on the class: most connections change few of them.
    _deadline: Deadline | None = None
    _http: HTTPSide | None = None
    _endpoint: ServerProtocol | None = None
    _request: Request | None = None
    """The request whose head has been read and whose body has not arrived completely."""
    _answering = _dispatching = _refused = _paused = _write_blocked = False
    _turned_away: Refusal | None = None
    """Why the connection is not served, although it has been accepted."""
    _half_closed = False
    """Whether the client has closed its sending side. It may still read."""

    def __init__(self, factory: FrontendFactory) -> None:
        self._factory = factory
        self._reader = RequestReader(factory.max_head, factory.max_body)

    # Called by Twisted.

    def connectionMade(self) -> None:
        """Start the deadline of the first request, or turn the connection away if a limit is reached."""
        factory = self._factory
        refusal = factory.admission.add(self)
        if refusal is not None:
            self._turn_away(refusal, is_full=True)
            return
        self._deadline = factory.deadlines.call_later(factory.open_timeout, self._request_timed_out)
        self._check_peer()

    def dataReceived(self, data: bytes) -> None:
        """Buffer bytes of requests, and serve the requests that are complete."""
        if self._refused:
            return
        if self._awaits_address:
            self._check_peer()
        self._reader.feed(data)
        work = self._factory.work
        if not self._answering and not self._write_blocked:
            work.submit(self)
        if len(self._reader) > MAX_UNSERVED and (self._answering or self._write_blocked or self in work):
            # Further pipelined requests stay in the kernel until the client has read the responses to earlier ones.
            self._paused = True
            self.transport.pauseProducing()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Release the connection, and notify the endpoint or the HTTP side."""
        self._factory.work.discard(self)
        self._cancel_deadline()
        for side in (self._endpoint, self._http):
            if side is not None:
                side.connectionLost(reason)
        self._endpoint = self._http = None
        self._factory.sockets.discard(self)

    def readConnectionLost(self) -> None:
        """
        Answer the requests that have arrived, then close: the client has closed its sending side.

        The length of a request does not depend on the end of the connection (RFC 9112 section 6.3), so a request that
        arrived whole must be answered.
        """
        self._half_closed = True
        if self._refused or self._endpoint is not None:
            self.transport.loseConnection()
            return
        if self._http is not None and self._answering:
            self._http.half_closed()
        self._factory.work.submit(self)

    def writeConnectionLost(self) -> None:
        """Do nothing: only refused connections are half closed by the server, and a deadline drops them."""

    def _check_peer(self) -> None:
        refusal = self._identify()
        if refusal is not None:
            self._cancel_deadline()
            self._turn_away(refusal, is_full=False)

    # Shutdown.

    def dropConnection(self) -> None:
        """Close the connection after what is queued for it has been sent; named as in `ServerProtocol`."""
        (self._http or self.transport).loseConnection()

    @property
    def is_ending(self) -> bool:
        """Whether the next response is the last one of the connection: the server is stopping, or full."""
        return self._factory.stopping or self._turned_away is not None

    def is_receiving(self) -> bool:
        """Return whether the connection has no request, or an incomplete one."""
        return not (self._answering or self._refused) and self._endpoint is None and self not in self._factory.work

    def is_silent(self) -> bool:
        """Return whether nothing of the next request has arrived."""
        return self.is_receiving() and self._request is None and not len(self._reader)

    def is_idle(self) -> bool:
        """Return whether the connection has answered requests, and nothing of the next one has arrived."""
        return self.is_silent() and self._http is not None

    # Reading requests.

    def serve_one(self) -> bool:
        """
        Serve one request, if it has arrived completely.

        Returns:
            Whether there may be another request to serve now.
        """
        if not self._can_serve():
            return False
        if self._request is None:
            self._read_head()
        served = self._serve(self._request) if self._request is not None else False
        if self._paused and not self._write_blocked and (len(self._reader) <= MAX_UNSERVED or not served):
            self._resume_reading()
        more = served and len(self._reader) > 0
        if self._half_closed and not more and self._can_serve():
            (self._http or self.transport).loseConnection()
        return more and self._can_serve()

    def _can_serve(self) -> bool:
        return not (self._answering or self._refused or self._write_blocked)

    def _resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            self.transport.resumeProducing()

    def finish_turn(self) -> None:
        """Do nothing: each response is written when it is complete."""

    def work_failed(self) -> None:
        """Drop the connection: its handler raised an exception, which is logged."""
        _log.failure("a connection's handler failed")
        self.transport.abortConnection()

    def _read_head(self) -> None:
        """Read a request head and check it; start the deadline while the head is incomplete."""
        request = self._reader.read_head()
        if isinstance(request, Refusal):
            self._refuse(request)
        elif request is None:
            self._start_deadline()
        elif (refusal := self._check(request)) is not None:
            self._refuse(refusal, request)
        else:
            self._request = request
            if not request.wants_websocket and self._reader.waits_for_continue(request):
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _check(self, request: Request) -> Refusal | None:
        refusal = self._turned_away
        if refusal is not None and (refusal.status != HTTPStatus.SERVICE_UNAVAILABLE or self._lasts(request)):
            return refusal
        if self._factory.stopping and self._lasts(request):
            return unavailable(STOPPING, cause="stopping")
        # A handshake with any body is refused by `check`.
        return None if request.wants_websocket else check_length(request, self._factory.max_body)

    def _lasts(self, request: Request) -> bool:
        """Return whether the response to a request is a connection of its own."""
        return request.wants_websocket or request.path in self._factory.long_lived

    def _serve(self, request: Request) -> bool:
        """Serve a request whose head has been read; return whether it was an HTTP request with a complete body."""
        # A handshake must not have a body. `check` refuses one that declares a body, without waiting for that body.
        if request.wants_websocket:
            self._serve_websocket(request)
            return False
        body = self._reader.read_body(request)
        if isinstance(body, Refusal):
            self._refuse(body, request)
        elif body is None:
            self._start_deadline()
        else:
            self._serve_http(request, body)
        return isinstance(body, bytes)

    def _start_deadline(self) -> None:
        """Start the deadline of a request that has arrived in part."""
        if self._deadline is None and (self._request is not None or len(self._reader)):
            self._deadline = self._factory.deadlines.call_later(self._factory.open_timeout, self._request_timed_out)

    # Dispatching requests.

    def _serve_websocket(self, request: Request) -> None:
        accept = check(request, self._factory.policy)
        if isinstance(accept, Refusal):
            self._refuse(accept, request)
            return
        path = request.path
        assert path is not None
        protocol = self._factory.find(path, request.query or {})
        if isinstance(protocol, Refusal):
            self._refuse(protocol, request)
            return
        address = self._find_client(request, lasts=True)
        if isinstance(address, Refusal):
            self._refuse(address, request)
            return
        try:
            endpoint = protocol()
        except Exception:
            _log.failure("creating an endpoint failed path={path}", path=show_path(request.raw_path))
            self._refuse(Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "the server failed"), request)
            return
        self._cancel_deadline()
        self._resume_reading()
        self._answering = True
        if self._http is not None:
            self._http.release()
            self._http = None
        rest = self._reader.take_rest()
        receiver, transport = endpoint, self.transport
        if (request.query and "tap" in request.query) or endpoint.factory.taps.watch is not None:
            receiver, transport = attach(endpoint, transport, request, rest)
        self._endpoint = receiver
        self._replace_protocol(endpoint, receiver)
        endpoint.makeConnection(transport)
        endpoint.begin(request, accept, rest, address)
        if self._half_closed:
            # As for a WebSocket whose client closes its sending side later: it cannot answer a Close frame.
            endpoint.dropConnection()

    def _replace_protocol(self, endpoint: ServerProtocol, receiver: Any) -> None:
        """Make the endpoint, or what its tap has put in front of it, the transport's protocol."""
        transport = self.transport
        # A TLS transport calls its `wrappedProtocol`; its attribute `protocol` belongs to the TCP connection under it.
        name = "wrappedProtocol" if getattr(transport, "wrappedProtocol", None) is self else "protocol"
        if getattr(transport, name, None) is self:
            setattr(transport, name, receiver)
            self._factory.sockets.replace(self, endpoint)
        else:
            self.dataReceived = receiver.dataReceived  # type: ignore[method-assign]

    def _serve_http(self, request: Request, body: bytes) -> None:
        self._cancel_deadline()
        self._request = None
        address = self._find_client(request, lasts=self._lasts(request))
        if isinstance(address, Refusal):
            self._refuse(address, request)
            return
        self._answering = self._dispatching = True
        if self._http is None:
            self._http = self._factory.http(self)
            self._http.makeConnection(self.transport)
        if self._half_closed:
            # An endless response must end, although the client closed its sending side before the response began.
            self._http.half_closed()
        self._http.serve(request, body, address)
        self._dispatching = False

    # Called by the HTTP side.

    def response_written(self, size: int) -> None:
        """
        Continue with the next request: the response is written, and the connection stays open.

        Args:
            size: size of the response, in bytes.
        """
        self._answering = False
        self._end_count()
        self._factory.work.charge(size)
        if self._paused:
            # The HTTP side resumes the transport at the end of each request.
            self.transport.pauseProducing()
        if self._factory.stopping and self.is_idle():
            # The response was begun before the shutdown.
            self._factory.close(self)
            return
        # During `_serve_http`, `serve_one` is on the stack and continues by itself.
        if not self._dispatching and not self._write_blocked:
            self._factory.work.submit(self)

    def pause_serving(self) -> None:
        """Stop serving requests: the client does not read the responses."""
        self._write_blocked = True

    def resume_serving(self) -> None:
        """Serve requests again after `pause_serving`."""
        self._write_blocked = False
        if not self._dispatching:
            self._factory.work.submit(self)

    # Refusals.

    def _turn_away(self, refusal: Refusal, *, is_full: bool) -> None:
        factory = self._factory
        self._turned_away = refusal
        if not factory.admission.turn_away(self, is_full=is_full):
            self._refused = True
            self.transport.abortConnection()
            return
        self._deadline = factory.deadlines.call_later(TURN_AWAY_TIMEOUT, self._turn_away_timed_out)

    def _turn_away_timed_out(self) -> None:
        self._deadline = None
        assert self._turned_away is not None
        if getattr(self.transport, "handshaking", False):
            self.transport.abort_handshake(self._turned_away.reason)
        else:
            self._refuse(self._turned_away)

    def _refuse(self, refusal: Refusal, request: Request | None = None) -> None:
        self._refused = True
        if refusal.status in _LIMITS:
            self._factory.counters.limits[_LIMITS[refusal.status]] += 1
        self._cancel_deadline()
        self._reader.take_rest()
        path = show_path(request.raw_path) if request else None
        self._factory.access_log.refused(refusal, number=None, peer=self._show_client(request), path=path)
        if request is not None:
            # Without these headers, a page of another origin could not read the reason.
            refusal = replace(refusal, headers=(*refusal.headers, *self._factory.response_headers(request)))
        in_kind = request is not None and is_temporary(refusal) and wants_event_stream(request)
        response = temporary_response(refusal) if in_kind else refusal.response()
        self.transport.write(response)
        self._factory.work.charge(len(response))
        self._deadline = linger(self.transport, self._factory.deadlines)

    def _request_timed_out(self) -> None:
        self._deadline = None
        limit = show_duration(self._factory.open_timeout)
        if getattr(self.transport, "handshaking", False):
            # The server cannot send a response before the TLS handshake is finished.
            self._factory.counters.limits["open_timeout"] += 1
            self.transport.abort_handshake(f"not finished within {limit}")
            return
        reason = f"no complete request within {limit} (server option --open-timeout)"
        self._refuse(Refusal(HTTPStatus.REQUEST_TIMEOUT, reason), self._request)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
