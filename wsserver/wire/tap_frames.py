"""
Frames as a tap shows them: read the bytes of one direction of a connection, without the code that serves it.

A tap shows what was on the wire, so it cannot rely on what the server understood: faults send frames that break
RFC 6455, and the server's own parser stops at some that a client sends. This module does not use Twisted, a clock or a
socket.
"""

import sys
import zlib
from collections.abc import Iterator
from typing import Final

from wsserver.wire.frames import parse

__all__ = ["CLOSE", "MAX_INFLATED", "PING", "PONG", "Frame", "FrameReader", "Inflater", "unmask"]

CLOSE, PING, PONG = 8, 9, 10

_RSV1: Final = 0x40
_TAIL: Final = b"\x00\x00\xff\xff"
"""What the receiver appends to a compressed message (RFC 7692 section 7.2.2)."""
MAX_SKIPPED: Final = 0xFFFF
"""Maximum size of the payload of a frame that is skipped, in bytes: one read contains only a few longer ones."""
_LENGTH_16, _LENGTH_64 = 126, 127
"""Lengths that stand for 16 or 64 further bits (RFC 6455 section 5.2)."""
_PIECE: Final = 64 * 1024
"""Maximum number of bytes that are inflated at a time."""
MAX_INFLATED: Final = 4 * 1024 * 1024
"""
Number of bytes after which nothing more of the bytes that have passed at once is inflated.

Others wait meanwhile. A fault sends 1 GiB in a frame of 1 MiB, and one read may have 64 messages of 1 MiB each.
"""


