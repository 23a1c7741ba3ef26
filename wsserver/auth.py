"""
Whom a token speaks for, and what it opens: JSON Web Tokens (RFC 7519) with Centrifugo's claims.

Rule 1: no Twisted, no socket, no clock: the time is an argument.
Rule 2: a refusal is a value, not an exception.
Rule 3: stricter than RFC 7515 and RFC 7519 where their leniency has been used in attacks: of what is not signed nothing
counts but the algorithm and the key's name, and both only choose among keys that the server has.

Claims: https://centrifugal.dev/docs/server/authentication and /channel_token_auth; `caps` from /docs/pro/capabilities.
"""

import base64
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, Protocol

from wsserver.hub.channels import MAX_CHANNELS, Patterns, parse_name
from wsserver.typing import ChannelName
from wsserver.wire.requests import Refusal, quote

__all__ = [
    "ANONYMOUS",
    "GRACE",
    "MAX_TOKEN",
    "Capability",
    "Cause",
    "Grant",
    "Identity",
    "Keys",
    "Opening",
    "Refused",
    "Right",
    "Terms",
    "verify",
    "verify_any",
    "verify_subscription",
]

# Half of what a request head may have: longer ones only cost time.
MAX_TOKEN: Final = 8 * 1024
"""Most characters of a token."""

# Precedent: Centrifugo's client.expired_close_delay, 25 s.
GRACE: Final = 25.0
"""Seconds that a connection or a subscription outlives its token, for a client to bring a new one."""

_MAX_USER: Final = 255
_MAX_CAPABILITIES: Final = 100
_LATEST: Final = 253_402_300_799
"""The last second of the year 9999: a time after it is a mistake, most often milliseconds."""

_SHAPE: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")

# RFC 7515 section 4.1: parameters that bring a key, or point to one. A key that comes with the token proves nothing.
_KEY_PARAMETERS: Final = ("jku", "jwk", "x5u", "x5c")

_TYPES: Final = ("jwt", "at+jwt")
"""RFC 8725 section 3.11: a token made for something else says so in `typ`."""


class Cause(StrEnum):
    """Why a token is refused, for a program."""

    INVALID = "invalid"
    """It will never be taken."""
    EXPIRED = "expired"
    """It would have been taken earlier: the client is to get a new one."""
    UNKNOWN_KEY = "unknown key"
    """It is signed with a key that may be among the next ones fetched."""
    UNAVAILABLE = "unavailable"
    """The keys could not be fetched: the same token may be taken later."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A token that is not taken."""

    reason: str
    """One sentence for whoever debugs the client; nothing in it is secret."""
    cause: Cause = Cause.INVALID


class Right(StrEnum):
    """What a token may let a client do on a channel."""

    LISTEN = "sub"
    PUBLISH = "pub"
    PRESENCE = "prs"
    HISTORY = "hst"


@dataclass(frozen=True, slots=True)
class Capability:
    """An entry of the claim `caps`."""

    channels: tuple[str, ...]
    rights: frozenset[Right]
    wildcard: bool = False
    """An asterisk in a name stands for any characters."""

    def covers(self, channel: str) -> bool:
        """Tell whether it is about this channel."""
        return channel in self.channels or (self.wildcard and channel in Patterns(self.channels))


@dataclass(frozen=True, slots=True)
class Opening:
    """What a connection token says about a channel that it subscribes its client to: an entry of the claim `subs`."""

    info: object = None
    """Shown to others in the channel's presence; a JSON value."""
    data: object = None
    """Given to the client with the subscription; a JSON value."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a client is, and what it may do: what a connection token says."""

    user: str = ""
    """Empty for somebody whom nobody knows."""
    expires_at: int = 0
    """UNIX time in seconds from which on the connection needs a new token; 0 for never."""
    info: object = None
    """Shown to others in presence; a JSON value."""
    meta: object = None
    """For the backend only; a JSON value."""
    subs: Mapping[ChannelName, Opening] = field(default_factory=lambda: MappingProxyType({}))
    """The channels it is subscribed to without asking; a raw client may listen to them when it asks."""
    caps: tuple[Capability, ...] = ()

    def may(self, channel: str, right: Right) -> bool:
        """Tell whether the token gives a right; of several `caps` the first that is about the channel decides."""
        if right is Right.LISTEN and channel in self.subs:
            return True
        capability = next((one for one in self.caps if one.covers(channel)), None)
        return capability is not None and right in capability.rights


