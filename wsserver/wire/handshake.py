"""
Opening handshake: decide whether to accept a WebSocket request (RFC 6455 section 4.2).

This module does not use Twisted or a clock. A refusal is a return value, not an exception, because clients send bad
requests all the time.
"""

import binascii
import hashlib
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import Final, NamedTuple

from wsserver.config.settings import Settings
from wsserver.origins import EMPTY, allowed_origin, is_loopback, is_own, origin_of
from wsserver.text import TOKEN, quote
from wsserver.typing import Origin, Subprotocol
from wsserver.wire.http11 import Refusal, Request, bad_request, forbidden

__all__ = [
    "Accept",
    "Policy",
    "check",
    "check_origin",
    "find_deflate_offers",
    "parse_extensions",
    "refuse_removed_upgrade",
    "response",
    "show_origin_option",
]

MAX_SHOWN_ORIGIN: Final = 200
"""Maximum length of an origin, in characters, that a refusal shows as the value of an option."""

Extension = tuple[str, dict[str, list[str | bool]]]
"""An extension's name, and its parameters: name -> list of values, with True for a parameter without a value."""

NGINX: Final = (
    "nginx needs `proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; "
    'proxy_set_header Connection "upgrade";`'
)
"""The configuration that nginx needs: by default, nginx removes the headers Upgrade and Connection."""

_KEY: Final = re.compile(r"[A-Za-z0-9+/]{22}==")
_EXTENSION_PARAMETER: Final = re.compile(rf"""({TOKEN})(?:[ \t]*=[ \t]*(?:({TOKEN})|"((?:[^"\\]|\\.)*)"))?""")

# The control characters that RFC 9110 section 5.5 rules out, and 0x85, which Autobahn's client regards as a line end:
# it splits a response with str.splitlines() (CVE-2026-44546). 0x85 is valid in a request, and an endpoint may repeat a
# value of the request in its response.
_LINE_END: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\x85]")

_GUID: Final = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_UPGRADE: Final = (("Upgrade", "websocket"), ("Connection", "Upgrade, close"))
_SWITCHING: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
)
_VERSION: Final = (("Sec-WebSocket-Version", "13"),)
_USUAL_CONNECTION: Final = ("Upgrade", "keep-alive, Upgrade")


@dataclass(frozen=True, slots=True)
class Policy:
    """Which origins, subprotocols and extensions a server accepts, according to its settings and listeners."""

    origins: frozenset[Origin]
    """Origins that may connect."""
    any_origin: bool
    """Whether every origin may connect."""
    loopback_only: bool
    """Whether the server can be reached from this machine only; then pages of loopback origins may connect, too."""
    subprotocols: frozenset[Subprotocol]
    """Subprotocols that the server supports."""
    compression: bool
    """Whether the server accepts permessage-deflate."""

    @classmethod
    def of(cls, settings: Settings, *, loopback_only: bool) -> "Policy":
        """
        Return the policy that the settings describe.

        Args:
            settings: the server's options.
            loopback_only: whether the server can be reached from this machine only.
        """
        return cls(
            origins=frozenset(origin for text in settings.origin if (origin := allowed_origin(text)) is not None),
            any_origin=settings.allow_any_origin_insecure,
            loopback_only=loopback_only,
            subprotocols=frozenset(Subprotocol(name) for name in settings.subprotocol),
            compression=settings.compression == "on",
        )


class Accept(NamedTuple):
    """A valid handshake, which the server may complete with 101."""

    key: str
    """The value of Sec-WebSocket-Key."""
    offered: tuple[Subprotocol, ...]
    """The subprotocols that the client offers, in the client's order."""
    subprotocol: Subprotocol | None
    """The selected subprotocol, if any."""
    extensions: tuple[Extension, ...]
    """The client's offers of extensions that the server can accept, in the client's order."""


def check(request: Request, policy: Policy) -> Accept | Refusal:
    """
    Check an opening handshake.

    Args:
        request: a request whose `wants_websocket` is true.
        policy: which origins, subprotocols and extensions the server accepts.

    Returns:
        The values to complete the handshake with, or a refusal.
    """
    refusal = None if _is_usual(request) else _check_http(request) or _check_version(request)
    if refusal is None and "origin" in request.fields:
        refusal = check_origin(request.all("origin"), request.host, policy)
    if refusal is not None:
        return refusal
    key = _key(request)
    if isinstance(key, Refusal):
        return key
    offered = _subprotocols(request)
    if isinstance(offered, Refusal):
        return offered
    extensions = _extensions(request, policy)
    if isinstance(extensions, Refusal):
        return extensions
    # RFC 6455 section 4.1: the client's list is "ordered by preference".
    subprotocol = next((name for name in offered if name in policy.subprotocols), None) if offered else None
    return Accept(key, offered, subprotocol, extensions)


def refuse_removed_upgrade() -> Refusal:
    """
    Return a 426 refusal for a handshake without an Upgrade header.

    For requests with a Sec-WebSocket-Key header: only WebSocket clients send it, so a proxy has removed the Upgrade
    header.
    """
    reason = (
        "WebSocket handshake (it has Sec-WebSocket-Key) without an Upgrade header; "
        f"a proxy may have removed it: {NGINX}"
    )
    return Refusal(HTTPStatus.UPGRADE_REQUIRED, reason, _UPGRADE)


