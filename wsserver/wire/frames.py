"""
WebSocket frames (RFC 6455 section 5.2): parse data frames of clients, build frames of the server, as fast as possible.

This module does not use Twisted or a clock. The functions parse only unfragmented text and binary frames, and leave all
other frames to Autobahn's state machine.

`_speedups` contains compiled versions of the same functions, which return the same results. They are used if they are
built; the environment variable `WSSERVER_PUREPYTHON=1` disables them.
"""

import codecs
import os
import re
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

__all__ = [
    "COMPILED",
    "FIN_BINARY",
    "FIN_CLOSE",
    "FIN_TEXT",
    "RSV1",
    "SPEEDUPS",
    "Partial",
    "PyPartial",
    "build",
    "extent",
    "is_utf8",
    "parse",
    "py_build",
    "py_head",
    "py_parse",
]

FIN_TEXT, FIN_BINARY, FIN_CLOSE, RSV1 = 0x81, 0x82, 0x88, 0x40

# Matches the beginning of an incomplete multi-byte character (RFC 3629 section 4).
_CUT_OFF = re.compile(
    rb"[\xc2-\xdf]|\xe0[\xa0-\xbf]?|[\xe1-\xec\xee\xef][\x80-\xbf]?|\xed[\x80-\x9f]?"
    rb"|\xf0(?:[\x90-\xbf][\x80-\xbf]?)?|[\xf1-\xf3][\x80-\xbf]{0,2}|\xf4(?:[\x80-\x8f][\x80-\xbf]?)?"
)

Message = tuple[bytes, int]
"""The unmasked payload, and the first byte of the frame: FIN, RSV1 and the opcode."""


def py_head(data: bytes, start: int, max_size: int, compressed: bool) -> tuple[int, int]:
    """
    Parse the frame header of an unfragmented data message of a client.

    Args:
        data: received bytes.
        start: index of the frame in `data`.
        max_size: maximum size of a payload, in bytes.
        compressed: whether RSV1 is accepted, for permessage-deflate (RFC 7692 section 6).

    Returns:
        The sizes of the header and of the payload, in bytes. `(-1, 0)` if the header is incomplete; `(0, 0)` for any
        other frame: a control frame, a fragment, a payload over the limit, a frame that violates RFC 6455.
    """
    left = len(data) - start
    if left < 6:
        return -1, 0
    first, second = data[start], data[start + 1]
    plain = first & ~RSV1 if compressed else first
    if plain not in (FIN_TEXT, FIN_BINARY) or not second & 0x80:
        return 0, 0
    size, header, least = second & 0x7F, 6, 0
    if size == 126:
        header, least = 8, 126
    elif size == 127:
        header, least = 14, 65536
    if left < header:
        return -1, 0
    if least:
        size = int.from_bytes(data[start + 2 : start + header - 4], "big")
    # RFC 6455 section 5.2: "the minimal number of bytes MUST be used to encode the length".
    return (header, size) if least <= size <= max_size else (0, 0)


def py_parse(data: bytes, start: int, max_size: int, max_frames: int, compressed: bool) -> tuple[list[Message], int]:
    """
    Parse complete, unfragmented data messages of a client.

    Stops before the first frame that is of another kind, is incomplete, or is text but not UTF-8.

    Args:
        data: received bytes.
        start: index in `data` to start at.
        max_size: maximum size of a payload, in bytes.
        max_frames: maximum number of frames to parse.
        compressed: whether RSV1 is accepted. Payloads of such frames are neither inflated nor checked for UTF-8.

    Returns:
        The messages, and the index of the first frame that was not parsed.
    """
    messages: list[Message] = []
    while max_frames > 0:
        header, size = py_head(data, start, max_size, compressed)
        body = start + header
        if header <= 0 or body + size > len(data):
            break
        payload = _unmask(data[body : body + size], data[body - 4 : body])
        if data[start] == FIN_TEXT and not is_utf8(payload):
            break
        messages.append((payload, data[start]))
        start = body + size
        max_frames -= 1
    return messages, start


def _unmask(payload: bytes, mask: bytes) -> bytes:
    # XOR of two integers as long as the payload: the fastest way in pure Python.
    size = len(payload)
    pad = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(pad, "little")).to_bytes(size, "little")


def is_utf8(payload: bytes) -> bool:
    """Return whether bytes are valid UTF-8 that ends with a complete character (RFC 3629)."""
    if payload.isascii():
        return True
    try:
        payload.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def py_build(first: int, payload: bytes) -> bytes:
    """
    Build a frame of the server, which is not masked.

    Args:
        first: the first byte of the frame: FIN, RSV1 and the opcode.
        payload: at most 2**63 - 1 bytes.

    Returns:
        The frame.
    """
    size = len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 65536:
        return bytes((first, 126)) + size.to_bytes(2, "big") + payload
    return bytes((first, 127)) + size.to_bytes(8, "big") + payload


