"""
The commands of a Centrifuge client that concern channels: subscribe, publish, presence and history.

Source: `client.go` of centrifugal/centrifuge, which defines the reply to each command.
"""

from collections.abc import Generator, Mapping
from typing import Any, ClassVar, Protocol

from twisted.internet.defer import inlineCallbacks

from wsserver.auth.claims import Right
from wsserver.centrifugecodes import (
    ALREADY_SUBSCRIBED,
    BAD_REQUEST,
    BAD_REQUEST_ERROR,
    EXPIRED_ELSEWHERE,
    EXPIRED_SUBSCRIPTION,
    INTERNAL,
    LIMIT_EXCEEDED,
    NOT_AVAILABLE_ERROR,
    PERMISSION_DENIED,
    SERVER_UNSUBSCRIBE,
    UNRECOVERABLE_POSITION,
    Disconnect,
    Error,
    Unsubscription,
)
from wsserver.endpoints.centrifuge.commands import (
    REJECT_UNRECOVERED,
    History,
    Presence,
    PresenceStats,
    Publish,
    SubRefresh,
    Subscribe,
    Unsubscribe,
)
from wsserver.endpoints.centrifuge.permissions import Pass, Peer, Permissions
from wsserver.endpoints.centrifuge.replies import on_one_line, publication, push
from wsserver.endpoints.centrifuge.subscriber import ChannelSubscription
from wsserver.errors import BrokerDown
from wsserver.hub.hub import Hub, Joined
from wsserver.hub.names import MAX_CHANNELS, parse_name
from wsserver.hub.presence import ClientInfo
from wsserver.hub.publication import Publication
from wsserver.hub.stream import Position, ReadLimit
from wsserver.typing import ChannelName, JSONText

__all__ = ["Answer", "Channels", "Connection"]

Answer = Mapping[str, Any] | Error | Disconnect
"""The outcome of a command: the fields of its result, an error reply, or a disconnect."""


class Connection(Protocol):
    """The connection as its session sees it: a `SubscriberProtocol` that also has these members."""

    gate: ClassVar[Permissions]
    hub: ClassVar[Hub]
    who: Peer
    """The client, as known from its opening handshake."""
    token: str
    """The token of the opening handshake; empty if it had none."""
    ping_interval: ClassVar[int]
    """Seconds between pings; 0 for none."""

    def say(self, payload: bytes) -> None:
        """Send a reply or a push."""

    def forget(self, channel: ChannelName) -> None:
        """Drop a channel's publications from the send queue."""

    def disconnect(self, how: Disconnect) -> None:
        """Close the connection."""