def response(
    key: str,
    subprotocol: str | None = None,
    extensions: str | None = None,
    headers: Mapping[str, str | Iterable[str]] = {},
    lines: bytes = b"",
) -> bytes:
    """
    Return the response that completes the handshake (RFC 6455 section 4.2.2, point 5).

    Args:
        key: the value of Sec-WebSocket-Key.
        subprotocol: the selected subprotocol.
        extensions: the value of Sec-WebSocket-Extensions for the response.
        headers: additional headers: name -> value or values.
        lines: further header lines, each with its CRLF.

    Returns:
        The whole response head, from the status line to the empty line.

    Raises:
        ValueError: a header contains a control character, 0x85 (which Autobahn's client regards as a line end), or a
            character that Latin-1 cannot encode.
    """
    digest = hashlib.sha1((key + _GUID).encode("ascii"), usedforsecurity=False).digest()
    more = b""
    if subprotocol is not None or extensions is not None or headers:
        more = "".join(_lines(subprotocol, extensions, headers)).encode("latin-1")
    return b"%b%b\r\n%b%b\r\n" % (_SWITCHING, binascii.b2a_base64(digest, newline=False), lines, more)


def _lines(
    subprotocol: str | None, extensions: str | None, headers: Mapping[str, str | Iterable[str]]
) -> Iterator[str]:
    if subprotocol is not None:
        yield f"Sec-WebSocket-Protocol: {subprotocol}\r\n"
    if extensions is not None:
        yield f"Sec-WebSocket-Extensions: {extensions}\r\n"
    for name, values in headers.items():
        for value in [values] if isinstance(values, str) else values:
            if _LINE_END.search(f"{name}{value}"):
                raise ValueError(f"a control character in the response header {name!r}")
            yield f"{name}: {value}\r\n"


def _is_usual(request: Request) -> bool:
    """Return whether a request is written as browsers do, so that `_check_http` and `_check_version` accept it."""
    fields = request.fields
    return (
        request.method == "GET"
        and request.version == (1, 1)
        and len(fields) == len(request.headers)
        and fields.get("connection") in _USUAL_CONNECTION
        and fields.get("sec-websocket-version") == "13"
        and "content-length" not in fields
        and "transfer-encoding" not in fields
        and "%" not in request.target
        and "&" not in request.target
    )


def _check_http(request: Request) -> Refusal | None:
    """Check that this is a GET request of HTTP/1.1 or higher without a body (RFC 6455 section 4.2.1, points 1 to 4)."""
    if request.method != "GET":
        reason = f"WebSocket handshake with the method {request.method}; expected GET"
        return Refusal(HTTPStatus.METHOD_NOT_ALLOWED, reason, (("Allow", "GET"),))
    if request.version < (1, 1):
        return bad_request(f"WebSocket handshake in HTTP/1.0; expected HTTP/1.1; if a proxy sent this request, {NGINX}")
    if request.chunked or request.all("content-length") not in ([], ["0"]):
        return bad_request("WebSocket handshake with a body; expected no body")
    if not request.names("connection", "upgrade"):
        return bad_request(f"the Connection header does not contain Upgrade; a proxy may have removed it: {NGINX}")
    if request.path is None:
        return bad_request(f"the path is not UTF-8: {quote(request.raw_path)}")
    if request.query is None:
        return bad_request("the query is not UTF-8 or has more than a thousand parameters")
    return None


def _check_version(request: Request) -> Refusal | None:
    versions = request.all("sec-websocket-version")
    if versions == ["13"]:
        return None
    if not versions:
        return Refusal(HTTPStatus.BAD_REQUEST, "missing Sec-WebSocket-Version header; expected 13", _VERSION)
    # RFC 6455 section 4.2.2, point 4: "an appropriate HTTP error code (such as 426 Upgrade Required)" with the version.
    reason = f"Sec-WebSocket-Version {quote(', '.join(versions))} is not supported; expected 13 (RFC 6455)"
    return Refusal(HTTPStatus.UPGRADE_REQUIRED, reason, (*_VERSION, *_UPGRADE))


def check_origin(origins: Sequence[str], host: str, policy: Policy) -> Refusal | None:
    """
    Check the Origin header (RFC 6455 section 10.2). The same rule applies to WebSocket, event streams and CORS.

    Requests without an Origin are accepted: browsers always send one, and other clients could send any value.

    Args:
        origins: the value of every Origin header of the request.
        host: the value of the request's Host header.
        policy: which origins may connect.

    Returns:
        A 403 refusal that says how to allow the origin, or None if the origin may connect.
    """
    if not origins or policy.any_origin:
        return None
    if len(origins) > 1:
        return forbidden("more than one Origin header", cause="origin")
    origin = origin_of(origins[0])
    if origin is None:
        reason = f"invalid Origin header {quote(origins[0])}; expected an origin such as https://example.com"
        return forbidden(reason, cause="origin")
    if origin in policy.origins or is_own(origin, host) or (policy.loopback_only and is_loopback(origin)):
        return None
    reason = f"origin {quote(origins[0])} is not allowed; {show_origin_option('--origin', origins[0])}"
    return forbidden(reason, cause="origin")


