"""
Temporary refusals of event streams (HTML Standard, section 9.2).

An EventSource does not reconnect after any status but 200. So if a request that accepts `text/event-stream` fails
temporarily, the server responds with 200, a `retry:` field and the end of the stream. The EventSource then reconnects
automatically and sends its `Last-Event-ID`. Other clients get a 503 response with `Retry-After`.

This module does not use Twisted, a clock or a socket.
"""

import random
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

from wsserver.wire.http11 import Refusal, Request, write_last_response

__all__ = [
    "HEADERS",
    "LAST_CHUNK",
    "UNBUFFERED",
    "accepts_event_stream",
    "is_temporary",
    "temporary_response",
    "temporary_stream",
    "wants_event_stream",
    "write_retry",
]

_CONTENT_TYPE: Final = "text/event-stream; charset=utf-8"
UNBUFFERED: Final = (
    ("Cache-Control", "no-store"),
    # Without this header, nginx does not forward events until its buffer is full.
    ("X-Accel-Buffering", "no"),
)

"""Headers of every endless response, which keep caches and proxies from storing it."""

HEADERS: Final = (("Content-Type", _CONTENT_TYPE), *UNBUFFERED)
"""Headers of every event stream."""

LAST_CHUNK: Final = b"0\r\n\r\n"
"""The end of a response in chunks (RFC 9112 section 7.1)."""

# Without a `retry:` field, browsers wait 2 to 5 seconds.
MIN_RETRY: Final = 1000
MAX_RETRY: Final = 3000
"""Bounds in milliseconds of the delay before a client reconnects; it is random, so that not all reconnect at once."""


def wants_event_stream(request: Request) -> bool:
    """Return whether a request is a GET with `Accept: text/event-stream`, which every EventSource sends."""
    return request.method == "GET" and accepts_event_stream(request.all("accept"))


def accepts_event_stream(accept: Iterable[str]) -> bool:
    """
    Return whether a client explicitly accepts `text/event-stream`.

    Args:
        accept: the values of its Accept headers. `*/*`, which curl sends, does not count.
    """
    types = (element.partition(";")[0].strip(" \t") for header in accept for element in header.split(","))
    return any(type_.lower() == "text/event-stream" for type_ in types)


def is_temporary(refusal: Refusal) -> bool:
    """Return whether the same request may succeed later: the server failed (5xx), or a limit was reached (429)."""
    return refusal.status >= HTTPStatus.INTERNAL_SERVER_ERROR or refusal.status == HTTPStatus.TOO_MANY_REQUESTS


def write_retry() -> bytes:
    """Return a `retry:` field, which sets after how many milliseconds the client reconnects."""
    return b"retry: %d\n" % random.randint(MIN_RETRY, MAX_RETRY)  # noqa: S311 (no secret)


def temporary_stream(refusal: Refusal) -> bytes:
    """
    Return the whole event stream that responds to a temporary failure.

    Args:
        refusal: why the request is not served. It becomes a comment, for people: EventSource ignores comments.
    """
    reason = " ".join(refusal.reason.splitlines())
    return f": {refusal.status.value} {reason}\n".encode() + write_retry() + b"\n"


def temporary_response(refusal: Refusal) -> bytes:
    """
    Return the whole HTTP response to a temporary failure, after which the server closes the connection.

    Args:
        refusal: why the request is not served.
    """
    # Keep the headers that decide whether a page of another origin may read the response. Drop the others:
    # `Retry-After` has no meaning in a 200 response.
    shared = [header for header in refusal.headers if header[0] == "Vary" or header[0].startswith("Access-Control-")]
    return write_last_response(HTTPStatus.OK, _CONTENT_TYPE, (*UNBUFFERED, *shared), temporary_stream(refusal))
