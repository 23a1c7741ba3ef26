"""
Frames (RFC 6455 section 5.2): the two things done with every message, as fast as may be.

Rule 1: pure; bytes in, values out. No policy: what is not a plain data frame is left to the state machine.
Rule 2: `_speedups` holds the same functions, compiled. Whatever one returns, the other returns.

`WSSERVER_PUREPYTHON=1` in the environment leaves the compiled ones out.
"""

import codecs
import os
import re
from importlib import import_module
from typing import TYPE_CHECKING

__all__ = [
    "COMPILED",
    "FIN_BINARY",
    "FIN_TEXT",
    "RSV1",
    "build",
    "extent",
    "is_utf8",
    "parse",
    "py_build",
    "py_parse",
    "py_text_so_far",
    "text_so_far",
]

FIN_TEXT, FIN_BINARY, RSV1 = 0x81, 0x82, 0x40

# RFC 3629 section 4: the characters of more than one byte, each without its last bytes.
_CUT_OFF = re.compile(
    rb"[\xc2-\xdf]|\xe0[\xa0-\xbf]?|[\xe1-\xec\xee\xef][\x80-\xbf]?|\xed[\x80-\x9f]?"
    rb"|\xf0(?:[\x90-\xbf][\x80-\xbf]?)?|[\xf1-\xf3][\x80-\xbf]{0,2}|\xf4(?:[\x80-\x8f][\x80-\xbf]?)?"
)

Message = tuple[bytes, int]
"""A payload, unmasked, and the first byte of its frame: FIN, RSV1 and the opcode."""


def py_parse(data: bytes, start: int, max_size: int, max_frames: int, compressed: bool) -> tuple[list[Message], int]:
    """
    Parse whole unfragmented data messages of a client.

    It stops before the first frame that is anything else: a control frame, a fragment, a frame that has not come
    whole, one over the limit, one that breaks a rule, text that is not UTF-8. That one is the state machine's to judge.

    Args:
        data: what was received.
        start: where to start in it.
        max_size: the most bytes of a payload.
        max_frames: the most frames to take.
        compressed: whether RSV1 is taken, with permessage-deflate (RFC 7692 section 6): such payloads are neither
            inflated nor checked to be UTF-8.

    Returns:
        The messages, and where the first frame that was not taken starts.
    """
    messages: list[Message] = []
    end = len(data)
    while max_frames > 0 and end - start >= 6:
        first, second = data[start], data[start + 1]
        plain = first & ~RSV1 if compressed else first
        if plain not in (FIN_TEXT, FIN_BINARY) or not second & 0x80:
            break
        size, mask = second & 0x7F, start + 2
        if size == 126:
            size, mask = int.from_bytes(data[mask : mask + 2], "big"), mask + 2
            if size < 126:
                break
        elif size == 127:
            size, mask = int.from_bytes(data[mask : mask + 8], "big"), mask + 8
            if size < 65536:
                break
        body = mask + 4
        if size > max_size or body + size > end:
            break
        payload = _unmask(data[body : body + size], data[mask:body])
        if first == FIN_TEXT and not is_utf8(payload):
            break
        messages.append((payload, first))
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


def py_text_so_far(data: bytearray, body: int, start: int) -> int:
    """
    Check as much of a text frame's payload as has come, so that what cannot become UTF-8 is refused at once.

    Args:
        data: one frame, from its first byte, not all there.
        body: where its payload starts; the mask is the four bytes before.
        start: where to start in the payload: at a character, as an earlier call has returned.

    Returns:
        Where the first character that is not complete starts in the payload; -1 where it is no UTF-8 already.
    """
    mask = bytes(data[body - 4 : body])
    turn = start % 4
    payload = _unmask(bytes(data[body + start :]), mask[turn:] + mask[:turn])
    try:
        whole = codecs.utf_8_decode(payload, "strict", False)[1]
    except UnicodeDecodeError:
        return -1
    # The codec takes a cut-off surrogate for a character to come.
    rest = payload[whole:]
    return start + whole if not rest or _CUT_OFF.fullmatch(rest) else -1


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


COMPILED = False
"""Whether the compiled functions are in use."""

parse, build, text_so_far = py_parse, py_build, py_text_so_far

if not TYPE_CHECKING and os.environ.get("WSSERVER_PUREPYTHON", "") in {"", "0"}:
    try:
        _speedups = import_module("wsserver.wire._speedups")
    except ImportError:
        pass
    else:
        parse, build, text_so_far = _speedups.parse, _speedups.build, _speedups.text_so_far
        COMPILED = True
