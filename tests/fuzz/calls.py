"""
Calls of the codec's functions, as bytes that a fuzzer can change: `decode` makes a call of any bytes whatever.

Rule 1: every input stays within the contract of `wsserver.wire.frames`; what the peer sends has none.
Rule 2: seeded; the same random number generator gives the same calls.
"""

import random
import struct
import sys
from typing import Any

from wsserver.testing import build_frame

__all__ = ["Call", "decode", "encoded", "spoiled"]

Call = tuple[str, tuple[Any, ...]]
"""The name of a function and its arguments."""

_HEAD = struct.Struct("<BHIB")
_WHOLE = sys.maxsize

UTF8 = [chr(point).encode() for point in (0x61, 0x80, 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x10FFFF)]
UTF8 += [b"\xc0\x80", b"\xe0\x80\x80", b"\xed\xa0\x80", b"\xf0\x80\x80\x80", b"\xf4\x90\x80\x80"]
UTF8 += [b"\xf8\x88\x80\x80\x80", b"\xff", b"\xbf", b"\xe2\x82", b"\xf0\x9f\x98", b"\xc3"]
SIZES = (0, 1, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 124, 125, 126, 127, 255, 256)
LARGE = (65535, 65536, 65537)
HOSTILE = (0, 125, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1, 2**64 - 14)


def decode(data: bytes) -> Call:
    """Make a call of some bytes."""
    kind, place, limit, count = _HEAD.unpack(data[: _HEAD.size].ljust(_HEAD.size, b"\0"))
    rest = data[_HEAD.size :]
    if kind % 4 == 1:
        size = limit % 70000 if limit else len(rest)
        return "build", (count, (rest * (size // max(1, len(rest)) + 1))[:size])
    if kind % 4 == 2:
        body = (6, 8, 14)[count % 3]
        rest = rest.ljust(body, b"\0")
        return "text_so_far", (bytearray(rest), body, place % (len(rest) - body + 1))
    return "parse", (rest, place % (len(rest) + 2), _WHOLE if limit == 2**32 - 1 else limit, count, kind >= 128)


def encoded(rng: random.Random) -> bytes:
    """Make the bytes of a call that is close to what a client sends."""
    kind = rng.choices((0, 1, 2, 128), (8, 1, 4, 4))[0]
    if kind == 1:
        size = rng.choice((*SIZES, *LARGE))
        return _HEAD.pack(kind, 0, size, rng.choice((0x81, 0x82, 0xC1, rng.randrange(256)))) + rng.randbytes(9)
    if kind == 2:
        return _HEAD.pack(kind, rng.randrange(12), 0, rng.randrange(3)) + _text_frame(rng)
    place = rng.choice((0, 0, 0, rng.randrange(40)))
    data = rng.randbytes(place) + b"".join(_frame(rng) for _ in range(rng.randrange(1, 5)))
    limit = rng.choice((2**32 - 1, 1000, 125, 126, 0, rng.randrange(2**32)))
    return _HEAD.pack(kind, place, limit, rng.choice((255, 255, 0, 1, 2))) + spoiled(rng, data)


def _text(rng: random.Random, size: int) -> bytes:
    parts = rng.choices(UTF8[:1], k=size) if rng.random() < 0.3 else rng.choices(UTF8[: rng.choice((9, 20))], k=size)
    return b"".join(parts)


def _text_frame(rng: random.Random) -> bytes:
    frame = build_frame(1, _text(rng, rng.choice(SIZES)), mask=rng.randbytes(4))
    return spoiled(rng, frame[: rng.randrange(14, len(frame) + 15)])


def _frame(rng: random.Random) -> bytes:
    size = rng.choice(LARGE if rng.random() < 0.01 else SIZES)
    payload = _text(rng, size) if rng.random() < 0.5 else rng.randbytes(size)
    mask = rng.choice((b"", b"\0\0\0\0")) if rng.random() < 0.1 else rng.randbytes(4)
    frame = build_frame(
        rng.choice((1, 1, 1, 2, 2, 2, rng.randrange(16))),
        payload,
        fin=rng.random() < 0.95,
        rsv=rng.choice((0, 0, 0, 4, rng.randrange(8))),
        mask=mask,
    )
    if rng.random() < 0.1:
        claim = rng.choice(HOSTILE)
        length = (
            b"\xfe" + struct.pack("!H", claim & 0xFFFF) if rng.random() < 0.3 else b"\xff" + struct.pack("!Q", claim)
        )
        frame = frame[:1] + length + mask + payload
    return frame


def spoiled(rng: random.Random, data: bytes) -> bytes:
    """Cut off the end, change a bit or put something in between; or nothing, every other time."""
    chance, spoilt = rng.random(), bytearray(data)
    if chance < 0.2:
        del spoilt[rng.randrange(len(spoilt) + 1) :]
    elif chance < 0.4 and spoilt:
        spoilt[rng.randrange(len(spoilt))] ^= 1 << rng.randrange(8)
    elif chance < 0.45:
        at = rng.randrange(len(spoilt) + 1)
        spoilt[at:at] = rng.randbytes(rng.randrange(1, 9))
    return bytes(spoilt)
