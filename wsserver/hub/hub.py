"""
The hub: the channels of this process, their subscribers, and the delivery of publications to them.

A publication is framed once for each kind of subscriber. The publications of one turn of the reactor are joined, and
each subscriber receives them in one write at the end of the turn.

Publications with an offset are delivered in the order of their offsets, each once. If one is missing, the following
ones wait until it has been read from the history (`wsserver.hub.gaps`); if the history does not have it either, every
subscriber is notified of the gap. A returning subscriber receives what it missed (`wsserver.hub.recovery`).
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from wsserver.errors import BrokerDown, Unrecoverable
from wsserver.hub.broker import Broker, Subscriber
from wsserver.hub.callbacks import CallbackSubscription, OnGap, OnPublication
from wsserver.hub.channel import BufferBudget, ChannelState, RecoveringSubscriber
from wsserver.hub.clients import ClientInfo, Clients
from wsserver.hub.fanout import FanOut
from wsserver.hub.gaps import GapCloser
from wsserver.hub.names import check_name
from wsserver.hub.pages import PageReader
from wsserver.hub.presence import PresenceEvent, PresenceManager
from wsserver.hub.publication import Publication, check_int, check_text, make_publication
from wsserver.hub.recovery import Joined, Recovery
from wsserver.hub.rules import Rules
from wsserver.hub.stream import Page, Position, ReadLimit
from wsserver.typing import ChannelName

__all__ = ["Hub", "Joined", "Receipt"]


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
        broker: delivers publications, and stores histories and presence; must deliver to the hub (`Broker.deliver_to`).
        reactor: schedules the deliveries at the end of a turn.
        rules: the options of each channel (history, presence, publish permission, slow consumers).
    """

    def __init__(self, broker: Broker, reactor: IReactorTime, rules: Rules | None = None) -> None:
        self.rules = rules if rules is not None else Rules()
        self.broker = broker
        self.presence = PresenceManager(broker, self.rules, reactor)
        """Joins and leaves of this process's clients, for presence."""
        self.clients = Clients()
        """The client connections of this process, of all protocols."""
        self.plain = 0
        """Number of publications received without an offset."""
        self.dropped = 0
        """Number of messages dropped because their subscriber did not read fast enough."""
        self._reactor = reactor
        self._fan_out = FanOut(reactor)
        self._channels: dict[ChannelName, ChannelState] = {}
        self._dirty: list[ChannelState] = []
        self._when_up: list[Callable[[], None]] = []
        pages = PageReader(reactor)
        self._recovery = Recovery(self, broker, self.rules, fan_out=self._fan_out, pages=pages, reactor=reactor)
        self._gaps = GapCloser(self, self._recovery, broker, self.rules, pages=pages, reactor=reactor)

    @property
    def gaps(self) -> int:
        """Number of gaps that could not be closed; see `wsserver.hub.recovery.Recovery`."""
        return self._recovery.gaps

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
        state = self.find(channel)
        if state is not None and state.confirmed and not self.broker.up:
            return fail(BrokerDown("the broker is unavailable; retry later"))
        if state is None:
            state = self._channels[channel] = ChannelState(channel)
        # The pending publications precede the subscription, so only the earlier subscribers receive them.
        self.flush(state)
        if since is None and not positioned:
            state.add(subscriber)
        else:
            state.recovering[subscriber] = RecoveringSubscriber(subscriber, budget, limit)
        confirmed = self._when_confirmed(state)
        if subscriber not in state.recovering:
            return confirmed.addCallback(lambda _: Joined(None))
        return confirmed.addCallback(lambda _: self._recovery.begin(state, subscriber, since))

    def _when_confirmed(self, state: ChannelState) -> "Deferred[None]":
        """Wait until the broker has confirmed a channel's subscription; the first call requests it."""
        if state.confirmed:
            return succeed(None)
        is_first, confirmed = not state.waiting, Deferred[None]()
        state.waiting.append(confirmed)
        if is_first:
            # Last, because the broker may fire the Deferred at once.
            confirming = self.broker.subscribe(state.channel)
            confirming.addCallbacks(state.confirm, self._not_confirmed, errbackArgs=(state,))
        return confirmed

    def _not_confirmed(self, failure: Failure, state: ChannelState) -> None:
        if self.find(state.channel) is state:
            del self._channels[state.channel]
        state.reject(failure)

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
        return self._recovery.read_page(channel, subscriber)

    def listen(
        self, channel: str, callback: OnPublication, *, on_gap: OnGap | None = None, since: Position | None = None
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
        """Call a function once, as soon as the broker is up; return False, without a call, if it is already up."""
        if self.broker.up:
            return False
        self._when_up.append(function)
        return True

    def on_up(self) -> None:
        """Call the functions that were passed to `call_when_up`."""
        waiting, self._when_up = self._when_up, []
        for function in waiting:
            function()

    def unsubscribe(self, channel: ChannelName, subscriber: Subscriber) -> None:
        """Unsubscribe a subscriber from a channel; do nothing if it is not subscribed."""
        state = self.find(channel)
        if state is None or not state.remove(subscriber):
            return
        self._fan_out.left(channel, subscriber)
        if not len(state):
            del self._channels[channel]
            self.broker.unsubscribe(channel)

    def find(self, channel: ChannelName) -> ChannelState | None:
        """Return the state of a channel; None if it has no subscribers in this process."""
        return self._channels.get(channel)

    def count(self, channel: ChannelName) -> int:
        """Return the number of a channel's subscribers in this process."""
        state = self.find(channel)
        return len(state) if state is not None else 0

    def position(self, channel: ChannelName) -> Position | None:
        """Return the position up to which this process has received a channel's stream; None if it is unknown."""
        state = self.find(channel)
        return state.position if state is not None else None

    def counts(self) -> dict[ChannelName, int]:
        """Return the channels with subscribers in this process: channel name -> number of subscribers."""
        return {channel: len(state) for channel, state in self._channels.items()}

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
                epoch = page.position.epoch
                raise Unrecoverable(f"epoch {since.epoch!r} no longer exists: the stream's epoch is {epoch!r}")
            return page

        return self.broker.history(name, keep, since, limit, reverse=reverse, max_bytes=max_bytes).addCallback(check)

    def on_publication(self, channel: ChannelName, publication: Publication) -> None:
        """Receive a publication from the broker, and deliver it at the end of this turn."""
        state = self._channels.get(channel)
        if state is None or not state.confirmed:
            # It belongs to a subscription that has ended. The next one is not confirmed yet, and begins later.
            return
        if state.buffer is not None:
            state.buffer.add(publication)
        elif not publication.offset:
            self.plain += 1
            self._queue(state, publication)
        elif state.leaves_gap(publication):
            if state.is_new(publication):
                self._gaps.close(state, publication)
        else:
            state.position = Position(publication.offset, publication.epoch)
            self._queue(state, publication)

    def on_presence(self, channel: ChannelName, event: PresenceEvent) -> None:
        """Receive a presence event from the broker: a client has joined or left a channel."""
        state = self.find(channel)
        if state is not None and state.confirmed:
            if state.buffer is not None:
                state.buffer.add(event)
            else:
                self._queue(state, event)

    def on_reconnect(self) -> None:
        """After a broker outage, recover each channel's missed publications, or notify its subscribers of a gap."""
        for state in list(self._channels.values()):
            if state.confirmed:
                self._gaps.on_reconnect(state)

    def on_permission_revoked(self, channel: ChannelName) -> None:
        """Unsubscribe all subscribers from a channel that the broker no longer permits the server to read."""
        state = self.find(channel)
        if state is not None:
            self.flush(state)
            former = state.subscribers()
            for subscriber in former:
                self.unsubscribe(channel, subscriber)
            self._fan_out.on_permission_revoked(channel, former)

    # The end of a turn.

    def _queue(self, state: ChannelState, item: Publication | PresenceEvent) -> None:
        """Queue an item for the end of this turn; recovering subscribers receive or buffer it at once."""
        if not state.pending:
            if not self._dirty:
                self._reactor.callLater(0, self._flush_all)
            self._dirty.append(state)
        state.pending.append(item)
        if state.recovering:
            self._recovery.receive(state, item)

    def _flush_all(self) -> None:
        dirty, self._dirty = self._dirty, []
        self._fan_out.refill()
        for state in dirty:
            self.flush(state)

    def flush(self, state: ChannelState) -> None:
        """Deliver a channel's pending items to the subscribers that are served in bulk."""
        items, state.pending = state.pending, []
        if items:
            self._fan_out.publish(state.channel, state.kinds, items)
