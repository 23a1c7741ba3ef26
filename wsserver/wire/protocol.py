"""
WebSocket connections: the adapter between this server and Autobahn's state machine.

This is the only module that imports Autobahn. It receives opening handshakes that `wsserver.wire.handshake` has
accepted; Autobahn's HTTP parser is never used. After the 101 response, `wsserver.wire.frames` parses complete, plain
data frames. Autobahn parses every other frame and every frame that violates RFC 6455, and decides how the connection
fails.

Private names of Autobahn that are used here and in `slowpath.py`: `_batched_timer`, `_cancelAutoPingTimeoutCall`,
`_connectionLost`, `_dataReceived`, `_max_message_size_exceeded`, `_onClose`, `_perMessageCompress`, `_sendAutoPing`. A
contract test fails when one of them changes.
"""

from collections import deque
from functools import cached_property
from http import HTTPStatus
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

from autobahn.exception import PayloadCorruptError, PayloadExceededError
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.util import encode_truncate
from autobahn.websocket.protocol import TrafficStats, WebSocketProtocol
from autobahn.websocket.types import ConnectionDeny, ConnectionRequest
from autobahn.websocket.utf8validator import Utf8Validator
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.interfaces import IPushProducer, IReactorTime, ISSLTransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from wsserver.closecodes import MAX_REASON_BYTES, SENDABLE, CloseCode
from wsserver.config.parsers import show_duration
from wsserver.config.settings import Settings
from wsserver.wire import access_log, deflate
from wsserver.wire.access_log import show_path, show_peer
from wsserver.wire.connections import ConnectionSet
from wsserver.wire.fastpath import CLOSED, CONNECTING, OPEN
from wsserver.wire.handshake import Accept, response
from wsserver.wire.http11 import Refusal, Request, parse, unavailable
from wsserver.wire.limits import WorkQueue
from wsserver.wire.linger import linger
from wsserver.wire.slowpath import SlowPath
from wsserver.wire.timers import Deadline, Deadlines

if TYPE_CHECKING:
    from wsserver.service import WebSocketService

__all__ = ["ConnectionDeny", "ConnectionRequest", "Denied", "ServerFactory", "ServerProtocol", "adopt_options", "bind"]

# A module-level logger: as a class attribute, Twisted would replace its namespace with the name of the class.
_log = Logger(namespace="wsserver.connection")

P = TypeVar("P", bound="ServerProtocol")


class Denied(ConnectionDeny):  # type: ignore[misc]
    """
    Raised by `onConnect` to refuse a handshake with additional response headers.

    Args:
        refusal: status, reason and headers of the response.
    """

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(int(refusal.status), refusal.reason)
        self.headers = refusal.headers


class _Silence:
    """
    The logger given to Autobahn; drops everything.

    Autobahn logs several lines for each frame. They repeat what the access log says when the connection closes.
    """

    def debug(self, *args: object, **kwargs: object) -> None:
        """Drop a log message."""

    info = warn = error = critical = debug


class _TooBig(deflate.InflateTooBig, PayloadExceededError):  # type: ignore[misc]
    """`InflateTooBig` as a subclass of the exception that Autobahn's state machine catches."""


class _Corrupt(deflate.InflateCorrupt, PayloadCorruptError):  # type: ignore[misc]
    """`InflateCorrupt` as a subclass of the exception that Autobahn's state machine catches."""


class _Deflate(deflate.Deflate):
    too_big, corrupt = _TooBig, _Corrupt
    __slots__ = ()


class ServerFactory(WebSocketServerFactory):  # type: ignore[misc]
    """
    Hold what all WebSocket connections of a server share.

    Args:
        settings: the server's options.
        reactor: runs the connections' timers.
    """

    def __init__(self, settings: Settings, reactor: IReactorTime) -> None:
        super().__init__(server="", reactor=reactor)
        self.setProtocolOptions(
            versions=[13],
            webStatus=False,
            failByDrop=False,
            echoCloseCodeReason=True,
            maxMessagePayloadSize=settings.max_message_size,
            openHandshakeTimeout=settings.open_timeout,
            closeHandshakeTimeout=settings.close_timeout,
            autoPingInterval=settings.ping_interval,
            autoPingTimeout=settings.ping_timeout,
            # Origins are checked before Autobahn sees the handshake. If omitted, this option becomes False.
            allowNullOrigin=True,
        )
        self.settings = settings
        self.deadlines = self._batched_timer = Deadlines(reactor)
        self.work = WorkQueue(reactor)
        """Serves requests and commands of all connections in turns."""
        self.connections: ConnectionSet[ServerProtocol] = ConnectionSet()
        """The connections that are open or closing."""
        self.sockets: ConnectionSet[Any] = ConnectionSet()
        """Every connection that is not closed: WebSocket, HTTP, or still without a request."""
        self.stopping = False
        """Set during shutdown; no further handshake is completed."""

    def close_all(self, code: CloseCode, reason: str) -> "Deferred[None]":
        """
        Start the closing handshake on every connection, and refuse handshakes that are still undecided.

        Args:
            code: the close code to send.
            reason: the close reason to send.

        Returns:
            Fires when the last connection is closed, at the latest after the closing deadline.
        """
        self.stopping = True
        for connection in self.connections:
            connection.close(code, reason)
        return self.connections.emptied()


