"""
The head of an HTTP request: bytes to a value.

Rule 1: no Twisted, no clock, no socket.
Rule 2: a refusal is a value, not an exception: a peer's mistake is an ordinary day.
Rule 3: stricter than RFC 9112 where its leniency has been used in attacks: one spelling a request, or 400.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from http import HTTPStatus
from typing import cast
from urllib.parse import parse_qs, unquote_to_bytes

from wsserver.text import quote
from wsserver.typing import Path

__all__ = [
    "MAX_BODY",
    "MAX_HEAD",
    "MAX_HEADERS",
    "Refusal",
    "Request",
    "check_length",
    "forbidden",
    "make",
    "parse",
    "parse_parameters",
    "unavailable",
]

# Precedents: node.js 16 KiB, nginx 4 x 8 KiB, Apache 8 KiB a line and 100 headers, websockets 8 KiB a line and 128.
MAX_HEAD = 16 * 1024
"""Most bytes of a request line with all headers."""

MAX_HEADERS = 128
"""Most header lines of a request."""

MAX_BODY = 64 * 1024
"""Most bytes of a request body."""

MAX_KEPT = 1024
"""Header lines kept with what they mean: browsers send the same ones with every request."""

LONGEST_KEPT = 256
"""Most bytes of a line that is kept."""

_KEPT_NAMES = re.compile(
    r"host|connection|upgrade|user-agent|accept|accept-encoding|accept-language|cache-control|pragma|origin"
    r"|sec-websocket-(?:version|extensions)|sec-fetch-[a-z]+|sec-ch-[a-z-]+"
)
"""Names of headers whose lines are kept: no secrets, and the same with every request of a browser."""

Header = tuple[str, str]

_REQUEST_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}) ([^ ]+) HTTP/([0-9])\.([0-9])")
_TARGET = re.compile(rb"[\x21-\x7e]+")
_FIELD_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# RFC 9110 section 5.5: CR, LF and NUL are invalid, other controls have no place in a value, and 0x80-0xFF (obs-text) is
# opaque: 0x85 is half of the UTF-8 of "Å". Nothing of ours may split a value with str.splitlines(), which ends a line
# at 0x85 and 0x1c-0x1e of Latin-1 (CVE-2026-44546).
_BAD_VALUE_BYTE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
# RFC 3986 section 3.2.2 without userinfo; a port may be empty (RFC 9110 section 7.2).
_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9\-._~!$&'()*+,;=%]+)(?::(?P<port>[0-9]{0,5}))?")


def _quote_target(target: bytes | str) -> str:
    """Quote a request target, or a line with one, without its user, query and fragment: these may hold secrets."""
    text = target if isinstance(target, str) else target.decode("latin-1")
    text = re.sub(r"(?<=[?#]).+", "...", text, count=1, flags=re.DOTALL)
    return quote(re.sub(r"//[^/?# ]*@", "//...@", text))


def _quote_host(host: str) -> str:
    """Quote a host and port without a user and a password before it."""
    return quote(f"...@{host.rpartition('@')[2]}" if "@" in host else host)


def _quote_name(name: bytes) -> str:
    """Quote an invalid header name up to its first invalid byte: behind that a folded value may stand."""
    valid = _FIELD_NAME.match(name)
    rest = name[valid.end() if valid else 0 :]
    return quote((valid[0].decode("ascii") if valid else "") + rest[:1].decode("latin-1") + ("..." if rest[1:] else ""))


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


def unavailable(reason: str, seconds: int = 1) -> Refusal:
    """
    Refuse for now: 503.

    Args:
        reason: one sentence.
        seconds: after which the client may come again.
    """
    return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, reason, (("Retry-After", str(seconds)),))


def forbidden(reason: str) -> Refusal:
    """
    Refuse with 403.

    Args:
        reason: one sentence.
    """
    return Refusal(HTTPStatus.FORBIDDEN, reason)


def _bad(reason: str) -> Refusal:
    return Refusal(HTTPStatus.BAD_REQUEST, reason)


@dataclass(frozen=True)
class Request:
    """The head of a request that follows the rules of HTTP/1.1."""

    method: str
    target: str
    """The request target in origin form, still percent-encoded: `/ticker?every=1s`."""
    version: tuple[int, int]
    headers: tuple[Header, ...] = field(repr=False)
    """Names in lower case, in the order they came; values decoded as Latin-1 (RFC 9110 section 5.5)."""
    content_length: int
    """Bytes of the body that follows the head; 0 for a chunked one."""
    _last: dict[str, str] | None = field(default=None, repr=False, compare=False)
    """Name -> value, the last one's where several have the name. Made from the headers where it is not given."""

    def __post_init__(self) -> None:
        if self._last is None:
            object.__setattr__(self, "_last", dict(self.headers))

    @property
    def chunked(self) -> bool:
        """Whether a chunked body follows the head (RFC 9112 section 7.1); no other transfer coding is accepted."""
        assert self._last is not None
        return "transfer-encoding" in self._last

    def with_length(self, length: int) -> "Request":
        """
        Return the request as if its body had come with a Content-Length.

        Args:
            length: of the decoded body, in bytes.
        """
        # RFC 9112 section 7.1.3: without Transfer-Encoding, and without the Trailer whose fields are dropped.
        kept = [header for header in self.headers if header[0] not in ("transfer-encoding", "trailer")]
        headers = (*kept, ("content-length", str(length)))
        return replace(self, headers=headers, content_length=length, _last=None)

    def encode(self, without: str = "") -> bytes:
        """
        Write the head as `parse` reads it.

        Args:
            without: the name of a header to leave out.
        """
        headers = [header for header in self.headers if header[0] != without] if without else self.headers
        major, minor = self.version
        line = f"{self.method} {self.target} HTTP/{major}.{minor}"
        return ("\r\n".join([line, *map(":".join, headers)]) + "\r\n").encode("latin-1")

    def all(self, name: str) -> list[str]:
        """Return every value of a header, in order."""
        assert self._last is not None
        return _all(self.headers, self._last, name)

    def tokens(self, name: str) -> list[str]:
        """Return the comma-separated elements of a header (RFC 9110 section 5.6.1), without the empty ones."""
        return [token for value in self.all(name) for item in value.split(",") if (token := item.strip(" \t"))]

    def names(self, name: str, token: str) -> bool:
        """
        Tell whether a header of comma-separated elements names one.

        Args:
            name: the header's.
            token: the element, in lower case; the header's case does not matter.
        """
        assert self._last is not None
        value = self._last.get(name)
        if value is None:
            return False
        return value.lower() == token or any(item.lower() == token for item in self.tokens(name))

    @property
    def host(self) -> str:
        """The Host header: `example.com:8080`; empty where HTTP/1.0 sent none."""
        return next(iter(self.all("host")), "")

    @property
    def wants_websocket(self) -> bool:
        """Whether it asks for an upgrade to WebSocket, rightly or not."""
        return self.names("upgrade", "websocket")

    @property
    def raw_path(self) -> str:
        """The path, still percent-encoded."""
        return self.target.partition("?")[0]

    @property
    def path(self) -> Path | None:
        """The path, percent-decoded; None where that is not UTF-8."""
        return _decode_path(self.raw_path)

    @property
    def query(self) -> dict[str, list[str]] | None:
        """The query's parameters; None where they are not UTF-8 or more than a thousand."""
        return parse_parameters(self.target.partition("?")[2])


