"""What a row of the benchmark is: the work that is measured, and the goals for the server under test."""

from dataclasses import dataclass

from peers import LIMIT, PEERS, SUBJECT, Peer

__all__ = ["Goal", "Row"]


@dataclass(frozen=True)
class Goal:
    """
    A goal: a multiple of another figure.

    A goal for a rate applies to the CPU time per message as well: both must be reached. If the load generator was the
    bottleneck, only the CPU time counts.
    """

    factor: float
    of: str = "best"
    """
    The other figure: that of the best peer (`best`), of the C echo (`limit`) or of another peer (its name), 1
    (`fixed`), or our rate in another row (its name).
    """

    figure: str = ""
    """The figure of this goal; empty for that of the row."""

    unit: str = ""
    """The unit of `figure`."""

    plus: float = 0
    """Is added to the multiple."""


@dataclass(frozen=True)
class Row:
    """A row: one kind of work, done with each server."""

    name: str
    work: str
    load: tuple[str, ...]
    must: tuple[Goal, ...] = ()
    """The goals that must be reached; none if the figure is only reported."""
    aim: tuple[Goal, ...] = ()
    figure: str = "rate"
    unit: str = "/s"
    less_is_better: bool = False
    measure: str = "load"
    """
    What is measured. load: the figures of the load generator. latency: the same, for messages that are sent at half of
    the rate that the slowest of the row's servers reaches in `load`. memory, idle: the server while the load generator
    holds connections. start: how long the server needs to start.
    """

    shares: str = ""
    """Name of an earlier row: this row shows another figure of the same measurement."""

    needs: str = ""
    """Capability that a server needs and is started with; see `Peer.can`. Also `fanout`, `channels` or `redis`."""

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
        if self.needs in {"fanout", "channels"}:
            return bool(getattr(peer, self.needs))
        return bool(peer.command) and (not self.needs or self.needs == "redis" or self.needs in peer.can)

    def rival_names(self) -> list[str]:
        """Return the names of the peers to compare with."""
        able = [peer for peer in PEERS if not self.rivals or self.rivals in peer.can]
        return [peer.name for peer in able if peer.name not in {SUBJECT, LIMIT}]
