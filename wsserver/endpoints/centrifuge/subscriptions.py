"""
The commands of a Centrifuge client that concern channels: subscribe, publish, presence and history.

Source: `client.go` of centrifugal/centrifuge, which defines the reply to each command.
"""

from collections.abc import Generator, Mapping
from functools import partial
from typing import Any

import msgspec
from twisted.internet.defer import maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from wsserver.auth.claims import Identity, Right
from wsserver.centrifugecodes import (
    ALREADY_SUBSCRIBED,
    BAD_REQUEST,
    BAD_REQUEST_ERROR,
    EXPIRED_ELSEWHERE,
    EXPIRED_SUBSCRIPTION,
    INTERNAL,
    LIMIT_EXCEEDED,
    PERMISSION_DENIED,
    SERVER_UNSUBSCRIBE,
    UNRECOVERABLE_POSITION,
    Disconnect,
    Error,
    Unsubscription,
)
from wsserver.endpoints.centrifuge.commands import (
    FOSSIL,
    REJECT_UNRECOVERED,
    History,
    Presence,
    PresenceStats,
    Publish,
    SubRefresh,
    Subscribe,
    Unsubscribe,
)
from wsserver.endpoints.centrifuge.connection import Answer, Connection
from wsserver.endpoints.centrifuge.permissions import ClientContext, PublishGrant, SubscribeGrant
from wsserver.endpoints.centrifuge.replies import (
    PUBLISHED,
    UNSUBSCRIBED,
    HistoryResult,
    PresenceResult,
    PresenceStatsResult,
    SubRefreshResult,
    SubscribeResult,
    UnsubscribePush,
)
from wsserver.endpoints.centrifuge.rewind import as_recovery, rewind_of
from wsserver.endpoints.centrifuge.subscriber import ChannelSubscription
from wsserver.endpoints.centrifuge.unconfirmed import Sent
from wsserver.errors import BrokerDown
from wsserver.hub.clients import ClientInfo
from wsserver.hub.deferreds import MaybeDeferred, may_wait, then, waits
from wsserver.hub.filters import compile_filter
from wsserver.hub.hub import Joined
from wsserver.hub.names import parse_name
from wsserver.hub.publication import Publication
from wsserver.hub.stream import Position, ReadLimit
from wsserver.text import quote
from wsserver.typing import ChannelName, JSONText

__all__ = ["Channels"]

# At module level, because a Twisted Logger in a class body uses the name of the class as its namespace.
_log = Logger(namespace="wsserver.centrifuge")


class _Publisher(msgspec.Struct, frozen=True):
    """
    A client that may publish to a channel.

    Kept from one publication to the next, because finding the permission takes as long as the publication. It depends
    only on the fields of this struct, and on the client's host.
    """

    channel: ChannelName
    identity: Identity
    grant: SubscribeGrant | None
    info: ClientInfo
    """The client's info in its publications to the channel."""
    rules: object
    """Stands for the server's options: another object after they have been reloaded."""


