"""The rows of the benchmark: the work that is measured, and the goals for the server under test."""

from dataclasses import dataclass

from peers import LIMIT, PEERS, SUBJECT, Peer

__all__ = ["ROWS", "Goal", "Row"]


@dataclass(frozen=True)
class Goal:
    """A goal: a multiple of another figure."""

    factor: float
    of: str = "best"
    """The other figure: that of the best peer (`best`), of the C echo (`limit`), 1 (`fixed`), or our rate in a row."""


@dataclass(frozen=True)
class Row:
    """A row: one kind of work, done with each server."""

    name: str
    work: str
    load: tuple[str, ...]
    must: Goal | None
    """The goal that must be reached; None if the figure is only reported."""
    aim: Goal | None = None
    figure: str = "rate"
    unit: str = "/s"
    less_is_better: bool = False
    measure: str = "load"
    """
    What is measured. load: the figures of the load generator. memory, idle: the server while the load generator holds
    connections.
    """

    needs: str = ""
    """Capability that a server needs and is started with; see `Peer.can`. Also `fanout` or `redis`."""

    rivals: str = ""
    """Capability that a peer needs to be compared with in the goals; see `Peer.can`."""

    options: tuple[str, ...] = ()
    """Command-line options for wsserver."""

    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    def takes(self, peer: Peer) -> bool:
        """Return whether a server is measured in this row."""
        if (self.only and peer.name not in self.only) or peer.name in self.without:
            return False
        if self.needs == "fanout":
            return bool(peer.fanout)
        return bool(peer.command) and (not self.needs or self.needs == "redis" or self.needs in peer.can)

    def rival_names(self) -> list[str]:
        """Return the names of the peers to compare with."""
        able = [peer for peer in PEERS if not self.rivals or self.rivals in peer.can]
        return [peer.name for peer in able if peer.name not in {SUBJECT, LIMIT}]


FANOUT = ("fanout", "--connections", "1000", "--path", "/ws?channel=foo")
"""
Arguments of the load generator. The peers' programs treat every client as a subscriber unless its path
is `/publish`.
"""

CENTRIFUGE = ("--centrifuge", "--path", "/connection/websocket")

ROWS = (
    Row("echo", "echo 64 B, 100 connections, 1 in flight", ("echo",), Goal(1.05), Goal(0.80, "limit")),
    Row("echo-1000", "echo 64 B, 1 000 connections, 1 in flight", ("echo", "--connections", "1000"), Goal(1.1)),
    Row(
        "echo-16",
        "echo 64 B, 100 connections, 16 in flight",
        ("echo", "--in-flight", "16"),
        Goal(5),
        Goal(0.70, "limit"),
    ),
    Row(
        "echo-16k",
        "echo 16 KiB, 50 connections",
        ("echo", "--size", "16384", "--connections", "50"),
        Goal(1.25),
        Goal(0.75, "limit"),
    ),
    Row(
        "echo-1m",
        "echo 1 MiB binary, 8 connections",
        ("echo", "--size", "1048576", "--connections", "8", "--payload", "binary"),
        Goal(1.0),
        options=("--max-message-size", "2MiB"),
    ),
    Row(
        "utf8",
        "echo 64 B of mixed UTF-8 (Chinese text)",
        ("echo", "--payload", "utf8"),
        Goal(1.0),
        rivals="validates",
    ),
    Row(
        "command",
        "command reply (`time`) instead of echo",
        ("command", "--path", "/ws"),
        Goal(0.85, "echo"),
        only=(SUBJECT,),
    ),
    Row(
        "deflate",
        "permessage-deflate echo, 1 KiB JSON",
        ("compressed", "--size", "1024"),
        Goal(1.0),
        Goal(1.5),
        needs="compression",
        options=("--compression", "on"),
    ),
    Row("tls", "echo 64 B over TLS", ("echo", "--tls"), Goal(1.0), needs="tls", rivals="python"),
    Row(
        "handshakes",
        "opening handshakes per second (browser-sized request)",
        ("handshakes",),
        Goal(7_000, "fixed"),
        Goal(12_000, "fixed"),
    ),
    Row(
        "memory",
        "memory for each idle connection (Pss)",
        ("idle",),
        Goal(7, "fixed"),
        Goal(5, "fixed"),
        figure="kilobytes",
        unit=" kB",
        less_is_better=True,
        measure="memory",
        without=(LIMIT,),
        options=("--max-connections", "12000"),
    ),
    Row(
        "idle",
        "CPU of 10 000 idle connections with pings every 25 s",
        ("idle",),
        Goal(10, "fixed"),
        figure="percent",
        unit=" %",
        less_is_better=True,
        measure="idle",
        needs="ping",
        options=("--max-connections", "12000"),
        only=(SUBJECT, "autobahn"),
    ),
    Row(
        "hostile",
        "slowdown of 100 connections (p99) by another one that floods the server with 6-byte frames",
        ("hostile",),
        Goal(3, "fixed"),
        figure="slowdown",
        unit=" x",
        less_is_better=True,
    ),
    Row(
        "fanout",
        "fan-out of 64 B to 1 000 subscribers, 1 in flight",
        (*FANOUT, "--in-flight", "1"),
        Goal(1.0),
        Goal(1.2),
        needs="fanout",
    ),
    Row(
        "fanout-8",
        "fan-out of 64 B to 1 000 subscribers, 8 in flight",
        (*FANOUT, "--in-flight", "8"),
        Goal(0.9),
        Goal(1.1),
        needs="fanout",
    ),
    Row(
        "fanout-32",
        "fan-out of 64 B to 1 000 subscribers, 32 in flight",
        (*FANOUT, "--in-flight", "32"),
        Goal(0.9),
        Goal(1.1),
        needs="fanout",
    ),
    Row(
        "fanout-redis",
        "fan-out, 8 in flight, published with Redis's `PUBLISH`",
        (*FANOUT, "--in-flight", "8", "--redis", "{redis}"),
        Goal(0.9, "fanout-8"),
        needs="redis",
        only=(SUBJECT,),
    ),
    Row(
        "fanout-centrifuge",
        "fan-out, 8 in flight, to clients of the Centrifuge protocol (JSON)",
        ("fanout", "--connections", "1000", "--in-flight", "8", *CENTRIFUGE),
        Goal(0.9, "fanout-8"),
        needs="fanout",
        options=("--anonymous",),
        only=(SUBJECT,),
    ),
    Row(
        "fanout-channels",
        "fan-out to 10 000 channels in turn, one subscriber each, 32 in flight",
        (
            *("fanout", "--channels", "--connections", "10000", "--in-flight", "32"),
            *("--path", "/ws?channel=c", "--publish", "/publish-in-turn"),
        ),
        None,
        needs="fanout",
        options=("--max-connections", "12000"),
        only=(SUBJECT,),
    ),
    Row(
        "fanout-memory",
        "memory for each idle raw subscriber (Pss)",
        ("idle", "--path", "/ws?channel=foo"),
        Goal(9, "fixed"),
        figure="kilobytes",
        unit=" kB",
        less_is_better=True,
        measure="memory",
        options=("--max-connections", "12000"),
        only=(SUBJECT,),
    ),
    Row(
        "fanout-memory-centrifuge",
        "memory for each idle client of the Centrifuge protocol (Pss)",
        ("idle", *CENTRIFUGE),
        Goal(12, "fixed"),
        figure="kilobytes",
        unit=" kB",
        less_is_better=True,
        measure="memory",
        options=("--max-connections", "12000", "--anonymous"),
        only=(SUBJECT,),
    ),
)
