"""Apply a delta in the format of Fossil, strictly: what the delta does not have to contain is an error."""

import struct

__all__ = ["apply_delta"]

DIGITS = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~"


def apply_delta(base: bytes, delta: bytes) -> bytes:
    """
    Return the text that a delta makes of an earlier one.

    Source: https://fossil-scm.org/home/doc/tip/www/delta_format.wiki.

    Raises:
        ValueError: the delta is invalid, or made for another text.
    """
    at, parts = 0, []

    def number(ends: bytes) -> tuple[int, int]:
        nonlocal at
        start, value = at, 0
        while delta[at : at + 1] and delta[at] in DIGITS:
            value = value * 64 + DIGITS.index(delta[at])
            at += 1
        if at == start or delta[at : at + 1] == b"" or delta[at] not in ends or (delta[start] == 48 and at - start > 1):
            raise ValueError(f"expected a number and one of {ends!r} at {start} in {delta!r}")
        at += 1
        return value, delta[at - 1]

    size, _ = number(b"\n")
    while True:
        value, instruction = number(b"@:;")
        if instruction == b"@"[0]:
            place, _ = number(b",")
            parts.append(base[place : place + value])
        elif instruction == b":"[0]:
            parts.append(delta[at : at + value])
            at += value
        else:
            break
        if not value or len(parts[-1]) != value:
            raise ValueError(f"an instruction reads {len(parts[-1])} bytes instead of {value}: {delta!r}")
    text = b"".join(parts)
    words = text + bytes(-len(text) % 4)
    if at != len(delta) or size != len(text) or value != sum(struct.unpack(f">{len(words) // 4}I", words)) % 2**32:
        raise ValueError(f"the delta ends early, or makes a text of another size or checksum: {delta!r}")
    return text
