"""
A channel that somebody here listens to: who does, and where in its stream they stand.

Rule 1: no clock, no socket; what happens when is the hub's to say.
"""

from collections.abc import Hashable
from typing import Any

from twisted.internet.defer import Deferred

from wsserver.hub.broker import Subscriber
from wsserver.hub.history import Position
from wsserver.hub.presence import PresenceEvent
from wsserver.hub.publication import Publication
from wsserver.typing import ChannelName

__all__ = ["MOST_HELD", "MOST_HELD_BYTES", "Held", "Joiner", "Room", "follows"]


MOST_HELD = 10_000
"""Most publications and events that wait for a stream to be read."""

MOST_HELD_BYTES = 16 * 1024**2
"""Most bytes of their data."""


class Held:
    """What waits for a stream to be read; where it would be too much, nothing, and that is known."""

    __slots__ = ("_size", "items", "over")

    def __init__(self) -> None:
        self.items: list[Publication | PresenceEvent] = []
        self.over = False
        self._size = 0

    def add(self, item: Publication | PresenceEvent) -> None:
        """Let something wait."""
        if self.over:
            return
        self.items.append(item)
        self._size += len(item.data) if isinstance(item, Publication) else 0
        if len(self.items) > MOST_HELD or self._size > MOST_HELD_BYTES:
            self.items, self.over = [], True


class Joiner:
    """A subscriber that is given its publications by itself, until it stands where the others do."""

    __slots__ = ("floor", "held", "subscriber")

    def __init__(self, subscriber: Subscriber) -> None:
        self.subscriber = subscriber
        self.held: Held | None = Held()
        """What came while the stream was being read; None after that."""
        self.floor: Position | None = None
        """What it has up to here is not given to it again."""

    def lacks(self, item: Publication | PresenceEvent) -> bool:
        """Tell whether it does not have a publication yet."""
        if self.floor is None or isinstance(item, PresenceEvent) or not item.offset:
            return True
        return item.epoch != self.floor.epoch or item.offset > self.floor.offset

    def strange(self, item: Publication | PresenceEvent) -> bool:
        """Tell whether something is missing between what it has and a publication."""
        return not isinstance(item, PresenceEvent) and bool(item.offset) and not follows(self.floor, item)


def follows(position: Position | None, publication: Publication) -> bool:
    """Tell whether a publication is the next one; before the first every one is."""
    if position is None:
        return True
    if publication.epoch == position.epoch:
        return publication.offset == position.offset + 1
    # Nothing was ever in the stream that is no more.
    return position.offset == 0 and publication.offset == 1


class Room:
    """A channel that somebody here listens to."""

    __slots__ = ("channel", "held", "joiners", "kinds", "open", "outage", "pending", "position", "waiting")

    def __init__(self, channel: ChannelName) -> None:
        self.channel = channel
        self.kinds: dict[Hashable, dict[Any, None]] = {}
        """Kind -> its subscribers, in the order they came."""
        self.joiners: dict[Any, Joiner] = {}
        self.pending: list[Publication | PresenceEvent] = []
        self.open = False
        """The broker sends its publications."""
        self.waiting: list[Deferred[None]] = []
        self.position: Position | None = None
        """The last publication that came; None before the first."""
        self.held: Held | None = None
        """What has come since a gap was noticed, until it is closed; None while there is none."""
        self.outage = False
        """The gap comes from an outage: plain publications may be missing too."""

    def __len__(self) -> int:
        return sum(map(len, self.kinds.values())) + len(self.joiners)

    def everyone(self) -> list[Any]:
        """Tell who listens, those among them that still wait for the stream."""
        return [*(one for subscribers in self.kinds.values() for one in subscribers), *self.joiners]
