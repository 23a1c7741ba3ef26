"""
The records of a run: every publication, and everything that each subscriber received.

One process records all of it by one clock, so that any two times can be compared.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = [
    "Accounts",
    "Disconnected",
    "Event",
    "GapNotice",
    "Log",
    "Position",
    "Publication",
    "Received",
    "Recovered",
    "Subscribed",
]


class Position(NamedTuple):
    """The position of a publication in its stream."""

    epoch: str
    offset: int


@dataclass(slots=True)
class Publication:
    """A publication as its publisher knows it. Times are in seconds."""

    number: int
    channel: str
    plain: bool
    """
    Whether it has no position, so that a disconnected subscriber does not get it later: a `PUBLISH` directly to Redis,
    or a publication to a channel without history.
    """
    sent: float
    """The time of the first attempt."""
    acked: float | None = None
    """The time of the acknowledgement. None without one: the publication may or may not have been published."""
    positions: set[Position] = field(default_factory=set)
    """The acknowledged positions; several if a retry was stored again after Redis had lost its data."""


class Subscribed(NamedTuple):
    """A subscription without recovery; earlier publications are not guaranteed."""

    at: float
    position: Position | None = None
    """The position that the server reported."""


class Recovered(NamedTuple):
    """A subscription that continues at the last position, without a gap notice from the server."""

    at: float


class Received(NamedTuple):
    """A received publication."""

    at: float
    number: int
    position: Position | None = None
    """The position that the subscriber received with it."""
    was_delta: bool = False
    """Whether it was sent as the difference to the publication before."""


class GapNotice(NamedTuple):
    """A gap notice: publications are missing at this place of the log."""

    at: float
    stream: bool = True
    """Whether any publication may be missing; otherwise only plain ones."""


class Disconnected(NamedTuple):
    """The loss of the connection or of the subscription."""

    at: float


Event = Subscribed | Recovered | Received | GapNotice | Disconnected


@dataclass(slots=True)
class Log:
    """The events of one subscriber of a channel, in order."""

    subscriber: str
    kind: str
    channel: str
    events: list[Event] = field(default_factory=list)


@dataclass(slots=True)
class Accounts:
    """The records of a run."""

    sent: dict[int, Publication] = field(default_factory=dict)
    logs: list[Log] = field(default_factory=list)
    markers: dict[str, list[int]] = field(default_factory=dict)
    """
    Channel -> the numbers of its last two publications, made after all faults: one with a position, and
    a plain one.
    """
    healed: list[tuple[str, float]] = field(default_factory=list)
    """Each fault, and the time at which it was over."""
