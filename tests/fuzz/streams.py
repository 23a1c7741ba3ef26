"""
What a client may send: valid, nearly valid and invalid streams, cut anywhere.

Every random choice must be made by the generator that the caller passes. That is either `random.Random`, which is fast,
or a generator of Hypothesis, which finds the smallest example.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from hypothesis import strategies as st

from wsserver.testing import build_frame

__all__ = ["PLANS", "Case", "cases", "make_case"]

PLANS = {
    "echo": ("echo",),
    "closes": ("echo", "echo", "close"),
    "raises": ("echo", "echo", "raise"),
    "answers": ("echo", "several", "large", "ping", "fragments", "silent"),
    "pauses": ("echo", "large", "pause"),
    "aborts": ("echo", "echo", "abort", "drop"),
    "any": (
        "echo",
        "echo",
        "echo",
        "several",
        "large",
        "ping",
        "pause",
        "close",
        "raise",
        "abort",
        "drop",
        "answer and close",
    ),
}
"""Plan -> the endpoint's reactions; the payload of a message selects one."""

OFFERS = (
    "permessage-deflate",
    "permessage-deflate; client_max_window_bits",
    "permessage-deflate; client_no_context_takeover; server_no_context_takeover",
    "permessage-deflate; client_max_window_bits=9; server_max_window_bits=9",
)
SIZES = (0, 1, 2, 3, 4, 5, 7, 8, 9, 30, 124, 125, 126, 127, 200, 999, 1000, 1001)
LARGE = (1999, 65535, 65536, 70000)
TEXTS = ("a", "é", "߿", "ࠀ", "日本", "\ud7ff", "\ue000", "\uffff", "\U00010000", "😀", "\U0010ffff")
NO_TEXTS = (
    b"\x80",
    b"\xc0\x80",
    b"\xc1\xbf",
    b"\xe0\x9f\xbf",
    b"\xed\xa0\x80",
    b"\xf0\x8f\xbf\xbf",
    b"\xf4\x90\x80\x80",
)
NO_TEXTS += (b"\xf5\x80\x80\x80", b"\xff", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xed\xa0", b"\xf4\x90")
FRAME_LIKE = build_frame(2, b"in", mask=bytes(4))
MASKS = (b"mask", bytes(4), bytes(4), b"\xff\x00\x81\x01", b"\x81\x82\x81\x82", b"\x82\x80\x82\x80")
CODES = (0, 999, 1000, 1001, 1004, 1005, 1006, 1007, 1011, 1012, 1013, 1014, 1015, 1016, 2999, 3000, 4999, 5000, 65535)
CLAIMS = (0, 125, 126, 1001, 65535, 65536, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1)


@dataclass(frozen=True, slots=True)
class Case:
    """A connection from its handshake to its end."""

    stream: bytes
    """Everything that the client sends after the handshake."""
    cuts: tuple[int, ...]
    """The offsets at which the network cuts the stream, in order."""
    waits: tuple[float, ...]
    """Seconds to wait after some of the pieces."""
    plan: str
    """The plan of the endpoint, from `PLANS`."""
    limit: int
    """The maximum message size in bytes."""
    offer: str | None = None
    """The client's Sec-WebSocket-Extensions header."""
    early: bool = False
    """Whether the first piece arrives together with the handshake."""
    impatient: bool = False
    """Whether pieces arrive even while the server has paused reading, as with TLS."""
    stalled: bool = False
    """Whether the client does not read until the server has stopped reading too."""
    lost: bool = False
    """Whether the connection is lost at the end, instead of falling silent."""

    def pieces(self) -> Iterator[tuple[bytes, float]]:
        """Cut the stream; yield each piece, and the seconds to wait after it."""
        ends = (*self.cuts, len(self.stream))
        for number, (start, end) in enumerate(zip((0, *self.cuts), ends, strict=True)):
            yield self.stream[start:end], self.waits[number] if number < len(self.waits) else 0.0


def cases() -> st.SearchStrategy[Case]:
    """Return a strategy for cases, which Hypothesis can shrink."""
    return st.randoms(use_true_random=False).map(make_case)


def make_case(rng: Random) -> Case:
    """Make a random case."""
    limit = rng.choice((1000, 1000, 1000, 126, 100_000))
    offer = rng.choice(OFFERS) if rng.random() < 0.4 else None
    stream = _spoil(rng, _stream(rng, limit, offer)) if rng.random() < 0.95 else _noise(rng)
    impatient = rng.random() < 0.1
    cuts = _cuts(rng, stream)
    waits = () if impatient or rng.random() < 0.8 else tuple(rng.choice((0.0, 0.0, 0.3, 26.0)) for _ in cuts[:20])
    return Case(
        stream,
        cuts,
        waits,
        rng.choice(tuple(PLANS)),
        limit,
        offer,
        early=rng.random() < 0.1,
        impatient=impatient,
        stalled=rng.random() < 0.15,
        lost=rng.random() < 0.2,
    )


def _noise(rng: Random) -> bytes:
    return bytes(rng.randrange(256) for _ in range(rng.randrange(40)))


def _cuts(rng: Random, stream: bytes) -> tuple[int, ...]:
    way = rng.randrange(5)
    if way == 0 or len(stream) < 2:
        return ()
    if way == 1 and len(stream) <= 2000:
        return tuple(range(1, len(stream)))
    return tuple(sorted({rng.randrange(1, len(stream)) for _ in range(rng.choice((1, 2, 3, 8, 30)))}))


def _spoil(rng: Random, stream: bytes) -> bytes:
    way, spoilt = rng.randrange(10), bytearray(stream)
    if not stream or way > 3:
        return stream
    at = rng.randrange(len(stream))
    if way == 0:
        spoilt[at] ^= 1 << rng.randrange(8)
    elif way == 1:
        del spoilt[at:]
    elif way == 2:
        spoilt[at:at] = stream[at : at + rng.choice((1, 2, 6, 20))]
    else:
        spoilt[at:at] = _noise(rng)
    return bytes(spoilt)


def _stream(rng: Random, limit: int, offer: str | None) -> bytes:
    if rng.random() < 0.02:
        small = build_frame(rng.choice((1, 2, 9)), b"x" * rng.randrange(3))
        return small * rng.choice((30, 40, 255, 256, 257, 600)) + _piece(rng, limit, None)
    deflater = _Deflater(offer) if offer else None
    return b"".join(_piece(rng, limit, deflater) for _ in range(rng.choice((1, 2, 3, 4, 8))))


def _piece(rng: Random, limit: int, deflater: "_Deflater | None") -> bytes:
    way = rng.random()
    if way < 0.68:
        return _message(rng, limit, deflater)
    if way < 0.8:
        return _control(rng)
    return _close(rng) if way < 0.86 else rng.choice(WRONG)(rng)


# Messages.


class _Deflater:
    """The client's side of permessage-deflate (RFC 7692)."""

    def __init__(self, offer: str) -> None:
        self._bits = -9 if "=9" in offer else -15
        self._forget = "client_no" in offer
        self._deflater = zlib.compressobj(wbits=self._bits)

    def message(self, payload: bytes) -> bytes:
        """Compress a message."""
        if self._forget:
            self._deflater = zlib.compressobj(wbits=self._bits)
        return self._deflater.compress(payload) + self._deflater.flush(zlib.Z_SYNC_FLUSH)[:-4]


def _message(rng: Random, limit: int, deflater: _Deflater | None) -> bytes:
    size = rng.choice((limit - 1, limit, limit + 1)) if rng.random() < 0.1 else rng.choice(SIZES)
    size = rng.choice(LARGE) if rng.random() < 0.03 else size
    text = rng.random() < 0.6
    payload, rsv = _text(rng, size) if text else _binary(rng, size), 0
    if deflater is not None and rng.random() < 0.8:
        payload, rsv = _deflated(rng, payload, limit, deflater), 4
    opcode = 1 if text else 2
    if rng.random() < 0.7:
        return _frame(rng, opcode, payload, rsv=rsv)
    return _fragments(rng, opcode, payload, rsv)


def _deflated(rng: Random, payload: bytes, limit: int, deflater: _Deflater) -> bytes:
    way = rng.random()
    if way < 0.08:
        payload = bytes(limit * rng.choice((1, 2, 50)) + rng.randrange(2))
    elif way < 0.12:
        return _noise(rng)
    elif way < 0.15:
        # RFC 7692 section 7.2.3.4: a block with the final bit, after which a decoder stops.
        final = zlib.compressobj(wbits=-9)
        return final.compress(payload) + final.flush() + rng.choice((b"", b"\0"))
    return deflater.message(payload)


def _fragments(rng: Random, opcode: int, payload: bytes, rsv: int) -> bytes:
    places = sorted(rng.randrange(len(payload) + 1) for _ in range(rng.choice((1, 1, 2, 5))))
    parts = [payload[start:end] for start, end in zip([0, *places], [*places, len(payload)], strict=True)]
    stream = b""
    for number, part in enumerate(parts):
        first = number == 0
        stream += _frame(rng, opcode if first else 0, part, fin=number == len(parts) - 1, rsv=rsv if first else 0)
        if rng.random() < 0.2:
            stream += _control(rng)
    return stream


def _text(rng: Random, size: int) -> bytes:
    letters = "".join(rng.choice(TEXTS) for _ in range(rng.choice((1, 2, 4))))
    text = (letters * (size // len(letters.encode("utf-8", "surrogatepass")) + 1)).encode("utf-8", "surrogatepass")
    text = text[:size] if rng.random() < 0.2 else text[:size].decode("utf-8", "ignore").encode("utf-8")
    if rng.random() < 0.2:
        at = rng.choice((0, len(text), rng.randrange(len(text) + 1)))
        text = text[:at] + rng.choice(NO_TEXTS) + text[at:]
    return text


def _binary(rng: Random, size: int) -> bytes:
    # A payload may look like frames, but must not be parsed as frames.
    word = bytes(rng.randrange(256) for _ in range(rng.choice((1, 3, 8)))) if rng.random() < 0.8 else FRAME_LIKE
    return (word * (size // len(word) + 1))[:size]


def _frame(rng: Random, opcode: int, payload: bytes, **options: Any) -> bytes:
    return build_frame(opcode, payload, mask=rng.choice(MASKS), **options)


# Control frames, and frames that no client may send.


def _control(rng: Random) -> bytes:
    payload = _binary(rng, rng.choice((0, 1, 4, 125))) if rng.random() < 0.95 else b"ppppp"
    return _frame(rng, rng.choice((9, 10)), payload)


def _close(rng: Random) -> bytes:
    reason = rng.choice((b"", b"bye", "é日😀".encode(), b"x" * 123, rng.choice(NO_TEXTS)))
    return _frame(rng, 8, b"" if rng.random() < 0.2 else struct.pack("!H", rng.choice(CODES)) + reason)


def _wrong_claim(rng: Random) -> bytes:
    claim = rng.choice(CLAIMS)
    short = b"\xfe" + struct.pack("!H", claim & 0xFFFF)
    return (
        bytes([rng.choice((0x81, 0x82, 0x01, 0xC1, 0x88))])
        + rng.choice((short, b"\xff" + struct.pack("!Q", claim)))
        + b"mask"
        + _binary(rng, rng.choice((0, 5, 200)))
    )


WRONG: tuple[Callable[[Random], bytes], ...] = (
    _wrong_claim,
    lambda rng: build_frame(rng.choice((1, 2, 8, 9)), b"12", mask=b""),
    lambda rng: _frame(rng, rng.choice((0, 1, 2, 8, 9)), b"12", rsv=rng.randrange(1, 8)),
    lambda rng: _frame(rng, rng.choice((3, 7, 11, 15)), b"12", fin=rng.random() < 0.5),
    lambda rng: _frame(rng, rng.choice((8, 9, 10)), b"12", fin=False),
    lambda rng: _frame(rng, rng.choice((8, 9, 10)), b"x" * rng.choice((126, 200, 1200))),
    lambda rng: _frame(rng, 0, b"12", fin=rng.random() < 0.5),
    lambda rng: _frame(rng, 1, b"12", fin=False) + _frame(rng, rng.choice((1, 2)), b"12"),
    lambda rng: _frame(rng, 8, b"1"),
)
