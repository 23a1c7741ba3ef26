"""
The hub: the channels of this process, their subscribers, and the delivery of publications to the subscribers.

A publication is encoded as a frame once for each kind of subscriber. The frames of one event-loop iteration are joined,
and each subscriber receives them in one write at the end of the iteration.

Publications of a channel with a history are numbered: each has an offset. They are delivered in the order of their
offsets, each once. If a publication is missing, the following ones wait until it has been read from the history
(`wsserver.hub.gaps`). If the history does not have it either, every subscriber is notified of the gap. A subscriber
that returns after a lost connection receives the publications that it missed (`wsserver.hub.recovery`).
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from wsserver.config.channel_settings import MAX_REWIND
from wsserver.errors import BrokerDown, Unrecoverable
from wsserver.hub.broker import Broker, Subscriber
from wsserver.hub.callbacks import CallbackSubscription, OnGap, OnPublication
from wsserver.hub.channel import BufferBudget, ChannelState, Joined, RecoveringSubscriber
from wsserver.hub.clients import ClientInfo, Clients
from wsserver.hub.deferreds import MaybeDeferred, as_deferred, then
from wsserver.hub.fanout import FanOut
from wsserver.hub.filters import FilteredKind
from wsserver.hub.gaps import GapCloser
from wsserver.hub.names import check_name
from wsserver.hub.pages import PageReader
from wsserver.hub.presence import PresenceEvent, PresenceManager
from wsserver.hub.publication import Publication, check_int, check_text, make_publication
from wsserver.hub.recovery import Recovery
from wsserver.hub.rules import Rules
from wsserver.hub.stream import Page, Position, ReadLimit
from wsserver.typing import ChannelName

__all__ = ["Hub", "Joined", "Receipt"]


class Receipt(NamedTuple):
    """The result of publishing: the publication's position, and the number of subscribers."""

    position: Position | None
    """The publication's position in the channel's stream; None if the publication is not stored in a history."""
    delivered: int
    """Number of the channel's subscribers in this process."""


