"""
Recovery: a returning subscriber receives the publications that it missed, then those that arrived meanwhile.

A recovering subscriber has a position of its own in the channel's stream, and is served individually. What arrives
while the stream is read is buffered. Once the subscriber has reached the channel's position, it joins the subscribers
that are served in bulk.

A subscriber with a `BufferBudget` reads the stream in pages, one at a time, as it sends them to its client. Any other
receives all missed publications at once.

Gaps of a channel, which concern all its subscribers, are closed by `wsserver.hub.gaps`.
"""

from collections.abc import Hashable, Iterable
from typing import Any, Final, NamedTuple, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from wsserver.hub.broker import Broker, Subscriber
from wsserver.hub.channel import ChannelState, RecoveringSubscriber
from wsserver.hub.fanout import FanOut
from wsserver.hub.pages import PAGE_BYTES, PAGE_SIZE, PageReader
from wsserver.hub.presence import PresenceEvent
from wsserver.hub.publication import Publication
from wsserver.hub.rules import Rules
from wsserver.hub.stream import Page, Position
from wsserver.typing import ChannelName

__all__ = ["MAX_BUFFERED", "Joined", "Recovery"]

MAX_BUFFERED: Final = 128 * 1024
"""
Maximum number of bytes buffered for one connection while its channels are recovered: publications without an offset,
and publications that arrive while a page is read. Beyond it the buffer is dropped: publications with an offset are then
read from the stream, and the subscriber is notified that others may be missing.
"""


class Joined(NamedTuple):
    """A subscription's initial state."""

    position: Position | None
    """The subscriber's position in the stream; None if it did not ask for one, or the channel keeps no history."""
    publications: tuple[Publication, ...] = ()
    """The publications after the position that the subscriber asked to recover from."""
    recovered: bool = False
    """Whether `publications` has everything that the subscriber missed, up to `position`."""
    behind: bool = False
    """
    Whether the stream has more publications after `position`, to be read with `Hub.recover`. Only set for subscribers
    that read in pages.
    """


class Channels(Protocol):
    """The methods of the hub that recovery needs."""

    def find(self, channel: ChannelName) -> ChannelState | None:
        """Return the state of a channel; None if it has no subscribers."""

    def flush(self, state: ChannelState) -> None:
        """Deliver a channel's pending items to the subscribers that are served in bulk."""

    def unsubscribe(self, channel: ChannelName, subscriber: Subscriber) -> None:
        """Unsubscribe a subscriber; do nothing if it is not subscribed."""


