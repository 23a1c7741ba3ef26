"""
Who listens to which channel here, and how a publication reaches them.

A publication is framed once for each kind of subscriber. What arrives in one turn of the reactor is joined, and each
subscriber is given it in one piece at the end of the turn.

Publications that have an offset are given in its order, each once. Where one is missing, the rest waits until it has
been read from the history; where it is not there, every subscriber is told.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, fail, gatherResults, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from wsserver.errors import BrokerDown, Unrecoverable
from wsserver.hub.broker import Broker, Subscriber, first_cause
from wsserver.hub.callbacks import CallbackSubscription, OnGap, OnPublication
from wsserver.hub.channel import BufferBudget, ChannelState, RecoveringSubscriber, follows
from wsserver.hub.clients import Clients
from wsserver.hub.fanout import FanOut
from wsserver.hub.gaps import GapCloser
from wsserver.hub.members import PresenceManager
from wsserver.hub.names import Access, check_name
from wsserver.hub.presence import ClientInfo, PresenceEvent
from wsserver.hub.publication import Publication, check_int, check_text, make_publication
from wsserver.hub.recovery import MAX_BUFFERED, PAGE_BYTES, PAGE_SIZE, PageReader, ReadLimit
from wsserver.hub.rules import Rules
from wsserver.hub.stream import Page, Position, continues
from wsserver.hub.survey import Control
from wsserver.typing import ChannelName

__all__ = ["Hub", "Joined", "Receipt"]


class Joined(NamedTuple):
    """What a subscriber begins with."""

    position: Position | None
    """Where in the stream it stands; None where it has not asked, or the channel keeps no history."""
    publications: tuple[Publication, ...] = ()
    """What it missed since the position that it came with."""
    recovered: bool = False
    """They are all that it missed, up to the position."""
    behind: bool = False
    """The stream has more after the position: `Hub.recover` reads it. Only for subscribers that read in pages."""


class Receipt(NamedTuple):
    """What became of a publication."""

    position: Position | None
    """Its place in the stream; None where the channel keeps no history."""
    delivered: int
    """To how many subscribers it goes here."""


class Hub:
    """
    The channels of a process.

    Args:
        broker: brings publications.
        access: which channels clients may name.
        reactor: for the end of a turn.
        rules: what holds for each channel.
    """

    def __init__(self, broker: Broker, access: Access, reactor: IReactorTime, rules: Rules | None = None) -> None:
        self.access = access
        """Which channels clients may name; replaced when the server listens."""
        self.rules = rules if rules is not None else Rules()
        self.broker = broker
        self.members = PresenceManager(broker, self.rules, reactor)
        """Who is on which channel here."""
        self.clients = Clients()
        """The connections that listen here, whatever they speak."""
        self.control = Control(broker, reactor)
        """Asks all processes that share the broker."""
        self.plain = 0
        """Publications that came without an offset."""
        self.gaps = 0
        """Gaps that were told because they could not be closed."""
        self.dropped = 0
        """Messages that were given up for subscribers that did not read."""
        broker.listener = self
        self._reactor = reactor
        self._fan_out = FanOut(reactor)
        self._rooms: dict[ChannelName, ChannelState] = {}
        self._dirty: list[ChannelState] = []
        self._when_up: list[Callable[[], None]] = []
        self._pages = PageReader(reactor)
        self._gaps = GapCloser(self, broker, self.rules, self._pages, reactor)

    # Subscribers.

    def subscribe(
        self,
        channel: ChannelName,
        subscriber: Subscriber,
        *,
        since: Position | None = None,
        positioned: bool = False,
        budget: BufferBudget | None = None,
        limit: ReadLimit | None = None,
    ) -> "Deferred[Joined]":
        """
        Let a subscriber have what is published from now on.

        Args:
            channel: of which.
            subscriber: who is not subscribed to it.
            since: it also wants what was published after this.
            positioned: it wants to know where it stands.
            budget: limits what waits while it is recovered, and what it missed is read in pages with `recover`. Without
                a budget the result has all of it.
            limit: without a budget, the most that it may have missed; if it missed more, it is not recovered.

        Returns:
            Fires when publications arrive, before the first of them is delivered; fails with `BrokerDown`, and then
            it is not subscribed.
        """
        if self.rules.for_channel(channel).keep is None:
            since, positioned = None, False
        room = self._rooms.get(channel)
        if room is not None and room.open and not self.broker.up:
            return fail(BrokerDown("publications do not arrive at the moment"))
        new = room is None
        if room is None:
            room = self._rooms[channel] = ChannelState(channel)
        # They came before it did.
        self._flush(room)
        if since is None and not positioned:
            room.kinds.setdefault(subscriber.kind, {})[subscriber] = None
        else:
            room.joiners[subscriber] = RecoveringSubscriber(subscriber, budget, limit)
        opened: Deferred[None] = succeed(None) if room.open else Deferred()
        if not room.open:
            room.waiting.append(opened)
        if new:
            # It may answer at once.
            opening = self.broker.subscribe(channel)
            opening.addCallbacks(self._opened, self._not_opened, callbackArgs=(room,), errbackArgs=(room,))
        if subscriber not in room.joiners:
            return opened.addCallback(lambda _: Joined(None))
        return opened.addCallback(lambda _: self._join(room, room.joiners.get(subscriber), since))

    def listen(
        self,
        channel: str,
        callback: OnPublication,
        *,
        on_gap: OnGap | None = None,
        since: Position | None = None,
    ) -> CallbackSubscription:
        """
        Call a function with each publication of a channel, in order, each once.

        While the broker is down the subscription waits for it, and is established as soon as it is up.

        Args:
            channel: the channel's name.
            callback: called with the channel and a `Publication`. What it raises is logged.
            on_gap: called with the channel if publications may be missing, before those that follow the gap, as after
                an outage of Redis if the history does not cover it; None to log a warning instead.
            since: the callback also gets what was published after this position, or `on_gap` is called.

        Returns:
            A handle with `stop()`, `is_listening` and `when_ready()`.

        Raises:
            TypeError: an argument has the wrong type, or a callback is an async function.
            ValueError: the channel's name is invalid.
        """
        if not isinstance(since, Position | None):
            raise TypeError(f"since must be Position, not {type(since).__name__}")
        name = check_name(channel)
        return CallbackSubscription(self, name, callback, on_gap=on_gap, since=since, reactor=self._reactor)

    def call_when_up(self, function: Callable[[], None]) -> bool:
        """
        Call a function as soon as the broker is up.

        Args:
            function: called once.

        Returns:
            False if the broker is up already: the function is not called.
        """
        if self.broker.up:
            return False
        self._when_up.append(function)
        return True

    def on_up(self) -> None:
        """Call what waits for the broker."""
        waiting, self._when_up = self._when_up, []
        for function in waiting:
            function()

    def listen_since(
        self, channels: Mapping[ChannelName, Position | None], subscriber: Subscriber, *, positioned: bool = True
    ) -> "Deferred[Any]":
        """
        Subscribe to some channels from a position of each on; what was missed is read in pages, with `recover`.

        Args:
            channels: name -> position; None for from now on.
            subscriber: who.
            positioned: whether it wants to know where it stands.

        Returns:
            Fires with a `Joined` for each channel, in their order; fails with `BrokerDown`, and then it is subscribed
            to none.
        """

        def leave(failure: Failure) -> Failure:
            self.leave(channels, subscriber)
            return first_cause(failure)

        budget = BufferBudget(MAX_BUFFERED)
        each = [
            self.subscribe(channel, subscriber, since=since, positioned=positioned, budget=budget)
            for channel, since in channels.items()
        ]
        return gatherResults(each, consumeErrors=True).addErrback(leave)

    def leave(self, channels: Iterable[ChannelName], subscriber: Subscriber) -> None:
        """Take a subscriber out of some channels."""
        for channel in channels:
            self.unsubscribe(channel, subscriber)

    def unsubscribe(self, channel: ChannelName, subscriber: Subscriber) -> None:
        """Take a subscriber out; one that is not there is no mistake."""
        room = self._rooms.get(channel)
        if room is None:
            return
        if subscriber in room.joiners:
            del room.joiners[subscriber]
        elif subscriber in room.kinds.get(subscriber.kind, {}):
            del room.kinds[subscriber.kind][subscriber]
            if not room.kinds[subscriber.kind]:
                del room.kinds[subscriber.kind]
        else:
            return
        self._fan_out.left(channel, subscriber)
        if not room.kinds and not room.joiners:
            del self._rooms[channel]
            self.broker.unsubscribe(channel)

    def count(self, channel: ChannelName) -> int:
        """Tell how many subscribers a channel has here."""
        room = self._rooms.get(channel)
        return len(room) if room is not None else 0

    def position(self, channel: ChannelName) -> Position | None:
        """Tell where in a channel's stream its listeners here stand; None where that is not known."""
        room = self._rooms.get(channel)
        return room.position if room is not None else None

    def counts(self) -> dict[ChannelName, int]:
        """Tell the channels that somebody here listens to, and how many do."""
        return {channel: len(room) for channel, room in self._rooms.items()}

    def _opened(self, _: None, room: ChannelState) -> None:
        room.open = True
        self._answer(room, None)

    def _not_opened(self, failure: Failure, room: ChannelState) -> None:
        if self._rooms.get(room.channel) is room:
            del self._rooms[room.channel]
        self._answer(room, failure)

    def _answer(self, room: ChannelState, result: Any) -> None:
        waiting, room.waiting = room.waiting, []
        for done in waiting:
            done.callback(result) if result is None else done.errback(result)

    # Where a subscriber begins.

    def _join(self, room: ChannelState, joiner: RecoveringSubscriber | None, since: Position | None) -> Any:
        if joiner is None:
            # It has left meanwhile.
            return Joined(None)
        position = room.position
        if (
            position is not None
            and room.held is None
            and (since in (None, position) or _is_behind(joiner, since, position))
        ):
            # What came up to this turn has been given to everyone; nothing needs to be read.
            return self._joined(Page((), position), room, joiner, since)
        keep = self.rules.for_channel(room.channel).keep
        assert keep is not None
        limit, max_bytes = -1, None
        if since is None or joiner.budget is not None:
            limit = 0
        elif joiner.limit is not None:
            limit, max_bytes = joiner.limit
        reading = self.broker.history(room.channel, keep, since, limit, reverse=False, max_bytes=max_bytes)
        return reading.addCallbacks(
            self._joined,
            self._not_joined,
            callbackArgs=(room, joiner, since),
            errbackArgs=(room, joiner),
        )

    def _joined(self, page: Page, room: ChannelState, joiner: RecoveringSubscriber, since: Position | None) -> Any:
        if room.joiners.get(joiner.subscriber) is not joiner:
            return Joined(None)
        if since is not None and _is_behind(joiner, since, page.position):
            joiner.floor = since
            joiner.fall_behind()
            return Joined(since, (), recovered=True, behind=True)
        recovered = since is not None and continues(since, page) and page.reaches_top
        behind = self._go_on_from(page.position, room, joiner)
        return Joined(page.position, page.publications if recovered else (), recovered, behind)

    def _go_on_from(self, position: Position, room: ChannelState, joiner: RecoveringSubscriber) -> bool:
        """Give a joiner what came after a position, in the next turn; returns True if too much came: it has to read."""
        joiner.floor = position
        if joiner.budget is not None and joiner.held is not None and joiner.held.over:
            joiner.fall_behind()
            return True
        joiner.catch_up()
        # The subscriber is told where it begins by the result of this turn; only then it is given more.
        self._reactor.callLater(0, self._give_held, room, joiner)
        return False

    def recover(self, channel: ChannelName, subscriber: Subscriber) -> "Deferred[Joined]":
        """
        Read the next page of what a subscriber missed.

        Args:
            channel: one of which its `Joined` said that it is behind.
            subscriber: the subscriber.

        Returns:
            Fires in a later turn, with the page; its `recovered` is False if the stream no longer has what comes next,
            and the subscriber then goes on from the position. If the subscriber has left, the position is None. Fails
            with `BrokerDown`, and then it is not subscribed any more.
        """
        return self._pages.read(lambda: self._read_page(channel, subscriber))

    def _read_page(self, channel: ChannelName, subscriber: Subscriber) -> "Deferred[Joined]":
        room, keep = self._rooms.get(channel), self.rules.for_channel(channel).keep
        joiner = room.joiners.get(subscriber) if room is not None else None
        if room is None or joiner is None or not joiner.recovering or keep is None or joiner.floor is None:
            return succeed(Joined(None))
        joiner.reading = True
        reading: Deferred[Any] = self.broker.history(
            channel, keep, joiner.floor, PAGE_SIZE, reverse=False, max_bytes=PAGE_BYTES
        )
        return reading.addCallbacks(
            self._page_read,
            self._not_joined,
            callbackArgs=(room, joiner, joiner.floor),
            errbackArgs=(room, joiner),
        )

    def _page_read(self, page: Page, room: ChannelState, joiner: RecoveringSubscriber, since: Position) -> Joined:
        if room.joiners.get(joiner.subscriber) is not joiner:
            return Joined(None)
        if not continues(since, page):
            return Joined(page.position, behind=self._go_on_from(page.position, room, joiner))
        at = Position(page.publications[-1].offset, since.epoch) if page.publications else since
        if at.offset < page.position.offset:
            joiner.floor = at
            joiner.fall_behind()
            return Joined(at, page.publications, recovered=True, behind=True)
        return Joined(at, page.publications, recovered=True, behind=self._go_on_from(at, room, joiner))

    def _not_joined(self, failure: Failure, room: ChannelState, joiner: RecoveringSubscriber) -> Failure:
        if room.joiners.get(joiner.subscriber) is joiner:
            self.unsubscribe(room.channel, joiner.subscriber)
        return failure

    def _give_held(self, room: ChannelState, joiner: RecoveringSubscriber) -> None:
        if room.joiners.get(joiner.subscriber) is not joiner or joiner.held is None:
            return
        held = joiner.take_held()
        if joiner.lost_plain:
            joiner.lost_plain = False
            self._fan_out.missed(room.channel, [joiner.subscriber], stream=False)
        if held is None:
            return
        if held.over:
            self.gaps += 1
            self._fan_out.missed(room.channel, [joiner.subscriber], stream=True)
        else:
            self._hand(room, joiner, held.items)
        if room.position is None and not room.kinds:
            room.position = _lowest(one.floor for one in room.joiners.values() if one.held is None)
        self._settle(room)

    def _settle(self, room: ChannelState) -> None:
        """Let those that have what the others have be given the same from now on."""
        for joiner in list(room.joiners.values()):
            at, floor = room.position, joiner.floor
            if joiner.held is None and at and floor and at.epoch == floor.epoch and at.offset >= floor.offset:
                self._flush(room)
                if room.joiners.pop(joiner.subscriber, None) is not None:
                    room.kinds.setdefault(joiner.subscriber.kind, {})[joiner.subscriber] = None

    # Publications.

    def publish(
        self,
        channel: str,
        data: str | bytes | bytearray | memoryview,
        *,
        json: bool = False,
        info: ClientInfo | None = None,
        tags: Mapping[str, str] | None = None,
        idempotency_key: str = "",
        skip_history: bool = False,
    ) -> "Deferred[Receipt]":
        """
        Publish.

        Args:
            channel: the channel's name.
            data: a text, or any bytes.
            json: `data` is a JSON text, which is delivered byte for byte.
            info: the client that publishes.
            tags: names and texts that are sent along with the publication.
            idempotency_key: a publication with the same key within `IDEMPOTENT_FOR` seconds is not published again.
            skip_history: the publication is not kept, and has no offset.

        Returns:
            Fires with the receipt; fails with `BrokerDown` if the publication was not accepted.

        Raises:
            TypeError: an argument has the wrong type.
            ValueError: the channel's name is invalid, a text cannot be encoded as UTF-8, or `data` is not JSON.
        """
        name = check_name(channel)
        publication = make_publication(data, json=json, info=info, tags=tags)
        check_text("idempotency_key", idempotency_key)
        return self.send(name, publication, idempotency_key=idempotency_key, skip_history=skip_history)

    def send(
        self, channel: ChannelName, publication: Publication, *, idempotency_key: str = "", skip_history: bool = False
    ) -> "Deferred[Receipt]":
        """Publish what has been checked already; see `publish`."""
        keep = None if skip_history else self.rules.for_channel(channel).keep
        done = self.broker.publish(channel, publication, keep, idempotency_key)
        return done.addCallback(lambda position: Receipt(position, self.count(channel)))

    def history(
        self,
        channel: str,
        *,
        since: Position | None = None,
        limit: int = 0,
        reverse: bool = False,
        max_bytes: int | None = None,
    ) -> "Deferred[Page]":
        """
        Read a channel's stream.

        Args:
            channel: which.
            since: only what comes after this (in reverse: before it).
            limit: most publications; 0 for the position only, negative for all.
            reverse: newest first.
            max_bytes: most bytes of data; one publication is returned though it is larger. None for no limit.

        Returns:
            Fires with the publications and the stream's top; fails with `BrokerDown`, or with `Unrecoverable` where
            `since` is of another epoch.

        Raises:
            TypeError: an argument has the wrong type.
            ValueError: the channel's name is invalid.
        """
        name = check_name(channel)
        if not isinstance(since, Position | None):
            raise TypeError(f"since must be Position, not {type(since).__name__}")
        check_int("limit", limit)
        keep = self.rules.for_channel(name).keep
        if keep is None:
            return succeed(Page((), Position(0, "")))

        def check(page: Page) -> Page:
            if since is not None and since.epoch and since.epoch != page.position.epoch:
                raise Unrecoverable(f"the stream of epoch {since.epoch} is no more")
            return page

        return self.broker.history(name, keep, since, limit, reverse=reverse, max_bytes=max_bytes).addCallback(check)

    def on_publication(self, channel: ChannelName, publication: Publication) -> None:
        """Take a publication from the broker: it goes out at the end of this turn."""
        room = self._rooms.get(channel)
        if room is None or not room.open:
            # Of a subscription that was given up: what was published after it, before the next one, is not to come.
            return
        if room.held is not None:
            room.held.add(publication)
            return
        if publication.offset:
            if not follows(room.position, publication):
                position = room.position
                assert position is not None
                if publication.epoch != position.epoch or publication.offset > position.offset:
                    self._gaps.close(room, publication)
                return
            room.position = Position(publication.offset, publication.epoch)
        else:
            self.plain += 1
        self._put(room, publication)

    def on_presence(self, channel: ChannelName, event: PresenceEvent) -> None:
        """Take the news from the broker that a client has come or left."""
        room = self._rooms.get(channel)
        if room is not None and room.open:
            if room.held is not None:
                room.held.add(event)
            else:
                self._put(room, event)

    def asked(self, message: bytes) -> None:
        """Take a message of a process."""
        self.control.take(message)

    def on_reconnect(self) -> None:
        """Find out what is missing of every channel, and tell where that is not to be had."""
        for room in list(self._rooms.values()):
            if not room.open:
                continue
            kept = self.rules.for_channel(room.channel).keep is not None
            if not kept or room.position is None:
                self.tell_gap(room, stream=kept)
                continue
            self._gaps.on_reconnect(room)

    def on_permission_revoked(self, channel: ChannelName) -> None:
        """Take everyone out of a channel that the server may not listen to any more."""
        room = self._rooms.get(channel)
        if room is not None:
            self._flush(room)
            everyone = room.everyone()
            for subscriber in everyone:
                self.unsubscribe(channel, subscriber)
            self._fan_out.on_permission_revoked(channel, everyone)

    # Gaps: `wsserver.hub.gaps.Channels`.

    def is_current(self, room: ChannelState) -> bool:
        """Return whether the channel still has the same subscription at the broker."""
        return self._rooms.get(room.channel) is room

    def replay(self, room: ChannelState, items: Iterable[Publication | PresenceEvent]) -> None:
        """Process publications and presence events as if they arrived now, until the last subscriber has left."""
        for item in items:
            if not self.is_current(room):
                return
            if isinstance(item, Publication):
                self.on_publication(room.channel, item)
            else:
                self.on_presence(room.channel, item)

    def tell_gap(self, room: ChannelState, *, stream: bool) -> None:
        """Notify all subscribers of a channel that publications may be missing, `stream`: also some with an offset."""
        self._flush(room)
        for joiner in list(room.joiners.values()):
            if joiner.floor is not None and joiner.held is not None and not joiner.recovering:
                self._give_held(room, joiner)
        self.gaps += stream
        room.outage = False
        # Those that still wait for the stream are told by it where they are.
        joiners = [joiner for joiner in room.joiners.values() if joiner.floor is not None]
        waiting = (joiner.subscriber for joiner in joiners if not joiner.recovering)
        everyone = [one for subscribers in room.kinds.values() for one in subscribers]
        self._fan_out.missed(room.channel, [*everyone, *waiting], stream=stream)
        # Those that still read the stream find its gaps there; what has no offset may be missing for them, too.
        recovering = [joiner.subscriber for joiner in joiners if joiner.recovering]
        self._fan_out.missed(room.channel, recovering, stream=False)

    # The end of a turn.

    def _put(self, room: ChannelState, item: Publication | PresenceEvent) -> None:
        if not room.pending:
            if not self._dirty:
                self._reactor.callLater(0, self._flush_all)
            self._dirty.append(room)
        room.pending.append(item)
        if room.joiners:
            kinds: dict[Hashable, dict[Any, None]] = {}
            for joiner in list(room.joiners.values()):
                if joiner.held is not None:
                    joiner.hold(item)
                elif isinstance(item, Publication) and item.offset:
                    self._hand(room, joiner, [item])
                else:
                    kinds.setdefault(joiner.subscriber.kind, {})[joiner.subscriber] = None
            # Without an offset it is lacked by all, and they may be many: nothing else lets them settle.
            self._fan_out.publish(room.channel, kinds, [item])
            self._settle(room)

    def _hand(
        self, room: ChannelState, joiner: RecoveringSubscriber, items: Iterable[Publication | PresenceEvent]
    ) -> None:
        """Give a subscriber what it lacks, by itself."""
        subscriber, wanted = joiner.subscriber, list[Publication | PresenceEvent]()

        def give() -> None:
            if wanted:
                self._fan_out.publish(room.channel, {subscriber.kind: {subscriber: None}}, list(wanted))
                wanted.clear()

        for item in items:
            if not joiner.lacks(item):
                continue
            if joiner.strange(item):
                give()
                self.gaps += 1
                self._fan_out.missed(room.channel, [subscriber], stream=True)
                if room.joiners.get(subscriber) is not joiner:
                    # Who leaves because of it, as a Centrifuge client does to come back, is given nothing more.
                    return
            wanted.append(item)
            if isinstance(item, Publication) and item.offset:
                joiner.floor = Position(item.offset, item.epoch)
        give()

    def _flush_all(self) -> None:
        dirty, self._dirty = self._dirty, []
        self._fan_out.refill()
        for room in dirty:
            self._flush(room)

    def _flush(self, room: ChannelState) -> None:
        items, room.pending = room.pending, []
        if items:
            self._fan_out.publish(room.channel, room.kinds, items)


def _is_behind(joiner: RecoveringSubscriber, since: Position | None, top: Position) -> bool:
    """Return whether a subscriber that reads in pages has some to read."""
    return joiner.budget is not None and since is not None and since.epoch == top.epoch and since.offset < top.offset


def _lowest(floors: Iterable[Position | None]) -> Position | None:
    """
    Return the position from which on a channel's publications concern any of its recovered subscribers.

    Subscribers that read the stream later may stand further on: publications that one of them has, others lack.

    Args:
        floors: where they stand.

    Returns:
        The lowest position; None if they stand in different streams, so that the next publication decides.
    """
    known = {floor for floor in floors if floor is not None}
    return min(known) if len({floor.epoch for floor in known}) == 1 else None
