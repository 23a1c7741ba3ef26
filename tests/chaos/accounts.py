"""
What is written down of a run: every publication, and everything that each subscriber was given or told.

One process writes all of it down, by one clock, so that two times can be compared whoever has written them.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["Accounts", "Away", "Began", "Event", "Got", "Log", "Place", "Resumed", "Sent", "Told"]


class Place(NamedTuple):
    """Where a publication stands."""

    epoch: str
    offset: int


@dataclass(slots=True)
class Sent:
    """A publication, as its publisher knows it. Times are in seconds."""

    number: int
    channel: str
    plain: bool
    """
    It has no place, and whoever is away does not get it later: a `PUBLISH` to Redis, past the servers, or what was
    published to a channel that keeps no history.
    """
    sent: float
    """When it was first tried."""
    acked: float | None = None
    """When it was answered that it is published; None where that never came: it may be, or not."""
    places: set[Place] = field(default_factory=set)
    """What it was answered; more than one where a store that was lost in between took it again."""


class Began(NamedTuple):
    """It listens from now on; of what was before, nothing is promised."""

    at: float
    place: Place | None = None
    """Where it was told that it stands."""


class Resumed(NamedTuple):
    """It came back, said where it had been, and was not told that anything is missing."""

    at: float


class Got(NamedTuple):
    """A publication came."""

    at: float
    number: int
    place: Place | None = None
    """Where it stands, by what the subscriber was told."""


class Told(NamedTuple):
    """It was told that something is missing here."""

    at: float
    stream: bool = True
    """Whether it may be any publication; else only plain ones."""


class Away(NamedTuple):
    """It has lost its connection, or its subscription."""

    at: float


Event = Began | Resumed | Got | Told | Away


@dataclass(slots=True)
class Log:
    """What came to a subscriber of a channel, in its order."""

    subscriber: str
    kind: str
    channel: str
    events: list[Event] = field(default_factory=list)


@dataclass(slots=True)
class Accounts:
    """A run."""

    sent: dict[int, Sent] = field(default_factory=dict)
    logs: list[Log] = field(default_factory=list)
    markers: dict[str, list[int]] = field(default_factory=dict)
    """Channel -> what was published last, after all faults: a plain publication, and one that is not."""
    healed: list[tuple[str, float]] = field(default_factory=list)
    """Each fault, and when it was over."""
