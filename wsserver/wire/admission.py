"""
Admission: decide which new connections the server serves, by their number in all and per address.

A connection beyond `--max-connections` is accepted only to explain the refusal, or to answer a single HTTP request,
such as a probe of the server's health. While `MAX_TURNED_AWAY` of these are open, the server accepts nothing: further
clients wait in the operating system's backlog until a connection closes.
"""

import resource
from collections.abc import Callable
from typing import Any, Final, Self

from twisted.logger import Logger

from wsserver.config.settings import Settings
from wsserver.wire.accepting import AcceptGate
from wsserver.wire.addresses import AddressLimits
from wsserver.wire.arrival_rates import Rate
from wsserver.wire.connections import SocketSet
from wsserver.wire.counters import Counters
from wsserver.wire.http11 import Refusal, unavailable

__all__ = ["MAX_ADMIN_CONNECTIONS", "MAX_TURNED_AWAY", "SPARE_FILES", "TURNED_AWAY_PER_SECOND", "Admission"]

# A module variable, because on a class Twisted replaces the namespace with the class's name.
_log = Logger(namespace="wsserver")

SPARE_FILES = 128
"""
Descriptors reserved for everything but clients: listeners, logs, Redis, hooks; and for `MAX_TURNED_AWAY` connections.
"""

MAX_ADMIN_CONNECTIONS = 256
"""Maximum number of connections to the admin endpoint, for which further descriptors are reserved."""

MAX_TURNED_AWAY = 32
"""Maximum number of connections over a limit that the server keeps open at the same time, to answer them."""

TURNED_AWAY_PER_SECOND = 200
"""Maximum number of connections over a limit that get an answer per second. It bounds the work: TLS handshakes."""

_PAUSE = 0.1
"""Seconds for which the server accepts nothing when it has answered too many connections over `max_connections`."""

_TURNED_AWAY: Final = object()
"""Label of a connection that is over a limit, and open only to be answered."""


class Admission:
    """
    Counts the connections, and decides which of them the server serves.

    Args:
        sockets: the set of all connections. A connection's label is the key of the client's address, if it counts
            towards the limits of that address.
        max_connections: maximum number of connections that are served.
        addresses: the limits per address.
        gate: pauses accepting.
        counters: counts the refusals.
        now: returns the time in seconds.
    """

    def __init__(
        self,
        sockets: SocketSet,
        *,
        max_connections: int,
        addresses: AddressLimits,
        gate: AcceptGate,
        counters: Counters,
        now: Callable[[], float],
    ) -> None:
        self._sockets = sockets
        self.max_connections = max_connections
        self._addresses = addresses
        self._gate = gate
        self._counters = counters
        self._now = now
        self._turned_away = 0
        self._answers = Rate(TURNED_AWAY_PER_SECOND, TURNED_AWAY_PER_SECOND)
        sockets.on_discard = self._discarded

    @classmethod
    def from_settings(cls, settings: Settings, factory: Any, gate: AcceptGate) -> Self:
        """
        Return the admission that the settings describe.

        Args:
            settings: the server's options.
            factory: the server's `wsserver.wire.protocol.ServerFactory`.
            gate: pauses accepting.
        """
        counters, now = factory.counters, factory.reactor.seconds
        addresses = AddressLimits(
            max_connections=settings.max_connections_per_address,
            rate=settings.handshake_rate_per_address,
            now=now,
            counters=counters,
        )
        most = _max_connections(settings)
        return cls(factory.sockets, max_connections=most, addresses=addresses, gate=gate, counters=counters, now=now)

    def configure(self, settings: Settings) -> None:
        """Replace the limits. Connections that are open stay open."""
        self.max_connections = _max_connections(settings)
        self._addresses.configure(
            max_connections=settings.max_connections_per_address, rate=settings.handshake_rate_per_address
        )

    def add(self, connection: Any) -> Refusal | None:
        """
        Add a new connection to the set.

        Returns:
            A 503 refusal if there are too many; the caller then calls `turn_away`.
        """
        self._sockets.add(connection)
        if len(self._sockets) - self._turned_away <= self.max_connections:
            return None
        self._counters.limits["max_connections"] += 1
        return unavailable("the server has too many connections; see --max-connections", 5, cause="max_connections")

    def count(self, connection: Any, key: str) -> Refusal | None:
        """
        Count a connection of the set towards the limits of an address.

        Args:
            connection: the connection.
            key: the result of `wsserver.wire.addresses.address_key`.

        Returns:
            A 429 refusal if the address has reached a limit; the connection is then not counted.
        """
        refusal = self._addresses.acquire(key)
        if refusal is None:
            self._sockets.set_label(connection, key)
        return refusal

    def uncount(self, connection: Any) -> None:
        """Stop counting a connection towards the limits of an address: it is now used for another client."""
        key = self._sockets.label(connection)
        if isinstance(key, str):
            self._sockets.set_label(connection, None)
            self._addresses.release(key)

    def turn_away(self, connection: Any, *, is_full: bool) -> bool:
        """
        Keep a connection over a limit open for a short time, to answer it.

        Args:
            connection: a connection of the set, which the other methods have refused.
            is_full: whether `add` has refused it.

        Returns:
            Whether the connection may be answered. If not, the caller drops it.
        """
        may_answer = self._answers.take(self._now())
        if self._turned_away >= MAX_TURNED_AWAY or not (may_answer or is_full):
            return False
        self._turned_away += 1
        self._sockets.set_label(connection, _TURNED_AWAY)
        if is_full and not may_answer:
            self._gate.pause(_PAUSE)
        elif is_full and self._turned_away >= MAX_TURNED_AWAY:
            self._gate.pause()
        return True

    def _discarded(self, label: Any) -> None:
        if label is _TURNED_AWAY:
            self._turned_away -= 1
        elif label is not None:
            self._addresses.release(label)
        if self._gate.is_paused and (label is not _TURNED_AWAY or not self._gate.resumes_later):
            self._gate.resume()


def _max_connections(settings: Settings) -> int:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    reserved = SPARE_FILES + (MAX_ADMIN_CONNECTIONS if settings.admin_listen else 0)
    possible = max(1, files - reserved)
    if possible < settings.max_connections:
        _log.warn(
            "connection limit lowered limit={possible} max_connections={wanted} open_files={files}; see ulimit -Hn",
            possible=possible,
            wanted=settings.max_connections,
            files=files,
        )
    return min(settings.max_connections, possible)
