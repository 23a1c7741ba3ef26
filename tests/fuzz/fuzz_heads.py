"""Fuzz the parser of HTTP requests: generated and changed heads, and shapes of request smuggling."""

import contextlib
import random
import re
import socket
import time
from collections.abc import Callable

from peers import KEY as WEBSOCKET_KEY
from peers import RawPeer
from socket_findings import KEY, Findings

__all__ = ["fuzz", "make_input"]

PATIENCE = 10.0
"""Maximum seconds to wait for the end of a connection that the client has finished."""

HIDDEN = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
"""A request that is hidden in the body of another one."""

ENDLESS = (b"HTTP/1.1 200 ", b"HTTP/1.0 200 ")
"""The beginnings of a response that may be endless: an event stream, or a stream of Centrifuge replies."""

ALIVE = b"\r\n\r\nalive\n"
"""The answer to the hidden request, which must not occur."""

METHODS = ("GET", "POST", "HEAD", "OPTIONS", "PUT", "get", "G\xcbT", "", "CONNECT", "PRI", "GET" * 500)
TARGETS = (
    *("/", "/echo", "/ws", "/ws?channel=a", "/sse?channel=a", "/ticker", "/connection/websocket", "/emulation"),
    *("/connection/http_stream", "/connection/uni_sse?cf_connect={}", "/api/info", "/api/publish", "/health", "/ready"),
    *("/server.json", "/%2e%2e/etc/passwd", "/../x", "//x", "/%", "/%zz", "/\xff", "*", "http://h/echo", "x", ""),
    *(
        "/ws?token=a&token=b",
        "/ws?" + "a=b&" * 1500,
        "/" + "a" * 9000,
        "/ws?channel=" + "%00",
        "/app.js",
        "/index.html",
    ),
)
VERSIONS = (
    "HTTP/1.1",
    "HTTP/1.1",
    "HTTP/1.1",
    "HTTP/1.0",
    "HTTP/2.0",
    "HTTP/1.2",
    "HTTP/0.9",
    "http/1.1",
    "HTTP/1.1 ",
    "",
)
VALUES: dict[str, tuple[str, ...]] = {
    "Host": ("localhost", "127.0.0.1:80", "", "a b", "[::1]", "[", "localhost:99999", "x" * 300, "a,b", "\xff"),
    "Upgrade": ("websocket", "WebSocket", "websocket, h2c", "h2c", "", "web\tsocket"),
    "Connection": ("Upgrade", "keep-alive, Upgrade", "close", "upgrade,,", "keep-alive", ""),
    "Sec-WebSocket-Version": ("13", "8", "0013", "13, 8", ""),
    "Sec-WebSocket-Key": (WEBSOCKET_KEY, "x", "", "A" * 24, WEBSOCKET_KEY + " "),
    "Sec-WebSocket-Extensions": (
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits=99",
        'a;b="',
        ";" * 900,
    ),
    "Sec-WebSocket-Protocol": ("a, b", "a, a", "centrifuge-protobuf", "bearer.x, wsserver.v1", "\x00", ",,,"),
    "Origin": ("http://localhost", "null", "https://x.example", "", "\x7f", "http://[", "http://localhost, http://b"),
    "Content-Length": ("0", "5", "-1", "99999999999999999999", "5, 5", "+5", "5 5", "0x5", "", "70000"),
    "Transfer-Encoding": ("chunked", "gzip, chunked", "chunked, chunked", "identity", "chunked\x0b", ""),
    "Content-Type": ("application/json", "application/octet-stream", "text/plain"),
    "X-API-Key": (KEY, "wrong", ""),
    "Authorization": ("Bearer x", "Bearer", "Basic eA==", "apikey " + KEY, "\xe9"),
    "Expect": ("100-continue", "200-ok"),
    "Last-Event-ID": ("e:1", "x", ":" * 300, "e:99999999999999999999"),
    "X-Forwarded-For": ("1.2.3.4", "x", "1.2.3.4, 5.6.7.8", ","),
    "Range": ("bytes=0-1", "bytes=-1", "bytes=9-1,1-2"),
    "If-None-Match": ('"x"', "*", "W/"),
    "Accept-Encoding": ("gzip", "br;q=0", "*;q=x"),
    "Cookie": ("a=b" * 20,),
    "x" * 200: ("y" * 3000,),
}
"""Header -> values, valid and invalid."""

HANDSHAKE = ("Host", "Upgrade", "Connection", "Sec-WebSocket-Version", "Sec-WebSocket-Key")

