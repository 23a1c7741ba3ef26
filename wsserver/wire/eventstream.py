"""
Temporary refusals for an EventSource (HTML Standard, section 9.2).

An EventSource stops for good at every status but 200. For a temporary failure, a client that asks for
`text/event-stream` therefore gets 200, a `retry:` field and the end of the stream. It connects again by itself, and
sends its `Last-Event-ID`. Other clients get the 503 with `Retry-After`.

Pure: no Twisted, no clock, no socket.
"""

import random
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

from wsserver.wire.http11 import Refusal, Request

__all__ = [
    "HEADERS",
    "accepts_event_stream",
    "is_temporary",
    "temporary_response",
    "temporary_stream",
    "wants_event_stream",
    "write_retry",
]

HEADERS: Final = (
    ("Content-Type", "text/event-stream; charset=utf-8"),
    ("Cache-Control", "no-store"),
    # Without it nginx holds events back until its buffer is full.
    ("X-Accel-Buffering", "no"),
)
"""Headers of every event stream."""

# Browsers wait 2 to 5 seconds by themselves.
MIN_RETRY: Final = 1000
MAX_RETRY: Final = 3000
"""Milliseconds after which a client connects again: at random in between, so that clients do not return all at once."""


def wants_event_stream(request: Request) -> bool:
    """Return whether a request is a GET with `Accept: text/event-stream`, which every EventSource sends."""
    return request.method == "GET" and accepts_event_stream(request.all("accept"))


def accepts_event_stream(accept: Iterable[str]) -> bool:
    """
    Return whether a client names the type of event streams.

    Args:
        accept: its Accept headers. `*/*`, as curl sends it, does not count.
    """
    types = (element.partition(";")[0].strip(" \t") for header in accept for element in header.split(","))
    return any(type_.lower() == "text/event-stream" for type_ in types)


def is_temporary(refusal: Refusal) -> bool:
    """Return whether the same request may succeed later: the server, not the client, is the reason (status 5xx)."""
    return refusal.status >= HTTPStatus.INTERNAL_SERVER_ERROR


def write_retry() -> bytes:
    """Write a `retry:` field: in how many milliseconds the client connects again."""
    return b"retry: %d\n" % random.randint(MIN_RETRY, MAX_RETRY)  # noqa: S311 (no secret)


def temporary_stream(refusal: Refusal) -> bytes:
    """
    Write the whole event stream that answers a temporary failure.

    Args:
        refusal: why the request is not served; it becomes a comment, which EventSource ignores and people read.
    """
    reason = " ".join(refusal.reason.splitlines())
    return f": {refusal.status.value} {reason}\n".encode() + write_retry() + b"\n"


def temporary_response(refusal: Refusal) -> bytes:
    """
    Write the whole HTTP response that answers a temporary failure; the connection ends with it.

    Args:
        refusal: why the request is not served.
    """
    body = temporary_stream(refusal)
    # Whether a page may read it is decided as for every response; `Retry-After` has no meaning beside 200.
    shared = [header for header in refusal.headers if header[0] == "Vary" or header[0].startswith("Access-Control-")]
    headers = (*HEADERS, ("Content-Length", str(len(body))), ("X-Content-Type-Options", "nosniff"), *shared)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"HTTP/1.1 200 OK\r\n{lines}Connection: close\r\n\r\n".encode("latin-1") + body
