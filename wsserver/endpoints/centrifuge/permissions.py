"""
Permissions of Centrifuge clients: whether a client may connect, subscribe, publish, or read presence and history.

A refusal is returned, not raised: an `Error` is the reply to the command, a `Disconnect` closes the connection. The
choice between the two follows the client handler of https://github.com/centrifugal/centrifugo.
"""

from collections.abc import Generator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, NamedTuple

import msgspec
from twisted.internet.defer import Deferred

from wsserver.auth.claims import ANONYMOUS, Grant, Identity, Opening, Right
from wsserver.auth.jwt import Refused
from wsserver.centrifugecodes import (
    BAD_REQUEST,
    BAD_REQUEST_ERROR,
    CHANNEL_LIMIT,
    EXPIRED,
    EXPIRED_ERROR,
    EXPIRED_SUBSCRIPTION,
    INVALID_TOKEN,
    LIMIT_EXCEEDED,
    NOT_AVAILABLE_ERROR,
    PERMISSION_DENIED,
    TOKEN_EXPIRED,
    Disconnect,
    Error,
    Unsubscription,
)
from wsserver.endpoints.authorization import NO_KEY, Authorizer, identity_of
from wsserver.endpoints.centrifuge.commands import Connect, Subscribe
from wsserver.endpoints.centrifuge.pages import Pages
from wsserver.endpoints.centrifuge.refusals import refuse_by_hook, refuse_channel, refuse_token
from wsserver.hooks.messages import Caller, Connected, HookDisconnect, HookError, Published, Subscribed
from wsserver.hub.deferreds import MaybeDeferred, may_wait, then
from wsserver.hub.hub import Hub
from wsserver.hub.names import NotAllowed, parse_name
from wsserver.hub.override import forces_events
from wsserver.hub.publication import Publication
from wsserver.text import quote
from wsserver.typing import ChannelName, JSONText

__all__ = ["ClientContext", "ConnectGrant", "Permissions", "PublishGrant", "SubscribeGrant"]


@dataclass(slots=True)
class ClientContext:
    """A client whose permissions are checked."""

    caller: Caller
    """The description of the client that the backend receives."""
    host: str
    """The Host header of the opening handshake."""
    identity: Identity = ANONYMOUS


class ConnectGrant(NamedTuple):
    """Permission to connect."""

    identity: Identity
    data: JSONText | None = None
    """Data for the client, in the reply to `connect`."""
    by_token: bool = False
    """Whether the client connected with a token, and must send a new one before it expires."""


class SubscribeGrant(NamedTuple):
    """Permission to subscribe to a channel."""

    channel: ChannelName
    info: object = None
    """JSON value that presence and events show to other clients as the client's `chan_info`."""
    data: JSONText | None = None
    """Data for the client, in the subscribe result."""
    expires_at: int = 0
    """UNIX time in seconds at which the permission expires; 0 for never."""
    by_token: bool = False
    """Whether the client subscribed with a token, and must send a new one before it expires."""
    may_publish: bool = False
    """Whether the subscription token grants the right to publish."""
    rewind: int | None = None
    """Number of the last publications that the client receives first; None for that in the channel's options."""
    forces_events: bool | None = None
    """Whether the client receives join and leave events without a request; None if the channel's options decide."""


class PublishGrant(NamedTuple):
    """The backend's permission to publish: the publication as it is to be sent, which the backend may have changed."""

    publication: Publication
    idempotency_key: str = ""
    skip_history: bool = False


