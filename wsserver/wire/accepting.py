"""
Accept the connections of listening ports.

Twisted's ports accept with `socket.accept`, which makes two enumeration members for each connection. That takes as long
as the system call. And if the process has no descriptor left, they drop the clients that wait, and log a line for each.

Private names that are used here: `socket._accept` of Python, and `Port._buildAddr` of Twisted. A test fails when one of
them changes.
"""

import errno
import os
import socket
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from wsserver.logging import LINE
from wsserver.wire.arrival_rates import Throttle

__all__ = ["AcceptGate", "accept_connections"]

_log = Logger(namespace="wsserver.accepting")

MORE = 20
"""Number of further connections that a port accepts in the next turn of the reactor if it has reached its limit."""

SECONDS_PER_TURN = 0.005
"""Seconds after which a port accepts no further connection in the same turn of the reactor."""

EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
"""Errors of `accept` that mean that the process or the system has no descriptor or memory for another connection."""

EXHAUSTED_PAUSE = 0.5
"""Seconds for which the server accepts nothing after such an error, unless a connection closes earlier."""

LOG_INTERVAL = 10.0
"""Minimum seconds between two log lines about such errors."""


class AcceptGate:
    """
    Pauses and resumes accepting on all ports of a server. Clients then wait in the operating system's backlog.

    Args:
        reactor: provides the clock and the timer.
    """

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        self._ports: list[Any] = []
        self._timer: IDelayedCall | None = None
        self._errors = Throttle(LOG_INTERVAL)
        self.is_paused = False

    def seconds(self) -> float:
        """Return the time on the reactor's clock."""
        return float(self._reactor.seconds())

    @property
    def resumes_later(self) -> bool:
        """Whether accepting is paused, and a timer will resume it."""
        return self._timer is not None

    def add(self, port: Any) -> None:
        """Add a port of Twisted; other ports are never paused. Ports that have been closed meanwhile are removed."""
        self._ports = [one for one in self._ports if one.connected]
        if hasattr(port, "startReading") and hasattr(port, "stopReading"):
            self._ports.append(port)
            if self.is_paused:
                port.stopReading()

    def clear(self) -> None:
        """Remove all ports: they are closed."""
        self._ports.clear()
        self.resume()

    def pause(self, seconds: float | None = None) -> None:
        """
        Accept nothing.

        Args:
            seconds: when to resume by itself; None for never.
        """
        self._stop_timer()
        if seconds is not None:
            self._timer = self._reactor.callLater(seconds, self._resume_late)
        if not self.is_paused:
            self.is_paused = True
            for port in self._ports:
                port.stopReading()

    def resume(self) -> None:
        """Accept again."""
        self._stop_timer()
        if self.is_paused:
            self.is_paused = False
            for port in self._ports:
                if port.connected and not port.disconnecting:
                    port.startReading()

    def exhausted(self, error: OSError) -> None:
        """Pause for a short time: the process has no descriptor or memory for another connection."""
        self.pause(EXHAUSTED_PAUSE)
        suppressed = self._errors.take(self._reactor.seconds())
        if suppressed is not None:
            what = os.strerror(error.errno or 0)
            line = f"accepting paused reason={what!r} suppressed={suppressed}; see ulimit -n and --max-connections"
            _log.warn(LINE, line=line, reason=what, suppressed=suppressed)

    def _resume_late(self) -> None:
        self._timer = None
        self.resume()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def accept_connections(port: Any, gate: AcceptGate) -> None:
    """
    Accept the connections that wait, at most `port.numberAccepts`, which is adapted to their number; as Twisted does.

    Unlike Twisted, it also limits the time, because the number can become large.

    Args:
        port: one of Twisted's TCP or UNIX ports.
        gate: pauses accepting, also while this function runs.
    """
    listener, most, accepted = port.socket, port.numberAccepts, 0
    end = gate.seconds() + SECONDS_PER_TURN
    family, kind, number = int(listener.family), int(listener.type), listener.proto
    try:
        while accepted < most and not gate.is_paused and gate.seconds() < end:
            try:
                descriptor, client = listener._accept()  # noqa: SLF001
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno in EXHAUSTED:
                    gate.exhausted(error)
                    break
                # Twisted's method meets the same error, and handles it, e.g. a connection that was reset meanwhile.
                type(port).doRead(port)
                return
            accepted += 1
            sock = socket.socket(family, kind, number, descriptor)
            if family == socket.AF_INET6:
                # With the name of the network interface, which the address of the kernel does not contain.
                host, _ = socket.getnameinfo(client, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
                client = (host, *client[1:])
            _connect(port, sock, client)
    except Exception:
        _log.failure("accepting a connection failed")
    port.numberAccepts = most + MORE if accepted == most else max(1, accepted)


def _connect(port: Any, sock: socket.socket, client: Any) -> None:
    protocol = port.factory.buildProtocol(port._buildAddr(client))  # noqa: SLF001
    if protocol is None:
        sock.close()
        return
    number = port.sessionno
    port.sessionno = number + 1
    protocol.makeConnection(port.transport(sock, protocol, client, port, number, port.reactor))
