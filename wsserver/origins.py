"""
Origins (RFC 6454): where a page comes from, as a browser names it.

This module only says what an origin is; which ones may connect is decided in `wsserver.wire.handshake`.
"""

import ipaddress
import re
from functools import lru_cache
from typing import Final

from wsserver.typing import Origin

__all__ = ["EMPTY", "allowed_origin", "is_loopback", "is_own", "origin_of"]

EMPTY: Final = "empty"
"""How an operator names the origin of clients that send `Origin:` without a value."""

_ORIGIN: Final = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.\-]*)://(?P<host>\[[0-9a-f:.]+\]|[^\s/?#@\[\]:\\]+)(?::(?P<port>[0-9]{1,5}))?"
)
# Outside the web an origin may have no host: WebViews and the WebSocket libraries of microcontrollers send `file://`.
_WITHOUT_HOST: Final = re.compile(r"(?!https?:|wss?:)([a-z][a-z0-9+.\-]*)://(/?)")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}


# Kept, here and below: the pages of few origins make nearly all connections.
@lru_cache(maxsize=64)
def origin_of(text: str) -> Origin | None:
    """
    Bring an origin into its one spelling (RFC 6454 sections 4 and 6.2).

    Args:
        text: the value of an Origin header: a scheme, host and perhaps port, such as `https://example.com`; a scheme
            without a host, such as `file://`; `null`; or nothing.

    Returns:
        The origin with its port, or None if the text is not an origin.
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
    Return the origin that an operator names.

    Args:
        text: as `origin_of` takes it, or `empty` for an Origin header without a value.

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
    Tell whether an origin is that of the server itself.

    Args:
        origin: as `origin_of` spells it.
        host: the Host header that came with it.
    """
    # The scheme is left out: behind a proxy that ends TLS the page came by https and the handshake comes by http.
    scheme, name, port = _split(origin)
    match = re.fullmatch(r"(.*?)(?::([0-9]*))?", host.lower())
    assert match is not None
    return scheme in ("http", "https") and name == match[1] and port == (match[2] or str(_DEFAULT_PORTS[scheme]))


def is_loopback(origin: Origin) -> bool:
    """
    Tell whether an origin is of this machine.

    Args:
        origin: as `origin_of` spells it.
    """
    scheme, name, _ = _split(origin)
    if scheme not in ("http", "https"):
        return False
    # RFC 6761 section 6.3: localhost and the names under it are always this machine.
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
