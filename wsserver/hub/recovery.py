"""
Recovery: a subscriber that returns after a lost connection first receives the publications that it missed.

A recovering subscriber has its own position in the channel's stream, and is served individually. Publications that
arrive while the stream is read are buffered, and delivered after the missed ones. Once the subscriber has reached the
channel's position, it is served in bulk: together with the other subscribers, which all have the channel's position.

A subscriber with a `BufferBudget` receives the missed publications page by page: it requests the next page when it has
sent the previous one to its client. A subscriber without a budget receives all missed publications at once.

A rewind is a recovery, too: a new subscriber first receives the last publications of the stream. If a subscriber
requests both, the position that it recovers from has precedence, as long as the stream has what follows it.

A gap that concerns all subscribers of a channel is closed by `wsserver.hub.gaps` instead.
"""

from collections.abc import Hashable, Iterable
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from wsserver.hub.broker import Broker, Subscriber
from wsserver.hub.channel import ChannelState, Joined, RecoveringSubscriber
from wsserver.hub.deferreds import MaybeDeferred, as_deferred
from wsserver.hub.fanout import FanOut
from wsserver.hub.pages import PAGE_BYTES, PAGE_SIZE, PageReader
from wsserver.hub.presence import PresenceEvent
from wsserver.hub.publication import Publication
from wsserver.hub.rules import Rules
from wsserver.hub.stream import Page, Position, lowest
from wsserver.typing import ChannelName

__all__ = ["MAX_BUFFERED", "Recovery"]

# At module level, because Twisted replaces the namespace of a class's logger by the class's name.
_log = Logger(namespace="wsserver.hub")

MAX_BUFFERED: Final = 128 * 1024
"""
Maximum number of bytes buffered for one connection while its channels are recovered. Buffered are the publications
without an offset, and those that arrive while a page is read. Beyond the maximum, the buffer is dropped. The dropped
publications with an offset are then read from the stream; the subscriber is notified that those without may be missing.
"""


class Channels(Protocol):
    """The methods of the hub that `Recovery` needs."""

    def find(self, channel: ChannelName) -> ChannelState | None:
        """Return the state of a channel; None if it has no subscribers."""

    def flush(self, state: ChannelState) -> None:
        """Deliver the pending items of a channel to all its subscribers, except those that are still recovering."""

    def unsubscribe(self, channel: ChannelName, subscriber: Subscriber) -> None:
        """Unsubscribe a subscriber from a channel; do nothing if it is not subscribed."""


