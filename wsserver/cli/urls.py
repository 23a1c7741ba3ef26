"""Where a server is that the command line talks to."""

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote_plus, urlsplit

__all__ = ["DEFAULT_URL", "ServerURL", "parse_server_url", "query_of"]

DEFAULT_URL = "http://127.0.0.1:8080"
"""Where a server with default options listens."""


@dataclass(frozen=True, slots=True)
class ServerURL:
    """The parts of `https://host:port/path`."""

    host: str
    port: int
    tls: bool
    path: str
    """What stands before the paths of the server, without a slash at its end: empty but behind a proxy."""

    @property
    def host_header(self) -> str:
        """The host as it stands in a URL or a Host header, without its port (RFC 3986 section 3.2.2)."""
        return f"[{self.host}]" if ":" in self.host else self.host

    def at(self, scheme: str, path: str) -> str:
        """
        Write the URL of a path of the server.

        Args:
            scheme: `http` or `ws`; with TLS an `s` is put behind it.
            path: begins with a slash.
        """
        return f"{scheme}{'s' if self.tls else ''}://{self.host_header}:{self.port}{self.path}{path}"


def parse_server_url(text: str) -> ServerURL:
    """
    Read the URL of a server.

    Args:
        text: `http://`, `https://`, `ws://` or `wss://`; then a host, perhaps a port and the path of a proxy.

    Returns:
        Its parts.

    Raises:
        ValueError: it is no such URL; the message says what was expected.
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
    # What would be left out without a word is refused; and the text goes into a request as it is.
    if parts.query or parts.fragment or port == 0 or not (text.isascii() and text.isprintable()) or " " in text:
        raise expected
    return ServerURL(parts.hostname, port or (443 if tls else 80), tls, parts.path.rstrip("/"))


def query_of(channels: Iterable[str], **parameters: str) -> str:
    """
    Write a query.

    Args:
        channels: as many `channel=`.
        parameters: what follows; empty ones are left out.
    """
    pairs = [("channel", name) for name in channels] + [pair for pair in parameters.items() if pair[1]]
    # What is no UTF-8 on the command line is none in the query either; the server says so.
    return "&".join(f"{name}={quote_plus(value, errors='surrogateescape')}" for name, value in pairs)
