"""
Frames of the conformance cases: build frames of the server, with any mistake, and check the frames of the client.

This module does not use Twisted or a clock. Section numbers in this module are those of RFC 6455.
"""

from collections.abc import Iterator
from dataclasses import dataclass

__all__ = [
    "BINARY",
    "CLOSE",
    "CONTINUATION",
    "MAX_FRAMES",
    "NAMES",
    "PING",
    "PONG",
    "RSV1",
    "TEXT",
    "Frame",
    "FrameReader",
    "Violation",
]

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

RSV1 = 4
"""The first of the three reserved bits, as part of `Frame.rsv`."""

MAX_FRAMES = 20_000
"""Maximum number of frames of a client in a case; an echo of the largest message in fragments of a KiB has 1024."""

NAMES = {CONTINUATION: "continuation", TEXT: "text", BINARY: "binary", CLOSE: "close", PING: "ping", PONG: "pong"}
"""Opcode -> name."""


class Violation(Exception):
    """The client has sent what the RFC forbids. The text is a sentence about the client."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame (section 5.2), which need not be valid."""

    opcode: int
    payload: bytes = b""
    fin: bool = True
    rsv: int = 0
    """The three reserved bits as a number, 0-7."""
    mask: bytes = b""
    """The masking key; empty for a frame without one, as a server sends it."""
    form: int | None = None
    """Number of bytes of the extended payload length, 2 or 8, even if the length needs fewer; None for the fewest."""
    declared: int | None = None
    """The payload length in the header; None for that of the payload."""

    def encode(self) -> bytes:
        """Return the frame as bytes."""
        first = (0x80 if self.fin else 0) | self.rsv << 4 | self.opcode
        size = len(self.payload) if self.declared is None else self.declared
        form = self.form if self.form is not None else 0 if size < 126 else 2 if size < 65536 else 8
        short = size if form == 0 else 126 if form == 2 else 127
        second = (0x80 if self.mask else 0) | short
        extended = size.to_bytes(form, "big") if form else b""
        return bytes((first, second)) + extended + self.mask + apply_mask(self.payload, self.mask)

    @property
    def name(self) -> str:
        """The name of the opcode."""
        return NAMES.get(self.opcode, f"opcode {self.opcode}")


def apply_mask(payload: bytes, mask: bytes) -> bytes:
    """Return a payload masked, or unmasked, with a key (section 5.3); unchanged without a key."""
    if not mask:
        return payload
    size = len(payload)
    pad = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")).to_bytes(size, "big")


class FrameReader:
    """
    Splits what a client sends into frames, and checks each header.

    Args:
        max_size: maximum size of a payload, in bytes.
        allows_rsv1: whether permessage-deflate was negotiated (RFC 7692 section 6).
    """

    def __init__(self, max_size: int, *, allows_rsv1: bool) -> None:
        self._max_size = max_size
        self._allows_rsv1 = allows_rsv1
        self._buffer = bytearray()
        self._start = 0
        """Where the next frame begins in the buffer."""
        self._count = 0

    def feed(self, data: bytes) -> Iterator[Frame]:
        """
        Append received bytes.

        Yields:
            The frames that are complete, with their masking key and unmasked payload.

        Raises:
            Violation: a header is invalid, or a payload is over the limit.
        """
        # In place: a client may send a frame of 4 MiB byte by byte.
        del self._buffer[: self._start]
        self._buffer += data
        self._start = 0
        while (frame := self._take()) is not None:
            self._count += 1
            if self._count > MAX_FRAMES:
                raise Violation(f"the client sent over {MAX_FRAMES} frames, more than a case allows")
            yield frame

    @property
    def unread(self) -> int:
        """Number of bytes of an incomplete frame."""
        return len(self._buffer) - self._start

    def _take(self) -> Frame | None:
        data, start = self._buffer, self._start
        if len(data) < start + 2:
            return None
        first, second = data[start], data[start + 1]
        self._check_start(first, second)
        short = second & 0x7F
        form = 2 if short == 126 else 8 if short == 127 else 0
        body = start + 2 + form + 4
        if len(data) < body:
            return None
        size = int.from_bytes(data[start + 2 : start + 2 + form], "big") if form else short
        self._check_size(size, form)
        if len(data) < body + size:
            return None
        self._start = body + size
        mask = bytes(data[body - 4 : body])
        payload = apply_mask(bytes(data[body : body + size]), mask)
        return Frame(first & 0xF, payload, bool(first & 0x80), first >> 4 & 7, mask)

    def _check_start(self, first: int, second: int) -> None:
        opcode, rsv = first & 0xF, first >> 4 & 7
        if opcode not in NAMES:
            raise Violation(f"the client sent a frame with the reserved opcode {opcode} (section 5.2)")
        name = NAMES[opcode]
        if rsv & ~(RSV1 if self._allows_rsv1 and opcode in (TEXT, BINARY) else 0):
            raise Violation(f"the client sent a {name} frame with reserved bits {rsv:03b} (section 5.2)")
        if not second & 0x80:
            raise Violation(f"the client sent a {name} frame without a mask (section 5.1)")
        if opcode >= CLOSE and not first & 0x80:
            raise Violation(f"the client sent a fragmented {name} frame (section 5.5)")
        if opcode >= CLOSE and second & 0x7F > 125:
            raise Violation(f"the client sent a {name} frame with over 125 bytes (section 5.5)")

    def _check_size(self, size: int, form: int) -> None:
        if form and size < (126 if form == 2 else 65536):
            raise Violation(f"the client encoded the length {size} in more bytes than needed (section 5.2)")
        if size > self._max_size:
            raise Violation(f"the client sent a frame of {size} bytes, more than this case allows")
