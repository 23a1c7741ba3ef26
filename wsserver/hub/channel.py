"""
The state of a channel with subscribers in this process: the subscribers, and their positions in its stream.

Two readers have a position in the stream: the channel, for all subscribers that are served in bulk, and each subscriber
that recovers. Both buffer what arrives while they read the stream (`StreamReader`).

This module does not use a clock or a socket: the hub decides when to deliver.
"""

from collections.abc import Hashable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from wsserver.hub.broker import Subscriber
from wsserver.hub.presence import PresenceEvent
from wsserver.hub.publication import Publication
from wsserver.hub.send_queue import OVERHEAD
from wsserver.hub.stream import Position, ReadLimit
from wsserver.typing import ChannelName

__all__ = [
    "MAX_BUFFER_BYTES",
    "MAX_BUFFER_ITEMS",
    "BufferBudget",
    "ChannelState",
    "PublicationBuffer",
    "RecoveringSubscriber",
    "StreamReader",
]


MAX_BUFFER_ITEMS = 10_000
"""Maximum number of publications and presence events in a `PublicationBuffer`."""

MAX_BUFFER_BYTES = 16 * 1024**2
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
    Publications and presence events that arrive while a stream is read.

    When a limit is exceeded, the buffer drops its items, keeps no more of them, and sets `overflowed`.

    Args:
        budget: limit for several buffers together; None for only `MAX_BUFFER_ITEMS` and `MAX_BUFFER_BYTES`.
    """

    __slots__ = ("_budget", "_left", "_size", "has_plain", "items", "overflowed")

    def __init__(self, budget: BufferBudget | None = None) -> None:
        self.items: list[Publication | PresenceEvent] = []
        self.overflowed = False
        self.has_plain = False
        """Whether a publication without an offset was added, which cannot be read again from a stream."""
        self._budget = budget
        self._size = 0
        self._left: int | None = None
        """Number of items that `take_page` left in the buffer; None before the first page."""

    def add(self, item: Publication | PresenceEvent) -> None:
        """Append a publication or a presence event."""
        self.has_plain |= isinstance(item, Publication) and not item.offset
        if self.overflowed:
            return
        size = _size(item)
        self.items.append(item)
        self._size += size
        if self._budget is not None:
            self._budget.left -= size + OVERHEAD
        exhausted = self._budget is not None and self._budget.left < 0
        if exhausted or len(self.items) > MAX_BUFFER_ITEMS or self._size > MAX_BUFFER_BYTES:
            self._replace([])
            self.overflowed = True

    def first_offset(self, epoch: str) -> int | None:
        """Return the offset of the first publication of an epoch; None if there is none."""
        found = (item.offset for item in self.items if isinstance(item, Publication) and item.epoch == epoch)
        return next(found, None)

    def drop_epoch(self, epoch: str) -> None:
        """Drop the publications of a lost stream; keep those without an offset, which belong to no stream."""
        self._replace([item for item in self.items if not (isinstance(item, Publication) and item.epoch == epoch)])

    def drop_stream(self) -> tuple[int, int]:
        """
        Drop the publications with an offset, to read them from the stream. An overflowed buffer keeps items again.

        Returns:
            The number of dropped publications, and the size of their data in bytes.
        """
        if self.overflowed:
            self.overflowed = self.has_plain = False
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
        added = self.items[self._left :] if self._left is not None else []
        count, size = count + len(added), size + sum(map(_size, added))
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

    def release(self) -> None:
        """Return the bytes of the items to the budget, and stop counting against it."""
        if self._budget is not None:
            self._budget.left += self._size + OVERHEAD * len(self.items)
            self._budget = None

    def _replace(self, items: list[Publication | PresenceEvent]) -> None:
        budget = self._budget
        self.release()
        self.items, self._size = items, sum(map(_size, items))
        if budget is not None:
            budget.left -= self._size + OVERHEAD * len(items)
            self._budget = budget


def _size(item: Publication | PresenceEvent) -> int:
    return len(item.data) if isinstance(item, Publication) else 0


class StreamReader:
    """A position in a channel's stream, and a buffer for what arrives while the stream is read from there."""

    __slots__ = ("buffer", "position")

    def __init__(self) -> None:
        self.position: Position | None = None
        """Position of the last publication received; None before the first."""
        self.buffer: PublicationBuffer | None = None
        """What has arrived since the reading began; None while the stream is not read."""

    def is_new(self, publication: Publication) -> bool:
        """Return whether a publication with an offset is new to this reader."""
        position = self.position
        return position is None or publication.epoch != position.epoch or publication.offset > position.offset

    def leaves_gap(self, publication: Publication) -> bool:
        """Return whether publications are missing between the position and a new publication with an offset."""
        position = self.position
        if position is None:
            return False
        if publication.epoch == position.epoch:
            return publication.offset != position.offset + 1
        # Another epoch. If the old stream was still empty, no publication of it can be missing.
        return position.offset != 0 or publication.offset != 1

    def take_buffer(self) -> PublicationBuffer:
        """Return the buffer, and stop buffering."""
        buffer, self.buffer = self.buffer or PublicationBuffer(), None
        return buffer


