"""
Closing gaps: read the publications that did not arrive from the channel's history, page by page.

A gap is detected when an offset does not follow the last one, or after a broker outage. Until it is closed, the hub
holds everything that arrives, so that subscribers receive it in order and once. Each page, and each part of what was
held, is delivered in a turn of its own. So neither a long gap nor gaps in many channels block the reactor, and
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
from wsserver.hub.presence import PresenceEvent
from wsserver.hub.publication import Publication
from wsserver.hub.recovery import PAGE_BYTES, PAGE_SIZE, PageReader, ReadLimit
from wsserver.hub.rules import Rules
from wsserver.hub.stream import Page, Position, continues

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

    def is_current(self, room: ChannelState) -> bool:
        """Return whether this is still the channel's current subscription at the broker."""

    def replay(self, room: ChannelState, items: Iterable[Publication | PresenceEvent]) -> None:
        """
        Process publications and presence events as if they arrived now.

        A publication that leaves a gap starts closing that gap, as any other.
        """

    def tell_gap(self, room: ChannelState, *, stream: bool) -> None:
        """
        Notify all subscribers of a channel that publications may be missing.

        Args:
            room: the channel.
            stream: whether publications with an offset may be missing; if False, only ones without an offset may be.
        """


class GapCloser:
    """
    Closes the gaps of all channels.

    Args:
        channels: the hub.
        broker: reads the histories.
        rules: define which channels have a history.
        pages: limits the number of pages delivered in a turn of the reactor; shared with recovery.
        reactor: schedules the next page.
    """

    def __init__(
        self, channels: Channels, broker: Broker, rules: Rules, pages: PageReader, reactor: IReactorTime
    ) -> None:
        self._channels = channels
        self._broker = broker
        self._rules = rules
        self._pages = pages
        self._reactor = reactor
        self._reads = DeferredSemaphore(MAX_READS_AT_ONCE)

    def close(self, room: ChannelState, arrived: Publication | None = None) -> None:
        """
        Start to read the missing publications, and hold what arrives until the gap is closed.

        Args:
            room: the channel.
            arrived: the publication that does not follow the last one; None after an outage.
        """
        room.held = PublicationBuffer()
        if arrived is not None:
            room.held.add(arrived)
        self._read(room, _ONE_PAGE, arrived)

    def on_reconnect(self, room: ChannelState) -> None:
        """Start to read what a channel has missed in an outage; its subscribers are notified of losses after that."""
        room.outage = True
        if room.held is None:
            self.close(room)
        else:
            # A page that was read before the outage, and what is held, do not show what the outage lost.
            room.read_again = True

    def _read(self, room: ChannelState, limit: ReadLimit, arrived: Publication | None = None) -> None:
        """Request the next page from the broker, after the pages that were requested before."""
        position, keep = room.position, self._rules.for_channel(room.channel).keep
        if position is None or keep is None:
            self._give_up(room, None)
            return

        def read() -> "Deferred[Page]":
            size, max_bytes = limit
            page = self._broker.history(room.channel, keep, position, size, reverse=False, max_bytes=max_bytes)
            return page.addCallback(self._wait_for_turn)

        self._reads.run(read).addCallbacks(
            self._page_read,
            lambda failure: self._give_up(room, None, failure),
            callbackArgs=(room, position, arrived),
        )

    def _wait_for_turn(self, page: Page) -> "Deferred[Page]":
        """Return the page in the turn in which it may be delivered; at once if it has no publications."""
        return self._pages.read(lambda: succeed(page)) if page.publications else succeed(page)

    def _page_read(self, page: Page, room: ChannelState, position: Position, arrived: Publication | None) -> None:
        """Deliver a page, and request the next one; after the last page, deliver what is held."""
        held = room.held
        if not self._channels.is_current(room) or held is None:
            return
        if held.over or not continues(position, page) or not _is_consistent(page, arrived):
            self._give_up(room, page.position)
            return
        if room.outage:
            self._channels.tell_gap(room, stream=False)
        if not page.reaches_top:
            if self._replay(room, page.publications):
                # The next page also replaces what arrived during this one, or a busy channel would never catch up.
                count, size = held.drop_stream()
                self._reactor.callLater(0, self._read, room, ReadLimit(PAGE_SIZE + count, PAGE_BYTES + size))
            return
        # Held publications are delivered from the buffer, not from the page: there they are in the right order
        # relative to those without an offset.
        first = held.first_offset(position.epoch)
        if not self._replay(room, (one for one in page.publications if first is None or one.offset < first)):
            return
        if arrived is not None and arrived.epoch != position.epoch:
            held.drop_epoch(arrived.epoch)
        self._publish_held(room, held)

    def _publish_held(self, room: ChannelState, held: PublicationBuffer) -> None:
        """Deliver what arrived while the gap was being closed, one part in each turn."""
        if not self._channels.is_current(room) or room.held is not held:
            return
        if held.over:
            self._give_up(room, None)
        elif not self._replay(room, held.take_page(PAGE_SIZE, PAGE_BYTES)):
            return
        elif held.items:
            self._reactor.callLater(0, self._publish_held, room, held)
        else:
            room.held = None
            if room.read_again:
                room.read_again = False
                self.close(room)

    def _replay(self, room: ChannelState, items: Iterable[Publication | PresenceEvent]) -> bool:
        """
        Deliver items ahead of the held ones.

        Returns:
            False if the items have opened another gap, or if no subscriber is left.
        """
        held = room.take_held()
        self._channels.replay(room, items)
        if not self._channels.is_current(room):
            return False
        if room.held is not None:
            self._channels.replay(room, held.items)
            return False
        room.held = held
        return True

    def _give_up(self, room: ChannelState, top: Position | None, failure: Failure | None = None) -> None:
        """Notify the subscribers that the gap cannot be closed, and continue with what has arrived since."""
        if failure is not None and not failure.check(BrokerDown):
            _log.failure("a stream could not be read", failure)
        if not self._channels.is_current(room):
            # The channel has been left, or subscribed to again: no subscriber has a gap to be notified of.
            return
        held = room.take_held()
        # With None, the first held publication sets the position, so that it leaves no gap.
        numbered = held.over or any(isinstance(item, Publication) and item.offset for item in held.items)
        room.position = None if numbered else top
        room.read_again = False
        self._channels.tell_gap(room, stream=True)
        self._channels.replay(room, held.items)


def _is_consistent(page: Page, arrived: Publication | None) -> bool:
    """
    Return whether a page of the stream is consistent with the publication that did not follow the last one.

    It is in two cases. Either the stream contains the publication. Or the publication belongs to another stream, one
    that was lost (FLUSHALL) before the page was read, because the page was requested after the publication had arrived,
    and an epoch is never used again. The publication then precedes the position that the subscribers have reached.
    """
    return arrived is None or arrived.epoch != page.position.epoch or arrived.offset <= page.position.offset
