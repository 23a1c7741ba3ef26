"""
What a Centrifuge client may do, and how it is told that it may not.

Source: the client handler of centrifugal/centrifugo: it says which refusal is an error, and which ends the connection.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from twisted.internet.defer import inlineCallbacks

from wsserver.auth.claims import ANONYMOUS, Grant, Identity, Right
from wsserver.auth.jwt import Cause, Refused
from wsserver.endpoints.authorization import Authorizer, identity_of
from wsserver.endpoints.centrifuge.commands import Connect, Subscribe
from wsserver.endpoints.centrifuge.pages import Pages
from wsserver.endpoints.centrifuge.replies import (
    BAD_REQUEST,
    BAD_REQUEST_ERROR,
    EXPIRED,
    INTERNAL,
    INVALID_TOKEN,
    NOT_AVAILABLE_ERROR,
    PERMISSION_DENIED,
    TOKEN_EXPIRED,
    Disconnect,
    Error,
)
from wsserver.hooks.interface import Hooks
from wsserver.hooks.messages import Caller, Connected, Dropped, Published, Subscribed
from wsserver.hooks.messages import Refused as No
from wsserver.hub.hub import Hub
from wsserver.hub.names import parse_name
from wsserver.typing import ChannelName, JSONText
from wsserver.wire.http11 import Refusal

__all__ = ["ConnectGrant", "Pass", "Peer", "Permissions", "Publishing"]

_NO_KEY = "the server has no key to check tokens with (--token-secret)"


@dataclass(slots=True)
class Peer:
    """Who stands before the gate."""

    caller: Caller
    """What the backend knows of it."""
    host: str
    """The Host header of its request."""
    identity: Identity = ANONYMOUS


@dataclass(frozen=True, slots=True)
class ConnectGrant:
    """A client that may connect."""

    identity: Identity
    data: JSONText | None = None
    """For the client."""
    by_token: bool = False
    """It has brought one, and will bring another."""


@dataclass(frozen=True, slots=True)
class Pass:
    """A subscription that is allowed."""

    channel: ChannelName
    info: object = None
    """What others see of the client in this channel: JSON."""
    data: JSONText | None = None
    """For the client."""
    expires_at: int = 0
    """UNIX time in seconds from which on it is not allowed any more; 0 for never."""
    by_token: bool = False
    """The client has brought one, and will bring another."""
    may_publish: bool = False
    """By its token."""


@dataclass(frozen=True, slots=True)
class Publishing:
    """A publication that is allowed."""

    data: JSONText
    tags: Mapping[str, str] | None = None
    idempotency_key: str = ""
    skip_history: bool = False


class Permissions:
    """
    Decide.

    Args:
        hub: its rules and its allow-list.
        admission: checks tokens.
        pages: limits and writes large answers.
    """

    def __init__(self, hub: Hub, admission: Authorizer, pages: Pages) -> None:
        self._hub = hub
        self.pages = pages
        self.admission = admission

    def expiry(self, expires_at: int, *, by_token: bool = True) -> dict[str, Any]:
        """Tell a client when it must bring a new token: UNIX time in seconds, 0 for never."""
        return {"expires": True, "ttl": self.admission.seconds_left(expires_at)} if by_token and expires_at else {}

    def _asked(self, event: str) -> Hooks | None:
        hooks = self.admission.hooks
        return hooks if hooks is not None and event in hooks.events else None

    @inlineCallbacks
    def identify(
        self, peer: Peer, token: str, request: Connect
    ) -> Generator[Any, Any, ConnectGrant | Error | Disconnect]:
        """Find out who connects; the token may be empty."""
        tokens, hooks = self.admission.tokens, self._asked("connect")
        if token and tokens is None:
            return INVALID_TOKEN.because(_NO_KEY)
        if token and tokens is not None:
            found: Identity | Refused = yield tokens.connection(token)
            if isinstance(found, Refused):
                return _refused(found, expired=TOKEN_EXPIRED, invalid=INVALID_TOKEN)
            return ConnectGrant(found, by_token=True)
        if hooks is None:
            return (
                ConnectGrant(ANONYMOUS) if self.admission.anonymous else BAD_REQUEST.because("no token; one is wanted")
            )
        told = yield hooks.connect(peer.caller, data=request.data, name=request.name, version=request.version)
        return ConnectGrant(identity_of(told), told.data) if isinstance(told, Connected) else _no(told)

    @inlineCallbacks
    def refresh(self, peer: Peer, token: str) -> Generator[Any, Any, Identity | Error | Disconnect]:
        """Check a new connection token."""
        if not token:
            return BAD_REQUEST.because("refresh without a token")
        if self.admission.tokens is None:
            return NOT_AVAILABLE_ERROR.because(_NO_KEY)
        found = yield self.admission.tokens.connection(token)
        if isinstance(found, Refused):
            return _refused(found, expired=EXPIRED, invalid=INVALID_TOKEN)
        identity: Identity = found
        if identity.user != peer.identity.user:
            return INVALID_TOKEN.because("the token is another user's")
        return identity

    @inlineCallbacks
    def subscribe(self, peer: Peer, request: Subscribe) -> Generator[Any, Any, Pass | Error | Disconnect]:
        """Decide about a subscription."""
        channel = parse_name(request.channel)
        if isinstance(channel, Refusal):
            return BAD_REQUEST_ERROR.because(channel.reason)
        if request.token:
            found: Pass | Error | Disconnect = yield self._with_token(peer, channel, request.token, PERMISSION_DENIED)
            return found
        given = self.given(peer, channel)
        if given is not None:
            return given
        told = yield self.admission.open(channel, peer.identity, peer.host, peer.caller, request.data)
        if isinstance(told, Subscribed):
            return Pass(channel, told.info, told.data, told.expire_at)
        return PERMISSION_DENIED.because(told.reason) if isinstance(told, Refusal) else _no(told)

    def given(self, peer: Peer, channel: ChannelName) -> Pass | None:
        """Decide about a channel that a client is subscribed to by the server: None where that may not be."""
        opening = peer.identity.subs.get(channel)
        if opening is not None:
            return Pass(channel, opening.info, opening.data)
        return None if self.admission.refuse(channel, peer.identity, peer.host) is not None else Pass(channel)

    @inlineCallbacks
    def sub_refresh(self, peer: Peer, held: Pass, token: str) -> Generator[Any, Any, Pass | Error | Disconnect]:
        """Check a new subscription token."""
        if not held.by_token:
            return BAD_REQUEST.because("the subscription has no token that could be refreshed")
        if not token:
            return BAD_REQUEST_ERROR.because("sub_refresh without a token")
        found: Pass | Error | Disconnect = yield self._with_token(peer, held.channel, token, INVALID_TOKEN)
        return found

    @inlineCallbacks
    def _with_token(
        self, peer: Peer, channel: ChannelName, token: str, invalid: Error | Disconnect
    ) -> Generator[Any, Any, Pass | Error | Disconnect]:
        if self.admission.tokens is None:
            return PERMISSION_DENIED.because(_NO_KEY)
        found: Grant | Refused = yield self.admission.tokens.subscription(token)
        if isinstance(found, Refused):
            return _refused(found, expired=TOKEN_EXPIRED, invalid=invalid)
        if found.channel != channel:
            return INVALID_TOKEN.because("the token is for another channel")
        if found.user != peer.identity.user:
            return INVALID_TOKEN.because("the token is another user's")
        if found.client not in ("", peer.caller.client):
            return INVALID_TOKEN.because("the token is for another client")
        return Pass(channel, found.info, found.data, found.expires_at, True, Right.PUBLISH in found.rights)

    @inlineCallbacks
    def publish(
        self, peer: Peer, channel: ChannelName, data: JSONText, held: Pass | None
    ) -> Generator[Any, Any, Publishing | Error | Disconnect]:
        """Decide about a publication to a channel, which the client is perhaps subscribed to."""
        refused, hooks = self._not_publish(peer, channel, held), self._asked("publish")
        if refused is None or hooks is None:
            return refused or Publishing(data)
        caller = replace(peer.caller, user=peer.identity.user)
        told = yield hooks.publish(caller, channel, data=data)
        if not isinstance(told, Published):
            return _no(told)
        return Publishing(data if told.data is None else told.data, told.tags, told.idempotency_key, told.skip_history)

    def _not_publish(self, peer: Peer, channel: ChannelName, held: Pass | None) -> Error | None:
        if peer.identity.may(channel, Right.PUBLISH) or (held is not None and held.may_publish):
            return None
        refusal = self.admission.refuse(channel, peer.identity, peer.host)
        if held is None and refusal is not None:
            return PERMISSION_DENIED.because(refusal.reason)
        if not self._hub.rules.for_channel(channel).publish:
            return PERMISSION_DENIED.because("clients do not publish to this channel; --channel-publish lets them")
        return None

    def look(self, peer: Peer, channel: ChannelName, held: Pass | None, right: Right) -> Error | None:
        """Say why a client may not see who is on a channel, or what was published there."""
        if held is not None or peer.identity.may(channel, right):
            return None
        return PERMISSION_DENIED.because("only for those who are subscribed to the channel")


def _refused(found: Refused, *, expired: Error | Disconnect, invalid: Error | Disconnect) -> Error | Disconnect:
    if found.cause is Cause.UNAVAILABLE:
        return INTERNAL.because(found.reason)
    return (expired if found.cause is Cause.EXPIRED else invalid).because(found.reason)


def _no(told: No | Dropped) -> Error | Disconnect:
    """Say what the backend says."""
    return (
        Disconnect(told.code, told.reason)
        if isinstance(told, Dropped)
        else Error(told.code, told.message, told.temporary)
    )
