"""
Clients for tests: `RawPeer`, which can send any bytes, and the client of the Autobahn library.

Both block, so they must be used outside of the reactor's thread. The integration tests run in other threads.
"""

import base64
import hashlib
import os
import socket
import ssl
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from queue import Empty, Queue
from typing import Any, Self

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet import reactor
from twisted.internet.threads import blockingCallFromThread
from twisted.python.failure import Failure
from waiting import TIMEOUT

__all__ = [
    "BINARY",
    "CLOSE",
    "CONTINUATION",
    "KEY",
    "PING",
    "PONG",
    "TEXT",
    "AutobahnPeer",
    "Frame",
    "RawPeer",
    "Response",
    "accept_value",
    "answer_to",
    "close_payload",
    "connect_autobahn",
    "deflated",
    "frame",
    "handshake_request",
]

AUTOBAHN_TIMEOUTS = {
    "openHandshakeTimeout": TIMEOUT,
    "closeHandshakeTimeout": TIMEOUT,
    "serverConnectionDropTimeout": TIMEOUT,
}
"""Options of Autobahn's client: its defaults of one second report an unclean close if the machine is busy."""

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
KEY = base64.b64encode(bytes(range(16))).decode("ascii")


# The opening handshake.


def accept_value(key: str) -> str:
    """Return the Sec-WebSocket-Accept for a key (RFC 6455 section 4.2.2)."""
    digest = hashlib.sha1(key.encode("ascii") + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    return base64.b64encode(digest).decode("ascii")


def handshake_request(
    path: str = "/echo",
    *more: str,
    method: str = "GET",
    version: str = "HTTP/1.1",
    without: Iterable[str] = (),
    replace: dict[str, str] | None = None,
) -> bytes:
    """
    Return the request of an opening handshake.

    Args:
        path: the request target.
        more: header lines to add.
        method: the method in the request line.
        version: the HTTP version in the request line.
        without: names of headers to leave out.
        replace: header name -> value to send instead of the usual one.
    """
    headers = {
        "Host": "127.0.0.1",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": KEY,
        "Sec-WebSocket-Version": "13",
    } | (replace or {})
    lines = [f"{name}: {value}" for name, value in headers.items() if name not in without]
    return "\r\n".join([f"{method} {path} {version}", *lines, *more, "", ""]).encode("latin-1")


@dataclass(frozen=True)
class Response:
    """An HTTP response as received."""

    status: int
    phrase: str
    headers: tuple[tuple[str, str], ...]
    """(name in lower case, value) pairs, in the order received."""
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the value of a header, or None if it is missing; fail if it occurs more than once."""
        values = [value for key, value in self.headers if key == name]
        assert len(values) < 2, f"more than one {name}: {values}"
        return values[0] if values else None

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode("utf-8")


# Frames.


@dataclass(frozen=True)
class Frame:
    """A frame as received from the server."""

    opcode: int
    payload: bytes
    fin: bool = True
    rsv: int = 0

    @property
    def close_code(self) -> int | None:
        """The code of a Close frame; None if its payload is empty."""
        assert self.opcode == CLOSE, f"not a Close frame: {self}"
        return struct.unpack("!H", self.payload[:2])[0] if self.payload else None

    @property
    def close_reason(self) -> str:
        """The reason of a Close frame."""
        return self.payload[2:].decode("utf-8")


def close_payload(code: int, reason: str | bytes = "") -> bytes:
    """Return the payload of a Close frame."""
    return struct.pack("!H", code) + (reason.encode("utf-8") if isinstance(reason, str) else reason)


def deflated(data: bytes) -> bytes:
    """Compress a message's only frame (RFC 7692 section 7.2.1)."""
    deflate = zlib.compressobj(wbits=-15)
    return (deflate.compress(data) + deflate.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\0\0\xff\xff")


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    masked: bool = True,
    length_bytes: int | None = None,
    declared: int | None = None,
) -> bytes:
    """
    Return a client's frame, valid or invalid.

    Args:
        opcode: 0 to 15.
        payload: the payload, unmasked.
        fin: the FIN bit: whether the frame is the last of its message.
        rsv: the three reserved bits as a number from 0 to 7.
        masked: whether to mask the payload, as RFC 6455 section 5.1 requires of clients.
        length_bytes: size of the extended payload length in bytes (0, 2 or 8); None for the smallest that fits.
        declared: the payload length to declare in the header; None for the real one.
    """
    length = len(payload) if declared is None else declared
    if length_bytes is None:
        length_bytes = 0 if length < 126 else 2 if length < 2**16 else 8
    short = {0: length, 2: 126, 8: 127}[length_bytes]
    extended = {0: b"", 2: struct.pack("!H", length & 0xFFFF), 8: struct.pack("!Q", length)}[length_bytes]
    head = bytes([fin << 7 | rsv << 4 | opcode, masked << 7 | short]) + extended
    if not masked:
        return head + payload
    key = os.urandom(4)
    pad = (key * (len(payload) // 4 + 1))[: len(payload)]
    mixed = int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")
    return head + key + mixed.to_bytes(len(payload), "big")


class RawPeer:
    """
    A connection that can send any bytes, and reads what the server sends byte for byte.

    Args:
        port: the port on 127.0.0.1 to connect to.
        receive_buffer: size of the socket's receive buffer in bytes, for peers that do not read; None for the default.
        tls: the TLS context to use; None for plain TCP.
        path: the path of a UNIX socket to connect to, instead of a port.
        source: the IP address to connect from; None for the default.
    """

    def __init__(
        self,
        port: int = 0,
        *,
        receive_buffer: int | None = None,
        tls: ssl.SSLContext | None = None,
        path: str | None = None,
        source: str | None = None,
    ) -> None:
        self.socket = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
        self.socket.settimeout(TIMEOUT)
        if source is not None:
            self.socket.bind((source, 0))
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.connect(path or ("127.0.0.1", port))
        if not path:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
        self.buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *about: object) -> None:
        self.socket.close()

    # Bytes.

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.socket.sendall(data)

    def _receive(self) -> bool:
        data = self.socket.recv(65536)
        self.buffer += data
        return bool(data)

    def _read_bytes(self, count: int) -> bytes:
        while len(self.buffer) < count:
            assert self._receive(), f"the connection ended; {count} bytes were expected and {self.buffer!r} came"
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def read_to_end(self) -> bytes:
        """Read until the server closes the connection; a reset raises ConnectionResetError."""
        while self._receive():
            pass
        taken, self.buffer = self.buffer, b""
        return taken

    def has_ended(self) -> bool:
        """Return whether the server has closed or reset the connection; discards data that is still received."""
        self.socket.settimeout(0.001)
        try:
            while self.socket.recv(65536):
                pass
        except TimeoutError:
            return False
        except ConnectionError:
            return True
        finally:
            self.socket.settimeout(TIMEOUT)
        return True

    def reset(self) -> None:
        """Abort the connection with a TCP reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    # HTTP.

    def read_response(self, method: str = "GET") -> Response:
        """Read one response; a body must have a Content-Length."""
        while b"\r\n\r\n" not in self.buffer:
            assert self._receive(), f"the connection ended before a response was whole: {self.buffer!r}"
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        line, *lines = head.decode("latin-1").split("\r\n")
        version, status, phrase = line.split(" ", 2)
        assert version in ("HTTP/1.1", "HTTP/1.0")
        headers = tuple((n.lower(), v.strip()) for n, _, v in (text.partition(":") for text in lines))
        response = Response(int(status), phrase, headers, b"")
        if method == "HEAD" or response.status in (101, 100, 204, 304):
            return response
        length = response.header("content-length")
        assert length is not None, f"no Content-Length in {head!r}"
        return Response(response.status, phrase, headers, self._read_bytes(int(length)))

    def request(
        self, target: str, *more: str, method: str = "GET", body: bytes = b"", host: str = "127.0.0.1"
    ) -> Response:
        """Send an HTTP request and read its response."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *more]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        return self.read_response(method)

    def handshake(self, path: str = "/echo", *more: str) -> Response:
        """Send an opening handshake; fail unless the server accepts it."""
        self.send(handshake_request(path, *more))
        response = self.read_response()
        assert response.status == 101, response
        assert response.header("sec-websocket-accept") == accept_value(KEY)
        return response

    # Frames.

    def send_frame(self, opcode: int, payload: bytes = b"", **options: Any) -> None:
        """Send a frame; for the options, see `frame`."""
        self.send(frame(opcode, payload, **options))

    def read_frame(self) -> Frame:
        """Read one frame."""
        first, second = self._read_bytes(2)
        assert not second & 0x80, "a server must not mask (RFC 6455 section 5.1)"
        length = second & 0x7F
        if length == 126:
            length = struct.unpack("!H", self._read_bytes(2))[0]
        elif length == 127:
            length = struct.unpack("!Q", self._read_bytes(8))[0]
        return Frame(first & 0x0F, self._read_bytes(length), bool(first & 0x80), first >> 4 & 0x07)

    def read_message(self) -> str | bytes:
        """Read one unfragmented message."""
        got = self.read_frame()
        assert got.fin
        assert got.opcode in (TEXT, BINARY), got
        return got.payload.decode("utf-8") if got.opcode == TEXT else got.payload

    def read_close(self) -> Frame:
        """Read a Close frame; pings before it are skipped."""
        while (got := self.read_frame()).opcode == PING:
            pass
        assert got.opcode == CLOSE, f"a Close frame was expected, {got} came"
        return got

    def echoes(self, text: str = "still there?") -> bool:
        """Send a text message and return whether the server echoes it."""
        self.send_frame(TEXT, text.encode("utf-8"))
        return self.read_message() == text


# Autobahn's own client.


@dataclass
class Closed:
    """The end of a connection, as reported by Autobahn's client."""

    clean: bool
    code: int | None
    reason: str | None


@dataclass
class AutobahnPeer:
    """A connection of Autobahn's client, for use outside of the reactor's thread."""

    protocol: Any = None
    events: "Queue[Any]" = field(default_factory=Queue)
    """The events of its callbacks, in order: the open protocol, messages, `Closed`, or the failure to connect."""

    def _next(self, what: str) -> Any:
        try:
            return self.events.get(timeout=TIMEOUT)
        except Empty:
            raise AssertionError(f"after {TIMEOUT:g} s still no {what}") from None

    def send(self, payload: str | bytes, **options: Any) -> None:
        """Send a message."""
        data = payload.encode("utf-8") if isinstance(payload, str) else payload
        blockingCallFromThread(
            reactor, lambda: self.protocol.sendMessage(data, isBinary=isinstance(payload, bytes), **options)
        )

    def receive(self) -> str | bytes:
        """Wait for a message."""
        got = self._next("message")
        assert isinstance(got, str | bytes), got
        return got

    def close(self, code: int | None = None, reason: str | None = None) -> Closed:
        """Start a closing handshake and wait for the end of the connection."""
        blockingCallFromThread(reactor, lambda: self.protocol.sendClose(code, reason))
        return self.wait_closed()

    def wait_closed(self) -> Closed:
        """Wait for the end of the connection."""
        got = self._next("end of the connection")
        assert isinstance(got, Closed), got
        return got


def connect_autobahn(url: str, protocols: Iterable[str] = (), **options: Any) -> AutobahnPeer:
    """
    Connect Autobahn's client and wait until the connection is open.

    Args:
        url: the WebSocket URL; its port on 127.0.0.1 is connected to.
        protocols: subprotocols to offer.
        options: arguments for Autobahn's `setProtocolOptions`.
    """
    peer = AutobahnPeer()

    class Protocol(WebSocketClientProtocol):
        def onOpen(self) -> None:
            peer.events.put(self)

        def onMessage(self, payload: bytes, isBinary: bool) -> None:
            peer.events.put(payload if isBinary else payload.decode("utf-8"))

        def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
            peer.events.put(Closed(wasClean, code, reason))

    class Factory(WebSocketClientFactory):
        noisy = False

        def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
            peer.events.put(reason)

    def connect() -> None:
        factory = Factory(url, protocols=list(protocols), reactor=reactor)
        factory.protocol = Protocol
        factory.setProtocolOptions(**AUTOBAHN_TIMEOUTS | options)
        reactor.connectTCP("127.0.0.1", factory.port, factory)

    blockingCallFromThread(reactor, connect)
    peer.protocol = peer._next("open connection")
    assert isinstance(peer.protocol, Protocol), peer.protocol
    return peer


def answer_to(peer, path, *more, **options):
    """Send a handshake, valid or invalid; return the response."""
    peer.send(handshake_request(path, *more, **options))
    return peer.read_response()
