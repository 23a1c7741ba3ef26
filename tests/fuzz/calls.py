"""
Calls of the compiled functions, encoded as bytes that a fuzzer can change: `decode` converts any bytes to a call.

Every call must keep the contract of `wsserver.wire.frames` and `wsserver.wire.fastpath`, which allows any data from the
peer. Random number generators with the same seed must produce the same calls.
"""

import random
import struct
import sys
from collections.abc import Callable
from typing import Any

from wsserver.testing import build_frame

__all__ = ["Call", "Twin", "decode", "encoded", "inputs", "spoiled"]

Call = tuple[str, tuple[Any, ...]]
"""The name of a function, and its arguments."""

_HEAD = struct.Struct("<BHIB")
_WHOLE = sys.maxsize
_PARSE, _BUILD, _PARTIAL, _FAST_PATH, _COMPRESSED = 0, 1, 2, 3, 128
_SPLIT_HEAD, _CREATE_DELTA = _BUILD | _COMPRESSED, _PARTIAL | _COMPRESSED

UTF8 = [chr(point).encode() for point in (0x61, 0x80, 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x10FFFF)]
UTF8 += [b"\xc0\x80", b"\xe0\x80\x80", b"\xed\xa0\x80", b"\xf0\x80\x80\x80", b"\xf4\x90\x80\x80"]
UTF8 += [b"\xf8\x88\x80\x80\x80", b"\xff", b"\xbf", b"\xe2\x82", b"\xf0\x9f\x98", b"\xc3"]
SIZES = (0, 1, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 124, 125, 126, 127, 255, 256)
LARGE = (65535, 65536, 65537)
HOSTILE = (0, 125, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1, 2**64 - 14)
CLAIMS = (0, 1, 2**31 - 1, 2**32, 2**62, 2**63 - 15, 2**63 - 1, -1)


