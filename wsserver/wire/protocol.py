"""
The WebSocket connection: Autobahn's state machine with this server's manners.

The only module that imports Autobahn. It takes a handshake that `wsserver.wire.handshake` has judged, so Autobahn's own
HTTP parser never sees a byte; from 101 on every byte of the peer goes through Autobahn, which judges the protocol.

Private names of Autobahn that are used here: `_batched_timer`, `_wskey`, `_onOpen`, `_onClose`. A contract test fails
when one of them changes.
"""

from http import HTTPStatus
from itertools import count
from typing import Any, ClassVar, TypeVar, cast

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.util import encode_truncate
from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateOfferAccept
from autobahn.websocket.types import ConnectionDeny, ConnectionRequest
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IAddress, IPushProducer, IReactorTime, ISSLTransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from wsserver.closecodes import MAX_REASON_BYTES, SENDABLE, CloseCode
from wsserver.settings import Settings, show_duration
from wsserver.wire.deadlines import Deadline, Deadlines
from wsserver.wire.handshake import Accept
from wsserver.wire.linger import linger
from wsserver.wire.requests import Refusal, Request, quote

__all__ = ["ConnectionDeny", "ConnectionRequest", "ServerFactory", "ServerProtocol", "bind", "show_peer"]

# Of the module, not of a class: on a class Twisted would replace the namespace by the class's name.
_log = Logger(namespace="wsserver.connection")

P = TypeVar("P", bound="ServerProtocol")


def show_peer(address: IAddress) -> str:
    """Write a peer's address for people: `127.0.0.1:5000`, `[::1]:5000`, or `unix`."""
    if isinstance(address, IPv4Address):
        return f"{address.host}:{address.port}"
    if isinstance(address, IPv6Address):
        return f"[{address.host}]:{address.port}"
    return "unix"


class _Silence:
    """What Autobahn logs to: its lines repeat, at several a frame, what the line at a connection's end says."""

    def debug(self, *args: object, **kwargs: object) -> None:
        """Drop it."""

    info = warn = error = critical = debug


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
            perMessageCompressionAccept=_accept_first,
            # Origins are checked before Autobahn is reached; left out, this would silently become False.
            allowNullOrigin=True,
        )
        self.deadlines = self._batched_timer = Deadlines(reactor)
        self.connections: set[ServerProtocol] = set()
        """The connections that are open or closing."""
        self._empty: list[Deferred[None]] = []
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
        done: Deferred[None] = Deferred()
        self._empty.append(done)
        for connection in list(self.connections):
            connection.close(code, reason)
        self._tell_empty()
        return done

    def forget(self, connection: "ServerProtocol") -> None:
        """Take note that a connection is gone."""
        self.connections.discard(connection)
        self._tell_empty()

    def _tell_empty(self) -> None:
        if not self.connections:
            waiting, self._empty = self._empty, []
            for done in waiting:
                done.callback(None)


def _accept_first(offers: list[PerMessageDeflateOffer]) -> PerMessageDeflateOfferAccept | None:
    return PerMessageDeflateOfferAccept(offers[0])


