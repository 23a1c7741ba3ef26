"""
Twisted's server transports, with writes that leave at once.

Twisted queues every write and asks the kernel in a later turn of the loop whether it may be sent, which it nearly
always may. Here a write goes out at once while nothing is queued, and only what the kernel refuses is queued, by
Twisted's own code. Order, backpressure, half close and TLS stay what they are.
"""

import socket
from collections.abc import Callable
from errno import EAGAIN, ENOBUFS
from typing import TYPE_CHECKING, Any, cast

from twisted.internet import tcp, unix
from twisted.internet.interfaces import IListeningPort
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.python.failure import Failure

from wsserver.wire import frames
from wsserver.wire.poller import IN, OUT, Poller

try:
    from wsserver.wire import tls
except ImportError:  # pyOpenSSL is missing, or is another one than we know: Twisted's own TLS serves, or none
    tls = None  # type: ignore[assignment]

__all__ = ["READ_SIZE", "PyWriteThrough", "TCPTransport", "UNIXTransport", "adopt"]

READ_SIZE = 256 * 1024
"""Most bytes taken from a connection in one turn."""

# A new object of that size for each read would cost as much as all the rest: its memory is mapped and unmapped.
_buffer = memoryview(bytearray(READ_SIZE))


class PyWriteThrough:
    """The hot half of a transport; the other half, a subclass, has the methods that are only declared here."""

    watched: int
    """The events the poller watches it for."""
    _fd: int
    """The descriptor; -1 where the socket must be asked itself. Only the compiled twin looks at it."""
    _direct: bool
    """Whether a write may go to the socket."""
    _broken: bool
    """The kernel has said that nothing can be sent any more."""

    _queue: Callable[[bytes], None]
    _write_by_socket: Callable[[bytes], None]
    _read_by_socket: Callable[[], Exception | None]

    def doRead(self) -> Exception | None:
        """
        Take what has come, at most `READ_SIZE` bytes.

        Returns:
            Why the connection is over; None if it is not.
        """
        return self._read_by_socket()

    def write(self, data: bytes) -> None:
        """
        Send; what the kernel does not take is queued.

        Raises:
            TypeError: the data is not bytes.
        """
        if not isinstance(data, bytes):
            raise TypeError("Data must be bytes")
        # Whatever waits to be sent, an end of the connection among it, has the transport watched for writing.
        if self.watched & OUT or not self._direct:
            self._queue(data)
        else:
            self._write_by_socket(data)


_Hot = PyWriteThrough

if not TYPE_CHECKING and frames.COMPILED:
    _Hot = frames.SPEEDUPS.WriteThrough


class _WriteThrough(_Hot):
    """Mixed into Twisted's server transports."""

    socket: Any
    protocol: Any

    def __init__(self, *arguments: Any) -> None:
        self.watched, self._direct, self._broken = 0, True, False
        sock = arguments[0]
        self._fd = sock.fileno() if type(sock) is socket.socket else -1
        super().__init__(*arguments)

    def _read_by_socket(self: Any) -> Exception | None:
        # Resumed after an abort that is still to come; Twisted puts another `doRead` in the place of ours.
        if self._aborting:
            return None
        try:
            size = self.socket.recv_into(_buffer)
        except BlockingIOError:
            return None
        except OSError:
            return CONNECTION_LOST
        if not size:
            return self._ended(True)  # type: ignore[no-any-return]
        # A copy of its own: whoever gets it may keep it, or read from another connection before it is done.
        self.protocol.dataReceived(_buffer[:size].tobytes())
        return None

    def _ended(self, politely: bool) -> Exception:
        return CONNECTION_DONE if politely and not self._broken else CONNECTION_LOST

    @property
    def queued(self: Any) -> int:
        """Bytes that wait for the kernel to take them."""
        return int(len(self.dataBuffer) - self.offset + self._tempDataLen)

    def _queue(self: Any, data: bytes) -> None:
        if not self._broken and not self._aborting:
            super(_Hot, self).write(data)  # type: ignore[misc]

    def _write_by_socket(self: Any, data: bytes) -> None:
        try:
            sent = self.socket.send(data)
        except OSError as error:
            if error.errno not in (EAGAIN, ENOBUFS):
                self._break()
                return
            sent = 0
        if sent != len(data):
            self._queue_rest(data, sent)

    def _queue_rest(self: Any, data: bytes, start: int) -> None:
        """Queue what the kernel has left of some data, without a copy of it; nothing else is queued."""
        if self.connected and not self._writeDisconnected:
            self.dataBuffer, self.offset = data, start
            # First: a producer that writes when it is paused must not overtake the rest.
            self.startWriting()
            self._maybePauseProducer()

    def writeSomeData(self: Any, data: bytes) -> int | Exception:
        """Let the kernel take what it can; Twisted gives it no more than 128 KiB at a time."""
        try:
            return int(self.socket.send(data))
        except OSError as error:
            return 0 if error.errno in (EAGAIN, ENOBUFS) else CONNECTION_LOST

    def _break(self: Any) -> None:
        """Take note that nothing can be sent any more; the end comes in the next turn, not from within who writes."""
        self._direct, self._broken = False, True
        self.reactor.callLater(0, self._lose_broken)

    def _lose_broken(self: Any) -> None:
        # What the peer sent before it went is still there to be read.
        try:
            if self.connected and self.watched & IN:
                self.doRead()
        finally:
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
        self._direct, self._fd = False, -1
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
