"""
Read the claims of Centrifugo's tokens: who a client is, and what it may do.

This module does not use Twisted, a clock or a socket.
An invalid claim makes the whole token invalid; unknown claims are ignored.

Sources: https://centrifugal.dev/docs/server/authentication (connection tokens),
https://centrifugal.dev/docs/server/channel_token_auth (subscription tokens) and
https://centrifugal.dev/docs/pro/capabilities (the claim `caps`).
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

import msgspec

from wsserver.errors import InvalidChannel
from wsserver.hub.names import Patterns, parse_name
from wsserver.jsonfields import decode_shallow
from wsserver.text import quote
from wsserver.typing import ChannelName, JSONText

__all__ = [
    "ANONYMOUS",
    "Capability",
    "Claims",
    "Grant",
    "Identity",
    "InvalidClaim",
    "OneTimeID",
    "Opening",
    "Right",
    "keep_data_texts",
    "read_grant",
    "read_identity",
    "read_time",
    "show",
]

Claims = dict[str, Any]

_Texts = dict[str, msgspec.Raw]
"""Name of a claim -> its value as JSON text."""

_MAX_USER: Final = 255
_MAX_CAPS: Final = 128
"""Maximum number of channel names in a capability of a token."""
_MAX_CAPABILITIES: Final = 100
_LATEST: Final = 253_402_300_799
"""The last second of the year 9999. A later time is refused: most often, it is in milliseconds instead of seconds."""

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class InvalidClaim(Exception):
    """A token's header or claims are invalid. The message explains the error to the developer who issues the tokens."""


class Right(StrEnum):
    """A right that a token can give a client on a channel: subscribe, publish, read presence, read history."""

    LISTEN = "sub"
    PUBLISH = "pub"
    PRESENCE = "prs"
    HISTORY = "hst"


# Cached, because the rights are checked for every message that a client publishes.
_patterns = lru_cache(maxsize=1000)(Patterns)


@dataclass(frozen=True, slots=True)
class Capability:
    """An entry of the claim `caps`: some channels, and the rights that the client has on them."""

    channels: tuple[str, ...]
    rights: frozenset[Right]
    wildcard: bool = False
    """Whether an asterisk in a channel name matches any characters."""

    def covers(self, channel: str) -> bool:
        """Return whether the entry applies to this channel."""
        return channel in self.channels or (self.wildcard and channel in _patterns(self.channels))


@dataclass(frozen=True, slots=True)
class Opening:
    """A subscription that a connection token opens for its client: an entry of the claim `subs`, or of `channels`."""

    info: object = None
    """A JSON value that other clients see in the channel's presence."""
    data: JSONText | None = None
    """The JSON text sent to the client with the subscription."""
    rewind: int | None = None
    """Number of the last publications that the client receives first; None for that in the channel's options."""
    forces_events: bool | None = None
    """Whether the client receives join and leave events without a request; None if the channel's options decide."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The contents of a connection token: who the client is, and what it may do."""

    user: str = ""
    """The user ID; empty if the client is anonymous."""
    expires_at: int = 0
    """UNIX time in seconds at which the connection needs a new token; 0 for never."""
    info: object = None
    """A JSON value that other clients see in presence."""
    subs: Mapping[ChannelName, Opening] = field(default_factory=lambda: MappingProxyType({}))
    """
    The channels to which the server subscribes a Centrifuge client. A raw subscriber (a client of `/ws?channel=` or
    `/sse`) is not subscribed automatically, but may name these channels in its URL.
    """
    caps: tuple[Capability, ...] = ()
    one_time: "OneTimeID | None" = None
    """Set if the token is a one-time token."""

    def may(self, channel: str, right: Right) -> bool:
        """
        Return whether the token grants a right on a channel.

        An entry of `subs` grants `LISTEN`. Otherwise, the first entry of `caps` that covers the channel decides.
        """
        if right is Right.LISTEN and channel in self.subs:
            return True
        for capability in self.caps:
            if capability.covers(channel):
                return right in capability.rights
        return False


ANONYMOUS: Final = Identity()
"""The identity of a client without a token."""


@dataclass(frozen=True, slots=True)
class Grant:
    """The contents of a subscription token: who may subscribe to which channel, with which rights."""

    user: str
    """The user ID. The caller must compare it with the user ID of the connection."""
    channel: ChannelName
    client: str = ""
    """The client ID of the only connection that may use the token; empty if any connection may use it."""
    expires_at: int = 0
    """UNIX time in seconds at which the subscription needs a new token; 0 for never."""
    info: object = None
    data: JSONText | None = None
    rights: frozenset[Right] = frozenset({Right.LISTEN})
    forces_events: bool | None = None
    """As in `Opening`."""
    one_time: "OneTimeID | None" = None
    """Set if the token is a one-time token."""