NOISE = (b"\0", b"\r", b"\n", b"\r\n", b" ", b"\t", b":", b",", b"\x80", b"\xff", b"\x0b", b"%", b"\r\n\r\n", b"\x85")

_LENGTH = str(len(HIDDEN))
_CHUNK = b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)

SHAPES: tuple[tuple[tuple[str, ...], bytes], ...] = (
    ((f"Content-Length: {_LENGTH}", "Transfer-Encoding: chunked"), b"0\r\n\r\n" + HIDDEN),
    (("Transfer-Encoding: chunked", "Content-Length: 5"), b"0\r\n\r\n" + HIDDEN),
    (("Content-Length: 0", f"Content-Length: {_LENGTH}"), HIDDEN),
    ((f"Content-Length: {_LENGTH}", "Content-Length: 0"), HIDDEN),
    ((f"Content-Length: 0, {_LENGTH}",), HIDDEN),
    (("Content-Length: +0",), HIDDEN),
    (("Content-Length: 0x0",), HIDDEN),
    (("Content-Length: -0",), HIDDEN),
    (("Content-Length: 0_0",), HIDDEN),
    (("Content-Length: \xb2",), HIDDEN),
    (("Content-Length : 0", f"Content-Length: {_LENGTH}"), HIDDEN),
    (("Content-Length: 0\x0b",), HIDDEN),
    (("Content-Length: 0\r", f"Content-Length: {_LENGTH}"), HIDDEN),
    (("X: a\nContent-Length: 0", f"Content-Length: {_LENGTH}"), HIDDEN),
    (("Transfer-Encoding: xchunked",), _CHUNK),
    (("Transfer-Encoding: chunked, identity",), b"0\r\n\r\n" + HIDDEN),
    (("Transfer-Encoding: identity", "Transfer-Encoding: chunked"), b"0\r\n\r\n" + HIDDEN),
    (("Transfer-Encoding: chunked", "Transfer-Encoding: identity"), b"0\r\n\r\n" + HIDDEN),
    (("Transfer-Encoding : chunked",), b"0\r\n\r\n" + HIDDEN),
    (("Transfer-Encoding:\x0bchunked",), b"0\r\n\r\n" + HIDDEN),
    (("Transfer-Encoding: \x00chunked",), b"0\r\n\r\n" + HIDDEN),
    (("X: y\r\n Transfer-Encoding: chunked",), b"0\r\n\r\n" + HIDDEN),
    (("Transfer-Encoding:\r\n chunked",), b"0\r\n\r\n" + HIDDEN),
    (("Transfer-Encoding: chunked",), b"0x0\r\n\r\n" + HIDDEN),
    (("Transfer-Encoding: chunked",), b"-0\r\n\r\n" + HIDDEN),
    (("Transfer-Encoding: chunked",), b"0 \r\n\r\n" + HIDDEN),
    (("Transfer-Encoding: chunked",), b"0_0\r\n\r\n" + HIDDEN),
    (("Transfer-Encoding: chunked",), b"0\n\n" + HIDDEN),
    (("Transfer-Encoding: chunked",), b"0;\n\r\n\r\n" + HIDDEN),
    (("Transfer-Encoding: chunked",), b"00000000000000000\r\n\r\n" + HIDDEN),
    (("Transfer-Encoding: chunked",), b"2\r\n{}0\r\n\r\n" + HIDDEN),
    (("Transfer-Encoding: chunked",), b"2\r\n{}\n0\r\n\r\n" + HIDDEN),
    (("Transfer-Encoding: chunked",), b"0\r\nContent-Length 0\r\n\r\n" + HIDDEN),
    (("Transfer-Encoding: chunked",), _CHUNK),
    ((f"Content-Length: {_LENGTH}",), HIDDEN),
)
"""Headers and body of requests in which a lenient server would find the hidden request."""


def make_input(rng: random.Random) -> tuple[bytes, bool]:
    """Return bytes to send, and whether they hide a request."""
    way = rng.random()
    if way < 0.2:
        headers, body = rng.choice(SHAPES)
        target = rng.choice(("/api/info", "/emulation", "/connection/http_stream", "/", "/nothing"))
        lines = [f"POST {target} HTTP/1.1", "Host: localhost", f"X-API-Key: {KEY}", *headers]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + body, True
    data = b"".join(_request(rng) for _ in range(rng.choice((1, 1, 1, 2, 5))))
    return (data if way < 0.4 else _change(rng, data)), False


