"""
Listening sockets that several processes share: one process opens them, the others inherit their descriptors.

`SocketOpener` stands for the reactor in the process that opens them. A TCP port is opened once for each process, with
SO_REUSEPORT: the kernel then distributes the connections evenly, whereas processes that accept from one socket get very
different numbers of them. UNIX sockets, and sockets that systemd passes, exist once.

`InheritedSockets` gives the listeners of the other processes endpoints for these sockets.
"""

import errno
import os
import socket
from collections.abc import Sequence
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.abstract import isIPv6Address
from twisted.internet.defer import Deferred, execute
from twisted.internet.endpoints import AdoptedStreamServerEndpoint
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer

__all__ = ["InheritedSockets", "SocketOpener"]


class SocketOpener:
    """
    A reactor that opens each TCP port several times.

    Args:
        reactor: the reactor that opens the ports, and to which everything else is passed on.
        count: the number of processes.
    """

    def __init__(self, reactor: Any, count: int) -> None:
        self._reactor, self._count = reactor, count
        self.groups: list[list[IListeningPort]] = []
        """For each listener, the opened ports: one for each process, or a single one that all processes share."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenTCP(self, port: int, factory: IProtocolFactory, backlog: int = 50, interface: str = "") -> IListeningPort:
        """
        Open a TCP port `count` times.

        Raises:
            CannotListenError: the address cannot be used, or another program listens on it.
        """
        _refuse_taken(port, interface)
        group: list[IListeningPort] = []
        self.groups.append(group)
        for _ in range(self._count):
            binding = tcp.makeBinding(interface, port, reuseAddress=True, reusePort=True)
            opened = self._reactor.listenTCP(binding, factory, backlog, interface)
            group.append(opened)
            # If the system has chosen the port, the others get the same.
            port = opened.getHost().port
        return group[0]

    def listenUNIX(
        self, address: str, factory: IProtocolFactory, backlog: int = 50, mode: int = 0o666, wantPID: int = 0
    ) -> IListeningPort:
        """Open a UNIX socket, which all processes share."""
        port: IListeningPort = self._reactor.listenUNIX(address, factory, backlog, mode, wantPID)
        self.groups.append([port])
        return port

    def adoptStreamPort(self, descriptor: int, family: int, factory: IProtocolFactory) -> IListeningPort:  # noqa: ARG002
        """Adopt a socket that systemd has passed, which all processes share."""
        port = _adopt(self._reactor, descriptor, factory)
        self.groups.append([port])
        return port


def _refuse_taken(port: int, interface: str) -> None:
    # With SO_REUSEPORT a second server of the same user could listen on the port, and would get half of the clients.
    family = socket.AF_INET6 if isIPv6Address(interface) else socket.AF_INET
    try:
        address = socket.getaddrinfo(interface or None, port, family, socket.SOCK_STREAM, 0, socket.AI_PASSIVE)[0][4]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        # Opening the port reports all other errors.
        if error.errno == errno.EADDRINUSE:
            raise CannotListenError(interface, port, error) from None


class InheritedSockets:
    """
    The listening sockets that this process has inherited.

    Args:
        reactor: the reactor.
        descriptors: for each listener, in the order of the options, the descriptors of its sockets: one for each
            process, or a single one that all processes share.
        slot: the index of this process.
    """

    def __init__(self, reactor: Any, descriptors: Sequence[Sequence[int]], slot: int) -> None:
        self._reactor, self._descriptors = reactor, descriptors
        self.slot = slot
        """The index of the process whose sockets the endpoints open."""

    def __len__(self) -> int:
        """Return the number of listeners."""
        return len(self._descriptors)

    def close(self) -> None:
        """
        Close the descriptors: this process opens no further port.

        While any process has a descriptor of a listening socket, the system completes connections to it.
        """
        for descriptors in self._descriptors:
            for descriptor in descriptors:
                os.close(descriptor)
        self._descriptors = ()

    def is_shared(self, index: int) -> bool:
        """Return whether all processes share the socket of a listener."""
        return len(self._descriptors[index]) == 1

    def endpoint(self, index: int) -> IStreamServerEndpoint:
        """Return an endpoint that listens on the socket of a listener. It can be used several times."""
        return _InheritedEndpoint(self, index)

    def listen(self, index: int, factory: IProtocolFactory) -> IListeningPort:
        """Listen on the socket of a listener."""
        descriptors = self._descriptors[index]
        return _adopt(self._reactor, descriptors[self.slot] if len(descriptors) > 1 else descriptors[0], factory)


@implementer(IStreamServerEndpoint)
class _InheritedEndpoint:
    def __init__(self, sockets: InheritedSockets, index: int) -> None:
        self._sockets, self._index = sockets, index

    def listen(self, factory: IProtocolFactory) -> "Deferred[IListeningPort]":
        """Listen."""
        return execute(self._sockets.listen, self._index, factory)


def _adopt(reactor: Any, descriptor: int, factory: IProtocolFactory) -> IListeningPort:
    with socket.socket(fileno=os.dup(descriptor)) as sock:
        if sock.family == socket.AF_UNIX:
            port = _InheritedUNIXPort(sock, factory, reactor)
            port.startListening()
            return port
        # The endpoint closes the descriptor.
        found: list[Any] = []
        AdoptedStreamServerEndpoint(reactor, os.dup(descriptor), sock.family).listen(factory).addBoth(found.append)
    if isinstance(found[0], Failure):
        found[0].raiseException()
    return found[0]  # type: ignore[no-any-return]


class _InheritedSocket(socket.socket):
    def shutdown(self, how: int) -> None:
        """Do nothing: this would end the listening of all processes, not only of this one."""


class _InheritedUNIXPort(unix.Port):
    """
    A port on a UNIX socket that another process has bound.

    Twisted's own adoption of such a socket sets the permissions and the backlog of the file to its defaults, and
    deletes the file at the end.
    """

    def __init__(self, sock: socket.socket, factory: IProtocolFactory, reactor: Any) -> None:
        super().__init__(sock.getsockname(), factory, reactor=reactor)
        self.socket = _InheritedSocket(fileno=os.dup(sock.fileno()))
        self.socket.setblocking(False)

    def startListening(self) -> None:
        """Accept connections."""
        self.factory.doStart()  # type: ignore[union-attr]
        self.connected = True
        self.fileno = self.socket.fileno  # type: ignore[method-assign]
        self.numberAccepts = 100
        self.startReading()

    def connectionLost(self, reason: Failure) -> None:
        """Close the descriptor of this process, and leave the file."""
        tcp.Port.connectionLost(self, reason)
