"""
Closing gaps: read the publications that did not arrive from the channel's history, page by page.

A gap is noticed by an offset that does not follow the last one, or after an outage of the broker. Until it is closed,
everything that arrives is held, so that subscribers get it in order and once. Each page, and each part of what was
held, is published in a turn of its own: neither a long gap, nor many channels with one, hold up the reactor, and
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

# Of the module, not of a class: on a class Twisted would replace the namespace by the class's name.
_log = Logger(namespace="wsserver.hub")

MAX_READS_AT_ONCE: Final = 200
"""Most pages that are requested from the broker or wait to be published: after an outage, every channel needs one."""

_ONE_PAGE: Final = ReadLimit(PAGE_SIZE, PAGE_BYTES)


class Channels(Protocol):
    """The part of the hub that closing gaps needs."""

    def is_current(self, room: ChannelState) -> bool:
        """Return whether the channel still has the same subscription at the broker."""

    def replay(self, room: ChannelState, items: Iterable[Publication | PresenceEvent]) -> None:
        """Process publications and presence events as if they arrived now; a publication that leaves a gap opens it."""

    def tell_gap(self, room: ChannelState, *, stream: bool) -> None:
        """Notify all subscribers of a channel that publications may be missing, `stream`: also some with an offset."""


class GapCloser:
    """
    Close the gaps of all channels.

    Args:
        channels: the hub.
        broker: has the history.
        rules: say which channels have a history.
        pages: limits how many pages are published in a turn of the reactor, together with those of recovery.
        reactor: for the next turn.
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

    def close(self, room: ChannelState, came: Publication | None = None) -> None:
        """
        Read what is missing, and hold what arrives meanwhile.

        Args:
            room: the channel.
            came: the publication that does not follow the last one; None after an outage.
        """
        room.held = PublicationBuffer()
        if came is not None:
            room.held.add(came)
        self._read(room, _ONE_PAGE, came)

    def on_reconnect(self, room: ChannelState) -> None:
        """Find out what is missing after an outage; the subscribers are notified once that is known."""
        room.outage = True
        if room.held is None:
            self.close(room)
        else:
            # The page that is about to be published, or what is held, may be of before the outage.
            room.read_again = True

    def _read(self, room: ChannelState, limit: ReadLimit, came: Publication | None = None) -> None:
        position, keep = room.position, self._rules.for_channel(room.channel).keep
        if position is None or keep is None:
            self._keep_open(room, None)
            return

        def read() -> "Deferred[Page]":
            size, max_bytes = limit
            page = self._broker.history(room.channel, keep, position, size, reverse=False, max_bytes=max_bytes)
            return page.addCallback(self._wait_for_turn)

        self._reads.run(read).addCallbacks(
            self._page_read,
            lambda failure: self._keep_open(room, None, failure),
            callbackArgs=(room, position, came),
        )

    def _wait_for_turn(self, page: Page) -> "Deferred[Page]":
        return self._pages.read(lambda: succeed(page)) if page.publications else succeed(page)

    def _page_read(self, page: Page, room: ChannelState, position: Position, came: Publication | None) -> None:
        held = room.held
        if not self._channels.is_current(room) or held is None:
            return
        if held.over or not continues(position, page) or not _explains(page, came):
            self._keep_open(room, page.position)
            return
        if room.outage:
            self._channels.tell_gap(room, stream=False)
        if not page.reaches_top:
            if self._replay(room, page.publications):
                # At least as much as arrives meanwhile, else a busy channel would never catch up.
                count, size = held.drop_stream()
                self._reactor.callLater(0, self._read, room, ReadLimit(PAGE_SIZE + count, PAGE_BYTES + size))
            return
        # What has arrived meanwhile keeps its place among the publications without an offset.
        first = held.first_offset(position.epoch)
        if not self._replay(room, (one for one in page.publications if first is None or one.offset < first)):
            return
        if came is not None and came.epoch != position.epoch:
            held.drop_epoch(came.epoch)
        self._publish_held(room, held)

    def _publish_held(self, room: ChannelState, held: PublicationBuffer) -> None:
        """Publish what arrived while the gap was being closed, one part in each turn."""
        if not self._channels.is_current(room) or room.held is not held:
            return
        if held.over:
            self._keep_open(room, None)
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
        """Process items although others are held; return False if they have opened another gap, or all have left."""
        held = room.take_held()
        self._channels.replay(room, items)
        if not self._channels.is_current(room):
            return False
        if room.held is not None:
            self._channels.replay(room, held.items)
            return False
        room.held = held
        return True

    def _keep_open(self, room: ChannelState, top: Position | None, failure: Failure | None = None) -> None:
        """Notify the subscribers that the gap cannot be closed, and go on from what has arrived since."""
        if failure is not None and not failure.check(BrokerDown):
            _log.failure("a stream could not be read", failure)
        if not self._channels.is_current(room):
            # Subscribers that came later have not seen what is held here, and do not need it.
            return
        held = room.take_held()
        # What has arrived since is in order by itself.
        came = held.over or any(isinstance(item, Publication) and item.offset for item in held.items)
        room.position = None if came else top
        room.read_again = False
        self._channels.tell_gap(room, stream=True)
        self._channels.replay(room, held.items)


def _explains(page: Page, came: Publication | None) -> bool:
    """
    Return whether the stream explains why a publication did not follow the last one.

    Either the stream contains the publication, or the publication belongs to a stream that was lost (FLUSHALL) before
    the page was read: the page was requested after the publication had arrived, and an epoch never comes back. Then it
    was published before the position that the channel's subscribers have reached.
    """
    return came is None or came.epoch != page.position.epoch or came.offset <= page.position.offset
