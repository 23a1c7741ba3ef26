"""
Client addresses: how the limits per address identify a client, and the limits themselves.

An IPv6 client has a whole /64 network to choose addresses from (RFC 6177), so its limits apply to that network. An
IPv4-mapped IPv6 address, as a dual-stack socket reports it, is the IPv4 address (RFC 4291 section 2.5.5.2).
"""

import socket
from collections.abc import Callable
from http import HTTPStatus

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress

from wsserver.wire.arrival_rates import KeyedRates
from wsserver.wire.counters import Counters
from wsserver.wire.http11 import Refusal

__all__ = ["BURST_SECONDS", "MAX_ADDRESSES", "AddressLimits", "address_key", "is_local"]

BURST_SECONDS = 5
"""Burst of `--handshake-rate-per-address`: the number of handshakes of so many seconds."""

MAX_ADDRESSES = 16_384
"""Maximum number of addresses whose rate is remembered. They take about 2 MiB."""

_MAPPED = b"\0" * 10 + b"\xff\xff"

_PROXY = "if all clients seem to have this address, a proxy is in front of the server: see --trusted-proxy"


def address_key(address: IAddress) -> str | None:
    """
    Return what identifies a client for the limits per address.

    Returns:
        The IPv4 address, or the /64 network of the IPv6 address; None if the address is neither, as on a UNIX socket.
    """
    if isinstance(address, IPv4Address):
        return address.host
    if not isinstance(address, IPv6Address):
        return None
    try:
        packed = socket.inet_pton(socket.AF_INET6, address.host.partition("%")[0])
    except OSError:
        return address.host
    if packed.startswith(_MAPPED):
        return socket.inet_ntop(socket.AF_INET, packed[12:])
    return socket.inet_ntop(socket.AF_INET6, packed[:8] + bytes(8)) + "/64"


def is_local(address: IAddress) -> bool:
    """Return whether a peer is on this machine: on the loopback interface, or on a UNIX socket."""
    if isinstance(address, IPv4Address):
        return address.host.startswith("127.")
    if isinstance(address, IPv6Address):
        return address.host == "::1" or address.host.startswith("::ffff:127.")
    return True


class AddressLimits:
    """
    The limits of connections and of opening handshakes per client address.

    Args:
        max_connections: maximum number of connections of an address; 0 for no limit.
        rate: handshakes of an address per second; 0 for no limit. The burst is that of `BURST_SECONDS`.
        now: returns the time in seconds.
        counters: counts the refusals.
    """

    def __init__(self, *, max_connections: int, rate: int, now: Callable[[], float], counters: Counters) -> None:
        self.configure(max_connections=max_connections, rate=rate)
        self._now = now
        self._counters = counters
        self._open: dict[str, int] = {}
        """Key of an address -> number of its connections; above 0."""

    def configure(self, *, max_connections: int, rate: int) -> None:
        """Replace the limits; for the arguments see the constructor. The connections that are open still count."""
        self._max_connections = max_connections
        self._rate = rate
        self._rates = KeyedRates(rate, rate * BURST_SECONDS, MAX_ADDRESSES) if rate else None

    def __len__(self) -> int:
        """Return the number of addresses with connections."""
        return len(self._open)

    def acquire(self, client: str) -> Refusal | None:
        """
        Count a new connection of an address.

        Args:
            client: the result of `address_key`.

        Returns:
            A 429 refusal if the address has reached a limit; the connection is then not counted. Otherwise None, and
            the caller calls `release` when the connection ends.
        """
        if self._rates is not None and not self._rates.take(client, self._now()):
            self._counters.limits["handshake_rate_per_address"] += 1
            return _refuse(
                f"the address {client} connects too often: at most {self._rate} times per second "
                f"(server option --handshake-rate-per-address); {_PROXY}",
                1,
                "handshake_rate_per_address",
            )
        count = self._open.get(client, 0)
        if self._max_connections and count >= self._max_connections:
            self._counters.limits["max_connections_per_address"] += 1
            return _refuse(
                f"the address {client} has too many connections: at most {self._max_connections} "
                f"(server option --max-connections-per-address); {_PROXY}",
                5,
                "max_connections_per_address",
            )
        self._open[client] = count + 1
        return None

    def release(self, client: str) -> None:
        """Stop counting a connection of an address: it has ended."""
        count = self._open[client] - 1
        if count:
            self._open[client] = count
        else:
            del self._open[client]


def _refuse(reason: str, seconds: int, limit: str) -> Refusal:
    return Refusal(HTTPStatus.TOO_MANY_REQUESTS, reason, (("Retry-After", str(seconds)),), limit)