ANONYMOUS: Final = Identity()
"""Somebody without a token."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A subscription that is allowed: what a subscription token says."""

    user: str
    """Whose it is; to be compared with the connection's."""
    channel: ChannelName
    client: str = ""
    """The one connection that may use it, by its client id; empty for any."""
    expires_at: int = 0
    """UNIX time in seconds from which on the subscription needs a new token; 0 for never."""
    info: object = None
    data: object = None
    rights: frozenset[Right] = frozenset({Right.LISTEN})


@dataclass(frozen=True, slots=True)
class Terms:
    """What a server asks of tokens besides a signature."""

    audience: str = ""
    """What must be in `aud`; empty where tokens must not have one."""
    issuer: str = ""
    """What `iss` must be; empty for anything."""
    leeway: float = 0.0
    """Seconds by which clocks may differ."""


class Keys(Protocol):
    """The keys of a server."""

    def payload(self, token: str, algorithm: str, kid: str | None) -> bytes | Refused:
        """
        Check a token's signature.

        Args:
            token: three parts of base64url.
            algorithm: what its header names; one that none of the keys is for is refused.
            kid: the key's name in its header.

        Returns:
            The signed claims.
        """


def verify(token: str, keys: Keys, now: float, terms: Terms) -> Identity | Refused:
    """
    Check a connection token.

    Args:
        token: as the client sent it.
        keys: the server's.
        now: UNIX time in seconds.
        terms: what else is asked of it.

    Returns:
        Who the client is, or why the token is not taken.
    """
    claims = _claims(token, keys, now, terms)
    return claims if isinstance(claims, Refused) else _identity(claims)


def verify_subscription(token: str, keys: Keys, now: float, terms: Terms) -> Grant | Refused:
    """
    Check a subscription token; whether it is for this user, client and channel is for the caller to compare.

    Args:
        token: as the client sent it.
        keys: the server's.
        now: UNIX time in seconds.
        terms: what else is asked of it.
    """
    claims = _claims(token, keys, now, terms)
    return claims if isinstance(claims, Refused) else _grant(claims)


def verify_any(token: str, keys: Keys, now: float, terms: Terms) -> Identity | Grant | Refused:
    """Check a token that may be of either kind: one with the claim `channel` is a subscription token."""
    claims = _claims(token, keys, now, terms)
    if isinstance(claims, Refused):
        return claims
    return _grant(claims) if "channel" in claims else _identity(claims)


class _Wrong(Exception):
    """Something in a token is not as it must be; becomes a `Refused`."""


Claims = dict[str, Any]


def _claims(token: str, keys: Keys, now: float, terms: Terms) -> Claims | Refused:
    """Check all that connection and subscription tokens have in common."""
    if len(token) > MAX_TOKEN:
        return Refused(f"the token is over {MAX_TOKEN} characters")
    # RFC 7515 section 7.1: the compact serialization, without padding and white space.
    if not _SHAPE.fullmatch(token):
        return Refused("not a token: expected three parts of base64url joined by dots")
    try:
        header = _read(_decode(token.partition(".")[0]), "header")
        algorithm, kid = _check_header(header)
        payload = keys.payload(token, algorithm, kid)
        if isinstance(payload, Refused):
            return payload
        claims = _read(payload, "payload")
        return _check_times(claims, now, terms.leeway) or _check_parties(claims, terms) or claims
    except _Wrong as wrong:
        return Refused(str(wrong))


def _decode(part: str) -> bytes:
    # Its length is the only thing that can be wrong: the alphabet is checked.
    try:
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except ValueError:
        raise _Wrong("the token's header is not base64url") from None


