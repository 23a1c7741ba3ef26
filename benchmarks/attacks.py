"""
Attacks: clients that overload the server. `stalls.py` measures each of them as a row of its table.

An attack has limited time and connections, and connects only to the given port on loopback.
"""

import base64
import json
import select
import socket
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["ATTACKS", "KEY", "Attack", "connect", "handshake", "mask"]

KEY = "key"
READ = 1024 * 1024
CENTRIFUGE = "/connection/websocket"
HISTORY = ["--channel-allow", "*", "--channel-presence", "*", "--history-size", "10000", "--history-ttl", "10m"]


@dataclass(frozen=True)
class Attack:
    """One attack: a row of the table of `stalls.py`."""

    name: str
    connections: int
    run: Callable[[int, float, int], None]
    """The attack; called with the port, the duration in seconds and the number of connections. Returns when it ends."""
    prepare: Callable[[int], object] = int
    """Prepares the server; called with the port before its memory is measured. The default does nothing."""
    options: list[str] = field(default_factory=list)
    """Command-line options for the server."""


def connect(port: int) -> socket.socket:
    """Return a TCP connection to the server."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=30)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def handshake(sock: socket.socket, path: str) -> None:
    """Open a WebSocket connection. Reads no further than the end of the response."""
    key = base64.b64encode(b"sixteen byte key").decode()
    sock.sendall(
        f"GET {path} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        if not byte:
            break
        head += byte
    if b" 101 " not in head[:16]:
        raise RuntimeError(f"the server refused {path}: {head[:200]!r}")


def mask(payload: bytes) -> bytes:
    """Return a client's text frame, masked with a key of zeros."""
    size = len(payload)
    if size < 126:
        return bytes([0x81, 0x80 | size]) + bytes(4) + payload
    if size < 65536:
        return bytes([0x81, 0xFE]) + size.to_bytes(2, "big") + bytes(4) + payload
    return bytes([0x81, 0xFF]) + size.to_bytes(8, "big") + bytes(4) + payload


def flood(sockets: list[socket.socket], data: bytes, seconds: float, *, pause: float = 0.0) -> None:
    """Send the same bytes repeatedly on all connections, and read all responses, as fast as possible."""
    poller, rest = select.epoll(), {}
    for sock in sockets:
        sock.setblocking(False)
        rest[sock.fileno()] = (sock, memoryview(data))
        poller.register(sock.fileno(), select.EPOLLIN | select.EPOLLOUT)
    end = time.monotonic() + seconds
    while time.monotonic() < end and rest:
        for fd, events in poller.poll(0.1):
            sock, left = rest[fd]
            try:
                if events & select.EPOLLIN and not sock.recv(READ):
                    raise ConnectionError
                if events & select.EPOLLOUT:
                    left = left[sock.send(left) :]
                    rest[fd] = (sock, left or memoryview(data))
            except BlockingIOError:
                pass
            except OSError:
                poller.unregister(fd)
                del rest[fd]
        time.sleep(pause)