@dataclass(frozen=True, slots=True)
class OneTimeID:
    """Identifies a one-time token, so that its use can be recorded."""

    key: str
    """A unique key of letters and digits: the SHA-256 of `iss` and `jti`, in hexadecimal."""
    until: int
    """UNIX time in seconds at which the token expires."""


def read_identity(claims: Claims) -> Identity:
    """
    Read the claims of a connection token.

    Args:
        claims: the decoded claims; `exp` is valid, or missing.

    Raises:
        InvalidClaim: a claim is invalid.
    """
    # A subscription token must not open a connection: it would give the client everything its user may do. Centrifugo
    # refuses such a token, too.
    if "channel" in claims:
        raise InvalidClaim("the token is for a subscription (channel), not for a connection")
    return Identity(
        user=_user(claims),
        expires_at=_expiry(claims),
        info=claims.get("info"),
        subs=MappingProxyType(_subs(claims)),
        caps=_caps(claims),
        one_time=_one_time_id(claims),
    )


def read_grant(claims: Claims) -> Grant:
    """
    Read the claims of a subscription token.

    Args:
        claims: the decoded claims; `exp` is valid, or missing.

    Raises:
        InvalidClaim: a claim is invalid.
    """
    if "channel" not in claims:
        raise InvalidClaim("the token is for a connection, not for a subscription: it has no channel claim")
    client = claims.get("client", "")
    if not isinstance(client, str) or len(client) > _MAX_USER:
        raise InvalidClaim("the token's client: expected a string of at most 255 characters")
    return Grant(
        user=_user(claims),
        channel=_channel(claims["channel"], "channel"),
        client=client,
        expires_at=_expiry(claims),
        info=claims.get("info"),
        data=claims.get("data"),
        rights=frozenset({Right.LISTEN}) | _rights(claims),
        forces_events=_forces_events(claims),
        one_time=_one_time_id(claims),
    )


def _one_time_id(claims: Claims) -> OneTimeID | None:
    once, name = claims.get("once", False), claims.get("jti", "")
    if not isinstance(once, bool) or not isinstance(name, str) or len(name) > _MAX_USER:
        raise InvalidClaim(
            "the token's once or jti is invalid: expected true or false, and a string of at most 255 characters"
        )
    if not once:
        return None
    if not name:
        raise InvalidClaim("the one-time token (once) has no ID (jti)")
    if "exp" not in claims:
        raise InvalidClaim("the one-time token (once) has no exp, until which the server could remember its use")
    # RFC 7519 section 4.1.7: `jti` is unique among the tokens of one issuer.
    key = hashlib.sha256(f"{claims.get('iss', '')}\n{name}".encode()).hexdigest()
    return OneTimeID(key, math.ceil(claims["exp"]))


def _user(claims: Claims) -> str:
    user = claims.get("sub", "")
    if not isinstance(user, str) or len(user) > _MAX_USER or _CONTROL.search(user):
        raise InvalidClaim(f"the token's sub is {show(user)}: expected a string of at most {_MAX_USER} characters")
    return user


def _expiry(claims: Claims) -> int:
    """
    Return when the connection or subscription expires: Centrifugo's claim `expire_at`, else `exp`.

    0 for never; also for a token without `exp`, which only some servers accept.
    """
    end = read_time(claims, "expire_at")
    # Rounded up: a time below one second must not become 0, which means never.
    return math.ceil(claims.get("exp", 0) if end is None else end)


def _subs(claims: Claims) -> dict[ChannelName, Opening]:
    channels, subs = _list(claims, "channels"), claims.get("subs")
    # Null is an empty object that Go has written.
    subs = {} if subs is None else subs
    if not isinstance(subs, dict) or not all(isinstance(one, dict | None) for one in subs.values()):
        raise InvalidClaim("the token's subs: expected an object of objects")
    named = {_channel(name, "channels"): Opening() for name in channels}
    # As in Centrifugo, `subs` replaces `channels`.
    openings = {
        _channel(name, "subs"): Opening(one.get("info"), one.get("data"), forces_events=_forces_events(one))
        if one
        else Opening()
        for name, one in subs.items()
    }
    return openings or named