@implementer(IPushProducer)
class ServerProtocol(WebSocketServerProtocol):  # type: ignore[misc]
    """
    A WebSocket connection. Endpoints are small subclasses that override Autobahn's callbacks.

    `onConnect(request)` may choose the subprotocol or raise `ConnectionDeny`; `onOpen()`,
    `onMessage(payload, isBinary)` and `onClose(wasClean, code, reason)` follow. What a callback raises closes this one
    connection with 1011 and is logged with its traceback.

    The connection is a push producer for its own transport: while the peer does not read what we send, we do not read
    what it sends, so an echo cannot grow without bound.
    """

    # Options stand on the class that `bind` makes, once a server; without this Autobahn copies 25 to each connection.
    CONFIG_ATTRS: ClassVar[tuple[str, ...]] = ()
    log: Any = _Silence()
    factory: ServerFactory
    transport: Any

    request: Request
    """The opening handshake."""
    accept: Accept
    """What the handshake agreed on."""
    maxMessagePayloadSize: int

    _numbers = count(1)
    _drop_deadline: Deadline | None = None
    _refused: Refusal | None = None
    _bad_gateway = False

    # The opening handshake.

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
        self.request = request
        self.accept = accept
        self.data = rest
        self.websocket_version = 13
        self.websocket_protocols = list(accept.offered)
        self.websocket_extensions = [_for_autobahn(offer) for offer in accept.extensions]
        self.websocket_origin = next(iter(request.all("origin")), "")
        self._wskey = accept.key
        answer = maybeDeferred(self.onConnect, self._connection_request())
        if not answer.called:
            # Only the answer may change the state now, and no byte needs to be kept: the kernel holds them.
            self.transport.pauseProducing()
            answer.addBoth(self._resume)
        answer.addCallback(self._handshake_answered).addErrback(self._handshake_failed)

    def _connection_request(self) -> ConnectionRequest:
        request = self.request
        return ConnectionRequest(
            self.peer,
            {name: ", ".join(request.all(name)) for name, _ in request.headers},
            request.host,
            request.path,
            request.query,
            self.websocket_version,
            self.websocket_origin,
            self.websocket_protocols,
            self.websocket_extensions,
        )

    def _resume(self, answer: Any) -> Any:
        self.transport.resumeProducing()
        return answer

    def _handshake_answered(self, answer: Any) -> None:
        # The peer may have gone, or the deadline passed, while a Deferred was waited for.
        if self.state != self.STATE_CONNECTING:
            return
        if self.factory.stopping:
            self.failHandshake("the server is stopping", HTTPStatus.SERVICE_UNAVAILABLE)
        else:
            self.succeedHandshake(answer)

    def _handshake_failed(self, failure: Failure) -> None:
        deny: Any = failure.value
        if self.state == self.STATE_CONNECTING and isinstance(deny, ConnectionDeny) and _is_refusal(deny.code):
            self.failHandshake(deny.reason or "the endpoint refused", deny.code)
            return
        self._crash(failure)

    def onConnect(self, request: ConnectionRequest) -> Any:  # noqa: ARG002
        """
        Choose the subprotocol; an endpoint may override it.

        Args:
            request: Autobahn's view of the handshake.

        Returns:
            The subprotocol, None, a pair of it and response headers, or a Deferred of one of these.

        Raises:
            ConnectionDeny: to refuse, with an HTTP status and a reason for its body.
        """
        return self.accept.subprotocol

    def failHandshake(
        self,
        reason: str,
        code: int = 400,
        responseHeaders: Any = None,
    ) -> None:
        """Refuse with an HTTP response whose body says why. Autobahn would put the reason in the status line."""
        self._refused = Refusal(HTTPStatus(code), reason, tuple(responseHeaders or ()))
        self.sendData(self._refused.response())
        self.state = self.STATE_CLOSED
        self._log_refusal()
        self._drop_deadline = linger(self.transport, self.factory.deadlines)

    def onOpenHandshakeTimeout(self) -> None:
        """`onConnect` took too long to answer."""
        self.openHandshakeTimeoutCall = None
        self.failHandshake("the server took too long to decide", 503)

    def processHandshake(self) -> None:
        """
        Leave bytes that come while the answer is waited for where they are: they are frames, and follow the answer.

        Autobahn would read a second request in them and ask `onConnect` again. The transport is paused, so at most what
        it had read before comes here.
        """

    # Callbacks of the endpoint, guarded.

    def _onOpen(self) -> None:
        self.factory.connections.add(self)
        self.transport.registerProducer(self, True)
        _log.info(
            "{number} open {peer} {path} subprotocol={subprotocol} extensions={extensions}",
            number=self.number,
            peer=show_peer(self.transport.getPeer()),
            path=self._shown_path,
            subprotocol=self.websocket_protocol_in_use,
            extensions=",".join(extension["extension"] for extension in self.extensions) or None,
        )
        super()._onOpen()

    def onMessageBegin(self, isBinary: bool) -> None:
        """Begin a message: what Autobahn keeps as a list of parts is one growing buffer here, so empty and tiny parts
        cost what they weigh and no more."""  # noqa: D205, D209
        self.message_is_binary = isBinary
        self.message_data = bytearray()
        self.message_data_total_length = 0

    def onMessageFrameData(self, payload: bytes) -> None:
        """Take the next bytes of a message."""
        if not self.failedByMe:
            self.message_data += payload

    def onFrameData(self, payload: bytes) -> None:
        """
        Take bytes of a frame.

        Once the connection has failed, the frames that still come are only skipped, up to the peer's Close frame.
        Autobahn would keep what a control frame of any length carries, and lose its place after a message that cannot
        be inflated.
        """
        frame: Any = self.current_frame
        if not self.failedByMe or (frame.opcode > 7 and frame.length <= 125):
            super().onFrameData(payload)

    def onFrameEnd(self) -> None:
        """End a frame."""
        frame: Any = self.current_frame
        if not self.failedByMe or frame.opcode > 7:
            super().onFrameEnd()
        if self.failedByMe and frame.opcode <= 7:
            self.current_frame: Any = None
            self.inside_message = not frame.fin

    def onMessageFrameEnd(self) -> None:
        """End a frame: its bytes are in the message already."""
        self.frame_data = None

    def onMessageEnd(self) -> None:
        """Give a whole message to the endpoint."""
        # A message that comes after our Close frame cannot be answered any more (RFC 6455 section 5.5.1).
        if self.state == self.STATE_OPEN and not self.failedByMe:
            payload, self.message_data = bytes(self.message_data), bytearray()
            try:
                self.onMessage(payload, self.message_is_binary)
            except Exception:
                self._crash(Failure())

    def dataReceived(self, data: bytes) -> None:
        """Take bytes from the transport."""
        if self.state == self.STATE_CLOSED:
            return
        try:
            self._dataReceived(data)
        except Exception:
            self._crash(Failure())

    def _crash(self, failure: Failure) -> None:
        _log.failure("{number} failed", failure, number=self.number)
        if self.state == self.STATE_CONNECTING:
            self.failHandshake("the server failed", HTTPStatus.INTERNAL_SERVER_ERROR)
        self.fail(CloseCode.INTERNAL_ERROR, "the server failed")

    # Sending and closing.

    def sendMessage(
        self,
        payload: bytes,
        isBinary: bool = False,
        fragmentSize: int | None = None,
        sync: bool = False,
        doNotCompress: bool = False,
    ) -> None:
        """
        Send a message as Autobahn does, but without its surprises.

        The limit on messages taken is no limit on messages sent. Closing or closed already, this does nothing, as
        `send()` of a browser does.
        """
        if self.state != self.STATE_OPEN:
            return
        limit, self.maxMessagePayloadSize = self.maxMessagePayloadSize, 0
        try:
            super().sendMessage(payload, isBinary, fragmentSize, sync, doNotCompress)
        finally:
            self.maxMessagePayloadSize = limit

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
        if self.state == self.STATE_OPEN:
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
        # The deadline must outlive the state CLOSED, so Autobahn's own, which it checks against the state, will not do.
        if self._drop_deadline is None:
            deadlines = self.factory.deadlines
            self._drop_deadline = deadlines.call_later(self.closeHandshakeTimeout, self.transport.abortConnection)
        super().dropConnection(abort and not self.wasClean and not self.failedByMe)

    def connectionLost(self, reason: Failure = cast(Failure, None)) -> None:  # noqa: B008
        """Take note that the transport is gone."""
        for deadline in (self._drop_deadline, self.closeHandshakeTimeoutCall):
            if deadline is not None:
                deadline.cancel()
        super().connectionLost(reason)
        self.factory.forget(self)

    def _onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        if self not in self.factory.connections:
            if self._refused is None:
                self._log_refusal()
            return
        self._log_end()
        try:
            self.onClose(wasClean, code, reason)
        except Exception:
            _log.failure("{number} failed in onClose", number=self.number)

    def _log_refusal(self) -> None:
        refused = self._refused
        _log.info(
            "{number} refused {peer} {path} {status} {reason}",
            number=self.number,
            peer=show_peer(self.transport.getPeer()),
            path=self._shown_path,
            status=refused.status.value if refused else None,
            reason=refused.reason if refused else "the peer left during the handshake",
        )

    def _log_end(self) -> None:
        by = "server" if self.closedByMe else "peer" if self.remoteCloseCode or self.wasClean else None
        reason = self.localCloseReason.decode() if self.closedByMe and self.localCloseReason else self.remoteCloseReason
        stats = self.trafficStats
        _log.info(
            "{number} close {peer} {path} code={code} by={by} clean={clean} reason={reason!r} "
            "subprotocol={subprotocol} seconds={seconds:.3f} in={messages_in} messages, {bytes_in} bytes "
            "out={messages_out} messages, {bytes_out} bytes",
            number=self.number,
            peer=show_peer(self.transport.getPeer()),
            path=self._shown_path,
            code=self._end_code(),
            by=by or "nobody",
            clean=self.wasClean,
            reason=reason or self.wasNotCleanReason or "",
            subprotocol=self.websocket_protocol_in_use,
            seconds=self.factory.reactor.seconds() - self.started,
            messages_in=stats.incomingWebSocketMessages,
            bytes_in=stats.incomingOctetsAppLevel,
            messages_out=stats.outgoingWebSocketMessages,
            bytes_out=stats.outgoingOctetsAppLevel,
        )

    def _end_code(self) -> int:
        """The code of the Close frame that came first, or what RFC 6455 section 7.1.5 says where there was none."""
        if self.closedByMe:
            return int(self.localCloseCode)
        if self.wasClean:
            return int(self.remoteCloseCode or CloseCode.NO_STATUS_RECEIVED)
        return CloseCode.ABNORMAL_CLOSURE

    @property
    def _shown_path(self) -> str:
        return quote(self.request.raw_path, 256)[1:-1]

    # What the endpoint may ask for.

    @property
    def extensions(self) -> list[dict[str, Any]]:
        """The extensions agreed to: each its name under `extension`, and its parameters."""
        hidden = ("is_server", "mem_level")
        agreed = (extension.__json__() for extension in self.websocket_extensions_in_use)
        return [{key: value for key, value in extension.items() if key not in hidden} for extension in agreed]

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

    # Flow control: IPushProducer.

    def pauseProducing(self) -> None:
        """Stop reading: the peer does not read what is sent to it."""
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Read again."""
        self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """Nothing is to be produced any more: the transport is gone, as `connectionLost` tells too."""

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
    # A function would become a method on the way.
    options["perMessageCompressionAccept"] = staticmethod(options["perMessageCompressionAccept"])
    options |= {"trackTimings": False, "logOctets": False, "logFrames": False, "factory": factory}
    return cast(type[P], type(protocol.__name__, (protocol,), options | attributes))


def _is_refusal(status: int) -> bool:
    return 400 <= status < 600 and status in HTTPStatus.__members__.values()


def _for_autobahn(offer: tuple[str, dict[str, list[str | bool]]]) -> tuple[str, dict[str, list[str | bool]]]:
    # RFC 7692 section 7.1.2.2: the window a client says it will use is a hint; Autobahn refuses the legal hint 8.
    name, parameters = offer
    return name, {key: [True] if key == "client_max_window_bits" else values for key, values in parameters.items()}