class Channels:
    """
    A client's subscriptions, and its other commands that concern channels.

    Args:
        connection: the client's connection.
        peer: the client's identity.
    """

    __slots__ = ("_closed", "_gate", "_hub", "connection", "peer", "subscriptions")

    def __init__(self, connection: Connection, peer: Peer) -> None:
        self.connection = connection
        self.peer = peer
        self.subscriptions: dict[ChannelName, ChannelSubscription] = {}
        self._gate = connection.gate
        self._hub = connection.hub
        self._closed = False

    def close(self, *, quick: bool) -> None:
        """
        Unsubscribe from all channels.

        Args:
            quick: whether the client may reconnect soon, so that leave events are delayed.
        """
        self._closed = True
        for subscription in list(self.subscriptions.values()):
            self._leave(subscription, quick=quick)

    @inlineCallbacks
    def push_subscription(self, channel: ChannelName, options: Mapping[str, Any]) -> Generator[Any, Any, None]:
        """
        Subscribe the client on behalf of the backend, and notify it with a `subscribe` push.

        Does nothing if the broker is unavailable, or if the subscription is refused.

        Args:
            channel: the channel's name.
            options: `info`, `data`, `expire_at` and `recover_since`, as in Centrifugo's server API.
        """
        since = options.get("recover_since")
        request = Subscribe(recover=since is not None, **(since or {}))
        data = JSONText(options["data"].encode("utf-8")) if "data" in options else None
        held = Pass(channel, options.get("info"), data, options.get("expire_at", 0))
        try:
            answer: Answer = yield self.join(held, request, server_side=True)
        except BrokerDown:
            return
        if not isinstance(answer, Error | Disconnect):
            told = ("recoverable", "epoch", "offset", "positioned", "data")
            self.connection.say(push(channel, "subscribe", {name: answer[name] for name in told if name in answer}))
            # A subscribe push has no field for recovered publications.
            for one in answer["publications"]:
                self.connection.say(push(channel, "pub", one))

    def end(self, channel: ChannelName, how: Unsubscription = SERVER_UNSUBSCRIBE) -> None:
        """
        Unsubscribe the client from a channel on behalf of the server, and notify it with an `unsubscribe` push.

        Args:
            channel: the channel's name; the client may have no subscription to it.
            how: the code and the reason of the push.
        """
        subscription = self.subscriptions.get(channel)
        if subscription is not None and not subscription.answered:
            # The client has no reply yet. `join` answers with a temporary error, and the client may retry.
            subscription.lost = True
        elif subscription is not None:
            self._leave(subscription)
            self.connection.say(push(channel, "unsubscribe", {"code": how.code, "reason": how.reason}))

    # Subscriptions.

    @inlineCallbacks
    def subscribe(self, request: Subscribe) -> Generator[Any, Any, Answer]:
        """Execute `subscribe`."""
        if not request.channel:
            return BAD_REQUEST.because("subscribe without a channel")
        if request.type or request.tf is not None:
            return BAD_REQUEST_ERROR.because("only subscriptions to a stream, without a filter, are known here")
        if request.channel in self.subscriptions:
            return ALREADY_SUBSCRIBED
        if len(self.subscriptions) >= MAX_CHANNELS:
            return LIMIT_EXCEEDED.because(f"at most {MAX_CHANNELS} channels")
        held = yield self._gate.subscribe(self.peer, request)
        if isinstance(held, Error | Disconnect):
            return held
        answer: Answer = yield self.join(held, request)
        return answer

    @inlineCallbacks
    def join(
        self, held: Pass, request: Subscribe, *, server_side: bool = False, limit: ReadLimit | None = None
    ) -> Generator[Any, Any, Answer]:
        """
        Subscribe the client to a channel that it may subscribe to.

        Args:
            held: the permission for the channel.
            request: the client's options, such as the position to recover from.
            server_side: whether the server makes the subscription, not the client.
            limit: maximum to recover; None for the maximum of one reply.

        Returns:
            The fields of the subscribe result, or an error reply.

        Raises:
            BrokerDown: the broker is unavailable; the client is not subscribed.
        """
        channel, since = held.channel, None
        if request.recover:
            since = yield self._fill_in_epoch(channel, Position(request.offset, request.epoch))
        if self._closed:
            # The connection was closed while the server waited for the backend or for the broker.
            return INTERNAL
        if channel in self.subscriptions:
            # The backend has subscribed the client in the meantime.
            return ALREADY_SUBSCRIBED
        info = self._info(held)
        subscription = ChannelSubscription(self, held, info, events=request.join_leave, server_side=server_side)
        self.subscriptions[channel] = subscription
        try:
            joined: Joined = yield self._hub.subscribe(
                channel, subscription, since=since, positioned=True, limit=limit or self._gate.pages.limit
            )
        except BaseException:
            self._forget(subscription)
            raise
        left = self.subscriptions.get(channel) is not subscription
        if subscription.lost and not left:
            self._leave(subscription)
        if subscription.lost or left:
            # The subscription was ended before its reply: publications were lost, the client unsubscribed from a
            # subscription that the backend was making, or the connection was closed.
            return INTERNAL.because("the subscription ended while it was made")
        if request.recover and not joined.recovered and request.flag & REJECT_UNRECOVERED:
            self._leave(subscription)
            return UNRECOVERABLE_POSITION
        subscription.answered, subscription.positioned = True, joined.position is not None
        self._watch_expiry(subscription)
        self._hub.members.join(channel, info)
        return self._result(held, request, joined)

    @inlineCallbacks
    def _fill_in_epoch(self, channel: ChannelName, since: Position) -> Generator[Any, Any, Position]:
        """Fill in the current epoch if a position has none: as in Centrifugo, it is then valid in any epoch."""
        if since.epoch or self._hub.rules.for_channel(channel).keep is None:
            return since
        page = yield self._hub.history(channel)
        return Position(since.offset, page.position.epoch)

    def _result(self, held: Pass, request: Subscribe, joined: Joined) -> Answer:
        result: dict[str, Any] = {"was_recovering": request.recover, "recovered": joined.recovered}
        result |= self._gate.expiry(held.expires_at, by_token=held.by_token)
        if held.data is not None:
            result["data"] = on_one_line(held.data)
        if joined.position is not None:
            result |= {"recoverable": True, "positioned": True, "epoch": joined.position.epoch}
            # After a recovery the client starts at the offset it asked for, and advances with each publication.
            result["offset"] = request.offset if joined.recovered else joined.position.offset
        result["publications"] = tuple(map(publication, joined.publications))
        return result

    def _info(self, held: Pass | None) -> ClientInfo:
        identity, chan_info = self.peer.identity, held.info if held is not None else None
        return ClientInfo(self.peer.caller.client, identity.user, identity.info, chan_info)

    def _watch_expiry(self, subscription: ChannelSubscription) -> None:
        if subscription.alarm is not None:
            subscription.alarm.cancel()

        def expired() -> None:
            if subscription.server_side:
                self.connection.disconnect(EXPIRED_ELSEWHERE)
            else:
                self.end(subscription.channel, EXPIRED_SUBSCRIPTION)

        subscription.alarm = self._gate.admission.when_expired(subscription.held.expires_at, expired)

    @inlineCallbacks
    def sub_refresh(self, request: SubRefresh) -> Generator[Any, Any, Answer]:
        """Execute `sub_refresh`: check the new subscription token and extend the subscription."""
        if not request.channel:
            return BAD_REQUEST.because("sub_refresh without a channel")
        subscription = self.subscriptions.get(ChannelName(request.channel))
        if subscription is None:
            return PERMISSION_DENIED.because("not subscribed to the channel")
        held = yield self._gate.sub_refresh(self.peer, subscription.held, request.token)
        if isinstance(held, Error | Disconnect):
            return held
        subscription.held = held
        if self.subscriptions.get(held.channel) is subscription:
            self._watch_expiry(subscription)
        return self._gate.expiry(held.expires_at)

    def unsubscribe(self, request: Unsubscribe) -> Answer:
        """Execute `unsubscribe`. It also succeeds if the client is not subscribed."""
        if not request.channel:
            return BAD_REQUEST.because("unsubscribe without a channel")
        subscription = self.subscriptions.get(ChannelName(request.channel))
        if subscription is not None:
            self._leave(subscription)
        return {}

    def _leave(self, subscription: ChannelSubscription, *, quick: bool = False) -> None:
        self._forget(subscription)
        self._hub.unsubscribe(subscription.channel, subscription)
        self.connection.forget(subscription.channel)
        if subscription.alarm is not None:
            subscription.alarm.cancel()
        if subscription.answered:
            self._hub.members.leave(subscription.channel, subscription.info, quick=quick)

    def _forget(self, subscription: ChannelSubscription) -> None:
        if self.subscriptions.get(subscription.channel) is subscription:
            del self.subscriptions[subscription.channel]

    # Other commands.

    @inlineCallbacks
    def publish(self, request: Publish) -> Generator[Any, Any, Answer]:
        """Execute `publish`."""
        if not request.channel or request.data is None:
            return BAD_REQUEST.because("publish without a channel or data")
        channel = parse_name(request.channel)
        held = self._held(channel)
        allowed = yield self._gate.publish(self.peer, channel, request.data, held)
        if isinstance(allowed, Error | Disconnect):
            return allowed
        publication = Publication(allowed.data, json=True, info=self._info(held), tags=allowed.tags)
        yield self._hub.send(
            channel,
            publication,
            idempotency_key=allowed.idempotency_key,
            skip_history=allowed.skip_history,
        )
        return {}

    @inlineCallbacks
    def presence(self, request: Presence | PresenceStats) -> Generator[Any, Any, Answer]:
        """Execute `presence` (the clients of a channel) or `presence_stats` (the numbers of clients and of users)."""
        if not request.channel:
            return BAD_REQUEST.because("presence without a channel")
        channel = parse_name(request.channel)
        refused = self._gate.look(self.peer, channel, self._held(channel), Right.PRESENCE)
        if refused is not None:
            return refused
        if not self._hub.rules.for_channel(channel).presence:
            return NOT_AVAILABLE_ERROR.because("no presence is kept of this channel; --channel-presence turns it on")
        clients: Mapping[str, ClientInfo] = yield self._hub.members.of(channel)
        if isinstance(request, PresenceStats):
            return {"num_clients": len(clients), "num_users": len({info.user for info in clients.values()})}
        written = self._gate.pages.write_presence(channel, clients)
        if written is None:
            return LIMIT_EXCEEDED.because("too many clients for one answer; presence_stats counts them")
        return {"presence": written}

    @inlineCallbacks
    def history(self, request: History) -> Generator[Any, Any, Answer]:
        """Execute `history`: read a page of the channel's stream."""
        if not request.channel:
            return BAD_REQUEST.because("history without a channel")
        channel = parse_name(request.channel)
        refused = self._gate.look(self.peer, channel, self._held(channel), Right.HISTORY)
        if refused is not None:
            return refused
        if self._hub.rules.for_channel(channel).keep is None:
            return NOT_AVAILABLE_ERROR.because("no history is kept of this channel; --history-size turns it on")
        since = (yield self._fill_in_epoch(channel, request.since)) if request.since is not None else None
        most, max_bytes = self._gate.pages.limit
        limit = request.limit if 0 <= request.limit <= most else most
        page = yield self._hub.history(channel, since=since, limit=limit, reverse=request.reverse, max_bytes=max_bytes)
        shown = self._gate.pages.write_history(channel, page.publications)
        return {"publications": shown, "epoch": page.position.epoch, "offset": page.position.offset}

    def _held(self, channel: ChannelName) -> Pass | None:
        subscription = self.subscriptions.get(channel)
        return subscription.held if subscription is not None and subscription.answered else None
