"""
Deltas in the format of Fossil: a delta describes a new text as copies of parts of an earlier text, and new bytes.

Source: https://fossil-scm.org/home/doc/tip/www/delta_format.wiki, which defines the format, but not how the encoder
finds the parts. This one looks for the common beginning and end of both texts. Between them, it looks up each part of
the new text in an index of the blocks of the earlier text.

This module does not use Twisted, a clock or a socket. `_speedups` contains a compiled version with the same results.
"""

import struct
from bisect import bisect_left
from collections.abc import Hashable
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from wsserver.wire import frames

__all__ = ["MIN_SAVING", "DeltaKind", "cached_delta", "create_delta", "py_create_delta"]

MIN_SAVING: Final = 16
"""
Number of bytes that a delta must be smaller than the new text. It exceeds what marking a publication as a delta takes,
so that a publication with a delta is never larger than the plain one.
"""

MAX_SIZE: Final = 16 * 1024**2
"""Maximum size of both texts, in bytes."""

BLOCK: Final = 16
"""Size in bytes of an indexed block. A part of the earlier text is found if it contains a whole block."""

MIN_COPY: Final = 12
"""Minimum number of bytes to copy. The instruction takes up to 10 bytes for texts up to `MAX_SIZE`."""

MAX_CANDIDATES: Final = 8
"""Maximum number of blocks with the same content to compare, on each side of the place where the last copy ended."""

NEAR: Final = 32
"""Distance in bytes from the place where the last copy ended within which the text's content is compared anywhere."""

GOOD_COPY: Final = 128
"""Number of bytes to copy from which no further blocks are compared."""

MAX_INSERT: Final = 64 * 1024
"""Number of new bytes in sequence after which nothing more is searched: the texts probably have nothing in common."""

MAX_COMPARISONS: Final = 20_000
"""Maximum number of blocks to compare for one delta. Behind the place where it is reached, nothing is copied."""

_DIGITS: Final = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~"


def py_create_delta(base: bytes, target: bytes) -> bytes | None:
    """
    Make the delta that turns one text into another.

    If both texts are UTF-8, the delta is UTF-8, too: no instruction divides a character.

    Args:
        base: the earlier text, which the receiver has.
        target: the new text.

    Returns:
        The delta; None if it would save less than `MIN_SAVING` bytes, or if a text is larger than `MAX_SIZE`.
    """
    if len(target) <= MIN_SAVING or max(len(base), len(target)) > MAX_SIZE:
        return None
    _, start = _align(target, 0, _common(base, 0, target, 0, min(len(base), len(target))))
    if start < MIN_COPY:
        start = 0
    size = _common(base, len(base), target, len(target), min(len(base), len(target)) - start, back=True)
    end, _ = _align(target, len(target) - size, len(target))
    if len(target) - end < MIN_COPY:
        end = len(target)
    parts = [_number(len(target)), b"\n"]
    if start:
        parts += _copy(0, start)
    parts += _between(base, target, start, end)
    if end < len(target):
        parts += _copy(len(base) - len(target) + end, len(target) - end)
    parts += _number(_checksum(target)), b";"
    delta = b"".join(parts)
    return delta if len(delta) <= len(target) - MIN_SAVING else None


def _between(base: bytes, target: bytes, start: int, end: int) -> list[bytes]:
    """Return the instructions for `target[start:end]`, which lies between the common beginning and the common end."""
    parts: list[bytes] = []
    done, at, shift, left = start, start, 0, MAX_COMPARISONS
    index = _index(base, start, len(base) - (len(target) - end)) if end - start >= BLOCK else {}
    while at + BLOCK <= end and left > 0 and at - done <= MAX_INSERT:
        places = _find_places(index, base, target[at : at + BLOCK], at + shift)
        if not places:
            at += 1
            continue
        best_start, best_end, source = at, at, at
        for place in places:
            back = _common(base, place, target, at, min(place, at - done), back=True)
            most = min(len(base) - place, end - at) - BLOCK
            forward = BLOCK + _common(base, place + BLOCK, target, at + BLOCK, most)
            left -= 1
            if back + forward > best_end - best_start:
                best_start, best_end, source = at - back, at + forward, place - back
            if best_end == end or best_end - best_start >= GOOD_COPY:
                break
        first, last = _align(target, best_start, best_end)
        if last - first < MIN_COPY:
            at += BLOCK
            continue
        source += first - best_start
        parts += _insert(target[done:first])
        parts += _copy(source, last - first)
        done = at = last
        shift = source - first
    return [*parts, *_insert(target[done:end])]