@implementer(IPushProducer)
class ServerProtocol(SlowPath, WebSocketServerProtocol):  # type: ignore[misc]
    """
    A WebSocket connection. An endpoint is a small subclass that overrides Autobahn's callbacks.

    `onConnect(request)` may choose the subprotocol, or raise `ConnectionDeny` to refuse the handshake. After it,
    Autobahn calls `onOpen()`, `onMessage(payload, isBinary)` for each message, and
    `onClose(wasClean, code, reason)`. If a callback raises an exception, the exception is logged with its traceback
    and this one connection is closed with 1011.

    The connection is registered as a push producer with its own transport: while the peer does not read what the server
    sends, the server does not read what the peer sends. So the send buffer of an echo cannot grow without bound.
    """

    # Autobahn sets these attributes on each connection. Here the class holds their initial values, and the class made
    # by `bind` holds the options, so a connection stores only values that differ.
    CONFIG_ATTRS: ClassVar[tuple[str, ...]] = ()
    log: Any = _Silence()
    peer = None
    data = b""
    send_state = WebSocketServerProtocol.SEND_STATE_GROUND
    triggered = inside_message = False
    current_frame: Any = None
    trackedTimings = None
    trafficStats = TrafficStats()
    websocket_version = 13
    websocket_protocols: list[str] = []
    websocket_extensions: list[Any] = []
    websocket_extensions_in_use: list[Any] = []
    websocket_protocol_in_use: str | None = None
    wasMaxFramePayloadSizeExceeded = wasMaxMessagePayloadSizeExceeded = False
    closedByMe = failedByMe = droppedByMe = wasClean = False
    wasNotCleanReason: str | None = None
    wasOpenHandshakeTimeout = wasCloseHandshakeTimeout = wasServingFlashSocketPolicyFile = False
    localCloseCode = localCloseReason = remoteCloseCode = remoteCloseReason = None
    openHandshakeTimeoutCall: Deadline | None = None
    closeHandshakeTimeoutCall: Deadline | None = None
    autoPingPendingCall: Deadline | None = None
    autoPingPending = autoPingPendingSent = None
    autoPingPendingSeq = 0
    maxMessagePayloadSize = 0
    _perMessageCompress: Any = None

    factory: ServerFactory

    service: "ClassVar[WebSocketService]"
    """The service that serves the endpoint; set only on endpoints passed to the service as `endpoints=`."""
    mounted_at: ClassVar[str] = ""
    """The path prefix that the endpoint was registered for, e.g. `/chat/`; empty if registered for an exact path."""

    _request: Request | bytes
    """The opening handshake; after it is completed, only its head, which the property `request` parses again."""
    _shown_peer: str
    _numbers = count(1)
    _accept: Accept | None = None
    _refused: Refusal | None = None
    _bad_gateway = False
    _opening: "Deferred[None] | None" = None
    _drop_deadline: Deadline | None = None
    _gone = False
    """Whether the connection closed before `is_closed` was first read."""

    @property
    def is_open(self) -> "Deferred[None]":
        """Fires when the connection is open."""
        if self._opening is None:
            self._opening = Deferred()
        return self._opening

    @cached_property
    def is_closed(self) -> "Deferred[ServerProtocol]":
        """Fires with the connection when it is closed."""
        closed: Deferred[ServerProtocol] = Deferred()
        if self._gone:
            closed.callback(self)
        return closed

    @cached_property
    def utf8validator(self) -> Any:
        """The UTF-8 validator of fragmented text messages."""
        return Utf8Validator()

    @cached_property
    def send_queue(self) -> deque[Any]:
        """Autobahn's queue of data to be written in chops; see `chopsize` of `sendData`."""
        return deque()

    # The opening handshake.

    def connectionMade(self) -> None:
        """Count the connection; everything else happens in `begin`, with the handshake that the frontend has read."""
        self.factory.countConnections += 1

    def begin(self, request: Request, accept: Accept, rest: bytes) -> None:
        """
        Complete the opening handshake; called once, after `makeConnection`.

        Args:
            request: the request.
            accept: the result of `wsserver.wire.handshake.check` for it.
            rest: bytes that arrived after the request head.
        """
        self.number = next(self._numbers)
        self.started = self.factory.reactor.seconds()
        self._request = request
        self._accept = accept
        self._waiting = rest
        try:
            answer = self.onConnect(self._connection_request())
        except Exception:
            self._handshake_failed(Failure())
            return
        if not isinstance(answer, Deferred) and not hasattr(answer, "__await__"):
            self._answered(answer)
            return
        # Until the answer is known nothing else may change the state. Further bytes stay in the kernel.
        self.transport.pauseProducing()
        deadlines = self.factory.deadlines
        self.openHandshakeTimeoutCall = deadlines.call_later(self.openHandshakeTimeout, self.onOpenHandshakeTimeout)
        waiting = answer if isinstance(answer, Deferred) else ensureDeferred(answer)
        waiting.addCallbacks(self._answered, self._handshake_failed)

    def _connection_request(self) -> ConnectionRequest | None:
        if type(self).onConnect is ServerProtocol.onConnect:
            return None
        request, accept = self.request, self._accept
        assert accept is not None
        return ConnectionRequest(
            show_peer(self.transport.getPeer()),
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
            The subprotocol or None, a pair of that and a mapping of response headers, or an awaitable of one of these.

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
            headers = deny.headers if isinstance(deny, Denied) else ()
            self.failHandshake(deny.reason or "the endpoint refused", deny.code, headers)

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
            raise ValueError(f"the subprotocol {subprotocol!r} was not offered")
        self.websocket_protocol_in_use = subprotocol
        head = response(accept.key, subprotocol, self._agree_on_compression(accept), headers)
        if self.openHandshakeTimeoutCall is not None:
            self.openHandshakeTimeoutCall.cancel()
            self.openHandshakeTimeoutCall = None
            self.transport.resumeProducing()
        self.transport.write(head)
        self.state = OPEN
        self.factory.connections.add(self)
        self.transport.registerProducer(self, True)
        self._log_opened()
        if self.autoPingInterval:
            self.autoPingPendingCall = self.factory.deadlines.call_later(self.autoPingInterval, self._sendAutoPing)
        # The handshake is rarely read from now on, so only its head is kept; see the property `request`.
        self._request, self._accept = self.request.encode(), None
        self._plain = True
        self.onOpen()
        if self._opening is not None:
            self._opening.callback(None)
        if self._waiting:
            self._process_waiting()

    def _agree_on_compression(self, accept: Accept) -> str | None:
        if not accept.extensions:
            return None
        terms = self._compression_terms(accept)
        self._perMessageCompress = _Deflate(terms)
        self.websocket_extensions_in_use = [self._perMessageCompress]
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
        self._refused = unavailable(reason) if soon else Refusal(HTTPStatus(code), reason, headers)
        self.transport.write(self._refused.response())
        self.state = CLOSED
        if self.openHandshakeTimeoutCall is not None:
            self.openHandshakeTimeoutCall.cancel()
            self.openHandshakeTimeoutCall = None
        self._log_refusal()
        self._drop_deadline = linger(self.transport, self.factory.deadlines)

    def onOpenHandshakeTimeout(self) -> None:
        """Refuse the handshake with 503: `onConnect` did not answer within the deadline."""
        self.openHandshakeTimeoutCall = None
        self.failHandshake("the server took too long to decide", HTTPStatus.SERVICE_UNAVAILABLE)

    # Sending and closing.

    def _endpoint_failed(self) -> None:
        self._crash(Failure())

    def _crash(self, failure: Failure) -> None:
        _log.failure("{number} failed", failure, number=self.number)
        if self.state == CONNECTING:
            self.failHandshake("the server failed", HTTPStatus.INTERNAL_SERVER_ERROR)
        self.fail(CloseCode.INTERNAL_ERROR, "the server failed")

    def _send_in_parts(self, *arguments: Any) -> None:
        WebSocketProtocol.sendMessage(self, *arguments)

    def _deflate(self, payload: bytes) -> bytes:
        return cast(bytes, self._perMessageCompress.deflate(payload))

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        """Write frames that Autobahn has built, in order with those built here."""
        if sync or chopsize:
            self._uncork()
            super().sendData(data, sync, chopsize)
        elif self._cork is not None:
            self._cork.append(data)
        else:
            self.transport.write(data)

    def close(self, code: int = CloseCode.NORMAL_CLOSURE, reason: str = "") -> None:
        """
        Start the closing handshake. Does nothing if the connection is closing or closed already.

        Args:
            code: any close code that may be sent; Autobahn's `sendClose` accepts 1000 and 3000-4999 only.
            reason: human-readable; truncated to 123 bytes of UTF-8.

        Raises:
            ValueError: RFC 6455 section 7.4 does not allow this code in a Close frame.
        """
        if code not in SENDABLE and not 3000 <= code <= 4999:
            raise ValueError(f"{int(code)} may not stand in a Close frame")
        if self.state == OPEN:
            self.sendCloseFrame(int(code), encode_truncate(reason, MAX_REASON_BYTES))

    def onCloseFrame(self, code: int | None, reasonRaw: bytes | None) -> bool | None:
        """Process the peer's Close frame."""
        # IANA registered 1014 after Autobahn's list of codes was made, so it is passed to Autobahn as 1013.
        self._bad_gateway = code == CloseCode.BAD_GATEWAY
        taken: bool | None = super().onCloseFrame(CloseCode.TRY_AGAIN_LATER if self._bad_gateway else code, reasonRaw)
        return taken

    def sendCloseFrame(self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False) -> None:
        """Send a Close frame, unless one has been sent."""
        if isReply and self._bad_gateway:
            self.remoteCloseCode = code = int(CloseCode.BAD_GATEWAY)
        super().sendCloseFrame(code, reasonUtf8, isReply)
        self._plain = False

    def fail(self, code: int, reason: str) -> None:
        """
        Start the closing handshake and ignore further messages.

        RFC 6455 section 7.1.7 calls this "Fail the WebSocket Connection".

        Args:
            code: the close code to send.
            reason: the close reason to send.
        """
        self.failedByMe = True
        self.close(code, reason)

    def onAutoPingTimeout(self) -> None:
        """
        Close the connection with 1011 and drop it: no pong arrived within the timeout.

        The peer has most likely disappeared, so the server does not wait for its Close frame.
        """
        self.autoPingTimeoutCall = None
        self.wasNotCleanReason = f"no pong within {show_duration(self.autoPingTimeout)}"
        self.fail(CloseCode.INTERNAL_ERROR, self.wasNotCleanReason)
        self.dropConnection()

    def dropConnection(self, abort: bool = False) -> None:
        """
        Close the TCP connection; abort it after a deadline if the peer does not read.

        Autobahn would abort the connection, which resets it, even after a clean closing handshake, and would wait
        forever for a peer that has stopped reading.

        Args:
            abort: reset the connection at once. Ignored after a clean closing handshake and after `fail`.
        """
        self._uncork()
        self._plain = False
        # Autobahn's own deadline cannot be used: it has no effect in the state CLOSED, which this one must outlast.
        if self._drop_deadline is None:
            deadlines = self.factory.deadlines
            self._drop_deadline = deadlines.call_later(self.closeHandshakeTimeout, self.transport.abortConnection)
        asked = "is_closed" in self.__dict__
        super().dropConnection(abort and not self.wasClean and not self.failedByMe)
        if not asked and self.__dict__.pop("is_closed", None):
            self._gone = True

    def connectionLost(self, reason: Failure = cast(Failure, None)) -> None:  # noqa: B008
        """Release the connection, cancel its deadlines, and call `onClose`."""
        self._plain = False
        for deadline in (self._drop_deadline, self.closeHandshakeTimeoutCall):
            if deadline is not None:
                deadline.cancel()
        # Autobahn would fire `is_closed` with the connection: a reference cycle that only the garbage collector frees.
        if self.state != CLOSED and "is_closed" not in self.__dict__:
            self.state, self._gone = CLOSED, True
        # Skip Autobahn's Twisted adapter and server class: they only format log messages and count connections.
        WebSocketProtocol._connectionLost(self, reason)  # noqa: SLF001 (of a base class)
        self.factory.countConnections -= 1
        self.factory.connections.discard(self)
        self.factory.sockets.discard(self)

    def _onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        if self not in self.factory.connections:
            if self._refused is None:
                self._log_refusal()
            return
        self._log_closed()
        try:
            self.onClose(wasClean, code, reason)
        except Exception:
            _log.failure("{number} failed in onClose", number=self.number)

    @property
    def _shown_path(self) -> str:
        kept = self._request
        raw = kept.raw_path if isinstance(kept, Request) else kept.split(b" ", 2)[1].partition(b"?")[0].decode("ascii")
        return show_path(raw)

    def _log_refusal(self) -> None:
        peer, path = show_peer(self.transport.getPeer()), self._shown_path
        access_log.refused(self._refused, number=self.number, peer=peer, path=path)

    def _log_opened(self) -> None:
        self._shown_peer = show_peer(self.transport.getPeer())
        access_log.opened(
            number=self.number,
            peer=self._shown_peer,
            path=self._shown_path,
            subprotocol=self.websocket_protocol_in_use,
            extensions=",".join(extension.EXTENSION_NAME for extension in self.websocket_extensions_in_use) or None,
        )

    def _log_closed(self) -> None:
        reason = self.localCloseReason.decode() if self.closedByMe and self.localCloseReason else self.remoteCloseReason
        access_log.closed(
            number=self.number,
            peer=self._shown_peer,
            path=self._shown_path,
            code=self._end_code(),
            by="server" if self.closedByMe else "peer" if self.remoteCloseCode or self.wasClean else "nobody",
            clean=self.wasClean,
            reason=reason or self.wasNotCleanReason or "",
            subprotocol=self.websocket_protocol_in_use,
            seconds=self.factory.reactor.seconds() - self.started,
            messages_in=self.messages_in,
            bytes_in=self.bytes_in,
            messages_out=self.messages_out,
            bytes_out=self.bytes_out,
        )

    def _end_code(self) -> int:
        """Return the code of the first Close frame, or 1005 or 1006 without one (RFC 6455 section 7.1.5)."""
        if self.closedByMe:
            return int(cast(int, self.localCloseCode))
        if self.wasClean:
            return int(self.remoteCloseCode or CloseCode.NO_STATUS_RECEIVED)
        return CloseCode.ABNORMAL_CLOSURE

    # Properties for endpoints.

    @property
    def request(self) -> Request:
        """The opening handshake."""
        request = self._request if isinstance(self._request, Request) else parse(self._request)
        assert isinstance(request, Request)
        return request

    @property
    def subpath(self) -> str:
        """
        The path below the endpoint's prefix: `lobby` for `/chat/lobby` if the endpoint is registered for `/chat/`.

        Percent-decoded, without a trailing slash. Empty for the prefix itself, and for an endpoint with an exact path.
        """
        path = self.request.path or ""
        return path[len(self.mounted_at) :].rstrip("/") if self.mounted_at else ""

    @property
    def ended(self) -> tuple[int, str]:
        """The close code and the close reason; valid after the connection has closed."""
        reason = self.localCloseReason.decode() if self.closedByMe and self.localCloseReason else self.remoteCloseReason
        return self._end_code(), reason or ""

    @property
    def extensions(self) -> list[dict[str, Any]]:
        """The negotiated extensions: for each, its name under the key `extension`, and its parameters."""
        return [extension.describe() for extension in self.websocket_extensions_in_use]

    @property
    def tls(self) -> dict[str, str | None] | None:
        """TLS version, cipher and server name (SNI); None on a plain connection."""
        transport: Any = self.transport
        if not ISSLTransport.providedBy(transport):
            return None
        connection = cast(Any, transport).getHandle()
        return {
            "version": connection.get_protocol_version_name(),
            "cipher": connection.get_cipher_name(),
            "server_name": (connection.get_servername() or b"").decode("ascii", "replace") or None,
        }

    # Flow control.

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Register an endpoint's own producer with the transport, in place of the connection."""
        self.transport.unregisterProducer()
        self.transport.registerProducer(producer, streaming)


def bind(protocol: type[P], factory: ServerFactory, **attributes: Any) -> type[P]:
    """
    Return a subclass of an endpoint with the server's options as class attributes.

    Args:
        protocol: the endpoint's class.
        factory: the server's factory.
        attributes: further class attributes that the endpoint needs.

    Returns:
        A subclass that is instantiated without arguments; instances do not copy the options.
    """
    options = {name: getattr(factory, name) for name in WebSocketServerProtocol.CONFIG_ATTRS}
    options |= {"trackTimings": False, "logOctets": False, "logFrames": False, "factory": factory}
    return cast(type[P], type(protocol.__name__, (protocol,), options | attributes))


def adopt_options(connection: ServerProtocol, bound: type[ServerProtocol]) -> None:
    """
    Set a server's options on a connection that was created without `bind`. Call it before `makeConnection`.

    Args:
        connection: an instance of the class that `bound` was made from.
        bound: the class that `bind` returned for that class.
    """
    connection.__class__ = bound
    # The constructor has read this value from the class without options.
    connection._limit = bound.maxMessagePayloadSize  # noqa: SLF001 (of a base class)


def _is_refusal(status: int) -> bool:
    return 400 <= status < 600 and status in HTTPStatus.__members__.values()
