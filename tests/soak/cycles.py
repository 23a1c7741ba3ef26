"""
Connect, echo one message, and close, many times: in one of four closing styles, with several connections at a time.

Runs in a process of its own, so that the load uses one core and the server the other.
"""

import argparse
import itertools
import json
import select
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

# Under pytest, pyproject.toml adds this path.
sys.path.append(str(Path(__file__).resolve().parents[1] / "support"))

from peers import CLOSE, TEXT, close_payload, frame, handshake_request

__all__ = ["STYLES", "Cycles"]

STYLES = ("client", "server", "fin", "reset")
"""
Who closes, and how: the client with a Close frame, the server with a Close frame (command `bye`), the client with a FIN
and without a Close frame, the client with a TCP reset.
"""

AT_ONCE = 32
SECONDS_WITHOUT_PROGRESS = 10.0
ADDRESSES = 16
"""Number of source addresses: each has its own ports, of which TIME_WAIT blocks many."""

_HANDSHAKE = {True: handshake_request("/ws"), False: handshake_request("/echo")}
_MESSAGE, _ECHO = frame(TEXT, b"soak " * 12), b"\x81\x3c" + b"soak " * 12
_BYE = frame(TEXT, b"bye")
_CLOSE, _CLOSED = frame(CLOSE, close_payload(1000)), b"\x88\x02\x03\xe8"
_RESET = struct.pack("ii", 1, 0)


class FailedCycleError(Exception):
    """The server did not answer as expected; the message says what it sent."""


@dataclass(slots=True)
class _Connection:
    socket: socket.socket
    style: str
    read: bytes = b""
    step: Callable[["_Connection"], Callable[..., object] | None] | None = None


@dataclass
class Cycles:
    """
    The cycles of one process.

    Args:
        port: the server's port on 127.0.0.1.
        count: number of cycles.
        at_once: number of connections that are open at the same time.
    """

    port: int
    count: int
    at_once: int = AT_ONCE
    done: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STYLES, 0))
    _poller: select.epoll = field(default_factory=select.epoll)
    _open: dict[int, _Connection] = field(default_factory=dict)
    _styles: Iterator[str] = field(default_factory=lambda: itertools.cycle(STYLES))
    _started: int = 0

    def run(self) -> None:
        """
        Run all cycles.

        Raises:
            FailedCycleError: the server sent something else than expected, or nothing.
        """
        while self._started < self.count or self._open:
            while self._started < self.count and len(self._open) < self.at_once:
                self._connect()
            events = self._poller.poll(SECONDS_WITHOUT_PROGRESS)
            if not events:
                raise FailedCycleError(f"no data on {len(self._open)} connections")
            for descriptor, _ in events:
                self._advance(self._open[descriptor])

    def _connect(self) -> None:
        sock = socket.socket()
        sock.bind((f"127.0.0.{2 + self._started % ADDRESSES}", 0))
        sock.connect(("127.0.0.1", self.port))
        connection = _Connection(sock, next(self._styles), step=self._opened)
        sock.sendall(_HANDSHAKE[connection.style == "server"])
        self._open[sock.fileno()] = connection
        self._poller.register(sock.fileno(), select.EPOLLIN)
        self._started += 1

    def _advance(self, connection: _Connection) -> None:
        data = connection.socket.recv(4096)
        connection.read += data
        if not data and connection.step != self._ended:
            raise FailedCycleError(f"closing style {connection.style}: closed after {connection.read!r}")
        connection.step = connection.step(connection)
        if connection.step is None:
            self._finish(connection)

    # Each step looks at what has been read, and returns the next step; None at the end.

    def _opened(self, connection: _Connection) -> Callable[..., object] | None:
        if not connection.read.endswith(b"\r\n\r\n"):
            return self._opened
        if not connection.read.startswith(b"HTTP/1.1 101 "):
            raise FailedCycleError(f"refused: {connection.read!r}")
        connection.read = b""
        connection.socket.sendall(_MESSAGE)
        return self._echoed

    def _echoed(self, connection: _Connection) -> Callable[..., object] | None:
        if len(connection.read) < len(_ECHO):
            return self._echoed
        self._expect(connection, _ECHO)
        if connection.style == "client":
            connection.socket.sendall(_CLOSE)
            return self._closed
        if connection.style == "server":
            connection.socket.sendall(_BYE)
            return self._said_bye
        return None

    def _said_bye(self, connection: _Connection) -> Callable[..., object] | None:
        # The server may greet before it closes.
        head = connection.read[:2]
        if len(head) < 2 or len(connection.read) < 2 + head[1]:
            return self._said_bye
        if head[0] != 0x88:
            connection.read = connection.read[2 + head[1] :]
            return self._said_bye(connection)
        connection.read = b""
        connection.socket.sendall(_CLOSE)
        return self._ended

    def _closed(self, connection: _Connection) -> Callable[..., object] | None:
        if len(connection.read) < len(_CLOSED):
            return self._closed
        self._expect(connection, _CLOSED)
        return self._ended

    def _ended(self, connection: _Connection) -> Callable[..., object] | None:
        self._expect(connection, b"")
        return None

    def _expect(self, connection: _Connection, expected: bytes) -> None:
        if connection.read != expected:
            raise FailedCycleError(f"closing style {connection.style}: {connection.read!r} instead of {expected!r}")
        connection.read = b""

    def _finish(self, connection: _Connection) -> None:
        self.done[connection.style] += 1
        del self._open[connection.socket.fileno()]
        if connection.style == "reset":
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        connection.socket.close()


def main() -> None:
    """Run cycles against a port, and print the figures as JSON."""
    parser = argparse.ArgumentParser(description="Connect, echo and close, many times.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--count", type=int, required=True)
    options = parser.parse_args()
    cycles, began = Cycles(options.port, options.count), time.monotonic()
    try:
        cycles.run()
    except (FailedCycleError, OSError) as error:
        sys.exit(f"cycles: {error}")
    print(json.dumps({"styles": cycles.done, "seconds": time.monotonic() - began}))


if __name__ == "__main__":
    main()
