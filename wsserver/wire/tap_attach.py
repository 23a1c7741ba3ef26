"""
Attach a tap to a connection: put an object on each side of it, which records the bytes that pass.

One takes the place of the connection as the protocol of its transport, the other takes the place of the transport. The
compiled transports pass bytes to any protocol that is not a fast path itself, and the compiled fast path writes to any
transport that is not compiled. So neither asks whether there is a tap.
"""

from collections.abc import Iterable
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import directlyProvides, providedBy

from wsserver.wire.fastpath import OPEN
from wsserver.wire.http11 import Request
from wsserver.wire.protocol import ServerProtocol
from wsserver.wire.tap_events import Tap
from wsserver.wire.taps import Taps

__all__ = ["attach", "join"]


class _Receiver:
    """The protocol of a tapped connection's transport: records what the client sends, and passes it on."""

    def __init__(self, connection: ServerProtocol, tap: Tap) -> None:
        self._connection, self._tap = connection, tap
        directlyProvides(self, providedBy(connection))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def dataReceived(self, data: bytes) -> None:
        """Record bytes, and pass them on."""
        _record(self._connection, self._tap, data, is_received=True)
        self._connection.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Pass the end of the connection on, and record it."""
        try:
            self._connection.connectionLost(reason)
        finally:
            self._tap.end("" if reason.check(ConnectionDone) else str(reason.value))
            # Without the reference to each other, the two need not wait for the garbage collector.
            transport: Any = self._connection.transport
            if isinstance(transport, _Sender):
                self._connection.transport = transport.recorded


class _Sender:
    """The transport of a tapped connection: records what the server sends, and writes it."""

    def __init__(self, connection: ServerProtocol, transport: Any, tap: Tap) -> None:
        self._connection, self.recorded, self._tap = connection, transport, tap
        directlyProvides(self, providedBy(transport))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.recorded, name)

    @property
    def transport(self) -> "_Sender":
        """The transport below TLS; its end is recorded, too. A fault ends it without an alert of TLS."""
        return _Sender(self._connection, self.recorded.transport, self._tap)

    def write(self, data: bytes) -> None:
        """Record bytes, and write them."""
        _record(self._connection, self._tap, data, is_received=False)
        self.recorded.write(data)

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Record bytes, and write them."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """Record that the server closes the TCP connection."""
        self._tap.dropping("close")
        self.recorded.loseConnection()

    def abortConnection(self) -> None:
        """Record that the server resets the TCP connection."""
        self._tap.dropping("abort")
        self.recorded.abortConnection()


def _record(connection: ServerProtocol, tap: Tap, data: bytes, *, is_received: bool) -> None:
    if tap.has_ended:
        return
    try:
        if tap.number is None:
            tap.number = connection.number
        if is_received:
            tap.received(data)
        else:
            tap.sent(data)
    except Exception:
        connection.factory.taps.failed(tap)
        tap.leave()


def attach(connection: ServerProtocol, transport: Any, request: Request, rest: bytes) -> tuple[Any, Any]:
    """
    Attach a tap to a connection whose client asks for one, before the handshake is answered.

    Args:
        connection: the endpoint, which has no transport yet.
        transport: the transport.
        request: the opening handshake.
        rest: the bytes that arrived after it.

    Returns:
        The protocol for the transport, and the transport for the endpoint: the endpoint and the transport themselves if
        the request has no valid secret, or connections cannot be tapped.
    """
    taps: Taps = connection.factory.taps
    secret = ((request.query or {}).get("tap") or [""])[-1]
    has_secret = taps.is_secret(secret)
    tap = taps.open(secret if has_secret else "") if taps.enabled and (has_secret or taps.watch) else None
    if tap is None:
        return connection, transport
    if taps.watch is not None:
        taps.watch(tap, connection, request)
    tap.begin(connection.factory.reactor.seconds, connection.maxMessagePayloadSize)
    tap.request(request)
    if rest:
        tap.received(rest)
    return _Receiver(connection, tap), _Sender(connection, transport, tap)


def join(connection: ServerProtocol, *, is_limited: bool = True) -> Tap | str:
    """
    Attach a tap to an open connection; it is detached when its last reader leaves.

    Args:
        connection: the connection.
        is_limited: whether `--max-taps` applies.

    Returns:
        The tap, or why there is none.
    """
    taps: Taps = connection.factory.taps
    transport: Any = connection.transport
    name = next((one for one in ("wrappedProtocol", "protocol") if getattr(transport, one, None) is connection), None)
    if name is None or connection.state != OPEN:
        return "the connection is closing, or its transport belongs to an application"
    if connection.hides_frames:
        return "the connection is within a frame that began before; retry, or connect with ?tap=SECRET"
    tap = taps.open(is_limited=is_limited)
    if tap is None:
        return "too many taps (server option --max-taps)"
    tap.number = connection.number
    tap.begin(connection.factory.reactor.seconds, connection.maxMessagePayloadSize)
    missing, begun = connection.unread_frame
    tap.join(missing, connection.compression_takeover)
    tap.received(begun)
    setattr(transport, name, _Receiver(connection, tap))
    connection.transport = _Sender(connection, transport, tap)

    def detach() -> None:
        if getattr(transport, name, None) is not None:
            setattr(transport, name, connection)
            connection.transport = transport
        tap.leave()
        # Its events would keep the next reader from those that follow.
        taps.forget(tap)

    tap.detach = detach
    return tap
