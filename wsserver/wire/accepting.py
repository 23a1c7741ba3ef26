"""
Accept the connections of a listening port.

Twisted's ports accept with `socket.accept`, which makes two enumeration members for each connection. That takes as long
as the system call.

Private names that are used here: `socket._accept` of Python, and `Port._buildAddr` of Twisted. A test fails when one of
them changes.
"""

import socket
from typing import Any

from twisted.logger import Logger

__all__ = ["accept_connections"]

_log = Logger(namespace="wsserver.accepting")

MORE = 20
"""Number of further connections that a port accepts in the next turn of the reactor if it has reached its limit."""


def accept_connections(port: Any) -> None:
    """
    Accept the connections that wait, at most `port.numberAccepts`, which is adapted to their number; as Twisted does.

    Args:
        port: one of Twisted's TCP or UNIX ports.
    """
    listener, most, accepted = port.socket, port.numberAccepts, 0
    family, kind, number = int(listener.family), int(listener.type), listener.proto
    try:
        while accepted < most:
            try:
                descriptor, client = listener._accept()  # noqa: SLF001
            except BlockingIOError:
                break
            except OSError:
                # Twisted's method meets the same error, and handles it, e.g. too many open files.
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