class Channels:
    """
    A client's subscriptions, and its other commands that concern channels.

    Args:
        connection: the client's connection.
        context: describes the client, including its identity.
    """

    __slots__ = ("_closed", "_hub", "_permissions", "_publisher", "connection", "context", "subscriptions")

    def __init__(self, connection: Connection, context: ClientContext) -> None:
        self.connection = connection
        self.context = context
        self.subscriptions: dict[ChannelName, ChannelSubscription] = {}
        self._permissions = connection.permissions
        self._hub = connection.hub
        self._closed = False
        self._publisher: _Publisher | None = None
        """The client as the publisher of its last publication; None if the backend permitted it."""

    def close(self, *, may_reconnect: bool) -> None:
        """
        Unsubscribe from all channels.

        Args:
            may_reconnect: whether the client may reconnect soon, so that leave events are delayed.
        """
        self._closed = True
        for subscription in list(self.subscriptions.values()):
            self._leave(subscription, may_reconnect=may_reconnect)

    def push_subscription(self, channel: ChannelName, options: Mapping[str, Any]) -> None:
        """
        Subscribe the client on behalf of the backend, and notify it with a `subscribe` push.

        Does nothing if the broker is unavailable, or if the subscription is refused. Logs an unexpected error.

        Args:
            channel: the channel's name.
            options: see `wsserver.hub.management.Management.subscribe`.
        """

        def log_failure(failure: Failure) -> None:
            _log.failure("subscribing a client failed channel={channel}", failure, channel=channel)

        maybeDeferred(self._push_subscription, channel, options).addErrback(log_failure)

    @may_wait
    def _push_subscription(self, channel: ChannelName, options: Mapping[str, Any]) -> Generator[Any, Any, None]:
        since = options.get("recover_since")
        request = Subscribe(recover=since is not None, **(since or {}))
        data = JSONText(options["data"].encode("utf-8")) if "data" in options else None
        forced = options.get("force_push_join_leave")
        grant = SubscribeGrant(channel, options.get("info"), data, options.get("expire_at", 0), forces_events=forced)
        try:
            answer: SubscribeResult | Error | Disconnect = yield self.join(grant, request, server_side=True)
        except BrokerDown:
            return
        if not isinstance(answer, Error | Disconnect):
            fields = SubscribeResult(
                data=answer.data,
                recoverable=answer.recoverable,
                positioned=answer.positioned,
                epoch=answer.epoch,
                offset=answer.offset,
            )
            codec = self.connection.codec
            self.connection.send_payload(codec.push(channel, fields))
            # A subscribe push has no field for recovered publications.
            for one in answer.publications:
                self.connection.send_payload(codec.publication(channel, one))

    def end(self, channel: ChannelName, how: Unsubscription = SERVER_UNSUBSCRIBE) -> None:
        """
        Unsubscribe the client from a channel on behalf of the server, and notify it with an `unsubscribe` push.

        Args:
            channel: the channel's name. Nothing is done if the client is not subscribed to it.
            how: the code and the reason of the push.
        """
        subscription = self.subscriptions.get(channel)
        if subscription is not None and not subscription.answered:
            # The client has no reply yet. `join` answers with a temporary error, and the client may retry.
            subscription.lost = True
        elif subscription is not None:
            self._leave(subscription)
            push = self.connection.codec.push(channel, UnsubscribePush(how.code, how.reason))
            self.connection.send_payload(push)

    # Subscriptions.

    def subscribe(self, request: Subscribe) -> MaybeDeferred[Answer]:
        """Execute `subscribe`."""
        if not request.channel:
            return BAD_REQUEST.because("subscribe without a channel")
        if request.type:
            return BAD_REQUEST_ERROR.because("expected a subscription to a stream (type)")
        if request.delta not in ("", FOSSIL):
            return BAD_REQUEST.because(f"delta: expected {FOSSIL}, got {quote(request.delta)}")
        if request.channel in self.subscriptions:
            return ALREADY_SUBSCRIBED
        if len(self.subscriptions) >= self._permissions.authorizer.max_channels:
            return self._permissions.refuse_channels()
        grant = self._permissions.subscribe(self.context, request)
        if waits(grant):
            return grant.addCallback(self._join_if_granted, request)
        return self._join_if_granted(grant, request)

    def _join_if_granted(self, grant: SubscribeGrant | Error | Disconnect, request: Subscribe) -> MaybeDeferred[Any]:
        return self.join(grant, request) if isinstance(grant, SubscribeGrant) else grant

    def join(
        self, grant: SubscribeGrant, request: Subscribe, *, server_side: bool = False, limit: ReadLimit | None = None
    ) -> MaybeDeferred[SubscribeResult | Error]:
        """
        Subscribe the client to a channel that it may subscribe to.

        Args:
            grant: the permission for the channel.
            request: the client's options, such as the position to recover from.
            server_side: whether the server makes the subscription, not the client.
            limit: maximum number and size of the recovered publications; None for the maximum of one reply.

        Returns:
            The result, or an error reply.

        Raises:
            BrokerDown: the broker is unavailable; the client is not subscribed.
            InvalidFilter: the client's filter is invalid, or filters are not enabled for the channel.
        """
        rewind, rewinds = rewind_of(request, grant, self._hub.rules.for_channel(grant.channel))
        limit = limit or self._permissions.pages.limit
        subscribe = partial(
            self._subscribe, grant, request, server_side=server_side, limit=limit, rewind=rewind, rewinds=rewinds
        )
        if rewinds or not request.recover:
            return subscribe(None)
        return then(self._fill_in_epoch(grant.channel, Position(request.offset, request.epoch)), subscribe)

    def _subscribe(
        self,
        grant: SubscribeGrant,
        request: Subscribe,
        since: Position | None,
        *,
        server_side: bool,
        limit: ReadLimit,
        rewind: int,
        rewinds: bool,
    ) -> MaybeDeferred[SubscribeResult | Error]:
        channel = grant.channel
        if self._closed:
            # The connection was closed while the server waited for the backend or for the broker.
            return INTERNAL
        if channel in self.subscriptions:
            # The backend has subscribed the client in the meantime.
            return ALREADY_SUBSCRIBED
        events = self._permissions.receives_events(self.context, grant, requested=request.join_leave)
        found = compile_filter(request.tf, "tf") if request.tf is not None and not server_side else None
        delta = self._hub.rules.for_channel(channel).delta if request.delta == FOSSIL else "off"
        subscription = ChannelSubscription(
            self, grant, self._info(grant), events=events, server_side=server_side, delta=delta, filter_=found
        )
        self.subscriptions[channel] = subscription
        try:
            joined = self._hub.subscribe(
                channel, subscription, since=since, positioned=True, limit=limit, rewind=rewind
            )
        except BaseException:
            self._forget(subscription)
            raise
        if not waits(joined):
            return self._joined(joined, subscription, request, rewinds=rewinds)

        def failed(failure: Failure) -> Failure:
            self._forget(subscription)
            return failure

        finish = partial(self._joined, rewinds=rewinds)
        return joined.addCallbacks(finish, failed, callbackArgs=(subscription, request))

    def _joined(
        self, joined: Joined, subscription: ChannelSubscription, request: Subscribe, *, rewinds: bool
    ) -> SubscribeResult | Error:
        channel, grant = subscription.channel, subscription.grant
        left = self.subscriptions.get(channel) is not subscription
        if subscription.lost and not left:
            self._leave(subscription)
        if subscription.lost or left:
            # The subscription was ended before its reply: publications were lost, the client unsubscribed from a
            # subscription that the backend was making, or the connection was closed.
            return INTERNAL.because("the subscription ended before it was confirmed; retry")
        if rewinds:
            joined = as_recovery(joined, Position(request.offset, request.epoch))
        # Without a history there is no position that could be lost, so an error would not help the client. A rewind
        # needs no position.
        unrecovered = request.recover and not joined.recovered and joined.position is not None and not rewinds
        if unrecovered and request.flag & REJECT_UNRECOVERED:
            self._leave(subscription)
            return UNRECOVERABLE_POSITION
        subscription.answered, subscription.positioned = True, joined.position is not None
        if grant.expires_at:
            self._watch_expiry(subscription)
        self._hub.presence.join(channel, subscription.info)
        return self._result(subscription, request, joined, rewinds=rewinds)

    @may_wait
    def _fill_in_epoch(self, channel: ChannelName, since: Position) -> Generator[Any, Any, Position]:
        """Fill in the current epoch if a position has none: as in Centrifugo, such a position is valid in any epoch."""
        if since.epoch or self._hub.rules.for_channel(channel).keep is None:
            return since
        page = yield self._hub.history(channel)
        return Position(since.offset, page.position.epoch)

    def _result(
        self, subscription: ChannelSubscription, request: Subscribe, joined: Joined, *, rewinds: bool
    ) -> SubscribeResult:
        position, publications, recovered, _ = joined
        grant = subscription.grant
        expires, ttl = self._permissions.expiry(grant.expires_at, by_token=grant.by_token)
        data = msgspec.Raw(grant.data) if grant.data is not None else None
        positioned, offset, epoch = False, 0, ""
        if position is not None:
            positioned, (offset, epoch) = True, position
            if recovered and publications:
                # After a recovery, the client starts at the offset that it sent, and advances with each publication. If
                # none matches its filter, it starts at the end of the stream instead.
                offset = request.offset
        was_recovering = request.recover or rewinds
        return SubscribeResult(
            *(was_recovering, recovered, expires, ttl, data, positioned, positioned, epoch, offset),
            publications=tuple(publications),
            delta=subscription.delta != "off",
        )

    def _info(self, grant: SubscribeGrant | None) -> ClientInfo:
        identity, chan_info = self.context.identity, grant.info if grant is not None else None
        return ClientInfo(self.context.caller.client, identity.user, identity.info, chan_info)

    def _watch_expiry(self, subscription: ChannelSubscription) -> None:
        if subscription.expiry_timer is not None:
            subscription.expiry_timer.cancel()

        def expired() -> None:
            if subscription.server_side:
                self.connection.disconnect(EXPIRED_ELSEWHERE)
            else:
                self.end(subscription.channel, EXPIRED_SUBSCRIPTION)

        subscription.expiry_timer = self._permissions.authorizer.call_when_expired(
            subscription.grant.expires_at, expired
        )

    @may_wait
    def sub_refresh(self, request: SubRefresh) -> Generator[Any, Any, Answer]:
        """Execute `sub_refresh`: check the new subscription token and extend the subscription."""
        if not request.channel:
            return BAD_REQUEST.because("sub_refresh without a channel")
        subscription = self.subscriptions.get(ChannelName(request.channel))
        if subscription is None:
            return PERMISSION_DENIED.because(f"not subscribed to channel {quote(request.channel)}")
        if subscription.server_side:
            return BAD_REQUEST.because("sub_refresh of a subscription that the server made")
        grant = yield self._permissions.sub_refresh(self.context, subscription.channel, request.token)
        if isinstance(grant, Error | Disconnect):
            return grant
        if isinstance(grant, Unsubscription):
            if self.subscriptions.get(subscription.channel) is subscription:
                self.end(subscription.channel, grant)
            return SubRefreshResult()
        subscription.grant = grant
        if self.subscriptions.get(grant.channel) is subscription:
            self._watch_expiry(subscription)
        return SubRefreshResult(*self._permissions.expiry(grant.expires_at))

    def unsubscribe(self, request: Unsubscribe) -> Answer:
        """Execute `unsubscribe`. It also succeeds if the client is not subscribed."""
        if not request.channel:
            return BAD_REQUEST.because("unsubscribe without a channel")
        subscription = self.subscriptions.get(ChannelName(request.channel))
        if subscription is not None:
            # The client receives what it published before this command, even in the same frame.
            self._hub.deliver_pending(subscription.channel)
            if self.subscriptions.get(subscription.channel) is subscription:
                self._leave(subscription)
        return UNSUBSCRIBED

    def _leave(self, subscription: ChannelSubscription, *, may_reconnect: bool = False) -> None:
        self._forget(subscription)
        self._hub.unsubscribe(subscription.channel, subscription)
        self.connection.forget(subscription.channel)
        if subscription.expiry_timer is not None:
            subscription.expiry_timer.cancel()
        if subscription.answered:
            self._hub.presence.leave(subscription.channel, subscription.info, may_reconnect=may_reconnect)

    def _forget(self, subscription: ChannelSubscription) -> None:
        if self.subscriptions.get(subscription.channel) is subscription:
            del self.subscriptions[subscription.channel]

    # Other commands.

    def publish(self, request: Publish) -> MaybeDeferred[Answer] | Sent:
        """Execute `publish`. Return a `Sent` if the broker has the publication and has yet to confirm it."""
        if not request.channel or request.data is None:
            missing_data = BAD_REQUEST_ERROR.because("publish without data")
            return missing_data if request.channel else BAD_REQUEST.because("publish without a channel")
        if request.type:
            return BAD_REQUEST_ERROR.because("expected a publication to a stream (type)")
        publisher, grant, identity = self._publisher, self._grant(request.channel), self.context.identity
        json = self.connection.codec.json
        if (
            publisher is None
            or publisher.channel != request.channel
            or publisher.identity is not identity
            or publisher.grant is not grant
            or publisher.rules is not self._hub.rules.for_channel
        ):
            channel = parse_name(request.channel)
            publisher = _Publisher(channel, identity, grant, self._info(grant), self._hub.rules.for_channel)
            refused = self._permissions.refuse_publish(self.context, channel, grant)
            if refused is not None:
                publication = Publication(bytes(request.data), json=json, info=publisher.info)
                asked = self._permissions.ask_to_publish(self.context, channel, publication)
                return refused if asked is None else asked.addCallback(self._publish_if_granted, channel)
            self._publisher = publisher
        publication = Publication(bytes(request.data), json=json, info=publisher.info)
        sent = self._hub.forward(publisher.channel, publication)
        return Sent(sent) if waits(sent) else PUBLISHED

    def _publish_if_granted(
        self, allowed: PublishGrant | Error | Disconnect, channel: ChannelName
    ) -> MaybeDeferred[Answer]:
        if not isinstance(allowed, PublishGrant):
            return allowed
        sent = self._hub.forward(
            channel, allowed.publication, allowed.idempotency_key, skip_history=allowed.skip_history
        )
        return then(sent, lambda _: PUBLISHED)

    @may_wait
    def presence(self, request: Presence | PresenceStats) -> Generator[Any, Any, Answer]:
        """Execute `presence` (the clients of a channel) or `presence_stats` (the numbers of clients and of users)."""
        if not request.channel:
            return BAD_REQUEST.because("presence without a channel")
        channel = parse_name(request.channel)
        # Before the permission, as in Centrifugo: to subscribe would not help the client.
        self._hub.rules.require_presence(channel)
        refused = self._permissions.check_read(self.context, channel, self._grant(channel), Right.PRESENCE)
        if refused is not None:
            return refused
        clients: Mapping[str, ClientInfo] = yield self._hub.presence.clients(channel)
        if isinstance(request, PresenceStats):
            return PresenceStatsResult(len(clients), len({info.user for info in clients.values()}))
        written = self._permissions.pages.write_presence(self.connection.codec, channel, clients)
        if written is None:
            self._hub.limits["presence_reply"] += 1
            return LIMIT_EXCEEDED.because("too many clients for one reply; use presence_stats")
        return PresenceResult(msgspec.Raw(written))

    @may_wait
    def history(self, request: History) -> Generator[Any, Any, Answer]:
        """Execute `history`: read a page of the channel's stream."""
        if not request.channel:
            return BAD_REQUEST.because("history without a channel")
        channel = parse_name(request.channel)
        self._hub.rules.require_history(channel)
        refused = self._permissions.check_read(self.context, channel, self._grant(channel), Right.HISTORY)
        if refused is not None:
            return refused
        since = request.since.position() if request.since is not None else None
        if since is not None:
            if request.reverse and not since.offset:
                return BAD_REQUEST_ERROR.because("since: expected an offset above 0, because reverse is true")
            since = yield self._fill_in_epoch(channel, since)
        most, max_bytes = self._permissions.pages.limit
        limit = request.limit if 0 <= request.limit <= most else most
        page = yield self._hub.history(channel, since=since, limit=limit, reverse=request.reverse, max_bytes=max_bytes)
        shown = self._permissions.pages.write_history(self.connection.codec, channel, page.publications)
        position = page.position
        return HistoryResult(msgspec.Raw(shown), position.epoch, position.offset)

    def _grant(self, channel: str) -> SubscribeGrant | None:
        subscription = self.subscriptions.get(ChannelName(channel))
        return subscription.grant if subscription is not None and subscription.answered else None
