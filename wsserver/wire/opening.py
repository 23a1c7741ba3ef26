"""
Opening handshake of a connection: ask the endpoint, then send the 101 response or a refusal.

The frontend has read the request, and `wsserver.wire.handshake` has checked it.
"""

from collections.abc import Callable
from http import HTTPStatus
from itertools import count
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.interfaces import IAddress
from twisted.python.failure import Failure

from wsserver.config.parsers import show_duration
from wsserver.wire import deflate
from wsserver.wire.access_log import show_path, show_peer
from wsserver.wire.autobahn import AutobahnConnection, ConnectionDeny, ConnectionRequest, Deflate
from wsserver.wire.fastpath import CLOSED, CONNECTING, OPEN
from wsserver.wire.handshake import Accept, response
from wsserver.wire.http11 import Refusal, Request, parse, unavailable
from wsserver.wire.linger import linger
from wsserver.wire.timers import Deadline

__all__ = ["Denied", "OpeningHandshake"]


class Denied(ConnectionDeny):  # type: ignore[misc]
    """
    Raised by `onConnect` to refuse a handshake with additional response headers.

    Args:
        refusal: status, reason and headers of the response.
    """

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(int(refusal.status), refusal.reason)
        self.refusal = refusal


class OpeningHandshake(AutobahnConnection):
    """The part of a connection that runs until the connection is open, or refused."""

    # Provided by the fast path and the slow path.
    state: int
    _plain: bool
    _compressed: bool
    _compress_from: int
    _waiting: bytes
    _process_waiting: Callable[[], None]
    _start_metering: Callable[[], None]

    # Provided by `ServerProtocol`.
    factory: Any
    transport: Any
    _crash: Callable[[Failure], None]
    _count_opened: Callable[[], None]
    _log_opened: Callable[[], None]
    _log_refusal: Callable[[], None]

    number: int
    """The number of the connection in the log."""
    round_trip_time: float | None
    """Seconds from the last answered ping to its pong; None if no ping was answered yet."""
    started: float
    """When the handshake began, on the reactor's clock."""
    _shown_peer: str
    """The client's address in the log."""
    _shown_path: str
    """The request path in the log."""
    _request: Request | bytes
    """The opening handshake; after it is completed, its head if known, which the property `request` parses again."""
    _numbers = count(1)
    _accept: Accept | None = None
    _refused: Refusal | None = None
    _opening: "Deferred[None] | None" = None
    _drop_deadline: Deadline | None = None
    """The deadline that aborts the transport after the server has closed the connection."""

    @property
    def is_open(self) -> "Deferred[None]":
        """A Deferred that fires when the connection opens. Never fires if first read after that."""
        if self._opening is None:
            self._opening = Deferred()
        return self._opening

    @property
    def request(self) -> Request:
        """The opening handshake."""
        request = self._request if isinstance(self._request, Request) else parse(self._request, len(self._request))
        assert isinstance(request, Request)
        return request

    def connectionMade(self) -> None:
        """Count the connection; `begin` does the rest, with the handshake that the frontend has read."""
        self.factory.countConnections += 1
        self._accept = self.autoPingPendingCall = self.websocket_protocol_in_use = self.round_trip_time = None
        self._waiting = b""

    def begin(self, request: Request, accept: Accept, rest: bytes, address: IAddress | None = None) -> None:
        """
        Complete the opening handshake; called once, after `makeConnection`.

        Args:
            request: the request.
            accept: the result of `wsserver.wire.handshake.check` for it.
            rest: bytes that arrived after the request head.
            address: the client's address; None for the peer's.
        """
        self.number = next(self._numbers)
        self.started = self.factory.reactor.seconds()
        self._shown_peer = show_peer(address if address is not None else self.transport.getPeer())
        self._shown_path = show_path(request.raw_path)
        self._request = request
        self._accept = accept
        self._waiting = rest
        try:
            answer = self.onConnect(self._connection_request())
        except Exception:
            self._handshake_failed(Failure())
            return
        if answer is None or (not isinstance(answer, Deferred) and not hasattr(answer, "__await__")):
            self._answered(answer)
            return
        # Until the answer is known nothing else may change the state. Further bytes stay in the kernel.
        self.transport.pauseProducing()
        deadlines = self.factory.deadlines
        self.openHandshakeTimeoutCall = deadlines.call_later(self.openHandshakeTimeout, self.onOpenHandshakeTimeout)
        waiting = answer if isinstance(answer, Deferred) else ensureDeferred(answer)
        waiting.addCallbacks(self._answered, self._handshake_failed)

    def _connection_request(self) -> ConnectionRequest | None:
        if type(self).onConnect is OpeningHandshake.onConnect:
            return None
        request, accept = self.request, self._accept
        assert accept is not None
        return ConnectionRequest(
            self._shown_peer,
            {name: ", ".join(request.all(name)) for name, _ in request.headers},
            request.host,
            request.path,
            request.query,
            self.websocket_version,
            next(iter(request.all("origin")), ""),
            list(accept.offered),
            [list(offer) for offer in accept.extensions],
        )

    def onConnect(self, request: ConnectionRequest) -> Any:  # noqa: ARG002
        """
        Choose the subprotocol; endpoints may override this method.

        Args:
            request: the opening handshake as Autobahn's type.

        Returns:
            The subprotocol or None; a pair of the subprotocol and a mapping of response headers; or an awaitable of
            one of these.

        Raises:
            ConnectionDeny: refuses the handshake, with an HTTP status and a reason for the response body.
        """
        assert self._accept is not None
        return self._accept.subprotocol

    def _answered(self, answer: Any) -> None:
        # The peer may have disconnected, or the deadline expired, before the answer was known.
        if self.state != CONNECTING:
            return
        if self.factory.stopping:
            self.failHandshake("the server is stopping", HTTPStatus.SERVICE_UNAVAILABLE)
            return
        try:
            self.succeedHandshake(answer)
        except Exception:
            self._crash(Failure())

    def _handshake_failed(self, failure: Failure) -> None:
        deny: Any = failure.value
        if not isinstance(deny, ConnectionDeny) or not _is_refusal(deny.code):
            self._crash(failure)
        elif self.state == CONNECTING:
            # In any other state the peer has disconnected, and there is no one to send a refusal to.
            if isinstance(deny, Denied):
                self._refuse(deny.refusal)
            else:
                self.failHandshake(deny.reason or "refused by the endpoint", deny.code)

    def succeedHandshake(self, res: Any) -> None:
        """
        Send the 101 response, and process the bytes that arrived with the handshake.

        Args:
            res: what `onConnect` returned.

        Raises:
            ValueError: the client did not offer the subprotocol, or a header contains a line end.
        """
        subprotocol, headers = res if isinstance(res, tuple) else (res, {})
        accept = self._accept
        assert accept is not None
        if subprotocol is not None and subprotocol not in accept.offered:
            raise ValueError(f"the client did not offer the subprotocol {subprotocol!r}")
        self.websocket_protocol_in_use = subprotocol
        lines = self.factory.taps.header_lines(self.number)
        head = response(accept.key, subprotocol, self._agree_on_compression(accept), headers, lines)
        if self.openHandshakeTimeoutCall is not None:
            self.openHandshakeTimeoutCall.cancel()
            self.openHandshakeTimeoutCall = None
            self.transport.resumeProducing()
        self._send_head(head)
        self.state = OPEN
        self.factory.connections.add(self)
        self.transport.registerProducer(self, True)
        self._count_opened()
        self._log_opened()
        self._start_pings()
        # The handshake is rarely read from now on, so only its head is kept; see the property `request`. In a site of
        # `twisted.web`, the head as received is unknown.
        self._request, self._accept = self.request.head or self.request, None
        self._plain = True
        self._start_metering()
        self.onOpen()
        if self._opening is not None:
            self._opening.callback(None)
        if self._waiting:
            self._process_waiting()

    def _send_head(self, head: bytes) -> None:
        self.transport.write(head)

    def _agree_on_compression(self, accept: Accept) -> str | None:
        if not accept.extensions:
            return None
        terms = self._compression_terms(accept)
        self._use_codec(Deflate(terms, spend=self.factory.work.spend))
        self._compressed, self._compress_from = True, self.factory.settings.compression_min_size
        return terms.answer

    def _compression_terms(self, accept: Accept) -> deflate.Terms:
        return deflate.agree(accept.extensions[0][1], self.factory.settings)

    def processHandshake(self) -> None:
        """Do nothing: the frontend has read the handshake, and only frames follow."""

    def failHandshake(self, reason: str, code: int = 400, responseHeaders: Any = None) -> None:
        """
        Refuse the handshake with an HTTP response. Autobahn would write the reason into the status line.

        Args:
            reason: one sentence for the response body.
            code: the HTTP status. 503 without headers gets a `Retry-After`.
            responseHeaders: pairs of name and value.
        """
        headers = tuple(responseHeaders or ())
        soon = code == HTTPStatus.SERVICE_UNAVAILABLE and not headers
        self._refuse(unavailable(reason) if soon else Refusal(HTTPStatus(code), reason, headers))

    def _refuse(self, refusal: Refusal) -> None:
        self._refused = refusal
        self.transport.write(refusal.response())
        self.state = CLOSED
        if self.openHandshakeTimeoutCall is not None:
            self.openHandshakeTimeoutCall.cancel()
            self.openHandshakeTimeoutCall = None
            # Reading was paused until the decision. Only a transport that reads notices that the client has left.
            self.transport.resumeProducing()
        self._log_refusal()
        self._drop_deadline = linger(self.transport, self.factory.deadlines)

    def onOpenHandshakeTimeout(self) -> None:
        """Refuse the handshake with 503: the result of `onConnect` did not arrive within the deadline."""
        self.openHandshakeTimeoutCall = None
        self.factory.counters.limits["open_timeout"] += 1
        self.failHandshake(
            f"the server did not decide within {show_duration(self.openHandshakeTimeout)}",
            HTTPStatus.SERVICE_UNAVAILABLE,
        )


def _is_refusal(status: int) -> bool:
    return 400 <= status < 600 and status in HTTPStatus.__members__.values()