def show_origin_option(option: str, origin: str) -> str:
    """
    Return the part of a refusal that names the option to allow an origin with.

    Args:
        option: the option's name.
        origin: the value of the Origin header.
    """
    if not origin.isascii() or len(origin) > MAX_SHOWN_ORIGIN:
        return f"to allow it, see the server's option {option}"
    return f"to allow it, start the server with {option} {shlex.quote(origin or EMPTY)}"


def _key(request: Request) -> str | Refusal:
    key = request.fields.get("sec-websocket-key")
    if key is None:
        return bad_request("missing Sec-WebSocket-Key header")
    if len(request.all("sec-websocket-key")) > 1:
        return bad_request("more than one Sec-WebSocket-Key header")
    # RFC 6455 section 4.2.1, point 5: "when decoded, is 16 bytes in length".
    return key if _KEY.fullmatch(key) else bad_request("invalid Sec-WebSocket-Key; expected 16 bytes in base64")


def _subprotocols(request: Request) -> tuple[Subprotocol, ...] | Refusal:
    if "sec-websocket-protocol" not in request.fields:
        return ()
    offered = request.tokens("sec-websocket-protocol")
    # RFC 6455 section 4.1, point 10: tokens that "MUST all be unique strings".
    if len(set(offered)) != len(offered) or not all(re.fullmatch(TOKEN, name) for name in offered):
        # The value is not quoted: a page can set no other header of a handshake, so some send their tokens here.
        return bad_request("invalid Sec-WebSocket-Protocol; expected unique subprotocol names")
    return tuple(Subprotocol(name) for name in offered)


def _extensions(request: Request, policy: Policy) -> tuple[Extension, ...] | Refusal:
    """Return the offers that the server can accept, or a refusal if the header violates the grammar."""
    if "sec-websocket-extensions" not in request.fields:
        return ()
    text = ", ".join(request.all("sec-websocket-extensions"))
    if not policy.compression:
        return () if _are_extensions(text) else bad_request(f"invalid Sec-WebSocket-Extensions {quote(text)}")
    offers = parse_extensions(text)
    return (
        tuple(filter(_is_deflate, offers))
        if offers is not None
        else bad_request(f"invalid Sec-WebSocket-Extensions {quote(text)}")
    )


def find_deflate_offers(request: Request) -> tuple[Extension, ...]:
    """Return the offers of permessage-deflate that a server with compression could accept, in the client's order."""
    offers = parse_extensions(", ".join(request.all("sec-websocket-extensions")))
    return tuple(filter(_is_deflate, offers or ()))


@lru_cache(maxsize=64)
def _are_extensions(text: str) -> bool:
    return parse_extensions(text) is not None


def parse_extensions(text: str) -> list[Extension] | None:
    """
    Parse a Sec-WebSocket-Extensions header (RFC 6455 section 9.1).

    Args:
        text: the header's value; several headers joined by commas.

    Returns:
        The extensions in order; None if the text violates the grammar.
    """
    extensions = []
    for item in text.split(","):
        if not item.strip(" \t"):
            continue
        name, *parameters = (part.strip(" \t") for part in item.split(";"))
        if not re.fullmatch(TOKEN, name):
            return None
        values: dict[str, list[str | bool]] = {}
        for parameter in parameters:
            match = _EXTENSION_PARAMETER.fullmatch(parameter)
            if match is None:
                return None
            # RFC 9110 section 5.6.4: replace each quoted pair with its second character.
            quoted = re.sub(r"\\(.)", r"\1", match[3]) if match[3] is not None else None
            # RFC 6455 section 9.1: the value "after quoted-string unescaping MUST conform to the 'token' ABNF".
            if quoted is not None and not re.fullmatch(TOKEN, quoted):
                return None
            values.setdefault(match[1].lower(), []).append(match[2] or quoted or True)
        extensions.append((name.lower(), values))
    return extensions


def _is_deflate(extension: Extension) -> bool:
    """
    Return whether an extension is an offer of permessage-deflate that the server can accept.

    RFC 7692 section 7.1: the server declines an offer with an unknown parameter, a repeated parameter or an invalid
    value, and the handshake continues without it.
    """
    name, parameters = extension
    return name == "permessage-deflate" and all(
        len(values) == 1 and _is_deflate_parameter(key, values[0]) for key, values in parameters.items()
    )


def _is_deflate_parameter(key: str, value: str | bool) -> bool:
    if key in ("server_no_context_takeover", "client_no_context_takeover"):
        return value is True
    if key == "client_max_window_bits" and value is True:
        return True
    # RFC 7692 sections 7.1.2.1 and 7.1.2.2 allow 8 to 15. zlib cannot compress with 8, so the server declines an offer
    # that demands 8 for the server's window.
    low = 9 if key == "server_max_window_bits" else 8
    bits = [str(n) for n in range(low, 16)]
    return key in ("server_max_window_bits", "client_max_window_bits") and value in bits
