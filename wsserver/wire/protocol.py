"""
WebSocket connections: `ServerProtocol`, the base class of all endpoints, and the factory that connections share.

A connection is one object in five layers. Each layer is a class. It defines the attributes that it owns, and declares,
without a value, the attributes that other layers provide:

- `autobahn.AutobahnConnection`: Autobahn's state machine, for frames that the fast path does not parse.
- `opening.OpeningHandshake`: from the request to the 101 response or the refusal.
- `fastpath.FastPath`: parses and dispatches whole, plain data frames, and sends messages. Compiled if possible.
- `slowpath.SlowPath`: passes all other bytes to the state machine, and controls the flow of received bytes.
- `ServerProtocol`: closing, the access log, and the properties for endpoints.

A test compares these declarations with the code.
"""

from functools import cached_property
from http import HTTPStatus
from typing import Any, ClassVar, Protocol, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer, IReactorTime, ISSLTransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from wsserver.closecodes import SENDABLE, CloseCode
from wsserver.config.parsers import show_duration
from wsserver.config.settings import Settings
from wsserver.wire.access_log import AccessLog
from wsserver.wire.autobahn import OPTIONS, AutobahnFactory, ConnectionDeny, ConnectionRequest
from wsserver.wire.connections import ConnectionSet, SocketSet
from wsserver.wire.counters import Counters
from wsserver.wire.description import describe_tls
from wsserver.wire.drain import Drain, Wait, must_wait
from wsserver.wire.fastpath import CLOSED, CLOSING, CONNECTING, OPEN
from wsserver.wire.frames import FIN_CLOSE, build
from wsserver.wire.limits import WorkQueue
from wsserver.wire.opening import Denied, OpeningHandshake
from wsserver.wire.slowpath import SlowPath
from wsserver.wire.taps import Taps
from wsserver.wire.unfinished import UnfinishedMessages

__all__ = [
    "STOPPING",
    "ConnectionDeny",
    "ConnectionRequest",
    "Denied",
    "ServerFactory",
    "ServerProtocol",
    "adopt_options",
    "bind",
]

# A module-level logger: as a class attribute, Twisted would replace its namespace with the name of the class.
_log = Logger(namespace="wsserver.connection")

P = TypeVar("P", bound="ServerProtocol")

STOPPING = "the server is stopping"
"""The close reason of a server that stops."""


class Service(Protocol):
    """
    The part of a `wsserver.service.WebSocketService` that its endpoints use.

    The attributes of type Any are objects of higher layers, which this module must not import.
    """

    settings: Settings
    hub: Any
    """The channels: a `wsserver.hub.hub.Hub`."""
    management: Any
    """The operations on connections and channels of all processes: a `wsserver.hub.management.Management`."""


class ServerFactory(AutobahnFactory):
    """
    The objects that all WebSocket connections of a server share.

    Args:
        settings: the server's options.
        reactor: runs the connections' timers.
    """

    def __init__(self, settings: Settings, reactor: IReactorTime) -> None:
        super().__init__(settings, reactor)
        self.settings = settings
        self.counters = Counters()
        """What all parts of the server count for the metrics."""
        self.access_log = AccessLog(
            self.counters,
            self.deadlines,
            settings.log_max_rate,
            is_enabled=settings.access_log == "on" and settings.log_level in ("debug", "info"),
            logs_refusals=settings.log_level in ("debug", "info"),
        )
        """Logs connections and requests."""
        self.unfinished = UnfinishedMessages(reactor, settings.message_timeout, settings.max_message_size)
        """The messages of all connections that have not arrived completely."""
        self.taps = Taps(lambda: self.settings, self.counters.limits, self.deadlines)
        """The taps of connections, and the IDs of connections."""
        self.work = WorkQueue(reactor)
        """Serves requests and commands of all connections in turns."""
        self.connections: ConnectionSet[Any] = ConnectionSet()
        """The connections that are open or closing: `ServerProtocol`s, and others with a method `close`."""
        self.sockets = SocketSet()
        """Every connection that is not closed: WebSocket, HTTP, or still without a request."""
        self.stopping = False
        """Set during shutdown; no further handshake is completed."""
        self._drain: Drain | None = None

    def configure(self, settings: Settings) -> None:
        """Replace the server's options. Classes that `bind` has returned before keep theirs."""
        self.settings = settings
        self.set_options(settings)
        self.unfinished.configure(settings.message_timeout, settings.max_message_size)

    def add(self, connection: Any) -> None:
        """Add an open connection. If the server is stopping, drain it."""
        self.connections.add(connection)
        if self._drain is not None:
            self._drain.add(connection)

    def drain(self) -> "Deferred[None]":
        """
        Close every connection gracefully, and refuse handshakes that are still undecided.

        Each connection answers what it has received, then sends a Close frame with the option `drain_code`. The closes
        are spread over time; see `wsserver.wire.drain`.

        Returns:
            A Deferred that fires when the last connection is closed.
        """
        settings = self.settings
        self._refuse_undecided()
        self._drain = Drain(
            self.connections,
            self.reactor,
            code=settings.drain_code,
            reason=STOPPING,
            jitter=settings.drain_jitter,
            patience=settings.close_timeout,
        )
        return self.connections.emptied().addCallback(self._drained)

    def finish_drain(self) -> None:
        """Close the connections that `drain` has not closed yet, without waiting for their answers."""
        if self._drain is not None:
            self._drain.finish()

    def _drained(self, _: None) -> None:
        if self._drain is not None:
            self._drain.stop()
            self._drain = None

    def close_all(self, code: CloseCode, reason: str) -> "Deferred[None]":
        """
        Start the closing handshake on every connection at once, and refuse handshakes that are still undecided.

        A server that stops uses `drain`, which spreads the closes over time.

        Args:
            code: the close code to send.
            reason: the close reason to send.

        Returns:
            A Deferred that fires when the last connection is closed, at the latest after the closing deadline.
        """
        self._refuse_undecided()
        for connection in self.connections:
            connection.close(code, reason)
        return self.connections.emptied()

    def _refuse_undecided(self) -> None:
        """Refuse the pending handshakes, which would otherwise be accepted only to be closed."""
        self.stopping = True
        for socket in self.sockets:
            if isinstance(socket, ServerProtocol) and socket.state == CONNECTING:
                socket.failHandshake(STOPPING, HTTPStatus.SERVICE_UNAVAILABLE)


