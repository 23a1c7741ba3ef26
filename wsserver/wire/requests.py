"""
The head of an HTTP request: bytes to a value.

Rule 1: no Twisted, no clock, no socket.
Rule 2: a refusal is a value, not an exception: a peer's mistake is an ordinary day.
Rule 3: stricter than RFC 9112 where its leniency has been used in attacks: one spelling a request, or 400.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from urllib.parse import parse_qs, unquote_to_bytes

from wsserver.typing import Path

__all__ = ["MAX_BODY", "MAX_HEAD", "MAX_HEADERS", "Refusal", "Request", "make", "parse", "quote"]

# Precedents: node.js 16 KiB, nginx 4 x 8 KiB, Apache 8 KiB a line and 100 headers, websockets 8 KiB a line and 128.
MAX_HEAD = 16 * 1024
"""Most bytes of a request line with all headers."""

MAX_HEADERS = 128
"""Most header lines of a request."""

MAX_BODY = 64 * 1024
"""Most bytes of a request body."""

_REQUEST_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}) ([^ ]+) HTTP/([0-9])\.([0-9])")
_TARGET = re.compile(rb"[\x21-\x7e]+")
_FIELD_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# RFC 9110 section 5.5 forbids CR, LF and NUL. The other controls, 0x1c-0x1e and 0x85 among them, are refused because
# str.splitlines(), which Python programs behind us may use on a header, ends a line at them (CVE-2026-44546).
_BAD_VALUE_BYTE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f\x85]")
# RFC 3986 section 3.2.2 without userinfo; a port may be empty (RFC 9110 section 7.2).
_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9\-._~!$&'()*+,;=%]+)(?::(?P<port>[0-9]{0,5}))?")


def quote(text: str, limit: int = 80) -> str:
    """
    Quote what a peer sent, for a person: control characters escaped, shortened.

    Args:
        text: what the peer sent.
        limit: most characters to show.
    """
    return ascii(text if len(text) <= limit else text[: limit - 3] + "...")


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that is not served, ready to be sent as an HTTP response."""

    status: HTTPStatus
    reason: str
    """One sentence for whoever debugs the client; quotes what the peer sent."""
    headers: tuple[tuple[str, str], ...] = ()
    """Headers that the status calls for, e.g. `Allow`."""

    @property
    def body(self) -> bytes:
        """The response's body, UTF-8 text."""
        return f"{self.status.value} {self.status.phrase}\n{self.reason}\n".encode()

    def response(self) -> bytes:
        """Write the whole HTTP response; the connection ends with it (RFC 9112 section 9.6)."""
        body = self.body
        headers = (
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Length", str(len(body))),
            ("X-Content-Type-Options", "nosniff"),
            ("Cache-Control", "no-store"),
            *self.headers,
        )
        connection = "" if any(name == "Connection" for name, _ in self.headers) else "Connection: close\r\n"
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
        return f"HTTP/1.1 {self.status.value} {self.status.phrase}\r\n{lines}{connection}\r\n".encode("latin-1") + body


def _bad(reason: str) -> Refusal:
    return Refusal(HTTPStatus.BAD_REQUEST, reason)


@dataclass(frozen=True)
class Request:
    """The head of a request that follows the rules of HTTP/1.1."""

    method: str
    target: str
    """The request target in origin form, still percent-encoded: `/ticker?every=1s`."""
    version: tuple[int, int]
    headers: tuple[tuple[str, str], ...]
    """Names in lower case, in the order they came; values decoded as Latin-1 (RFC 9110 section 5.5)."""
    content_length: int
    """Bytes of the body that follows the head."""

    def encode(self, without: str = "") -> bytes:
        """
        Write the head as `parse` reads it.

        Args:
            without: the name of a header to leave out.
        """
        lines = "".join(f"{name}: {value}\r\n" for name, value in self.headers if name != without)
        major, minor = self.version
        return f"{self.method} {self.target} HTTP/{major}.{minor}\r\n{lines}".encode("latin-1")

    def all(self, name: str) -> list[str]:
        """Return every value of a header, in order."""
        return [value for key, value in self.headers if key == name]

    def tokens(self, name: str) -> list[str]:
        """Return the comma-separated elements of a header (RFC 9110 section 5.6.1), without the empty ones."""
        return [token for value in self.all(name) for item in value.split(",") if (token := item.strip(" \t"))]

    @property
    def host(self) -> str:
        """The Host header: `example.com:8080`; empty where HTTP/1.0 sent none."""
        return next(iter(self.all("host")), "")

    @property
    def wants_websocket(self) -> bool:
        """Whether it asks for an upgrade to WebSocket, rightly or not."""
        return any(token.lower() == "websocket" for token in self.tokens("upgrade"))

    @property
    def raw_path(self) -> str:
        """The path, still percent-encoded."""
        return self.target.partition("?")[0]

    @cached_property
    def path(self) -> Path | None:
        """The path, percent-decoded; None where that is not UTF-8."""
        try:
            return Path(unquote_to_bytes(self.raw_path).decode("utf-8"))
        except UnicodeDecodeError:
            return None

    @cached_property
    def query(self) -> dict[str, list[str]] | None:
        """The query's parameters; None where they are not UTF-8 or more than a thousand."""
        try:
            query = self.target.partition("?")[2]
            return parse_qs(query, keep_blank_values=True, errors="strict", max_num_fields=1000)
        except ValueError:
            return None


