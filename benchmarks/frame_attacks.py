"""
Attacks with WebSocket frames: floods of small frames and fragments, pings, compressed and unfinished messages.

Like those in `attacks.py`, they have limited time and connections, and connect only to the given port on loopback.
"""

import base64
import json
import select
import socket
import time
import zlib
from collections.abc import Callable

from attacks import Attack, call, commands, connect, flood, handshake, mask

__all__ = ["FRAME_ATTACKS"]

SMALL = ["--max-message-size", "64KiB"]
COMPRESSION = ["--compression", "on", "--max-message-size", "1MiB"]


def frame(first: int, payload: bytes = b"") -> bytes:
    """Return a client's frame with the given first byte, masked with a key of zeros."""
    whole = mask(payload)
    return bytes([first]) + whole[1:]


def frames(data: bytes, *, path: str = "/echo", begin: bytes = b"") -> Callable[[int, float, int], None]:
    """Return an attack that repeatedly sends `data` on connections to `path`, and reads all responses."""

    def run(port: int, seconds: float, connections: int) -> None:
        sockets = [connect(port) for _ in range(connections)]
        for sock in sockets:
            handshake(sock, path)
            sock.sendall(begin)
        flood(sockets, data, seconds)

    return run


def silent(data: bytes, *, path: str = "/echo") -> Callable[[int, float, int], None]:
    """Return an attack that sends `data` as fast as possible, and reads nothing."""

    def run(port: int, seconds: float, connections: int) -> None:
        rest, poller = {}, select.epoll()
        for _ in range(connections):
            sock = connect(port)
            handshake(sock, path)
            sock.setblocking(False)
            rest[sock.fileno()] = (sock, memoryview(data))
            poller.register(sock.fileno(), select.EPOLLOUT)
        end = time.monotonic() + seconds
        while time.monotonic() < end and rest:
            for fd, _ in poller.poll(0.1):
                sock, left = rest[fd]
                try:
                    left = left[sock.send(left) :]
                    rest[fd] = (sock, left or memoryview(data))
                except BlockingIOError:
                    pass
                except OSError:
                    poller.unregister(fd)
                    del rest[fd]
        time.sleep(max(0.0, end - time.monotonic()))

    return run


