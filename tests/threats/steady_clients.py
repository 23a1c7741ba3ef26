"""Clients that connect at a steady rate, exchange a message and close. They leave most of the processor to others."""

import contextlib
import select
import socket
import time
from dataclasses import dataclass, field
from multiprocessing.synchronize import Event

from peers import CLOSE, TEXT, close_payload, frame, handshake_request

__all__ = ["Report", "connect_steadily"]

SOURCES = 50
"""Number of source addresses: the server limits the connections of each per second."""

TIMEOUT = 10.0
"""Seconds until a connection without an echo counts as failed."""

_HANDSHAKE, _MESSAGE = handshake_request("/echo"), frame(TEXT, b"steady")
_ECHO, _CLOSE = b"\x81\x06steady", frame(CLOSE, close_payload(1000))


@dataclass
class Report:
    """What has happened to the clients."""

    seconds: float = 0.0
    started: int = 0
    served: int = 0
    """Number of connections that got their echo."""
    longest: float = 0.0
    """The longest time in seconds from a connect to its echo."""
    failed: list[str] = field(default_factory=list)


class _Client:
    def __init__(self, port: int, number: int) -> None:
        self.began = time.monotonic()
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.bind((f"127.7.{number % SOURCES}.1", 0))
        self.socket.connect_ex(("127.0.0.1", port))
        self.step = "connect"
        self.read = b""

    def on_ready(self) -> bool:
        """Take the next step; return whether the client has got its echo and the server has closed."""
        if self.step == "connect":
            error = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                raise OSError(error, "connect")
            self.socket.send(_HANDSHAKE)
            self.step = "open"
            return False
        data = self.socket.recv(4096)
        self.read += data
        if self.step == "open" and self.read.endswith(b"\r\n\r\n"):
            if not self.read.startswith(b"HTTP/1.1 101 "):
                raise OSError(f"refused: {self.read!r}")
            self.socket.send(_MESSAGE)
            self.step, self.read = "echo", b""
        elif self.step == "echo" and self.read == _ECHO:
            self.socket.send(_CLOSE)
            self.step = "close"
            return True
        elif not data:
            raise OSError(f"the connection ended in the step {self.step!r} after {self.read!r}")
        return False


def connect_steadily(port: int, rate: float, end: Event) -> Report:
    """
    Start a number of connections per second, until an event is set; wait for the echoes of all.

    Args:
        port: the server's port on 127.0.0.1.
        rate: connections per second.
        end: ends it.
    """
    report, poller, clients = Report(), select.epoll(), dict[int, _Client]()
    began = time.monotonic()
    while clients or not end.is_set():
        now = time.monotonic()
        if not end.is_set():
            report.seconds = now - began
            for _ in range(int(report.seconds * rate) - report.started):
                client = _Client(port, report.started)
                report.started += 1
                clients[client.socket.fileno()] = client
                poller.register(client.socket, select.EPOLLOUT)
        for descriptor, _ in poller.poll(0.001):
            _step(descriptor, clients, poller, report)
        for descriptor in [one for one, client in clients.items() if now - client.began > TIMEOUT]:
            report.failed.append(f"not finished in time, in the step {clients[descriptor].step!r}")
            clients.pop(descriptor).socket.close()
    return report


def _step(descriptor: int, clients: dict[int, _Client], poller: select.epoll, report: Report) -> None:
    client = clients[descriptor]
    try:
        is_served = client.on_ready()
    except OSError as error:
        if client.step != "close":
            report.failed.append(f"{client.step}: {error!r}")
        clients.pop(descriptor).socket.close()
        return
    with contextlib.suppress(OSError):
        poller.modify(descriptor, select.EPOLLIN)
    if is_served:
        report.served += 1
        report.longest = max(report.longest, time.monotonic() - client.began)