@implementer(IPushProducer)
class ServerProtocol(SlowPath, OpeningHandshake):
    """
    A WebSocket connection. An endpoint is a small subclass that overrides Autobahn's callbacks.

    `onConnect(request)` may choose the subprotocol, or raise `ConnectionDeny` to refuse the handshake. After the
    handshake, Autobahn calls `onOpen()`, `onMessage(payload, isBinary)` for each message, and
    `onClose(wasClean, code, reason)`. If a callback raises an exception, the exception is logged with its traceback
    and this one connection is closed with 1011.

    The connection is registered as a push producer with its own transport: while the peer does not read what the server
    sends, the server does not read what the peer sends. So the send buffer of an echo cannot grow without bound.
    """

    # What every connection has. Without a slot for each of them, an idle connection would need a dictionary.
    __slots__ = (
        "_accept",
        "_request",
        "_shown_path",
        "_shown_peer",
        "_waiting",
        "autoPingPendingCall",
        "connected",
        "number",
        "round_trip_time",
        "started",
        "websocket_protocol_in_use",
    )

    factory: ServerFactory

    service: ClassVar[Service]
    """The service that serves the endpoint; set only on endpoints passed to the service as `endpoints=`."""
    mounted_at: ClassVar[str] = ""
    """The path prefix that the endpoint was registered for, e.g. `/chat/`; empty if registered for an exact path."""

    _bad_gateway = False
    """Whether the peer's Close frame has the code 1014."""
    _gone = False
    """Whether the connection closed before `is_closed` was first read."""

    @cached_property
    def is_closed(self) -> "Deferred[ServerProtocol]":
        """A Deferred that fires with this connection when it is closed."""
        closed: Deferred[ServerProtocol] = Deferred()
        if self._gone:
            closed.callback(self)
        return closed

    # Sending and closing.

    def _endpoint_failed(self) -> None:
        self._crash(Failure())

    def _crash(self, failure: Failure) -> None:
        _log.failure("endpoint failed number={number}", failure, number=self.number)
        if self.state == CONNECTING:
            self.failHandshake("the server failed", HTTPStatus.INTERNAL_SERVER_ERROR)
        self.fail(CloseCode.INTERNAL_ERROR, "the server failed")

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        """
        Send a frame that Autobahn has built, such as a ping, after the frames that the fast path has collected.

        Args:
            data: the bytes of the frame.
            sync: as in Autobahn: write the frame separately, not joined with others.
            chopsize: as in Autobahn: write at most this many bytes at a time; None for all.
        """
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
            raise ValueError(
                f"close code {int(code)} must not be sent; expected 3000 to 4999, or one that RFC 6455 allows"
            )
        if self.state == OPEN:
            self._send_close(int(code), reason)

    def drain(self, code: int, reason: str, wait: Wait) -> bool:
        """
        Receive nothing more, and close the connection once everything that was received is answered.

        Args:
            code: the close code to send.
            reason: the close reason to send.
            wait: what to wait for.

        Returns:
            False if the connection waits, so that the method must be called again later.
        """
        if self.state == OPEN:
            if must_wait(wait, is_answering=self.is_answering(), is_blocked=self._write_blocked):
                self._stop_receiving()
                return False
            self.close(code, reason)
            self._receive_close()
        return True

    def is_answering(self) -> bool:
        """
        Return whether the connection has received something that it has yet to answer.

        A stopping server closes the connection only then. An endpoint that answers later, for example after a database
        query, overrides this method.
        """
        return bool(self._waiting)

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
        self._plain = False
        if self.state != OPEN:
            super().sendCloseFrame(code, reasonUtf8, isReply)
            return
        payload = b"" if code is None else code.to_bytes(2, "big") + (reasonUtf8 or b"")
        self.sendData(build(FIN_CLOSE, payload))
        self.state, self.closedByMe = CLOSING, not isReply
        self.localCloseCode, self.localCloseReason = code, reasonUtf8
        if self.closedByMe and self.closeHandshakeTimeout > 0:
            deadlines = self.factory.deadlines
            wait = deadlines.call_later(self.closeHandshakeTimeout, self.onCloseHandshakeTimeout)
            self.closeHandshakeTimeoutCall = wait

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
        if self.is_throttled:
            # The pong may be among the messages that the server delays.
            self.autoPingTimeoutCall = self.factory.deadlines.call_later(self.autoPingTimeout, self.onAutoPingTimeout)
            return
        self.factory.counters.limits["ping_timeout"] += 1
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
        transport: Any = self.transport
        transport.unregisterProducer()
        if self.state == CLOSED:
            return
        at_once = getattr(transport, "closes_at_once", False) and not ISSLTransport.providedBy(transport)
        if self._drop_deadline is None and not at_once:
            deadlines = self.factory.deadlines
            self._drop_deadline = deadlines.call_later(self.closeHandshakeTimeout, transport.abortConnection)
        self.droppedByMe = True
        self._set_closed()
        aborts = abort and not self.wasClean and not self.failedByMe
        (transport.abortConnection if aborts else transport.loseConnection)()

    def connectionLost(self, reason: Failure = cast(Failure, None)) -> None:  # noqa: B008
        """Release the connection, cancel its deadlines, and call `onClose`."""
        self._plain = False
        self._end_stall()
        for deadline in (self._drop_deadline, self.closeHandshakeTimeoutCall, self._throttle):
            if deadline is not None:
                deadline.cancel()
        self._throttle = None
        if self.state != CLOSED:
            self._set_closed()
        self._end(reason)
        self.factory.countConnections -= 1
        self.factory.connections.discard(self)
        self.factory.unfinished.discard(self)
        self.factory.sockets.discard(self)

    def _set_closed(self) -> None:
        self.state = CLOSED
        # A Deferred that nobody asked for would be a reference cycle, which only the garbage collector frees.
        if "is_closed" in self.__dict__:
            self.is_closed.callback(self)
        else:
            self._gone = True

    def _closed(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        if self not in self.factory.connections:
            if self._refused is None:
                self._log_refusal()
            return
        self._count_closed()
        self._log_closed()
        try:
            self.onClose(wasClean, code, reason)
        except Exception:
            _log.failure("endpoint failed in onClose number={number}", number=self.number)

    def _log_refusal(self) -> None:
        self.factory.access_log.refused(self._refused, number=self.number, peer=self._shown_peer, path=self._shown_path)

    def _count_opened(self) -> None:
        counters = self.factory.counters
        counters.opened["websocket"] += 1
        counters.handshakes.observe(self.factory.reactor.seconds() - self.started)

    def _count_closed(self) -> None:
        counters = self.factory.counters
        counters.close("websocket", self._end_code(), self._closing_side())
        counters.traffic["websocket"].add(self)

    def _closing_side(self) -> str:
        """Return which side sent the first Close frame: `server` or `peer`; `none` without one."""
        return "server" if self.closedByMe else "peer" if self.remoteCloseCode or self.wasClean else "none"

    def onAutoPong(self, sent: int, number: int, received: int, milliseconds: int, payload: bytes) -> None:  # noqa: ARG002
        """Count how long the client took to answer a ping; called by Autobahn, with times in nanoseconds."""
        self.round_trip_time = (received - sent) / 1e9
        self.factory.counters.pings.observe(self.round_trip_time)

    def _log_opened(self) -> None:
        extensions = self.websocket_extensions_in_use
        self.factory.access_log.opened(
            number=self.number,
            peer=self._shown_peer,
            path=self._shown_path,
            subprotocol=self.websocket_protocol_in_use,
            extensions=",".join(extension.EXTENSION_NAME for extension in extensions) if extensions else None,
        )

    def _log_closed(self) -> None:
        reason = self.localCloseReason.decode() if self.closedByMe and self.localCloseReason else self.remoteCloseReason
        self.factory.access_log.closed(
            number=self.number,
            peer=self._shown_peer,
            path=self._shown_path,
            code=self._end_code(),
            by=self._closing_side(),
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
    def client_address(self) -> str:
        """The client's address as in the log, such as `192.0.2.1:50000`; see `--trusted-proxy`."""
        return self._shown_peer

    @property
    def connection_id(self) -> str:
        """The ID of the connection, which its client gets in the response header `WSServer-Connection-Id`."""
        return self.factory.taps.connection_id(self.number)

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
        """TLS version, cipher, ALPN name and server name (SNI); None on a plain connection."""
        return describe_tls(self.transport)

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
    options = {name: getattr(factory, name) for name in OPTIONS}
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