def deflate_handshake(sock: socket.socket, path: str) -> None:
    """Open a WebSocket connection with permessage-deflate."""
    key = base64.b64encode(b"sixteen byte key").decode()
    sock.sendall(
        f"GET {path} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n".encode()
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += sock.recv(1)
    if b"permessage-deflate" not in head:
        raise RuntimeError(f"the server did not accept compression: {head!r}")


def deflated(payload: bytes) -> bytes:
    """Return a payload compressed as in permessage-deflate."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (stream.compress(payload) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]


def compressed(size: int, *, path: str = "/echo") -> Callable[[int, float, int], None]:
    """Return an attack that sends messages which inflate to `size` bytes, and reads all responses."""

    def run(port: int, seconds: float, connections: int) -> None:
        sockets = [connect(port) for _ in range(connections)]
        for sock in sockets:
            deflate_handshake(sock, path)
        flood(sockets, frame(0xC1, deflated(b"x" * size)) * 64, seconds)

    return run


def unfinished(size: int) -> Callable[[int, float, int], None]:
    """Return an attack that sends a fragment of `size` bytes and never ends the message."""

    def run(port: int, seconds: float, connections: int) -> None:
        sockets = []
        for _ in range(connections):
            sock = connect(port)
            handshake(sock, "/echo")
            try:
                sock.sendall(frame(0x01, b"x" * size))
            except OSError:
                continue
            sockets.append(sock)
        time.sleep(seconds)

    return run


def big_json(path: str, value: str) -> Callable[[int, float, int], None]:
    """Return an attack that sends Centrifuge commands with large data, and reads the replies."""
    command = b'{"id":3,"publish":{"channel":"c","data":' + value.encode() + b"}}"

    def run(port: int, seconds: float, connections: int) -> None:
        sockets = []
        for _ in range(connections):
            sock = connect(port)
            handshake(sock, path)
            sock.sendall(mask(b'{"id":1,"connect":{}}'))
            sockets.append(sock)
        flood(sockets, mask(command), seconds)

    return run


def api(method: str, body: object) -> Callable[[int, float, int], None]:
    """Return an attack of an application that calls an expensive method of the HTTP API on each connection."""
    encoded = json.dumps(body).encode()
    head = f"POST /api/{method} HTTP/1.1\r\nHost: a\r\nX-API-Key: key\r\nContent-Length: {len(encoded)}\r\n\r\n"

    def run(port: int, seconds: float, connections: int) -> None:
        flood([connect(port) for _ in range(connections)], head.encode() + encoded, seconds)

    return run


def reconnecting(request: str) -> Callable[[int, float, int], None]:
    """Return an attack that opens an event stream, reads its start, closes it, and begins again."""

    def run(port: int, seconds: float, connections: int) -> None:
        epoch = call(port, "history", {"channel": "h"})["result"]["epoch"]
        data = f"GET {request.format(epoch=epoch)} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            sockets = [connect(port) for _ in range(connections)]
            for sock in sockets:
                sock.sendall(data)
            for sock in sockets:
                sock.recv(65536)
                sock.close()

    return run


def fresh_channels(port: int, seconds: float, connections: int) -> None:
    """Connect clients which subscribe to 128 channels each that nobody else uses."""
    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        batch = []
        for _ in range(connections):
            sock = connect(port)
            handshake(sock, "/connection/websocket")
            lines = [{"id": 1, "connect": {}}]
            for index in range(128):
                number += 1
                lines.append({"id": 2 + index, "subscribe": {"channel": f"fresh{number}"}})
            sock.sendall(mask("\n".join(map(json.dumps, lines)).encode()))
            batch.append(sock)
        for sock in batch:
            sock.settimeout(2)
            try:
                read = 0
                while read < 128 * 20:
                    got = len(sock.recv(65536))
                    if not got:
                        break
                    read += got
            except OSError:
                pass
            sock.close()


CHANNELS = ["--channel-allow", "*"]
HISTORY = [*CHANNELS, "--history-size", "1000", "--history-ttl", "10m"]


def fill_small(port: int) -> None:
    """Publish 500 texts of 100 bytes to the channel `h`."""
    publish = {"publish": {"channel": "h", "data": "x" * 100}}
    for _ in range(5):
        call(port, "batch", {"commands": [publish] * 100})


FRAME_ATTACKS = [
    Attack("empty frames", 20, frames(frame(0x81) * 10000), options=SMALL),
    Attack("1-byte frames", 20, frames(frame(0x81, b"x") * 10000), options=SMALL),
    Attack("pings, reads", 20, frames(frame(0x89, b"x") * 10000), options=SMALL),
    Attack("pings, reads", 100, frames(frame(0x89, b"x") * 10000), options=SMALL),
    Attack("pings of 125 bytes, reads nothing", 20, silent(frame(0x89, b"x" * 125) * 2000), options=SMALL),
    Attack("pongs", 20, frames(frame(0x8A) * 10000), options=SMALL),
    Attack("pongs", 100, frames(frame(0x8A) * 10000), options=SMALL),
    Attack("empty fragments", 20, frames(frame(0x00) * 10000, begin=frame(0x01)), options=SMALL),
    Attack("empty fragments", 100, frames(frame(0x00) * 10000, begin=frame(0x01)), options=SMALL),
    Attack("1-byte fragments", 20, frames(frame(0x00, b"x") * 10000, begin=frame(0x01)), options=SMALL),
    Attack(
        "messages of 1000 fragments", 20, frames(frame(0x01) + frame(0x00, b"x") * 998 + frame(0x80)), options=SMALL
    ),
    Attack("echo of 64 KiB, reads nothing", 20, silent(frame(0x81, b"x" * 65536)), options=SMALL),
    Attack("unfinished 64 KiB", 200, unfinished(65535), options=SMALL),
    Attack("unfinished 1 MiB", 200, unfinished(1024 * 1024 - 1)),
    Attack("deflate 1 MiB of equal bytes", 1, compressed(1024 * 1024), options=COMPRESSION),
    Attack("deflate 1 MiB of equal bytes", 20, compressed(1024 * 1024), options=COMPRESSION),
    Attack("deflate 64 KiB of equal bytes", 20, compressed(65536), options=[*COMPRESSION[:2], *SMALL]),
    Attack("deflate bomb", 20, compressed(64 * 1024 * 1024), options=COMPRESSION),
    Attack("Centrifuge JSON of 1 MB: numbers", 1, big_json("/connection/websocket", "[" + "1," * 499_900 + "1]")),
    Attack("Centrifuge JSON of 1 MB: nested", 1, big_json("/connection/websocket", "[" + "[]," * 330_000 + "1]")),
    Attack("Centrifuge JSON of 1 MB: nested", 20, big_json("/connection/websocket", "[" + "[]," * 330_000 + "1]")),
    Attack(
        "API batch of 1000",
        1,
        api("batch", {"commands": [{"publish": {"channel": "c", "data": "x"}}] * 1000}),
        options=CHANNELS,
    ),
    Attack(
        "API batch of 1000, parallel",
        5,
        api("batch", {"parallel": True, "commands": [{"publish": {"channel": "c", "data": "x"}}] * 1000}),
        options=CHANNELS,
    ),
    Attack(
        "API broadcast to 1000",
        5,
        api("broadcast", {"channels": [f"c{number}" for number in range(1000)], "data": "x"}),
        options=CHANNELS,
    ),
    Attack("SSE reconnects", 20, reconnecting("/sse?channel=h&last_event_id={epoch}:0"), fill_small, HISTORY),
    Attack("fresh channels", 10, fresh_channels, options=CHANNELS),
    Attack("Centrifuge: empty commands", 20, commands(10000, {}), options=CHANNELS),
]
