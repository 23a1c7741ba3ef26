"""
The WebSocket connection: Autobahn's state machine with this server's manners.

The only module that imports Autobahn. It takes a handshake that `wsserver.wire.handshake` has judged, so Autobahn's own
HTTP parser never sees a byte. From 101 on, whole plain data frames are taken by `wsserver.wire.frames`; every other
frame, and every one that breaks a rule, goes to Autobahn, which stays the judge of the protocol.

Private names of Autobahn that are used here and in `receiving.py`: `_batched_timer`, `_cancelAutoPingTimeoutCall`,
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
from wsserver.wire.deadlines import Deadline, Deadlines
from wsserver.wire.fastpath import CLOSED, CONNECTING, OPEN
from wsserver.wire.handshake import Accept, response
from wsserver.wire.http11 import Refusal, Request, parse, unavailable
from wsserver.wire.limits import WorkQueue
from wsserver.wire.linger import linger
from wsserver.wire.slowpath import SlowPath

if TYPE_CHECKING:
    from wsserver.service import WebSocketService

__all__ = ["ConnectionDeny", "ConnectionRequest", "Denied", "ServerFactory", "ServerProtocol", "adopt_options", "bind"]

# Of the module, not of a class: on a class Twisted would replace the namespace by the class's name.
_log = Logger(namespace="wsserver.connection")

P = TypeVar("P", bound="ServerProtocol")


class Denied(ConnectionDeny):  # type: ignore[misc]
    """
    What `onConnect` raises to refuse with headers of its own.

    Args:
        refusal: all of the response.
    """

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(int(refusal.status), refusal.reason)
        self.headers = refusal.headers


class _Silence:
    """What Autobahn logs to: its lines repeat, at several a frame, what the line at a connection's end says."""

    def debug(self, *args: object, **kwargs: object) -> None:
        """Drop it."""

    info = warn = error = critical = debug


class _TooBig(deflate.InflateTooBig, PayloadExceededError):  # type: ignore[misc]
    """As Autobahn's state machine knows it."""


class _Corrupt(deflate.InflateCorrupt, PayloadCorruptError):  # type: ignore[misc]
    """As Autobahn's state machine knows it."""


class _Deflate(deflate.Deflate):
    too_big, corrupt = _TooBig, _Corrupt
    __slots__ = ()