def _read(text: bytes, what: str) -> Claims:
    """Read a JSON object, each name in it once: two readers must not see two different tokens."""
    try:
        value = json.loads(
            text.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_number, parse_float=_finite
        )
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):
        raise _Wrong(f"the token's {what} is not JSON, or not in UTF-8") from None
    if not isinstance(value, dict):
        raise _Wrong(f"the token's {what} is not a JSON object")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Wrong(f"{quote(next(name for name in names if names.count(name) > 1))} stands twice in the token")
    return found


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large")
    return number


def _check_header(header: Claims) -> tuple[str, str | None]:
    # RFC 7515 section 4.1.11: what is critical and not understood makes the token invalid; nothing is understood here.
    if "crit" in header or "b64" in header:
        raise _Wrong("the token's header asks for an extension (crit or b64); none is known here")
    if given := next((name for name in _KEY_PARAMETERS if name in header), None):
        raise _Wrong(f"the token's header brings a key of its own ({given})")
    if "cty" in header:
        raise _Wrong("the token's header says that it holds another token (cty)")
    typ = header.get("typ", "JWT")
    if not isinstance(typ, str) or typ.lower().removeprefix("application/") not in _TYPES:
        raise _Wrong(f"the token's typ is {_show(typ)}, not JWT")
    kid = header.get("kid")
    if not isinstance(kid, str | None) or len(kid or "") > 255:
        raise _Wrong("the token's kid is no text, or over 255 characters")
    algorithm = header.get("alg")
    if not isinstance(algorithm, str):
        raise _Wrong("the token names no algorithm (alg)")
    return algorithm, kid


def _check_times(claims: Claims, now: float, leeway: float) -> Refused | None:
    """RFC 7519 sections 4.1.4 to 4.1.6."""
    expires, begins, issued = (_time(claims, name) for name in ("exp", "nbf", "iat"))
    if expires is None:
        raise _Wrong("the token has no exp: one that never expires could not be taken back")
    if now >= expires + leeway:
        return Refused(f"the token expired {_ago(now - expires)} ago", Cause.EXPIRED)
    if begins is not None and now < begins - leeway:
        raise _Wrong(f"the token is valid only in {_ago(begins - now)} (nbf)")
    if issued is not None and now < issued - leeway:
        raise _Wrong(f"the token was issued {_ago(issued - now)} from now (iat): do the clocks agree?")
    return None


def _time(claims: Claims, name: str) -> int | None:
    value = claims.get(name)
    if name in claims and (type(value) is not int or not 0 <= value <= _LATEST):
        raise _Wrong(f"the token's {name} is {_show(value)}: expected UNIX time in whole seconds")
    return value


def _ago(seconds: float) -> str:
    return f"{math.ceil(seconds)} s"


def _check_parties(claims: Claims, terms: Terms) -> Refused | None:
    audience = claims.get("aud")
    named = [audience] if isinstance(audience, str) else audience
    if "aud" in claims and not (isinstance(named, list) and all(isinstance(one, str) for one in named)):
        raise _Wrong("the token's aud is neither a text nor a list of texts")
    # RFC 7519 section 4.1.3: whoever does not find itself in `aud` must refuse the token.
    if "aud" in claims and not terms.audience:
        raise _Wrong("the token is for an audience (aud), and the server has no --token-audience")
    if terms.audience and terms.audience not in (named or ()):
        raise _Wrong("the token is for another audience (aud)" if named else "the token names no audience (aud)")
    if "iss" in claims and not isinstance(claims["iss"], str):
        raise _Wrong("the token's iss is not a text")
    if terms.issuer and claims.get("iss") != terms.issuer:
        raise _Wrong("the token is of another issuer (iss)" if "iss" in claims else "the token names no issuer (iss)")
    return None


def _identity(claims: Claims) -> Identity | Refused:
    try:
        # Centrifugo refuses it too: taken for what it is not, a subscription token would open all that users may do.
        if "channel" in claims:
            raise _Wrong("the token is for a subscription (channel), not for a connection")
        return Identity(
            user=_user(claims),
            expires_at=_expiry(claims),
            info=claims.get("info"),
            meta=claims.get("meta"),
            subs=MappingProxyType(_subs(claims)),
            caps=_caps(claims),
        )
    except _Wrong as wrong:
        return Refused(str(wrong))


