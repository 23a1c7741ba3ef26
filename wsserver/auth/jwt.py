"""
Verify signed JSON Web Tokens (RFC 7519, RFC 7515). The module `wsserver.auth.claims` interprets their claims.

This module does not use Twisted, a socket or a clock: the time is an argument.
A refused token is a return value, not an exception.
The checks are stricter than RFC 7515 and RFC 7519 where attacks have exploited the leniency of these RFCs. Of a token's
header, only the algorithm and the key ID select a key, and only among the keys that the server has.
"""

import base64
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Protocol, TypeVar

from wsserver.auth.claims import (
    Claims,
    Grant,
    Identity,
    InvalidClaim,
    keep_data_texts,
    read_grant,
    read_identity,
    read_time,
    show,
)
from wsserver.jsonfields import is_too_deep
from wsserver.text import quote

__all__ = ["GRACE", "MAX_TOKEN", "Cause", "Keys", "Refused", "Terms", "verify", "verify_any", "verify_subscription"]

# Half of the maximum size of a request head. Verifying longer tokens would only waste CPU time.
MAX_TOKEN: Final = 8 * 1024
"""Maximum length of a token, in characters."""

# The same as the default of Centrifugo's option client.expired_close_delay.
GRACE: Final = 25.0
"""Seconds that a connection or subscription stays open after its token expires, until the client sends a new one."""

_SHAPE: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_UNSIGNED: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.")
"""An unsecured JWT (RFC 7519 section 6): its signature is empty."""
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")

# RFC 7515 section 4.1: header parameters that contain a key, or the URL of a key. A key that is sent with the token
# proves nothing, because an attacker can send one, too.
_KEY_PARAMETERS: Final = ("jku", "jwk", "x5u", "x5c")

_TYPES: Final = ("jwt", "at+jwt")
"""Accepted values of `typ`; a token made for another purpose has another value (RFC 8725 section 3.11)."""


class Cause(StrEnum):
    """Why a token is refused. This determines the error code or status that the client receives."""

    INVALID = "invalid"
    """The token will never be accepted."""
    EXPIRED = "expired"
    """The token is genuine, but not valid now: expired, not valid yet or used up. The client should get a new one."""
    ENDED = "ended"
    """The token is valid, but its `expire_at` is past: the connection or subscription would end at once."""
    UNKNOWN_KEY = "unknown key"
    """The token is signed with a key that the server does not have. Fetching the key set again may add this key."""
    UNAVAILABLE = "unavailable"
    """The keys or the record of used tokens are unavailable: the same token may be accepted later."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The result of verifying a token that is not accepted."""

    reason: str
    """One sentence for the developer of the client; it contains no secrets."""
    cause: Cause = Cause.INVALID


@dataclass(frozen=True, slots=True)
class Terms:
    """The server's requirements on tokens besides a valid signature."""

    audience: str = ""
    """The value that `aud` must contain; if empty, tokens must not have the claim `aud`."""
    issuer: str = ""
    """The value that `iss` must have; if empty, any value is accepted."""
    leeway: float = 0.0
    """Seconds by which the clocks of issuer and server may differ."""
    no_expiry: bool = False
    """Whether tokens without `exp` are accepted; they are valid for as long as the key is."""


class Keys(Protocol):
    """The server's keys; implemented by `wsserver.auth.keys.KeyRing`."""

    def payload(self, token: str, algorithm: str, kid: str | None) -> bytes | Refused:
        """
        Verify a token's signature.

        Args:
            token: three parts of base64url joined by dots.
            algorithm: the algorithm in the token's header. The token is refused if no key may be used with it.
            kid: the key ID in the token's header, or None.

        Returns:
            The signed claims as JSON, or the reason why the token is refused.
        """


def verify(token: str, keys: Keys, now: float, terms: Terms) -> Identity | Refused:
    """
    Verify a connection token.

    Args:
        token: the token as the client sent it.
        keys: the server's keys.
        now: UNIX time in seconds.
        terms: the requirements besides a valid signature.

    Returns:
        The client's identity, or the reason why the token is refused.
    """
    return _check(token, keys, now, terms, read_identity)


def verify_subscription(token: str, keys: Keys, now: float, terms: Terms) -> Grant | Refused:
    """
    Verify a subscription token. The caller must compare its user, client and channel with those of the subscription.

    Args:
        token: the token as the client sent it.
        keys: the server's keys.
        now: UNIX time in seconds.
        terms: the requirements besides a valid signature.

    Returns:
        The granted subscription, or the reason why the token is refused.
    """
    return _check(token, keys, now, terms, read_grant)


def verify_any(token: str, keys: Keys, now: float, terms: Terms) -> Identity | Grant | Refused:
    """Verify a token of either kind: with the claim `channel` it is a subscription token, else a connection token."""

    def read(claims: Claims) -> Identity | Grant:
        return read_grant(claims) if "channel" in claims else read_identity(claims)

    return _check(token, keys, now, terms, read)


T = TypeVar("T", bound=Identity | Grant)


def _check(token: str, keys: Keys, now: float, terms: Terms, read: Callable[[Claims], T]) -> T | Refused:
    if len(token) > MAX_TOKEN:
        return Refused(f"the token is over {MAX_TOKEN} characters")
    # RFC 7515 section 7.1: the compact serialization has no padding and no white space.
    if not _SHAPE.fullmatch(token):
        if _UNSIGNED.fullmatch(token):
            return Refused("the token is not signed")
        return Refused("not a token: expected three parts of base64url joined by dots")
    try:
        header = _parse_object(_decode(token.partition(".")[0]), "header")
        algorithm, kid = _check_header(header)
        payload = keys.payload(token, algorithm, kid)
        if isinstance(payload, Refused):
            return payload
        claims = _parse_object(payload, "payload")
        keep_data_texts(claims, payload)
        expired = _check_times(claims, now, terms)
        if expired is not None:
            return expired
        _check_parties(claims, terms)
        found = read(claims)
        if found.expires_at and now >= found.expires_at + terms.leeway:
            return Refused(f"the token's expire_at was {_show_seconds(now - found.expires_at)} ago", Cause.ENDED)
        return found
    except InvalidClaim as wrong:
        return Refused(str(wrong))


