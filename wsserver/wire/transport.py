"""
Server transports that write to the socket at once.

Twisted's transports queue every write and send it in a later turn of the loop, after the kernel has reported that the
socket is writable, which it nearly always is. These transports send data at once if nothing is queued. Only the bytes
that the kernel does not accept are queued, by Twisted's own code. Order, backpressure, half close and TLS work as in
Twisted.
"""

import fcntl
import socket
import struct
import termios
from collections.abc import Callable
from errno import EAGAIN, ENOBUFS
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, cast

from twisted.internet import tcp, unix
from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import IHalfCloseableProtocol, IListeningPort
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.python.failure import Failure

from wsserver.wire import frames
from wsserver.wire.accepting import AcceptGate, accept_connections
from wsserver.wire.poller import IN, LOST, OUT, READ_SIZE, Poller, reading

try:
    from wsserver.wire import tls
except ImportError:  # pyOpenSSL is missing or incompatible: use Twisted's own TLS, if any
    tls = None  # type: ignore[assignment]

__all__ = ["PyWriteThrough", "TCPTransport", "UNIXTransport", "adopt"]

# One buffer for all reads: mapping and unmapping memory of this size for each read would double the cost of a read.
_buffer = memoryview(bytearray(READ_SIZE))


class PyWriteThrough:
    """
    Fast path of a transport: reads and direct writes. Subclasses implement the methods that are only declared here.

    `_speedups` contains a compiled implementation with the same behaviour.
    """

    watched: int
    """The events that the poller watches the connection for."""
    _fd: int
    """The file descriptor; -1 if reads and writes must go through the socket object. Only used by compiled code."""
    _direct: bool
    """Whether data may be written to the socket at once."""
    _broken: bool
    """Whether sending has failed, so that nothing more can be sent."""

    _queue: Callable[[bytes], None]
    _write_by_socket: Callable[[bytes], None]
    _read_by_socket: Callable[[], Exception | None]

    def doRead(self) -> Exception | None:
        """
        Read at most `Reading.size` bytes and pass them to the protocol.

        Returns:
            Why the connection has ended; None if it has not.
        """
        return self._read_by_socket()

    def write(self, data: bytes) -> None:
        """
        Send data at once, and queue the bytes that the kernel does not accept.

        Raises:
            TypeError: the data is not bytes.
        """
        if not isinstance(data, bytes):
            raise TypeError("Data must be bytes")
        # While data or the end of the connection is queued, the transport is watched for writing.
        if self.watched & OUT or not self._direct:
            self._queue(data)
        else:
            self._write_by_socket(data)


def _ask_kernel(sock: socket.socket, question: int) -> int:
    """Return the answer of `ioctl` about a socket; 0 if the system has none."""
    try:
        return int(struct.unpack("i", fcntl.ioctl(sock, question, b"\0" * 4))[0])
    except OSError:
        return 0


_FastBase = PyWriteThrough

if not TYPE_CHECKING and frames.COMPILED:
    _FastBase = frames.SPEEDUPS.WriteThrough