def _grant(claims: Claims) -> Grant | Refused:
    try:
        if "channel" not in claims:
            raise _Wrong("the token is for a connection, not for a subscription: it names no channel")
        client = claims.get("client", "")
        if not isinstance(client, str) or len(client) > _MAX_USER:
            raise _Wrong("the token's client is no text, or over 255 characters")
        return Grant(
            user=_user(claims),
            channel=_channel(claims["channel"], "channel"),
            client=client,
            expires_at=_expiry(claims),
            info=claims.get("info"),
            data=claims.get("data"),
            rights=frozenset({Right.LISTEN}) | _rights(claims.get("allow", []), "allow"),
        )
    except _Wrong as wrong:
        return Refused(str(wrong))


def _user(claims: Claims) -> str:
    user = claims.get("sub", "")
    if not isinstance(user, str) or len(user) > _MAX_USER or _CONTROL.search(user):
        raise _Wrong(f"the token's sub is {_show(user)}: expected a text of at most {_MAX_USER} characters")
    return user


def _expiry(claims: Claims) -> int:
    """Centrifugo's `expire_at`: the connection's end, where it is not the token's; 0 for none."""
    end = _time(claims, "expire_at")
    return int(claims["exp"]) if end is None else end


def _subs(claims: Claims) -> dict[ChannelName, Opening]:
    channels, subs = claims.get("channels", []), claims.get("subs", {})
    if not isinstance(channels, list):
        raise _Wrong("the token's channels are no list")
    if not isinstance(subs, dict) or not all(isinstance(one, dict) for one in subs.values()):
        raise _Wrong("the token's subs are no object of objects")
    found = {_channel(name, "channels"): Opening() for name in channels}
    found |= {_channel(name, "subs"): Opening(one.get("info"), one.get("data")) for name, one in subs.items()}
    if len(found) > MAX_CHANNELS:
        raise _Wrong(f"the token subscribes to {len(found)} channels; at most {MAX_CHANNELS} are taken")
    return found


def _channel(value: object, claim: str) -> ChannelName:
    name = parse_name(value) if isinstance(value, str) else None
    if name is None or isinstance(name, Refusal):
        raise _Wrong(f"the token's {claim}: {'expected a name of a channel' if name is None else name.reason}")
    return name


def _caps(claims: Claims) -> tuple[Capability, ...]:
    caps = _list(claims.get("caps", []), "caps")
    if len(caps) > _MAX_CAPABILITIES:
        raise _Wrong(f"the token's caps are {len(caps)}; at most {_MAX_CAPABILITIES} are taken")
    return tuple(_capability(one) for one in caps)


def _capability(value: object) -> Capability:
    if not isinstance(value, dict):
        raise _Wrong("the token's caps: expected objects")
    channels = _list(value.get("channels", []), "channels in caps")
    if len(channels) > MAX_CHANNELS or not all(isinstance(one, str) and 1 <= len(one) <= _MAX_USER for one in channels):
        raise _Wrong(f"the token's caps: expected at most {MAX_CHANNELS} names of channels")
    match = value.get("match", "")
    # What Centrifugo PRO has besides is regular expressions: whoever signs a token could stop the server with one.
    if match not in ("", "exact", "wildcard"):
        raise _Wrong(f"the token's caps: match is {_show(match)}, expected wildcard or nothing")
    return Capability(tuple(channels), _rights(value.get("allow", []), "allow in caps"), match == "wildcard")


def _rights(value: object, what: str) -> frozenset[Right]:
    named = _list(value, what)
    known = {right.value: right for right in Right}
    if unknown := [one for one in named if not isinstance(one, str) or one not in known]:
        raise _Wrong(f"the token's {what}: {_show(unknown[0])} is none of {', '.join(known)}")
    return frozenset(known[one] for one in named)


def _list(value: object, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise _Wrong(f"the token's {what}: expected a list")
    return value


def _show(value: object) -> str:
    # Python writes out no number of thousands of digits; and a huge value is not worth writing out.
    return quote(value) if isinstance(value, str) else json.dumps(value)[:40]
