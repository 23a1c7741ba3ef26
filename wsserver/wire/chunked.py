"""
Chunked request bodies (RFC 9112 section 7.1).

Stricter than the RFC where leniency has been used to smuggle requests: CRLF only, no white space around a size, no size
of more than 16 digits. Extensions and trailers are bounded and dropped.

Pure: no Twisted, no clock, no socket.
"""

import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from wsserver.wire.http11 import MAX_BODY, Refusal

__all__ = ["MAX_EXTENSIONS", "MAX_LINE", "MAX_TRAILERS", "ChunkedBody"]

MAX_LINE: Final = 4096
"""Most bytes of a chunk's size with its extensions, and of a trailer."""

MAX_EXTENSIONS: Final = 16 * 1024
"""Most bytes of all extensions of a body. Precedent: Go's net/http 16 KiB."""

MAX_TRAILERS: Final = 16 * 1024
"""Most bytes of all trailers."""

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
# RFC 9112 section 7.1.1. White space, which senders must not write there, is refused.
_EXTENSION: Final = (
    rb";" + _TOKEN + rb"(?:=(?:" + _TOKEN + rb'|"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"))?'
)
_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})((?:" + _EXTENSION + rb")*)")
_TRAILER: Final = re.compile(_TOKEN + rb":[\t\x20-\x7e\x80-\xff]*")


class ChunkedBody:
    """
    A chunked body while it arrives.

    It takes bytes off a buffer until the body is complete; how the bytes are cut makes no difference. Bytes behind the
    body stay in the buffer.
    """

    def __init__(self) -> None:
        self.data = bytearray()
        """The decoded body so far, at most `MAX_BODY` bytes."""
        self.complete = False
        """Whether the last chunk and the trailers have been read."""
        self._step: Callable[[bytearray], bool | Refusal] = self._read_size
        self._left = 0
        self._extensions = 0
        self._trailers = 0

    def feed(self, buffer: bytearray) -> Refusal | None:
        """
        Take what belongs to the body off the start of a buffer.

        Args:
            buffer: bytes of the connection; those that were taken are removed.

        Returns:
            A refusal (400, or 413 over `MAX_BODY`), after which nothing more may be fed; else None.
        """
        while not self.complete:
            advanced = self._step(buffer)
            if isinstance(advanced, Refusal):
                return advanced
            if not advanced:
                return None
        return None

    # Each step returns whether it took something, or why the body is refused.

    def _read_size(self, buffer: bytearray) -> bool | Refusal:
        line = _take_line(buffer)
        if line is None or isinstance(line, Refusal):
            return line or False
        match = _SIZE.fullmatch(line)
        if match is None:
            return _bad("invalid size of a chunk")
        self._extensions += len(match[2])
        if self._extensions > MAX_EXTENSIONS:
            return _bad(f"the chunk extensions of the body are over {MAX_EXTENSIONS} bytes")
        self._left = int(match[1], 16)
        if len(self.data) + self._left > MAX_BODY:
            reason = f"the chunked body is over {MAX_BODY} bytes"
            return Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, reason)
        self._step = self._read_data if self._left else self._read_trailer
        return True

    def _read_data(self, buffer: bytearray) -> bool:
        taken = buffer[: self._left]
        del buffer[: self._left]
        self.data += taken
        self._left -= len(taken)
        if not self._left:
            self._step = self._read_end
        return bool(taken)

    def _read_end(self, buffer: bytearray) -> bool | Refusal:
        if not buffer.startswith(b"\r\n"):
            return False if b"\r\n".startswith(buffer) else _bad("the data of a chunk is not followed by CRLF")
        del buffer[:2]
        self._step = self._read_size
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
            return _bad(f"the trailers of the body are over {MAX_TRAILERS} bytes")
        return True if _TRAILER.fullmatch(line) else _bad("invalid trailer of a chunked body")


def _take_line(buffer: bytearray) -> bytes | Refusal | None:
    """Take a line off a buffer: without its CRLF, None while it is incomplete, or a refusal."""
    end = buffer.find(b"\n")
    before = buffer if end < 0 else buffer[:end]
    length = len(before) - before.endswith(b"\r")
    if length > MAX_LINE:
        return _bad(f"a line of a chunked body is over {MAX_LINE} bytes")
    if end < 0:
        return None
    if length == end:
        return _bad("lines of a chunked body end with CRLF, not with LF alone")
    line = bytes(buffer[:length])
    del buffer[: end + 1]
    return line


def _bad(reason: str) -> Refusal:
    return Refusal(HTTPStatus.BAD_REQUEST, reason)
