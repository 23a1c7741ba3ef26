"""
The Autobahn library: base classes of connections and of their factory, and all uses of Autobahn's private names.

This is the only module of the server that imports Autobahn. Autobahn's HTTP parser is never used, and of its WebSocket
parser only the state machine for frames that `wsserver.wire.frames` does not parse. Autobahn decides how a connection
that violates RFC 6455 fails.

Private names of Autobahn that are used here: `_batched_timer`, `_cancelAutoPingTimeoutCall`, `_dataReceived`,
`_max_message_size_exceeded`, `_maybe_tls_reason`, `_perMessageCompress`, `_sendAutoPing`. A contract test fails
when one of them changes.
"""

from collections import deque
from functools import cached_property
from typing import Any, ClassVar

from autobahn.exception import PayloadCorruptError, PayloadExceededError
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.util import _maybe_tls_reason, encode_truncate
from autobahn.websocket.protocol import TrafficStats, WebSocketProtocol
from autobahn.websocket.types import ConnectionDeny, ConnectionRequest
from autobahn.websocket.utf8validator import Utf8Validator
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from wsserver.closecodes import MAX_REASON_BYTES, CloseCode
from wsserver.config.settings import Settings
from wsserver.wire import deflate
from wsserver.wire.timers import Deadline, Deadlines

__all__ = ["OPTIONS", "AutobahnConnection", "AutobahnFactory", "ConnectionDeny", "ConnectionRequest", "Deflate"]

OPTIONS: tuple[str, ...] = tuple(WebSocketServerProtocol.CONFIG_ATTRS)
"""Names of the options that Autobahn copies from the factory to each connection; see `wsserver.wire.protocol.bind`."""

_DROPPED = "peer dropped the TCP connection without previous WebSocket closing handshake"


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


class Deflate(deflate.Deflate):
    """The permessage-deflate codec, which raises exceptions that Autobahn's state machine catches."""

    too_big, corrupt = _TooBig, _Corrupt
    __slots__ = ()


class AutobahnFactory(WebSocketServerFactory):  # type: ignore[misc]
    """
    A factory that holds the Autobahn library's options, and the deadlines of all connections.

    Args:
        settings: the server's options.
        reactor: runs the connections' timers.
    """

    def __init__(self, settings: Settings, reactor: IReactorTime) -> None:
        super().__init__(server="", reactor=reactor)
        self.set_options(settings)
        self.deadlines = self._batched_timer = Deadlines(reactor)

    def set_options(self, settings: Settings) -> None:
        """Set the Autobahn library's options of future connections; see also `wsserver.wire.protocol.bind`."""
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


class AutobahnConnection(WebSocketServerProtocol):  # type: ignore[misc]
    """
    Autobahn's state machine, with initial state on the class and public names for the private ones that are used.

    Subclasses implement the methods that are only declared here.
    """

    factory: AutobahnFactory

    _closed: Any
    """Called once with `wasClean, code, reason` when the connection has ended."""
    _describe_limit: Any
    """Returns the close reason for a message that is too big."""
    autoPingTimeoutCall: Deadline | None
    """The deadline of a pong that the server expects. Provided by the fast path."""

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
    localCloseCode: int | None = None
    remoteCloseCode: int | None = None
    localCloseReason: Any = None
    remoteCloseReason: Any = None
    openHandshakeTimeoutCall: Deadline | None = None
    closeHandshakeTimeoutCall: Deadline | None = None
    autoPingPendingCall: Deadline | None = None
    autoPingPending = autoPingPendingSent = None
    autoPingPendingSeq = 0
    maxMessagePayloadSize = 0
    _perMessageCompress: Any = None

    @cached_property
    def utf8validator(self) -> Any:
        """The UTF-8 validator of fragmented text messages."""
        return Utf8Validator()

    @cached_property
    def send_queue(self) -> deque[Any]:
        """Autobahn's queue of data to be written in chops; see `chopsize` of `sendData`."""
        return deque()

    # Private names of Autobahn.

    _feed_state_machine = WebSocketServerProtocol._dataReceived  # noqa: SLF001 (of the base class)
    """Parses bytes of frames."""
    _cancel_ping_timeout = WebSocketServerProtocol._cancelAutoPingTimeoutCall  # noqa: SLF001
    """Stops waiting for a pong, and schedules the next ping."""

    def _start_pings(self) -> None:
        if self.autoPingInterval:
            self.autoPingPendingCall = self.factory.deadlines.call_later(self.autoPingInterval, self._sendAutoPing)

    def _use_codec(self, codec: Deflate) -> None:
        self._perMessageCompress = codec
        self.websocket_extensions_in_use = [codec]

    @property
    def _codec(self) -> Any:
        """The permessage-deflate codec; None if compression was not negotiated."""
        return self._perMessageCompress

    def _send_in_parts(self, *arguments: Any) -> None:
        WebSocketProtocol.sendMessage(self, *arguments)

    def _send_close(self, code: int, reason: str) -> None:
        self.sendCloseFrame(code, encode_truncate(reason, MAX_REASON_BYTES))

    def _end(self, reason: Failure) -> None:
        """Cancel the deadlines, and call `_closed`; as Autobahn's `_connectionLost`, in less time."""
        for deadline in (self.autoPingPendingCall, self.autoPingTimeoutCall, self.openHandshakeTimeoutCall):
            if deadline is not None:
                deadline.cancel()
        self.autoPingPendingCall = self.autoPingTimeoutCall = self.openHandshakeTimeoutCall = None
        if self.wasClean:
            self._closed(True, self.remoteCloseCode, self.remoteCloseReason)
            return
        if not self.droppedByMe and self.wasNotCleanReason is None:
            self.wasNotCleanReason = _maybe_tls_reason(getattr(reason, "value", None)) or _DROPPED
        self._closed(False, CloseCode.ABNORMAL_CLOSURE, f'connection was closed uncleanly ("{self.wasNotCleanReason}")')

    def _max_message_size_exceeded(self, msg_size: int, max_msg_size: int, reason: str) -> None:  # noqa: ARG002
        """Close with 1009 and a reason that names the limit; Autobahn's names only the size received so far."""
        super()._max_message_size_exceeded(msg_size, max_msg_size, self._describe_limit())
