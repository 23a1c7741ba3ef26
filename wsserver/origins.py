"""
Origins (RFC 6454): the scheme, host and port of a page, which a browser sends in the Origin header.

This module parses and classifies origins; `wsserver.wire.handshake` decides which of them may connect.
"""

import ipaddress
import re
from functools import lru_cache
from typing import Final

from wsserver.text import quote
from wsserver.typing import Origin

__all__ = ["EMPTY", "allowed_origin", "describe_host", "is_loopback", "is_loopback_host", "is_own", "origin_of"]

EMPTY: Final = "empty"
"""The word in options for an Origin header without a value."""

_ORIGIN: Final = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.\-]*)://(?P<host>\[[0-9a-f:.]+\]|[^\s/?#@\[\]:\\]+)(?::(?P<port>[0-9]{1,5}))?"
)
# Clients other than browsers send origins without a host: WebViews and libraries of microcontrollers send `file://`.
_WITHOUT_HOST: Final = re.compile(r"(?!https?:|wss?:)([a-z][a-z0-9+.\-]*)://(/?)")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}


# Cached, here and below: pages of a few origins open nearly all connections.
@lru_cache(maxsize=64)
def origin_of(text: str) -> Origin | None:
    """
    Parse an origin and normalize it (RFC 6454 sections 4 and 6.2).

    Args:
        text: the value of an Origin header: a scheme, a host and optionally a port, such as `https://example.com`; a
            scheme without a host, such as `file://`; `null`; or an empty text.

    Returns:
        The origin in lower case and with its port, or None if the text is not an origin.
    """
    text = text.lower()
    if text in ("null", ""):
        return Origin(text)
    if without_host := _WITHOUT_HOST.fullmatch(text):
        return Origin(f"{without_host[1]}://:")
    match = _ORIGIN.fullmatch(text)
    if match is None:
        return None
    port = match["port"] or _DEFAULT_PORTS.get(match["scheme"], "")
    return Origin(f"{match['scheme']}://{match['host']}:{int(port) if port else ''}")


def allowed_origin(text: str) -> Origin | None:
    """
    Parse the value of an option that names an allowed origin.

    Args:
        text: an origin as for `origin_of`, or `empty` for an Origin header without a value.

    Returns:
        The origin, or None if the text is not an origin.
    """
    return Origin("") if text.lower() == EMPTY else origin_of(text)


def _split(origin: Origin) -> tuple[str, str, str]:
    scheme, _, rest = origin.partition("://")
    host, _, port = rest.rpartition(":")
    return scheme, host, port


@lru_cache(maxsize=64)
def is_own(origin: Origin, host: str) -> bool:
    """
    Return whether an origin has the server's own host and port.

    Args:
        origin: an origin as returned by `origin_of`.
        host: the Host header of the same request.
    """
    # The scheme is not compared: behind a proxy that terminates TLS, the page is https, but the handshake is http.
    scheme, name, port = _split(origin)
    match = re.fullmatch(r"(.*?)(?::([0-9]*))?", host.lower())
    assert match is not None
    return scheme in ("http", "https") and name == match[1] and port == (match[2] or str(_DEFAULT_PORTS[scheme]))


def is_loopback(origin: Origin) -> bool:
    """
    Return whether the host of an http or https origin is a loopback address or name.

    Args:
        origin: an origin as returned by `origin_of`.
    """
    scheme, name, _ = _split(origin)
    if scheme not in ("http", "https"):
        return False
    # RFC 6761 section 6.3: `localhost` and names that end with `.localhost` are always loopback.
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def is_loopback_host(host: str) -> bool:
    """
    Return whether a client reached the server by a loopback address or name.

    Args:
        host: the Host header of the client's request.
    """
    origin = origin_of(f"http://{host}")
    return origin is not None and is_loopback(origin)


def describe_host(host: str) -> str:
    """
    Return how a client that is not local has reached the server, for a message.

    Args:
        host: the Host header of the client's request; empty if a proxy has forwarded the request.
    """
    return f"for host {quote(host)}" if host else "through a proxy or without a Host header"
