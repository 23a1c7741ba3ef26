"""
Test endpoints without sockets and without waiting: a server, a client and a clock in memory.

    server = MemoryServer(Settings(), endpoints={"/shout": ShoutProtocol})
    client = server.connect()
    client.open("/shout")
    client.send_text("hello")
    assert client.messages() == ["HELLO"]

What this cannot show: partial writes of a kernel, TLS, and what real clients do. The server's own tests use real
sockets for those.
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


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame (RFC 6455 section 5.2)."""

    opcode: int
    payload: bytes
    fin: bool = True
    rsv: int = 0


def build_frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bytes = b"mask") -> bytes:
    """
    Build a client's frame; nothing stops it from breaking the rules.

    Args:
        opcode: 0-15.
        payload: unmasked.
        fin: the FIN bit.
        rsv: the three reserved bits, 0-7; 4 is RSV1.
        mask: four bytes; empty for an unmasked frame.
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
    Parse a server's frames.

    Args:
        data: what the server wrote after the handshake.

    Returns:
        The whole frames, and the bytes after them.

    Raises:
        ValueError: a frame is masked, which a server's must not be.
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
    A transport that keeps what is written to it.

    Stricter than a socket: writing after it was closed raises.
    """

    def __init__(self, peer: IAddress) -> None:
        self._peer = peer
        self.written = bytearray()
        """What the other end can read."""
        self.unread = bytearray()
        """What waits because the other end does not read: see `reading`."""
        self.reading = True
        """Whether the other end reads."""
        self.paused = False
        """Whether the protocol wants no more bytes."""
        self.disconnecting = self.aborted = self.lost = self.write_closed = False
        self.protocol: Any = None
        self._producer: Any = None

    # What a protocol calls.

    def write(self, data: bytes) -> None:
        """Take bytes."""
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
            raise RuntimeError("a producer is registered already, or is no push producer")
        self._producer = producer

    def unregisterProducer(self) -> None:  # noqa: D102
        self._producer = None
        self._finish()

    def getPeer(self) -> IAddress:  # noqa: D102
        return self._peer

    def getHost(self) -> IAddress:  # noqa: D102
        return IPv4Address("TCP", "127.0.0.1", 8080)

    # What a test calls.

    def read_again(self) -> None:
        """Let the other end read again."""
        self.reading = True
        self.written += self.unread
        self.unread.clear()
        if self._producer is not None:
            self._producer.resumeProducing()
        self._finish()

    def lose(self, error: Exception | None = None) -> None:
        """End the connection."""
        if not self.lost:
            self.lost = True
            self._producer = None
            self.protocol.connectionLost(Failure(error or ConnectionDone()))

    def _finish(self) -> None:
        # As in Twisted: what is buffered goes out first, and a producer may still add to it.
        if self.disconnecting and not self.unread and self._producer is None:
            self.lose()


class MemoryServer:
    """
    A server without listeners, on a clock that only a test moves.

    Args:
        settings: the options.
        endpoints: path or prefix -> endpoint, as for `WebSocketService`.
        commands: besides the built-in ones.
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
        """Connect a client."""
        door = self.service.door.buildProtocol(peer)
        transport = MemoryTransport(peer)
        transport.protocol = door
        door.makeConnection(transport)
        return MemoryClient(transport)


class MemoryClient:
    """
    The other end of a connection: raw bytes, HTTP heads and frames, right or wrong.

    Args:
        transport: the server's end.
    """

    def __init__(self, transport: MemoryTransport) -> None:
        self.transport = transport

    def send(self, data: bytes, size: int = 0) -> None:
        """
        Send bytes.

        Args:
            data: what to send; bytes that come after the server has closed are lost.
            size: most bytes in a segment; 0 for all in one.
        """
        step = size or len(data) or 1
        for start in range(0, len(data), step):
            if not self.transport.lost:
                self.transport.protocol.dataReceived(data[start : start + step])

    def head(self, target: str = "/", headers: Mapping[str, str | None] = {}) -> bytes:
        """
        Build a handshake.

        Args:
            target: the request target.
            headers: to add or to replace; None leaves one out.
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
        """Shake hands; returns the head of the response."""
        self.send(self.head(target, headers))
        return self.response()

    def response(self) -> bytes:
        """Take the head of a response off what was received, without the empty line; `b""` while it is not whole."""
        head, end, rest = bytes(self.transport.written).partition(b"\r\n\r\n")
        if not end:
            return b""
        self.transport.written[:] = rest
        return head

    def send_frame(self, opcode: int, payload: bytes = b"", **options: Any) -> None:
        """Send a frame: see `build_frame`."""
        self.send(build_frame(opcode, payload, **options))

    def send_text(self, text: str) -> None:
        """Send a text message."""
        self.send_frame(1, text.encode("utf-8"))

    def send_close(self, code: int, reason: str = "") -> None:
        """Send a Close frame."""
        self.send_frame(8, struct.pack("!H", code) + reason.encode("utf-8"))

    def frames(self) -> list[Frame]:
        """Take the whole frames off what was received."""
        frames, rest = parse_frames(bytes(self.transport.written))
        self.transport.written[:] = rest
        return frames

    def messages(self) -> list[str | bytes]:
        """Take the unfragmented messages off what was received: str for text, bytes for binary; control frames go."""
        data = [frame for frame in self.frames() if frame.opcode in (1, 2)]
        return [frame.payload.decode("utf-8") if frame.opcode == 1 else frame.payload for frame in data]

    def close_frame(self) -> tuple[int | None, str] | None:
        """Take all frames off; returns code and reason of a Close frame among them, None if there is none."""
        for frame in self.frames():
            if frame.opcode == 8:
                code = int.from_bytes(frame.payload[:2], "big") if frame.payload else None
                return code, frame.payload[2:].decode("utf-8")
        return None
