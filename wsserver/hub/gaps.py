"""
Closing gaps: read the publications that did not arrive from the channel's history, page by page.

A gap is detected when an offset does not follow the last one, or after a broker outage. Until it is closed, everything
that arrives is buffered, so that subscribers receive it in order and once. Each page, and each part of the buffer, is
delivered in a turn of its own. So neither a long gap nor gaps in many channels block the reactor, and
`--max-queued-bytes` and `--slow` apply to each page.
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
Maximum number of pages that are requested from the broker or wait to be delivered. After an outage, every channel needs
one.
"""

_ONE_PAGE: Final = ReadLimit(PAGE_SIZE, PAGE_BYTES)


class Channels(Protocol):
    """The methods of the hub that closing gaps needs."""

    def find(self, channel: ChannelName) -> ChannelState | None:
        """Return the state of a channel; None if it has no subscribers."""

    def on_publication(self, channel: ChannelName, publication: Publication) -> None:
        """Process a buffered publication like a new one; if an offset is missing before it, start to close that gap."""

    def on_presence(self, channel: ChannelName, event: PresenceEvent) -> None:
        """Process a buffered presence event like a new one."""


class GapCloser:
    """
    Closes the gaps of all channels.

    Args:
        channels: the hub.
        recovery: notifies the subscribers of gaps that cannot be closed.
        broker: reads the histories.
        rules: define which channels have a history.
        pages: limits the number of pages delivered in a turn of the reactor; shared with recovery.
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
        Start to read the missing publications, and buffer what arrives until the gap is closed.

        Args:
            state: the channel.
            arrived: the publication that does not follow the last one; None after an outage.
        """
        state.buffer = PublicationBuffer()
        if arrived is not None:
            state.buffer.add(arrived)
        self._read(state, _ONE_PAGE, arrived)

    def on_reconnect(self, state: ChannelState) -> None:
        """
        Start to read what a channel has missed in an outage; its subscribers are notified of losses after that.

        They are notified at once if the channel has no history, or if its position is unknown.
        """
        has_history = self._rules.for_channel(state.channel).keep is not None
        if not has_history or state.position is None:
            self._recovery.notify_gap(state, stream=has_history)
            return
        state.outage = True
        if state.buffer is None:
            self.close(state)
        else:
            # A page that was read before the outage, and the buffer, do not show what the outage lost.
            state.read_again = True

    def _read(self, state: ChannelState, limit: ReadLimit, arrived: Publication | None = None) -> None:
        """Request the next page from the broker, after the pages that were requested before."""
        position, keep = state.position, self._rules.for_channel(state.channel).keep
        if position is None or keep is None:
            self._give_up(state, None)
            return

        def read() -> "Deferred[Page]":
            size, max_bytes = limit
            page = self._broker.history(state.channel, keep, position, size, reverse=False, max_bytes=max_bytes)
            return page.addCallback(self._wait_for_turn)

        self._reads.run(read).addCallbacks(
            self._page_read,
            lambda failure: self._give_up(state, None, failure),
            callbackArgs=(state, position, arrived),
        )

    def _wait_for_turn(self, page: Page) -> "Deferred[Page]":
        """Return the page in the turn in which it may be delivered; at once if it has no publications."""
        return self._pages.read(lambda: succeed(page)) if page.publications else succeed(page)

    def _page_read(self, page: Page, state: ChannelState, since: Position, arrived: Publication | None) -> None:
        """Deliver a page, and request the next one; after the last page, deliver the buffer."""
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
                # The next page also replaces what arrived during this one, or a busy channel would never catch up.
                count, size = buffer.drop_stream()
                self._reactor.callLater(0, self._read, state, ReadLimit(PAGE_SIZE + count, PAGE_BYTES + size))
            return
        # Buffered publications are delivered from the buffer, not from the page: there they are in the right order
        # relative to those without an offset.
        first = buffer.first_offset(since.epoch)
        if not self._replay(state, (one for one in page.publications if first is None or one.offset < first)):
            return
        if arrived is not None and arrived.epoch != since.epoch:
            buffer.drop_epoch(arrived.epoch)
        self._deliver_buffer(state, buffer)

    def _deliver_buffer(self, state: ChannelState, buffer: PublicationBuffer) -> None:
        """Deliver what arrived while the gap was being closed, one part in each turn."""
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
        Deliver items ahead of the buffered ones.

        Returns:
            False if the items have opened another gap, or if no subscriber is left.
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
        """Process items as if they arrived now; stop once the last subscriber has left."""
        for item in items:
            if not self._is_current(state):
                return
            if isinstance(item, Publication):
                self._channels.on_publication(state.channel, item)
            else:
                self._channels.on_presence(state.channel, item)

    def _is_current(self, state: ChannelState) -> bool:
        """Return whether this is still the channel's subscription at the broker."""
        return self._channels.find(state.channel) is state

    def _give_up(self, state: ChannelState, top: Position | None, failure: Failure | None = None) -> None:
        """Notify the subscribers that the gap cannot be closed, and continue with what has arrived since."""
        if failure is not None and not failure.check(BrokerDown):
            _log.failure("reading a stream failed channel={channel}", failure, channel=state.channel)
        if not self._is_current(state):
            # The channel has been left, or subscribed to again: no subscriber has a gap to be notified of.
            return
        buffer = state.take_buffer()
        # With None, the first buffered publication sets the position, so that it leaves no gap.
        has_offsets = buffer.overflowed or any(isinstance(item, Publication) and item.offset for item in buffer.items)
        state.position = None if has_offsets else top
        state.read_again = False
        self._recovery.notify_gap(state, stream=True)
        self._process(state, buffer.items)


def _is_consistent(page: Page, arrived: Publication | None) -> bool:
    """
    Return whether a page of the stream is consistent with the publication that did not follow the last one.

    It is in two cases. Either the stream contains the publication. Or the publication belongs to another stream, one
    that was lost (FLUSHALL) before the page was read, because the page was requested after the publication had arrived,
    and an epoch is never used again. The publication then precedes the position that the subscribers have reached.
    """
    return arrived is None or arrived.epoch != page.position.epoch or arrived.offset <= page.position.offset
