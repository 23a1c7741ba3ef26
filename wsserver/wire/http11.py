"""
HTTP/1.1 request heads: parse and check them (RFC 9112).

This module does not use Twisted, a clock or a socket. A refusal is a return value, not an exception, because clients
send bad requests all the time.

The parser is stricter than RFC 9112 where lenient parsing has been used in attacks: it accepts only one way to write a
request, and refuses all others with 400.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import cast
from urllib.parse import parse_qs, unquote_to_bytes

import msgspec

from wsserver.text import TOKEN_BYTES, TOKEN_CHARACTER, quote
from wsserver.typing import Header, Path
from wsserver.wire.frames import COMPILED, SPEEDUPS

__all__ = [
    "FORWARDING_HEADERS",
    "MAX_BODY",
    "MAX_HEAD",
    "MAX_HEADERS",
    "METHOD_START",
    "Refusal",
    "Request",
    "bad_request",
    "body_too_large",
    "check_length",
    "forbidden",
    "head_too_large",
    "make",
    "parse",
    "parse_parameters",
    "unavailable",
    "write_last_response",
]

MAX_HEAD = 16 * 1024
"""Maximum size of the request line with all headers, in bytes; the default of `--max-request-head`."""

MAX_HEADERS = 128
"""Maximum number of header lines of a request."""

MAX_BODY = 64 * 1024
"""Maximum size of a request body, in bytes; the default of `--max-request-body`."""

FORWARDING_HEADERS = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip")
"""Headers that proxies add to the requests that they forward, in lower case. A request with one is not local."""

MAX_KEPT = 1024
"""Maximum number of header lines in the cache of parsed lines. Browsers send the same lines with every request."""

_MAX_NAME = 256
"""Maximum size of a header name that `split_head` reads, in bytes; longer names are read in another way."""

LONGEST_KEPT = 256
"""Maximum size of a cached header line, in bytes."""

_KEPT_NAMES = re.compile(
    r"host|connection|upgrade|user-agent|accept|accept-encoding|accept-language|cache-control|pragma|origin"
    r"|sec-websocket-(?:version|extensions)|sec-fetch-[a-z]+|sec-ch-[a-z-]+"
)
"""Names of headers whose lines are cached: they hold no secrets, and are the same in every request of a browser."""

_METHOD = TOKEN_CHARACTER.encode("ascii") + rb"{1,32}"
_REQUEST_LINE = re.compile(rb"(" + _METHOD + rb") ([^ ]+) HTTP/([0-9])\.([0-9])")
_TARGET = re.compile(rb"[\x21-\x7e]+")
_FIELD_NAME = re.compile(TOKEN_BYTES)
METHOD_START = re.compile(_METHOD + rb"( |\Z)")
"""Matches the first bytes of a request: a method, and the space after it if it has arrived (RFC 9112 section 3)."""

# RFC 9110 section 5.5: CR, LF and NUL are invalid, other control characters do not belong in a value, and 0x80-0xFF
# (obs-text) is opaque: 0x85 is the second byte of "Å" in UTF-8. Do not split a value with str.splitlines(): it also
# ends a line at the Latin-1 characters 0x85 and 0x1c-0x1e (CVE-2026-44546).
_BAD_VALUE_BYTE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
# RFC 3986 section 3.2.2 without userinfo; the port may be empty (RFC 9110 section 7.2).
_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9\-._~!$&'()*+,;=%]+)(?::(?P<port>[0-9]{0,5}))?")


def _quote_target(target: bytes | str) -> str:
    """Quote a request target, or a line with one, without its user, query and fragment, which may contain secrets."""
    text = target if isinstance(target, str) else target.decode("latin-1")
    text = re.sub(r"(?<=[?#]).+", "...", text, count=1, flags=re.DOTALL)
    return quote(re.sub(r"//[^/?# ]*@", "//...@", text))


def _quote_host(host: str) -> str:
    """Quote a host and port without the user and password in front of it."""
    return quote(f"...@{host.rpartition('@')[2]}" if "@" in host else host)


def _quote_name(name: bytes) -> str:
    """Quote an invalid header name up to its first invalid byte; the rest may be part of a folded, secret value."""
    valid = _FIELD_NAME.match(name)
    rest = name[valid.end() if valid else 0 :]
    return quote((valid[0].decode("ascii") if valid else "") + rest[:1].decode("latin-1") + ("..." if rest[1:] else ""))


@dataclass(frozen=True, slots=True)
class Refusal:
    """An HTTP response with which the server refuses a request."""

    status: HTTPStatus
    reason: str
    """One sentence for the client's developer; quotes what the client sent."""
    headers: tuple[tuple[str, str], ...] = ()
    """Headers that the status requires, e.g. `Allow`."""
    cause: str = ""
    """One word for metrics and `/api/rejects`, of a small fixed set, such as `origin`; empty for that of the status."""

    @property
    def body(self) -> bytes:
        """The response body: UTF-8 text."""
        return f"{self.status.value} {self.status.phrase}\n{self.reason}\n".encode()

    def response(self) -> bytes:
        """Return the whole HTTP response, after which the server closes the connection."""
        headers = (("Cache-Control", "no-store"), *self.headers)
        return write_last_response(self.status, "text/plain; charset=utf-8", headers, self.body)


