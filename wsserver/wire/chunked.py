"""
Chunked request bodies: decode them (RFC 9112 section 7.1).

The decoder is stricter than the RFC where lenient decoding has been used for request smuggling: lines must end with
CRLF, and a size must have at most 16 digits and no white space around it. Chunk extensions and trailers are limited in
size, and are not kept.

This module does not use Twisted, a clock or a socket.
"""

import re
from collections.abc import Callable
from typing import Final

from wsserver.text import TOKEN_BYTES
from wsserver.wire.http11 import MAX_BODY, Refusal, bad_request, body_too_large

__all__ = ["MAX_EXTENSIONS", "MAX_LINE", "MAX_TRAILERS", "ChunkedBody"]

MAX_LINE: Final = 4096
"""Maximum length of a line (a chunk's size with its extensions, or a trailer), in bytes."""

MAX_EXTENSIONS: Final = 16 * 1024
"""Maximum size of all chunk extensions of a body, in bytes. Precedent: Go's net/http 16 KiB."""

MAX_TRAILERS: Final = 16 * 1024
"""Maximum size of all trailers, in bytes."""

# RFC 9112 section 7.1.1. White space is refused, because senders must not write it.
_QUOTED: Final = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'
_EXTENSION: Final = rb";" + TOKEN_BYTES + rb"(?:=(?:" + TOKEN_BYTES + rb"|" + _QUOTED + rb"))?"
_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})((?:" + _EXTENSION + rb")*)")
_TRAILER: Final = re.compile(TOKEN_BYTES + rb":[\t\x20-\x7e\x80-\xff]*")


class ChunkedBody:
    """
    A decoder of one chunked body, which may arrive in pieces of any size.

    `feed` removes bytes from a buffer until the body is complete. Bytes after the body stay in the buffer.

    Args:
        max_body: maximum size of the decoded body, in bytes.
    """

    def __init__(self, max_body: int = MAX_BODY) -> None:
        self._max_body = max_body
        self.data = bytearray()
        """The decoded body so far, at most `max_body` bytes."""
        self.complete = False
        """Whether the last chunk and the trailers have been read."""
        # Not a bound method: that would be a reference cycle, which keeps the body until garbage is collected.
        self._step: Callable[[ChunkedBody, bytearray], bool | Refusal] = ChunkedBody._read_size
        self._left = 0
        self._extensions = 0
        self._trailers = 0

    def feed(self, buffer: bytearray) -> Refusal | None:
        """
        Decode bytes at the start of a buffer and remove them from it.

        Args:
            buffer: received bytes. The bytes that belong to the body are removed.

        Returns:
            A refusal: 400 if the body is invalid, 413 if it is over `max_body`. After a refusal, `feed` must not be
            called again. Otherwise None.
        """
        while not self.complete:
            advanced = self._step(self, buffer)
            if isinstance(advanced, Refusal):
                return advanced
            if not advanced:
                return None
        return None

    # Each step returns whether it consumed bytes, or a refusal.

    def _read_size(self, buffer: bytearray) -> bool | Refusal:
        line = _take_line(buffer)
        if line is None or isinstance(line, Refusal):
            return line or False
        match = _SIZE.fullmatch(line)
        if match is None:
            return bad_request("invalid chunk size")
        self._extensions += len(match[2])
        if self._extensions > MAX_EXTENSIONS:
            return bad_request(f"the chunk extensions of the body are over {MAX_EXTENSIONS} bytes")
        self._left = int(match[1], 16)
        if len(self.data) + self._left > self._max_body:
            return body_too_large(f"over {self._max_body}", self._max_body)
        self._step = ChunkedBody._read_data if self._left else ChunkedBody._read_trailer
        return True

    def _read_data(self, buffer: bytearray) -> bool:
        taken = buffer[: self._left]
        del buffer[: self._left]
        self.data += taken
        self._left -= len(taken)
        if not self._left:
            self._step = ChunkedBody._read_end
        return bool(taken)

    def _read_end(self, buffer: bytearray) -> bool | Refusal:
        if not buffer.startswith(b"\r\n"):
            return False if b"\r\n".startswith(buffer) else bad_request("the data of a chunk is not followed by CRLF")
        del buffer[:2]
        self._step = ChunkedBody._read_size
        return True

    def _read_trailer(self, buffer: bytearray) -> bool | Refusal:
        line = _take_line(buffer)
        if line is None or isinstance(line, Refusal):
            return line or False
        if not line:
            self.complete = True
            return True
        self._trailers += len(line)
        if self._trailers > MAX_TRAILERS:
            return bad_request(f"the trailers of the body are over {MAX_TRAILERS} bytes")
        return True if _TRAILER.fullmatch(line) else bad_request("invalid trailer of a chunked body")


def _take_line(buffer: bytearray) -> bytes | Refusal | None:
    """
    Remove a line from a buffer.

    Returns:
        The line without its CRLF; None while the line is incomplete; a refusal if the line is invalid or too long.
    """
    end = buffer.find(b"\n")
    before = buffer if end < 0 else buffer[:end]
    length = len(before) - before.endswith(b"\r")
    if length > MAX_LINE:
        return bad_request(f"a line of a chunked body is over {MAX_LINE} bytes")
    if end < 0:
        return None
    if length == end:
        return bad_request("a line of the chunked body ends with LF; expected CRLF")
    line = bytes(buffer[:length])
    del buffer[: end + 1]
    return line