class Permissions:
    """
    Check what Centrifuge clients may do.

    Args:
        hub: provides the rules of the channels, such as whether clients may publish.
        authorizer: knows which channels are allowed, checks tokens, and asks the backend.
        pages: limits and writes large replies.
        personal_channel: prefix of the channel that a client with a user ID is subscribed to; empty for no channel.
    """

    def __init__(self, hub: Hub, authorizer: Authorizer, pages: Pages, *, personal_channel: str = "") -> None:
        self._hub = hub
        self._personal_channel = personal_channel
        self.pages = pages
        self.authorizer = authorizer

    def refuse_channels(self) -> Error:
        """Return the refusal of a client that subscribes to too many channels, and count it."""
        return LIMIT_EXCEEDED.because(self._describe_channel_limit())

    def refuse_connect_channels(self) -> Disconnect:
        """Return the refusal of a client that would have too many channels when it connects, and count it."""
        return CHANNEL_LIMIT.because(self._describe_channel_limit())

    def _describe_channel_limit(self) -> str:
        self._hub.limits["max_channels_per_client"] += 1
        return f"expected at most {self.authorizer.max_channels} channels per client (--max-channels-per-client)"

    def expiry(self, expires_at: int, *, by_token: bool = True) -> tuple[bool, int]:
        """
        Return the fields `expires` and `ttl` of a result, which tell the client when to refresh its token.

        Args:
            expires_at: UNIX time in seconds; 0 for never.
            by_token: whether the client used a token, which it can refresh.

        Returns:
            Whether there is a token to refresh, and the whole seconds until it expires; 0 if there is none.
        """
        return (True, self.authorizer.seconds_left(expires_at)) if by_token and expires_at else (False, 0)

    def identify(
        self, context: ClientContext, token: str, request: Connect
    ) -> MaybeDeferred[ConnectGrant | Error | Disconnect]:
        """
        Identify a client that connects: by its token, or else by the backend.

        Args:
            context: the client.
            token: its connection token; empty if it has none.
            request: its `connect` command.

        Returns:
            The permission or the refusal; a Deferred of it if a key or the backend's answer must be awaited. Without a
            token and without a connect hook, the client is anonymous or refused.
        """
        refusal = self.authorizer.refuse_host(context.host)
        if refusal is not None:
            return BAD_REQUEST.because(refusal.reason)
        tokens, hooks = self.authorizer.tokens, self.authorizer.hooks_for("connect")
        if token:
            if tokens is None:
                return INVALID_TOKEN.because(NO_KEY)
            return then(tokens.connection(token), self._identified_by_token)
        if hooks is not None:
            answer = hooks.connect(context.caller, data=request.data, name=request.name, version=request.version)
            return then(answer, self._identified_by_hook)
        if self.authorizer.anonymous:
            return _ANONYMOUS
        return BAD_REQUEST.because("a token is required; see --anonymous")

    @may_wait
    def refresh(self, context: ClientContext, token: str) -> Generator[Any, Any, Identity | Error | Disconnect]:
        """Check a new connection token, and return its identity. The token must be for the same user as before."""
        if not token:
            return BAD_REQUEST.because("refresh without a token")
        if self.authorizer.tokens is None:
            return NOT_AVAILABLE_ERROR.because(NO_KEY)
        found = yield self.authorizer.tokens.connection(token)
        if isinstance(found, Refused):
            return refuse_token(found, expired=EXPIRED, invalid=INVALID_TOKEN)
        identity: Identity = found
        if identity.user != context.identity.user:
            return INVALID_TOKEN.because("the token is for another user")
        return self._with_personal_channel(identity)

    def subscribe(
        self, context: ClientContext, request: Subscribe
    ) -> MaybeDeferred[SubscribeGrant | Error | Disconnect]:
        """
        Check whether a client may subscribe to a channel.

        If the command has a subscription token, this token decides. Otherwise, the connection token and the server's
        options decide. If they do not allow the subscription, the backend is asked.

        Raises:
            InvalidChannel: the channel's name is invalid.
        """
        channel = parse_name(request.channel)
        if request.token:
            return self._with_token(context, channel, request.token, PERMISSION_DENIED)
        grant = self.find_grant(context, channel)
        if grant is not None:
            return grant
        answer = self.authorizer.open(channel, context.identity, context.host, context.caller, request.data)
        return then(answer, partial(self._opened, channel))

    def find_grant(self, context: ClientContext, channel: ChannelName) -> SubscribeGrant | None:
        """
        Return the permission for a channel that needs neither a subscription token nor the backend.

        Returns:
            The permission, if the identity names the channel or the channel is open to the client; else None.
        """
        opening = context.identity.subs.get(channel)
        if opening is not None:
            return SubscribeGrant(
                channel,
                opening.info,
                opening.data,
                rewind=opening.rewind,
                forces_events=opening.forces_events,
            )
        refusal = self.authorizer.refuse(channel, context.identity, context.host)
        return SubscribeGrant(channel) if refusal is None else None

    @may_wait
    def sub_refresh(
        self, context: ClientContext, channel: ChannelName, token: str
    ) -> Generator[Any, Any, SubscribeGrant | Error | Disconnect | Unsubscription]:
        """
        Check a new subscription token, and return the permission that replaces the subscription's.

        An expired token is not answered with an error, because SDKs would give up the subscription. After an
        unsubscription with 2501 they request another token, and subscribe again.
        """
        if not token:
            return BAD_REQUEST_ERROR.because("sub_refresh without a token")
        answer: SubscribeGrant | Error | Disconnect = yield self._with_token(context, channel, token, INVALID_TOKEN)
        if isinstance(answer, Error) and answer.code == TOKEN_EXPIRED.code:
            return EXPIRED_SUBSCRIPTION
        return answer

    @may_wait
    def _with_token(
        self, context: ClientContext, channel: ChannelName, token: str, invalid: Error | Disconnect
    ) -> Generator[Any, Any, SubscribeGrant | Error | Disconnect]:
        if self.authorizer.tokens is None:
            return PERMISSION_DENIED.because(NO_KEY)
        found: Grant | Refused = yield self.authorizer.tokens.subscription(token)
        if isinstance(found, Refused):
            return refuse_token(found, expired=TOKEN_EXPIRED, invalid=invalid)
        if found.channel != channel:
            return INVALID_TOKEN.because("the token is for another channel")
        if found.user != context.identity.user:
            return INVALID_TOKEN.because("the token is for another user")
        if found.client not in ("", context.caller.client):
            return INVALID_TOKEN.because("the token is for another client")
        return SubscribeGrant(
            channel,
            found.info,
            found.data,
            found.expires_at,
            by_token=True,
            may_publish=Right.PUBLISH in found.rights,
            forces_events=found.forces_events,
        )

    def _identified_by_hook(self, answer: Connected | HookError | HookDisconnect) -> ConnectGrant | Error | Disconnect:
        if not isinstance(answer, Connected):
            return refuse_by_hook(answer)
        ended = self._check_end(answer.expire_at)
        return ended or ConnectGrant(self._with_personal_channel(identity_of(answer)), answer.data)

    def _identified_by_token(self, found: Identity | Refused) -> ConnectGrant | Error | Disconnect:
        if isinstance(found, Refused):
            return refuse_token(found, expired=TOKEN_EXPIRED, invalid=INVALID_TOKEN)
        return ConnectGrant(self._with_personal_channel(found), by_token=True)

    def _with_personal_channel(self, identity: Identity) -> Identity:
        """Return an identity that includes the subscription to the personal channel, if there is one."""
        if not (self._personal_channel and identity.user):
            return identity
        channel = parse_name(self._personal_channel + identity.user)
        return replace(identity, subs={channel: Opening(), **identity.subs})

    def _opened(
        self, channel: ChannelName, answer: Subscribed | HookError | HookDisconnect | NotAllowed
    ) -> SubscribeGrant | Error | Disconnect:
        if isinstance(answer, NotAllowed):
            return refuse_channel(answer)
        if not isinstance(answer, Subscribed):
            return refuse_by_hook(answer)
        ended = self._check_end(answer.expire_at)
        return ended or SubscribeGrant(
            channel,
            answer.info,
            answer.data,
            answer.expire_at,
            rewind=answer.rewind,
            forces_events=forces_events(answer.override),
        )

    def _check_end(self, expire_at: int) -> Error | None:
        """Return the refusal if the backend's answer has an `expire_at` in the past."""
        ended = 0 < expire_at <= self.authorizer.time()
        return EXPIRED_ERROR.because("expire_at in the backend's answer is in the past") if ended else None

    def ask_to_publish(
        self, context: ClientContext, channel: ChannelName, publication: Publication
    ) -> "Deferred[PublishGrant | Error | Disconnect] | None":
        """Ask the publish hook whether a client may publish to a channel; return None if there is no such hook."""
        hooks = self.authorizer.hooks_for("publish")
        if hooks is None or not self._hub.rules.for_channel(channel).hook_publish:
            return None
        caller = replace(context.caller, user=context.identity.user)
        answer: Deferred[Any] = hooks.publish(caller, channel, data=publication.data)
        return answer.addCallback(_read_answer, publication)

    def refuse_publish(
        self, context: ClientContext, channel: ChannelName, grant: SubscribeGrant | None
    ) -> Error | None:
        """
        Check whether a client may publish to a channel without asking the backend.

        Args:
            context: the client.
            channel: the channel.
            grant: the client's subscription to the channel; None if it is not subscribed.

        Returns:
            The refusal; None if a token or an option permits it.
        """
        if context.identity.may(channel, Right.PUBLISH) or (grant is not None and grant.may_publish):
            return None
        rule, user = self._hub.rules.for_channel(channel), context.identity.user
        if rule.may_publish(user, subscribed=grant is not None, may_subscribe=grant is not None):
            return None
        if grant is None:
            refusal = self.authorizer.refuse(channel, context.identity, context.host)
            if refusal is not None:
                return refuse_channel(refusal)
        if grant is not None or not rule.may_publish(user, subscribed=False, may_subscribe=True):
            return PERMISSION_DENIED.because(
                f"clients may not publish to channel {quote(channel)}; see --channel-publish"
            )
        return None

    def check_read(
        self, context: ClientContext, channel: ChannelName, grant: SubscribeGrant | None, right: Right
    ) -> Error | None:
        """
        Check whether a client may read a channel's presence or history.

        Args:
            context: the client.
            channel: the channel.
            grant: the client's subscription to the channel; None if it is not subscribed.
            right: `Right.PRESENCE` or `Right.HISTORY`; a token can grant it without a subscription.

        Returns:
            The refusal, or None if the client may read it.
        """
        if context.identity.may(channel, right):
            return None
        rule, subscribed = self._hub.rules.for_channel(channel), grant is not None
        may_read = rule.may_read_presence if right is Right.PRESENCE else rule.may_read_history
        if may_read(context.identity.user, subscribed=subscribed):
            return None
        why = f"clients may not read {right.name.lower()}" if subscribed else "not subscribed"
        return PERMISSION_DENIED.because(f"{why}: channel {quote(channel)}")

    def receives_events(self, context: ClientContext, grant: SubscribeGrant, *, requested: bool) -> bool:
        """
        Return whether a subscriber receives join and leave events.

        Args:
            context: the client.
            grant: the client's permission to subscribe.
            requested: whether the client has requested the events; it needs the permission to read presence.
        """
        rule = self._hub.rules.for_channel(grant.channel)
        forced = rule.force_push_join_leave if grant.forces_events is None else grant.forces_events
        if not rule.join_leave or forced or not requested:
            return rule.join_leave and forced
        may_read = rule.may_read_presence(context.identity.user, subscribed=True)
        return may_read or context.identity.may(grant.channel, Right.PRESENCE)


_ANONYMOUS: Final = ConnectGrant(ANONYMOUS)


def _read_answer(
    answer: Published | HookError | HookDisconnect, publication: Publication
) -> PublishGrant | Error | Disconnect:
    if not isinstance(answer, Published):
        return refuse_by_hook(answer)
    if answer.data is not None:
        publication = msgspec.structs.replace(publication, data=answer.data, json=True)
    if answer.tags:
        publication = msgspec.structs.replace(publication, tags=answer.tags)
    if answer.delta:
        publication = msgspec.structs.replace(publication, delta=True)
    return PublishGrant(publication, answer.idempotency_key, answer.skip_history)
