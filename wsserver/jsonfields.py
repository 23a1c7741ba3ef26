"""
Parse JSON from outside (RFC 8259), and keep the text of values that the server only passes on.

An object is parsed to the names of its fields and their JSON texts. A field that is only passed on keeps its numbers,
escapes and white space byte for byte; a field that the server needs is decoded by `take`.

Pure: no Twisted, no clock, no socket. Invalid input raises a ValueError that says what is wrong.
"""

import json
import math
import random
import re
from array import array
from collections.abc import Mapping
from itertools import accumulate
from typing import Any, Final

import msgspec

from wsserver.typing import JSONText

__all__ = [
    "MAX_DEPTH",
    "Fields",
    "TooDeepError",
    "decode_string",
    "is_too_deep",
    "read_json",
    "read_object",
    "read_shallow_object",
    "read_value",
    "take",
    "take_string_map",
    "take_text",
    "take_time",
    "take_value",
    "write",
    "write_object",
]

Fields = Mapping[str, JSONText]
"""A JSON object: field name -> JSON text of the value."""

# A fixed limit, because that of the decoder depends on the depth of the caller's stack.
MAX_DEPTH: Final = 256
"""Maximum depth of nested objects and arrays in a request, the outermost one included."""

_KINDS: Final = {
    str: "a text",
    dict: "an object",
    list: "a list",
    bool: "true or false",
    int: "a whole number",
}

_HALF: Final = "half a surrogate pair is no character"

_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ARRAY: Final = msgspec.json.Decoder(list[msgspec.Raw])
_TEXT: Final = msgspec.json.Decoder(msgspec.Raw)
_VALUE: Final = msgspec.json.Decoder()
_STRING: Final = msgspec.json.Decoder(str)


class TooDeepError(ValueError):
    """A JSON text is nested deeper than `MAX_DEPTH`."""

    def __init__(self) -> None:
        super().__init__(f"it is nested too deeply: over {MAX_DEPTH} levels")


def read_object(text: bytes) -> dict[str, JSONText]:
    """
    Parse a JSON object.

    Args:
        text: the text of the object, in UTF-8.

    Returns:
        Field name -> JSON text. If several fields have the same name, the last one is returned.

    Raises:
        TooDeepError: the text is nested too deeply.
        ValueError: the text is not JSON, or not an object.
    """
    _check_text(text)
    if is_too_deep(text):
        raise TooDeepError
    return read_shallow_object(text)


def read_shallow_object(text: bytes) -> dict[str, JSONText]:
    """
    Parse a JSON object without checking its encoding and depth; otherwise like `read_object`.

    Raises:
        TooDeepError: the text is nested too deeply for the decoder.
        ValueError: the text is not JSON, or not an object.
    """
    try:
        found = _OBJECT.decode(text)
    except msgspec.ValidationError:
        raise ValueError("it is not a JSON object") from None
    except RecursionError:
        raise TooDeepError from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        masked, marker = _mask_half_pairs(text)
        try:
            found = _OBJECT.decode(masked)
        except RecursionError:
            raise TooDeepError from None
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise ValueError("it is not JSON") from None
        return {_unmask_name(name, marker): _unmask(value, marker) for name, value in found.items()}
    return {name: JSONText(bytes(value)) for name, value in found.items()}


def read_json(text: bytes) -> JSONText:
    """
    Check that a text is JSON.

    Args:
        text: any JSON value, in UTF-8.

    Returns:
        The text, without the white space around it.

    Raises:
        TooDeepError: the text is nested too deeply.
        ValueError: the text is not JSON.
    """
    _check_text(text)
    if is_too_deep(text):
        raise TooDeepError
    return _decode(_TEXT, text)


def is_too_deep(text: bytes) -> bool:
    """
    Check whether a JSON text is nested deeper than `MAX_DEPTH`.

    Args:
        text: the text; it need not be valid.
    """
    if text.count(b"[") + text.count(b"{") <= MAX_DEPTH:
        return False
    if b"\\" in text:
        text = _ESCAPE.sub(b"", text)
    outside_strings = b"".join(text.split(b'"')[::2])
    steps = array("b", outside_strings.translate(_STEPS, _NO_BRACKETS))
    return max(accumulate(steps), default=0) > MAX_DEPTH


_ESCAPE: Final = re.compile(rb"\\.", re.DOTALL)
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_STEPS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
"""Maps an opening bracket to +1 and a closing bracket to -1, as signed bytes."""


def read_value(text: JSONText) -> Any:
    """
    Decode a JSON text to a Python value.

    Raises:
        ValueError: Python, or UTF-8, cannot represent the value: a number that is too large, half a surrogate pair.
    """
    try:
        return _VALUE.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(str(error)) from None


def decode_string(text: JSONText) -> bytes | None:
    """
    Decode a JSON string.

    Returns:
        The string in UTF-8; None if it contains half a surrogate pair, which UTF-8 cannot encode.
    """
    if text.find(b"\\") < 0:
        return text[1:-1]
    try:
        return _STRING.decode(text).encode("utf-8")
    except msgspec.DecodeError:
        return None


def take(fields: Fields, name: str, kind: type, default: Any) -> Any:
    """
    Decode a field of an object.

    Args:
        fields: the object's fields.
        name: the field's name.
        kind: the expected type: `str`, `int`, `bool`, `list` (of JSON texts) or `dict` (of JSON texts).
        default: the value to return if the field is missing or null.

    Raises:
        ValueError: the field has another type.
    """
    text = fields.get(name)
    if text is None or text == b"null":
        return default
    expected = ValueError(f"{name}: expected {_KINDS[kind]}")
    if kind is dict or kind is list:
        if text[:1] != (b"{" if kind is dict else b"["):
            raise expected
        return read_shallow_object(text) if kind is dict else _read_array(text)
    if kind is str:
        if text[:1] != b'"':
            raise expected
        try:
            return _STRING.decode(text)
        except msgspec.DecodeError:
            raise ValueError(f"{name}: {_HALF}") from None
    try:
        value = _VALUE.decode(text)
    except msgspec.DecodeError:
        raise expected from None
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise expected
    return value


