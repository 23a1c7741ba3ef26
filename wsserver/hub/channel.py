"""
The state of a channel with subscribers in this process: the subscribers, and their positions in the channel's stream.

Most subscribers are served in bulk: they share the channel's position, and new publications are written to all of them
in one loop. A subscriber that recovers (it first receives the publications that it missed) is served individually, and
has its own position. Both the channel and each recovering subscriber are a `StreamReader`: while the stream is read
from the broker for them, they buffer the publications that arrive.

This module does not use a clock or a socket: the hub decides when to deliver.
"""

from collections.abc import Hashable, Iterable
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from wsserver.hub.broker import Subscriber
from wsserver.hub.filters import Filter, FilteredKind
from wsserver.hub.presence import PresenceEvent
from wsserver.hub.publication import Publication
from wsserver.hub.rewind import Rewind
from wsserver.hub.send_queue import OVERHEAD
from wsserver.hub.stream import Position, ReadLimit
from wsserver.typing import ChannelName

__all__ = [
    "MAX_BUFFER_BYTES",
    "MAX_BUFFER_ITEMS",
    "BufferBudget",
    "ChannelState",
    "Joined",
    "PublicationBuffer",
    "RecoveringSubscriber",
    "StreamReader",
]


MAX_BUFFER_ITEMS = 10_000
"""Maximum number of publications and presence events in one `PublicationBuffer`."""

MAX_BUFFER_BYTES = 16 * 1024**2
"""Maximum total size in bytes of the publications' data in one `PublicationBuffer`."""


class BufferBudget:
    """
    The bytes that one connection may still buffer while its channels are recovered; shared by the channels' buffers.

    Args:
        size: limit in bytes for all buffers of the connection together.
    """

    __slots__ = ("left",)

    def __init__(self, size: int) -> None:
        self.left = size


class PublicationBuffer:
    """
    A buffer for the items (publications and presence events) that arrive while a stream is read from the broker.

    Its limits are `MAX_BUFFER_ITEMS`, `MAX_BUFFER_BYTES` and the budget. When an item exceeds one of them, the buffer
    drops all its items, sets `overflowed`, and drops every further item.

    Args:
        budget: a limit for several buffers together; None for no such limit.
    """

    __slots__ = ("_budget", "_left", "_size", "has_plain", "items", "overflowed")

    def __init__(self, budget: BufferBudget | None = None) -> None:
        self.items: list[Publication | PresenceEvent] = []
        self.overflowed = False
        self.has_plain = False
        """Whether a publication without an offset was added. If it is dropped, it cannot be read from the stream."""
        self._budget = budget
        self._size = 0
        self._left: int | None = None
        """Number of items that the last call of `take_page` left in the buffer; None before the first call."""

    def add(self, item: Publication | PresenceEvent) -> None:
        """Append a publication or a presence event, unless the buffer has overflowed."""
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
        """Return the offset of the first buffered publication with this epoch; None if there is none."""
        found = (item.offset for item in self.items if isinstance(item, Publication) and item.epoch == epoch)
        return next(found, None)

    def drop_epoch(self, epoch: str) -> None:
        """Drop the publications with this epoch; keep presence events and publications without an offset."""
        self._replace([item for item in self.items if not (isinstance(item, Publication) and item.epoch == epoch)])

    def drop_stream(self) -> tuple[int, int]:
        """
        Drop the publications with an offset: the caller reads them from the stream.

        If the buffer has overflowed, reset `overflowed`, so that the buffer keeps new items again.

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

        A page may also contain as many items and bytes as were added since the last call. So the buffer becomes empty
        in the end, even if more than `count` publications arrive between two calls.

        Args:
            count: maximum number of items in the page, without this addition.
            size: maximum size of the page's data in bytes, without this addition. A publication that is larger is
                returned alone.
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
        """Detach the buffer from the budget: its items no longer count against the limit of the connection."""
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
    """A position in a channel's stream, and a buffer for what arrives while the stream is read from that position."""

    __slots__ = ("buffer", "position")

    def __init__(self) -> None:
        self.position: Position | None = None
        """Position of the last publication received; None if unknown."""
        self.buffer: PublicationBuffer | None = None
        """The items that have arrived since the read of the stream began; None while no read is in progress."""

    def is_new(self, publication: Publication) -> bool:
        """Return whether a publication is new to the reader: after the reader's position, or with another epoch."""
        position = self.position
        return position is None or publication.epoch != position.epoch or publication.offset > position.offset

    def leaves_gap(self, publication: Publication) -> bool:
        """Return whether publications are missing between the reader's position and a publication with an offset."""
        position = self.position
        if position is None:
            return False
        if publication.epoch == position.epoch:
            return publication.offset != position.offset + 1
        # Another epoch: a new stream. Nothing is missing if the old one was empty and this is the first of the new.
        return position.offset != 0 or publication.offset != 1

    def is_at_top(self, since: Position | None) -> bool:
        """Return whether a new subscriber has missed nothing: its position (None for any) is known to be the newest."""
        return self.position is not None and self.buffer is None and since in (None, self.position)

    def take_buffer(self) -> PublicationBuffer:
        """Return the buffer (an empty one if there is none), and stop buffering."""
        buffer, self.buffer = self.buffer or PublicationBuffer(), None
        return buffer


