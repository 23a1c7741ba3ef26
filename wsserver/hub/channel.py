"""
A channel that somebody here listens to: who does, and where in its stream they stand.

Rule 1: no clock, no socket; what happens when is the hub's to say.
"""

from collections.abc import Hashable
from typing import Any

from twisted.internet.defer import Deferred

from wsserver.hub.broker import Subscriber
from wsserver.hub.presence import PresenceEvent
from wsserver.hub.publication import Publication
from wsserver.hub.recovery import ReadLimit
from wsserver.hub.send_queue import OVERHEAD
from wsserver.hub.stream import Position
from wsserver.typing import ChannelName

__all__ = [
    "MAX_HELD",
    "MAX_HELD_BYTES",
    "BufferBudget",
    "ChannelState",
    "PublicationBuffer",
    "RecoveringSubscriber",
    "follows",
]


MAX_HELD = 10_000
"""Most publications and events that wait for a stream to be read."""

MAX_HELD_BYTES = 16 * 1024**2
"""Most bytes of their data."""


class BufferBudget:
    """
    How much may wait while the channels of one connection are recovered.

    Args:
        size: bytes, of all its buffers together.
    """

    __slots__ = ("left",)

    def __init__(self, size: int) -> None:
        self.left = size


class PublicationBuffer:
    """
    What waits for a stream to be read; if that would be too much, nothing waits, and `over` is set.

    Args:
        budget: limits several buffers together; None for no more than the limits of one.
    """

    __slots__ = ("_budget", "_left", "_size", "_taken", "items", "over", "plain")

    def __init__(self, budget: BufferBudget | None = None) -> None:
        self.items: list[Publication | PresenceEvent] = []
        self.over = False
        self.plain = False
        """Among what was added is a publication without an offset, which no stream can bring back."""
        self._budget = budget
        self._size = self._taken = 0
        self._left: int | None = None
        """How many items the last page has left; None before the first page."""

    def add(self, item: Publication | PresenceEvent) -> None:
        """Append a publication or an event."""
        size = _size(item)
        self.plain |= isinstance(item, Publication) and not item.offset
        if self.over:
            return
        self.items.append(item)
        self._size += size
        if self._budget is not None:
            self._taken += size + OVERHEAD
            self._budget.left -= size + OVERHEAD
        exhausted = self._budget is not None and self._budget.left < 0
        if exhausted or len(self.items) > MAX_HELD or self._size > MAX_HELD_BYTES:
            self.release()
            self.items, self.over = [], True

    def first_offset(self, epoch: str) -> int | None:
        """Return the offset of the first publication of an epoch; None if there is none."""
        found = (item.offset for item in self.items if isinstance(item, Publication) and item.epoch == epoch)
        return next(found, None)

    def drop_epoch(self, epoch: str) -> None:
        """Drop the publications of a stream that was lost; those without an offset belong to no stream."""
        self._replace([item for item in self.items if not (isinstance(item, Publication) and item.epoch == epoch)])

    def drop_stream(self) -> tuple[int, int]:
        """Drop what the stream contains, to be read from there; return how many publications, and their bytes."""
        count, size = len(self.items), self._size
        self._replace([item for item in self.items if not (isinstance(item, Publication) and item.offset)])
        return count - len(self.items), size - self._size

    def take_page(self, count: int, size: int) -> list[Publication | PresenceEvent]:
        """
        Remove a page from the front, and as much more as has arrived since the last page, so that the buffer empties.

        Args:
            count: most items of a page.
            size: most bytes of its data; a larger publication is a page by itself.
        """
        on_publication = self.items[self._left :] if self._left is not None else []
        count, size = count + len(on_publication), size + sum(map(_size, on_publication))
        taken = 0
        for item in self.items[:count]:
            size -= _size(item)
            if size < 0 and taken:
                break
            taken += 1
        page = self.items[:taken]
        self._replace(self.items[taken:])
        self._left = len(self.items)
        return page

    def _replace(self, items: list[Publication | PresenceEvent]) -> None:
        self.items, self._size = items, sum(map(_size, items))

    def release(self) -> None:
        """Leave the budget, and give back what the items take of it."""
        if self._budget is not None:
            self._budget.left += self._taken
            self._budget = None


