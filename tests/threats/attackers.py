"""
Attackers: small programs that connect to a port on loopback, with limited connections and time.

`Attacker` runs a function in a process of its own, on the core of the clients and with a lower priority than that of
the good clients.
"""

import contextlib
import multiprocessing
import select
import socket
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any, Self

from cores import CLIENT_CORE, place
from peers import CLOSE, handshake_request

__all__ = ["Attacker", "Endings", "connect", "flood", "masked", "open_all", "open_websocket", "read_endings", "reopen"]

READ = 1024 * 1024
ZERO_KEY = bytes(4)


class AttackError(Exception):
    """An attack raised an exception; the text has its traceback."""


class Attacker:
    """
    A function that runs in a process of its own, until the end of the `with` block at the latest.

    Args:
        function: the attack; its result can be read with `result`.
        arguments: its arguments.
    """

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._results, theirs = multiprocessing.Pipe()
        context: Any = multiprocessing.get_context("fork")
        self.process = context.Process(target=self._run, args=(theirs, function, arguments), daemon=True)
        self.process.start()
        theirs.close()

    @staticmethod
    def _run(results: Any, function: Callable[..., Any], arguments: Sequence[Any]) -> None:
        place(CLIENT_CORE)
        try:
            results.send(function(*arguments))
        except Exception:
            results.send(AttackError(traceback.format_exc()))

    @property
    def has_ended(self) -> bool:
        """Whether the attack is over."""
        return self._results.poll() or not self.process.is_alive()

    def result(self, timeout: float = 120.0) -> Any:
        """Wait for the end of the attack, and return its result."""
        assert self._results.poll(timeout), "the attack does not end"
        result = self._results.recv()
        if isinstance(result, AttackError):
            raise result
        return result

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *about: object) -> None:
        self._results.close()
        self.process.join(1)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def connect(port: int, *, receive_buffer: int | None = None, source: str = "") -> socket.socket:
    """Return a TCP connection to the server."""
    sock = socket.socket()
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    if source:
        sock.bind((source, 0))
    sock.settimeout(30)
    sock.connect(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def open_websocket(port: int, path: str = "/echo", *more: str, **options: Any) -> socket.socket:
    """Return an open WebSocket connection. Reads no further than the end of the response's head."""
    sock = connect(port, **options)
    sock.sendall(handshake_request(path, *more))
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        if not byte:
            break
        head += byte
    if b" 101 " not in head[:16]:
        raise ConnectionError(f"the server refused {path}: {head[:200]!r}")
    return sock


def open_all(port: int, count: int, path: str = "/echo", *more: str, **options: Any) -> list[socket.socket]:
    """Return open WebSocket connections."""
    return [open_websocket(port, path, *more, **options) for _ in range(count)]


def masked(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0) -> bytes:
    """Return a client's frame, masked with a key of zeros, so that its payload stays readable."""
    size = len(payload)
    first = fin << 7 | rsv << 4 | opcode
    if size < 126:
        return bytes([first, 0x80 | size]) + ZERO_KEY + payload
    if size < 65536:
        return bytes([first, 0xFE]) + size.to_bytes(2, "big") + ZERO_KEY + payload
    return bytes([first, 0xFF]) + size.to_bytes(8, "big") + ZERO_KEY + payload


class Endings:
    """How the connections of an attack ended."""

    def __init__(self) -> None:
        self.codes: list[int | None] = []
        """The close codes that the server sent; None for connections that ended without."""
        self.seconds: list[float] = []
        """The time from the start of the attack until each of them ended."""
        self.codes_of_open: list[int] = []
        """The close codes that the server sent on connections that had not ended yet when the attack ended."""
        self.sent = 0
        """The bytes that the attack has sent."""

    @property
    def count(self) -> int:
        """The number of connections that ended."""
        return len(self.codes)


def close_code(tail: bytes) -> int | None:
    """Return the code of a Close frame at the end of what a server sent, with a reason of any length; None if none."""
    for size in range(2, 126):
        at = len(tail) - size - 2
        if at >= 0 and tail[at] == 0x80 | CLOSE and tail[at + 1] == size:
            return int.from_bytes(tail[at + 2 : at + 4], "big")
    return None


def flood(
    sockets: Sequence[socket.socket], data: bytes, seconds: float, *, first: bytes = b"", read: bool = True
) -> Endings:
    """
    Send the same bytes repeatedly on all connections, as fast as possible.

    Args:
        sockets: the connections.
        data: the bytes.
        seconds: the duration. The flood ends earlier if all connections have ended.
        first: bytes to send once before.
        read: whether to read what the server sends.
    """
    endings, poller, rest, tails = Endings(), select.epoll(), {}, {}
    wanted = select.EPOLLOUT | (select.EPOLLIN if read else 0)
    for sock in sockets:
        sock.setblocking(False)
        rest[sock.fileno()], tails[sock.fileno()] = (sock, memoryview(first or data)), b""
        poller.register(sock.fileno(), wanted)
    begin = time.monotonic()
    while time.monotonic() < begin + seconds and rest:
        for fd, events in poller.poll(0.05):
            sock, left = rest[fd]
            try:
                if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                    got = sock.recv(READ)
                    if not got:
                        raise ConnectionError
                    tails[fd] = (tails[fd] + got)[-200:]
                if events & select.EPOLLOUT:
                    sent = sock.send(left)
                    endings.sent += sent
                    rest[fd] = (sock, left[sent:] or memoryview(data))
            except BlockingIOError:
                pass
            except OSError:
                with contextlib.suppress(OSError):
                    tails[fd] = (tails[fd] + sock.recv(READ))[-200:]
                poller.unregister(fd)
                del rest[fd]
                endings.codes.append(close_code(tails[fd]))
                endings.seconds.append(time.monotonic() - begin)
    endings.codes_of_open = [code for fd in rest if (code := close_code(tails[fd])) is not None]
    return endings


def read_endings(sockets: Sequence[socket.socket], seconds: float) -> Endings:
    """Read on all connections until they have ended, at most for some seconds."""
    endings, poller, rest, tails = Endings(), select.epoll(), {}, {}
    for sock in sockets:
        sock.setblocking(False)
        rest[sock.fileno()], tails[sock.fileno()] = sock, b""
        poller.register(sock.fileno(), select.EPOLLIN)
    begin = time.monotonic()
    while time.monotonic() < begin + seconds and rest:
        for fd, _ in poller.poll(0.05):
            try:
                got = rest[fd].recv(READ)
            except BlockingIOError:
                continue
            except OSError:
                got = b""
            if got:
                tails[fd] = (tails[fd] + got)[-200:]
                continue
            poller.unregister(fd)
            del rest[fd]
            endings.codes.append(close_code(tails[fd]))
            endings.seconds.append(time.monotonic() - begin)
    return endings


def reopen(port: int, request: bytes, until: bytes, seconds: float, connections: int) -> int:
    """
    Send a request on many connections, close each one once its response has begun, and open another in its place.

    Args:
        port: the port of the server.
        request: the request.
        until: the part of the response after which a connection is closed.
        seconds: the duration.
        connections: the number of connections at the same time.

    Returns:
        The number of responses that have begun.
    """
    poller, opened, count = select.epoll(), {}, 0

    def start() -> None:
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(("127.0.0.1", port))
        opened[sock.fileno()] = (sock, b"")
        poller.register(sock.fileno(), select.EPOLLOUT)

    for _ in range(connections):
        start()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for fd, events in poller.poll(0.05):
            sock, head = opened[fd]
            try:
                if events & select.EPOLLOUT:
                    sock.send(request)
                    poller.modify(fd, select.EPOLLIN)
                    continue
                got = sock.recv(READ)
            except OSError:
                got = b""
            if got and until not in head + got:
                opened[fd] = sock, head + got
                continue
            count += bool(got)
            poller.unregister(fd)
            del opened[fd]
            sock.close()
            start()
    return count