class Joined(NamedTuple):
    """The state of a new subscription, or the next page of its recovery."""

    position: Position | None
    """
    The subscriber's position in the stream. None if the subscriber did not request it, if the channel has no history,
    if the subscriber has unsubscribed, or if `behind` is set because a rewind begins: a later page determines it.
    """
    publications: tuple[Publication, ...] = ()
    """
    The missed publications, from the position after which the subscriber asked to recover up to `position`. After a
    rewind, the last publications up to `position`. If the subscriber has a filter, only those that match it.
    """
    recovered: bool = False
    """
    Whether `publications` is complete: it has every publication that the subscriber missed up to `position`. False if
    it is the result of a rewind.
    """
    behind: bool = False
    """
    Whether the stream has further missed publications after `position`, which the caller reads with `Hub.recover`.
    Always False for subscribers without a `BufferBudget`.
    """


class RecoveringSubscriber(StreamReader):
    """
    A subscriber that recovers: it has its own position, and is served individually until it reaches the channel's.

    The position is None until the stream has been read for the first time. The subscriber is not sent publications up
    to its position again.

    Args:
        subscriber: the subscriber.
        budget: the limit for its buffer, if the subscriber requests the missed publications page by page; None if it
            receives all of them at once.
        limit: the most to read from the stream if there is no budget; None for no limit.
        rewind: maximum number of earlier publications to deliver if there is no position to recover from.
    """

    __slots__ = ("behind", "budget", "is_counted", "limit", "lost_plain", "reading", "rewind", "subscriber")

    def __init__(
        self,
        subscriber: Subscriber,
        budget: BufferBudget | None = None,
        limit: ReadLimit | None = None,
        rewind: int = 0,
    ) -> None:
        super().__init__()
        self.subscriber = subscriber
        self.budget = budget
        self.limit = limit
        self.rewind = Rewind(rewind, self.filter)
        self.buffer = PublicationBuffer(budget)
        self.behind = False
        """Whether the stream has publications that the subscriber has yet to request as further pages."""
        self.reading = False
        """Whether a page is being read from the broker. It may be the last page, so new publications are buffered."""
        self.lost_plain = False
        """Whether publications without an offset were dropped while the subscriber recovered."""
        self.is_counted = False
        """Whether `Recovery.outcomes` contains the recovery, or must not, because there is only a rewind."""

    def receive(self, item: Publication | PresenceEvent) -> None:
        """Buffer a publication or presence event until the recovery ends, unless a later page will contain it."""
        in_later_page = self.behind and not self.reading and isinstance(item, Publication) and item.offset
        if self.buffer is not None and not in_later_page:
            self.buffer.add(item)

    def must_read_pages(self, since: Position | None, top: Position) -> bool:
        """Return whether the subscriber reads page by page, and the stream (up to `top`) goes on after `since`."""
        return self.budget is not None and since is not None and since.epoch == top.epoch and since.offset < top.offset

    @property
    def filter(self) -> Filter | None:
        """The subscriber's filter; None if it receives all publications."""
        kind = self.subscriber.kind
        return kind.filter if isinstance(kind, FilteredKind) else None

    def select(self, publications: Iterable[Publication]) -> tuple[Publication, ...]:
        """Return the publications that match the subscriber's filter, with `rewound` set if they belong to a rewind."""
        filter_ = self.filter
        if filter_ is not None:
            publications = (one for one in publications if filter_.matches(one.tags))
        return self.rewind.mark(publications)

    def pause(self, position: Position) -> None:
        """
        Stop at a position until the subscriber requests another page.

        The buffer keeps only what is not in the stream: presence events and publications without an offset.
        """
        assert self.buffer is not None
        self.position = position
        self.behind, self.reading = True, False
        self.lost_plain |= self.buffer.overflowed and self.buffer.has_plain
        self.buffer.drop_stream()

    def finish(self, position: Position) -> bool:
        """
        End the recovery at a position; the caller then delivers the buffered items, in the next event-loop iteration.

        Returns:
            False if the recovery cannot end, because the buffer of a subscriber that reads page by page has overflowed.
            The subscriber then has to request another page.
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

    While a gap is being closed, `buffer` holds the items that have arrived since the gap was detected. Otherwise it is
    None.
    """

    __slots__ = ("channel", "confirmed", "kinds", "outage", "pending", "read_again", "recovering", "waiting")

    def __init__(self, channel: ChannelName) -> None:
        super().__init__()
        self.channel = channel
        self.kinds: dict[Hashable, dict[Any, None]] = {}
        """`Subscriber.kind` -> the subscribers of that kind, in the order of subscription. They are served in bulk."""
        self.recovering: dict[Any, RecoveringSubscriber] = {}
        """Subscriber -> the state of its recovery. These subscribers are served individually."""
        self.pending: list[Publication | PresenceEvent] = []
        """Publications and presence events to deliver at the end of this event-loop iteration."""
        self.confirmed = False
        """Whether the broker has confirmed this process's subscription, and so delivers the channel's publications."""
        self.waiting: list[Deferred[None]] = []
        """Deferreds that fire once the broker has confirmed the subscription, and fail if the broker refuses it."""
        self.outage = False
        """Whether a broker outage caused the gap; publications without an offset may then be missing, too."""
        self.read_again = False
        """Whether a further outage happened before the gap was closed, so that the stream must be read again."""

    def confirm(self, _: object = None) -> None:
        """Record that the broker has confirmed the subscription, and fire the Deferreds in `waiting`."""
        self.confirmed = True
        waiting, self.waiting = self.waiting, []
        for done in waiting:
            done.callback(None)

    def reject(self, failure: Failure) -> None:
        """Fail the Deferreds in `waiting`, because the broker has refused the subscription or is down."""
        waiting, self.waiting = self.waiting, []
        for done in waiting:
            done.errback(failure)

    def __len__(self) -> int:
        return sum(map(len, self.kinds.values())) + len(self.recovering)

    def add(self, subscriber: Subscriber) -> None:
        """Add a subscriber to the subscribers that are served in bulk."""
        self.kinds.setdefault(subscriber.kind, {})[subscriber] = None

    def remove(self, subscriber: Subscriber) -> bool:
        """Remove a subscriber from the channel; return False if it is not subscribed."""
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
        """Return the subscribers that are served in bulk, which excludes those that are still recovering."""
        return [one for subscribers in self.kinds.values() for one in subscribers]

    def subscribers(self) -> list[Any]:
        """Return all subscribers, including those that are still recovering."""
        return [*self.in_bulk(), *self.recovering]