def take_string_map(fields: Fields, name: str) -> dict[str, str]:
    """
    Decode a field that is an object of strings.

    Args:
        fields: the object's fields.
        name: the field's name.

    Returns:
        The names and strings; empty if the field is missing or null.

    Raises:
        ValueError: the field is not an object of strings.
    """
    found: dict[str, JSONText] = take(fields, name, dict, {})
    for key in found:
        try:
            key.encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError(f"{name}: {_HALF}") from None
    return {key: take(found, key, str, "") for key in found}


def take_time(fields: Fields, name: str) -> int:
    """
    Decode a field that is a time in seconds since 1970; a fraction is rounded up.

    Args:
        fields: the object's fields.
        name: the field's name.

    Returns:
        Whole seconds; 0 if the field is missing or null.

    Raises:
        ValueError: the field is not a number from 0 to 2**53.
    """
    text = fields.get(name)
    if text is None or text == b"null":
        return 0
    try:
        value = _VALUE.decode(text)
    except msgspec.DecodeError:
        value = None
    if type(value) not in (int, float) or not 0 <= value < 2**53:
        raise ValueError(f"{name}: expected seconds since 1970")
    seconds: int = math.ceil(value)
    return seconds


def take_text(fields: Fields, name: str) -> JSONText | None:
    """
    Return the JSON text of a field that is passed on as it is.

    Args:
        fields: the object's fields.
        name: the field's name.

    Returns:
        The text; None if the field is missing or null.
    """
    text = fields.get(name)
    return None if text is None or text == b"null" else text


def take_value(fields: Fields, name: str) -> Any:
    """
    Decode a field of any type.

    Args:
        fields: the object's fields.
        name: the field's name.

    Returns:
        The value; None if the field is missing or null.

    Raises:
        ValueError: Python, or UTF-8, cannot represent the value: a number that is too large, half a surrogate pair.
    """
    text = fields.get(name)
    try:
        return None if text is None else read_value(text)
    except ValueError:
        raise ValueError(f"{name}: a number in it is too large, or {_HALF}") from None


def write(value: object) -> bytes:
    """
    Encode a value as JSON in UTF-8, without white space.

    Raises:
        ValueError: the value cannot be encoded: NaN, an infinite number, half a surrogate pair.
    """
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8")


def write_object(fields: Mapping[str, object]) -> bytes:
    """
    Encode a JSON object.

    Args:
        fields: field name -> value. A value of type bytes must be a JSON text, which is inserted unchanged.
    """
    parts = [(write(name), value if isinstance(value, bytes) else write(value)) for name, value in fields.items()]
    return b"{%b}" % b",".join(b"%b:%b" % part for part in parts)


def _check_text(text: bytes) -> None:
    # The decoder does not check that the strings in a raw value are UTF-8.
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("it is not JSON") from None


def _read_array(text: JSONText) -> list[JSONText]:
    try:
        return [JSONText(bytes(value)) for value in _ARRAY.decode(text)]
    except msgspec.DecodeError:
        masked, marker = _mask_half_pairs(text)
        return [_unmask(value, marker) for value in _ARRAY.decode(masked)]


def _decode(decoder: "msgspec.json.Decoder[msgspec.Raw]", text: bytes) -> JSONText:
    try:
        return JSONText(bytes(decoder.decode(text)))
    except msgspec.DecodeError:
        masked, marker = _mask_half_pairs(text)
        try:
            return _unmask(decoder.decode(masked), marker)
        except msgspec.DecodeError:
            raise ValueError("it is not JSON") from None


# RFC 8259 section 8.2 allows a string to contain the escape of half a surrogate pair; JSON.stringify writes one for a
# text that was cut inside an emoji. The decoder rejects it. So a marker replaces the escape's first two characters
# (`\u`) while the decoder finds where the values begin and end, and the result gets the characters back.

_HIGH, _LOW = rb"[dD][89abAB][0-9a-fA-F]{2}", rb"[dD][c-fC-F][0-9a-fA-F]{2}"
_HALF_PAIR: Final = re.compile(rb"\\u(?=%b(?!\\u%b))|(?<!\\u%b)\\u(?=%b)" % (_HIGH, _LOW, _HIGH, _LOW))


def _mask_half_pairs(text: bytes) -> tuple[bytes, bytes]:
    """Return the text with a marker in place of the first two characters of each half pair's escape, and the marker."""
    marker, backslash = (b"%016x" % random.getrandbits(64) for _ in range(2))
    while marker in text or backslash in text:
        marker, backslash = (b"%016x" % random.getrandbits(64) for _ in range(2))
    # A `u` after an escaped backslash does not start an escape.
    hidden = text.replace(rb"\\", backslash)
    return _HALF_PAIR.sub(marker, hidden).replace(backslash, rb"\\"), marker


def _unmask(masked: msgspec.Raw, marker: bytes) -> JSONText:
    return JSONText(bytes(masked).replace(marker, b"\\u"))


def _unmask_name(name: str, marker: bytes) -> str:
    return re.sub(marker.decode("ascii") + "(.{4})", lambda found: chr(int(found[1], 16)), name)
