"""
The hub: the channels of this process, their subscribers, and the delivery of publications to them.

A publication is framed once for each kind of subscriber. The publications of one turn of the reactor are joined, and
each subscriber receives them in one write at the end of the turn.

Publications with an offset are delivered in the order of their offsets, each once. If one is missing, the hub holds the
following ones until it has read the missing one from the history; if the history does not have it either, every
subscriber is notified of the gap.
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


class Receipt(NamedTuple):
    """The result of publishing."""

    position: Position | None
    """The publication's position in the stream; None if it is not kept in a history."""
    delivered: int
    """Number of subscribers to the channel in this process."""


class Hub:
    """
    The channels of this process.

    Args:
        broker: delivers publications, and stores histories and presence. The hub sets itself as its `listener`.
        access: decides which channels clients may subscribe to without a token.
        reactor: schedules the deliveries at the end of a turn.
        rules: the options of each channel (history, presence, publish permission, slow consumers).
    """

    def __init__(self, broker: Broker, access: Access, reactor: IReactorTime, rules: Rules | None = None) -> None:
        self.access = access
        """Which channels clients may subscribe to without a token; replaced when the server starts to listen."""
        self.rules = rules if rules is not None else Rules()
        self.broker = broker
        self.members = PresenceManager(broker, self.rules, reactor)
        """Joins and leaves of this process's clients, for presence."""
        self.clients = Clients()
        """The client connections of this process, of all protocols."""
        self.control = Control(broker, reactor)
        """Sends requests to all processes that share the broker, and collects their answers."""
        self.plain = 0
        """Number of publications received without an offset."""
        self.gaps = 0
        """
        Number of gaps that could not be closed, and of which subscribers were notified. Failed recoveries do not count:
        the client was away for longer than the history reaches back, and the server has lost nothing.
        """
        self.dropped = 0
        """Number of messages dropped because their subscriber did not read fast enough."""
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
        Subscribe to a channel.

        Args:
            channel: the channel's name.
            subscriber: receives the publications; it must not be subscribed to the channel yet.
            since: recover the publications after this position; None to receive only new ones.
            positioned: return the subscriber's position in the stream, even without `since`.
            budget: limits what is buffered during recovery. The missed publications are then read in pages, with
                `recover`; without a budget, the result contains all of them.
            limit: without a budget, the most to recover: a subscriber that missed more is not recovered.

        Returns:
            A Deferred that fires with a `Joined` once the broker sends the channel's publications, and before the
            first of them is delivered. It fails with `BrokerDown`, and then there is no subscription.
        """
        if self.rules.for_channel(channel).keep is None:
            since, positioned = None, False
        room = self._rooms.get(channel)
        if room is not None and room.open and not self.broker.up:
            return fail(BrokerDown("publications do not arrive at the moment"))
        new = room is None
        if room is None:
            room = self._rooms[channel] = ChannelState(channel)
        # The pending publications precede the subscription, so only the earlier subscribers receive them.
        self._flush(room)
        if since is None and not positioned:
            room.kinds.setdefault(subscriber.kind, {})[subscriber] = None
        else:
            room.joiners[subscriber] = RecoveringSubscriber(subscriber, budget, limit)
        opened: Deferred[None] = succeed(None) if room.open else Deferred()
        if not room.open:
            room.waiting.append(opened)
        if new:
            # Last, because the broker may fire the Deferred at once.
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

        While the broker is down, the subscription is pending; it is established as soon as the broker is up.

        Args:
            channel: the channel's name.
            callback: called with the channel and a `Publication`. Exceptions that it raises are logged.
            on_gap: called with the channel if publications may be missing, for example after a Redis outage that the
                history does not cover; the call comes before the publications that follow the gap. None to log a
                warning instead.
            since: the callback also receives the publications after this position; if they cannot be recovered,
                `on_gap` is called.

        Returns:
            The subscription, with `stop()`, `is_listening` and `when_ready()`.

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
        Call a function once, as soon as the broker is up.

        Args:
            function: called without arguments.

        Returns:
            False if the broker is already up; the function is then not called.
        """
        if self.broker.up:
            return False
        self._when_up.append(function)
        return True

    def on_up(self) -> None:
        """Call the functions that were passed to `call_when_up`."""
        waiting, self._when_up = self._when_up, []
        for function in waiting:
            function()

    def listen_since(
        self, channels: Mapping[ChannelName, Position | None], subscriber: Subscriber, *, positioned: bool = True
    ) -> "Deferred[Any]":
        """
        Subscribe to several channels, each from a position; missed publications are read in pages, with `recover`.

        Args:
            channels: channel name -> position to recover from; None to receive only new publications.
            subscriber: receives the publications.
            positioned: return the subscriber's position in each stream, even for channels without one to recover from.

        Returns:
            A Deferred that fires with a list of `Joined`, one for each channel, in the order of `channels`. It fails
            with `BrokerDown`, and then there is no subscription to any of them.
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
        """Unsubscribe a subscriber from several channels."""
        for channel in channels:
            self.unsubscribe(channel, subscriber)

    def unsubscribe(self, channel: ChannelName, subscriber: Subscriber) -> None:
        """Unsubscribe a subscriber from a channel; do nothing if it is not subscribed."""
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
        """Return the number of a channel's subscribers in this process."""
        room = self._rooms.get(channel)
        return len(room) if room is not None else 0

    def position(self, channel: ChannelName) -> Position | None:
        """Return the position up to which this process has received a channel's stream; None if it is unknown."""
        room = self._rooms.get(channel)
        return room.position if room is not None else None

    def counts(self) -> dict[ChannelName, int]:
        """Return the channels with subscribers in this process: channel name -> number of subscribers."""
        return {channel: len(room) for channel, room in self._rooms.items()}

    def _opened(self, _: None, room: ChannelState) -> None:
        room.open = True
        self._fire_waiting(room, None)

    def _not_opened(self, failure: Failure, room: ChannelState) -> None:
        if self._rooms.get(room.channel) is room:
            del self._rooms[room.channel]
        self._fire_waiting(room, failure)

    def _fire_waiting(self, room: ChannelState, result: Any) -> None:
        waiting, room.waiting = room.waiting, []
        for done in waiting:
            done.callback(result) if result is None else done.errback(result)

    # Recovery.

    def _join(self, room: ChannelState, joiner: RecoveringSubscriber | None, since: Position | None) -> Any:
        """Return a new subscriber's `Joined`, or a Deferred with it if the stream must be read first."""
        if joiner is None:
            # The subscriber unsubscribed before the broker confirmed the subscription.
            return Joined(None)
        position = room.position
        if (
            position is not None
            and room.held is None
            and (since in (None, position) or _is_behind(joiner, since, position))
        ):
            # The channel's position is up to date, so the stream need not be read to learn it.
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
        """Set a new subscriber's position from a page of the stream, and return its `Joined`."""
        if room.joiners.get(joiner.subscriber) is not joiner:
            return Joined(None)
        if since is not None and _is_behind(joiner, since, page.position):
            joiner.floor = since
            joiner.fall_behind()
            return Joined(since, (), recovered=True, behind=True)
        recovered = since is not None and continues(since, page) and page.reaches_top
        behind = self._continue_from(page.position, room, joiner)
        return Joined(page.position, page.publications if recovered else (), recovered, behind)

    def _continue_from(self, position: Position, room: ChannelState, joiner: RecoveringSubscriber) -> bool:
        """
        Set a subscriber's position, and deliver the buffered publications after it in the next turn.

        Returns:
            True if the buffer has overflowed: nothing is delivered, and the subscriber has to read another page.
        """
        joiner.floor = position
        if joiner.budget is not None and joiner.held is not None and joiner.held.over:
            joiner.fall_behind()
            return True
        joiner.catch_up()
        # In the next turn: the caller first has to send the subscriber the result, with the position where it begins.
        self._reactor.callLater(0, self._deliver_held, room, joiner)
        return False

    def recover(self, channel: ChannelName, subscriber: Subscriber) -> "Deferred[Joined]":
        """
        Read the next page of the publications that a subscriber missed.

        Args:
            channel: a channel for which the subscriber's last `Joined` has `behind` set.
            subscriber: the subscriber.

        Returns:
            A Deferred that fires in a later turn with a `Joined`, the page. `recovered` is False if the stream no
            longer has the next publication; the subscriber then continues from `position` and misses those before it.
            `position` is None if the subscriber has unsubscribed. The Deferred fails with `BrokerDown`, and then the
            subscription has been removed.
        """
        return self._pages.read(lambda: self._read_page(channel, subscriber))

    def _read_page(self, channel: ChannelName, subscriber: Subscriber) -> "Deferred[Joined]":
        """Read a subscriber's next page from the broker, unless the subscriber no longer recovers."""
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
        """Return the `Joined` for a page; after the last page, end the subscriber's recovery."""
        if room.joiners.get(joiner.subscriber) is not joiner:
            return Joined(None)
        if not continues(since, page):
            return Joined(page.position, behind=self._continue_from(page.position, room, joiner))
        at = Position(page.publications[-1].offset, since.epoch) if page.publications else since
        if at.offset < page.position.offset:
            joiner.floor = at
            joiner.fall_behind()
            return Joined(at, page.publications, recovered=True, behind=True)
        return Joined(at, page.publications, recovered=True, behind=self._continue_from(at, room, joiner))

    def _not_joined(self, failure: Failure, room: ChannelState, joiner: RecoveringSubscriber) -> Failure:
        """Remove the subscription of a subscriber for which the stream could not be read."""
        if room.joiners.get(joiner.subscriber) is joiner:
            self.unsubscribe(room.channel, joiner.subscriber)
        return failure

    def _deliver_held(self, room: ChannelState, joiner: RecoveringSubscriber) -> None:
        """Deliver what was buffered during a subscriber's recovery; notify it of a gap if the buffer overflowed."""
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
            self._deliver_new(room, joiner, held.items)
        if room.position is None and not room.kinds:
            room.position = _lowest(one.floor for one in room.joiners.values() if one.held is None)
        self._merge_recovered(room)

    def _merge_recovered(self, room: ChannelState) -> None:
        """Move recovered subscribers that have reached the channel's position to the subscribers served in bulk."""
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
        Publish to a channel.

        Args:
            channel: the channel's name.
            data: text, or any bytes.
            json: `data` is a JSON text, which is delivered byte for byte.
            info: the client that publishes.
            tags: names and values that are sent along with the publication.
            idempotency_key: if a publication with the same key was published to the channel within the last
                `IDEMPOTENT_FOR` seconds, this one is not published, and the first one's position is returned; empty
                for no key.
            skip_history: do not store the publication in the history; it then has no offset.

        Returns:
            A Deferred that fires with a `Receipt`. It fails with `BrokerDown` if the broker did not accept the
            publication.

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
        """Publish a publication whose channel name and contents have been checked; see `publish`."""
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
            channel: the channel's name.
            since: return only publications after this position (in reverse: before it).
            limit: maximum number of publications; 0 to return only the stream's position, negative for no limit.
            reverse: return the newest publication first.
            max_bytes: maximum size of all data in bytes; one publication is returned even if it is larger. None for no
                limit.

        Returns:
            A Deferred that fires with a `Page`. It fails with `BrokerDown`, or with `Unrecoverable` if the stream does
            not have the epoch of `since`.

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
        """Receive a publication from the broker, and deliver it at the end of this turn."""
        room = self._rooms.get(channel)
        if room is None or not room.open:
            # It belongs to a subscription that has ended. The next one is not confirmed yet, and begins later.
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
        """Receive a presence event from the broker: a client has joined or left a channel."""
        room = self._rooms.get(channel)
        if room is not None and room.open:
            if room.held is not None:
                room.held.add(event)
            else:
                self._put(room, event)

    def asked(self, message: bytes) -> None:
        """Receive a message from a server process."""
        self.control.take(message)

    def on_reconnect(self) -> None:
        """After a broker outage, recover each channel's missed publications, or notify its subscribers of a gap."""
        for room in list(self._rooms.values()):
            if not room.open:
                continue
            kept = self.rules.for_channel(room.channel).keep is not None
            if not kept or room.position is None:
                self.tell_gap(room, stream=kept)
                continue
            self._gaps.on_reconnect(room)

    def on_permission_revoked(self, channel: ChannelName) -> None:
        """Unsubscribe all subscribers from a channel that the broker no longer permits the server to read."""
        room = self._rooms.get(channel)
        if room is not None:
            self._flush(room)
            everyone = room.everyone()
            for subscriber in everyone:
                self.unsubscribe(channel, subscriber)
            self._fan_out.on_permission_revoked(channel, everyone)

    # Methods for `wsserver.hub.gaps.GapCloser`; see `wsserver.hub.gaps.Channels`.

    def is_current(self, room: ChannelState) -> bool:
        """Return whether this is still the channel's current subscription at the broker."""
        return self._rooms.get(room.channel) is room

    def replay(self, room: ChannelState, items: Iterable[Publication | PresenceEvent]) -> None:
        """Process publications and presence events as if they arrived now; stop once the last subscriber has left."""
        for item in items:
            if not self.is_current(room):
                return
            if isinstance(item, Publication):
                self.on_publication(room.channel, item)
            else:
                self.on_presence(room.channel, item)

    def tell_gap(self, room: ChannelState, *, stream: bool) -> None:
        """
        Notify all subscribers of a channel that publications may be missing.

        Args:
            room: the channel.
            stream: whether publications with an offset may be missing; if False, only ones without an offset may be.
        """
        self._flush(room)
        for joiner in list(room.joiners.values()):
            if joiner.floor is not None and joiner.held is not None and not joiner.recovering:
                self._deliver_held(room, joiner)
        self.gaps += stream
        room.outage = False
        # Without a floor, a subscriber still waits for the first read of the stream, which returns its position.
        joiners = [joiner for joiner in room.joiners.values() if joiner.floor is not None]
        waiting = (joiner.subscriber for joiner in joiners if not joiner.recovering)
        everyone = [one for subscribers in room.kinds.values() for one in subscribers]
        self._fan_out.missed(room.channel, [*everyone, *waiting], stream=stream)
        # Subscribers that read pages find the stream's gaps there, but may lack publications without an offset, too.
        recovering = [joiner.subscriber for joiner in joiners if joiner.recovering]
        self._fan_out.missed(room.channel, recovering, stream=False)

    # The end of a turn.

    def _put(self, room: ChannelState, item: Publication | PresenceEvent) -> None:
        """Queue an item for the end of this turn. For each of `joiners`, deliver or buffer it at once."""
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
                    self._deliver_new(room, joiner, [item])
                else:
                    kinds.setdefault(joiner.subscriber.kind, {})[joiner.subscriber] = None
            # An item without an offset is new to every subscriber, so it is sent in bulk. There may be many recovered
            # subscribers: until a publication with an offset arrives, none may be able to join the others.
            self._fan_out.publish(room.channel, kinds, [item])
            self._merge_recovered(room)

    def _deliver_new(
        self, room: ChannelState, joiner: RecoveringSubscriber, items: Iterable[Publication | PresenceEvent]
    ) -> None:
        """Deliver to one recovered subscriber the items that it does not have yet, and notify it of gaps in them."""
        subscriber, new = joiner.subscriber, list[Publication | PresenceEvent]()

        def flush() -> None:
            if new:
                self._fan_out.publish(room.channel, {subscriber.kind: {subscriber: None}}, list(new))
                new.clear()

        for item in items:
            if not joiner.lacks(item):
                continue
            if joiner.strange(item):
                flush()
                self.gaps += 1
                self._fan_out.missed(room.channel, [subscriber], stream=True)
                if room.joiners.get(subscriber) is not joiner:
                    # The gap notice made the subscriber unsubscribe, as a Centrifuge client does to subscribe again.
                    return
            new.append(item)
            if isinstance(item, Publication) and item.offset:
                joiner.floor = Position(item.offset, item.epoch)
        flush()

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
    """Return whether a subscriber reads in pages and the stream has publications after its position."""
    return joiner.budget is not None and since is not None and since.epoch == top.epoch and since.offset < top.offset


def _lowest(floors: Iterable[Position | None]) -> Position | None:
    """
    Return the lowest position of a channel's recovered subscribers.

    Subscribers that read the stream at different times have different positions. Publications after the lowest one are
    new to at least one of them.

    Args:
        floors: the subscribers' positions.

    Returns:
        The lowest position; None if there is none, or if the epochs differ. The next publication then sets the
        channel's position.
    """
    known = {floor for floor in floors if floor is not None}
    return min(known) if len({floor.epoch for floor in known}) == 1 else None
