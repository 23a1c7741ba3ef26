"""
Who may listen to a channel: what all endpoints ask before they subscribe a client.

A channel is open to a client where the server's options open it to everyone (`Access`), where its token does, or
where the backend says so that is asked about it (`Hooks`).
"""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.internet.interfaces import IReactorTime

from wsserver.auth.claims import ANONYMOUS, Capability, Grant, Identity, Opening, Right
from wsserver.auth.jwt import GRACE, Cause, Refused
from wsserver.auth.verifier import Tokens, WallClockTimer
from wsserver.hooks.interface import Hooks
from wsserver.hooks.messages import Caller, Connected, Dropped, Subscribed, forwarded
from wsserver.hooks.messages import Refused as No
from wsserver.hub.clients import new_client_id
from wsserver.hub.names import Access, Format, RawSubscribeRequest, parse_query
from wsserver.text import quote
from wsserver.typing import ChannelName, JSONText
from wsserver.wire.http11 import Header, Refusal

__all__ = [
    "SUBPROTOCOL",
    "Admitted",
    "Authorizer",
    "Credentials",
    "agree",
    "find_token",
    "identity_of",
    "token_refusal",
]

SUBPROTOCOL: Final = "wsserver.v1"
"""What is agreed to where a browser, which can send no header of its own, offers it beside `bearer.TOKEN`."""

