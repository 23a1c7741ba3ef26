"""
Who may listen to a channel: what all endpoints ask before they subscribe a client.

A channel is open to a client where the server's options open it to everyone (`Access`), or where its token does.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

from wsserver.auth import GRACE, Cause, Refused
from wsserver.hub.channels import Access, Ask, Format, parse_query
from wsserver.hub.tokens import Alarm, Tokens
from wsserver.identity import ANONYMOUS, Capability, Grant, Identity, Opening, Right
from wsserver.wire.requests import Refusal

__all__ = ["SUBPROTOCOL", "Admission", "Admitted", "Visit", "agree", "find_token", "token_refusal"]

SUBPROTOCOL: Final = "wsserver.v1"
"""What is agreed to where a browser, which can send no header of its own, offers it beside `bearer.TOKEN`."""

_BEARER: Final = "bearer."


@dataclass(frozen=True, slots=True)
class Visit:
    """What a request brings that counts here."""

    query: Mapping[str, list[str]]
    host: str
    """The Host header."""
    authorizations: Sequence[str]
    """Every Authorization header."""
    offered: Sequence[str] = ()
    """The subprotocols."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """A client that may listen."""

    ask: Ask
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


def find_token(visit: Visit) -> str | Refusal | None:
    """
    Find the token of a request.

    It stands in `Authorization: Bearer TOKEN` (RFC 6750 section 2.1), in the subprotocol `bearer.TOKEN` or, from what
    can send neither, in `?token=TOKEN`.

    Returns:
        The token; None where there is none; a refusal (400) where there are different ones (RFC 6750 section 2).
    """
    found = set(visit.query.get("token", []))
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


class Admission:
    """
    Let clients in.

    Args:
        hub: knows what is open to everyone.
        tokens: checks tokens; None where the server has no key.
        anonymous: whether a client may come without a token, where there are keys.
        reactor: for the end of tokens.
        now: tells UNIX time in seconds.
    """

    def __init__(
        self,
        hub: HasAccess,
        tokens: Tokens | None,
        *,
        anonymous: bool,
        reactor: IReactorTime,
        now: Callable[[], float],
    ) -> None:
        self.tokens = tokens
        self.anonymous = anonymous or tokens is None
        """A client without a token is somebody nobody knows; else it is refused."""
        self._hub = hub
        self._reactor = reactor
        self._now = now

    def admit(self, visit: Visit, default: Format) -> "Deferred[Admitted | Refusal]":
        """
        Read what a raw client asks for, and check that it may have it.

        Args:
            visit: its request.
            default: the format where it asks for none.

        Returns:
            Fires with what it may have, or with why not: 400, 401, 403, 503. Never fails.
        """
        if self.tokens is None and "token" in visit.query:
            reason = "the server has no key to check tokens with (--token-secret): connect without one"
            return succeed(Refusal(HTTPStatus.BAD_REQUEST, reason))
        ask = parse_query({name: values for name, values in visit.query.items() if name != "token"}, default)
        if isinstance(ask, Refusal):
            return succeed(ask)

        def decide(found: Identity | Refusal) -> Admitted | Refusal:
            if isinstance(found, Refusal):
                return found
            return self._closed(ask, found, visit.host) or Admitted(ask, found)

        return self.identify(visit).addCallback(decide)

    def identify(self, visit: Visit) -> "Deferred[Identity | Refusal]":
        """
        Find out who sends a request.

        Returns:
            Fires with who it is, or with why it is refused: 400, 401, 503. Never fails.
        """
        token = find_token(visit) if self.tokens is not None else None
        if isinstance(token, Refusal):
            return succeed(token)
        if token is None or self.tokens is None:
            return succeed(ANONYMOUS if self.anonymous else _no_token())
        return self.tokens.either(token).addCallback(_as_identity)

    def _closed(self, ask: Ask, identity: Identity, host: str) -> Refusal | None:
        for channel in ask.channels:
            if identity.may(channel, Right.LISTEN):
                continue
            refusal = self._hub.access.refuse(channel, host)
            if refusal is not None:
                more = "" if identity is ANONYMOUS else "; nor does the token open it"
                return Refusal(refusal.status, refusal.reason + more)
        return None

    def when_expired(self, expires_at: int, function: Callable[[], object]) -> Alarm | None:
        """
        Call a function once a connection or a subscription has outlived its token by the grace.

        Args:
            expires_at: UNIX time in seconds; 0 for never.
            function: called without arguments.

        Returns:
            What cancels it; None where there is nothing to wait for.
        """
        return Alarm(self._reactor, self._now, expires_at + GRACE, function) if expires_at else None


def _no_token() -> Refusal:
    # RFC 6750 section 3.1: without a token there is no error code.
    reason = "this needs a token: Authorization: Bearer, the subprotocols wsserver.v1 and bearer.TOKEN, or ?token="
    return Refusal(HTTPStatus.UNAUTHORIZED, reason, (("WWW-Authenticate", "Bearer"),))


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
