"""
Authorization: whether a client may subscribe to a channel. Every endpoint with channels uses this module.

A client may subscribe if the server's options open the channel to everyone (`Access`), if its token allows it, or if
the backend allows it in its answer to a hook (`Hooks`).

A raw subscriber is a client of `/ws?channel=` or `/sse?channel=`.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any, Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

from wsserver.auth.claims import ANONYMOUS, Capability, Grant, Identity, Opening, Right
from wsserver.auth.jwt import GRACE, Refused
from wsserver.auth.verifier import Tokens, WallClockTimer
from wsserver.endpoints.raw.request import Format, RawSubscribeRequest, parse_query
from wsserver.endpoints.refusals import refusal_for
from wsserver.hooks.interface import Hooks
from wsserver.hooks.messages import Caller, Connected, HookDisconnect, HookError, Subscribed, forwarded
from wsserver.hub.access import Access, is_user_limited
from wsserver.hub.clients import Clients, new_client_id
from wsserver.hub.deferreds import MaybeDeferred, may_wait
from wsserver.hub.names import MAX_CHANNELS, NotAllowed
from wsserver.hub.override import forces_events
from wsserver.origins import describe_host, is_loopback_host
from wsserver.typing import ChannelName, Header, JSONText
from wsserver.wire.http11 import Refusal, bad_request

__all__ = [
    "NO_KEY",
    "SUBPROTOCOL",
    "Admitted",
    "Authorizer",
    "Credentials",
    "find_token",
    "identity_of",
    "select_subprotocol",
]

SUBPROTOCOL: Final = "wsserver.v1"
"""
The subprotocol that the server selects for clients that send their token as the subprotocol `bearer.TOKEN`.