def _size(item: Publication | PresenceEvent) -> int:
    return len(item.data) if isinstance(item, Publication) else 0


class RecoveringSubscriber:
    """
    A subscriber that is given its publications by itself, until it stands where the others do.

    Args:
        subscriber: the subscriber.
        budget: limits what waits for it; None for a subscriber that is given all it missed at once.
        limit: without a budget, the most that is read for it; None for no limit.
    """

    __slots__ = ("budget", "floor", "held", "limit", "lost_plain", "reading", "recovering", "subscriber")

    def __init__(
        self, subscriber: Subscriber, budget: BufferBudget | None = None, limit: ReadLimit | None = None
    ) -> None:
        self.subscriber = subscriber
        self.budget = budget
        self.limit = limit
        self.held: PublicationBuffer | None = PublicationBuffer(budget)
        """What came while the stream was being read; None after that."""
        self.floor: Position | None = None
        """What it has up to here is not given to it again."""
        self.recovering = False
        """It has yet to ask for pages of the stream."""
        self.reading = False
        """A page is being read, which may be the last one."""
        self.lost_plain = False
        """Publications without an offset were dropped while it recovered."""

    def hold(self, item: Publication | PresenceEvent) -> None:
        """Keep a publication or an event until the stream has been read, unless a later page will contain it."""
        later = self.recovering and not self.reading and isinstance(item, Publication) and item.offset
        if self.held is not None and not later:
            self.held.add(item)

    def fall_behind(self) -> None:
        """Wait for the subscriber to ask for another page: keep only what the stream does not contain."""
        held = self.held or PublicationBuffer()
        held.release()
        self.recovering, self.reading = True, False
        self.lost_plain |= held.over and held.plain
        self.held = PublicationBuffer(self.budget)
        for item in held.items:
            self.hold(item)

    def catch_up(self) -> None:
        """Stop reading: what is kept is handed out in the next turn."""
        self.recovering = self.reading = False
        if self.held is not None:
            self.held.release()

    def take_held(self) -> PublicationBuffer | None:
        """Return what was kept, to be handed out; from now on nothing is kept."""
        held, self.held = self.held, None
        return held

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


class ChannelState:
    """A channel that somebody here listens to."""

    __slots__ = (
        *("channel", "held", "joiners", "kinds", "open", "outage", "pending", "position", "read_again"),
        "waiting",
    )

    def __init__(self, channel: ChannelName) -> None:
        self.channel = channel
        self.kinds: dict[Hashable, dict[Any, None]] = {}
        """Kind -> its subscribers, in the order they came."""
        self.joiners: dict[Any, RecoveringSubscriber] = {}
        self.pending: list[Publication | PresenceEvent] = []
        self.open = False
        """The broker sends its publications."""
        self.waiting: list[Deferred[None]] = []
        self.position: Position | None = None
        """The last publication that came; None before the first."""
        self.held: PublicationBuffer | None = None
        """What has come since a gap was noticed, until it is closed; None while there is none."""
        self.outage = False
        """The gap comes from an outage: plain publications may be missing too."""
        self.read_again = False
        """Another outage happened before the gap was closed: what it lost is to be read afterwards."""

    def __len__(self) -> int:
        return sum(map(len, self.kinds.values())) + len(self.joiners)

    def take_held(self) -> PublicationBuffer:
        """Return what is held, and hold nothing more."""
        held, self.held = self.held or PublicationBuffer(), None
        return held

    def everyone(self) -> list[Any]:
        """Tell who listens, those among them that still wait for the stream."""
        return [*(one for subscribers in self.kinds.values() for one in subscribers), *self.joiners]
