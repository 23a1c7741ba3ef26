"""
Good clients: 100 connections that send 10 messages a second each, and wait for the echoes.

They run in a process of their own. Each client has a source address of its own (127.1.0.1 and so on), so that limits
per address that stop an attacker do not concern them.
"""

import multiprocessing
import select
import socket
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Self

from cores import CLIENT_CORE, place
from peers import TEXT, frame, handshake_request

__all__ = ["GoodClients", "Service"]

CLIENTS = 100
INTERVAL = 0.1
SIZE = 64
LATE = 0.050
"""Seconds after which an echo that is still missing at the end of a window counts with the time waited so far."""

FINISH = 5.0
"""Seconds in which the last echoes must arrive."""


@dataclass(frozen=True)
class Service:
    """What the good clients got in a window of time."""

    sent: int
    answered: int
    disconnected: int
    p50: float
    p99: float
    longest: float
    """The longest time from a message to its echo, in seconds."""


class _Client:
    """A connection with its messages that are not answered yet."""

    def __init__(self, port: int, number: int, path: str) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind((f"127.1.{number // 250}.{number % 250 + 1}", 0))
        self.socket.settimeout(30)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(handshake_request(path))
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = self.socket.recv(1)
            if not byte:
                raise ConnectionError(f"a good client was refused: {head!r}")
            head += byte
        if b" 101 " not in head[:16]:
            raise ConnectionError(f"a good client was refused: {head!r}")
        self.socket.setblocking(False)
        self.sent: list[float] = []
        self.partial = 0


class _Loop:
    """The process of the good clients."""

    def __init__(self, port: int, count: int, path: str, orders: Connection) -> None:
        self._orders = orders
        self._clients = {}
        for number in range(count):
            client = _Client(port, number, path)
            self._clients[client.socket.fileno()] = client
        self._message = frame(TEXT, b"x" * SIZE)
        self._poller = select.epoll()
        for number in (*self._clients, orders.fileno()):
            self._poller.register(number, select.EPOLLIN)
        self._sent = self._answered = self._disconnected = 0
        self._begin()

    def _begin(self) -> None:
        self._times: list[float] = []
        self._sent_before, self._answered_before = self._sent, self._answered

    def run(self) -> None:
        """Send and receive until the order to stop comes."""
        begin = time.perf_counter()
        count = len(self._clients)
        due = [(begin + INTERVAL * number / count, fd) for number, fd in enumerate(self._clients)]
        position = 0
        while True:
            now = time.perf_counter()
            while due[position][0] <= now:
                when, fd = due[position]
                self._send(fd)
                # After a pause of the whole process, do not catch up.
                due[position] = (max(when + INTERVAL, now), fd)
                position = (position + 1) % count
            if not self._serve(due[position][0] - time.perf_counter()):
                return

    def _serve(self, seconds: float) -> bool:
        for fd, _ in self._poller.poll(max(0.0, seconds)):
            if fd == self._orders.fileno():
                if not self._obey(self._orders.recv()):
                    return False
            else:
                self._receive(fd)
        return True

    def _obey(self, order: str) -> bool:
        if order == "begin":
            self._begin()
            self._orders.send(None)
        elif order == "end":
            self._orders.send(self._service())
        elif order == "stop":
            end = time.perf_counter() + FINISH
            while any(client.sent for client in self._clients.values()) and time.perf_counter() < end:
                for fd, _ in self._poller.poll(0.1):
                    if fd != self._orders.fileno():
                        self._receive(fd)
            missing = sum(len(client.sent) for client in self._clients.values())
            self._orders.send((missing, self._disconnected))
            return False
        return True

    def _send(self, fd: int) -> None:
        client = self._clients[fd]
        if client.socket.fileno() < 0:
            return
        try:
            if client.socket.send(self._message) < len(self._message):
                raise ConnectionError("a good client cannot send: its socket is full")
        except OSError:
            self._drop(fd)
            return
        client.sent.append(time.perf_counter())
        self._sent += 1

    def _receive(self, fd: int) -> None:
        client = self._clients[fd]
        try:
            data = client.socket.recv(65536)
        except OSError:
            data = b""
        if not data:
            self._drop(fd)
            return
        count, client.partial = divmod(client.partial + len(data), SIZE + 2)
        now = time.perf_counter()
        self._times += [now - sent for sent in client.sent[:count]]
        self._answered += count
        del client.sent[:count]

    def _drop(self, fd: int) -> None:
        self._poller.unregister(fd)
        self._clients[fd].socket.close()
        self._disconnected += 1

    def _service(self) -> Service:
        now = time.perf_counter()
        waiting = [now - sent for client in self._clients.values() for sent in client.sent if now - sent > LATE]
        times = sorted(self._times + waiting) or [float("inf")]
        p50, p99, longest = (times[int((len(times) - 1) * part)] for part in (0.5, 0.99, 1.0))
        sent, answered = self._sent - self._sent_before, self._answered - self._answered_before
        return Service(sent, answered, self._disconnected, p50, p99, longest)


def _run(port: int, count: int, path: str, orders: Connection) -> None:
    place(CLIENT_CORE, prefer=True)
    loop = _Loop(port, count, path, orders)
    orders.send("ready")
    loop.run()


class GoodClients:
    """
    The process of the good clients; it ends with the `with` block.

    Args:
        port: the port of the server.
        count: the number of clients.
        path: the path that echoes.
    """

    def __init__(self, port: int, *, count: int = CLIENTS, path: str = "/echo") -> None:
        self._orders, theirs = multiprocessing.Pipe()
        context: Any = multiprocessing.get_context("fork")
        self.process = context.Process(target=_run, args=(port, count, path, theirs), daemon=True)
        self.process.start()
        theirs.close()
        assert self._answer() == "ready"
        self._ended: tuple[int, int] | None = None

    def _answer(self) -> Any:
        assert self._orders.poll(60), "the good clients do not respond"
        return self._orders.recv()

    def begin(self) -> None:
        """Start a window."""
        self._orders.send("begin")
        self._answer()

    def end(self) -> Service:
        """End the window; return what the clients got since its start."""
        self._orders.send("end")
        answer: Service = self._answer()
        return answer

    def window(self, seconds: float) -> Service:
        """Return what the clients get in some seconds."""
        self.begin()
        time.sleep(seconds)
        return self.end()

    def finish(self) -> tuple[int, int]:
        """Stop sending, and wait for the last echoes; return the numbers of lost echoes and of lost connections."""
        if self._ended is None:
            self._orders.send("stop")
            self._ended = self._answer()
        return self._ended

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *about: object) -> None:
        self._orders.close()
        self.process.join(1)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