class Hub:
    """
    Delivers the publications of channels to the subscribers in this process.

    Args:
        broker: carries publications and stores histories; the caller must pass the new hub to `broker.deliver_to`.
        reactor: schedules the deliveries at the end of an event-loop iteration.
        rules: the options of each channel (history, presence and others); None for the defaults.
    """

    def __init__(
        self,
        broker: Broker,
        reactor: IReactorTime,
        rules: Rules | None = None,
        *,
        limits: dict[str, int] | None = None,
        queue_deadline: Callable[[Callable[[], None]], Any] | None = None,
    ) -> None:
        self.rules = rules if rules is not None else Rules()
        self.limits: dict[str, int] = limits if limits is not None else defaultdict(int)
        """Name of a limit -> how often it took effect; see `wsserver.wire.counters`."""
        self.queue_deadline = queue_deadline
        """Starts the deadline of a client's send queue: calls a function later, unless `cancel` is called on the
        result. None if there is no such deadline."""
        self.broker = broker
        self.presence = PresenceManager(broker, self.rules, reactor)
        """Reports the joins and leaves of this process's clients to the broker."""
        self.clients = Clients()
        """The client connections of this process, of all protocols."""
        self.plain = 0
        """Number of publications without an offset that this process has received."""
        self.subscriptions = 0
        """Number of subscribers of all channels in this process."""
        self.from_clients = self.from_backend = 0
        """Number of publications that were requested by clients, and by the HTTP API or the application."""
        self.dropped = 0
        """Number of messages that were dropped because a subscriber did not read fast enough; see `--slow`."""
        self._reactor = reactor
        self._fan_out = FanOut(reactor)
        self._channels: dict[ChannelName, ChannelState] = {}
        self._dirty: list[ChannelState] = []
        self._when_up: list[Callable[[], None]] = []
        self._on_occupancy: Callable[[ChannelName], None] = _ignore
        pages = PageReader(reactor)
        self._recovery = Recovery(self, broker, self.rules, fan_out=self._fan_out, pages=pages, reactor=reactor)
        self._gaps = GapCloser(self, self._recovery, broker, self.rules, pages=pages, reactor=reactor)

    @property
    def gaps(self) -> int:
        """Number of gaps that could not be closed, so that subscribers were notified of missing publications."""
        return self._recovery.gaps

    @property
    def recoveries(self) -> dict[str, int]:
        """`yes` -> number of subscribers that recovered everything that they had missed; `no` -> that could not."""
        return self._recovery.outcomes

    def change_rules(self, rules: Rules) -> None:
        """
        Replace the rules of all channels.

        The clients of a channel whose presence begins to be tracked join it, and leave it if it is no longer tracked.

        Args:
            rules: the new rules; the object must not be used afterwards.
        """
        before, after = self.rules.for_channel, rules.for_channel
        present = [one for client in self.clients.find() for one in client.presences()]
        joins = [one for one in present if after(one[0]).presence and not before(one[0]).presence]
        leaves = [one for one in present if before(one[0]).presence and not after(one[0]).presence]
        for channel, info in leaves:
            self.presence.leave(channel, info)
        self.rules.become(rules)
        for channel, info in joins:
            self.presence.join(channel, info)

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
        rewind: int = 0,
    ) -> MaybeDeferred[Joined]:
        """
        Subscribe to a channel.

        Args:
            channel: the channel's name.
            subscriber: receives the publications; it must not be subscribed to the channel yet.
            since: also deliver the missed publications: those after this position. None for only new publications.
            positioned: whether to return the subscriber's position in the stream even if `since` is None.
            budget: limits the buffer that is used while the subscriber recovers. With a budget, the caller reads the
                missed publications page by page, with `recover`. None to return all of them at once.
            limit: the most to return at once, if there is no budget. If the subscriber missed more, nothing is returned
                and `Joined.recovered` is False. None for no limit.
            rewind: maximum number of the stream's last publications to deliver first, if `since` is None, or if
                publications after `since` are lost. They have `Publication.rewound` set. 0 for none.

        Returns:
            A `Joined`; if the broker must confirm the subscription or read the stream, a Deferred that fires with it
            before the first new publication is delivered.

        Raises:
            BrokerDown: the broker is unavailable; the subscriber is not subscribed. The Deferred may also fail with it.
            InvalidFilter: the subscriber has a filter, but the channel's subscribers may not filter by tags.
        """
        if type(subscriber.kind) is FilteredKind:
            self.rules.require_filter(channel)
        if self.rules.for_channel(channel).keep is None:
            since, positioned, rewind = None, False, 0
        state = self.find(channel)
        if state is not None and state.confirmed and not self.broker.up:
            raise BrokerDown("the broker is unavailable; retry later")
        if state is not None:
            # The pending publications arrived before this subscription, so the new subscriber does not receive them.
            self.flush(state)
            # One of them may have made the last subscriber leave.
            state = self.find(channel)
        if state is None:
            state = self._channels[channel] = ChannelState(channel)
        self.subscriptions += 1
        rewinds = since is None and rewind > 0
        if since is None and not positioned and not rewinds:
            state.add(subscriber)
        elif state.confirmed and state.is_at_top(since) and not rewinds:
            state.add(subscriber)
            self.recoveries["yes"] += since is not None
            return Joined(state.position, recovered=since is not None)
        else:
            state.recovering[subscriber] = RecoveringSubscriber(subscriber, budget, limit, rewind)
        confirmed = self._when_confirmed(state)
        if subscriber not in state.recovering:
            return then(confirmed, lambda _: Joined(None))
        return then(confirmed, lambda _: self._recovery.begin(state, subscriber, since))

    def _when_confirmed(self, state: ChannelState) -> MaybeDeferred[None]:
        """Request a channel's subscription from the broker once; return a Deferred if it is not confirmed at once."""
        if state.confirmed:
            return None
        confirmed: Deferred[None] = Deferred()
        state.waiting.append(confirmed)
        if len(state.waiting) == 1:
            # After the append, because the broker may fire its Deferred immediately.
            confirming = self.broker.subscribe(state.channel)
            if not isinstance(confirming, Deferred):
                self._confirmed(None, state)
                return None
            confirming.addCallbacks(self._confirmed, self._not_confirmed, callbackArgs=(state,), errbackArgs=(state,))
        return confirmed

    def _confirmed(self, _: object, state: ChannelState) -> None:
        self._on_occupancy(state.channel)
        state.confirm()

    def _not_confirmed(self, failure: Failure, state: ChannelState) -> None:
        if self.find(state.channel) is state:
            self.subscriptions -= len(state)
            del self._channels[state.channel]
        state.reject(failure)

    def recover(self, channel: ChannelName, subscriber: Subscriber) -> "Deferred[Joined]":
        """
        Read the next page of the publications that a subscriber missed.

        Args:
            channel: the channel's name. The previous `Joined` of this subscriber must have `behind` set.
            subscriber: the subscriber, which was subscribed with a budget.

        Returns:
            A Deferred that fires with the page, as a `Joined`, after this method has returned. If the stream no longer
            has the next missed publication, `recovered` is False, and the subscriber continues from `position`; or, if
            it requested a rewind, `position` is None, `behind` is set, and a rewind begins. If the subscriber has
            unsubscribed, `position` is None and `behind` is not set. The Deferred fails with `BrokerDown`; the
            subscriber is then no longer subscribed.
        """
        return self._recovery.read_page(channel, subscriber)

    def listen(
        self,
        channel: str,
        callback: OnPublication,
        *,
        on_gap: OnGap | None = None,
        since: Position | None = None,
        rewind: int = 0,
    ) -> CallbackSubscription:
        """
        Subscribe a function to a channel: it is called once with each publication, in order.

        If the broker is down, the subscription is established as soon as the broker is up.

        Args:
            channel: the channel's name.
            callback: called with the channel's name and a `Publication`. Exceptions that it raises are logged.
            on_gap: called with the channel's name if publications may be missing, for example after a Redis outage that
                the history does not cover. It is called before `callback` receives the publications that follow the
                gap. None to log a warning instead.
            since: call `callback` also with the publications after this position. If the history no longer has all of
                them, `on_gap` is called. None for only new publications.
            rewind: maximum number of the last publications in the history that `callback` is called with first; at most
                `MAX_REWIND`. Their attribute `rewound` is True. If `since` is set, they are only used after `on_gap`.

        Returns:
            The subscription, with `stop()`, `is_listening` and `when_ready()`.

        Raises:
            NotEnabled: `rewind` is set, and the channel has no history.
            TypeError: an argument has the wrong type, or a callback is an async function.
            ValueError: the channel's name is invalid, or `rewind` is out of range.
        """
        if not isinstance(since, Position | None):
            raise TypeError(f"since must be Position, not {type(since).__name__}")
        name = check_name(channel)
        if not 0 <= check_int("rewind", rewind) <= MAX_REWIND:
            raise ValueError(f"rewind must be from 0 to {MAX_REWIND}, not {rewind}")
        if rewind:
            self.rules.require_history(name)
        return CallbackSubscription(
            self, name, callback, on_gap=on_gap, since=since, rewind=rewind, reactor=self._reactor
        )

    def call_when_up(self, function: Callable[[], None]) -> bool:
        """
        Register a function to call once, when the broker comes up.

        Returns:
            False if the broker is already up; the function is then not registered.
        """
        if self.broker.up:
            return False
        self._when_up.append(function)
        return True

    def on_up(self) -> None:
        """Call the functions that were registered with `call_when_up`; called by the broker when it is up."""
        waiting, self._when_up = self._when_up, []
        for function in waiting:
            function()

    def unsubscribe(self, channel: ChannelName, subscriber: Subscriber) -> None:
        """Unsubscribe a subscriber from a channel; do nothing if it is not subscribed."""
        state = self.find(channel)
        if state is None or not state.remove(subscriber):
            return
        self.subscriptions -= 1
        self._fan_out.left(channel, subscriber)
        if not len(state):
            del self._channels[channel]
            self.broker.unsubscribe(channel)
            self._on_occupancy(channel)

    def find(self, channel: ChannelName) -> ChannelState | None:
        """Return the state of a channel; None if it has no subscribers in this process."""
        return self._channels.get(channel)

    def count(self, channel: ChannelName) -> int:
        """Return the number of a channel's subscribers in this process."""
        state = self.find(channel)
        return len(state) if state is not None else 0

    def is_occupied(self, channel: ChannelName) -> bool:
        """Return whether a channel has subscribers in this process, and the broker has confirmed the subscription."""
        state = self.find(channel)
        return state is not None and state.confirmed

    def watch_occupancy(self, function: Callable[[ChannelName], None]) -> None:
        """Set the function to call with a channel's name when the result of `is_occupied` may have changed."""
        self._on_occupancy = function

    @property
    def channels(self) -> int:
        """Number of channels that have subscribers in this process."""
        return len(self._channels)

    def measure_deliveries(self, observe: Callable[[float], object]) -> None:
        """Set the function to call with the seconds that each delivery to all subscribers of a channel has taken."""
        self._fan_out.observe = observe

    def position(self, channel: ChannelName) -> Position | None:
        """Return the position of the last publication that this process has received on a channel; None if unknown."""
        state = self.find(channel)
        return state.position if state is not None else None

    def counts(self) -> dict[ChannelName, int]:
        """Return the channels that have subscribers in this process: channel name -> number of subscribers."""
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
        delta: bool = False,
    ) -> "Deferred[Receipt]":
        """
        Publish to a channel, for the subscribers in all processes.

        Args:
            channel: the channel's name.
            data: the text or the bytes to publish.
            json: whether `data` is a JSON text. It is delivered as it is written, without reformatting numbers.
            info: the client that publishes; None if the publisher is not a client.
            tags: names and values that are sent together with the data.
            idempotency_key: any text that identifies the publication; empty for none. If the channel received a
                publication with the same key within the last 300 seconds, nothing is published, and the receipt has the
                position of that earlier publication.
            skip_history: whether to leave the publication out of the history; it then has no offset.
            delta: whether subscribers may receive the publication as a delta; see the channel option `delta`.

        Returns:
            A Deferred that fires with a `Receipt` once the publication is published. It fails with `BrokerDown` if the
            broker did not accept the publication.

        Raises:
            TypeError: an argument has the wrong type.
            ValueError: the channel's name is invalid, a text cannot be encoded as UTF-8, or `data` is not JSON.
        """
        name = check_name(channel)
        publication = make_publication(data, json=json, info=info, tags=tags, delta=delta)
        check_text("idempotency_key", idempotency_key)
        try:
            return as_deferred(self.send(name, publication, idempotency_key, skip_history=skip_history))
        except BrokerDown:
            return fail()

    def send(
        self, channel: ChannelName, publication: Publication, idempotency_key: str = "", *, skip_history: bool = False
    ) -> MaybeDeferred[Receipt]:
        """
        Publish a publication whose channel name and contents the caller has checked; otherwise like `publish`.

        Returns:
            The receipt; a Deferred of it if the broker does not publish immediately.
        """
        self.from_backend += 1
        keep = None if skip_history else self.rules.for_channel(channel).keep
        position = self.broker.publish(channel, publication, keep, idempotency_key)
        # A result is looked for first: this is called for each publication of the HTTP API.
        if isinstance(position, Position) or position is None:
            return self._receipt(position, channel)
        return position.addCallback(self._receipt, channel)

    def forward(
        self, channel: ChannelName, publication: Publication, idempotency_key: str = "", *, skip_history: bool = False
    ) -> MaybeDeferred[Position | None]:
        """Publish a publication like `send`, but return only its position, without the number of subscribers."""
        self.from_clients += 1
        keep = None if skip_history else self.rules.for_channel(channel).keep
        return self.broker.publish(channel, publication, keep, idempotency_key)

    def _receipt(self, position: Position | None, channel: ChannelName) -> Receipt:
        state = self._channels.get(channel)
        return Receipt(position, len(state) if state is not None else 0)

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
        Read the publications in a channel's history.

        Args:
            channel: the channel's name.
            since: return only publications after this position, or before it if `reverse` is True; None for no
                restriction. If `reverse` is True, an offset above the top's offset + 1 returns no publications.
            limit: maximum number of publications; 0 to return only the stream's position; negative for no limit.
            reverse: whether to return the newest publication first.
            max_bytes: maximum total size of the publications' data in bytes; None for no limit. The first publication
                is returned even if it is larger.

        Returns:
            A Deferred that fires with a `Page`, which is empty if the channel has no history. It fails with
            `BrokerDown`, or with `Unrecoverable` if `since` has an epoch that is not the stream's current epoch.

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
            if reverse and since is not None and since.offset > page.position.offset + 1:
                # The stream has no such position, so there is nothing before it. Brokers return the newest ones.
                return Page((), page.position)
            return page

        page = self.broker.history(name, keep, since, limit, reverse=reverse, max_bytes=max_bytes)
        return as_deferred(page).addCallback(check)

    def on_publication(self, channel: ChannelName, publication: Publication) -> None:
        """Receive a publication from the broker, and deliver it at the end of this event-loop iteration."""
        state = self._channels.get(channel)
        if state is None or not state.confirmed:
            # The publication belongs to a subscription of this process that has ended. A new subscription may exist,
            # but it is not confirmed yet, so its subscribers do not receive this publication.
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
        """After a broker outage, read what each channel missed, or notify its subscribers if this is impossible."""
        for state in list(self._channels.values()):
            if state.confirmed:
                self._gaps.on_reconnect(state)

    def on_permission_revoked(self, channel: ChannelName) -> None:
        """Unsubscribe and notify all subscribers of a channel that Redis no longer permits the server to read."""
        state = self.find(channel)
        if state is not None:
            self.flush(state)
            former = state.subscribers()
            for subscriber in former:
                self.unsubscribe(channel, subscriber)
            self._fan_out.on_permission_revoked(channel, former)

    # The end of an event-loop iteration.

    def _queue(self, state: ChannelState, item: Publication | PresenceEvent) -> None:
        """Queue an item for the end of this event-loop iteration; recovering subscribers get it immediately."""
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

    def deliver_pending(self, channel: ChannelName) -> None:
        """
        Deliver what a channel has received in this event-loop iteration without waiting for the iteration's end.

        To be called before a subscriber is unsubscribed or disconnected on request: it receives the earlier
        publications, such as its own.
        """
        state = self.find(channel)
        if state is not None:
            self.flush(state)

    def flush(self, state: ChannelState) -> None:
        """Deliver the pending items of a channel to all its subscribers, except those that are still recovering."""
        items, state.pending = state.pending, []
        if items:
            self._fan_out.publish(state.channel, state.kinds, items)


def _ignore(channel: ChannelName) -> None:
    """Ignore that a channel has its first subscriber, or has none any longer."""
