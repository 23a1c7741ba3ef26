"""
The HTTP side of a connection: answers the calls of the HTTP API and the requests of Centrifuge clients.

It passes all other requests to `twisted.web`, which would need much more CPU time for a call than the call itself: it
copies the request into objects of its own, sorts and checks the response headers, and writes head and body separately.
"""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Protocol

from twisted.internet.interfaces import IAddress, IDelayedCall, IPushProducer, IReactorTime, ITCPTransport, ITransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from wsserver.hub.deferreds import MaybeDeferred, waits
from wsserver.web.centrifuge_http import Handler
from wsserver.web.cors import NO_ORIGIN, CrossOrigin, describe_request, is_api
from wsserver.web.responses import (
    Endless,
    Response,
    StreamResponse,
    refusal_response,
    write_lines,
    write_response,
    write_stream_start,
)
from wsserver.web.site import Channel, PageSite
from wsserver.wire.access_log import AccessLog, show_path, show_peer
from wsserver.wire.frontend import Frontend
from wsserver.wire.http11 import Refusal, Request

__all__ = ["HTTPConnection", "HTTPServer"]

# At module level, because a Twisted Logger in a class body uses the name of the class as its namespace.
_log = Logger(namespace="wsserver.http")

_NO_ORIGIN = write_lines(NO_ORIGIN)


TAPS = "/tap/"
"""The beginning of the paths of taps."""

ABORT_TIMEOUT = 5
"""Seconds after which a connection that is closing is dropped, if the client has read nothing of what is left."""


View = Callable[[Request, str, Any], Response]


class AnswersCalls(Protocol):
    """Answers the calls of the HTTP API: an `API`, or what stands for it where there is none."""

    def answer(self, request: Request, body: bytes) -> "MaybeDeferred[Response]":
        """Answer a call, given the request head and the request body."""


class HTTPServer:
    """
    The objects that the HTTP sides of all connections share.

    Args:
        api: answers the calls of the HTTP API.
        paths: other paths that the server answers itself -> what answers, given the request head, the request body and
            the client's address.
        tap: answers the requests for all paths below `/tap/`.
        views: paths whose answers describe the connection -> what answers, given the request head, the client's address
            and the transport.
        pages: the `twisted.web` site that answers all other requests.
        cross_origin: decides on calls from pages of other origins.
        access_log: logs the requests.
        reactor: the reactor, for timeouts.
        keepalive_timeout: returns the seconds for which a connection may be idle between two requests; a reload may
            change them.
        limits: counts the connections that were closed after this time, as `keepalive_timeout`.
    """

    def __init__(
        self,
        api: AnswersCalls,
        paths: Mapping[str, Handler],
        pages: PageSite,
        cross_origin: CrossOrigin,
        *,
        tap: Handler | None = None,
        views: Mapping[str, View] = MappingProxyType({}),
        access_log: AccessLog,
        reactor: IReactorTime,
        keepalive_timeout: Callable[[], float],
        limits: dict[str, int],
    ) -> None:
        self.api = api
        self.paths = paths
        self.tap = tap
        self.views = views
        self.pages = pages
        self.cross_origin = cross_origin
        self.access_log = access_log
        self.reactor: Any = reactor
        self.keepalive_timeout = keepalive_timeout
        self.limits = limits

    def handler(self, path: str) -> Handler | None:
        """Return what answers a path, if the server answers it itself."""
        return self.paths.get(path) or (self.tap if path.startswith(TAPS) else None)

    def connection(self, frontend: Frontend) -> "HTTPConnection":
        """
        Return the HTTP side of a new connection.

        Args:
            frontend: passes requests to the HTTP side, which notifies it when a response is written.
        """
        return HTTPConnection(self, frontend)