def write_last_response(status: HTTPStatus, content_type: str, headers: Sequence[Header], body: bytes) -> bytes:
    """
    Return a whole HTTP response, after which the server closes the connection (RFC 9112 section 9.6).

    Args:
        status: the status.
        content_type: the value of the Content-Type header.
        headers: further headers; `Connection: close` is added unless there is a Connection header.
        body: the body.
    """
    fields = [
        ("Content-Type", content_type),
        ("Content-Length", str(len(body))),
        ("X-Content-Type-Options", "nosniff"),
        *headers,
    ]
    if not any(name == "Connection" for name, _ in headers):
        fields.append(("Connection", "close"))
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    return f"HTTP/1.1 {status.value} {status.phrase}\r\n{lines}\r\n".encode("latin-1") + body


def unavailable(reason: str, seconds: int = 1, *, cause: str = "") -> Refusal:
    """
    Return a 503 refusal with a `Retry-After` header.

    Args:
        reason: one sentence.
        seconds: the value of `Retry-After`.
        cause: the cause of the refusal.
    """
    return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, reason, (("Retry-After", str(seconds)),), cause)


def forbidden(reason: str, *, cause: str = "") -> Refusal:
    """
    Return a 403 refusal.

    Args:
        reason: one sentence.
        cause: the cause of the refusal.
    """
    return Refusal(HTTPStatus.FORBIDDEN, reason, cause=cause)


def bad_request(reason: str) -> Refusal:
    """
    Return a 400 refusal.

    Args:
        reason: one sentence.
    """
    return Refusal(HTTPStatus.BAD_REQUEST, reason)


