"""
Closing gaps: read publications that this process missed from the channel's history, page by page.

The hub detects a gap if a publication's offset is not the last one plus 1, or after a broker outage. Until the gap is
closed, new publications are buffered, so that subscribers receive every publication in order and once.

Each page and each part of the buffer is delivered in a separate iteration of the event loop. Therefore neither a long
gap nor gaps in many channels block the event loop, and `--max-queued-bytes` and `--slow` apply to each page.
"""

from collections.abc import Iterable
from typing import Final, Protocol

from twisted.internet.defer import Deferred, DeferredSemaphore, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from wsserver.errors import BrokerDown
from wsserver.hub.broker import Broker
from wsserver.hub.channel import ChannelState, PublicationBuffer
from wsserver.hub.deferreds import as_deferred
from wsserver.hub.pages import PAGE_BYTES, PAGE_SIZE, PageReader
from wsserver.hub.presence import PresenceEvent
from wsserver.hub.publication import Publication
from wsserver.hub.recovery import Recovery
from wsserver.hub.rules import Rules
from wsserver.hub.stream import Page, Position, ReadLimit
from wsserver.typing import ChannelName

__all__ = ["GapCloser"]

# At module level, because Twisted replaces the namespace of a class's logger by the class's name.
_log = Logger(namespace="wsserver.hub")

MAX_READS_AT_ONCE: Final = 200
"""
Maximum number of pages that are requested from the broker or wait to be delivered, for all channels together. After an
outage, every channel with a history needs at least one page.
"""

_ONE_PAGE: Final = ReadLimit(PAGE_SIZE, PAGE_BYTES)


class Channels(Protocol):
    """The methods of the hub that `GapCloser` needs."""

    def find(self, channel: ChannelName) -> ChannelState | None:
        """Return the state of a channel; None if it has no subscribers."""

    def on_publication(self, channel: ChannelName, publication: Publication) -> None:
        """Process a buffered publication like a new one; if an offset is missing before it, start to close that gap."""

    def on_presence(self, channel: ChannelName, event: PresenceEvent) -> None:
        """Process a buffered presence event like a new one."""