class Recovery:
    """
    Delivers missed publications to subscribers that return, and notifies subscribers of publications that are lost.

    Args:
        channels: the hub.
        broker: reads the streams.
        rules: define which channels have a history.
        fan_out: delivers to the subscribers.
        pages: limits the number of pages that are read at the same time.
        reactor: schedules the delivery of the buffered publications.
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
        Number of gaps that could not be closed, so that subscribers were notified. A client that cannot recover because
        it was away for too long does not count, because the server has lost nothing.
        """
        self.outcomes = {"yes": 0, "no": 0}
        """
        Number of subscribers that requested a recovery, once its outcome is known: `yes` if the stream had everything
        that they had missed, `no` otherwise.
        """
        self._channels = channels
        self._broker = broker
        self._rules = rules
        self._pages = pages
        self._fan_out = fan_out
        self._reactor = reactor
        self._finished: list[tuple[ChannelState, RecoveringSubscriber]] = []
        """The subscribers whose recovery has ended in this event-loop iteration, with their channels."""

    # Reading the stream.

    def begin(self, state: ChannelState, subscriber: Subscriber, since: Position | None) -> MaybeDeferred[Joined]:
        """
        Start the recovery of a new subscriber; called once the broker has confirmed the subscription to the channel.

        Args:
            state: the channel.
            subscriber: a subscriber in `state.recovering`. If it has unsubscribed in the meantime, the `Joined` is
                empty.
            since: deliver the publications after this position; None for only new publications.

        Returns:
            A `Joined`, or, if the stream must be read first, a Deferred that fires with a `Joined`. The Deferred fails
            with `BrokerDown`; the subscriber is then no longer subscribed.
        """
        recovering = state.recovering.get(subscriber)
        if recovering is None:
            return Joined(None)
        recovering.is_counted = since is None
        if since is None and recovering.rewind.count and recovering.budget is None:
            return self._rewind(state, recovering)
        top = state.position
        if top is not None and (
            state.is_at_top(since) or (state.buffer is None and recovering.must_read_pages(since, top))
        ):
            # The channel's position is the top of the stream, so the stream need not be read to find out the top.
            return self._begun(Page((), top), state, recovering, since, waited=False)
        limit, max_bytes = -1, None
        if since is None or recovering.budget is not None:
            limit = 0
        elif recovering.limit is not None:
            limit, max_bytes = recovering.limit
        reading = self._read(state, since, limit, max_bytes)
        if not isinstance(reading, Deferred):
            return self._begun(reading, state, recovering, since, waited=False)
        return reading.addCallbacks(
            self._begun, self._remove, callbackArgs=(state, recovering, since), errbackArgs=(state, recovering)
        )

    def read_page(self, channel: ChannelName, subscriber: Subscriber) -> "Deferred[Joined]":
        """Read the next page for a subscriber; see `wsserver.hub.hub.Hub.recover`."""
        return self._pages.read(lambda: self._read_next(channel, subscriber))

    def _read_next(self, channel: ChannelName, subscriber: Subscriber) -> "Deferred[Joined]":
        """Read a subscriber's next page from the broker; do nothing if the subscriber no longer recovers."""
        state = self._channels.find(channel)
        recovering = state.recovering.get(subscriber) if state is not None else None
        if state is None or recovering is None or not recovering.behind:
            return succeed(Joined(None))
        recovering.reading = True
        searches = recovering.rewind.search is not None
        since = recovering.rewind.search if searches else recovering.position
        reading = as_deferred(self._read(state, since, PAGE_SIZE, PAGE_BYTES, reverse=searches))
        finish = self._searched if searches else self._page_read
        return reading.addCallbacks(
            finish, self._remove, callbackArgs=(state, recovering), errbackArgs=(state, recovering)
        )

    def _rewind(self, state: ChannelState, recovering: RecoveringSubscriber) -> MaybeDeferred[Joined]:
        """Read the last publications of the stream for a new subscriber that does not read pages."""
        # If the subscriber has a filter, only matching publications count.
        limit, max_bytes = recovering.rewind.count if recovering.filter is None else -1, None
        if recovering.limit is not None:
            most, max_bytes = recovering.limit
            limit = most if limit < 0 else min(limit, most)
        reading = self._read(state, None, limit, max_bytes, reverse=True)
        if not isinstance(reading, Deferred):
            return self._rewound(reading, state, recovering, waited=False)
        return reading.addCallbacks(
            self._rewound, self._remove, callbackArgs=(state, recovering), errbackArgs=(state, recovering)
        )

    def _rewound(
        self, page: Page, state: ChannelState, recovering: RecoveringSubscriber, *, waited: bool = True
    ) -> Joined:
        """Return the `Joined` for the last publications of the stream, which were read in reverse order."""
        if not _is_current(state, recovering):
            return Joined(None)
        recovering.rewind.end = page.position
        self._finish(state, recovering, page.position, waited=waited)
        found = recovering.select(page.publications)[: recovering.rewind.count]
        return Joined(page.position, found[::-1])

    def _searched(self, page: Page, state: ChannelState, recovering: RecoveringSubscriber) -> Joined:
        """Search a page for the first publication of a rewind; no publications are returned yet."""
        if not _is_current(state, recovering):
            return Joined(None)
        search = recovering.rewind.search
        if search is None or page.position.epoch != search.epoch:
            return _begin_rewind(page, recovering)
        recovering.pause(recovering.rewind.continue_search(page))
        return Joined(None, recovered=True, behind=True)

    def _read(
        self,
        state: ChannelState,
        since: Position | None,
        limit: int,
        max_bytes: int | None,
        *,
        reverse: bool = False,
    ) -> MaybeDeferred[Any]:
        keep = self._rules.for_channel(state.channel).keep
        assert keep is not None, "subscribers to channels without a history have no position"
        return self._broker.history(state.channel, keep, since, limit, reverse=reverse, max_bytes=max_bytes)

    def _begun(
        self,
        page: Page,
        state: ChannelState,
        recovering: RecoveringSubscriber,
        since: Position | None,
        *,
        waited: bool = True,
    ) -> MaybeDeferred[Joined]:
        """Set a new subscriber's position, as found by the first read of the stream, and return its `Joined`."""
        if not _is_current(state, recovering):
            return Joined(None)
        if since is not None and recovering.must_read_pages(since, page.position):
            recovering.pause(since)
            return Joined(since, recovered=True, behind=True)
        recovered = since is not None and page.end_after(since) == page.position
        if since is not None:
            self._count(recovering, recovered=recovered)
        if not recovered and recovering.rewind.count:
            return self._rewind(state, recovering) if recovering.budget is None else _begin_rewind(page, recovering)
        behind = not self._finish(state, recovering, page.position, waited=waited)
        return Joined(page.position, recovering.select(page.publications) if recovered else (), recovered, behind)

    def _page_read(self, page: Page, state: ChannelState, recovering: RecoveringSubscriber) -> Joined:
        """Return the `Joined` for a page; after the last page, end the subscriber's recovery."""
        if not _is_current(state, recovering):
            return Joined(None)
        assert recovering.position is not None
        end = page.end_after(recovering.rewind.begin_of(page, recovering.position))
        if end is None or end == page.position:
            self._count(recovering, recovered=end is not None)
        if end is None and recovering.rewind.count:
            return _begin_rewind(page, recovering)
        if end is None:
            return Joined(page.position, behind=not self._finish(state, recovering, page.position))
        publications = recovering.select(page.publications)
        if end != page.position:
            recovering.pause(end)
            return Joined(end, publications, recovered=True, behind=True)
        return Joined(end, publications, recovered=True, behind=not self._finish(state, recovering, end))

    def _count(self, recovering: RecoveringSubscriber, *, recovered: bool) -> None:
        """Count the outcome of a recovery, once for each subscriber."""
        if not recovering.is_counted:
            recovering.is_counted = True
            self.outcomes["yes" if recovered else "no"] += 1

    def _finish(
        self, state: ChannelState, recovering: RecoveringSubscriber, position: Position, *, waited: bool = True
    ) -> bool:
        """
        End a subscriber's recovery; return False if the subscriber must first read another page.

        Args:
            state: the channel.
            recovering: the subscriber.
            position: the position at which the recovery ends.
            waited: whether publications may have been buffered while the stream was read.
        """
        if not recovering.finish(position):
            return False
        if not waited:
            self._deliver_buffer(state, recovering)
            return True
        # In the next event-loop iteration, because the caller must first send the `Joined` to the client: it has the
        # position that precedes the buffered publications.
        if not self._finished:
            self._reactor.callLater(0, self._deliver_buffers)
        self._finished.append((state, recovering))
        return True

    def _remove(self, failure: Failure, state: ChannelState, recovering: RecoveringSubscriber) -> Failure:
        """Unsubscribe a subscriber because the stream could not be read; return the failure."""
        if _is_current(state, recovering):
            self._channels.unsubscribe(state.channel, recovering.subscriber)
        return failure

    # Delivering.

    def receive(self, state: ChannelState, item: Publication | PresenceEvent) -> None:
        """Deliver a new publication or presence event to a channel's recovering subscribers, or buffer it for them."""
        kinds: dict[Hashable, dict[Any, None]] = {}
        for recovering in list(state.recovering.values()):
            if recovering.buffer is not None:
                recovering.receive(item)
            elif isinstance(item, Publication) and item.offset:
                self._deliver_new(state, recovering, [item])
            else:
                kinds.setdefault(recovering.subscriber.kind, {})[recovering.subscriber] = None
        # An item without an offset is new to every subscriber, so it is delivered to many of them in one loop. There
        # may be many: a subscriber with a higher position than the channel's stays here until the channel, too, has
        # received the publications up to that position.
        self._fan_out.publish(state.channel, kinds, [item])
        self._merge_recovered(state)

    def notify_gap(self, state: ChannelState, *, stream: bool) -> None:
        """
        Notify all subscribers of a channel that publications may be missing.

        Args:
            state: the channel.
            stream: True if publications with an offset may be missing; False if only those without an offset may be.
        """
        self._channels.flush(state)
        for one in list(state.recovering.values()):
            if one.position is not None and one.buffer is not None and not one.behind:
                self._deliver_buffer(state, one)
        self.gaps += stream
        state.outage = False
        # A subscriber without a position waits for the first read of the stream. It begins at the position that this
        # read returns, so it has no gap.
        known = [one for one in state.recovering.values() if one.position is not None]
        up_to_date = [one.subscriber for one in known if not one.behind]
        self._fan_out.missed(state.channel, [*state.in_bulk(), *up_to_date], stream=stream)
        # Subscribers that still read pages detect missing publications with an offset there. They are only notified of
        # publications without an offset.
        behind = [one.subscriber for one in known if one.behind]
        self._fan_out.missed(state.channel, behind, stream=False)

    def _deliver_buffers(self) -> None:
        """Deliver the buffers of the subscribers whose recovery ended in the last event-loop iteration."""
        finished, self._finished = self._finished, []
        for state, recovering in finished:
            try:
                self._deliver_buffer(state, recovering)
            except Exception:
                _log.failure("delivering the buffered publications failed channel={channel}", channel=state.channel)

    def _deliver_buffer(self, state: ChannelState, recovering: RecoveringSubscriber) -> None:
        """Deliver the items that were buffered during a subscriber's recovery; if the buffer overflowed, notify it."""
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
            state.position = lowest(one.position for one in state.recovering.values() if one.buffer is None)
        self._merge_recovered(state)

    def _deliver_new(
        self, state: ChannelState, recovering: RecoveringSubscriber, items: Iterable[Publication | PresenceEvent]
    ) -> None:
        """Deliver to one subscriber the items after its position, and notify it where publications are missing."""
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
                        # The notice made the subscriber unsubscribe. A Centrifuge client does so, to subscribe again.
                        return
                recovering.position = Position(item.offset, item.epoch)
            new.append(item)
        flush()

    def _notify_one(self, state: ChannelState, recovering: RecoveringSubscriber) -> None:
        self.gaps += 1
        self._fan_out.missed(state.channel, [recovering.subscriber], stream=True)

    def _merge_recovered(self, state: ChannelState) -> None:
        """Move the subscribers whose position the channel has reached to the subscribers that are served in bulk."""
        for one in list(state.recovering.values()):
            top, at = state.position, one.position
            if one.buffer is None and top and at and top.epoch == at.epoch and top.offset >= at.offset:
                self._channels.flush(state)
                if state.recovering.pop(one.subscriber, None) is not None:
                    state.add(one.subscriber)


def _is_current(state: ChannelState, recovering: RecoveringSubscriber) -> bool:
    """Return whether the recovery is still current: False if the subscriber has left, or is served in bulk by now."""
    return state.recovering.get(recovering.subscriber) is recovering


def _begin_rewind(page: Page, recovering: RecoveringSubscriber) -> Joined:
    """Begin the rewind of a subscriber that reads pages, at the top of the stream; return its `Joined`."""
    recovering.pause(recovering.rewind.begin(page.position))
    return Joined(None, behind=True)
