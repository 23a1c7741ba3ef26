"""
A WebSocket connection for `wsserver doctor`: it shows how a connection ends, and what is compressed.

A client library hides both.
"""

import base64
import os
import re
import struct
import time
import zlib
from contextlib import suppress
from dataclasses import dataclass

from wsserver.cli.doctor.exchange import Response, read_body, read_head, request_head
from wsserver.cli.doctor.stream import ANSWER_TIMEOUT, Dialer, Stream
from wsserver.wire.handshake import response as expected_response

__all__ = ["Frame", "Opcode", "ServerClosed", "WebSocket", "open_websocket"]

OFFER = "permessage-deflate; client_max_window_bits"
"""What Chromium offers."""

MAX_MESSAGE = 1024 * 1024
"""Maximum size of a frame and of a message, in bytes."""

MAX_CONTROL = 125
"""Maximum size of the payload of a control frame, in bytes (RFC 6455 section 5.5)."""

WINDOW_BITS = tuple(str(bits) for bits in range(8, 16))
"""What a server may answer as client_max_window_bits (RFC 7692 section 7.1.2.2)."""

MAX_FRAGMENTS = 65536
"""Maximum number of fragments of a message: a server could send empty ones without end."""

_TAIL = b"\0\0\xff\xff"


class Opcode:
    """The opcodes of RFC 6455 section 5.2."""

    CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA


@dataclass(frozen=True)
class Frame:
    """A frame of the server."""

    opcode: int
    payload: bytes
    fin: bool = True
    compressed: bool = False


class ServerClosed(OSError):
    """
    The server sent a Close frame.

    Args:
        code: its code; 1005 for none.
        reason: its reason.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"the server closed the connection with {code}: {reason or 'no reason given'}")
        self.code = code
        self.reason = reason


class WebSocket:
    """
    An open connection.

    Args:
        stream: the bytes, after the response of the handshake.
        response: the response of the handshake.
        accept: the value of Sec-WebSocket-Accept that the handshake asks for.
    """

    def __init__(self, stream: Stream, response: Response, accept: str) -> None:
        self._stream = stream
        self.response = response
        self.is_accepted = response.header("Sec-WebSocket-Accept") == accept
        self.extensions = response.header("Sec-WebSocket-Extensions")
        self.pings = 0
        """How many pings the server has sent."""
        self.first_ping = 0.0
        """When it sent the first one, on the monotonic clock."""
        self._inflate = zlib.decompressobj(wbits=-15)

    @property
    def deflates(self) -> bool:
        """Whether the server has accepted permessage-deflate."""
        return self.extensions.startswith("permessage-deflate")

    @property
    def local_address(self) -> str:
        """The own address and port of the connection."""
        host, port, *_ = self._stream.connection.getsockname()
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def __enter__(self) -> "WebSocket":
        """Return the connection."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection with 1000, without waiting."""
        with suppress(OSError):
            self.send(Opcode.CLOSE, struct.pack("!H", 1000))
        self._stream.close()

    def send(self, opcode: int, payload: bytes, *, compressed: bool = False) -> None:
        """Send an unfragmented frame of less than 64 KiB; compress it if asked."""
        if compressed:
            # zlib cannot compress raw data with 8 bits. A window of 9 bits is safe for a message under 256 bytes.
            deflate = zlib.compressobj(wbits=-max(9, self._window_bits()))
            payload = (deflate.compress(payload) + deflate.flush(zlib.Z_SYNC_FLUSH)).removesuffix(_TAIL)
        size = bytes([0x80 | len(payload)]) if len(payload) < 126 else struct.pack("!BH", 0xFE, len(payload))
        key = os.urandom(4)
        masked = bytes(byte ^ key[place % 4] for place, byte in enumerate(payload))
        self._stream.send(bytes([0x80 | compressed << 6 | opcode]) + size + key + masked)

    def _window_bits(self) -> int:
        """Return the size of the window that the server permits for compressed messages from the client."""
        found = re.search(r"client_max_window_bits\s*=\s*\"?([^\s;,\"]*)", self.extensions)
        if found is None:
            return 15
        if found[1] not in WINDOW_BITS:
            raise OSError(f"the server has chosen client_max_window_bits={found[1]}; RFC 7692 permits 8 to 15")
        return int(found[1])

    def read_frame(self, deadline: float) -> Frame:
        """
        Read a frame. A part of a frame stays in the buffer if the time is over.

        Raises:
            ServerClosed: the frame is a Close frame.
            OSError: the connection has ended, the frame is invalid, or no frame is there in time.
        """
        while (found := parse_frame(self._stream.buffer)) is None:
            self._stream.receive(deadline)
        # A server that floods keeps the buffer full, so `receive` is not called for each frame.
        if time.monotonic() > deadline:
            raise TimeoutError
        frame, size = found
        self._stream.take(size)
        if frame.opcode == Opcode.CLOSE:
            code = struct.unpack("!H", frame.payload[:2])[0] if len(frame.payload) > 1 else 1005
            raise ServerClosed(code, frame.payload[2:].decode("utf-8", "replace"))
        if frame.opcode == Opcode.PING:
            self.first_ping = self.first_ping or time.monotonic()
            self.pings += 1
            self.send(Opcode.PONG, frame.payload)
        return frame

    def read_message(self, deadline: float) -> Frame:
        """Read a whole message, decompressed; answer pings on the way, and skip pongs."""
        first = frame = self._read_fragment(deadline)
        payload, count = bytearray(first.payload), 1
        if first.opcode == Opcode.CONTINUATION:
            raise OSError("the server sent a continuation frame without a message")
        while not frame.fin:
            frame = self._read_fragment(deadline)
            payload += frame.payload
            count += 1
            if frame.opcode != Opcode.CONTINUATION:
                raise OSError("the server sent a message within a fragmented one")
            if len(payload) > MAX_MESSAGE or count > MAX_FRAGMENTS:
                raise OSError(f"a message is longer than 1 MiB, or has more than {MAX_FRAGMENTS} fragments")
        whole = self._decompress(payload) if first.compressed else bytes(payload)
        return Frame(first.opcode, whole, compressed=first.compressed)

    def _read_fragment(self, deadline: float) -> Frame:
        while (frame := self.read_frame(deadline)).opcode >= Opcode.CLOSE:
            pass
        return frame

    def _decompress(self, payload: bytearray) -> bytes:
        # Also without permessage-deflate in the answer: a proxy may have removed it, and the server compresses.
        try:
            return self._inflate.decompress(payload + _TAIL, MAX_MESSAGE)
        except zlib.error as error:
            raise OSError(f"a message cannot be decompressed: {error}") from None


