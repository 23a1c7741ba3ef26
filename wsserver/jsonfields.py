"""
Reading JSON that others have written: what is wrong is a `ValueError` that says so in words.

Rule 1: no Twisted, no clock, no socket.
"""

import json
import math
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["DEEPEST", "read_object", "take", "take_time", "take_value", "too_deep", "write"]

# Python's own limit counts what has called, too: a value that one place has read, another could not write.
DEEPEST: Final = 100
"""Most objects and lists within each other."""

_KINDS: Final = {
    str: "a text",
    dict: "an object",
    list: "a list",
    bool: "true or false",
    int: "a whole number",
}


def read_object(text: bytes) -> dict[str, Any]:
    """
    Read a JSON object (RFC 8259).

    Args:
        text: its text, UTF-8.

    Raises:
        ValueError: it is none.
    """
    try:
        found = json.loads(text.decode("utf-8"), parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON") from None
    if not isinstance(found, dict):
        raise ValueError("it is not a JSON object")
    if too_deep(text, found):
        raise ValueError("it is nested too deeply")
    return found


def too_deep(text: bytes, value: object) -> bool:
    """
    Tell whether a JSON value is nested deeper than `DEEPEST`.

    Args:
        text: of which it was made.
        value: it.
    """
    if text.count(b"[") + text.count(b"{") <= DEEPEST:
        return False
    inner: list[Any] = [value]
    for _ in range(DEEPEST):
        containers = [one for one in inner if isinstance(one, dict | list)]
        inner = [part for one in containers for part in (one.values() if isinstance(one, dict) else one)]
    return any(isinstance(one, dict | list) for one in inner)


def take(fields: Mapping[str, Any], name: str, kind: type, default: Any) -> Any:
    """
    Take a field of an object.

    Args:
        fields: of the object.
        name: of the field.
        kind: what it must be: `str` (of characters that UTF-8 can write), `int`, `bool`, `list` or `dict`.
        default: where it is not there, or null.

    Raises:
        ValueError: it is something else.
    """
    value = fields.get(name)
    if value is None:
        return default
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ValueError(f"{name}: expected {_KINDS[kind]}")
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError(f"{name}: half a surrogate pair is no character") from None
    return value


def take_time(fields: Mapping[str, Any], name: str) -> int:
    """
    Return a field that is a time: seconds since 1970, perhaps with a fraction, which is rounded up.

    Args:
        fields: the object's fields.
        name: the field's name.

    Returns:
        Whole seconds; 0 if the field is missing.

    Raises:
        ValueError: the field is not a number from 0 to 2**53.
    """
    value: Any = fields.get(name)
    if value is None:
        return 0
    if type(value) not in (int, float) or not 0 <= value < 2**53:
        raise ValueError(f"{name}: expected seconds since 1970")
    seconds: int = math.ceil(value)
    return seconds


def take_value(fields: Mapping[str, Any], name: str) -> Any:
    """
    Take a field of any kind that can be written again: not half a character, no number beyond all.

    Args:
        fields: of the object.
        name: of the field; None where it is not there.

    Raises:
        ValueError: it cannot be written.
    """
    value = fields.get(name)
    try:
        write(value)
    except UnicodeEncodeError:
        raise ValueError(f"{name}: half a surrogate pair is no character") from None
    except (ValueError, RecursionError):
        raise ValueError(f"{name}: JSON cannot write it") from None
    return value


def write(value: object) -> bytes:
    """
    Write JSON, as short as it can be.

    Raises:
        ValueError: it cannot be written: NaN, an infinite number, half a surrogate pair.
    """
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8")


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