def _request(rng: random.Random) -> bytes:
    if rng.random() < 0.3:
        headers = [f"{name}: {VALUES[name][0]}" for name in HANDSHAKE]
        method, version = "GET", "HTTP/1.1"
    else:
        headers = ["Host: localhost"] if rng.random() < 0.9 else []
        method, version = rng.choice(METHODS), rng.choice(VERSIONS)
    for name in rng.sample(list(VALUES), rng.choice((0, 1, 2, 4))):
        headers.append(f"{name}: {rng.choice(VALUES[name])}")
    body = rng.choice((b"", b"", b"", b"{}", b'{"channel":"a","data":1}', b"5\r\nhello\r\n0\r\n\r\n", bytes(500)))
    if body and rng.random() < 0.7:
        headers.append(f"Content-Length: {len(body)}")
    lines = [f"{method} {rng.choice(TARGETS)} {version}", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def _change(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        rng.choice(CHANGES)(rng, changed, rng.randrange(len(changed) + 1))
    return bytes(changed)


def _insert(rng: random.Random, data: bytearray, at: int) -> None:
    data[at:at] = rng.choice(NOISE) * rng.choice((1, 1, 2, 50))


def _replace(rng: random.Random, data: bytearray, at: int) -> None:
    data[at : at + 1] = rng.choice((*NOISE, rng.randbytes(1)))


def _delete(rng: random.Random, data: bytearray, at: int) -> None:
    del data[at : at + rng.choice((1, 2, 10, 100))]


def _repeat(rng: random.Random, data: bytearray, at: int) -> None:
    piece = bytes(data[at : at + rng.choice((1, 20, 80))])
    data[at:at] = piece * rng.choice((1, 2, 200))


def _truncate(_: random.Random, data: bytearray, at: int) -> None:
    del data[at:]


CHANGES: tuple[Callable[[random.Random, bytearray, int], None], ...] = (_insert, _replace, _delete, _repeat, _truncate)


def fuzz(port: int, rng: random.Random, seconds: float, findings: Findings) -> None:
    """
    Send requests to the server, and check the answers.

    Args:
        port: the port of the server.
        rng: makes the random choices.
        seconds: how long to send.
        findings: collects what is found.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        data, hides = make_input(rng)
        with RawPeer(port) as peer:
            peer.socket.settimeout(PATIENCE)
            answer, is_whole = _send(rng, peer, data)
        _judge(findings, data, answer, is_whole=is_whole, hides=hides)


def _send(rng: random.Random, peer: RawPeer, data: bytes) -> tuple[bytes, bool]:
    """Send the bytes in pieces, end the sending side, and return the answer, and whether the server has ended it."""
    at = rng.randrange(1, len(data)) if rng.random() < 0.3 and len(data) > 1 else len(data)
    # The server may have refused the first piece, and closed the connection. Its answer can still be read.
    with contextlib.suppress(OSError):
        peer.send(data[:at])
        if at < len(data):
            time.sleep(rng.choice((0, 0.001)))
            peer.send(data[at:])
        peer.socket.shutdown(socket.SHUT_WR)
    received = b""
    while True:
        try:
            piece = peer.socket.recv(65536)
        except TimeoutError:
            return received, False
        except ConnectionError:
            return received, True
        received += piece
        if not piece:
            return received, True
        if received.startswith(ENDLESS) and b"\r\nTransfer-Encoding: chunked\r\n" in received:
            peer.socket.settimeout(0.02)


def _judge(findings: Findings, data: bytes, answer: bytes, *, is_whole: bool, hides: bool) -> None:
    status = re.match(rb"HTTP/1\.[01] ([1-5][0-9]{2}) ", answer)
    findings.count(status[1].decode() if status else "closed" if not answer else "other")
    # A request whose body is not whole gets no answer: the client has ended it.
    if not answer and b"\r\n\r\n" in data.lstrip(b"\r\n") and not re.search(rb"(?i)content-length|encoding", data):
        findings.complain("a whole head got no answer", data)
    if answer and status is None:
        findings.complain(f"the answer is not HTTP: {answer[:100]!r}", data)
    if re.search(rb"(?:^|\n)HTTP/1\.[01] 500 ", answer):
        findings.complain("the answer is 500", data)
    if hides and ALIVE in answer:
        findings.complain("the hidden request was answered", data)
    if not is_whole and not answer.startswith(ENDLESS):
        findings.complain(f"the connection was not ended within {PATIENCE:g} s; answer {answer[:200]!r}", data)
