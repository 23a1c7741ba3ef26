"""
The state of a channel with subscribers in this process: the subscribers, and their positions in its stream.

Rule 1: no clock, no socket; the hub decides when to deliver.
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
"""Maximum number of publications and presence events in a `PublicationBuffer`."""

MAX_HELD_BYTES = 16 * 1024**2
"""Maximum size of their data in bytes."""


class BufferBudget:
    """
    The number of bytes that may still be buffered while the channels of one connection are recovered.

    Args:
        size: limit in bytes for all buffers of the connection together.
    """

    __slots__ = ("left",)

    def __init__(self, size: int) -> None:
        self.left = size


class PublicationBuffer:
    """
    Publications and presence events that are held while a stream is read.

    When a limit is exceeded, the buffer drops its items, keeps no more of them, and sets `over`.

    Args:
        budget: limit for several buffers together; None for only `MAX_HELD` and `MAX_HELD_BYTES`.
    """

    __slots__ = ("_budget", "_left", "_size", "_taken", "items", "over", "plain")

    def __init__(self, budget: BufferBudget | None = None) -> None:
        self.items: list[Publication | PresenceEvent] = []
        self.over = False
        self.plain = False
        """Whether a publication without an offset was added, which cannot be read again from a stream."""
        self._budget = budget
        self._size = self._taken = 0
        self._left: int | None = None
        """Number of items that `take_page` left in the buffer; None before the first page."""

    def add(self, item: Publication | PresenceEvent) -> None:
        """Append a publication or a presence event."""
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
        """Drop the publications of a lost stream; keep those without an offset, which belong to no stream."""
        self._replace([item for item in self.items if not (isinstance(item, Publication) and item.epoch == epoch)])

    def drop_stream(self) -> tuple[int, int]:
        """Drop the publications with an offset, to read them from the stream; return their number and bytes of data."""
        count, size = len(self.items), self._size
        self._replace([item for item in self.items if not (isinstance(item, Publication) and item.offset)])
        return count - len(self.items), size - self._size

    def take_page(self, count: int, size: int) -> list[Publication | PresenceEvent]:
        """
        Remove and return a page from the front of the buffer.

        The page is enlarged by the items that were added since the last page, so that the buffer empties even if
        publications arrive faster than `count` for each page.

        Args:
            count: maximum number of items in the page.
            size: maximum size of its data in bytes; a larger publication is a page by itself.
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
        """Return the bytes of the items to the budget, and stop counting against it."""
        if self._budget is not None:
            self._budget.left += self._taken
            self._budget = None


def _size(item: Publication | PresenceEvent) -> int:
    return len(item.data) if isinstance(item, Publication) else 0


class RecoveringSubscriber:
    """
    A subscriber with a position of its own: it is served individually until it reaches the channel's position.

    Args:
        subscriber: the subscriber.
        budget: limit for its buffer; None for a subscriber that receives all missed publications at once, not in pages.
        limit: without a budget, the most to read from the stream; None for no limit.
    """

    __slots__ = ("budget", "floor", "held", "limit", "lost_plain", "reading", "recovering", "subscriber")

    def __init__(
        self, subscriber: Subscriber, budget: BufferBudget | None = None, limit: ReadLimit | None = None
    ) -> None:
        self.subscriber = subscriber
        self.budget = budget
        self.limit = limit
        self.held: PublicationBuffer | None = PublicationBuffer(budget)
        """What arrived while the stream was being read; None once that has been delivered."""
        self.floor: Position | None = None
        """The subscriber's position: publications up to it are not sent to it again. None before the first read."""
        self.recovering = False
        """Whether the subscriber has more pages of the stream to request."""
        self.reading = False
        """Whether a page is being read, which may be the last one."""
        self.lost_plain = False
        """Whether publications without an offset were dropped while it recovered."""

    def hold(self, item: Publication | PresenceEvent) -> None:
        """Buffer a publication or presence event until the stream has been read, unless a later page contains it."""
        later = self.recovering and not self.reading and isinstance(item, Publication) and item.offset
        if self.held is not None and not later:
            self.held.add(item)

    def fall_behind(self) -> None:
        """Wait for the subscriber to request another page: keep only the items that the stream does not contain."""
        held = self.held or PublicationBuffer()
        held.release()
        self.recovering, self.reading = True, False
        self.lost_plain |= held.over and held.plain
        self.held = PublicationBuffer(self.budget)
        for item in held.items:
            self.hold(item)

    def catch_up(self) -> None:
        """End recovery; the caller delivers the buffered items in the next turn."""
        self.recovering = self.reading = False
        if self.held is not None:
            self.held.release()

    def take_held(self) -> PublicationBuffer | None:
        """Return the buffer, and stop buffering."""
        held, self.held = self.held, None
        return held

    def lacks(self, item: Publication | PresenceEvent) -> bool:
        """Return whether an item is new to the subscriber; items without an offset always are."""
        if self.floor is None or isinstance(item, PresenceEvent) or not item.offset:
            return True
        return item.epoch != self.floor.epoch or item.offset > self.floor.offset

    def strange(self, item: Publication | PresenceEvent) -> bool:
        """Return whether publications are missing between the subscriber's position and an item."""
        return not isinstance(item, PresenceEvent) and bool(item.offset) and not follows(self.floor, item)


def follows(position: Position | None, publication: Publication) -> bool:
    """Return whether a publication is the next one after a position; with no position, any publication is."""
    if position is None:
        return True
    if publication.epoch == position.epoch:
        return publication.offset == position.offset + 1
    # Another epoch. The old stream was still empty, so no publication of it can be missing.
    return position.offset == 0 and publication.offset == 1


class ChannelState:
    """The state of a channel with subscribers in this process."""

    __slots__ = (
        *("channel", "held", "joiners", "kinds", "open", "outage", "pending", "position", "read_again"),
        "waiting",
    )

    def __init__(self, channel: ChannelName) -> None:
        self.channel = channel
        self.kinds: dict[Hashable, dict[Any, None]] = {}
        """Kind -> its subscribers, in the order of subscription. They are served in bulk, with joined writes."""
        self.joiners: dict[Any, RecoveringSubscriber] = {}
        """Subscriber -> its recovery. These subscribers are served individually."""
        self.pending: list[Publication | PresenceEvent] = []
        """Items to deliver at the end of this turn."""
        self.open = False
        """Whether the broker has confirmed the subscription, and sends the channel's publications."""
        self.waiting: list[Deferred[None]] = []
        """Fire once the broker has confirmed the subscription, or fail with it."""
        self.position: Position | None = None
        """Position of the last publication received; None before the first."""
        self.held: PublicationBuffer | None = None
        """What has arrived since a gap was detected, until the gap is closed; None while there is no gap."""
        self.outage = False
        """Whether a broker outage caused the gap, so that publications without an offset may be missing, too."""
        self.read_again = False
        """Whether another outage has happened before the gap was closed, so that the stream must be read again."""

    def __len__(self) -> int:
        return sum(map(len, self.kinds.values())) + len(self.joiners)

    def take_held(self) -> PublicationBuffer:
        """Return the buffer of the gap, and stop buffering."""
        held, self.held = self.held or PublicationBuffer(), None
        return held

    def everyone(self) -> list[Any]:
        """Return all subscribers, including those that are still recovering."""
        return [*(one for subscribers in self.kinds.values() for one in subscribers), *self.joiners]