class RecoveringSubscriber(StreamReader):
    """
    A subscriber with a position of its own: it is served individually until it reaches the channel's position.

    Its position is None before the first read of the stream. Publications up to its position are not sent to it again.

    Args:
        subscriber: the subscriber.
        budget: limit for its buffer; None for a subscriber that receives all missed publications at once, not in pages.
        limit: without a budget, the most to read from the stream; None for no limit.
    """

    __slots__ = ("behind", "budget", "limit", "lost_plain", "reading", "subscriber")

    def __init__(
        self, subscriber: Subscriber, budget: BufferBudget | None = None, limit: ReadLimit | None = None
    ) -> None:
        super().__init__()
        self.subscriber = subscriber
        self.budget = budget
        self.limit = limit
        self.buffer = PublicationBuffer(budget)
        self.behind = False
        """Whether the subscriber has more pages of the stream to request."""
        self.reading = False
        """Whether a page is being read, which may be the last one."""
        self.lost_plain = False
        """Whether publications without an offset were dropped while it recovered."""

    def receive(self, item: Publication | PresenceEvent) -> None:
        """Buffer an item until the stream has been read, unless a later page contains it."""
        in_later_page = self.behind and not self.reading and isinstance(item, Publication) and item.offset
        if self.buffer is not None and not in_later_page:
            self.buffer.add(item)

    def must_read_pages(self, since: Position | None, top: Position) -> bool:
        """Return whether the subscriber reads in pages and the stream has publications after `since`."""
        return self.budget is not None and since is not None and since.epoch == top.epoch and since.offset < top.offset

    def pause(self, position: Position) -> None:
        """Wait at a position until the subscriber requests another page; keep only what the stream does not contain."""
        assert self.buffer is not None
        self.position = position
        self.behind, self.reading = True, False
        self.lost_plain |= self.buffer.overflowed and self.buffer.has_plain
        self.buffer.drop_stream()

    def finish(self, position: Position) -> bool:
        """
        End the recovery at a position; the caller delivers the buffered items in the next turn.

        Returns:
            False if the buffer has overflowed and the subscriber reads in pages: it has to read another page.
        """
        assert self.buffer is not None
        if self.budget is not None and self.buffer.overflowed:
            self.pause(position)
            return False
        self.position = position
        self.behind = self.reading = False
        self.buffer.release()
        return True


class ChannelState(StreamReader):
    """
    The state of a channel with subscribers in this process.

    Its `buffer` has what has arrived since a gap was detected; it is None while there is no gap.
    """

    __slots__ = ("channel", "confirmed", "kinds", "outage", "pending", "read_again", "recovering", "waiting")

    def __init__(self, channel: ChannelName) -> None:
        super().__init__()
        self.channel = channel
        self.kinds: dict[Hashable, dict[Any, None]] = {}
        """Kind -> its subscribers, in the order of subscription. They are served in bulk, with joined writes."""
        self.recovering: dict[Any, RecoveringSubscriber] = {}
        """Subscriber -> its recovery. These subscribers are served individually."""
        self.pending: list[Publication | PresenceEvent] = []
        """Items to deliver at the end of this turn."""
        self.confirmed = False
        """Whether the broker has confirmed the subscription, and sends the channel's publications."""
        self.waiting: list[Deferred[None]] = []
        """Fire once the broker has confirmed the subscription, or fail with it."""
        self.outage = False
        """Whether a broker outage caused the gap, so that publications without an offset may be missing, too."""
        self.read_again = False
        """Whether another outage has happened before the gap was closed, so that the stream must be read again."""

    def confirm(self, _: object = None) -> None:
        """Note that the broker has confirmed the subscription, and fire `waiting`."""
        self.confirmed = True
        waiting, self.waiting = self.waiting, []
        for done in waiting:
            done.callback(None)

    def reject(self, failure: Failure) -> None:
        """Fail `waiting`, because the broker has not confirmed the subscription."""
        waiting, self.waiting = self.waiting, []
        for done in waiting:
            done.errback(failure)

    def __len__(self) -> int:
        return sum(map(len, self.kinds.values())) + len(self.recovering)

    def add(self, subscriber: Subscriber) -> None:
        """Add a subscriber to those that are served in bulk."""
        self.kinds.setdefault(subscriber.kind, {})[subscriber] = None

    def remove(self, subscriber: Subscriber) -> bool:
        """Remove a subscriber; return False if it is not subscribed."""
        if self.recovering.pop(subscriber, None) is not None:
            return True
        same_kind = self.kinds.get(subscriber.kind, {})
        if subscriber not in same_kind:
            return False
        del same_kind[subscriber]
        if not same_kind:
            del self.kinds[subscriber.kind]
        return True

    def in_bulk(self) -> list[Any]:
        """Return the subscribers that are served in bulk."""
        return [one for subscribers in self.kinds.values() for one in subscribers]

    def subscribers(self) -> list[Any]:
        """Return all subscribers, including those that are still recovering."""
        return [*self.in_bulk(), *self.recovering]