def parse_parameters(query: str) -> dict[str, list[str]] | None:
    """
    Read the parameters of a query.

    Args:
        query: what follows the question mark, percent-encoded.

    Returns:
        Name -> values in order; None where they are not UTF-8 or more than a thousand.
    """
    if not query:
        return {}
    try:
        return parse_qs(query, keep_blank_values=True, errors="strict", max_num_fields=1000)
    except ValueError:
        return None


def _all(headers: tuple[Header, ...], last: dict[str, str], name: str) -> list[str]:
    value = last.get(name)
    if value is None:
        return []
    if len(last) == len(headers):
        return [value]
    return [value for key, value in headers if key == name]


@lru_cache(maxsize=128)
def _decode_path(raw_path: str) -> Path | None:
    try:
        return Path(unquote_to_bytes(raw_path).decode("utf-8"))
    except UnicodeDecodeError:
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
        return _bad(f"not an HTTP request line: {_quote_target(line)}")
    version = int(match[3]), int(match[4])
    headers = [_kept.get(line) or _read_line(line) for line in lines]
    if None not in headers:
        return _assemble(match[1], match[2], version, cast(tuple[Header, ...], tuple(headers)))
    fields = []
    for number, line in enumerate(lines, 1):
        name, colon, value = line.partition(b":")
        if not colon:
            # Not quoted: the line may be the second half of a folded Authorization or Cookie.
            return _bad(f"header line {number} has no colon")
        fields.append((name, value))
    return make(match[1], match[2], version, fields)


_kept: dict[bytes, Header] = {}


def _read_line(line: bytes) -> Header | None:
    """Read a header line; None where there is something wrong with it, what that is being found out elsewhere."""
    name, colon, value = line.partition(b":")
    if not colon or not _FIELD_NAME.fullmatch(name) or _BAD_VALUE_BYTE.search(value):
        return None
    header = name.decode("ascii").lower(), value.decode("latin-1").strip(" \t")
    if len(line) <= LONGEST_KEPT and _KEPT_NAMES.fullmatch(header[0]):
        # Whoever sends ever new lines makes this no slower than it would be without.
        if len(_kept) >= MAX_KEPT:
            _kept.clear()
        _kept[line] = header
    return header


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
    return _assemble(method, target, version, _headers(fields))