def _forces_events(entry: Claims) -> bool | None:
    """Return the value of `"override": {"force_push_join_leave": {"value": true}}`; None if it is missing."""
    value: Any = entry
    for name, kind in (("override", dict), ("force_push_join_leave", dict), ("value", bool)):
        value = value.get(name, False if kind is bool else None)
        if value is None:
            return None
        if not isinstance(value, kind):
            expected = "true or false" if kind is bool else "an object"
            raise InvalidClaim(f"the token's override: {name} is {show(value)}, expected {expected}")
    return bool(value)


def keep_data_texts(claims: Claims, payload: bytes) -> None:
    """
    Replace the decoded values that are sent to the client with their original JSON text.

    Args:
        claims: the decoded claims; `data` and the `data` of each entry of `subs` are replaced in place.
        payload: the JSON text of the claims; it must be valid.
    """
    if b"data" not in payload and b"\\" not in payload:
        return
    texts = decode_shallow(_Texts, payload)
    for entry, text in [(claims, payload), *_subs_texts(claims.get("subs"), texts.get("subs"))]:
        if entry.get("data") is not None:
            entry["data"] = JSONText(bytes(decode_shallow(_Texts, text)["data"]))


def _subs_texts(subs: object, text: msgspec.Raw | None) -> Iterable[tuple[Claims, bytes]]:
    if isinstance(subs, dict) and text is not None:
        for name, entry in decode_shallow(_Texts, bytes(text)).items():
            if isinstance(subs[name], dict):
                yield subs[name], bytes(entry)


def _channel(value: object, claim: str) -> ChannelName:
    if not isinstance(value, str):
        raise InvalidClaim(f"the token's {claim}: expected a channel name")
    try:
        return parse_name(value)
    except InvalidChannel as error:
        raise InvalidClaim(f"the token's {claim}: {error}") from None


def _caps(claims: Claims) -> tuple[Capability, ...]:
    caps = _list(claims, "caps")
    if len(caps) > _MAX_CAPABILITIES:
        raise InvalidClaim(f"the token has {len(caps)} caps; expected at most {_MAX_CAPABILITIES}")
    return tuple(_capability(one) for one in caps)


def _capability(value: object) -> Capability:
    if not isinstance(value, dict):
        raise InvalidClaim("the token's caps: expected objects")
    channels = _list(value, "channels", " in caps")
    if len(channels) > _MAX_CAPS or not all(isinstance(one, str) and 1 <= len(one) <= _MAX_USER for one in channels):
        raise InvalidClaim(f"the token's caps: expected at most {_MAX_CAPS} channel names")
    match = value.get("match", "")
    # Centrifugo PRO also supports regular expressions. This server does not: a slow expression could block the server.
    if match not in ("", "exact", "wildcard"):
        raise InvalidClaim(f"the token's caps: match is {show(match)}, expected wildcard, exact or an empty string")
    return Capability(tuple(channels), _rights(value, " in caps"), match == "wildcard")


def _rights(claims: Claims, where: str = "") -> frozenset[Right]:
    named = _list(claims, "allow", where)
    known = {right.value: right for right in Right}
    if unknown := [one for one in named if not isinstance(one, str) or one not in known]:
        raise InvalidClaim(f"the token's allow{where}: {show(unknown[0])} is unknown; expected {', '.join(known)}")
    return frozenset(known[one] for one in named)


def _list(claims: Claims, name: str, where: str = "") -> list[Any]:
    value = claims.get(name)
    # Null is an empty list that Go has written.
    if not isinstance(value, list | None):
        raise InvalidClaim(f"the token's {name}{where}: expected an array")
    return value or []


def show(value: object) -> str:
    """Format a value of a token for an error message, shortened."""
    # Python refuses to convert integers of thousands of digits to text, and a large value is not worth showing.
    return quote(value) if isinstance(value, str) else json.dumps(value)[:40]


def read_time(claims: Claims, name: str) -> float | None:
    """
    Return a claim that is a time (RFC 7519 section 2, NumericDate: seconds, possibly with a fraction).

    Args:
        claims: the decoded claims.
        name: the claim's name, for example `exp`.

    Returns:
        UNIX time in seconds; None if the claim is missing.

    Raises:
        InvalidClaim: the claim is not a number from 0 to the end of the year 9999.
    """
    value: float | None = claims.get(name)
    if name in claims and (value is None or type(value) not in (int, float) or not 0 <= value <= _LATEST):
        raise InvalidClaim(f"the token's {name} is {show(value)}: expected UNIX time in seconds")
    return value