def parse_frame(data: bytes | bytearray) -> tuple[Frame, int] | None:
    """
    Parse the first frame of the server.

    Returns:
        The frame and its size, or None if it is not complete.

    Raises:
        OSError: the bytes are not a frame of a server.
    """
    if len(data) < 2:
        return None
    if data[0] & 0x30 or data[1] & 0x80 or data[0] & 0x0F not in (0, 1, 2, 8, 9, 10):
        raise OSError(f"the bytes {bytes(data[:8])!r} are not a frame of a WebSocket server")
    if data[0] & 0x08 and (data[1] > MAX_CONTROL or not data[0] & 0x80):
        raise OSError(f"the server sent an invalid control frame: a fragment, or more than {MAX_CONTROL} bytes")
    start = {126: 4, 127: 10}.get(data[1], 2)
    if len(data) < start:
        return None
    size = data[1] if start == 2 else int.from_bytes(data[2:start], "big")
    if size > MAX_MESSAGE:
        raise OSError("a frame is longer than 1 MiB")
    if len(data) < start + size:
        return None
    payload = bytes(data[start : start + size])
    return Frame(data[0] & 0x0F, payload, bool(data[0] & 0x80), bool(data[0] & 0x40)), start + size


def open_websocket(dialer: Dialer, path: str, headers: dict[str, str]) -> WebSocket | Response:
    """
    Send an opening handshake as a browser does.

    Args:
        dialer: opens the connection.
        path: the path with the query.
        headers: further headers, such as Origin.

    Returns:
        The open connection, or the response that refuses it.

    Raises:
        OSError: no connection, or no answer that is HTTP.
    """
    key = base64.b64encode(os.urandom(16)).decode("ascii")
    fields = {
        "Connection": "Upgrade",
        "Pragma": "no-cache",
        "Cache-Control": "no-cache",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": key,
        "Sec-WebSocket-Extensions": OFFER,
    }
    stream = dialer.dial()
    deadline = time.monotonic() + ANSWER_TIMEOUT
    try:
        stream.send(request_head(dialer.target, path, fields | headers))
        response = read_head(stream, deadline)
        if response.status == 101:
            return WebSocket(stream, response, _accept_value(key))
        refused = read_body(stream, response, min(deadline, time.monotonic() + 2))
    except BaseException:
        stream.close()
        raise
    stream.close()
    return refused


def _accept_value(key: str) -> str:
    found = re.search(rb"Sec-WebSocket-Accept: (.*)\r\n", expected_response(key))
    assert found is not None
    return found[1].decode("ascii")