def pipelined(request: bytes) -> Callable[[int, float, int], None]:
    """Return an attack that repeatedly sends 256 KiB of the same request, and reads the responses."""

    def run(port: int, seconds: float, connections: int) -> None:
        data = request * (256 * 1024 // len(request))
        flood([connect(port) for _ in range(connections)], data, seconds)

    return run


def refused_handshakes(port: int, seconds: float, connections: int) -> None:
    """Send handshakes that the server refuses, each on a new connection."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for sock in [connect(port) for _ in range(connections)]:
            with sock:
                sock.sendall(b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
                sock.recv(READ)


def commands(count: int, command: dict[str, object], *, channel: str = "") -> Callable[[int, float, int], None]:
    """Return an attack that sends frames with `count` copies of a Centrifuge command, and reads the replies."""

    def run(port: int, seconds: float, connections: int) -> None:
        sockets = []
        for _ in range(connections):
            sock = connect(port)
            handshake(sock, CENTRIFUGE)
            begin = [{"id": 1, "connect": {}}] + ([{"id": 2, "subscribe": {"channel": channel}}] if channel else [])
            sock.sendall(mask("\n".join(map(json.dumps, begin)).encode()))
            sockets.append(sock)
        lines = "\n".join(json.dumps({"id": number, **command}) for number in range(3, 3 + count))
        flood(sockets, mask(lines.encode()), seconds)

    return run


def whoami(port: int, seconds: float, connections: int) -> None:
    """Send the command `whoami` in small frames, and read the replies."""
    sockets = [connect(port) for _ in range(connections)]
    for sock in sockets:
        handshake(sock, "/ws")
    flood(sockets, mask(b"whoami") * 1000, seconds)


def silent_recovery(request: Callable[[str], str], *, websocket: bool) -> Callable[[int, float, int], None]:
    """Return an attack that requests the whole history of a channel, and reads nothing."""

    def run(port: int, seconds: float, connections: int) -> None:
        epoch = call(port, "history", {"channel": "h"})["result"]["epoch"]
        sockets = [connect(port) for _ in range(connections)]
        for sock in sockets:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            if websocket:
                handshake(sock, request(epoch))
            else:
                sock.sendall(f"GET {request(epoch)} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        time.sleep(seconds)

    return run


def silent_subscribe(port: int, seconds: float, connections: int) -> None:
    """Recover a Centrifuge channel from its beginning, and read nothing."""
    sockets = [connect(port) for _ in range(connections)]
    for sock in sockets:
        handshake(sock, CENTRIFUGE)
        recover = {"id": 2, "subscribe": {"channel": "h", "recover": True, "offset": 0}}
        sock.sendall(mask("\n".join(map(json.dumps, ({"id": 1, "connect": {}}, recover))).encode()))
    time.sleep(seconds)


def call(port: int, method: str, parameters: object) -> dict[str, dict[str, str]]:
    """Call a method of the HTTP API; returns the decoded response."""
    url, body = f"http://127.0.0.1:{port}/api/{method}", json.dumps(parameters).encode()
    with urllib.request.urlopen(urllib.request.Request(url, body, {"X-API-Key": KEY}), timeout=30) as response:
        answer: dict[str, dict[str, str]] = json.load(response)
        return answer


def fill(count: int) -> Callable[[int], None]:
    """Return a preparation that publishes `count` texts of 8 kB to the channel `h`."""

    def prepare(port: int) -> None:
        publish = {"publish": {"channel": "h", "data": "x" * 8000}}
        for _ in range(count // 7):
            call(port, "batch", {"commands": [publish] * 7})

    return prepare


_members: list[socket.socket] = []


def gather(port: int) -> None:
    """Subscribe 1000 clients to the channel `room`."""
    for _ in range(1000):
        sock = connect(port)
        handshake(sock, CENTRIFUGE)
        sock.sendall(mask(b'{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"room"}}'))
        while b'"subscribe"' not in sock.recv(READ):
            pass
        _members.append(sock)


def _get(path: str, key: str = "") -> bytes:
    method, more = ("POST", f"X-API-Key: {key}\r\n") if key else ("GET", "")
    return f"{method} {path} HTTP/1.1\r\nHost: a\r\n{more}\r\n".encode()


_PUBLISH = b'{"channel":"c","data":"x"}'
_POST = b"POST /api/publish HTTP/1.1\r\nHost: a\r\nX-API-Key: %s\r\nContent-Length: %d\r\n\r\n%s" % (
    KEY.encode(),
    len(_PUBLISH),
    _PUBLISH,
)

ATTACKS = [
    Attack("pipelined GET /ready", 1, pipelined(_get("/ready"))),
    Attack("pipelined GET /ready", 20, pipelined(_get("/ready"))),
    Attack("pipelined GET of a page file", 20, pipelined(_get("/main.js"))),
    Attack("pipelined 404", 20, pipelined(_get("/nothing"))),
    Attack("API with a wrong key", 1, pipelined(_get("/api/info", "wrong"))),
    Attack("API with a wrong key", 20, pipelined(_get("/api/info", "wrong"))),
    Attack("API publish", 20, pipelined(_POST)),
    Attack("API info", 20, pipelined(_get("/api/info", KEY))),
    Attack("refused handshakes, new connections", 20, refused_handshakes),
    Attack(
        "Centrifuge: 900 history of 100 x 8 kB in a frame",
        1,
        commands(900, {"history": {"channel": "h", "limit": 100}}, channel="h"),
        fill(105),
        HISTORY,
    ),
    Attack(
        "Centrifuge: 900 history of 100 x 8 kB in a frame",
        20,
        commands(900, {"history": {"channel": "h", "limit": 100}}, channel="h"),
        fill(105),
        HISTORY,
    ),
    Attack(
        "Centrifuge: 1000 presence of 1001 clients in a frame",
        1,
        commands(1000, {"presence": {"channel": "room"}}, channel="room"),
        gather,
        HISTORY,
    ),
    Attack(
        "Centrifuge: 1000 presence of 1001 clients in a frame",
        20,
        commands(1000, {"presence": {"channel": "room"}}, channel="room"),
        gather,
        HISTORY,
    ),
    Attack(
        "Centrifuge: 1000 empty history in a frame",
        1,
        commands(1000, {"history": {"channel": "c", "limit": 10}}, channel="c"),
        options=HISTORY,
    ),
    Attack(
        "Centrifuge: 1000 empty history in a frame",
        20,
        commands(1000, {"history": {"channel": "c", "limit": 10}}, channel="c"),
        options=HISTORY,
    ),
    Attack("Centrifuge: 1000 rpc in a frame", 1, commands(1000, {"rpc": {"method": "x"}})),
    Attack("Centrifuge: 1000 rpc in a frame", 20, commands(1000, {"rpc": {"method": "x"}})),
    Attack("Centrifuge recovery, reads nothing", 10, silent_subscribe, fill(4000), HISTORY),
    Attack(
        "raw recovery, reads nothing",
        10,
        silent_recovery(lambda epoch: f"/ws?channel=h&last_event_id={epoch}:0", websocket=True),
        fill(4000),
        HISTORY,
    ),
    Attack(
        "SSE recovery, reads nothing",
        10,
        silent_recovery(lambda epoch: f"/sse?channel=h&last_event_id={epoch}:0", websocket=False),
        fill(4000),
        HISTORY,
    ),
    Attack("whoami flood", 1, whoami),
    Attack("whoami flood", 20, whoami),
]