Pages in browsers do so because they cannot set headers of a WebSocket request. They offer both subprotocols.
"""

NO_KEY: Final = "the server has no key to check tokens; see --token-secret"
"""The error message for a token that is sent to a server without keys."""

MAX_TTL: Final = 365 * 24 * 3600
"""
Maximum of the remaining lifetime that a client is told, in seconds, as in Centrifugo. The timers of JavaScript, and the
numbers of the Protobuf form, have a limit.
"""

_BEARER: Final = "bearer."
_TOKEN_PARAMETERS: Final = ("token", "access_token")


@dataclass(frozen=True, slots=True)
class Credentials:
    """The parts of a request that matter for authorization."""

    query: Mapping[str, list[str]] = field(repr=False)
    host: str
    """The Host header."""
    authorizations: Sequence[str] = field(repr=False)
    """The values of all Authorization headers."""
    offered: Sequence[str] = field(default=(), repr=False)
    """The subprotocols that the client offers."""
    caller: Caller | None = None
    """The description of the client for the backend; None if the backend must not be asked."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """A raw subscriber that may subscribe to all channels of its request."""

    request: RawSubscribeRequest
    identity: Identity


def select_subprotocol(chosen: str | None, offered: Sequence[str]) -> str | None:
    """
    Select the subprotocol of a client that may have sent its token as a subprotocol.

    Args:
        chosen: the subprotocol selected by the server's options; None for none.
        offered: the subprotocols that the client offers. A browser closes the connection if it offers some and the
            server selects none.

    Returns:
        `chosen`; else `wsserver.v1` if it is offered; else None.
    """
    return chosen or (SUBPROTOCOL if SUBPROTOCOL in offered else None)


def find_token(
    query: Mapping[str, Sequence[str]], authorizations: Sequence[str], offered: Sequence[str]
) -> str | Refusal | None:
    """
    Find the token of a request.

    Clients send a token as `Authorization: Bearer TOKEN` (RFC 6750 section 2.1) or as the subprotocol `bearer.TOKEN`.
    Clients that can send neither use `?token=TOKEN` or `?access_token=TOKEN` (RFC 6750 section 2.3).

    Args:
        query: the parameters in the URL.
        authorizations: the values of all Authorization headers.
        offered: the subprotocols that the client offers.

    Returns:
        The token; None if there is none; a 400 refusal if the request has different tokens (RFC 6750 section 2).
    """
    if not (query or authorizations or offered):
        return None
    found = {value for name in _TOKEN_PARAMETERS for value in query.get(name, ())}
    for header in authorizations:
        scheme, _, rest = header.partition(" ")
        # Ignore other schemes: they may be meant for a proxy between the client and the server.
        if scheme.lower() == "bearer":
            found.add(rest.strip(" "))
    found |= {name.removeprefix(_BEARER) for name in offered if name.startswith(_BEARER)}
    if len(found) > 1:
        return bad_request("the request has more than one token: expected at most one")
    return next(iter(found), None)


class Authorizer:
    """
    Identify clients, and check whether they may subscribe to channels.

    Args:
        access: the channels that clients may subscribe to without a token.
        tokens: checks tokens; None if the server has no key.
        anonymous: whether to admit clients without a token if the server has a key.
        reactor: runs the expiry timers.
        now: returns UNIX time in seconds.
        hooks: asks the backend; None if there is none.
        insecure: whether clients without a token may do everything, but only if they use a loopback host name.
        clients: knows how many connections each user has; None for no limit.
    """

    def __init__(
        self,
        access: Access,
        tokens: Tokens | None,
        *,
        anonymous: bool,
        reactor: IReactorTime,
        now: Callable[[], float],
        hooks: Hooks | None = None,
        insecure: bool = False,
        max_channels: int = MAX_CHANNELS,
        limits: dict[str, int] | None = None,
        clients: Clients | None = None,
    ) -> None:
        self.max_channels = max_channels
        """Maximum number of channels that a client may be subscribed to."""
        self._limits: dict[str, int] = limits if limits is not None else defaultdict(int)
        self.hooks = hooks
        self.clients = clients if clients is not None else Clients()
        self.configure(tokens, anonymous=anonymous, insecure=insecure)
        self.access = access
        """The channels open to clients without a token. The service sets it again once its addresses are known."""
        self._reactor = reactor
        self._now = now

    def configure(self, tokens: Tokens | None, *, anonymous: bool, insecure: bool) -> None:
        """Replace what the options define; read again which hooks there are. For the arguments see the constructor."""
        self.tokens = tokens
        self._hook_events = frozenset() if self.hooks is None else self.hooks.events
        self._insecure = insecure
        self.anonymous = anonymous or insecure or tokens is None
        """Whether a client without a token is admitted as anonymous; else it is refused."""

    def admit(self, credentials: Credentials, default: Format) -> "Deferred[Admitted | Refusal]":
        """
        Parse the request of a raw subscriber, and check whether it may subscribe to the channels that it names.

        Args:
            credentials: the client's request.
            default: the format to use if the request names none.

        Returns:
            A Deferred that fires with the client's channels and identity, or with a refusal: 400, 401, 403, 503, or the
            backend's own (see `identify` and `open`). It never fails.
        """
        if self.tokens is None and any(name in credentials.query for name in _TOKEN_PARAMETERS):
            return succeed(bad_request(f"{NO_KEY}; connect without a token"))
        request = parse_query(credentials.query, default)
        if isinstance(request, RawSubscribeRequest) and len(request.channels) > self.max_channels:
            request = self._refuse_channels(len(request.channels))
        if isinstance(request, Refusal):
            return succeed(request)

        return self.identify(credentials).addCallback(self._decide, request, credentials)

    def _refuse_channels(self, count: int) -> Refusal:
        self._limits["max_channels_per_client"] += 1
        return bad_request(
            f"{count} channels in the URL: expected at most {self.max_channels} "
            "(server option --max-channels-per-client)"
        )

    def identify(self, credentials: Credentials) -> "Deferred[Identity | Refusal]":
        """
        Identify the client that sent a request: by its token, or else by the backend.

        Returns:
            A Deferred that fires with the client's identity, or with a refusal: 400, 401, 503, or the backend's own. It
            never fails.
        """
        token: str | Refusal | None = None
        if self.tokens is not None:
            token = find_token(credentials.query, credentials.authorizations, credentials.offered)
        if isinstance(token, Refusal):
            return succeed(token)
        if token is None or self.tokens is None:
            hooks = self.hooks_for("connect")
            if hooks is not None and credentials.caller is not None:
                return hooks.connect(credentials.caller).addCallback(
                    lambda answer: identity_of(answer) if isinstance(answer, Connected) else refusal_for(answer)
                )
            return succeed(ANONYMOUS if self.anonymous else _missing_token())
        return self.tokens.either(token).addCallback(_as_identity)

    @may_wait
    def _decide(
        self, found: Identity | Refusal, request: RawSubscribeRequest, credentials: Credentials
    ) -> Generator[Any, Any, Admitted | Refusal]:
        if isinstance(found, Refusal):
            return found
        identity = found
        if self.clients.is_full(identity.user):
            return _too_many_connections(self.clients.max_per_user)
        for channel in request.channels:
            # Ask for one channel at a time, so that a client with many channels does not occupy the backend.
            answer = yield self.open(channel, identity, credentials.host, credentials.caller)
            if not isinstance(answer, Subscribed):
                return refusal_for(answer)
            identity = _expire_by(identity, answer.expire_at)
        # Other connections of the user may have been admitted while the backend was asked. From here on, the caller
        # makes a `RawClient`, which counts, before anything else happens.
        if self.clients.is_full(identity.user):
            return _too_many_connections(self.clients.max_per_user)
        return Admitted(request, identity)

    def open(
        self, channel: ChannelName, identity: Identity, host: str, caller: Caller | None, data: JSONText | None = None
    ) -> MaybeDeferred[Subscribed | HookError | HookDisconnect | NotAllowed]:
        """
        Check whether a client may subscribe to a channel.

        The backend is asked if neither the client's token nor the server's options allow it.

        Args:
            channel: the channel.
            identity: the client's identity.
            host: the Host header of the client's request; empty if a proxy has forwarded it.
            caller: the description of the client for the backend; None if the backend must not be asked.
            data: the client's JSON data for the backend.

        Returns:
            The permission (`Subscribed`), or a refusal by the server (`NotAllowed`). If the backend is asked, a
            Deferred that fires with the permission or with a refusal; it never fails.
        """
        refusal = self.refuse(channel, identity, host)
        if refusal is None:
            return Subscribed()
        hooks = self.hooks_for("subscribe")
        if hooks is None or caller is None or not self._asks_about(channel):
            return refusal
        asked: Deferred[Any] = hooks.subscribe(replace(caller, user=identity.user), channel, data=data)
        return asked

    def refuse(self, channel: ChannelName, identity: Identity, host: str) -> NotAllowed | None:
        """
        Check whether a client may subscribe to a channel, without asking the backend.

        Args:
            channel: the channel.
            identity: the client's identity.
            host: the Host header of the client's request; empty if a proxy has forwarded it.

        Returns:
            The reason why the client may not subscribe; None if it may.
        """
        if identity.may(channel, Right.LISTEN):
            return None
        # Without --channel-allow, channels are open to everyone if only this machine can reach the server. With a
        # subscribe hook, the backend decides about them.
        refusal = self.access.refuse(channel, identity.user, host, has_hook="subscribe" in self._hook_events)
        if refusal is None:
            return None
        return refusal if identity is ANONYMOUS else NotAllowed(f"{refusal.reason}; the token does not allow it either")

    def refuse_host(self, host: str) -> NotAllowed | None:
        """
        Check whether clients may connect to a host name.

        Args:
            host: the Host header of the client's request; empty if a proxy has forwarded it.

        Returns:
            With --insecure, the reason why the name is refused if it is not a loopback name; otherwise None.
        """
        # Against DNS rebinding, as in `Access.refuse`.
        if not self._insecure or is_loopback_host(host):
            return None
        return NotAllowed(f"with --insecure, a connection {describe_host(host)} is not allowed; connect to localhost")

    def hooks_for(self, event: str) -> Hooks | None:
        """Return the hooks if there is one for an event; None otherwise."""
        return self.hooks if event in self._hook_events else None

    def _asks_about(self, channel: ChannelName) -> bool:
        """Return whether the backend decides about subscriptions to a channel that nothing else permits."""
        rules = self.access.rules
        return (
            "subscribe" in self._hook_events
            and rules.for_channel(channel).hook_subscribe
            and not is_user_limited(rules, channel)
        )

    def report_disconnect(self, caller: Caller, user: str, code: int, reason: str) -> None:
        """
        Notify the backend that a client has disconnected, if it has a disconnect hook.

        Args:
            caller: the client.
            user: the client's user ID.
            code: the close code.
            reason: the close reason.
        """
        hooks = self.hooks_for("disconnect")
        if hooks is not None:
            hooks.disconnected(replace(caller, user=user), code=code, reason=reason)

    def caller(self, transport: str, protocol: str, headers: Iterable[Header], address: str) -> Caller:
        """
        Create the description of a new client for the backend, with a new client ID.

        Args:
            transport: the name of the transport, see `Caller.transport`.
            protocol: `raw` or `json`.
            headers: the headers of the client's request. If any hook is in use, those that hooks need are kept.
            address: the client's network address.
        """
        kept = forwarded(headers, address) if self._hook_events else ()
        return Caller(client=new_client_id(), transport=transport, protocol=protocol, headers=kept, address=address)

    def time(self) -> float:
        """Return UNIX time in seconds."""
        return self._now()

    def seconds_left(self, expires_at: int) -> int:
        """
        Return the remaining lifetime of a token.

        Args:
            expires_at: UNIX time in seconds; 0 for never.

        Returns:
            Seconds, rounded up, from 1 to `MAX_TTL`; 0 if the token does not expire.
        """
        return min(max(1, math.ceil(expires_at - self._now())), MAX_TTL) if expires_at else 0

    def call_when_expired(self, expires_at: int, function: Callable[[], object]) -> WallClockTimer | None:
        """
        Call a function when a token has been expired for `GRACE` seconds.

        Args:
            expires_at: UNIX time in seconds; 0 for never.
            function: ends the connection or subscription; called without arguments.

        Returns:
            The timer, which can be cancelled; None if the token does not expire.
        """
        return WallClockTimer(self._reactor, self._now, expires_at + GRACE, function) if expires_at else None


def _missing_token() -> Refusal:
    # RFC 6750 section 3.1: the challenge has no error code if the request has no token.
    reason = (
        "a token is required: expected Authorization: Bearer TOKEN, the subprotocols wsserver.v1 and bearer.TOKEN, or "
        "?token=TOKEN; see --anonymous"
    )
    return Refusal(HTTPStatus.UNAUTHORIZED, reason, (("WWW-Authenticate", "Bearer"),))


def _too_many_connections(most: int) -> Refusal:
    reason = f"the user has too many connections: at most {most} (server option --max-connections-per-user)"
    return Refusal(HTTPStatus.TOO_MANY_REQUESTS, reason, (("Retry-After", "5"),), "max_connections_per_user")


def identity_of(answer: Connected) -> Identity:
    """Return the identity that the backend's answer to a connect hook describes."""
    subs = {
        channel: Opening(one.info, one.data, one.rewind, forces_events(one.override))
        for channel, one in answer.subs.items()
    }
    return Identity(user=answer.user, expires_at=answer.expire_at, info=answer.info, subs=subs)


def _expire_by(identity: Identity, expire_at: int) -> Identity:
    """Return the identity with `expire_at` as its expiry if that is earlier: a raw subscriber has a single expiry."""
    ends = [end for end in (identity.expires_at, expire_at) if end]
    return replace(identity, expires_at=min(ends)) if ends and min(ends) != identity.expires_at else identity


def _as_identity(found: Identity | Grant | Refused) -> Identity | Refusal:
    if isinstance(found, Refused):
        return refusal_for(found)
    if isinstance(found, Identity):
        return found
    if found.client:
        return refusal_for(Refused("the token is only valid for a client of the Centrifuge protocol (claim client)"))
    # A raw subscriber sends a single token. If this is a subscription token, it also identifies the connection.
    opening = Opening(found.info, found.data)
    caps = (Capability((found.channel,), found.rights),)
    return Identity(user=found.user, expires_at=found.expires_at, subs={found.channel: opening}, caps=caps)
