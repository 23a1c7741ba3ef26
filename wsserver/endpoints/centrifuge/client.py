"""
The session of a Centrifuge client: its identity, its expiry, and the dispatch of its commands.

Source: `client.go` of centrifugal/centrifuge.
"""

from collections.abc import Callable, Collection, Generator, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final

import msgspec

from wsserver import __version__
from wsserver.auth.verifier import WallClockTimer
from wsserver.centrifugecodes import (
    BAD_REQUEST,
    CONNECTION_LIMIT,
    EXPIRED,
    INTERNAL,
    Disconnect,
    Error,
)
from wsserver.endpoints.centrifuge.commands import (
    RPC,
    Connect,
    History,
    Presence,
    PresenceStats,
    Publish,
    Refresh,
    Send,
    SubRefresh,
    Subscribe,
    Unsubscribe,
)
from wsserver.endpoints.centrifuge.connection import Answer, Connection
from wsserver.endpoints.centrifuge.messages import call, send
from wsserver.endpoints.centrifuge.permissions import ConnectGrant
from wsserver.endpoints.centrifuge.replies import (
    NO_REPLY,
    ConnectResult,
    RefreshResult,
    SubscribeResult,
)
from wsserver.endpoints.centrifuge.subscriber import ChannelSubscription
from wsserver.endpoints.centrifuge.subscriptions import Channels
from wsserver.errors import InvalidChannel
from wsserver.hub.clients import ClientInfo
from wsserver.hub.deferreds import MaybeDeferred, may_wait, waits
from wsserver.hub.names import parse_name
from wsserver.typing import ChannelName

__all__ = ["Session"]

FOR_GOOD: Final = frozenset({1000, 1005, *range(3500, 4000), *range(4500, 5000)})
"""
Close codes after which a client does not reconnect automatically. They include 1005 (no code), because the method
`disconnect()` of the SDKs closes the connection without a code.
"""