@implementer(IPushProducer)
class HTTPConnection:
    """
    The HTTP side of one connection; implements `wsserver.wire.frontend.HTTPSide`.

    It is the producer of its transport until a request for a page arrives. From then on, the `Channel` that answers
    such requests is the producer.

    Args:
        server: what the connection shares with the others.
        frontend: passes requests one at a time: the next one after `Frontend.response_written`.
    """

    _address: IAddress
    """The client's address. Behind a proxy, it may change with each request."""
    _peer: str
    """The same address, for the log."""

    def __init__(self, server: HTTPServer, frontend: Frontend) -> None:
        self._server = server
        self._frontend = frontend
        self._transport: Any = None
        self._pages: Channel | None = None
        self._stream: Endless | None = None
        """The endless response that is being sent."""
        self._is_half_closed = False
        self._idle_since: float | None = None
        """When the last response was written, by the reactor's clock; None while a request is answered."""
        self._unsent = 0
        """Number of bytes that the client has yet to read, while the connection closes."""
        self._timer: IDelayedCall | None = None
        """The timer of the idle timeout. It is not stopped while requests are answered, which would take longer."""

    # Called by the frontend.

    def makeConnection(self, transport: ITransport) -> None:
        """Set the transport that responses are written to."""
        self._transport = transport
        if ITCPTransport.providedBy(transport):
            transport.setTcpNoDelay(True)
        self._transport.registerProducer(self, True)

    def serve(self, request: Request, body: bytes, address: IAddress) -> None:
        """
        Answer a request.

        Args:
            request: the request head.
            body: the request body, decoded if it was chunked.
            address: the client's address.
        """
        self._idle_since = None
        self._address, self._peer = address, show_peer(address)
        fields = request.fields
        path, server = request.raw_path, self._server
        answers = is_api(request) or path in server.views or server.handler(path) is not None
        # A handshake without an Upgrade header is explained at every path.
        if not answers or "sec-websocket-key" in fields:
            self._open_pages().serve(request, body, self._address)
        elif "origin" in fields:
            self._call_from_page(request, body)
        else:
            self._call(request, body, _NO_ORIGIN)

    def half_closed(self) -> None:
        """End an endless response: the client has closed its sending side, but may still read."""
        self._is_half_closed = True
        if self._pages is not None:
            self._pages.half_closed()
        if self._stream is not None:
            self._stream.half_closed()

    def loseConnection(self) -> None:
        """Close the connection after everything written so far has been sent."""
        self.closing()
        self._transport.unregisterProducer()
        self._transport.loseConnection()

    def release(self) -> None:
        """Stop using the transport: an endpoint takes the connection over."""
        self._stop_timer()
        self._transport.unregisterProducer()

    def connectionLost(self, reason: Failure) -> None:
        """Stop the timer, and drop the response if one is pending."""
        self._stop_timer()
        self._transport = None
        if self._stream is not None:
            self._stream.connectionLost()
        pages, self._pages = self._pages, None
        if pages is not None:
            # The two refer to each other. Without the reference, they need not wait for the garbage collector.
            pages.connectionLost(reason)

    # Calls of the HTTP API, and requests of Centrifuge clients.

    def _call_from_page(self, request: Request, body: bytes) -> None:
        """Answer a preflight or refuse it; run any other call. Without the headers, the page cannot read the answer."""
        cross_origin = self._server.cross_origin
        description = describe_request(request)
        lines = write_lines(cross_origin.headers(description))
        answer = cross_origin.answer(description)
        if answer is None:
            self._call(request, body, lines)
        elif isinstance(answer, Refusal):
            # The page only sees a network error. The log line tells the operator which option to set.
            self._respond(refusal_response(answer), request, lines)
        else:
            self._respond(Response(HTTPStatus.NO_CONTENT, write_lines(answer)), request, lines)

    def _call(self, request: Request, body: bytes, lines: bytes) -> None:
        response: Any
        if is_api(request):
            response = self._server.api.answer(request, body)
        elif (view := self._server.views.get(request.raw_path)) is not None:
            response = view(request, self._peer, self._transport)
        else:
            handler = self._server.handler(request.raw_path)
            assert handler is not None
            response = handler(request, body, self._peer)
        if waits(response):
            response.addCallback(self._respond, request, lines).addErrback(self._failed)
        else:
            self._respond(response, request, lines)

    def _failed(self, failure: Failure) -> None:
        """Drop the connection, as for an exception of a request that does not wait: no timer would close it."""
        _log.failure("a request failed", failure)
        if self._transport is not None:
            self._transport.abortConnection()

    def _respond(self, response: Response | StreamResponse, request: Request, lines: bytes) -> None:
        if self._transport is None:
            # The client disconnected while the call was running.
            return
        if isinstance(response, StreamResponse):
            self._stream = response.stream
            # The stream registers itself.
            self._transport.unregisterProducer()
            self._stream.begin(self._transport, write_stream_start(request, response, lines), response.frame)
            if self._is_half_closed:
                self._stream.half_closed()
            return
        closes = (
            request.version != (1, 1)
            or ("connection" in request.fields and request.names("connection", "close"))
            or self._frontend.is_ending
            or response.closes
        )
        self._transport.write(write_response(request, response, lines, closes=closes))
        size = len(response.body) if request.method != "HEAD" else 0
        path = show_path(request.raw_path)
        if response.refusal is not None:
            self._server.access_log.refused(response.refusal, number=None, peer=self._peer, path=path)
        self._server.access_log.answered(
            method=request.method,
            path=path,
            status=int(response.status),
            size=size,
            peer=self._peer,
            is_logged=response.is_logged and response.refusal is None,
        )
        if closes:
            self.loseConnection()
        else:
            self.response_written(size)

    # Pages, probes and event streams, which `twisted.web` answers.

    def _open_pages(self) -> Channel:
        if self._pages is None:
            self._pages = self._server.pages.channel(self)
            self._pages.is_half_closed = self._is_half_closed
            # The channel registers itself.
            self._transport.unregisterProducer()
            self._pages.makeConnection(self._transport)
        return self._pages

    def response_written(self, size: int) -> None:
        """
        Notify the frontend that a response is written and the connection stays open; start the idle timeout.

        Args:
            size: size of the response's body, in bytes.
        """
        self._idle_since = self._server.reactor.seconds()
        if self._timer is None:
            self._timer = self._server.reactor.callLater(self._server.keepalive_timeout(), self._check_idle)
        self._frontend.response_written(size)

    @property
    def is_ending(self) -> bool:
        """Whether the next response is the last one of the connection: the server is stopping, or full."""
        return self._frontend.is_ending

    def pause_serving(self) -> None:
        """Serve no further request: the client does not read the responses."""
        self._frontend.pause_serving()

    def resume_serving(self) -> None:
        """Serve requests again after `pause_serving`."""
        self._frontend.resume_serving()

    # IPushProducer.

    pauseProducing = pause_serving
    resumeProducing = resume_serving

    def stopProducing(self) -> None:
        """Do nothing: the transport calls `connectionLost` too."""

    # The idle timeout.

    def _check_idle(self) -> None:
        self._timer = None
        if self._idle_since is None:
            # The end of the response starts the timer again.
            return
        left = self._idle_since + self._server.keepalive_timeout() - self._server.reactor.seconds()
        if left > 0:
            self._timer = self._server.reactor.callLater(left, self._check_idle)
            return
        self._server.limits["keepalive_timeout"] += 1
        _log.info("idle connection closed peer={peer}", peer=self._peer)
        self.loseConnection()

    def closing(self) -> None:
        """Start the timeout of a connection that closes once the client has read what is left."""
        self._stop_timer()
        self._unsent = self._count_unsent()
        self._timer = self._server.reactor.callLater(ABORT_TIMEOUT, self._check_closing)

    def _count_unsent(self) -> int:
        return int(getattr(self._transport, "unsent", 0))

    def _check_closing(self) -> None:
        self._timer = None
        if self._count_unsent() < self._unsent:
            self.closing()
        else:
            self._transport.abortConnection()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