class PyPartial:
    """
    A data frame that has not arrived completely.

    Keeps the bytes that have arrived, unmasked. Memory is not allocated in advance for the declared size.

    Args:
        start: the frame header.
        size: size of the payload, in bytes.

    Raises:
        ValueError: the header's length or the size is invalid.
    """

    def __init__(self, start: bytes, size: int) -> None:
        if not 6 <= len(start) <= 14 or size < 0:
            raise ValueError("invalid frame header or size")
        self._start = start
        self._size = size
        self._payload: bytearray | None = bytearray()
        self._checked = 0

    def feed(self, data: bytes, start: int) -> int:
        """
        Append the bytes that belong to the frame.

        Args:
            data: received bytes.
            start: index in `data` to start at.

        Returns:
            The index of the first byte after the frame.

        Raises:
            ValueError: `start` is out of range, or `whole` has been called.
        """
        if not 0 <= start <= len(data):
            raise ValueError("start is out of range")
        if self._payload is None:
            raise ValueError("the payload has been taken")
        have = len(self._payload)
        stop = min(len(data), start + self._size - have)
        turn, mask = have % 4, self._start[-4:]
        self._payload += _unmask(data[start:stop], mask[turn:] + mask[:turn])
        if self._start[0] == FIN_TEXT and self._checked >= 0:
            whole = _whole_characters(bytes(self._payload[self._checked :]))
            self._checked = -1 if whole < 0 else self._checked + whole
        return stop

    @property
    def complete(self) -> bool:
        """Whether the whole frame has arrived."""
        return self._payload is not None and len(self._payload) == self._size

    @property
    def valid(self) -> bool:
        """Whether the frame is valid so far: text must be UTF-8."""
        if self._start[0] != FIN_TEXT:
            return True
        return self._checked == self._size if self.complete else self._checked >= 0

    @property
    def received(self) -> int:
        """Number of bytes of the payload that have arrived."""
        return len(self._payload) if self._payload is not None else self._size

    @property
    def first(self) -> int:
        """The first byte of the frame: FIN, RSV1 and the opcode."""
        return self._start[0]

    def whole(self) -> bytes:
        """
        Return the payload and drop it. Can be called once.

        Raises:
            ValueError: the frame is not complete, or this method has been called before.
        """
        if not self.complete:
            raise ValueError("the frame is not complete")
        payload, self._payload = bytes(self._payload or b""), None
        return payload

    def raw(self) -> bytes:
        """
        Return the bytes that have arrived as they were received: header and masked payload.

        Raises:
            ValueError: `whole` has been called.
        """
        if self._payload is None:
            raise ValueError("the payload has been taken")
        return self._start + _unmask(bytes(self._payload), self._start[-4:])


def _whole_characters(data: bytes) -> int:
    """Return how many bytes at the start are complete UTF-8 characters, without a cut-off last one; -1 if not UTF-8."""
    try:
        whole = codecs.utf_8_decode(data, "strict", False)[1]
    except UnicodeDecodeError:
        return -1
    # The codec regards the beginning of a surrogate, which is invalid, as the beginning of a character.
    rest = data[whole:]
    return whole if not rest or _CUT_OFF.fullmatch(rest) else -1


def extent(data: bytes, start: int) -> tuple[int, int]:
    """
    Return where the payload of a frame starts and ends. The frame may be incomplete or invalid.

    Args:
        data: received bytes.
        start: index of the frame in `data`.

    Returns:
        The indexes of the payload's start and end, which may be beyond the data; `(0, 0)` if the header is incomplete.
    """
    end = len(data)
    if end - start < 2:
        return 0, 0
    size = data[start + 1] & 0x7F
    header = 2 + (4 if data[start + 1] & 0x80 else 0) + (2 if size == 126 else 8 if size == 127 else 0)
    if end - start < header:
        return 0, 0
    if size >= 126:
        size = int.from_bytes(data[start + 2 : start + (4 if size == 126 else 10)], "big")
    return start + header, start + header + size


SPEEDUPS: Any = None
"""The module with the compiled versions; None if they are not in use."""

if os.environ.get("WSSERVER_PUREPYTHON", "") in {"", "0"}:
    with suppress(ImportError):
        SPEEDUPS = import_module("wsserver.wire._speedups")

COMPILED = SPEEDUPS is not None
"""Whether the compiled versions are in use."""

parse, build = py_parse, py_build
Partial = PyPartial

if not TYPE_CHECKING and COMPILED:
    parse, build, Partial = SPEEDUPS.parse, SPEEDUPS.build, SPEEDUPS.Partial