def _decode(part: str) -> bytes:
    # Only the length can be invalid: _SHAPE has checked the alphabet.
    try:
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except ValueError:
        raise InvalidClaim("the token's header is not base64url") from None


def _parse_object(text: bytes, what: str) -> Claims:
    """
    Parse a JSON object; raise `InvalidClaim` if it is invalid.

    Duplicate names are invalid: two parsers could read two different tokens from the same text.
    """
    try:
        value = json.loads(
            text.decode("utf-8"),
            object_pairs_hook=_reject_duplicates,
            parse_constant=_reject_constant,
            parse_float=_parse_finite,
        )
        if _SURROGATE.search(text):
            json.dumps(_omit_values(value), ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidClaim(f"the token's {what} contains half a surrogate pair") from None
    except (ValueError, RecursionError):
        raise InvalidClaim(f"the token's {what} is not JSON, or not in UTF-8") from None
    if not isinstance(value, dict):
        raise InvalidClaim(f"the token's {what} is not a JSON object")
    if is_too_deep(text):
        raise InvalidClaim(f"the token's {what} is nested too deeply")
    return value


def _omit_values(claims: Any) -> Any:
    """Omit the values that are only passed on, which may contain half a surrogate pair: `info` and `data`."""
    if not isinstance(claims, dict):
        return claims
    rest = {name: value for name, value in claims.items() if name not in {"info", "data"}}
    if isinstance(subs := rest.get("subs"), dict):
        rest["subs"] = {channel: _omit_values(options) for channel, options in subs.items()}
    return rest


def _reject_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise InvalidClaim(f"the token contains {quote(name)} twice")
        found[name] = value
    return found


def _reject_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _parse_finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large")
    return number


def _check_header(header: Claims) -> tuple[str, str | None]:
    # RFC 7515 section 4.1.11: a critical extension that is not supported makes the token invalid; none is supported.
    if "crit" in header or "b64" in header:
        raise InvalidClaim("the token's header requires an extension (crit or b64); none is supported")
    if given := next((name for name in _KEY_PARAMETERS if name in header), None):
        raise InvalidClaim(f"the token's header contains a key ({given}); expected none")
    if "cty" in header:
        raise InvalidClaim("the token's header declares a nested token (cty), which is not supported")
    typ = header.get("typ", "JWT")
    if not isinstance(typ, str) or typ.lower().removeprefix("application/") not in _TYPES:
        raise InvalidClaim(f"the token's typ is {show(typ)}, expected JWT")
    kid = header.get("kid")
    if not isinstance(kid, str | None) or len(kid or "") > 255:
        raise InvalidClaim("the token's kid: expected a string of at most 255 characters")
    algorithm = header.get("alg")
    if not isinstance(algorithm, str):
        raise InvalidClaim("the token has no algorithm (alg)")
    return algorithm, kid


def _check_times(claims: Claims, now: float, terms: Terms) -> Refused | None:
    """
    Check `exp`, `nbf` and `iat` (RFC 7519 sections 4.1.4 to 4.1.6).

    Returns:
        A `Refused` if the token has expired or is not valid yet, None if its times are valid.

    Raises:
        InvalidClaim: a time is malformed, or `exp` is missing although the server requires it.
    """
    leeway = terms.leeway
    expires, begins, issued = (read_time(claims, name) for name in ("exp", "nbf", "iat"))
    if expires is None and not terms.no_expiry:
        raise InvalidClaim(
            "the token has no exp; expected an expiry time, because tokens cannot be revoked (see --token-no-expiry)"
        )
    if expires is not None and now >= expires + leeway:
        return Refused(f"the token expired {_show_seconds(now - expires)} ago", Cause.EXPIRED)
    if begins is not None and now < begins - leeway:
        return Refused(f"the token is not valid for another {_show_seconds(begins - now)} (nbf)", Cause.EXPIRED)
    if issued is not None and now < issued - leeway:
        ahead = _show_seconds(issued - now)
        return Refused(f"the token was issued {ahead} in the future (iat); check the clocks", Cause.EXPIRED)
    return None


def _show_seconds(seconds: float) -> str:
    return f"{math.ceil(seconds)} s"


def _check_parties(claims: Claims, terms: Terms) -> None:
    audience = claims.get("aud")
    named = [audience] if isinstance(audience, str) else audience
    if "aud" in claims and not (isinstance(named, list) and all(isinstance(one, str) for one in named)):
        raise InvalidClaim("the token's aud: expected a string or an array of strings")
    # RFC 7519 section 4.1.3: a recipient that is not listed in `aud` must refuse the token.
    if "aud" in claims and not terms.audience:
        raise InvalidClaim("the token has an audience (aud), but the server expects none; see --token-audience")
    if terms.audience and terms.audience not in (named or ()):
        raise InvalidClaim(
            "the token is for another audience (aud); see --token-audience"
            if named
            else "the token has no audience (aud); see --token-audience"
        )
    if "iss" in claims and not isinstance(claims["iss"], str):
        raise InvalidClaim("the token's iss: expected a string")
    if terms.issuer and claims.get("iss") != terms.issuer:
        raise InvalidClaim(
            "the token is from another issuer (iss); see --token-issuer"
            if "iss" in claims
            else "the token has no issuer (iss); see --token-issuer"
        )