class Request(msgspec.Struct, frozen=True):
    """A valid HTTP/1.1 request head."""

    method: str
    target: str
    """The request target in origin form, still percent-encoded: `/ticker?every=1s`."""
    version: tuple[int, int]
    headers: tuple[Header, ...]
    """Names in lower case, in their original order; values decoded as Latin-1 (RFC 9110 section 5.5)."""
    content_length: int
    """Size of the body that follows the head, in bytes; 0 for a chunked body."""
    fields: dict[str, str]
    """Name in lower case -> value; the last value if a header is repeated."""
    head: bytes = b""
    """The head as received, which `parse` accepts again; empty if the request was made from its parts."""

    def __repr__(self) -> str:
        """Return a text without the headers, which may be secrets."""
        return f"<request {self.method} {self.target} {self.version}>"

    @property
    def chunked(self) -> bool:
        """Whether the body is chunked (RFC 9112 section 7.1), the only transfer coding that is accepted."""
        return "transfer-encoding" in self.fields

    def all(self, name: str) -> list[str]:
        """Return the values of all headers with a name (in lower case), in order."""
        return _all(self.headers, self.fields, name)

    def tokens(self, name: str) -> list[str]:
        """Return the non-empty elements of a comma-separated header (RFC 9110 section 5.6.1)."""
        return [token for value in self.all(name) for item in value.split(",") if (token := item.strip(" \t"))]

    def names(self, name: str, token: str) -> bool:
        """
        Return whether a comma-separated header contains an element.

        Args:
            name: the header's name, in lower case.
            token: the element, in lower case. The comparison ignores case.
        """
        value = self.fields.get(name)
        if value is None:
            return False
        return value.lower() == token or any(item.lower() == token for item in self.tokens(name))

    @property
    def host(self) -> str:
        """The Host header, e.g. `example.com:8080`; empty if an HTTP/1.0 request has none."""
        return self.fields.get("host", "")

    @property
    def local_host(self) -> str:
        """The Host header, if the request comes from its client directly; empty if a proxy has forwarded it."""
        return "" if any(name in self.fields for name in FORWARDING_HEADERS) else self.host

    @property
    def wants_websocket(self) -> bool:
        """Whether the request asks for an upgrade to WebSocket; the handshake may still be invalid."""
        value = self.fields.get("upgrade")
        return value is not None and (value == "websocket" or self.names("upgrade", "websocket"))

    @property
    def raw_path(self) -> str:
        """The path, still percent-encoded."""
        return self.target.partition("?")[0]

    @property
    def path(self) -> Path | None:
        """The path, percent-decoded; None if it is not UTF-8."""
        return _decode_path(self.raw_path)

    @property
    def query(self) -> dict[str, list[str]] | None:
        """The query parameters; None if the query is not UTF-8, or has more than 1000 parameters."""
        return parse_parameters(self.target.partition("?")[2])


def parse_parameters(query: str) -> dict[str, list[str]] | None:
    """
    Parse a query string.

    Args:
        query: the part of the URL after the question mark, percent-encoded.

    Returns:
        Name -> values in order; None if the query is not UTF-8, or has more than 1000 parameters.
    """
    if not query:
        return {}
    try:
        return parse_qs(query, keep_blank_values=True, errors="strict", max_num_fields=1000)
    except ValueError:
        return None


def _all(headers: tuple[Header, ...], fields: dict[str, str], name: str) -> list[str]:
    value = fields.get(name)
    if value is None:
        return []
    return [value] if len(fields) == len(headers) else [value for key, value in headers if key == name]


@lru_cache(maxsize=128)
def _decode_path(raw_path: str) -> Path | None:
    try:
        return Path(unquote_to_bytes(raw_path).decode("utf-8"))
    except UnicodeDecodeError:
        return None


def parse(head: bytes, max_head: int = MAX_HEAD) -> Request | Refusal:
    """
    Parse and check a request head.

    Args:
        head: the request line and all header lines, separated by CRLF, without the empty line after them.
        max_head: maximum size of the head, in bytes.

    Returns:
        The request, or a refusal.
    """
    if len(head) > max_head:
        return head_too_large(max_head)
    parts = split_head(head)
    return _assemble(*parts, head) if parts is not None else _explain(head)


def _explain(head: bytes) -> Request | Refusal:
    """Return the refusal of a head that `split_head` rejects; parse it if only the name of a header is too long."""
    line, *lines = head.removesuffix(b"\r\n").split(b"\r\n")
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        return bad_request(f"invalid request line {_quote_target(line)}; expected METHOD TARGET HTTP/1.1")
    fields = []
    for number, line in enumerate(lines, 1):
        name, colon, value = line.partition(b":")
        if not colon:
            # The line is not quoted: it may be the second half of a folded Authorization or Cookie header.
            return bad_request(f"header line {number} has no colon")
        fields.append((name, value))
    return make(match[1], match[2], (int(match[3]), int(match[4])), fields, head)


Parts = tuple[str, str, tuple[int, int], tuple[Header, ...], dict[str, str]]
"""Method, target, version, headers with names in lower case, and `Request.fields`."""