def decode(data: bytes) -> Call:
    """Decode bytes to a call."""
    kind, place, limit, count = _HEAD.unpack(data[: _HEAD.size].ljust(_HEAD.size, b"\0"))
    rest = data[_HEAD.size :]
    if kind % 4 == _BUILD and kind >= _COMPRESSED:
        return "split_head", (rest,)
    if kind % 4 == _BUILD:
        size = limit % 70000 if limit else len(rest)
        return "build", (count, (rest * (size // max(1, len(rest)) + 1))[:size])
    if kind % 4 == _PARTIAL and kind >= _COMPRESSED:
        return "create_delta", (rest[:place], rest[place:])
    if kind % 4 == _PARTIAL:
        header = rest[: (6, 8, 14, 6, 8, 14, 5, 15)[count % 8]]
        size = CLAIMS[-limit % len(CLAIMS)] if limit >= 2**31 else limit % 70000
        return "partial", (header, size, _pieces(rest[len(header) :], place), kind // 4)
    maximum = _WHOLE if limit == 2**32 - 1 else limit
    if kind % 4 == _FAST_PATH:
        return "fast_path", (_pieces(rest, place), maximum, count, kind >= _COMPRESSED)
    return "parse", (rest, place % (len(rest) + 2), maximum, count, kind >= _COMPRESSED)


def _pieces(data: bytes, seed: int) -> tuple[bytes, ...]:
    """Cut data into pieces, chosen by a seed."""
    rng = random.Random(seed)
    marks = sorted(rng.randrange(len(data) + 1) for _ in range(rng.choice((0, 1, 2, 3, 9))))
    return tuple(data[start:end] for start, end in zip([0, *marks], [*marks, len(data)], strict=True))


def inputs(call: Call) -> list[bytes]:
    """Return the arguments of a call that are bytes to be parsed."""
    found: list[bytes] = []
    for argument in call[1]:
        found += argument if isinstance(argument, tuple) else [argument] if isinstance(argument, bytes) else []
    return found


class Twin:
    """
    One of the two twins.

    Args:
        parse: as in `wsserver.wire.frames`.
        build: as in `wsserver.wire.frames`.
        partial: as in `wsserver.wire.frames`.
        fast_path: as in `wsserver.wire.fastpath`.
        split_head: as in `wsserver.wire.http11`.
        create_delta: as in `wsserver.hub.delta`.
    """

    def __init__(
        self,
        parse: Callable[..., Any],
        build: Callable[..., Any],
        partial: Any,
        fast_path: Any,
        split_head: Callable[..., Any],
        create_delta: Callable[..., Any],
    ) -> None:
        self._functions = {
            "parse": parse,
            "build": build,
            "partial": self._gather,
            "fast_path": self._serve,
            "split_head": split_head,
            "create_delta": create_delta,
        }
        self._partial = partial
        self._connection: Any = type("Connection", (_Echo, fast_path), {})

    def answer(self, call: Call) -> Any:
        """Make a call; return everything observable about its effects."""
        name, arguments = call
        return self._functions[name](*arguments)

    def _gather(self, header: bytes, size: int, pieces: tuple[bytes, ...], start: int) -> list[Any]:
        seen: list[Any] = []

        def note(call: Callable[[], Any]) -> None:
            try:
                seen.append(call())
            except ValueError:
                seen.append(ValueError)

        try:
            partial = self._partial(header, size)
        except ValueError:
            return [ValueError]
        for piece in pieces:
            note(lambda piece=piece: partial.feed(piece, 0))  # type: ignore[misc]
            seen.append((partial.complete, partial.valid, partial.first))
        # Once more from another place, perhaps beyond the end; then everything, in an order that makes no sense too.
        note(lambda: partial.feed(pieces[-1], start - 1))
        for _ in range(2):
            note(partial.raw)
            note(partial.whole)
            note(lambda: partial.feed(pieces[0], 0))
            seen.append((partial.complete, partial.valid, partial.first))
        return seen

    def _serve(self, pieces: tuple[bytes, ...], limit: int, budget: int, compressed: bool) -> list[Any]:
        connection = self._connection(limit, compressed)
        for piece in pieces:
            connection._plain = True
            if budget:
                connection.seen.append(connection._fast(piece, 0, budget))
            else:
                connection.dataReceived(piece)
            connection.seen.append(("partial", connection._partial and connection._partial.raw()))
        counters = (connection.messages_in, connection.bytes_in, connection.messages_out, connection.bytes_out)
        return [*connection.seen, counters]


class _Echo:
    """The other layers of a connection: an endpoint that echoes, and a transport. Records all calls."""

    _partial: Any
    sendMessage: Callable[..., None]
    maxMessagePayloadSize = 0

    def __init__(self, limit: int, compressed: bool) -> None:
        super().__init__()
        self.state, self._limit, self._compressed = 3, limit, compressed
        self.seen: list[Any] = []
        self.transport = self
        self.autoPingTimeoutCall = "soon"

    def write(self, data: bytes) -> None:
        # A large payload may be written separately from earlier data.
        if self.seen and self.seen[-1][0] == "write":
            self.seen[-1] = ("write", self.seen[-1][1] + data)
        else:
            self.seen.append(("write", data))

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.seen.append(("message", payload, isBinary))
        self.sendMessage(payload, isBinary, doNotCompress=payload[:1] == b"a")
        if payload[:1] == b"\xf0":
            self._plain = False
        if payload[:1] == b"\xc2":
            raise ZeroDivisionError

    def _inflate(self, payload: bytes, first: int) -> bytes | None:
        self.seen.append(("inflate", payload, first))
        return None if payload[:1] == b"\xff" else payload * 2

    def _deflate(self, payload: bytes) -> bytes:
        return payload[::-1]

    def _slow(self, data: bytes, budget: int) -> None:
        self.seen.append(("slow", data, budget))
        if self._partial is not None:
            self._give_up_partial()

    def _message_begun(self) -> None:
        self.seen.append(("begun",))

    def _give_up_partial(self) -> None:
        partial, self._partial = self._partial, None
        self.seen.append(("give up", partial.raw()))

    def _endpoint_failed(self) -> None:
        self.seen.append(("failed", sys.exc_info()[0]))

    def _cancel_ping_timeout(self) -> None:
        self.seen.append(("alive",))


def encoded(rng: random.Random) -> bytes:
    """Return the bytes of a call that resembles what a client sends."""
    kind = rng.choices(
        (
            *(_PARSE, _PARSE | _COMPRESSED, _BUILD, _PARTIAL, _FAST_PATH, _FAST_PATH | _COMPRESSED),
            *(_SPLIT_HEAD, _CREATE_DELTA),
        ),
        (6, 3, 1, 4, 6, 3, 3, 3),
    )[0]
    if kind == _SPLIT_HEAD:
        return _HEAD.pack(kind, 0, 0, 0) + spoiled(rng, _head(rng))
    if kind == _CREATE_DELTA:
        base = _text(rng, rng.choice((0, 16, 40, 200, 2000)))
        return _HEAD.pack(kind, len(base), 0, 0) + base + spoiled(rng, _edited(rng, base))
    if kind == _BUILD:
        size = rng.choice((*SIZES, *LARGE))
        return _HEAD.pack(kind, 0, size, rng.choice((0x81, 0x82, 0xC1, rng.randrange(256)))) + rng.randbytes(9)
    if kind == _PARTIAL:
        return _partial(rng)
    place = rng.choice((0, 0, 0, rng.randrange(40))) if kind & 3 == _PARSE else rng.randrange(2**16)
    frame = _plain_frame if kind & 3 == _FAST_PATH and rng.random() < 0.7 else _frame
    data = b"".join(frame(rng) for _ in range(rng.randrange(1, 5)))
    if kind & 3 == _PARSE:
        data = rng.randbytes(place) + data
    limit = rng.choice((2**32 - 1, 2**32 - 1, 1000, 125, 126, 0, rng.randrange(2**32)))
    count = rng.choice((255, 255, 0, 1, 2) if kind & 3 == _PARSE else (0, 0, 0, 255, 1, 2, 3))
    return _HEAD.pack(kind, place, limit, count) + spoiled(rng, data)


def _head(rng: random.Random) -> bytes:
    """Return a request head whose lines have parts of all sizes, and a few wrong characters."""
    method = rng.choice((b"GET", b"POST", b"g" * rng.choice((1, 31, 32, 33)), b"", b"G(T"))
    target = rng.choice((b"/", b"/api/publish?a=b", b"*", b"/\xc3\xa9", b"", b"/" + b"x" * rng.choice(SIZES)))
    version = rng.choice((b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.9", b"HTTP/1.", b"http/1.1", b"HTTP/11.1"))
    names = (b"Host", b"X-API-Key", b"!#$%&'*+-.^_`|~09azAZ", b"n" * rng.choice((1, 255, 256, 257)), b"", b"a b")
    values = (b"a:1", b"", b" \t", b"\x80\xff", b"a\tb", b"\x00", b"\x1f", b"\x7f", b"\r", b"v" * rng.choice(SIZES))
    spaces = (b"", b" ", b"\t ", b"  ")
    lines = [b" ".join((method, target, version))]
    for _ in range(rng.randrange(5)):
        # Mostly valid names and values.
        name = names[min(rng.randrange(len(names) * 3), rng.randrange(len(names)))]
        value = values[min(rng.randrange(len(values) * 3), rng.randrange(len(values)))]
        lines.append(name + b":" + rng.choice(spaces) + value + rng.choice(spaces))
    return b"\r\n".join(lines) + rng.choice((b"", b"", b"", b"\r\n", b"\r", b"\n", b"\r\n\r\n"))


def _edited(rng: random.Random, base: bytes) -> bytes:
    """Return parts of a text in another order, with other content between them."""
    starts = [rng.randrange(len(base) + 1) for _ in range(rng.randrange(6))]
    parts = [base[start : start + rng.choice(SIZES)] + _text(rng, rng.choice((0, 1, 9))) for start in starts]
    return b"".join(rng.choice(([base], [], [base[:50]])) + parts + rng.choice(([], [base[-50:]])))


def _partial(rng: random.Random) -> bytes:
    # The payload of a frame, with the claimed length, shorter or longer; or only a claimed length.
    size = rng.choice(LARGE if rng.random() < 0.01 else SIZES)
    payload = (_text(rng, size) if rng.random() < 0.7 else rng.randbytes(size)) + bytes(8)
    mask, choice = rng.randbytes(4), rng.randrange(8)
    header = rng.choice(b"\x81\x81\x81\x82\xc1\x00").to_bytes() + bytes((1, 3, 9, 1, 3, 9, 0, 10)[choice]) + mask
    masked = bytes(byte ^ mask[number & 3] for number, byte in enumerate(payload))
    claim = rng.randrange(2**31, 2**32) if rng.random() < 0.2 else max(0, len(payload) - rng.choice((8, 8, 8, 7, 9, 0)))
    start = _PARTIAL + 4 * rng.choice((0, 1, 2, rng.randrange(64)))
    return _HEAD.pack(start, rng.randrange(2**16), claim, choice) + header + spoiled(rng, masked)


def _text(rng: random.Random, size: int) -> bytes:
    parts = rng.choices(UTF8[:1], k=size) if rng.random() < 0.3 else rng.choices(UTF8[: rng.choice((9, 20))], k=size)
    return b"".join(parts)


def _plain_frame(rng: random.Random) -> bytes:
    size = rng.choice(LARGE if rng.random() < 0.02 else SIZES)
    text = "".join(part.decode() for part in rng.choices(UTF8[:9], k=size)).encode()
    return build_frame(rng.choice((1, 1, 2)), text, mask=rng.randbytes(4), rsv=rng.choice((0, 0, 0, 4)))


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
    """About half of the time, return the data unchanged. Otherwise truncate it, flip a bit, or insert bytes."""
    chance, spoilt = rng.random(), bytearray(data)
    if chance < 0.2:
        del spoilt[rng.randrange(len(spoilt) + 1) :]
    elif chance < 0.4 and spoilt:
        spoilt[rng.randrange(len(spoilt))] ^= 1 << rng.randrange(8)
    elif chance < 0.45:
        at = rng.randrange(len(spoilt) + 1)
        spoilt[at:at] = rng.randbytes(rng.randrange(1, 9))
    return bytes(spoilt)
