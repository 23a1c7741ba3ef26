"""
Who a client is and what it may do, and how claims say it: those of Centrifugo's tokens.

Rule 1: no Twisted, no clock, no socket.
Rule 2: a claim that is there is right or the whole token is wrong; one that is unknown means nothing.

Claims: https://centrifugal.dev/docs/server/authentication and /channel_token_auth; `caps` from /docs/pro/capabilities.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

from wsserver.hub.names import MAX_CHANNELS, Patterns, parse_name
from wsserver.jsonfields import Fields, read_shallow_object, take
from wsserver.text import quote
from wsserver.typing import ChannelName, JSONText
from wsserver.wire.http11 import Refusal

__all__ = [
    "ANONYMOUS",
    "Capability",
    "Claims",
    "Grant",
    "Identity",
    "Opening",
    "Right",
    "Ticket",
    "WrongClaim",
    "keep_data_texts",
    "read_grant",
    "read_identity",
    "read_time",
    "show",
]

Claims = dict[str, Any]

_MAX_USER: Final = 255
_MAX_CAPABILITIES: Final = 100
_LATEST: Final = 253_402_300_799
"""The last second of the year 9999: a time after it is a mistake, most often milliseconds."""

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class WrongClaim(Exception):
    """Something in a token is not as it must be; its text says what, in words for whoever issues tokens."""


class Right(StrEnum):
    """What a token may let a client do on a channel."""

    LISTEN = "sub"
    PUBLISH = "pub"
    PRESENCE = "prs"
    HISTORY = "hst"


# A client that publishes is asked about with every message.
_patterns = lru_cache(maxsize=1000)(Patterns)


@dataclass(frozen=True, slots=True)
class Capability:
    """An entry of the claim `caps`."""

    channels: tuple[str, ...]
    rights: frozenset[Right]
    wildcard: bool = False
    """An asterisk in a name stands for any characters."""

    def covers(self, channel: str) -> bool:
        """Tell whether it is about this channel."""
        return channel in self.channels or (self.wildcard and channel in _patterns(self.channels))


@dataclass(frozen=True, slots=True)
class Opening:
    """What a connection token says about a channel that it subscribes its client to: an entry of the claim `subs`."""

    info: object = None
    """Shown to others in the channel's presence; a JSON value."""
    data: JSONText | None = None
    """Given to the client with the subscription."""


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
    ticket: "Ticket | None" = None
    """The token was good for one use."""

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
    data: JSONText | None = None
    rights: frozenset[Right] = frozenset({Right.LISTEN})
    ticket: "Ticket | None" = None
    """The token was good for one use."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """A token that can be used once."""

    key: str
    """What tells it from all others: letters and digits."""
    until: int
    """UNIX time in seconds from which on it is not taken anyhow."""


def read_identity(claims: Claims) -> Identity:
    """
    Read the claims of a connection token.

    Raises:
        WrongClaim: one is not as it must be.
    """
    # Centrifugo refuses it too: taken for what it is not, a subscription token would open all that users may do.
    if "channel" in claims:
        raise WrongClaim("the token is for a subscription (channel), not for a connection")
    return Identity(
        user=_user(claims),
        expires_at=_expiry(claims),
        info=claims.get("info"),
        meta=claims.get("meta"),
        subs=MappingProxyType(_subs(claims)),
        caps=_caps(claims),
        ticket=_ticket(claims),
    )


def read_grant(claims: Claims) -> Grant:
    """
    Read the claims of a subscription token.

    Raises:
        WrongClaim: one is not as it must be.
    """
    if "channel" not in claims:
        raise WrongClaim("the token is for a connection, not for a subscription: it names no channel")
    client = claims.get("client", "")
    if not isinstance(client, str) or len(client) > _MAX_USER:
        raise WrongClaim("the token's client is no text, or over 255 characters")
    return Grant(
        user=_user(claims),
        channel=_channel(claims["channel"], "channel"),
        client=client,
        expires_at=_expiry(claims),
        info=claims.get("info"),
        data=claims.get("data"),
        rights=frozenset({Right.LISTEN}) | _rights(claims.get("allow", []), "allow"),
        ticket=_ticket(claims),
    )


def _ticket(claims: Claims) -> Ticket | None:
    once, name = claims.get("once", False), claims.get("jti", "")
    if not isinstance(once, bool) or not isinstance(name, str) or len(name) > _MAX_USER:
        raise WrongClaim("the token's once is neither true nor false, or its jti no text of at most 255 characters")
    if not once:
        return None
    if not name:
        raise WrongClaim("the token is for one use (once), and has no name (jti)")
    # RFC 7519 section 4.1.7: an issuer names each of its tokens differently.
    key = hashlib.sha256(f"{claims.get('iss', '')}\n{name}".encode()).hexdigest()
    return Ticket(key, math.ceil(claims["exp"]))


def _user(claims: Claims) -> str:
    user = claims.get("sub", "")
    if not isinstance(user, str) or len(user) > _MAX_USER or _CONTROL.search(user):
        raise WrongClaim(f"the token's sub is {show(user)}: expected a text of at most {_MAX_USER} characters")
    return user


def _expiry(claims: Claims) -> int:
    """Centrifugo's `expire_at`: the connection's end, where it is not the token's; 0 for none."""
    end = read_time(claims, "expire_at")
    # Rounded up: a time of less than one second must not become 0, which means never.
    return math.ceil(claims["exp"] if end is None else end)