class Session:
    """
    A client's session, from the opening of its connection until it is closed.

    Args:
        connection: the client's connection.
    """

    __slots__ = (
        "_by_token",
        "_channels",
        "_connection",
        "_ended",
        "_expiry",
        "_opened_at",
        "_permissions",
        "client",
        "connected",
        "context",
        "user",
    )

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._permissions = connection.permissions
        self._opened_at = connection.permissions.authorizer.time()
        self.context = connection.context
        self.client = self.context.caller.client
        """The ID of the client, which is unique to this connection."""
        self.user = ""
        """The ID of the user; empty for an anonymous user."""
        self._channels = Channels(connection, self.context)
        self.connected = self._ended = False
        """`connected`: `connect` has succeeded. `_ended`: `connect` was refused, or the connection is closed."""
        self._by_token = False
        """Whether the client connected with a token, and must send a new one before it expires."""
        self._expiry: WallClockTimer | None = None
        """The timer that closes the connection when it expires; None if it does not expire."""

    def handle(self, request: Any) -> Any:
        """
        Execute a command.

        Args:
            request: an instance of one of the request classes in `wsserver.endpoints.centrifuge.commands`.

        Returns:
            An `Answer`, or a Deferred that fires with one if the command must wait.

        Raises:
            Exception: the command failed; also what the Deferred fails with. Converted to an error reply by
                `wsserver.endpoints.centrifuge.refusals.error_for`.
        """
        kind = type(request)
        if self._ended:
            # As in Centrifugo. SDKs send `connect` and `subscribe` in one frame, and would not connect again with a new
            # token after 3501.
            return NO_REPLY
        if self.connected == (kind is Connect):
            return BAD_REQUEST.because("already connected" if self.connected else "connect must be the first command")
        execute = _CHANNEL_COMMANDS.get(kind)
        return execute(self._channels, request) if execute is not None else _SESSION_COMMANDS[kind](self, request)

    def close(self, code: int, reason: str) -> None:
        """
        End the session after its connection was closed: unsubscribe from all channels and notify the backend.

        Args:
            code: the close code.
            reason: the close reason.
        """
        was_connected, self.connected, self._ended = self.connected, False, True
        self._connection.hub.clients.remove(self)
        self._set_expiry(0)
        # After a code in `FOR_GOOD`, the client does not reconnect, so its leave events are not delayed.
        self._channels.close(may_reconnect=code not in FOR_GOOD)
        if was_connected:
            self._permissions.authorizer.report_disconnect(self.context.caller, self.user, code, reason)

    # The connection.

    def _connect(self, request: Connect) -> MaybeDeferred[Answer]:
        tokens = {request.token, self._connection.token} - {""}
        if len(tokens) > 1:
            return BAD_REQUEST.because("more than one token")
        found = self._permissions.identify(self.context, "".join(tokens), request)
        return found.addCallback(self._identified, request) if waits(found) else self._identified(found, request)

    def _identified(self, found: ConnectGrant | Error | Disconnect, request: Connect) -> MaybeDeferred[Answer]:
        if not isinstance(found, ConnectGrant):
            self._ended = True
            return found
        if self._connection.hub.clients.is_full(found.identity.user):
            self._ended = True
            return CONNECTION_LIMIT
        identity = self.context.identity = found.identity
        self.user, self._by_token = identity.user, found.by_token
        if identity.subs or request.subs:
            return self._connect_subscribed(found, request)
        return self._begin(found)

    @may_wait
    def _connect_subscribed(self, found: ConnectGrant, request: Connect) -> Generator[Any, Any, Answer]:
        try:
            subs = yield self._subscribe_server_side(request)
        except BaseException:
            self._abort_connect()
            raise
        if isinstance(subs, Error | Disconnect):
            self._abort_connect()
            return subs
        return self._begin(found, subs)

    def _begin(self, found: ConnectGrant, subs: Mapping[str, SubscribeResult] | None = None) -> Answer:
        identity = found.identity
        if self._ended:
            # The connection was closed while the client was identified or subscribed.
            return INTERNAL
        if subs is not None and self._connection.hub.clients.is_full(identity.user):
            # Other connections of the user have opened meanwhile.
            self._abort_connect()
            return CONNECTION_LIMIT
        self.connected = True
        self._set_expiry(identity.expires_at)
        self._connection.hub.clients.add(self)
        expires, ttl = self._permissions.expiry(identity.expires_at, by_token=self._by_token)
        data = msgspec.Raw(found.data) if found.data is not None else None
        connection = self._connection
        ping, session, node = connection.ping_interval, connection.session_id, connection.node
        pong = ping > 0 and not connection.is_one_way
        return ConnectResult(self.client, __version__, expires, ttl, data, subs, ping, pong, session, node)

    def _abort_connect(self) -> None:
        self._ended = True
        self._channels.close(may_reconnect=False)

    @may_wait
    def _subscribe_server_side(
        self, request: Connect
    ) -> Generator[Any, Any, dict[str, SubscribeResult] | Error | Disconnect | None]:
        """
        Subscribe the client to the channels that the server chooses for it: its server-side subscriptions.

        These are the channels of its token or of the backend's answer to the connect hook. After a reconnect, they are
        also the channels of its earlier server-side subscriptions (`Connect.subs`) that are still allowed.

        Returns:
            The results, by channel; None if there are no channels; or the refusal.
        """
        wanted: dict[ChannelName, Subscribe] = {channel: Subscribe() for channel in self.context.identity.subs}
        for name, asked in request.subs.items():
            # An invalid name is ignored: the client cannot have been subscribed to it.
            with suppress(InvalidChannel):
                if self._permissions.find_grant(self.context, channel := parse_name(name)) is not None:
                    wanted[channel] = asked
        if len(wanted) > self._permissions.authorizer.max_channels:
            return self._permissions.refuse_connect_channels()
        self._connection.hold()
        results: dict[str, SubscribeResult] = {}
        limit = self._permissions.pages.limit
        for channel, asked in wanted.items():
            grant = self._permissions.find_grant(self.context, channel)
            assert grant is not None
            answer = yield self._channels.join(grant, asked, server_side=True, limit=limit)
            if isinstance(answer, Error | Disconnect):
                return answer
            # One reply carries the recovered publications of all channels, so they share one limit.
            recovered = answer.publications
            limit = limit.less(len(recovered), sum(len(one.data) for one in recovered))
            results[channel] = answer
        return results or None

    @may_wait
    def _refresh(self, request: Refresh) -> Generator[Any, Any, Answer]:
        found = yield self._permissions.refresh(self.context, request.token)
        if isinstance(found, Error | Disconnect):
            return found
        self._by_token = True
        before, self.context.identity = self.context.identity, found
        self._set_expiry(found.expires_at)
        for channel in before.subs.keys() - found.subs.keys():
            subscription = self._channels.subscriptions.get(channel)
            if subscription is not None and subscription.server_side:
                self._channels.end(channel)
        return RefreshResult(*self._permissions.expiry(found.expires_at))

    def _set_expiry(self, expires_at: int) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        self._expiry = (
            self._permissions.authorizer.call_when_expired(expires_at, self.expire) if self.connected else None
        )

    def subscription(self, channel: ChannelName) -> ChannelSubscription | None:
        """Return the client's subscription to a channel, or None."""
        return self._channels.subscriptions.get(channel)

    # Called for methods of the HTTP API: the interface `wsserver.hub.clients.Client`.

    @property
    def channels(self) -> Collection[ChannelName]:
        """The channels that the client is subscribed to."""
        return self._channels.subscriptions.keys()

    def describe(self) -> Mapping[str, Any]:
        """
        Return what the HTTP API's method `connections` shows of this connection.

        The fields are `transport`, `protocol`, `address` and `connected`: how long it has been open, in seconds.
        """
        caller, seconds = self.context.caller, self._permissions.authorizer.time() - self._opened_at
        return {
            "transport": caller.transport,
            "protocol": caller.protocol,
            "address": caller.address,
            "connected": max(0, int(seconds)),
        }

    def presences(self) -> Iterable[tuple[ChannelName, ClientInfo]]:
        """Return the channels that the client is subscribed to, each with the info that presence shows there."""
        for one in self._channels.subscriptions.values():
            if one.answered:
                yield one.channel, one.info

    def disconnect(self, code: int, reason: str) -> None:
        """Close the connection with a code and a reason of the Centrifuge protocol."""
        self._connection.disconnect(Disconnect(code, reason))

    def expire(self) -> None:
        """Close the connection with 3005, "connection expired"."""
        self._connection.disconnect(EXPIRED)

    def unsubscribe(self, channel: ChannelName) -> None:
        """Unsubscribe the client from a channel, and notify it."""
        self._channels.end(channel)

    def subscribe(self, channel: ChannelName, options: Mapping[str, Any]) -> bool:
        """
        Subscribe the client to a channel, and notify it.

        Args:
            channel: the channel's name.
            options: see `wsserver.hub.management.Management.subscribe`.

        Returns:
            False if the client is already subscribed to the maximum of channels, or `expire_at` is in the past.
        """
        ended = 0 < options.get("expire_at", 0) <= self._permissions.authorizer.time()
        if ended or len(self.channels) >= self._permissions.authorizer.max_channels:
            return False
        self._channels.push_subscription(channel, options)
        return True

    def refresh(self, expire_at: int) -> bool:
        """
        Set when the connection expires, and notify the client. Close it if this time is in the past.

        The notification contains the time of the expiry only if the client has a token, which it can refresh.

        Args:
            expire_at: UNIX time in seconds; 0 for never.

        Returns:
            False if the connection does not expire; nothing is changed then.
        """
        if self._expiry is None:
            return False
        if 0 < expire_at <= self._permissions.authorizer.time():
            self.expire()
            return True
        self._set_expiry(expire_at)
        fields = RefreshResult(*self._permissions.expiry(expire_at, by_token=self._by_token))
        self._connection.send_payload(self._connection.codec.push("", fields))
        return True

    # Calls and messages.

    def _rpc(self, request: RPC) -> MaybeDeferred[Answer]:
        return call(self._connection, request)

    def _send(self, request: Send) -> MaybeDeferred[Answer]:
        return send(self._connection, request)


_SESSION_COMMANDS: Final[Mapping[type, Callable[[Session, Any], Any]]] = {
    Connect: Session._connect,  # noqa: SLF001 (of this module)
    Refresh: Session._refresh,  # noqa: SLF001
    RPC: Session._rpc,  # noqa: SLF001
    Send: Session._send,  # noqa: SLF001
}

_CHANNEL_COMMANDS: Final[Mapping[type, Callable[[Channels, Any], Any]]] = {
    Subscribe: Channels.subscribe,
    Unsubscribe: Channels.unsubscribe,
    SubRefresh: Channels.sub_refresh,
    Publish: Channels.publish,
    Presence: Channels.presence,
    PresenceStats: Channels.presence,
    History: Channels.history,
}
