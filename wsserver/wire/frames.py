"""
Frames (RFC 6455 section 5.2): the two things done with every message, as fast as may be.

Rule 1: pure; bytes in, values out. No policy: what is not a plain data frame is left to the state machine.
Rule 2: `_speedups` holds the same functions, compiled. Whatever one returns, the other returns.

`WSSERVER_PUREPYTHON=1` in the environment leaves the compiled ones out.
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

FIN_TEXT, FIN_BINARY, RSV1 = 0x81, 0x82, 0x40

# RFC 3629 section 4: the characters of more than one byte, each without its last bytes.
_CUT_OFF = re.compile(
    rb"[\xc2-\xdf]|\xe0[\xa0-\xbf]?|[\xe1-\xec\xee\xef][\x80-\xbf]?|\xed[\x80-\x9f]?"
    rb"|\xf0(?:[\x90-\xbf][\x80-\xbf]?)?|[\xf1-\xf3][\x80-\xbf]{0,2}|\xf4(?:[\x80-\x8f][\x80-\xbf]?)?"
)

Message = tuple[bytes, int]
"""A payload, unmasked, and the first byte of its frame: FIN, RSV1 and the opcode."""


def py_head(data: bytes, start: int, max_size: int, compressed: bool) -> tuple[int, int]:
    """
    Read the header of an unfragmented data message of a client.

    Args:
        data: what was received.
        start: where the frame starts in it.
        max_size: the most bytes of a payload.
        compressed: whether RSV1 is taken, with permessage-deflate (RFC 7692 section 6).

    Returns:
        The bytes of the header and of the payload. `(-1, 0)` where the header has not come whole; `(0, 0)` for
        anything else than such a frame: a control frame, a fragment, one over the limit, one that breaks a rule.
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
    Parse whole unfragmented data messages of a client.

    It stops before the first frame that is anything else, that has not come whole, or that is text but not UTF-8.

    Args:
        data: what was received.
        start: where to start in it.
        max_size: the most bytes of a payload.
        max_frames: the most frames to take.
        compressed: whether RSV1 is taken: such payloads are neither inflated nor checked to be UTF-8.

    Returns:
        The messages, and where the first frame that was not taken starts.
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
    # One operation on two whole numbers as long as the payload: the fastest there is without a compiler.
    size = len(payload)
    pad = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(pad, "little")).to_bytes(size, "little")


def is_utf8(payload: bytes) -> bool:
    """Tell whether bytes are UTF-8, whole characters only (RFC 3629)."""
    try:
        payload.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def py_build(first: int, payload: bytes) -> bytes:
    """
    Build a server's frame: not masked.

    Args:
        first: its first byte: FIN, RSV1 and the opcode.
        payload: of any size up to 2**63 - 1 bytes.

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
    A data frame that has not come whole. What has come is kept unmasked; a mere claim of size takes no memory.

    Args:
        start: its header.
        size: of its payload, in bytes.

    Raises:
        ValueError: this is no header.
    """

    def __init__(self, start: bytes, size: int) -> None:
        if not 6 <= len(start) <= 14 or size < 0:
            raise ValueError("no header of a frame")
        self._start = start
        self._size = size
        self._payload: bytearray | None = bytearray()
        self._checked = 0

    def feed(self, data: bytes, start: int) -> int:
        """
        Take what belongs to the frame.

        Args:
            data: what was received.
            start: where to start in it.

        Returns:
            Where the rest starts.

        Raises:
            ValueError: there is no such place, or the frame has been taken.
        """
        if self._payload is None or not 0 <= start <= len(data):
            raise ValueError("no such place")
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
        """Whether all of it has come."""
        return self._payload is not None and len(self._payload) == self._size

    @property
    def sound(self) -> bool:
        """Whether it may still become a message: text must be UTF-8."""
        if self._start[0] != FIN_TEXT:
            return True
        return self._checked == self._size if self.complete else self._checked >= 0

    @property
    def first(self) -> int:
        """Its first byte: FIN, RSV1 and the opcode."""
        return self._start[0]

    def whole(self) -> bytes:
        """
        Take the payload.

        Raises:
            ValueError: it is not complete, or has been taken.
        """
        if not self.complete:
            raise ValueError("the frame is not complete")
        payload, self._payload = bytes(self._payload or b""), None
        return payload

    def raw(self) -> bytes:
        """
        Write what has come as it came.

        Raises:
            ValueError: the payload has been taken.
        """
        if self._payload is None:
            raise ValueError("the frame has been taken")
        return self._start + _unmask(bytes(self._payload), self._start[-4:])


def _whole_characters(data: bytes) -> int:
    """How many bytes are whole characters of UTF-8 before the end or one that is cut off there; -1 if anything else."""
    try:
        whole = codecs.utf_8_decode(data, "strict", False)[1]
    except UnicodeDecodeError:
        return -1
    # The codec takes a cut-off surrogate for a character to come.
    rest = data[whole:]
    return whole if not rest or _CUT_OFF.fullmatch(rest) else -1


def extent(data: bytes, start: int) -> tuple[int, int]:
    """
    Tell where a frame ends, whether or not all of it has come and whatever is wrong with it.

    Args:
        data: what was received.
        start: where the frame starts in it.

    Returns:
        Where its payload starts and where it ends, which may be beyond the data; `(0, 0)` where not even its header has
        come.
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
"""The module of the compiled twins; None where it is not in use."""

if os.environ.get("WSSERVER_PUREPYTHON", "") in {"", "0"}:
    with suppress(ImportError):
        SPEEDUPS = import_module("wsserver.wire._speedups")

COMPILED = SPEEDUPS is not None
"""Whether the compiled twins are in use."""

parse, build = py_parse, py_build
Partial = PyPartial

if not TYPE_CHECKING and COMPILED:
    parse, build, Partial = SPEEDUPS.parse, SPEEDUPS.build, SPEEDUPS.Partial