def _subs(claims: Claims) -> dict[ChannelName, Opening]:
    channels, subs = claims.get("channels", []), claims.get("subs", {})
    if not isinstance(channels, list):
        raise WrongClaim("the token's channels are no list")
    if not isinstance(subs, dict) or not all(isinstance(one, dict) for one in subs.values()):
        raise WrongClaim("the token's subs are no object of objects")
    found = {_channel(name, "channels"): Opening() for name in channels}
    found |= {_channel(name, "subs"): Opening(one.get("info"), one.get("data")) for name, one in subs.items()}
    if len(found) > MAX_CHANNELS:
        raise WrongClaim(f"the token subscribes to {len(found)} channels; at most {MAX_CHANNELS} are taken")
    return found


def keep_data_texts(claims: Claims, payload: bytes) -> None:
    """
    Put the JSON texts of what is passed on to the client in the place of its values.

    Args:
        claims: the decoded claims; changed are `data`, and `data` of each entry of `subs`.
        payload: the JSON text of the claims, which has been checked.
    """
    if b"data" not in payload and b"\\" not in payload:
        return
    fields = read_shallow_object(payload)
    for entry, texts in [(claims, fields), *_subs_texts(claims.get("subs"), fields)]:
        if entry.get("data") is not None:
            entry["data"] = texts["data"]


def _subs_texts(subs: object, fields: Fields) -> Iterable[tuple[Claims, Fields]]:
    if isinstance(subs, dict):
        for name, text in take(fields, "subs", dict, {}).items():
            if isinstance(subs[name], dict):
                yield subs[name], read_shallow_object(text)


def _channel(value: object, claim: str) -> ChannelName:
    name = parse_name(value) if isinstance(value, str) else None
    if name is None or isinstance(name, Refusal):
        raise WrongClaim(f"the token's {claim}: {'expected a name of a channel' if name is None else name.reason}")
    return name


def _caps(claims: Claims) -> tuple[Capability, ...]:
    caps = _list(claims.get("caps", []), "caps")
    if len(caps) > _MAX_CAPABILITIES:
        raise WrongClaim(f"the token's caps are {len(caps)}; at most {_MAX_CAPABILITIES} are taken")
    return tuple(_capability(one) for one in caps)


def _capability(value: object) -> Capability:
    if not isinstance(value, dict):
        raise WrongClaim("the token's caps: expected objects")
    channels = _list(value.get("channels", []), "channels in caps")
    if len(channels) > MAX_CHANNELS or not all(isinstance(one, str) and 1 <= len(one) <= _MAX_USER for one in channels):
        raise WrongClaim(f"the token's caps: expected at most {MAX_CHANNELS} names of channels")
    match = value.get("match", "")
    # What Centrifugo PRO has besides is regular expressions: whoever signs a token could stop the server with one.
    if match not in ("", "exact", "wildcard"):
        raise WrongClaim(f"the token's caps: match is {show(match)}, expected wildcard or nothing")
    return Capability(tuple(channels), _rights(value.get("allow", []), "allow in caps"), match == "wildcard")


def _rights(value: object, what: str) -> frozenset[Right]:
    named = _list(value, what)
    known = {right.value: right for right in Right}
    if unknown := [one for one in named if not isinstance(one, str) or one not in known]:
        raise WrongClaim(f"the token's {what}: {show(unknown[0])} is none of {', '.join(known)}")
    return frozenset(known[one] for one in named)


def _list(value: object, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise WrongClaim(f"the token's {what}: expected a list")
    return value


def show(value: object) -> str:
    """Write what stood in a token, for a person."""
    # Python writes out no number of thousands of digits; and a huge value is not worth writing out.
    return quote(value) if isinstance(value, str) else json.dumps(value)[:40]


def read_time(claims: Claims, name: str) -> float | None:
    """
    Return a claim that is a time (RFC 7519 section 2, NumericDate: seconds, perhaps with a fraction).

    Args:
        claims: all of them.
        name: e.g. `exp`.

    Returns:
        UNIX time in seconds; None if the claim is missing.

    Raises:
        WrongClaim: the claim is not a number from 0 to the end of the year 9999.
    """
    value: float | None = claims.get(name)
    if name in claims and (value is None or type(value) not in (int, float) or not 0 <= value <= _LATEST):
        raise WrongClaim(f"the token's {name} is {show(value)}: expected UNIX time in seconds")
    return value