class GapCloser:
    """
    Closes gaps: delivers the publications that this process missed, after reading them from the history.

    Args:
        channels: the hub.
        recovery: notifies the subscribers if a gap cannot be closed.
        broker: reads the histories.
        rules: define which channels have a history.
        pages: limits the number of pages delivered in one event-loop iteration; shared with `Recovery`.
        reactor: schedules the next page.
    """

    def __init__(
        self,
        channels: Channels,
        recovery: Recovery,
        broker: Broker,
        rules: Rules,
        *,
        pages: PageReader,
        reactor: IReactorTime,
    ) -> None:
        self._channels = channels
        self._recovery = recovery
        self._broker = broker
        self._rules = rules
        self._pages = pages
        self._reactor = reactor
        self._reads = DeferredSemaphore(MAX_READS_AT_ONCE)

    def close(self, state: ChannelState, arrived: Publication | None = None) -> None:
        """
        Start to read the missing publications; until the gap is closed, buffer new publications and presence events.

        Args:
            state: the channel with the gap.
            arrived: the publication that revealed the gap: its offset does not follow the last one. None after an
                outage.
        """
        state.buffer = PublicationBuffer()
        if arrived is not None:
            state.buffer.add(arrived)
        self._read(state, _ONE_PAGE, arrived)

    def on_reconnect(self, state: ChannelState) -> None:
        """
        Start to read the publications that a channel missed during a broker outage.

        If the channel has no history, or if its position in the stream is unknown, there is nothing to read: its
        subscribers are notified of the gap immediately.
        """
        has_history = self._rules.for_channel(state.channel).keep is not None
        if not has_history or state.position is None:
            self._recovery.notify_gap(state, stream=has_history)
            return
        state.outage = True
        if state.buffer is None:
            self.close(state)
        else:
            # A gap is already being closed, but maybe with a page read before the outage. So the stream is read again.
            state.read_again = True

    def _read(self, state: ChannelState, limit: ReadLimit, arrived: Publication | None = None) -> None:
        """Request the channel's next page from the broker; wait while `MAX_READS_AT_ONCE` others are in progress."""
        position, keep = state.position, self._rules.for_channel(state.channel).keep
        if position is None or keep is None:
            self._give_up(state, None)
            return

        def read() -> "Deferred[Page]":
            size, max_bytes = limit
            page = self._broker.history(state.channel, keep, position, size, reverse=False, max_bytes=max_bytes)
            return as_deferred(page).addCallback(self._wait_for_turn)

        self._reads.run(read).addCallbacks(
            self._page_read,
            lambda failure: self._give_up(state, None, failure),
            callbackArgs=(state, position, arrived),
        )

    def _wait_for_turn(self, page: Page) -> "Deferred[Page]":
        """Return a Deferred that fires with the page once `PageReader` permits its delivery; at once if it is empty."""
        return self._pages.read(lambda: succeed(page)) if page.publications else succeed(page)

    def _page_read(self, page: Page, state: ChannelState, since: Position, arrived: Publication | None) -> None:
        """Deliver a page, then request the next page; after the last page, deliver the buffer."""
        buffer = state.buffer
        if not self._is_current(state) or buffer is None:
            return
        end = page.end_after(since)
        if buffer.overflowed or end is None or not _is_consistent(page, arrived):
            self._give_up(state, page.position)
            return
        if state.outage:
            self._recovery.notify_gap(state, stream=False)
        if end != page.position:
            if self._replay(state, page.publications):
                # The next page is enlarged by the publications that arrived during this one, which the stream contains.
                # Otherwise, a busy channel would never catch up.
                count, size = buffer.drop_stream()
                self._reactor.callLater(0, self._read, state, ReadLimit(PAGE_SIZE + count, PAGE_BYTES + size))
            return
        # A publication that is both in the page and in the buffer is delivered from the buffer, because only the buffer
        # keeps the order between publications with and without an offset.
        first = buffer.first_offset(since.epoch)
        if not self._replay(state, (one for one in page.publications if first is None or one.offset < first)):
            return
        if arrived is not None and arrived.epoch != since.epoch:
            buffer.drop_epoch(arrived.epoch)
        self._deliver_buffer(state, buffer)

    def _deliver_buffer(self, state: ChannelState, buffer: PublicationBuffer) -> None:
        """Deliver the items that arrived while the gap was being closed, one part in each event-loop iteration."""
        if not self._is_current(state) or state.buffer is not buffer:
            return
        if buffer.overflowed:
            self._give_up(state, None)
        elif not self._replay(state, buffer.take_page(PAGE_SIZE, PAGE_BYTES)):
            return
        elif buffer.items:
            self._reactor.callLater(0, self._deliver_buffer, state, buffer)
        else:
            state.buffer = None
            if state.read_again:
                state.read_again = False
                self.close(state)

    def _replay(self, state: ChannelState, items: Iterable[Publication | PresenceEvent]) -> bool:
        """
        Deliver items before the buffered items.

        Returns:
            True if the delivery can continue. False if the items revealed another gap, or if no subscriber is left.
        """
        buffer = state.take_buffer()
        self._process(state, items)
        if not self._is_current(state):
            return False
        if state.buffer is not None:
            self._process(state, buffer.items)
            return False
        state.buffer = buffer
        return True

    def _process(self, state: ChannelState, items: Iterable[Publication | PresenceEvent]) -> None:
        """Process items like new ones; stop once the last subscriber has left."""
        for item in items:
            if not self._is_current(state):
                return
            if isinstance(item, Publication):
                self._channels.on_publication(state.channel, item)
            else:
                self._channels.on_presence(state.channel, item)

    def _is_current(self, state: ChannelState) -> bool:
        """Return whether this is still the channel's state: False if all its subscribers have left in the meantime."""
        return self._channels.find(state.channel) is state

    def _give_up(self, state: ChannelState, top: Position | None, failure: Failure | None = None) -> None:
        """Notify the subscribers that publications may be missing, then deliver the items that have arrived since."""
        if failure is not None and not failure.check(BrokerDown):
            _log.failure("reading a stream failed channel={channel}", failure, channel=state.channel)
        if not self._is_current(state):
            # All subscribers with the gap have left. Those that have subscribed since have no gap.
            return
        buffer = state.take_buffer()
        # If the position is None, the first buffered publication sets it, so that no second gap is detected.
        has_offsets = buffer.overflowed or any(isinstance(item, Publication) and item.offset for item in buffer.items)
        state.position = None if has_offsets else top
        state.read_again = False
        self._recovery.notify_gap(state, stream=True)
        self._process(state, buffer.items)


def _is_consistent(page: Page, arrived: Publication | None) -> bool:
    """
    Return whether a page of the stream is consistent with the publication that revealed the gap.

    There are two consistent cases. Either the stream contains the publication. Or the publication has another epoch, so
    it belongs to another stream. That stream must be an earlier one, lost for example by FLUSHALL, because the page was
    requested after the publication had arrived, and an epoch is never used again. The subscribers have already received
    publications of the later stream, so the earlier publication is not missing.

    Args:
        page: the page.
        arrived: the publication that revealed the gap; None after an outage, when any page is consistent.
    """
    return arrived is None or arrived.epoch != page.position.epoch or arrived.offset <= page.position.offset
