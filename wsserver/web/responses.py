"""
Responses that the server writes itself, without `twisted.web`: a whole response is one `bytes` object.

The lines of a response head that do not change from one response to the next are prepared once.
"""

from collections.abc import Iterable
from functools import lru_cache
from http import HTTPStatus
from time import time
from typing import Any, Final, Protocol

import msgspec
from twisted.web.http import datetimeToString

from wsserver.typing import Header
from wsserver.wire.http11 import Refusal, Request

__all__ = [
    "SECURITY_HEADERS",
    "Response",
    "StreamResponse",
    "redirect_to",
    "refusal_response",
    "write_lines",
    "write_response",
    "write_stream_start",
]

SECURITY_HEADERS: Final = (
    (
        "Content-Security-Policy",
        "; ".join(
            (
                "default-src 'none'",
                "script-src 'self'",
                "style-src 'self'",
                "img-src 'self'",
                # The page connects to any server whose URL its user enters.
                "connect-src 'self' ws: wss:",
                "base-uri 'none'",
                "form-action 'none'",
                "frame-ancestors 'none'",
            )
        ),
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
)
"""Headers of every response to an HTTP request."""


class Response(msgspec.Struct, frozen=True):
    """A response, without the headers that every response has."""

    status: HTTPStatus
    lines: bytes
    """The lines of its headers, see `write_lines`."""
    body: bytes = b""
    is_logged: bool = True
    """Whether the request is written to the access log."""
    refusal: Refusal | None = None
    """Why the request is refused; None if it is answered. A refusal is logged and kept as one."""
    closes: bool = False
    """Whether the server closes the connection after the response."""


def write_lines(headers: Iterable[Header]) -> bytes:
    """Return headers as the lines of a response head, each with its CRLF."""
    return "".join([f"{name}: {value}\r\n" for name, value in headers]).encode("latin-1")


def refusal_response(refusal: Refusal) -> Response:
    """Return the response with which the server refuses a request."""
    headers = (("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store"), *refusal.headers)
    return Response(refusal.status, write_lines(headers), refusal.body, refusal=refusal)


def redirect_to(page: str) -> Refusal:
    """
    Return the redirect to a page from the same path with a slash at its end.

    It is relative, so that a proxy can add a prefix.

    Args:
        page: the path of the page, such as `/faults`.
    """
    return Refusal(HTTPStatus.PERMANENT_REDIRECT, f"the page is at {page}", (("Location", f"..{page}"),))


class Endless(Protocol):
    """An endless response, such as an `HTTPStream`."""

    def begin(self, transport: Any, head: bytes, frame: bytes) -> None:
        """Send the head of the response, and execute the commands of the request."""

    def half_closed(self) -> None:
        """Handle that the client has closed its sending side."""

    def connectionLost(self) -> None:
        """Handle that the client has disconnected, or the response has ended."""


class StreamResponse(msgspec.Struct, frozen=True):
    """The start of an endless response."""

    stream: Endless
    lines: bytes
    """The lines of its headers."""
    start: bytes
    """The first bytes of the body; may be empty."""
    frame: bytes
    """The commands in the request, which the stream executes."""


_STATUS_LINES: Final = {status: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode("ascii") for status in HTTPStatus}
_SECURITY_LINES: Final = write_lines(SECURITY_HEADERS)


def write_response(request: Request, response: Response, lines: bytes, *, closes: bool) -> bytes:
    """
    Return the bytes of a response: the head, and the body unless it is the response to a HEAD request.

    Args:
        request: the request.
        response: the response.
        lines: the lines of more headers, which depend on the origin of the request.
        closes: whether the server closes the connection afterwards (RFC 9112 section 9.6).
    """
    start = _write_start(request.version, response.status, lines, response.lines, closes, int(time()))
    if response.status is HTTPStatus.NO_CONTENT:
        # RFC 9110 section 8.6: no Content-Length.
        return start + b"\r\n"
    body = response.body
    return b"%bContent-Length: %d\r\n\r\n%b" % (start, len(body), body if request.method != "HEAD" else b"")


def write_stream_start(request: Request, response: StreamResponse, lines: bytes) -> bytes:
    """
    Return the head of an endless response, and the first bytes of its body.

    Args:
        request: the request.
        response: the response.
        lines: the lines of more headers, which depend on the origin of the request.
    """
    # The connection closes after the response, so that no proxy sends another request on it.
    head = _write_start(request.version, HTTPStatus.OK, lines, response.lines, True, int(time()))
    if request.version != (1, 1):
        return b"%b\r\n%b" % (head, response.start)
    chunk = b"%x\r\n%b\r\n" % (len(response.start), response.start) if response.start else b""
    return b"%bTransfer-Encoding: chunked\r\n\r\n%b" % (head, chunk)


# Few entries, because the lines can contain an Origin header of up to 16 KiB.
@lru_cache(maxsize=32)
def _write_start(  # noqa: PLR0917 (positional: the cache is faster then)
    version: tuple[int, int], status: HTTPStatus, lines: bytes, more: bytes, closes: bool, second: int
) -> bytes:
    """Return the lines of a response head except for Content-Length."""
    first = _STATUS_LINES[status]
    if version != (1, 1):
        first = b"HTTP/%d.%d%b" % (*version, first[8:])
    elif closes:
        first += b"Connection: close\r\n"
    date: bytes = datetimeToString(second)
    return b"%bDate: %b\r\n%b%b%b" % (first, date, _SECURITY_LINES, lines, more)
