"""
Identification: whose connection is it, and how do the limits per address apply to it?

The client is the connection's peer, unless a trusted proxy names another address: in a header of the PROXY protocol at
the beginning of the connection, or in a header of each request. Then the proxy itself has no limits, and a request that
lasts, such as an opening handshake, counts as a connection of its client.
"""

import contextlib
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Protocol

from wsserver.wire.access_log import show_peer
from wsserver.wire.addresses import address_key, is_local
from wsserver.wire.forwarded import ForwardedError
from wsserver.wire.http11 import Refusal, Request, bad_request

__all__ = ["IdentifiedConnection"]


class IdentifiedConnection(Protocol):
    """A mixin for the frontend: find the client's address, and count the connection towards the limits per address."""

    transport: Any
    _factory: Any
    """The `wsserver.wire.frontend.FrontendFactory`."""

    _awaits_address = False
    """Whether the peer's address is unknown, because a header of the PROXY protocol has not arrived."""
    _is_proxy = False
    """Whether the peer is a trusted proxy, so that the client's address may differ from request to request."""
    _counts_request = False
    """Whether the connection counts towards the limits of the client of the current request."""

    def _identify(self) -> Refusal | None:
        """
        Count the connection towards the limits of the peer's address, once that address is known.

        Returns:
            A refusal if the address has reached a limit.
        """
        names_client = getattr(self.transport, "names_client", False)
        self._awaits_address = names_client is None
        if self._awaits_address:
            return None
        peer = self.transport.getPeer()
        proxies = self._factory.proxies
        self._is_proxy = bool(proxies) and proxies.trusts(getattr(peer, "host", None))
        if self._is_proxy or (is_local(peer) and not names_client):
            return None
        key = address_key(peer)
        refusal: Refusal | None = self._factory.admission.count(self, key) if key is not None else None
        return refusal

    def _find_client(self, request: Request, *, lasts: bool) -> IAddress | Refusal:
        """
        Return the address of the client that has sent a request, or a refusal.

        Args:
            request: the request head.
            lasts: whether the response is a connection of its own, which counts towards the limits of the address.
        """
        peer: IAddress = self.transport.getPeer()
        if not self._is_proxy:
            return peer
        self._end_count()
        try:
            address = self._named_client(request)
        except ForwardedError as error:
            return bad_request(f"malformed address from the proxy: {error}")
        if address is None:
            return peer
        key = address_key(address)
        if lasts and key is not None:
            refusal: Refusal | None = self._factory.admission.count(self, key)
            if refusal is not None:
                return refusal
            self._counts_request = True
        return address

    def _show_client(self, request: Request | None) -> str:
        """Return the address for the log: the client's, as far as it is known, or the peer's."""
        address = None
        if self._is_proxy and request is not None:
            with contextlib.suppress(ForwardedError):
                address = self._named_client(request)
        return show_peer(address or self.transport.getPeer())

    def _named_client(self, request: Request) -> IAddress | None:
        """Return the address that a trusted proxy names; None if it names none."""
        node = self._factory.proxies.find_client(request)
        if node is None:
            return None
        return (IPv6Address if ":" in node.host else IPv4Address)("TCP", node.host, node.port)

    def _end_count(self) -> None:
        """Stop counting the connection towards the limits of the client of the last request."""
        if self._counts_request:
            self._counts_request = False
            self._factory.admission.uncount(self)
