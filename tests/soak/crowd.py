"""
Many idle WebSocket connections from one process: it opens them, answers the pings, and closes them when told to.

    python tests/soak/crowd.py --port N --connections N [--tls] [--deflate] [--at-once N]

It prints the time of each opening handshake as JSON, then waits until its standard input is closed, and prints the
number of pings that it has answered.
"""

import argparse
import errno
import json
import select
import socket
import ssl
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

# Under pytest, pyproject.toml adds this path.
sys.path.append(str(Path(__file__).resolve().parents[1] / "support"))

from peers import PONG, TEXT, deflated, frame, handshake_request

__all__ = ["Crowd", "CrowdError"]

ADDRESSES = 16
"""Number of source addresses: each has its own ports."""

SECONDS = 120.0
"""Maximum time until all connections are open."""

_DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
_MESSAGE = b"a message that is compressed, " * 20


class CrowdError(Exception):
    """A connection was refused or closed; the message says which answer came."""


@dataclass(slots=True)
class _Member:
    socket: socket.socket
    began: float
    read: bytes = b""
    sent: bool = False
    is_open: bool = False


@dataclass
class Crowd:
    """
    The connections.

    Args:
        port: the server's port on 127.0.0.1.
        tls: whether the server expects TLS; its certificate is not checked.
        deflate: whether to offer compression, and to echo one compressed message on each connection.
    """

    port: int
    tls: bool = False
    deflate: bool = False
    times: list[float] = field(default_factory=list)
    """Seconds from the start of each connection until its opening handshake was complete."""
    pings: int = 0
    _members: dict[int, _Member] = field(default_factory=dict)
    _poller: select.epoll = field(default_factory=select.epoll)
    _context: ssl.SSLContext = field(default_factory=ssl._create_unverified_context)
    _pending: int = 0

    def open(self, count: int, at_once: int) -> None:
        """
        Open connections.

        Args:
            count: number of connections.
            at_once: maximum number of connections whose handshake is not complete.

        Raises:
            CrowdError: a connection was refused, or not all were open after `SECONDS`.
        """
        end = time.monotonic() + SECONDS
        while len(self.times) < count:
            while len(self._members) < count and self._pending < at_once:
                self._connect()
            self._serve(0.05)
            if time.monotonic() > end:
                raise CrowdError(f"{len(self.times)} of {count} connections were open after {SECONDS:g} s")

    def hold(self, until: Callable[[], bool]) -> None:
        """Answer pings until a condition is true."""
        while not until():
            self._serve(0.2)

    def close(self) -> None:
        """Close all connections, with a FIN."""
        for member in self._members.values():
            member.socket.close()
        self._members.clear()
        self._poller.close()

    def _connect(self) -> None:
        sock = socket.socket()
        sock.bind((f"127.0.0.{2 + len(self._members) % ADDRESSES}", 0))
        began = time.monotonic()
        if self.tls:
            # The handshake of TLS blocks: one connection after the other.
            sock.connect(("127.0.0.1", self.port))
            sock = self._context.wrap_socket(sock)
            sock.setblocking(False)
        else:
            sock.setblocking(False)
            code = sock.connect_ex(("127.0.0.1", self.port))
            if code not in (0, errno.EINPROGRESS):
                raise CrowdError(f"connect: {errno.errorcode[code]}")
        self._members[sock.fileno()] = _Member(sock, began)
        self._poller.register(sock.fileno(), select.EPOLLIN | select.EPOLLOUT)
        self._pending += 1

    def _serve(self, seconds: float) -> None:
        for descriptor, events in self._poller.poll(seconds):
            member = self._members[descriptor]
            if events & select.EPOLLOUT and not member.sent:
                member.socket.send(handshake_request("/echo", *([_DEFLATE] if self.deflate else [])))
                member.sent = True
                self._poller.modify(descriptor, select.EPOLLIN)
            if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                self._read(member)

    def _read(self, member: _Member) -> None:
        try:
            data = member.socket.recv(65536)
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except OSError as error:
            raise CrowdError(f"{error} after {member.read!r}") from None
        if not data:
            raise CrowdError(f"closed after {member.read!r}")
        member.read += data
        if member.is_open:
            self._answer(member)
        elif b"\r\n\r\n" in member.read:
            self._opened(member)

    def _opened(self, member: _Member) -> None:
        head, _, member.read = member.read.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101 "):
            raise CrowdError(f"refused: {head!r}")
        member.is_open = True
        self.times.append(time.monotonic() - member.began)
        self._pending -= 1
        if self.deflate:
            if b"permessage-deflate" not in head:
                raise CrowdError(f"not compressed: {head!r}")
            member.socket.send(frame(TEXT, deflated(_MESSAGE), rsv=4))

    def _answer(self, member: _Member) -> None:
        # All frames that an idle connection gets are short.
        while len(member.read) >= 2 and len(member.read) >= 2 + member.read[1]:
            first, length = member.read[:2]
            payload, member.read = member.read[2 : 2 + length], member.read[2 + length :]
            if first == 0x89:
                member.socket.send(frame(PONG, payload))
                self.pings += 1
            elif first & 0x0F == 0x08:
                raise CrowdError(f"closed by the server: {payload!r}")


def main() -> None:
    """Open the connections, and hold them until the standard input is closed."""
    parser = argparse.ArgumentParser(description="Hold many idle WebSocket connections.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--at-once", type=int, default=200, help="handshakes at the same time (default: %(default)s)")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--deflate", action="store_true")
    options = parser.parse_args()
    crowd = Crowd(options.port, options.tls, options.deflate)
    try:
        crowd.open(options.connections, options.at_once)
        print(json.dumps(sorted(crowd.times)), flush=True)
        crowd.hold(lambda: bool(select.select([sys.stdin], [], [], 0)[0]))
        print(json.dumps({"pings": crowd.pings}), flush=True)
    except CrowdError as error:
        sys.exit(f"crowd: {error}")
    finally:
        crowd.close()


if __name__ == "__main__":
    main()