def py_split_head(head: bytes) -> Parts | None:
    """
    Split a request head into its parts, and check their characters.

    Args:
        head: as for `parse`.

    Returns:
        The parts; None if a character, or the form of a line, is invalid, or if a name has more than 256 bytes.
    """
    line, *lines = head.removesuffix(b"\r\n").split(b"\r\n")
    match = _REQUEST_LINE.fullmatch(line)
    if match is None or not _TARGET.fullmatch(match[2]):
        return None
    headers = [_kept.get(line) or _read_line(line) for line in lines]
    if None in headers:
        return None
    known = cast(tuple[Header, ...], tuple(headers))
    version = int(match[3]), int(match[4])
    return match[1].decode("ascii"), match[2].decode("ascii"), version, known, dict(known)


split_head: Callable[[bytes], Parts | None] = SPEEDUPS.split_head if COMPILED else py_split_head


_kept: dict[bytes, Header] = {}


def _read_line(line: bytes) -> Header | None:
    """Parse a header line; return None if it is invalid. `_headers` then finds out what is wrong."""
    name, colon, value = line.partition(b":")
    if not colon or len(name) > _MAX_NAME or not _FIELD_NAME.fullmatch(name) or _BAD_VALUE_BYTE.search(value):
        return None
    header = name.decode("ascii").lower(), value.decode("latin-1").strip(" \t")
    if len(line) <= LONGEST_KEPT and _KEPT_NAMES.fullmatch(header[0]):
        # A client that sends a new line every time makes this no slower than parsing without a cache.
        if len(_kept) >= MAX_KEPT:
            _kept.clear()
        _kept[line] = header
    return header


def make(
    method: bytes, target: bytes, version: tuple[int, int], fields: Iterable[tuple[bytes, bytes]], head: bytes = b""
) -> Request | Refusal:
    """
    Make a request from its parts, and check them.

    Args:
        method: e.g. `b"GET"`.
        target: the request target, in origin or absolute form (RFC 9112 section 3.2).
        version: the HTTP version, e.g. `(1, 1)`.
        fields: header names and values as received.
        head: the head as received, if known.

    Returns:
        The request, or a refusal.
    """
    headers = _headers(fields)
    # The version is checked first.
    if isinstance(headers, Refusal) and version[0] == 1:
        return headers
    known = () if isinstance(headers, Refusal) else headers
    return _assemble(method.decode("ascii"), target.decode("latin-1"), version, known, dict(known), head)


def _assemble(  # noqa: PLR0917 (the parts as `split_head` returns them)
    method: str,
    target: str,
    version: tuple[int, int],
    headers: tuple[Header, ...],
    last: dict[str, str],
    head: bytes,
) -> Request | Refusal:
    if version[0] != 1:
        return Refusal(
            HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, f"HTTP/{version[0]}.{version[1]} is not supported; expected HTTP/1.1"
        )
    # RFC 9110 section 2.5: the server processes a higher minor version as its own, and must not answer with it.
    version = min(version, (1, 1))
    if len(headers) > MAX_HEADERS:
        reason = f"{len(headers)} header lines; expected at most {MAX_HEADERS}"
        return Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, reason)
    host = last.get("host", "")
    if len(last) != len(headers) or not _is_host(host):
        refusal = _check_host(_all(headers, last, "host"), version)
        if refusal is not None:
            return refusal
    length = 0
    if "content-length" in last or "transfer-encoding" in last:
        codings = _all(headers, last, "transfer-encoding")
        found = _content_length(_all(headers, last, "content-length"), codings, version)
        if isinstance(found, Refusal):
            return found
        length = found
    if not (target.isascii() and target.isprintable() and " " not in target):
        return bad_request(f"invalid request target {_quote_target(target)}")
    origin_form = _origin_form(target, host)
    if isinstance(origin_form, Refusal):
        return origin_form
    return Request(method, origin_form, version, headers, length, last, head)