def _assemble(
    method: bytes, target: bytes, version: tuple[int, int], headers: tuple[Header, ...] | Refusal
) -> Request | Refusal:
    if version[0] != 1:
        return Refusal(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "this server speaks HTTP/1.1")
    if isinstance(headers, Refusal):
        return headers
    if len(headers) > MAX_HEADERS:
        reason = f"{len(headers)} header lines; at most {MAX_HEADERS} are taken"
        return Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, reason)
    last = dict(headers)
    host = _host(_all(headers, last, "host"), version)
    if isinstance(host, Refusal):
        return host
    length = _content_length(_all(headers, last, "content-length"), _all(headers, last, "transfer-encoding"), version)
    if isinstance(length, Refusal):
        return length
    if not _TARGET.fullmatch(target):
        return _bad(f"not a request target: {_quote_target(target)}")
    origin_form = _origin_form(target.decode("ascii"), host)
    if isinstance(origin_form, Refusal):
        return origin_form
    return Request(method.decode("ascii"), origin_form, version, headers, length, last)


def _headers(fields: Iterable[tuple[bytes, bytes]]) -> tuple[Header, ...] | Refusal:
    headers = []
    for name, value in fields:
        # RFC 9112 section 5.1: no white space before the colon; section 5.2: a folded line is refused with 400.
        if not _FIELD_NAME.fullmatch(name):
            return _bad(f"not a header name: {_quote_name(name)}")
        if bad := _BAD_VALUE_BYTE.search(value):
            # The value may be a secret (CWE-532).
            return _bad(f"control character 0x{bad[0][0]:02x} in the header {name.decode('ascii')}")
        headers.append((name.decode("ascii").lower(), value.decode("latin-1").strip(" \t")))
    return tuple(headers)


def _host(hosts: list[str], version: tuple[int, int]) -> str | Refusal:
    # RFC 9112 section 3.2: 400 to any HTTP/1.1 request without Host, with more than one, or with an invalid one.
    if len(hosts) > 1:
        return _bad("more than one Host header")
    if not hosts:
        return "" if version == (1, 0) else _bad("no Host header")
    if not _HOST.fullmatch(hosts[0]):
        return _bad(f"not a Host: {_quote_host(hosts[0])}")
    return hosts[0]


def _content_length(lengths: list[str], codings: list[str], version: tuple[int, int]) -> int | Refusal:
    # Two lengths, or a length and a coding, are how requests are smuggled (RFC 9112 section 11.2).
    if codings:
        if lengths:
            return _bad("both Content-Length and Transfer-Encoding")
        return _check_codings(codings, version) or 0
    if not lengths:
        return 0
    if len(lengths) > 1 or not re.fullmatch(r"[0-9]{1,18}", lengths[0]):
        return _bad(f"not one Content-Length: {quote(', '.join(lengths))}")
    return int(lengths[0])


def check_length(request: Request) -> Refusal | None:
    """
    Check the declared length of a body.

    Not a part of `parse`: the refusal depends on who asks, as pages of other origins need headers to read it.

    Returns:
        A 413 refusal if the body is over `MAX_BODY`, else None.
    """
    if request.content_length <= MAX_BODY:
        return None
    reason = f"a body of {request.content_length} bytes; at most {MAX_BODY} are accepted"
    return Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, reason)


def _check_codings(codings: list[str], version: tuple[int, int]) -> Refusal | None:
    """Refuse every Transfer-Encoding but exactly `chunked` (RFC 9112 sections 6.1 and 6.3)."""
    if version == (1, 0):
        return _bad("Transfer-Encoding in an HTTP/1.0 request")
    names = [name.strip(" \t").lower() for value in codings for name in value.split(",")]
    if names == ["chunked"]:
        return None
    if len(codings) > 1 or names[-1] != "chunked" or names.count("chunked") > 1 or "" in names:
        return _bad(f"Transfer-Encoding is {quote(', '.join(codings))}; expected chunked")
    reason = f"Transfer-Encoding {quote(codings[0])} is not supported, only chunked is"
    return Refusal(HTTPStatus.NOT_IMPLEMENTED, reason)


def _origin_form(target: str, host: str) -> str | Refusal:
    if target.startswith("/"):
        return target if "#" not in target else _bad(f"a fragment in the request target: {_quote_target(target)}")
    match = re.fullmatch(r"(?i:https?|wss?)://([^/?#]+)([/?][^#]*)?", target)
    if match is None:
        return _bad(f"not a request target: {_quote_target(target)}")
    if match[1].lower() != host.lower():
        return _bad(f"the target is for {_quote_host(match[1])}, the Host header says {quote(host)}")
    rest = match[2] or "/"
    return rest if rest.startswith("/") else "/" + rest