class ServerFactory(WebSocketServerFactory):  # type: ignore[misc]
    """
    What the connections of a server share.

    Args:
        settings: the server's options.
        reactor: the connections' timers run on it.
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
            # Origins are checked before Autobahn is reached; left out, this would silently become False.
            allowNullOrigin=True,
        )
        self.settings = settings
        self.deadlines = self._batched_timer = Deadlines(reactor)
        self.work = WorkQueue(reactor)
        """Serves requests and commands of all connections in turns."""
        self.connections: ConnectionSet[ServerProtocol] = ConnectionSet()
        """The connections that are open or closing."""
        self.sockets: ConnectionSet[Any] = ConnectionSet()
        """Every connection that is not closed, whoever speaks on it."""
        self.stopping = False
        """No handshake is completed any more."""

    def close_all(self, code: CloseCode, reason: str) -> "Deferred[None]":
        """
        Close every connection, and refuse the handshakes that are still decided about.

        Args:
            code: for the Close frames.
            reason: for the Close frames.

        Returns:
            Fires when the last one is gone, at the latest after the closing deadline.
        """
        self.stopping = True
        for connection in self.connections:
            connection.close(code, reason)
        return self.connections.emptied()


@implementer(IPushProducer)
class ServerProtocol(SlowPath, WebSocketServerProtocol):  # type: ignore[misc]
    """
    A WebSocket connection. Endpoints are small subclasses that override Autobahn's callbacks.

    `onConnect(request)` may choose the subprotocol or raise `ConnectionDeny`; `onOpen()`,
    `onMessage(payload, isBinary)` and `onClose(wasClean, code, reason)` follow. What a callback raises closes this one
    connection with 1011 and is logged with its traceback.

    The connection is a push producer for its own transport: while the peer does not read what we send, we do not read
    what it sends, so an echo cannot grow without bound.
    """

    # What Autobahn sets on each connection stands here once, at the value it starts with; the options stand on the
    # class that `bind` makes. A connection keeps only what has changed.
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
    """The service that serves the endpoint; set on those given to it as `endpoints=`, and on no others."""
    mounted_at: ClassVar[str] = ""
    """The prefix that the endpoint was registered with, as `/chat/`; empty for one of an exact path."""

    _request: Request | bytes
    """The handshake; once it is done only its head, which is parsed again for whoever asks."""
    _shown_peer: str
    _numbers = count(1)
    _accept: Accept | None = None
    _refused: Refusal | None = None
    _bad_gateway = False
    _opening: "Deferred[None] | None" = None
    _drop_deadline: Deadline | None = None
    _gone = False
    """It was closed, and nobody had asked for `is_closed`."""

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
        """What checks text that comes in fragments."""
        return Utf8Validator()

    @cached_property
    def send_queue(self) -> deque[Any]:
        """What waits to be sent in chops."""
        return deque()

    # The opening handshake.

    def connectionMade(self) -> None:
        """Take the transport; all the rest waits for the handshake, which the door has read already."""
        self.factory.countConnections += 1

    def begin(self, request: Request, accept: Accept, rest: bytes) -> None:
        """
        Complete the opening handshake; called once, after `makeConnection`.

        Args:
            request: the request.
            accept: what was decided about it.
            rest: bytes that came after the request's head.
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
        # Only the answer may change the state now, and no byte needs to be kept: the kernel holds them.
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
        Choose the subprotocol; an endpoint may override it.

        Args:
            request: Autobahn's view of the handshake.

        Returns:
            The subprotocol, None, a pair of it and response headers, or an awaitable of one of these.

        Raises:
            ConnectionDeny: to refuse, with an HTTP status and a reason for its body.
        """
        assert self._accept is not None
        return self._accept.subprotocol

    def _answered(self, answer: Any) -> None:
        # The peer may have gone, or the deadline passed, while the answer was waited for.
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
            # Else the peer has gone meanwhile, and nobody is refused.
            headers = deny.headers if isinstance(deny, Denied) else ()
            self.failHandshake(deny.reason or "the endpoint refused", deny.code, headers)

    def succeedHandshake(self, res: Any) -> None:
        """
        Answer with 101, and serve what came with the handshake.

        Args:
            res: what `onConnect` returned.

        Raises:
            ValueError: the subprotocol is none that the client offered, or a header has a line end in it.
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
        # From here on the handshake is only looked up, by a command or an endpoint that asks for it.
        self._request, self._accept = self.request.encode(), None
        self._plain = True
        self.onOpen()
        if self._opening is not None:
            self._opening.callback(None)
        if self._waiting:
            self._go_on()

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
        """Do nothing: the door has read the handshake, and what follows it are frames."""

    def failHandshake(self, reason: str, code: int = 400, responseHeaders: Any = None) -> None:
        """Refuse with an HTTP response whose body says why. Autobahn would put the reason in the status line."""
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
        """`onConnect` took too long to answer."""
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
        """Write frames that Autobahn has built, in their order among ours."""
        if sync or chopsize:
            self._uncork()
            super().sendData(data, sync, chopsize)
        elif self._cork is not None:
            self._cork.append(data)
        else:
            self.transport.write(data)

    def close(self, code: int = CloseCode.NORMAL_CLOSURE, reason: str = "") -> None:
        """
        Start the closing handshake; closing or closed already, this does nothing.

        Args:
            code: any code that may stand in a Close frame; Autobahn's `sendClose` takes 1000 and 3000-4999 only.
            reason: for people; cut to 123 bytes of UTF-8.

        Raises:
            ValueError: RFC 6455 section 7.4 does not let this code stand in a Close frame.
        """
        if code not in SENDABLE and not 3000 <= code <= 4999:
            raise ValueError(f"{int(code)} may not stand in a Close frame")
        if self.state == OPEN:
            self.sendCloseFrame(int(code), encode_truncate(reason, MAX_REASON_BYTES))

    def onCloseFrame(self, code: int | None, reasonRaw: bytes | None) -> bool | None:
        """Take the peer's Close frame."""
        # IANA registered 1014 after Autobahn's list of codes was made: it passes as 1013.
        self._bad_gateway = code == CloseCode.BAD_GATEWAY
        taken: bool | None = super().onCloseFrame(CloseCode.TRY_AGAIN_LATER if self._bad_gateway else code, reasonRaw)
        return taken

    def sendCloseFrame(self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False) -> None:
        """Send a Close frame, unless one was sent."""
        if isReply and self._bad_gateway:
            self.remoteCloseCode = code = int(CloseCode.BAD_GATEWAY)
        super().sendCloseFrame(code, reasonUtf8, isReply)
        self._plain = False

    def fail(self, code: int, reason: str) -> None:
        """
        Close, and take no further message (RFC 6455 section 7.1.7, "Fail the WebSocket Connection").

        Args:
            code: for the Close frame.
            reason: for the Close frame.
        """
        self.failedByMe = True
        self.close(code, reason)

    def onAutoPingTimeout(self) -> None:
        """No pong came in time. The peer is most likely gone, so its answer to the Close frame is not waited for."""
        self.autoPingTimeoutCall = None
        self.wasNotCleanReason = f"no pong within {show_duration(self.autoPingTimeout)}"
        self.fail(CloseCode.INTERNAL_ERROR, self.wasNotCleanReason)
        self.dropConnection()

    def dropConnection(self, abort: bool = False) -> None:
        """
        Drop the connection, politely if the closing handshake is done.

        Autobahn aborts, which resets the connection, even after a clean closing handshake; and nothing ends its wait
        for a peer that has stopped reading.
        """
        self._uncork()
        self._plain = False
        # The deadline must outlive the state CLOSED, so Autobahn's own, which it checks against the state, will not do.
        if self._drop_deadline is None:
            deadlines = self.factory.deadlines
            self._drop_deadline = deadlines.call_later(self.closeHandshakeTimeout, self.transport.abortConnection)
        asked = "is_closed" in self.__dict__
        super().dropConnection(abort and not self.wasClean and not self.failedByMe)
        if not asked and self.__dict__.pop("is_closed", None):
            self._gone = True

    def connectionLost(self, reason: Failure = cast(Failure, None)) -> None:  # noqa: B008
        """Take note that the transport is gone."""
        self._plain = False
        for deadline in (self._drop_deadline, self.closeHandshakeTimeoutCall):
            if deadline is not None:
                deadline.cancel()
        # Fired, the Deferred would hold the connection in a cycle, for the garbage collector to find.
        if self.state != CLOSED and "is_closed" not in self.__dict__:
            self.state, self._gone = CLOSED, True
        # Past Autobahn's adapter and server class, which only colour what is not logged, and count.
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
        """The code of the Close frame that came first, or what RFC 6455 section 7.1.5 says where there was none."""
        if self.closedByMe:
            return int(cast(int, self.localCloseCode))
        if self.wasClean:
            return int(self.remoteCloseCode or CloseCode.NO_STATUS_RECEIVED)
        return CloseCode.ABNORMAL_CLOSURE

    # What the endpoint may ask for.

    @property
    def request(self) -> Request:
        """The opening handshake."""
        request = self._request if isinstance(self._request, Request) else parse(self._request)
        assert isinstance(request, Request)
        return request

    @property
    def subpath(self) -> str:
        """
        The part of the path below the prefix: `lobby` for `/chat/lobby` where the endpoint was registered as `/chat/`.

        Percent-decoded, without a slash at its end. Empty for the prefix itself, and for endpoints of exact paths.
        """
        path = self.request.path or ""
        return path[len(self.mounted_at) :].rstrip("/") if self.mounted_at else ""

    @property
    def ended(self) -> tuple[int, str]:
        """The code and the reason of its end, once it has ended."""
        reason = self.localCloseReason.decode() if self.closedByMe and self.localCloseReason else self.remoteCloseReason
        return self._end_code(), reason or ""

    @property
    def extensions(self) -> list[dict[str, Any]]:
        """The extensions agreed to: each its name under `extension`, and its parameters."""
        return [extension.describe() for extension in self.websocket_extensions_in_use]

    @property
    def tls(self) -> dict[str, str | None] | None:
        """Version and cipher of TLS, None on a plain connection."""
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
        """Let an endpoint's own producer take the place of the connection."""
        self.transport.unregisterProducer()
        self.transport.registerProducer(producer, streaming)


def bind(protocol: type[P], factory: ServerFactory, **attributes: Any) -> type[P]:
    """
    Make the class of a server's connections: the endpoint with this server's options on it.

    Args:
        protocol: the endpoint.
        factory: the server's.
        attributes: what else the endpoint needs, by name.

    Returns:
        A subclass whose instances are made without arguments and copy nothing.
    """
    options = {name: getattr(factory, name) for name in WebSocketServerProtocol.CONFIG_ATTRS}
    options |= {"trackTimings": False, "logOctets": False, "logFrames": False, "factory": factory}
    return cast(type[P], type(protocol.__name__, (protocol,), options | attributes))


def adopt_options(connection: ServerProtocol, bound: type[ServerProtocol]) -> None:
    """
    Give a connection that was made without `bind` the options of a server, before it has a transport.

    Args:
        connection: an instance of the class that `bound` was made from.
        bound: what `bind` returned for that class.
    """
    connection.__class__ = bound
    # Read from the class in the constructor.
    connection._limit = bound.maxMessagePayloadSize  # noqa: SLF001 (of a base class)


def _is_refusal(status: int) -> bool:
    return 400 <= status < 600 and status in HTTPStatus.__members__.values()
