"""
Request reader: extract HTTP/1.1 requests, head and body, from the bytes of a connection (RFC 9112).

This module does not use Twisted, a clock or a socket. A refusal is a return value; nothing is read after a refusal.
"""

from wsserver.wire.chunked import ChunkedBody
from wsserver.wire.http11 import (
    MAX_BODY,
    MAX_HEAD,
    METHOD_START,
    Refusal,
    Request,
    bad_request,
    head_too_large,
    parse,
)

__all__ = ["MAX_EMPTY_LINES", "RequestReader"]

MAX_EMPTY_LINES = 8
"""
Maximum number of empty lines before a request. RFC 9112 section 2.2 recommends to ignore at least one. Without a limit,
a client could send nothing else, which costs a lot of CPU time.
"""

_TLS_HELLO = b"\x16\x03"
_TLS_ON_PLAIN = "TLS hello on a plain HTTP port; use http:// or ws://, or start the server with --tls-cert"


class RequestReader:
    """
    A buffer of received bytes, from which the requests of one connection are read.

    Call `read_head` until it returns a request, then `read_body` until it returns the body, and so on.

    Args:
        max_head: maximum size of a request head, in bytes.
        max_body: maximum size of a chunked body, in bytes. `check_length` checks other bodies.
    """

    def __init__(self, max_head: int = MAX_HEAD, max_body: int = MAX_BODY) -> None:
        self._max_head = max_head
        self._max_body = max_body
        self._buffer = bytearray()
        self._searched = 0
        """Number of bytes in the buffer that do not contain the end of a head."""
        self._empty_lines = 0
        """Number of empty lines that were ignored since the last request."""
        self._chunked: ChunkedBody | None = None
        """The body of the current request, if it is chunked."""

    def __len__(self) -> int:
        """Return the number of received bytes that have not been read."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Append received bytes."""
        self._buffer += data

    def take_rest(self) -> bytes:
        """Return all bytes that have not been read, and remove them."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def read_head(self) -> Request | Refusal | None:
        """Return the next request; None while its head is incomplete. The bytes of the head are removed."""
        # RFC 9112 section 2.2: a server should ignore an empty line before a request.
        while self._buffer.startswith(b"\r\n"):
            self._empty_lines += 1
            if self._empty_lines > MAX_EMPTY_LINES:
                return bad_request(f"more than {MAX_EMPTY_LINES} empty lines before a request")
            del self._buffer[:2]
        buffer = self._buffer
        end = buffer.find(b"\r\n\r\n", max(0, self._searched - 3), self._max_head + 4)
        request = parse(bytes(buffer[:end]), self._max_head) if end >= 0 else None
        if not isinstance(request, Request):
            # Incomplete or invalid: find out whether the bytes are the beginning of a request at all.
            refusal = self._check_start() if buffer else None
            if refusal is not None or request is None:
                return refusal
            return request
        del buffer[: end + 4]
        self._searched = self._empty_lines = 0
        self._chunked = ChunkedBody(self._max_body) if request.chunked else None
        return request

    def _check_start(self) -> Refusal | None:
        """Return the refusal of bytes that are not the beginning of a request head; None while it is incomplete."""
        buffer, start = self._buffer, max(0, self._searched - 3)
        end = buffer.find(b"\r\n\r\n", start)
        self._searched = 0 if end >= 0 else len(buffer)
        head_end = end if end >= 0 else len(buffer)
        # A lone CR may be the first half of an empty line before the request.
        if buffer != b"\r" and not METHOD_START.match(buffer):
            # Answer a TLS hello in plain text, not with a TLS alert. TLS clients recognize a plain HTTP response:
            # OpenSSL reports "wrong version number", Go "server gave HTTP response to HTTPS client". With any alert,
            # the client would report an error of the server's TLS.
            return bad_request(_TLS_ON_PLAIN if buffer.startswith(_TLS_HELLO) else "not an HTTP request")
        if buffer.count(b"\n", start, head_end) != buffer.count(b"\r\n", max(0, start - 1), head_end):
            return bad_request("a line of the request head ends with LF; expected CRLF")
        if head_end > self._max_head:
            return head_too_large(self._max_head)
        return None

    def waits_for_continue(self, request: Request) -> bool:
        """Return whether the client waits for `100 Continue` before it sends the body (RFC 9110 section 10.1.1)."""
        incomplete = not self._buffer if request.chunked else request.content_length > len(self._buffer)
        return incomplete and "100-continue" in request.tokens("expect")

    def read_body(self, request: Request) -> bytes | Refusal | None:
        """Remove the body of a request and return it, decoded if it is chunked; return None while it is incomplete."""
        if self._chunked is not None:
            refusal = self._chunked.feed(self._buffer)
            return refusal or (bytes(self._chunked.data) if self._chunked.complete else None)
        if len(self._buffer) < request.content_length:
            return None
        body = bytes(self._buffer[: request.content_length])
        del self._buffer[: request.content_length]
        return body
