"""
Twisted's server transports, with writes that leave at once.

Twisted queues every write and asks the kernel in a later turn of the loop whether it may be sent, which it nearly
always may. Here a write goes out at once while nothing is queued, and only what the kernel refuses is queued, by
Twisted's own code. Order, backpressure, half close and TLS stay what they are.
"""

from errno import EAGAIN, ENOBUFS
from typing import Any, cast

from twisted.internet import tcp, unix
from twisted.internet.interfaces import IListeningPort
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.python.failure import Failure

from wsserver.wire.poller import IN, OUT, Poller

try:
    from wsserver.wire import tls
except ImportError:  # pyOpenSSL is missing, or is another one than we know: Twisted's own TLS serves, or none
    tls = None  # type: ignore[assignment]

__all__ = ["READ_SIZE", "TCPTransport", "UNIXTransport", "adopt"]

READ_SIZE = 256 * 1024
"""Most bytes taken from a connection in one turn."""


# A new object of that size for each read would cost as much as all the rest: its memory is mapped and unmapped.
_buffer = memoryview(bytearray(READ_SIZE))


class _WriteThrough:
    """Mixed into Twisted's server transports."""

    watched: int
    """The events the poller watches it for."""

    _direct: bool
    """Whether a write may go to the socket."""

    _broken = False
    """The kernel has said that nothing can be sent any more."""

    socket: Any
    protocol: Any

    def __init__(self, *arguments: Any) -> None:
        # Of the instance: every message touches them.
        self.watched, self._direct = 0, True
        super().__init__(*arguments)

    def doRead(self: Any) -> Exception | None:
        """Take what has come, at most `READ_SIZE` bytes."""
        try:
            size = self.socket.recv_into(_buffer)
        except BlockingIOError:
            return None
        except OSError:
            return CONNECTION_LOST
        if not size:
            return CONNECTION_LOST if self._broken else CONNECTION_DONE
        # A copy of its own: whoever gets it may keep it, or read from another connection before it is done.
        self.protocol.dataReceived(_buffer[:size].tobytes())
        return None

    @property
    def queued(self: Any) -> int:
        """Bytes that wait for the kernel to take them."""
        return int(len(self.dataBuffer) - self.offset + self._tempDataLen)

    def write(self: Any, data: bytes) -> None:
        """Send; what the kernel does not take is queued."""
        # Whatever waits to be sent, an end of the connection among it, has the transport watched for writing.
        if not isinstance(data, bytes):
            raise TypeError("Data must be bytes")
        if self.watched & OUT or not self._direct:
            if not self._broken and not self._aborting:
                super().write(data)  # type: ignore[misc]
            return
        try:
            sent = self.socket.send(data)
        except OSError as error:
            if error.errno not in (EAGAIN, ENOBUFS):
                self._break()
                return
            sent = 0
        if sent != len(data):
            super().write(data[sent:])  # type: ignore[misc]

    def _break(self: Any) -> None:
        """Take note that nothing can be sent any more; the end comes in the next turn, not from within who writes."""
        self._direct, self._broken = False, True
        self.reactor.callLater(0, self._lose_broken)

    def _lose_broken(self: Any) -> None:
        # What the peer sent before it went is still there to be read.
        if self.connected and self.watched & IN:
            self.doRead()
        if self.connected and not self._aborting:
            self.connectionLost(Failure(CONNECTION_LOST))

    def _maybePauseProducer(self: Any) -> None:
        # Twisted pauses a producer again at each write to a full transport.
        if not self.producerPaused:
            super()._maybePauseProducer()  # type: ignore[misc]

    def registerProducer(self: Any, producer: Any, streaming: bool) -> None:
        """Take data from a producer, which is not paused so far."""
        if self.producer is None:
            self.producerPaused = False
            if not streaming:
                # A pull producer is asked for more when what it gave has been taken off the queue: from here on
                # everything is queued, as by Twisted, and its first turn comes whether or not something is.
                self._direct = False
                if self.connected and not self._writeDisconnected:
                    self.startWriting()
        super().registerProducer(producer, streaming)  # type: ignore[misc]

    def loseWriteConnection(self: Any) -> None:
        """Half close, after what is queued."""
        self._direct = False
        super().loseWriteConnection()  # type: ignore[misc]

    def abortConnection(self: Any) -> None:
        """Drop the connection, and what is queued with it."""
        self._drop_queue()
        super().abortConnection()  # type: ignore[misc]

    def _drop_queue(self: Any) -> None:
        self._direct = False
        self._tempDataBuffer.clear()
        self._tempDataLen, self.dataBuffer, self.offset = 0, b"", 0

    def connectionLost(self: Any, reason: Failure) -> None:
        """Take note that the connection is gone."""
        self._drop_queue()
        super().connectionLost(reason)  # type: ignore[misc]

    def startTLS(self: Any, *arguments: Any, **options: Any) -> None:
        """Speak TLS from here on: what is written goes through it."""
        self._direct = False
        super().startTLS(*arguments, **options)  # type: ignore[misc]

    def writeSequence(self: Any, iovec: Any) -> None:
        """Send all in one."""
        parts = list(iovec)
        if not all(isinstance(part, bytes) for part in parts):
            raise TypeError("Data must be bytes")
        self.write(b"".join(parts))


class TCPTransport(_WriteThrough, tcp.Server):  # type: ignore[misc]
    """A TCP connection that was accepted."""


class UNIXTransport(_WriteThrough, unix.Server):  # type: ignore[misc]
    """A UNIX socket connection that was accepted."""


def adopt(port: IListeningPort, poller: Poller) -> None:
    """
    Let a listening port make its connections of these transports; others than Twisted's own ports stay as they are.

    Args:
        port: listens, and has not accepted anything yet.
        poller: watches the connections.
    """
    kinds: dict[Any, Any] = {tcp.Server: TCPTransport, unix.Server: UNIXTransport}
    if not isinstance(port, tcp.Port) or port.transport not in kinds:
        return
    if tls is not None:
        tls.adopt_factory(port.factory)
    kind, made_by_port = kinds[port.transport], cast(Any, port)
    # Twisted's documented way to change the sort of transport; the last argument is the reactor.
    made_by_port.transport = lambda sock, protocol, client, server, number, _: kind(
        sock, protocol, client, server, number, poller
    )
