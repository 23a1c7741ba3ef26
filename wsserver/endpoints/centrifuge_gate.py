"""
What a Centrifuge client may do, and how it is told that it may not.

Source: the client handler of centrifugal/centrifugo: it says which refusal is an error, and which ends the connection.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import inlineCallbacks

from wsserver.auth import Cause, Refused
from wsserver.endpoints.centrifuge_replies import (
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
from wsserver.hub.admission import Admission
from wsserver.hub.channels import parse_name
from wsserver.hub.hub import Hub
from wsserver.identity import ANONYMOUS, Grant, Identity, Right
from wsserver.typing import ChannelName
from wsserver.wire.requests import Refusal

__all__ = ["Gate", "Pass", "Visitor"]

_NO_KEY = "the server has no key to check tokens with (--token-secret)"


@dataclass(slots=True)
class Visitor:
    """Who stands before the gate."""

    client: str
    """The id of the connection."""
    host: str
    """The Host header of its request."""
    identity: Identity = ANONYMOUS


@dataclass(frozen=True, slots=True)
class Pass:
    """A subscription that is allowed."""

    channel: ChannelName
    info: object = None
    """What others see of the client in this channel: JSON."""
    data: object = None
    """For the client: JSON."""
    expires_at: int = 0
    """UNIX time in seconds from which on the client must bring a new token; 0 where it has brought none."""
    may_publish: bool = False
    """By its token."""


class Gate:
    """
    Decide.

    Args:
        hub: its rules and its allow-list.
        admission: checks tokens.
    """

    def __init__(self, hub: Hub, admission: Admission) -> None:
        self._hub = hub
        self.admission = admission

    def expiry(self, expires_at: int) -> dict[str, Any]:
        """Tell a client when it must bring a new token: UNIX time in seconds, 0 for never."""
        return {"expires": expires_at > 0, "ttl": self.admission.seconds_left(expires_at)}

    @inlineCallbacks
    def identify(self, token: str) -> Generator[Any, Any, Identity | Error | Disconnect]:
        """Find out who connects; the token may be empty."""
        tokens = self.admission.tokens
        if not token:
            return ANONYMOUS if self.admission.anonymous else BAD_REQUEST.because("no token; the server wants one")
        if tokens is None:
            return INVALID_TOKEN.because(_NO_KEY)
        found = yield tokens.connection(token)
        if isinstance(found, Refused):
            return _refused(found, expired=TOKEN_EXPIRED, invalid=INVALID_TOKEN)
        identity: Identity = found
        return identity

    @inlineCallbacks
    def refresh(self, visitor: Visitor, token: str) -> Generator[Any, Any, Identity | Error | Disconnect]:
        """Check a new connection token."""
        if not token:
            return BAD_REQUEST.because("refresh without a token")
        if self.admission.tokens is None:
            return NOT_AVAILABLE_ERROR.because(_NO_KEY)
        found = yield self.admission.tokens.connection(token)
        if isinstance(found, Refused):
            return _refused(found, expired=EXPIRED, invalid=INVALID_TOKEN)
        identity: Identity = found
        if identity.user != visitor.identity.user:
            return INVALID_TOKEN.because("the token is another user's")
        return identity

    @inlineCallbacks
    def subscribe(self, visitor: Visitor, name: str, token: str) -> Generator[Any, Any, Pass | Error | Disconnect]:
        """Decide about a subscription."""
        channel = parse_name(name)
        if isinstance(channel, Refusal):
            return BAD_REQUEST_ERROR.because(channel.reason)
        if token:
            found: Pass | Error | Disconnect = yield self._with_token(visitor, channel, token, PERMISSION_DENIED)
            return found
        return self.open(visitor, channel)

    def open(self, visitor: Visitor, channel: ChannelName) -> Pass | Error:
        """Decide about a subscription without a token of its own."""
        opening = visitor.identity.subs.get(channel)
        if opening is not None:
            return Pass(channel, opening.info, opening.data)
        if not visitor.identity.may(channel, Right.LISTEN):
            refusal = self._hub.access.refuse(channel, visitor.host)
            if refusal is not None:
                return PERMISSION_DENIED.because(refusal.reason)
        return Pass(channel)

    @inlineCallbacks
    def sub_refresh(self, visitor: Visitor, held: Pass, token: str) -> Generator[Any, Any, Pass | Error | Disconnect]:
        """Check a new subscription token."""
        if not held.expires_at:
            return BAD_REQUEST.because("the subscription has no token that could be refreshed")
        if not token:
            return BAD_REQUEST_ERROR.because("sub_refresh without a token")
        found: Pass | Error | Disconnect = yield self._with_token(visitor, held.channel, token, INVALID_TOKEN)
        return found

    @inlineCallbacks
    def _with_token(
        self, visitor: Visitor, channel: ChannelName, token: str, invalid: Error | Disconnect
    ) -> Generator[Any, Any, Pass | Error | Disconnect]:
        if self.admission.tokens is None:
            return PERMISSION_DENIED.because(_NO_KEY)
        found: Grant | Refused = yield self.admission.tokens.subscription(token)
        if isinstance(found, Refused):
            return _refused(found, expired=TOKEN_EXPIRED, invalid=invalid)
        if found.channel != channel:
            return INVALID_TOKEN.because("the token is for another channel")
        if found.user != visitor.identity.user:
            return INVALID_TOKEN.because("the token is another user's")
        if found.client not in ("", visitor.client):
            return INVALID_TOKEN.because("the token is for another client")
        return Pass(channel, found.info, found.data, found.expires_at, Right.PUBLISH in found.rights)

    def publish(self, visitor: Visitor, channel: ChannelName, held: Pass | None) -> Error | None:
        """Say why a client may not publish to a channel, which it is perhaps subscribed to."""
        if visitor.identity.may(channel, Right.PUBLISH) or (held is not None and held.may_publish):
            return None
        refusal = self._hub.access.refuse(channel, visitor.host)
        if held is None and refusal is not None:
            return PERMISSION_DENIED.because(refusal.reason)
        if not self._hub.rules.of(channel).publish:
            return PERMISSION_DENIED.because("clients do not publish to this channel; --channel-publish lets them")
        return None

    def look(self, visitor: Visitor, channel: ChannelName, held: Pass | None, right: Right) -> Error | None:
        """Say why a client may not see who is on a channel, or what was published there."""
        if held is not None or visitor.identity.may(channel, right):
            return None
        return PERMISSION_DENIED.because("only for those who are subscribed to the channel")


def _refused(found: Refused, *, expired: Error | Disconnect, invalid: Error | Disconnect) -> Error | Disconnect:
    if found.cause is Cause.UNAVAILABLE:
        return INTERNAL.because(found.reason)
    return (expired if found.cause is Cause.EXPIRED else invalid).because(found.reason)