class _WriteThrough(_FastBase):
    """Mixin for Twisted's server transports: the slow path of reads and writes."""

    socket: Any
    protocol: Any

    def __init__(self, *arguments: Any) -> None:
        self.watched, self._direct, self._broken = 0, True, False
        sock = arguments[0]
        self._fd = sock.fileno() if type(sock) is socket.socket else -1
        super().__init__(*arguments)

    def _read_by_socket(self: Any) -> Exception | None:
        # Reading was resumed after `abortConnection`. Twisted handles this case by replacing `doRead`.
        if self._aborting:
            return None
        try:
            size = self.socket.recv_into(_buffer, reading.size)
        except BlockingIOError:
            return None
        except OSError:
            return CONNECTION_LOST
        if not size:
            return self._ended(True)  # type: ignore[no-any-return]
        # Copied: the protocol may keep the data, or cause a read from another connection, which overwrites the buffer.
        self.protocol.dataReceived(_buffer[:size].tobytes())
        return None

    def _ended(self, politely: bool) -> Exception:
        return CONNECTION_DONE if politely and not self._broken else CONNECTION_LOST

    @property
    def queued(self: Any) -> int:
        """Number of bytes that are queued because the kernel has not accepted them."""
        return int(len(self.dataBuffer) - self.offset + self._tempDataLen)

    @property
    def unsent(self: Any) -> int:
        """Number of bytes that the peer has not acknowledged: those in `queued`, and those in the kernel's buffer."""
        return int(self.queued) + _ask_kernel(self.socket, termios.TIOCOUTQ) if self.connected else 0

    @property
    def unread(self: Any) -> int:
        """Number of received bytes that have not been read, because reading is paused."""
        return _ask_kernel(self.socket, termios.FIONREAD) if self.connected else 0

    def _queue(self: Any, data: bytes) -> None:
        if not self._broken and not self._aborting:
            super(_FastBase, self).write(data)  # type: ignore[misc]

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
        """
        Queue the bytes that the kernel did not accept, without copying them. Nothing else may be queued.

        Args:
            data: the data written.
            start: number of bytes of `data` that the kernel accepted.
        """
        if self.connected and not self._writeDisconnected:
            self.dataBuffer, self.offset = data, start
            # Before the producer is paused: if it writes when paused, its data must be queued behind these bytes.
            self.startWriting()
            self._maybePauseProducer()

    def writeSomeData(self: Any, data: bytes) -> int | Exception:
        """Send as many bytes as the kernel accepts; Twisted sends at most 128 KiB at a time. Called by Twisted."""
        try:
            return int(self.socket.send(data))
        except OSError as error:
            return 0 if error.errno in (EAGAIN, ENOBUFS) else CONNECTION_LOST

    def _break(self: Any) -> None:
        """Mark the connection as broken; it is closed in the next turn, so that no `write` calls `connectionLost`."""
        self._direct, self._broken = False, True
        self.reactor.callLater(0, self._lose_broken)

    def _lose_broken(self: Any) -> None:
        # Data that the peer sent before it disconnected can still be read.
        try:
            if self.connected and self.watched & IN:
                self.doRead()
        finally:
            if self.connected and not self._aborting:
                self.connectionLost(LOST)

    def _maybePauseProducer(self: Any) -> None:
        # Twisted would pause an already paused producer again at each write to a full transport.
        if not self.producerPaused:
            super()._maybePauseProducer()  # type: ignore[misc]

    def registerProducer(self: Any, producer: Any, streaming: bool) -> None:
        """
        Register a producer.

        Args:
            producer: an `IPushProducer` or `IPullProducer`.
            streaming: whether it is a push producer.
        """
        if self.producer is None:
            self.producerPaused = False
            if not streaming:
                # Twisted calls a pull producer's `resumeProducing` when the queue has been sent. So from now on all
                # data is queued, as in Twisted, and writing is started for the first call even if the queue is empty.
                self._direct = False
                if self.connected and not self._writeDisconnected:
                    self.startWriting()
        super().registerProducer(producer, streaming)  # type: ignore[misc]

    def loseWriteConnection(self: Any) -> None:
        """Close the sending side after the queued data has been sent."""
        self._direct = False
        super().loseWriteConnection()  # type: ignore[misc]

    def abortConnection(self: Any) -> None:
        """Drop the connection and the queued data."""
        self._drop_queue()
        super().abortConnection()  # type: ignore[misc]

    @property
    def aborting(self: Any) -> bool:
        """Whether `abortConnection` has been called, which closes the connection in the next turn of the reactor."""
        return bool(self._aborting)

    def _drop_queue(self: Any) -> None:
        self._direct, self._fd = False, -1
        if self.dataBuffer or self._tempDataLen:
            self._tempDataBuffer.clear()
            self._tempDataLen, self.dataBuffer, self.offset = 0, b"", 0

    @property
    def closes_at_once(self: Any) -> bool:
        """Whether `loseConnection` need not wait for the peer to read: no data is queued."""
        return self._direct and not self.watched & OUT and not self.producerPaused

    def loseConnection(self: Any) -> None:
        """
        Close the connection after the queued data has been sent.

        Twisted would wait for the kernel to report that the socket is writable, even if no data is queued.
        """
        if not self.closes_at_once or not self.connected or self.disconnecting:
            super().loseConnection()  # type: ignore[misc]
            return
        self.disconnecting = True
        self.reactor.close_later(self)

    def readConnectionLost(self: Any, reason: Failure) -> None:
        """Handle the end of the peer's data: notify the protocol if it supports half close, else close."""
        if IHalfCloseableProtocol.providedBy(self.protocol):
            super().readConnectionLost(reason)  # type: ignore[misc]
        else:
            # `shutdown` before `close` lets a peer receive the end before the reset that unread data causes. Here no
            # data is unread.
            self._shouldShutdown = False
            self.connectionLost(reason)

    def connectionLost(self: Any, reason: Failure) -> None:
        """Drop the queued data, close the socket, and notify the protocol; as Twisted does, with fewer steps."""
        if not hasattr(self, "socket"):
            return
        self._drop_queue()
        self.disconnected, self.connected = 1, 0
        producer, self.producer = self.producer, None
        if producer is not None:
            producer.stopProducing()
        if self.watched:
            self.stopReading()
            self.stopWriting()
        protocol = self.protocol
        self._closeSocket(not isinstance(reason.value, ConnectionAborted))
        del self.protocol, self.socket, self.fileno
        protocol.connectionLost(reason)

    def startTLS(self: Any, *arguments: Any, **options: Any) -> None:
        """Start TLS; from now on, TLS encrypts everything that is written."""
        self._direct = False
        super().startTLS(*arguments, **options)  # type: ignore[misc]

    def writeSequence(self: Any, iovec: Any) -> None:
        """Send several pieces of data in one write."""
        parts = list(iovec)
        if not all(isinstance(part, bytes) for part in parts):
            raise TypeError("Data must be bytes")
        self.write(b"".join(parts))