_BEARER: Final = "bearer."
_TOKEN_PARAMETERS: Final = ("token", "access_token")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request brings that counts here."""

    query: Mapping[str, list[str]] = field(repr=False)
    host: str
    """The Host header."""
    authorizations: Sequence[str] = field(repr=False)
    """Every Authorization header."""
    offered: Sequence[str] = field(default=(), repr=False)
    """The subprotocols."""
    caller: Caller | None = None
    """What the backend is told of it; None where it is not to be asked."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """A client that may listen."""

    ask: RawSubscribeRequest
    identity: Identity


class HasAccess(Protocol):
    """The hub: its `access` is replaced when the server listens."""

    access: Access


def agree(chosen: str | None, offered: Sequence[str]) -> str | None:
    """
    Choose the subprotocol of a client that may have brought a token as one.

    Args:
        chosen: what the server's options make of the offer.
        offered: by the client. A browser ends the connection where it offered some and none is agreed to.
    """
    return chosen or (SUBPROTOCOL if SUBPROTOCOL in offered else None)


def find_token(visit: Credentials) -> str | Refusal | None:
    """
    Find the token of a request.

    It stands in `Authorization: Bearer TOKEN` (RFC 6750 section 2.1), in the subprotocol `bearer.TOKEN` or, from
    clients that can send neither, in `?token=TOKEN` or `?access_token=TOKEN` (RFC 6750 section 2.3).

    Returns:
        The token; None where there is none; a refusal (400) where there are different ones (RFC 6750 section 2).
    """
    found = {value for name in _TOKEN_PARAMETERS for value in visit.query.get(name, ())}
    for header in visit.authorizations:
        scheme, _, rest = header.partition(" ")
        # Another scheme is for somebody else, as for a proxy on the way.
        if scheme.lower() == "bearer":
            found.add(rest.strip(" "))
    found |= {name.removeprefix(_BEARER) for name in visit.offered if name.startswith(_BEARER)}
    if len(found) > 1:
        return Refusal(HTTPStatus.BAD_REQUEST, "the request brings more than one token")
    return next(iter(found), None)


def token_refusal(refused: Refused) -> Refusal:
    """Say in HTTP that a token is not taken (RFC 6750 section 3.1)."""
    if refused.cause is Cause.UNAVAILABLE:
        return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, refused.reason, (("Retry-After", "1"),))
    challenge = ("WWW-Authenticate", 'Bearer error="invalid_token"')
    return Refusal(HTTPStatus.UNAUTHORIZED, refused.reason, (challenge,))


class Authorizer:
    """
    Let clients in.

    Args:
        hub: knows what is open to everyone.
        tokens: checks tokens; None where the server has no key.
        anonymous: whether a client may come without a token, where there are keys.
        reactor: for the end of tokens.
        now: tells UNIX time in seconds.
        hooks: asks the backend; None where there is none.
    """

    def __init__(
        self,
        hub: HasAccess,
        tokens: Tokens | None,
        *,
        anonymous: bool,
        reactor: IReactorTime,
        now: Callable[[], float],
        hooks: Hooks | None = None,
    ) -> None:
        self.tokens = tokens
        self.hooks = hooks
        self._asks = frozenset() if hooks is None else hooks.events
        self.anonymous = anonymous or tokens is None
        """A client without a token is somebody nobody knows; else it is refused."""
        self._hub = hub
        self._reactor = reactor
        self._now = now

    def admit(self, visit: Credentials, default: Format) -> "Deferred[Admitted | Refusal]":
        """
        Read what a raw client asks for, and check that it may have it.

        Args:
            visit: its request.
            default: the format where it asks for none.

        Returns:
            Fires with what it may have, or with why not: 400, 401, 403, 503. Never fails.
        """
        if self.tokens is None and any(name in visit.query for name in _TOKEN_PARAMETERS):
            reason = "the server has no key to check tokens with (--token-secret): connect without one"
            return succeed(Refusal(HTTPStatus.BAD_REQUEST, reason))
        ask = parse_query(visit.query, default)
        if isinstance(ask, Refusal):
            return succeed(ask)

        return self.identify(visit).addCallback(self._decide, ask, visit)

    def identify(self, visit: Credentials) -> "Deferred[Identity | Refusal]":
        """
        Find out who sends a request.

        Returns:
            Fires with who it is, or with why it is refused: 400, 401, 503. Never fails.
        """
        token = find_token(visit) if self.tokens is not None else None
        if isinstance(token, Refusal):
            return succeed(token)
        if token is None or self.tokens is None:
            if self.hooks is not None and visit.caller is not None and "connect" in self._asks:
                return self.hooks.connect(visit.caller).addCallback(
                    lambda answer: identity_of(answer) if isinstance(answer, Connected) else answer.refusal
                )
            return succeed(ANONYMOUS if self.anonymous else _no_token())
        return self.tokens.either(token).addCallback(_as_identity)

    @inlineCallbacks
    def _decide(
        self, found: Identity | Refusal, ask: RawSubscribeRequest, visit: Credentials
    ) -> Generator[Any, Any, Admitted | Refusal]:
        if isinstance(found, Refusal):
            return found
        identity = found
        for channel in ask.channels:
            # One after the other: a client that names many takes no more of the backend's time than others.
            answer = yield self.open(channel, identity, visit.host, visit.caller)
            if isinstance(answer, Refusal):
                return answer
            if isinstance(answer, No | Dropped):
                return answer.refusal
            identity = _until(identity, answer.expire_at)
        return Admitted(ask, identity)

    def open(
        self, channel: ChannelName, identity: Identity, host: str, caller: Caller | None, data: JSONText | None = None
    ) -> "Deferred[Subscribed | No | Dropped | Refusal]":
        """
        Find out whether somebody may listen to a channel.

        Args:
            channel: which.
            identity: who.
            host: the Host header of its request.
            caller: what the backend is told of it; None where it is not to be asked.
            data: what the client gave for the backend.

        Returns:
            Fires with a yes, or with a no: the server's own (`Refusal`), or the backend's. Never fails.
        """
        refusal = self.refuse(channel, identity, host)
        if refusal is None:
            return succeed(Subscribed())
        if self.hooks is None or caller is None or "subscribe" not in self.hooks.events:
            return succeed(refusal)
        asked: Deferred[Any] = self.hooks.subscribe(replace(caller, user=identity.user), channel, data=data)
        return asked

    def refuse(self, channel: ChannelName, identity: Identity, host: str) -> Refusal | None:
        """
        Say why somebody may not listen to a channel, without asking the backend.

        Args:
            channel: which.
            identity: who.
            host: the Host header of its request.

        Returns:
            None where it may.
        """
        if identity.may(channel, Right.LISTEN):
            return None
        access = self._hub.access
        if access.patterns is None and "subscribe" in self._asks:
            # What would be open only because the server listens on loopback, the backend decides on.
            return Refusal(HTTPStatus.FORBIDDEN, f"the backend has not opened the channel {quote(channel)}")
        refusal = access.refuse(channel, host)
        if refusal is None:
            return None
        more = "" if identity is ANONYMOUS else "; nor does the token open it"
        return Refusal(refusal.status, refusal.reason + more)

    def tell_gone(self, caller: Caller, user: str, code: int, reason: str) -> None:
        """
        Tell the backend that a client has gone, if it wants to know.

        Args:
            caller: who.
            user: whose connection it was.
            code: of the close.
            reason: of the close.
        """
        if self.hooks is not None and "disconnect" in self._asks:
            self.hooks.disconnected(replace(caller, user=user), code=code, reason=reason)

    def caller(self, transport: str, protocol: str, headers: Iterable[Header], address: str) -> Caller:
        """
        Name a new client, and take down what the backend is to know of it.

        Args:
            transport: `websocket` or `sse`.
            protocol: `raw` or `json`.
            headers: of its request.
            address: where it comes from.
        """
        kept = forwarded(headers) if self._asks else ()
        return Caller(client=new_client_id(), transport=transport, protocol=protocol, headers=kept, address=address)

    def time(self) -> float:
        """Tell UNIX time in seconds."""
        return self._now()

    def seconds_left(self, expires_at: int) -> int:
        """
        Tell how long a token is good.

        Args:
            expires_at: UNIX time in seconds; 0 for never.

        Returns:
            Whole seconds, at least 1; 0 for ever.
        """
        return max(1, int(expires_at - self._now())) if expires_at else 0

    def when_expired(self, expires_at: int, function: Callable[[], object]) -> WallClockTimer | None:
        """
        Call a function once a connection or a subscription has outlived its token by the grace.

        Args:
            expires_at: UNIX time in seconds; 0 for never.
            function: called without arguments.

        Returns:
            What cancels it; None where there is nothing to wait for.
        """
        return WallClockTimer(self._reactor, self._now, expires_at + GRACE, function) if expires_at else None


def _no_token() -> Refusal:
    # RFC 6750 section 3.1: without a token there is no error code.
    reason = "this needs a token: Authorization: Bearer, the subprotocols wsserver.v1 and bearer.TOKEN, or ?token="
    return Refusal(HTTPStatus.UNAUTHORIZED, reason, (("WWW-Authenticate", "Bearer"),))


def identity_of(answer: Connected) -> Identity:
    """Tell who a client is by what the backend says of it."""
    subs = {channel: Opening(one.info, one.data) for channel, one in answer.channels.items()}
    return Identity(user=answer.user, expires_at=answer.expire_at, info=answer.info, subs=subs)


def _until(identity: Identity, expire_at: int) -> Identity:
    """Let a connection end no later than one of its subscriptions."""
    ends = [end for end in (identity.expires_at, expire_at) if end]
    return replace(identity, expires_at=min(ends)) if ends and min(ends) != identity.expires_at else identity


def _as_identity(found: Identity | Grant | Refused) -> Identity | Refusal:
    if isinstance(found, Refused):
        return token_refusal(found)
    if isinstance(found, Identity):
        return found
    if found.client:
        return token_refusal(Refused("the token is for a client of the Centrifuge protocol (client)"))
    # A raw client has one token for all: that of its subscription.
    opening = Opening(found.info, found.data)
    caps = (Capability((found.channel,), found.rights),)
    return Identity(user=found.user, expires_at=found.expires_at, subs={found.channel: opening}, caps=caps)
