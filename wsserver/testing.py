"""
Test endpoints without sockets and without waiting: a server, its clients and its clock, all in memory.

    server = MemoryServer(Settings(), endpoints={"/shout": ShoutProtocol})
    client = server.connect()
    client.open("/shout")
    client.send_text("hello")
    assert client.messages() == ["HELLO"]

This does not cover partial writes by the kernel, TLS, or the behaviour of real clients. The server's own tests use
real sockets for those.
"""

import base64
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IAddress, IHalfCloseableDescriptor, IPushProducer, ITransport
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from wsserver.config.settings import Settings
from wsserver.endpoints.application import Endpoint
from wsserver.endpoints.commands import Command
from wsserver.service import WebSocketService

__all__ = ["Frame", "MemoryClient", "MemoryServer", "MemoryTransport", "build_frame", "parse_frames"]

KEY = base64.b64encode(b"sixteen byte key").decode("ascii")
HIGH_WATER = 64 * 1024
"""Number of unread bytes above which the producer is paused."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame (RFC 6455 section 5.2)."""

    opcode: int
    payload: bytes
    fin: bool = True
    rsv: int = 0


def build_frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bytes = b"mask") -> bytes:
    """
    Build a frame as a client sends it (RFC 6455 section 5.2); the frame need not be valid.

    Args:
        opcode: the opcode, 0-15.
        payload: the payload before masking.
        fin: the FIN bit.
        rsv: the three reserved bits as a number, 0-7; 4 is RSV1.
        mask: the masking key, four bytes; empty for an unmasked frame.
    """
    size, bit = len(payload), 0x80 if mask else 0
    if size < 126:
        length = bytes([bit | size])
    elif size < 65536:
        length = bytes([bit | 126]) + struct.pack("!H", size)
    else:
        length = bytes([bit | 127]) + struct.pack("!Q", size)
    if mask:
        pad = (mask * (size // 4 + 1))[:size]
        payload = (int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")).to_bytes(size, "big")
    return bytes([(0x80 if fin else 0) | rsv << 4 | opcode]) + length + mask + payload


def parse_frames(data: bytes) -> tuple[list[Frame], bytes]:
    """
    Parse the frames that a server has sent.

    Args:
        data: the bytes that the server has sent after the opening handshake.

    Returns:
        The complete frames, and the remaining bytes.

    Raises:
        ValueError: a frame is masked; a server must not mask its frames (RFC 6455 section 5.1).
    """
    frames = []
    while len(data) >= 2:
        if data[1] & 0x80:
            raise ValueError("a server's frame is masked")
        start, size = 2, data[1] & 0x7F
        if size >= 126:
            start = 4 if size == 126 else 10
            if len(data) < start:
                break
            size = int.from_bytes(data[2:start], "big")
        if len(data) < start + size:
            break
        frames.append(Frame(data[0] & 0xF, data[start : start + size], bool(data[0] & 0x80), data[0] >> 4 & 7))
        data = data[start + size :]
    return frames, data


@implementer(ITransport, IPushProducer, IHalfCloseableDescriptor)
class MemoryTransport:
    """
    The server's end of a connection: a transport that keeps the bytes written to it.

    Stricter than a socket: writing after `loseWriteConnection` raises AssertionError.
    """

    def __init__(self, peer: IAddress) -> None:
        self._peer = peer
        self.written = bytearray()
        """Bytes that the client can read."""
        self.unread = bytearray()
        """Bytes that the client does not read yet, see `reading`."""
        self.reading = True
        """Whether the client reads; set it to False to simulate a slow client, and see `read_again`."""
        self.paused = False
        """Whether the protocol has asked the transport to stop reading."""
        self.disconnecting = self.aborted = self.lost = self.write_closed = False
        self.protocol: Any = None
        self._producer: Any = None

    # Called by the protocol.

    def write(self, data: bytes) -> None:
        """Append bytes to `written`, or to `unread` while the client does not read."""
        if self.write_closed:
            raise AssertionError("written after the connection was closed")
        if self.lost or self.disconnecting:
            return
        (self.written if self.reading else self.unread).extend(data)
        if len(self.unread) > HIGH_WATER and self._producer is not None:
            self._producer.pauseProducing()

    def writeSequence(self, data: Iterable[bytes]) -> None:  # noqa: D102
        self.write(b"".join(data))

    def loseConnection(self, _connDone: Any = None) -> None:  # noqa: D102
        self.disconnecting = True
        self._finish()

    def loseWriteConnection(self) -> None:  # noqa: D102
        self.write_closed = True

    def writeConnectionLost(self, reason: Failure) -> None:  # noqa: ARG002, D102
        raise AssertionError("only a reactor calls this")

    readConnectionLost = writeConnectionLost

    def abortConnection(self) -> None:  # noqa: D102
        self.aborted = True
        self.lose(ConnectionAborted())

    def pauseProducing(self) -> None:  # noqa: D102
        self.paused = True

    def resumeProducing(self) -> None:  # noqa: D102
        self.paused = False

    def stopProducing(self) -> None:  # noqa: D102
        self.loseConnection()

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:  # noqa: D102
        if self._producer is not None or not streaming:
            raise RuntimeError("a producer is already registered, or this one is not a push producer")
        self._producer = producer

    def unregisterProducer(self) -> None:  # noqa: D102
        self._producer = None
        self._finish()

    def getPeer(self) -> IAddress:  # noqa: D102
        return self._peer

    def getHost(self) -> IAddress:  # noqa: D102
        return IPv4Address("TCP", "127.0.0.1", 8080)

    # Called by a test.

    def read_again(self) -> None:
        """Let the client read again: move `unread` to `written`, and resume the producer."""
        self.reading = True
        self.written += self.unread
        self.unread.clear()
        if self._producer is not None:
            self._producer.resumeProducing()
        self._finish()

    def lose(self, error: Exception | None = None) -> None:
        """Notify the protocol that the connection is lost: because of an error, or closed cleanly if there is none."""
        if not self.lost:
            self.lost = True
            self._producer = None
            self.protocol.connectionLost(Failure(error or ConnectionDone()))

    def _finish(self) -> None:
        # As in Twisted: the buffer is sent before the connection closes, and a producer may still append to it.
        if self.disconnecting and not self.unread and self._producer is None:
            self.lose()


class MemoryServer:
    """
    A server without listeners, whose time passes only when a test calls `clock.advance(seconds)`.

    Args:
        settings: the server's options.
        endpoints: path or prefix -> endpoint, as for `WebSocketService`.
        commands: commands to add to the built-in ones.
    """

    def __init__(
        self,
        settings: Settings = Settings(),  # noqa: B008 (frozen)
        *,
        endpoints: Mapping[str, Endpoint] | None = None,
        commands: Iterable[Command] = (),
    ) -> None:
        self.clock = Clock()
        self.service = WebSocketService(
            settings, self.clock, endpoints=endpoints, commands=commands, now=self.clock.seconds
        )

    def connect(self, peer: IAddress = IPv4Address("TCP", "127.0.0.1", 50000)) -> "MemoryClient":  # noqa: B008
        """Connect a client from an address, and return it."""
        frontend = self.service.frontend.buildProtocol(peer)
        transport = MemoryTransport(peer)
        transport.protocol = frontend
        frontend.makeConnection(transport)
        return MemoryClient(transport)


class MemoryClient:
    """
    A client: sends raw bytes, HTTP heads and frames, valid or not, and reads the server's responses and frames.

    Args:
        transport: the server's end of the connection.
    """

    def __init__(self, transport: MemoryTransport) -> None:
        self.transport = transport
        self._fragments: list[Frame] = []
        """The fragments of a message whose last one has not been received."""

    def send(self, data: bytes, size: int = 0) -> None:
        """
        Send bytes.

        Args:
            data: the bytes. If the server closes the connection, the remaining bytes are discarded.
            size: maximum length of a segment in bytes; 0 sends all bytes in one segment.
        """
        step = size or len(data) or 1
        for start in range(0, len(data), step):
            if not self.transport.lost:
                self.transport.protocol.dataReceived(data[start : start + step])

    def head(self, target: str = "/", headers: Mapping[str, str | None] = {}) -> bytes:
        """
        Build the request head of an opening handshake.

        Args:
            target: the request target, path and query.
            headers: headers to add or replace; a value of None omits the header.
        """
        fields: dict[str, str | None] = {
            "Host": "localhost:8080",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": KEY,
            "Sec-WebSocket-Version": "13",
        }
        fields.update(headers)
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value is not None)
        return f"GET {target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1")

    def open(self, target: str = "/", headers: Mapping[str, str | None] = {}) -> bytes:
        """Send an opening handshake and return the head of the response."""
        self.send(self.head(target, headers))
        return self.response()

    def response(self) -> bytes:
        """
        Remove a response head from the received bytes.

        Returns:
            The head without the empty line after it; `b""` if the head is incomplete.
        """
        head, end, rest = bytes(self.transport.written).partition(b"\r\n\r\n")
        if not end:
            return b""
        self.transport.written[:] = rest
        return head

    def send_frame(self, opcode: int, payload: bytes = b"", **options: Any) -> None:
        """Send a frame; for the arguments see `build_frame`."""
        self.send(build_frame(opcode, payload, **options))

    def send_text(self, text: str) -> None:
        """Send a text message."""
        self.send_frame(1, text.encode("utf-8"))

    def send_close(self, code: int, reason: str = "") -> None:
        """Send a Close frame."""
        self.send_frame(8, struct.pack("!H", code) + reason.encode("utf-8"))

    def frames(self) -> list[Frame]:
        """Remove the complete frames from the received bytes and return them; fragments are not joined."""
        frames, rest = parse_frames(bytes(self.transport.written))
        self.transport.written[:] = rest
        return frames

    def messages(self) -> list[str | bytes]:
        """
        Remove all complete frames and return the complete messages: str for text, bytes for binary.

        Fragments are joined (RFC 6455 section 5.4). If the last fragment of a message has not been received yet, a
        later call returns that message. Control frames are dropped.

        Raises:
            ValueError: a continuation frame has no message to continue, or a message begins within another.
        """
        messages: list[str | bytes] = []
        for frame in self.frames():
            if frame.opcode not in (0, 1, 2):
                continue
            if (frame.opcode == 0) != bool(self._fragments):
                expected = "a continuation frame" if self._fragments else "a text or binary frame"
                raise ValueError(f"the server sent a frame with opcode {frame.opcode}; expected {expected}")
            self._fragments.append(frame)
            if frame.fin:
                messages.append(self._join_fragments())
        return messages

    def _join_fragments(self) -> str | bytes:
        opcode = self._fragments[0].opcode
        payload = b"".join(frame.payload for frame in self._fragments)
        self._fragments.clear()
        return payload.decode("utf-8") if opcode == 1 else payload

    def close_frame(self) -> tuple[int | None, str] | None:
        """Remove all complete frames and return the code and reason of the first Close frame; None without one."""
        for frame in self.frames():
            if frame.opcode == 8:
                code = int.from_bytes(frame.payload[:2], "big") if frame.payload else None
                return code, frame.payload[2:].decode("utf-8")
        return None
