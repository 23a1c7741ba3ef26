"""Counters: plain integers that the server increments while it works, and that `/metrics` reads."""

from bisect import bisect_left
from collections import defaultdict
from typing import Protocol

from wsserver import centrifugecodes
from wsserver.closecodes import CloseCode

__all__ = ["Counters", "Histogram", "Traffic", "show_code"]

_KNOWN_CODES = frozenset(map(int, CloseCode)) | {
    one.code for one in vars(centrifugecodes).values() if isinstance(one, centrifugecodes.Disconnect)
}


def show_code(code: int) -> str:
    """
    Return a close code as the value of a label: the code if the server knows it, else its range, such as `4xxx`.

    Clients may send any of 2,000 codes. Each value of a label is a time series, which Prometheus keeps for weeks.
    """
    return str(int(code)) if code in _KNOWN_CODES else f"{code // 1000}xxx"


class Histogram:
    """
    Counts durations by their size.

    Args:
        bounds: the upper bounds of the buckets in seconds, in ascending order. Another bucket takes what is longer.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, *bounds: float) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """Number of durations in each bucket."""
        self.total = 0.0
        """Sum of all durations, in seconds."""

    def observe(self, seconds: float) -> None:
        """Count a duration."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds


class HasTraffic(Protocol):
    """A connection that counts its messages; `wsserver.wire.fastpath.Output` says what the attributes mean."""

    messages_in: int
    bytes_in: int
    messages_out: int
    bytes_out: int


class Traffic:
    """Messages received and sent, and the size of their payloads in bytes."""

    __slots__ = ("bytes_in", "bytes_out", "messages_in", "messages_out")

    def __init__(self) -> None:
        self.messages_in = self.bytes_in = self.messages_out = self.bytes_out = 0

    def add(self, other: HasTraffic) -> None:
        """Add the messages of a connection, or of many."""
        self.add_numbers(other.messages_in, other.bytes_in, other.messages_out, other.bytes_out)

    def add_numbers(self, messages_in: int, bytes_in: int, messages_out: int, bytes_out: int) -> None:
        """Add numbers of messages and bytes received, and sent."""
        self.messages_in += messages_in
        self.bytes_in += bytes_in
        self.messages_out += messages_out
        self.bytes_out += bytes_out

    def move(self, connection: HasTraffic) -> None:
        """Add the messages of a connection, and set its own counters to 0, so that they are not added again."""
        self.add(connection)
        connection.messages_in = connection.bytes_in = connection.messages_out = connection.bytes_out = 0


class Counters:
    """The numbers of one server process since its start. Incrementing an integer is the only cost on a hot path."""

    __slots__ = (
        "broadcasts",
        "calls",
        "disconnects",
        "faults",
        "handshakes",
        "lag",
        "limits",
        "open_faults",
        "opened",
        "pings",
        "refusals",
        "requests",
        "tls_handshakes_failed",
        "traffic",
    )

    def __init__(self) -> None:
        self.limits: defaultdict[str, int] = defaultdict(int)
        """Name of a limit, as its option without dashes (`max_connections_per_address`) -> how often it took effect."""
        self.refusals: defaultdict[str, int] = defaultdict(int)
        """Cause of a refused request (`wsserver.wire.access_log.cause_of`) -> number of requests."""
        self.tls_handshakes_failed = 0
        self.faults: defaultdict[str, int] = defaultdict(int)
        """Name of a fault -> number of its connections; see `--faults`."""
        self.open_faults = 0
        """Number of open connections with a fault."""
        self.opened: defaultdict[str, int] = defaultdict(int)
        """Transport of a client, such as `websocket` -> number of its connections that have opened."""
        self.disconnects: defaultdict[tuple[str, str, str], int] = defaultdict(int)
        """Transport, code (`show_code`) and side that closed first -> number of connections that have closed."""
        self.traffic: defaultdict[str, Traffic] = defaultdict(Traffic)
        """Transport -> the messages of its closed connections. Open connections have their own counters."""
        self.requests: defaultdict[int, int] = defaultdict(int)
        """Status of a response -> number of answered HTTP requests, without the refused ones."""
        self.calls: defaultdict[tuple[str, int], int] = defaultdict(int)
        """Method of the HTTP API and status of the response -> number of calls."""
        self.handshakes = Histogram(0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10)
        """Opening handshakes, from the complete request to the 101 response."""
        self.pings = Histogram(0.001, 0.005, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
        """Pings, until the pong."""
        self.broadcasts = Histogram(0.0001, 0.0005, 0.0025, 0.01, 0.05, 0.25, 1)
        """Deliveries of a channel's publications to all its subscribers in this process."""
        self.lag = Histogram(0.001, 0.005, 0.02, 0.1, 0.25, 1, 5)
        """Delays of a timer, which are as long as the event loop was blocked."""

    def open(self) -> dict[str, int]:
        """Return the number of open connections: transport -> number."""
        found = dict(self.opened)
        for (transport, _, _), count in self.disconnects.items():
            found[transport] -= count
        return found

    def close(self, transport: str, code: int, by: str) -> None:
        """
        Count a connection that has closed.

        Args:
            transport: the transport that it was counted with in `opened`.
            code: the close code.
            by: which side has closed it: `peer`, `server` or `none`.
        """
        self.disconnects[transport, show_code(code), by] += 1
