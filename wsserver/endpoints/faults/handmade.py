"""
Bytes written by hand: frames, valid and invalid (RFC 6455 section 5), and heads of responses.

This module does not use Twisted, a clock or a socket.
"""

import zlib
from collections.abc import Iterator
from itertools import repeat

from wsserver.wire.frames import FIN_BINARY, RSV1, build

__all__ = [
    "BLOCK",
    "MAX_FRAGMENTS",
    "add_header",
    "bomb",
    "fragment",
    "header",
    "large_message",
    "payloads",
    "remove_header",
    "replace_header",
]

BLOCK = 64 * 1024
"""Number of bytes of a large message that are written at a time."""

MAX_FRAGMENTS = 1024
"""Maximum number of frames of a fragmented answer; longer messages have larger fragments."""

FIN = 0x80


def header(first: int, declared: int) -> bytes:
    """Return the head of a frame that declares a length, which may exceed what RFC 6455 allows."""
    if declared < 126:
        return bytes((first, declared))
    if declared < 2**16:
        return bytes((first, 126)) + declared.to_bytes(2, "big")
    return bytes((first, 127)) + declared.to_bytes(8, "big")


def fragment(first: int, payload: bytes, most: int) -> bytes:
    """
    Return a message in several frames (RFC 6455 section 5.4).

    Args:
        first: the first byte of the message in one frame.
        payload: the payload.
        most: maximum size of a frame's payload; larger if the message would have over `MAX_FRAGMENTS` frames.
    """
    most = max(most, -(-len(payload) // MAX_FRAGMENTS))
    parts = [payload[start : start + most] for start in range(0, len(payload), most)] or [b""]
    firsts = [first & ~FIN, *repeat(0, len(parts) - 1)]
    firsts[-1] |= FIN
    return b"".join(build(*both) for both in zip(firsts, parts, strict=True))


def payloads(size: int, count: int) -> Iterator[bytes]:
    """Yield payloads of the same size; each begins with its number, if there is room."""
    for number in range(1, count + 1):
        yield f"{number} ".encode().ljust(size, b"x")[:size]


def large_message(size: int, sent: int) -> Iterator[bytes]:
    """
    Yield a binary message in blocks.

    Args:
        size: the size that the frame declares.
        sent: number of bytes to send of it.
    """
    yield header(FIN_BINARY, size)
    block = b"x" * BLOCK
    for start in range(0, sent, BLOCK):
        yield block[: sent - start]


def bomb(size: int) -> bytes:
    """
    Return a message for permessage-deflate that is short on the wire and large when it is inflated.

    Args:
        size: its inflated size in bytes, rounded up to `BLOCK`.
    """
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    # After a full flush, a block refers to no earlier data, so it can be repeated.
    block = deflate.compress(b"x" * BLOCK) + deflate.flush(zlib.Z_FULL_FLUSH)
    # RFC 7692 section 7.2.1: the last four bytes are removed.
    return build(FIN_BINARY | RSV1, (block * -(-size // BLOCK))[:-4])


def add_header(head: bytes, name: str, value: str) -> bytes:
    """Add a header to the head of a response."""
    return head.removesuffix(b"\r\n") + f"{name}: {value}\r\n\r\n".encode("latin-1")


def remove_header(head: bytes, name: str) -> bytes:
    """Remove a header from the head of a response."""
    start = name.lower().encode("ascii") + b":"
    return b"".join(line for line in head.splitlines(keepends=True) if not line.lower().startswith(start))


def replace_header(head: bytes, name: str, value: str) -> bytes:
    """Replace a header in the head of a response, or add it."""
    return add_header(remove_header(head, name), name, value)