class TCPTransport(_WriteThrough, tcp.Server):  # type: ignore[misc]
    """
    An accepted TCP connection.

    An idle connection takes little memory: what every connection has is in slots, and what few connections need, such
    as Twisted's list of queued data, is made when it is used. Only then does the instance get a dictionary.
    """

    __slots__ = (
        "client",
        "connected",
        "producer",
        "producerPaused",
        "reactor",
        "server",
        "sessionno",
        "socket",
        "streamingProducer",
    )

    _tempDataLen = 0

    def __init__(  # noqa: PLR0917 (as in Twisted)
        self, sock: socket.socket, protocol: Any, client: tuple[Any, ...], server: Any, number: int, reactor: Any
    ) -> None:
        # Instead of Twisted's constructors, which make a list, two names for log lines and a bound method.
        self.watched, self._direct, self._broken = 0, True, False
        self._fd = sock.fileno() if type(sock) is socket.socket else -1
        sock.setblocking(False)
        self.socket, self.protocol, self.reactor = sock, protocol, reactor
        self.client, self.server, self.sessionno = client, server, number
        self.producer, self.producerPaused, self.streamingProducer = None, False, False
        reactor.addReader(self)
        self.connected = 1

    @cached_property
    def _tempDataBuffer(self) -> list[bytes]:  # type: ignore[override]
        return []

    @property
    def _addressType(self) -> type[IPv4Address | IPv6Address]:  # type: ignore[override]
        return IPv4Address if len(self.client) == 2 else IPv6Address

    @property
    def fileno(self) -> Callable[[], int]:
        """The method that returns the file descriptor; once the connection is closed, it returns -1."""
        return self.socket.fileno if hasattr(self, "socket") else partial(FileDescriptor.fileno, self)

    @fileno.deleter
    def fileno(self) -> None:
        """Do nothing: Twisted deletes the attribute together with `socket`."""

    # Names in Twisted's log lines.

    @property
    def hostname(self) -> Any:  # type: ignore[override]
        """The peer's IP address."""
        return self.client[0]

    @cached_property
    def logstr(self) -> str:  # type: ignore[override]
        """The prefix of log lines about the connection."""
        return f"{self._getLogPrefix(self.protocol)},{self.sessionno},{self.hostname}"

    @cached_property
    def repstr(self) -> str:  # type: ignore[override]
        """The result of `repr`."""
        port = getattr(self.server, "_realPortNumber", None)
        return f"<{type(self.protocol).__name__} #{self.sessionno} on {port}>"


class UNIXTransport(_WriteThrough, unix.Server):  # type: ignore[misc]
    """An accepted UNIX socket connection."""


def adopt(port: IListeningPort, poller: Poller, gate: AcceptGate) -> None:
    """
    Make a listening port use these transports for its connections.

    Args:
        port: a port that has not accepted a connection yet. Only changed if it is one of Twisted's TCP or UNIX ports.
        poller: watches the connections.
        gate: pauses accepting.
    """
    kinds: dict[Any, Any] = {tcp.Server: TCPTransport, unix.Server: UNIXTransport}
    if not isinstance(port, tcp.Port) or port.transport not in kinds:
        return
    if tls is not None:
        tls.adopt_factory(port.factory)
    kind, changed = kinds[port.transport], cast(Any, port)
    # Setting `transport` is Twisted's documented way to change the transport class; the last argument is the reactor.
    changed.transport = lambda sock, protocol, client, server, number, _: kind(
        sock, protocol, client, server, number, poller
    )
    changed.doRead = partial(accept_connections, port, gate)