def _index(base: bytes, start: int, end: int) -> dict[bytes, list[int]]:
    """Return the blocks of `base[start:end]`: content -> places, in ascending order."""
    index: dict[bytes, list[int]] = {}
    for place in range(start, end - BLOCK + 1, BLOCK):
        index.setdefault(base[place : place + BLOCK], []).append(place)
    return index


def _find_places(index: dict[bytes, list[int]], base: bytes, block: bytes, expected: int) -> list[int]:
    """
    Return the places of the earlier text to compare with the text at a block of the new one.

    Args:
        index: the blocks of the earlier text.
        base: the earlier text.
        block: the block of the new text.
        expected: the place that continues the last copy, as if only values of equal length had been replaced since.
    """
    found = index.get(block)
    if found is None:
        return []
    middle = bisect_left(found, expected)
    places = found[middle : middle + MAX_CANDIDATES] + found[max(middle - MAX_CANDIDATES, 0) : middle][::-1]
    # After a replaced value, the right place is near, but it is seldom the place of an indexed block.
    near = base.find(block, max(expected - NEAR, 0), max(expected + NEAR, 0))
    return [near, *places] if near >= 0 else places


def _common(a: bytes, at_a: int, b: bytes, at_b: int, most: int, *, back: bool = False) -> int:
    """
    Return how many bytes are equal from `at_a` in `a` and from `at_b` in `b`, or before these places if `back` is True.

    Args:
        a: a text.
        at_a: a place in it.
        b: another text.
        at_b: a place in it.
        most: maximum result. Both texts must have as many bytes after these places, or before them.
        back: whether to compare the bytes before the places.
    """
    equal, step = 0, 32
    # Slices are compared, because a loop over the bytes takes many times as long.
    while equal < most:
        step = min(step, most - equal)
        from_a, from_b = (at_a - equal - step, at_b - equal - step) if back else (at_a + equal, at_b + equal)
        if a[from_a : from_a + step] == b[from_b : from_b + step]:
            equal += step
            step *= 4
        else:
            most = equal + step - 1
            step = max(step // 4, 1)
    return equal


def _align(target: bytes, first: int, last: int) -> tuple[int, int]:
    """Shrink a part of a text so that it neither begins nor ends within a UTF-8 character."""
    for _ in range(3):
        if first < last and target[first] & 0xC0 == 0x80:
            first += 1
        if first < last < len(target) and target[last] & 0xC0 == 0x80:
            last -= 1
    return first, last


def _copy(place: int, size: int) -> tuple[bytes, ...]:
    return _number(size), b"@", _number(place), b","


def _insert(content: bytes) -> tuple[bytes, ...]:
    return (_number(len(content)), b":", content) if content else ()


def _number(value: int) -> bytes:
    """Write a number with the 64 digits of Fossil."""
    digits = bytearray()
    while True:
        digits.append(_DIGITS[value & 63])
        value >>= 6
        if not value:
            return bytes(digits[::-1])


def _checksum(text: bytes) -> int:
    """Return the sum of the text's 32-bit words, the first byte being the highest, modulo 2**32."""
    count = (len(text) + 3) // 4
    words: tuple[int, ...] = struct.unpack(f">{count}I", text.ljust(count * 4, b"\0"))
    return sum(words) & 0xFFFFFFFF


create_delta = py_create_delta

if not TYPE_CHECKING and frames.COMPILED:
    create_delta = frames.SPEEDUPS.create_delta

cached_delta: Final = lru_cache(maxsize=4)(create_delta)
"""`create_delta` with a cache of the last results: subscribers of different kinds receive the same deltas."""


class DeltaKind(NamedTuple):
    """The `Subscriber.kind` of subscribers that receive deltas."""

    kind: Hashable
    """The kind of the same subscribers without deltas."""
