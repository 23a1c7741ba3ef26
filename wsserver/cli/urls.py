"""URLs of servers: the `--url` option, and the WebSocket URL that `bench` and `doctor` connect to."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import quote_plus, urlsplit

__all__ = ["DEFAULT_URL", "ServerURL", "Target", "parse_server_url", "parse_websocket_url", "query_of"]

DEFAULT_URL = "http://127.0.0.1:8080"
"""The URL of a server that runs with default options."""


@dataclass(frozen=True, slots=True)
class ServerURL:
    """The parts of `https://host:port/path`."""

    host: str
    port: int
    tls: bool
    path: str
    """Prefix that a proxy puts before the server's paths, without a trailing slash; empty without one."""

    @property
    def host_header(self) -> str:
        """The host, as URLs and Host headers write it before the port: IPv6 in brackets (RFC 3986 section 3.2.2)."""
        return f"[{self.host}]" if ":" in self.host else self.host

    def at(self, scheme: str, path: str) -> str:
        """
        Return the URL of a path on the server.

        Args:
            scheme: `http` or `ws`; with TLS, an `s` is appended.
            path: the path, which begins with a slash.
        """
        return f"{scheme}{'s' if self.tls else ''}://{self.host_header}:{self.port}{self.path}{path}"


@dataclass(frozen=True, slots=True)
class Target:
    """The parts of a WebSocket URL."""

    host: str
    port: int
    tls: bool
    path: str
    """The path with the query."""
    host_header: str

    @property
    def origin(self) -> str:
        """The origin of a page on the same server, as a browser sends it."""
        return f"http{'s' if self.tls else ''}://{self.host_header.removesuffix(':443' if self.tls else ':80')}"


def parse_server_url(text: str) -> ServerURL:
    """
    Parse the URL of a server.

    Args:
        text: `http://`, `https://`, `ws://` or `wss://`, followed by a host and optionally a port and a path prefix.

    Returns:
        The parts of the URL.

    Raises:
        ValueError: the URL is invalid; the message says what was expected.
    """
    expected = ValueError(f"expected a URL such as {DEFAULT_URL} or wss://example.com")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise expected from None
    tls = parts.scheme in ("https", "wss")
    if parts.scheme not in ("http", "https", "ws", "wss") or not parts.hostname or parts.username is not None:
        raise expected
    # Reject parts that would be ignored silently, and characters that must not appear in a request head.
    if parts.query or parts.fragment or port == 0 or not (text.isascii() and text.isprintable()) or " " in text:
        raise expected
    return ServerURL(parts.hostname, port or (443 if tls else 80), tls, parts.path.rstrip("/"))


def parse_websocket_url(text: str, *, pages: bool = False) -> Target:
    """
    Parse a WebSocket URL (RFC 6455 section 3).

    Args:
        text: the URL.
        pages: whether `http:` stands for `ws:`, and `https:` for `wss:`.

    Raises:
        ValueError: the URL is invalid; the message says what was expected.
    """
    expected = ValueError("expected a URL such as ws://127.0.0.1:8080/echo")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise expected from None
    schemes = ("ws", "wss", "http", "https") if pages else ("ws", "wss")
    if parts.scheme not in schemes or not parts.hostname or parts.username is not None or port == 0:
        raise expected
    if parts.fragment or not (text.isascii() and text.isprintable()) or " " in text:
        raise expected
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    tls = parts.scheme in ("wss", "https")
    return Target(parts.hostname, port or (443 if tls else 80), tls, path, parts.netloc)


def query_of(channels: Iterable[str], **parameters: str | Sequence[str]) -> str:
    """
    Build the query of a subscription URL.

    Args:
        channels: channel names; each becomes a `channel=` parameter.
        parameters: further parameters; those with an empty value are left out, and those with a list are repeated.
    """
    pairs = [("channel", name) for name in channels]
    for name, values in parameters.items():
        pairs += [(name, value) for value in ([values] if isinstance(values, str) else values) if value]
    # Bytes on the command line that are not UTF-8 are sent as they are; the server reports them.
    return "&".join(f"{name}={quote_plus(value, errors='surrogateescape')}" for name, value in pairs)
