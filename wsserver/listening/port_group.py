"""A group of ports: the public ports of a server, or those of its admin endpoints."""

from collections.abc import Sequence
from typing import Any

from twisted.internet.interfaces import IListeningPort

from wsserver.listening.ports import Listener, is_loopback
from wsserver.wire.accepting import AcceptGate
from wsserver.wire.frontend import FrontendFactory
from wsserver.wire.poller import Poller
from wsserver.wire.transport import adopt

__all__ = ["PortGroup"]


class PortGroup:
    """
    Ports that serve the same clients. They are opened, paused and closed together.

    Args:
        listeners: what to listen on, in the order of the options.
        factory: builds the protocols of accepted connections.
        gate: pauses and resumes accepting on these ports.
    """

    def __init__(self, listeners: Sequence[Listener], factory: FrontendFactory, gate: AcceptGate) -> None:
        self._listeners = listeners
        self._factory = factory
        self._gate = gate
        self._poller: Poller | None = None
        self.ports: list[IListeningPort] = []
        """The open ports, in the order of the listeners; without those of `open_again`."""

    @property
    def loopback_only(self) -> bool:
        """Whether only this machine can reach the ports."""
        return all(is_loopback(port) for port in self.ports)

    def open(self) -> None:
        """
        Open the ports. The caller calls `close` if this fails.

        Raises:
            ListenError: the server cannot listen on an address.
        """
        for listener in self._listeners:
            self.ports.append(listener.open(self._factory))

    def accept(self, poller: Poller | None) -> None:
        """
        Accept connections with the poller instead of Twisted's reactor.

        Args:
            poller: watches the connections; None to leave that, and accepting, to Twisted.
        """
        self._poller = poller
        for port in self.ports:
            self._watch(port)

    def open_again(self, index: int) -> IListeningPort:
        """
        Listen with a listener once more: it listens on another inherited socket now.

        Args:
            index: the index of the listener in the group.

        Returns:
            The listening port, which the caller closes.

        Raises:
            ListenError: the server cannot listen on the socket.
        """
        port = self._listeners[index].open(self._factory)
        self._watch(port)
        return port

    def close(self) -> "list[Any]":
        """
        Close the ports.

        Returns:
            For each port what its `stopListening` returned: None, or a Deferred that fires when the port is closed.
        """
        ports, self.ports = self.ports, []
        self._gate.clear()
        return [port.stopListening() for port in ports]

    def _watch(self, port: IListeningPort) -> None:
        if self._poller is not None:
            adopt(port, self._poller, self._gate)
        self._gate.add(port)