def parse(head: bytes) -> Request | Refusal:
    """
    Read a request head.

    Args:
        head: the request line and all header lines, each ended by CRLF, without the empty line after them.

    Returns:
        The request, or why it is refused.
    """
    if len(head) > MAX_HEAD:
        return Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"the request head is over {MAX_HEAD} bytes")
    line, *lines = head.removesuffix(b"\r\n").split(b"\r\n")
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        return _bad(f"not an HTTP request line: {quote(line.decode('latin-1'))}")
    fields = []
    for field in lines:
        name, colon, value = field.partition(b":")
        if not colon:
            return _bad(f"a header line without a colon: {quote(field.decode('latin-1'))}")
        fields.append((name, value))
    return make(match[1], match[2], (int(match[3]), int(match[4])), fields)


def make(
    method: bytes, target: bytes, version: tuple[int, int], fields: Iterable[tuple[bytes, bytes]]
) -> Request | Refusal:
    """
    Check the parts of a request head and put them together.

    Args:
        method: e.g. `b"GET"`.
        target: the request target, in origin or absolute form (RFC 9112 section 3.2).
        version: of HTTP, e.g. `(1, 1)`.
        fields: header names and values as they came.

    Returns:
        The request, or why it is refused.
    """
    if version[0] != 1:
        return Refusal(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "this server speaks HTTP/1.1")
    headers = _headers(fields)
    if isinstance(headers, Refusal):
        return headers
    host = _host(headers, version)
    if isinstance(host, Refusal):
        return host
    length = _content_length(headers)
    if isinstance(length, Refusal):
        return length
    if not _TARGET.fullmatch(target):
        return _bad(f"not a request target: {quote(target.decode('latin-1'))}")
    origin_form = _origin_form(target.decode("ascii"), host)
    if isinstance(origin_form, Refusal):
        return origin_form
    return Request(method.decode("ascii"), origin_form, version, headers, length)


def _headers(fields: Iterable[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...] | Refusal:
    headers = []
    for name, value in fields:
        # RFC 9112 section 5.1: no white space before the colon; section 5.2: a folded line is refused with 400.
        if not _FIELD_NAME.fullmatch(name):
            return _bad(f"not a header name: {quote(name.decode('latin-1'))}")
        if _BAD_VALUE_BYTE.search(value):
            return _bad(f"a control character in the header {name.decode('ascii')}: {quote(value.decode('latin-1'))}")
        headers.append((name.decode("ascii").lower(), value.decode("latin-1").strip(" \t")))
    if len(headers) > MAX_HEADERS:
        reason = f"{len(headers)} header lines; at most {MAX_HEADERS} are taken"
        return Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, reason)
    return tuple(headers)


def _host(headers: tuple[tuple[str, str], ...], version: tuple[int, int]) -> str | Refusal:
    # RFC 9112 section 3.2: 400 to any HTTP/1.1 request without Host, with more than one, or with an invalid one.
    hosts = [value for name, value in headers if name == "host"]
    if len(hosts) > 1:
        return _bad("more than one Host header")
    if not hosts:
        return "" if version == (1, 0) else _bad("no Host header")
    if not _HOST.fullmatch(hosts[0]):
        return _bad(f"not a Host: {quote(hosts[0])}")
    return hosts[0]


def _content_length(headers: tuple[tuple[str, str], ...]) -> int | Refusal:
    lengths = [value for name, value in headers if name == "content-length"]
    # Two lengths, or a length and a coding, are how requests are smuggled (RFC 9112 section 11.2).
    if any(name == "transfer-encoding" for name, _ in headers):
        if lengths:
            return _bad("both Content-Length and Transfer-Encoding")
        return Refusal(
            HTTPStatus.LENGTH_REQUIRED, "send the body with a Content-Length; Transfer-Encoding is not taken"
        )
    if not lengths:
        return 0
    if len(lengths) > 1 or not re.fullmatch(r"[0-9]{1,18}", lengths[0]):
        return _bad(f"not one Content-Length: {quote(', '.join(lengths))}")
    if int(lengths[0]) > MAX_BODY:
        reason = f"a body of {int(lengths[0])} bytes; at most {MAX_BODY} are taken"
        return Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, reason)
    return int(lengths[0])


def _origin_form(target: str, host: str) -> str | Refusal:
    if target.startswith("/"):
        return target if "#" not in target else _bad(f"a fragment in the request target: {quote(target)}")
    match = re.fullmatch(r"(?i:https?|wss?)://([^/?#]+)([/?][^#]*)?", target)
    if match is None:
        return _bad(f"not a request target: {quote(target)}")
    if match[1].lower() != host.lower():
        return _bad(f"the target is for {quote(match[1])}, the Host header says {quote(host)}")
    rest = match[2] or "/"
    return rest if rest.startswith("/") else "/" + rest
