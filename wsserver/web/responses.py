"""
Responses that the server writes itself, without `twisted.web`: a whole response is one `bytes` object.

The lines of a response head that do not change from one response to the next are prepared once.
"""

from functools import lru_cache
from http import HTTPStatus
from time import time
from typing import Final, NamedTuple

from twisted.web.http import datetimeToString

from wsserver.typing import Header
from wsserver.wire.http11 import Refusal, Request

__all__ = ["SECURITY_HEADERS", "Response", "refusal_response", "write_response"]

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


class Response(NamedTuple):
    """A response, without the headers that every response has."""

    status: HTTPStatus
    headers: tuple[Header, ...] = ()
    body: bytes = b""


def refusal_response(refusal: Refusal) -> Response:
    """Return the response with which the server refuses a request."""
    headers = (("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store"), *refusal.headers)
    return Response(refusal.status, headers, refusal.body)


def write_response(request: Request, response: Response, more: tuple[Header, ...], *, closes: bool) -> bytes:
    """
    Return the bytes of a response: the head, and the body unless it is the response to a HEAD request.

    Args:
        request: the request.
        response: the response.
        more: headers in addition to those of the response and of every response.
        closes: whether the server closes the connection afterwards (RFC 9112 section 9.6).
    """
    status, headers, body = response
    before, after = _fixed_lines(request.version, status, (*more, *headers), closes)
    if status == HTTPStatus.NO_CONTENT:
        # RFC 9110 section 8.6: no Content-Length.
        return b"%bDate: %b\r\n%b\r\n" % (before, _date(int(time())), after)
    shown = body if request.method != "HEAD" else b""
    return b"%bDate: %b\r\n%bContent-Length: %d\r\n\r\n%b" % (before, _date(int(time())), after, len(body), shown)


# Few entries, because the headers can contain an Origin header of up to 16 KiB.
@lru_cache(maxsize=64)
def _fixed_lines(
    version: tuple[int, int], status: HTTPStatus, headers: tuple[Header, ...], closes: bool
) -> tuple[bytes, bytes]:
    """Return the lines of a response head before and after the Date header."""
    major, minor = version
    first = [f"HTTP/{major}.{minor} {status.value} {status.phrase}"]
    # A client that speaks HTTP/1.0 expects the connection to be closed.
    if closes and version != (1, 0):
        first.append("Connection: close")
    rest = [f"{name}: {value}" for name, value in (*SECURITY_HEADERS, *headers)]
    return "\r\n".join([*first, ""]).encode("ascii"), "\r\n".join([*rest, ""]).encode("latin-1")


@lru_cache(maxsize=1)
def _date(second: int) -> bytes:
    date: bytes = datetimeToString(second)
    return date