def _headers(fields: Iterable[tuple[bytes, bytes]]) -> tuple[Header, ...] | Refusal:
    headers = []
    for name, value in fields:
        # RFC 9112: white space before the colon (section 5.1) and folded lines (section 5.2) are refused with 400.
        if not _FIELD_NAME.fullmatch(name):
            return bad_request(f"invalid header name {_quote_name(name)}")
        if bad := _BAD_VALUE_BYTE.search(value):
            # The value is not quoted: it may be a secret (CWE-532).
            return bad_request(f"control character 0x{bad[0][0]:02x} in the header {name.decode('ascii')}")
        headers.append((name.decode("ascii").lower(), value.decode("latin-1").strip(" \t")))
    return tuple(headers)


def _check_host(hosts: list[str], version: tuple[int, int]) -> Refusal | None:
    # RFC 9112 section 3.2: 400 to any HTTP/1.1 request without Host, with more than one, or with an invalid one.
    if len(hosts) > 1:
        return bad_request("more than one Host header; expected one")
    if not hosts:
        return None if version == (1, 0) else bad_request("missing Host header")
    return None if _is_host(hosts[0]) else bad_request(f"invalid Host header {_quote_host(hosts[0])}")


@lru_cache(maxsize=128)
def _is_host(text: str) -> bool:
    return _HOST.fullmatch(text) is not None


def _content_length(lengths: list[str], codings: list[str], version: tuple[int, int]) -> int | Refusal:
    # Two lengths, or a length and a transfer coding, are used for request smuggling (RFC 9112 section 11.2).
    if codings:
        if lengths:
            return bad_request("both Content-Length and Transfer-Encoding; expected one of them")
        return _check_codings(codings, version) or 0
    if not lengths:
        return 0
    text = lengths[0]
    if len(lengths) > 1 or not (text.isascii() and text.isdigit() and len(text) <= 18):
        return bad_request(f"invalid Content-Length {quote(', '.join(lengths))}; expected one number")
    return int(text)


def head_too_large(max_head: int) -> Refusal:
    """Return the refusal of a request whose head is over `max_head` bytes."""
    reason = f"the request head is over {max_head} bytes (server option --max-request-head)"
    return Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, reason)


def body_too_large(size: str, max_body: int) -> Refusal:
    """Return the refusal of a request whose body has a size over `max_body` bytes."""
    reason = f"the request body has {size} bytes: expected at most {max_body} (server option --max-request-body)"
    return Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, reason)


def check_length(request: Request, max_body: int = MAX_BODY) -> Refusal | None:
    """
    Check the declared length of a body.

    Separate from `parse`, because this refusal needs response headers that depend on the request: without these
    headers, pages of other origins cannot read the refusal.

    Args:
        request: the request.
        max_body: maximum size of the body, in bytes.

    Returns:
        A 413 refusal if the body is over `max_body`, else None.
    """
    if request.content_length <= max_body:
        return None
    return body_too_large(str(request.content_length), max_body)


def _check_codings(codings: list[str], version: tuple[int, int]) -> Refusal | None:
    """Refuse every Transfer-Encoding but exactly `chunked` (RFC 9112 sections 6.1 and 6.3)."""
    if version == (1, 0):
        return bad_request("Transfer-Encoding in an HTTP/1.0 request; expected Content-Length")
    names = [name.strip(" \t").lower() for value in codings for name in value.split(",")]
    if names == ["chunked"]:
        return None
    if len(codings) > 1 or names[-1] != "chunked" or names.count("chunked") > 1 or "" in names:
        return bad_request(f"invalid Transfer-Encoding {quote(', '.join(codings))}; expected chunked")
    reason = f"Transfer-Encoding {quote(codings[0])} is not supported; expected chunked"
    return Refusal(HTTPStatus.NOT_IMPLEMENTED, reason)


def _origin_form(target: str, host: str) -> str | Refusal:
    if target.startswith("/"):
        return target if "#" not in target else bad_request(f"fragment in the request target {_quote_target(target)}")
    match = re.fullmatch(r"(?i:https?|wss?)://([^/?#]+)([/?][^#]*)?", target)
    if match is None:
        return bad_request(f"invalid request target {_quote_target(target)}")
    if match[1].lower() != host.lower():
        return bad_request(f"the request target names the host {_quote_host(match[1])}, the Host header {quote(host)}")
    rest = match[2] or "/"
    return rest if rest.startswith("/") else "/" + rest