class Inflater:
    """
    Inflates the messages of one direction to show them; a corrupt or too large message ends it.

    Args:
        takeover: whether a message may refer to earlier ones (RFC 7692 section 7.1.1).
        limit: maximum size of a message, in bytes; 0 for no limit.
    """

    def __init__(self, *, takeover: bool, limit: int = 0) -> None:
        self._takeover = takeover
        self._limit = limit
        self._stream = zlib.decompressobj(-zlib.MAX_WBITS)
        self._size = 0
        self.left = MAX_INFLATED
        """Number of bytes that may still be inflated; the caller resets it."""
        self.broken = False
        """Whether the size and the content of messages are unknown from now on."""

    def begin(self) -> None:
        """Begin a message."""
        self._size = 0
        if not self._takeover:
            self._stream, self.broken = zlib.decompressobj(-zlib.MAX_WBITS), False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Inflate a part of a message; yield the result in pieces."""
        while data and not self.broken:
            try:
                piece = self._stream.decompress(data, _PIECE)
            except zlib.error:
                self.broken = True
                return
            self._size += len(piece)
            self.left -= len(piece)
            self.broken = 0 < self._limit < self._size or self.left < 0
            data = self._stream.unconsumed_tail
            if self._stream.eof:
                data, self._stream = self._stream.unused_data, zlib.decompressobj(-zlib.MAX_WBITS)
            yield piece

    def finish(self) -> Iterator[bytes]:
        """Inflate the end of a message."""
        yield from self.feed(_TAIL)


class Frame:
    """A frame that has passed completely, or the part of it that has."""

    __slots__ = (
        "began",
        "first",
        "header_size",
        "inflated",
        "is_inflated",
        "is_whole",
        "mask",
        "message",
        "passed",
        "payload",
        "size",
    )

    def __init__(self, head: bytes, began: float, message: int | None) -> None:
        self.first = head[0]
        """The first byte: FIN, the reserved bits and the opcode."""
        self.header_size = len(head)
        self.mask = head[-4:] if head[1] & 0x80 else b""
        self.size = _payload_size(head)
        """Size of the payload that the header declares, in bytes."""
        self.passed = 0
        """How many bytes of the payload have passed."""
        self.payload = bytearray()
        """The first bytes of the payload, unmasked and inflated."""
        self.inflated: int | None = None
        """Size of the inflated payload in bytes; None if it is not compressed, or cannot be inflated."""
        self.is_inflated = False
        """Whether `payload` is inflated."""
        self.began = began
        """When the first byte passed."""
        self.message = message
        """The number of the message that the frame belongs to, from 1; None for a control frame."""
        self.is_whole = False

    @property
    def opcode(self) -> int:
        """The opcode."""
        return self.first & 0x0F

    @property
    def fin(self) -> bool:
        """Whether the frame is the last one of its message."""
        return bool(self.first & 0x80)

    @property
    def rsv(self) -> int:
        """The three reserved bits as a number: 4 for RSV1, 2 for RSV2, 1 for RSV3."""
        return self.first >> 4 & 0x07


class FrameReader:
    """
    Reads the frames of one direction.

    Args:
        skip: number of bytes to skip first: the rest of a frame that has begun before.
    """

    def __init__(self, skip: int = 0) -> None:
        self.inflater: Inflater | None = None
        """Inflates compressed messages; None if compression was not negotiated."""
        self.keep = 0
        """Maximum number of bytes of a payload to keep."""
        self.skipped = 0
        """Number of frames that `feed` has skipped; the caller resets it."""
        self._skip = skip
        self._head = bytearray()
        self._began = 0.0
        self._frame: Frame | None = None
        self._messages = 0
        self._is_compressed = False
        """Whether the current message is compressed."""

    def feed(self, data: bytes, now: float, most: int = sys.maxsize) -> Iterator[Frame]:
        """
        Read bytes; yield the frames that are complete.

        Args:
            data: bytes that have passed.
            now: the current time.
            most: maximum number of frames to yield; further small ones are skipped in a tenth of the time. A Close
                frame is never skipped.
        """
        start = min(self._skip, len(data))
        self._skip -= start
        if self.inflater is not None:
            self.inflater.left = MAX_INFLATED
        while start < len(data):
            if most <= 0 and self._frame is None and not self._head:
                start = self._skip_small(data, start)
            if self._frame is None:
                start = self._read_head(data, start, now)
            if self._frame is not None:
                start = self._read_payload(self._frame, data, start)
                if self._frame.passed == self._frame.size:
                    most -= 1
                    yield self._finish(self._frame)

    def _skip_small(self, data: bytes, start: int) -> int:
        """Skip whole frames with a payload of up to `MAX_SKIPPED` bytes, except for a Close frame."""
        # The compiled parser stops at the first frame that a client rarely sends.
        whole, start = parse(data, start, MAX_SKIPPED, len(data), self.inflater is not None)
        end, count, messages = start, len(whole), len(whole)
        while end + 1 < len(data):
            opcode, second = data[end] & 0x0F, data[end + 1]
            size = second & 0x7F
            if opcode == CLOSE or size == _LENGTH_64:
                break
            if size == _LENGTH_16:
                size = 2 + int.from_bytes(data[end + 2 : end + 4], "big")
            end += 2 + size + (second >> 7 << 2)
            if end > len(data):
                break
            start = end
            count += 1
            messages += 0 < opcode < CLOSE
        self.skipped += count
        self._messages += messages
        if count and self.inflater is not None:
            # Later messages may refer to a skipped one.
            self.inflater.broken = True
        return start

    def rest(self) -> Frame | None:
        """Return the frame that has not passed completely; None if there is none."""
        if self._frame is None and len(self._head) >= 2:
            # What is missing of the header counts as zeros.
            whole = bytes(self._head).ljust(_head_size(self._head), b"\0")
            return Frame(whole, self._began, None)
        return self._frame

    def _read_head(self, data: bytes, start: int, now: float) -> int:
        head = self._head
        if not head:
            self._began = now
        while start < len(data):
            missing = _head_size(head) - len(head)
            if not missing:
                break
            head += data[start : start + missing]
            start += min(missing, len(data) - start)
        if len(head) == _head_size(head):
            self._frame = self._begin(bytes(head))
            head.clear()
        return start

    def _begin(self, head: bytes) -> Frame:
        opcode = head[0] & 0x0F
        if opcode < CLOSE and opcode:
            self._messages += 1
            self._is_compressed = bool(head[0] & _RSV1) and self.inflater is not None
            if self._is_compressed and self.inflater is not None:
                self.inflater.begin()
        frame = Frame(head, self._began, self._messages if opcode < CLOSE else None)
        if self._is_compressed and opcode < CLOSE and self.inflater is not None and not self.inflater.broken:
            frame.inflated, frame.is_inflated = 0, True
        return frame

    def _read_payload(self, frame: Frame, data: bytes, start: int) -> int:
        end = min(start + frame.size - frame.passed, len(data))
        inflater = self.inflater
        if inflater is not None and frame.is_inflated:
            plain = unmask(data[start:end], frame.mask, frame.passed)
            self._take(frame, inflater, inflater.feed(plain))
        elif (room := self.keep - len(frame.payload)) > 0:
            frame.payload += unmask(data[start : min(end, start + room)], frame.mask, frame.passed)
        frame.passed += end - start
        return end

    def _take(self, frame: Frame, inflater: Inflater, pieces: Iterator[bytes]) -> None:
        size = frame.inflated or 0
        for piece in pieces:
            size += len(piece)
            frame.payload += piece[: max(0, self.keep - len(frame.payload))]
        frame.inflated = None if inflater.broken else size

    def _finish(self, frame: Frame) -> Frame:
        self._frame = None
        if self._is_compressed and self.inflater is not None and frame.message is not None and frame.fin:
            if frame.is_inflated:
                self._take(frame, self.inflater, self.inflater.finish())
            self._is_compressed = False
        frame.is_whole = True
        return frame


def _head_size(head: bytes | bytearray) -> int:
    """Return the size of a header, as far as its first bytes tell it."""
    if len(head) < 2:
        return 2
    extended = {126: 2, 127: 8}.get(head[1] & 0x7F, 0)
    return 2 + extended + (4 if head[1] & 0x80 else 0)


def _payload_size(head: bytes) -> int:
    short = head[1] & 0x7F
    return short if short < 126 else int.from_bytes(head[2 : 4 if short == 126 else 10], "big")


def unmask(payload: bytes, mask: bytes, offset: int) -> bytes:
    """
    Remove the mask from a part of a payload (RFC 6455 section 5.3).

    Args:
        payload: the part.
        mask: the masking key; empty if the frame is not masked.
        offset: index of the part in the payload.
    """
    if not mask or not payload:
        return payload
    turn = offset % 4
    key = (mask[turn:] + mask[:turn]) * (len(payload) // 4 + 1)
    size = len(payload)
    plain = int.from_bytes(payload, "big") ^ int.from_bytes(key[:size], "big")
    return plain.to_bytes(size, "big")