class Recovery:
    """
    Recovers subscribers, and notifies subscribers of gaps.

    Args:
        channels: the hub.
        broker: reads the streams.
        rules: define which channels have a history.
        fan_out: delivers to the subscribers.
        pages: limits the number of pages that are read at the same time.
        reactor: schedules the delivery of what was buffered.
    """

    def __init__(
        self,
        channels: Channels,
        broker: Broker,
        rules: Rules,
        *,
        fan_out: FanOut,
        pages: PageReader,
        reactor: IReactorTime,
    ) -> None:
        self.gaps = 0
        """
        Number of gaps that could not be closed, and of which subscribers were notified. Failed recoveries do not count:
        the client was away for longer than the history reaches back, and the server has lost nothing.
        """
        self._channels = channels
        self._broker = broker
        self._rules = rules
        self._pages = pages
        self._fan_out = fan_out
        self._reactor = reactor

    # Reading the stream.

    def begin(self, state: ChannelState, subscriber: Subscriber, since: Position | None) -> Any:
        """
        Find out a new subscriber's position; called once the broker has confirmed the channel's subscription.

        Args:
            state: the channel.
            subscriber: one of its `recovering` subscribers, unless it has unsubscribed again.
            since: recover the publications after this position; None to receive only new ones.

        Returns:
            A `Joined`, or a Deferred with it if the stream must be read first. The Deferred fails with `BrokerDown`,
            and then the subscription has been removed.
        """
        recovering = state.recovering.get(subscriber)
        if recovering is None:
            return Joined(None)
        top = state.position
        if (
            top is not None
            and state.buffer is None
            and (since in (None, top) or recovering.must_read_pages(since, top))
        ):
            # The channel's position is up to date, so the stream need not be read to learn it.
            return self._begun(Page((), top), state, recovering, since)
        limit, max_bytes = -1, None
        if since is None or recovering.budget is not None:
            limit = 0
        elif recovering.limit is not None:
            limit, max_bytes = recovering.limit
        reading = self._read(state, since, limit, max_bytes)
        return reading.addCallbacks(
            self._begun, self._remove, callbackArgs=(state, recovering, since), errbackArgs=(state, recovering)
        )

    def read_page(self, channel: ChannelName, subscriber: Subscriber) -> "Deferred[Joined]":
        """Read the next page for a subscriber; see `wsserver.hub.hub.Hub.recover`."""
        return self._pages.read(lambda: self._read_next(channel, subscriber))

    def _read_next(self, channel: ChannelName, subscriber: Subscriber) -> "Deferred[Joined]":
        """Request a subscriber's next page from the broker, unless the subscriber no longer recovers."""
        state = self._channels.find(channel)
        recovering = state.recovering.get(subscriber) if state is not None else None
        if state is None or recovering is None or not recovering.behind:
            return succeed(Joined(None))
        recovering.reading = True
        since = recovering.position
        reading = self._read(state, since, PAGE_SIZE, PAGE_BYTES)
        return reading.addCallbacks(
            self._page_read, self._remove, callbackArgs=(state, recovering, since), errbackArgs=(state, recovering)
        )

    def _read(self, state: ChannelState, since: Position | None, limit: int, max_bytes: int | None) -> "Deferred[Any]":
        keep = self._rules.for_channel(state.channel).keep
        assert keep is not None, "subscribers to channels without a history have no position"
        return self._broker.history(state.channel, keep, since, limit, reverse=False, max_bytes=max_bytes)

    def _begun(
        self, page: Page, state: ChannelState, recovering: RecoveringSubscriber, since: Position | None
    ) -> Joined:
        """Set a new subscriber's position from a page of the stream, and return its `Joined`."""
        if not _is_current(state, recovering):
            return Joined(None)
        if since is not None and recovering.must_read_pages(since, page.position):
            recovering.pause(since)
            return Joined(since, recovered=True, behind=True)
        recovered = since is not None and page.end_after(since) == page.position
        behind = not self._finish(state, recovering, page.position)
        return Joined(page.position, page.publications if recovered else (), recovered, behind)

    def _page_read(self, page: Page, state: ChannelState, recovering: RecoveringSubscriber, since: Position) -> Joined:
        """Return the `Joined` for a page; after the last page, end the subscriber's recovery."""
        if not _is_current(state, recovering):
            return Joined(None)
        end = page.end_after(since)
        if end is None:
            return Joined(page.position, behind=not self._finish(state, recovering, page.position))
        if end != page.position:
            recovering.pause(end)
            return Joined(end, page.publications, recovered=True, behind=True)
        return Joined(end, page.publications, recovered=True, behind=not self._finish(state, recovering, end))

    def _finish(self, state: ChannelState, recovering: RecoveringSubscriber, position: Position) -> bool:
        """End a recovery; return False if the subscriber has to read another page."""
        if not recovering.finish(position):
            return False
        # In the next turn: the caller first has to send the subscriber the result, with the position where it begins.
        self._reactor.callLater(0, self._deliver_buffer, state, recovering)
        return True

    def _remove(self, failure: Failure, state: ChannelState, recovering: RecoveringSubscriber) -> Failure:
        """Remove the subscription of a subscriber for which the stream could not be read."""
        if _is_current(state, recovering):
            self._channels.unsubscribe(state.channel, recovering.subscriber)
        return failure

    # Delivering.

    def receive(self, state: ChannelState, item: Publication | PresenceEvent) -> None:
        """Deliver an item that has arrived to the recovering subscribers of a channel, or buffer it for them."""
        kinds: dict[Hashable, dict[Any, None]] = {}
        for recovering in list(state.recovering.values()):
            if recovering.buffer is not None:
                recovering.receive(item)
            elif isinstance(item, Publication) and item.offset:
                self._deliver_new(state, recovering, [item])
            else:
                kinds.setdefault(recovering.subscriber.kind, {})[recovering.subscriber] = None
        # An item without an offset is new to every subscriber, so it is sent in bulk. There may be many recovered
        # subscribers: until a publication with an offset arrives, none may be able to join the others.
        self._fan_out.publish(state.channel, kinds, [item])
        self._merge_recovered(state)

    def notify_gap(self, state: ChannelState, *, stream: bool) -> None:
        """
        Notify all subscribers of a channel that publications may be missing.

        Args:
            state: the channel.
            stream: whether publications with an offset may be missing; if False, only ones without an offset may be.
        """
        self._channels.flush(state)
        for one in list(state.recovering.values()):
            if one.position is not None and one.buffer is not None and not one.behind:
                self._deliver_buffer(state, one)
        self.gaps += stream
        state.outage = False
        # Without a position, a subscriber still waits for the first read of the stream, which returns its position.
        known = [one for one in state.recovering.values() if one.position is not None]
        up_to_date = [one.subscriber for one in known if not one.behind]
        self._fan_out.missed(state.channel, [*state.in_bulk(), *up_to_date], stream=stream)
        # Subscribers that read pages find the stream's gaps there, but may lack publications without an offset, too.
        behind = [one.subscriber for one in known if one.behind]
        self._fan_out.missed(state.channel, behind, stream=False)

    def _deliver_buffer(self, state: ChannelState, recovering: RecoveringSubscriber) -> None:
        """Deliver what was buffered during a subscriber's recovery; notify it of a gap if the buffer overflowed."""
        if not _is_current(state, recovering) or recovering.buffer is None:
            return
        buffer = recovering.take_buffer()
        if recovering.lost_plain:
            recovering.lost_plain = False
            self._fan_out.missed(state.channel, [recovering.subscriber], stream=False)
        if buffer.overflowed:
            self._notify_one(state, recovering)
        else:
            self._deliver_new(state, recovering, buffer.items)
        if state.position is None and not state.kinds:
            state.position = _lowest(one.position for one in state.recovering.values() if one.buffer is None)
        self._merge_recovered(state)

    def _deliver_new(
        self, state: ChannelState, recovering: RecoveringSubscriber, items: Iterable[Publication | PresenceEvent]
    ) -> None:
        """Deliver to one recovered subscriber the items that it does not have yet, and notify it of gaps in them."""
        subscriber, new = recovering.subscriber, list[Publication | PresenceEvent]()

        def flush() -> None:
            if new:
                self._fan_out.publish(state.channel, {subscriber.kind: {subscriber: None}}, list(new))
                new.clear()

        for item in items:
            if isinstance(item, Publication) and item.offset:
                if not recovering.is_new(item):
                    continue
                if recovering.leaves_gap(item):
                    flush()
                    self._notify_one(state, recovering)
                    if not _is_current(state, recovering):
                        # The notice made the subscriber unsubscribe, as a Centrifuge client does to subscribe again.
                        return
                recovering.position = Position(item.offset, item.epoch)
            new.append(item)
        flush()

    def _notify_one(self, state: ChannelState, recovering: RecoveringSubscriber) -> None:
        self.gaps += 1
        self._fan_out.missed(state.channel, [recovering.subscriber], stream=True)

    def _merge_recovered(self, state: ChannelState) -> None:
        """Move recovered subscribers that have reached the channel's position to the subscribers served in bulk."""
        for one in list(state.recovering.values()):
            top, at = state.position, one.position
            if one.buffer is None and top and at and top.epoch == at.epoch and top.offset >= at.offset:
                self._channels.flush(state)
                if state.recovering.pop(one.subscriber, None) is not None:
                    state.add(one.subscriber)


def _is_current(state: ChannelState, recovering: RecoveringSubscriber) -> bool:
    """Return whether this is still the subscriber's subscription: it may have ended, or have been replaced."""
    return state.recovering.get(recovering.subscriber) is recovering


def _lowest(positions: Iterable[Position | None]) -> Position | None:
    """
    Return the lowest position of a channel's recovered subscribers.

    Subscribers that read the stream at different times have different positions. Publications after the lowest one are
    new to at least one of them.

    Args:
        positions: the subscribers' positions.

    Returns:
        The lowest position; None if there is none, or if the epochs differ. The next publication then sets the
        channel's position.
    """
    known = {position for position in positions if position is not None}
    return min(known) if len({position.epoch for position in known}) == 1 else None
