"""
Decode JSON from outside (RFC 8259) into declared structs, and keep the text of values that the server only passes on.

A body, a command or an answer is declared as a `JSONStruct`, and `decode` checks and decodes it in one step. A field of
type `JSONField` keeps its numbers, escapes and white space byte for byte.

This module does not use Twisted, a clock or a socket. Invalid input raises a ValueError that names the field and says
what is expected.
"""

import json
import math
import random
import re
from array import array
from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import accumulate
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import msgspec
from msgspec.structs import force_setattr

from wsserver.typing import JSONText

__all__ = [
    "MAX_DEPTH",
    "HalfPairError",
    "JSONField",
    "JSONStruct",
    "Nullable",
    "Seconds",
    "TooDeepError",
    "check_text",
    "decode",
    "decode_replacing",
    "decode_shallow",
    "decode_string",
    "encode_text",
    "is_too_deep",
    "read_json",
    "replace_nulls",
    "write",
    "write_object",
]

# A fixed limit, because that of the decoder depends on the depth of the caller's stack.
MAX_DEPTH: Final = 256
"""Maximum depth of nested objects and arrays in a request, the outermost one included."""

_T = TypeVar("_T")
_Name = TypeVar("_Name", bound=str)

if TYPE_CHECKING:
    # The types of the attributes, after `JSONStruct` has replaced what the decoder returns.
    Nullable = Annotated[_T, "may be null"]
    Seconds = int
    JSONField = JSONText | None
else:
    Nullable = _T | None
    """A field that may be null, which means that it is missing: the attribute has the default then."""

    Seconds = Annotated[float, msgspec.Meta(ge=0, lt=2**53)] | None
    """A time in seconds since 1970; a fraction is rounded up, because 0 means never."""

    JSONField = msgspec.Raw
    """A value that is passed on: its JSON text, unchanged. A missing value is None."""

_TYPES: Final = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "object": "an object",
    "array": "an array",
    "null": "null",
}
"""msgspec's name of a JSON type -> our name in error messages."""

_RAW: Final = msgspec.json.Decoder(msgspec.Raw)
_STRING: Final = msgspec.json.Decoder(str)
_ENCODER: Final = msgspec.json.Encoder()
_SIMPLE_TYPES: Final = (str, bool, type(None))


class TooDeepError(ValueError):
    """A JSON text is nested deeper than `MAX_DEPTH`."""

    def __init__(self) -> None:
        super().__init__(f"it is nested too deeply: over {MAX_DEPTH} levels")


class HalfPairError(ValueError):
    """
    A decoded string contains half a surrogate pair, which UTF-8 cannot encode.

    Args:
        field: the name of the field.
    """

    def __init__(self, field: str) -> None:
        super().__init__(f"{field}: expected text in UTF-8, got half a surrogate pair")
        self.field = field


class JSONStruct(msgspec.Struct, frozen=True):
    """
    A JSON object with declared fields; unknown fields are ignored.

    A subclass may override `__post_init__` to check more. The override calls this class's `__post_init__` first. If a
    field is invalid, it raises a ValueError whose message starts with the name of the field.
    """

    def __post_init__(self) -> None:
        """Replace null by the default, a raw value by its text, and a time by whole seconds."""
        texts, nullable, times = _find_fields(type(self))
        for name in texts:
            if (value := getattr(self, name)) is not None:
                text = bytes(value)
                force_setattr(self, name, None if text == b"null" else text)
        if None in nullable(self):
            self.set_defaults()
        for name in times:
            if (value := getattr(self, name)) is not None:
                force_setattr(self, name, math.ceil(value))

    def set_defaults(self) -> None:
        """Replace each null by the default of its field."""
        for name, default in _find_defaults(type(self)).items():
            if getattr(self, name) is None:
                force_setattr(self, name, default.factory() if hasattr(default, "factory") else default)


@lru_cache
def _find_fields(kind: type[JSONStruct]) -> tuple[list[str], Callable[[JSONStruct], tuple[Any, ...]], list[str]]:
    """
    Find the fields that `JSONStruct.__post_init__` converts.

    Returns:
        The names of the fields that keep the text of their value; a function that returns the values of the fields with
        a default other than None; and the names of the fields that are times.
    """
    fields = msgspec.structs.fields(kind)
    nullable = list(_find_defaults(kind))
    return (
        [field.name for field in fields if field.type in (msgspec.Raw, msgspec.Raw | None)],
        # Of one name, `attrgetter` would return the value itself instead of a tuple.
        attrgetter(*nullable, *nullable) if nullable else lambda _: (),
        [field.name for field in fields if field.type == Seconds],
    )


@lru_cache
def _find_defaults(kind: type[JSONStruct]) -> dict[str, Any]:
    """Return the defaults other than None: field name -> value, or a factory of a value as msgspec has it."""
    # The defaults are those of the last fields: a required field has none.
    names = kind.__struct_fields__[len(kind.__struct_fields__) - len(kind.__struct_defaults__) :]
    pairs = zip(names, kind.__struct_defaults__, strict=True)
    return {name: default for name, default in pairs if default not in (None, msgspec.NODEFAULT)}


def replace_nulls(values: Mapping[_Name, _T], default: _T) -> dict[_Name, _T]:
    """Return a map in which a default replaces each value that is None, which a JSON null is decoded to."""
    return {name: default if value is None else value for name, value in values.items()}


def decode(kind: type[_T], text: bytes, where: str = "") -> _T:
    """
    Decode a JSON text, and check it against a type.

    Args:
        kind: a subclass of `JSONStruct`, or any type that msgspec decodes.
        text: the JSON text, in UTF-8.
        where: the name of the value in error messages; empty for a whole text.

    Returns:
        The value. If an object has several fields of the same name, the last one counts.

    Raises:
        TooDeepError: the text is nested too deeply.
        HalfPairError: a decoded string contains half a surrogate pair.
        ValueError: the text is not JSON, or not of this type.
    """
    if len(text) > MAX_DEPTH or not text.isascii():
        check_text(text)
    return decode_shallow(kind, text, where)


def check_text(text: bytes) -> None:
    """
    Check what the decoder does not check: that a JSON text is UTF-8, and is not nested deeper than `MAX_DEPTH`.

    Raises:
        TooDeepError: the text is nested too deeply.
        ValueError: the text is not UTF-8.
    """
    if not text.isascii():
        try:
            # The decoder does not check the strings in a raw value.
            text.decode("utf-8")
        except UnicodeDecodeError:
            raise ValueError("it is not JSON") from None
    if is_too_deep(text):
        raise TooDeepError


def decode_shallow(kind: type[_T], text: bytes, where: str = "") -> _T:
    """
    Decode a JSON text that `check_text` has checked, or a part of one; otherwise like `decode`.

    Raises:
        TooDeepError: the text is nested too deeply for the decoder.
        HalfPairError: a decoded string contains half a surrogate pair.
        ValueError: the text is not JSON, or not of this type.
    """
    decoder = _decoder(kind)
    try:
        try:
            found: _T = decoder.decode(text)
        except msgspec.ValidationError:
            raise
        except (msgspec.DecodeError, UnicodeDecodeError):
            masked, marker = _mask_half_pairs(text)
            found = _unmask(decoder.decode(masked), marker, where)
    except msgspec.ValidationError as error:
        raise ValueError(_describe_error(str(error), where)) from None
    except RecursionError:
        raise TooDeepError from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ValueError(f"{where}: expected JSON" if where else "it is not JSON") from None
    return found


def decode_replacing(kind: type[_T], text: bytes) -> _T:
    """
    Decode a JSON text for which `decode` has raised `HalfPairError`.

    Each half of a surrogate pair in a decoded string is replaced by U+FFFD. The values that are passed on keep theirs.
    """
    masked, marker = _mask_half_pairs(text)
    found: _T = _unmask(_decoder(kind).decode(masked), marker, "", "\ufffd")
    return found


_decoder: Callable[[Any], Any] = lru_cache(msgspec.json.Decoder)
"""Type -> its decoder, made once."""

# For example "Expected `int | null`, got `str` - at `$.subs[...].offset`"; the place is missing for the whole text.
_MESSAGE: Final = re.compile(r"(.*?)(?: - at `\$\.?(.*)`)?", re.DOTALL)


def _describe_error(message: str, where: str) -> str:
    """Translate a message of msgspec to `field: expected one type, got another`."""
    found = _MESSAGE.fullmatch(message)
    assert found is not None
    text, place = found[1], found[2] or ""
    field = f"{where}.{place}" if where and place and place[0] != "[" else where + place
    if missing := re.fullmatch(r"Object missing required field `(\w+)`", text):
        text = f"{missing[1]}: missing"
    if not text.startswith(("Expected `", "Number ", "Integer ")):
        # Raised in a `__post_init__`; the message starts with the name of the field.
        return f"{field}.{text}" if field else text
    if not field and text.startswith("Expected `object`"):
        return "it is not a JSON object"
    text = text.replace("Expected `float", "Expected seconds since 1970 as `float")
    text = re.sub(r"`(\w+)(?: \| null)?`", lambda name: _TYPES.get(name[1], name[1]), text)
    return f"{field or 'the value'}: {text[0].lower()}{text[1:]}"


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
    check_text(text)
    try:
        return JSONText(bytes(_RAW.decode(text)))
    except (msgspec.DecodeError, RecursionError):
        return JSONText(bytes(decode_shallow(msgspec.Raw, text)))


def is_too_deep(text: bytes) -> bool:
    """
    Check whether a JSON text is nested deeper than `MAX_DEPTH`.

    Args:
        text: the text; it need not be valid.
    """
    if len(text) <= MAX_DEPTH or text.count(b"[") + text.count(b"{") <= MAX_DEPTH:
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


def write(value: object) -> bytes:
    """
    Encode a value as JSON in UTF-8, without white space.

    Raises:
        ValueError: the value cannot be encoded: NaN, an infinite number.
    """
    # msgspec writes these types as `json` does, much faster, but NaN as null.
    if type(value) in _SIMPLE_TYPES:
        try:
            return _ENCODER.encode(value)
        except UnicodeEncodeError:
            return encode_text(json.dumps(value, ensure_ascii=False))
    return encode_text(json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False))


def encode_text(text: str) -> bytes:
    """Encode a JSON text in UTF-8. Half a surrogate pair, which UTF-8 cannot encode, is written as its escape."""
    return text.encode("utf-8", "backslashreplace")


def write_object(fields: Mapping[str, object]) -> bytes:
    """
    Encode a JSON object.

    Args:
        fields: field name -> value. A value of type bytes must be a JSON text, which is inserted unchanged.
    """
    parts = [(write(name), value if isinstance(value, bytes) else write(value)) for name, value in fields.items()]
    return b"{%b}" % b",".join(b"%b:%b" % part for part in parts)


# RFC 8259 section 8.2 allows a string to contain the escape of half a surrogate pair; JSON.stringify writes one for a
# text that was cut inside an emoji. The decoder rejects it. So a marker replaces the escape's first two characters
# (`\u`) while the decoder finds where the values begin and end, and the result gets the characters back.

_HIGH, _LOW = rb"[dD][89abAB][0-9a-fA-F]{2}", rb"[dD][c-fC-F][0-9a-fA-F]{2}"
_HALF_PAIR: Final = re.compile(rb"\\u(?=%b(?!\\u%b))|(?<!\\u%b)\\u(?=%b)" % (_HIGH, _LOW, _HIGH, _LOW))


def _mask_half_pairs(text: bytes) -> tuple[bytes, bytes]:
    """
    Replace the first two characters of each escaped half of a surrogate pair by a marker.

    Returns:
        The text with the markers, and the marker: 17 characters that the text did not contain.

    Raises:
        msgspec.DecodeError: the text contains a NUL, which JSON does not allow.
    """
    if b"\0" in text:
        raise msgspec.DecodeError
    # The first character is no hexadecimal digit: it must not complete an invalid escape in front of it.
    marker = b"x%016x" % random.getrandbits(64)
    while marker in text:
        marker = b"x%016x" % random.getrandbits(64)
    # A `u` after an escaped backslash does not start an escape.
    hidden = text.replace(rb"\\", b"\0\0")
    return _HALF_PAIR.sub(marker, hidden).replace(b"\0\0", rb"\\"), marker


_Replacement = str | Callable[[re.Match[str]], str] | None
"""What replaces half a surrogate pair in a decoded string; None to refuse it."""


def _restore_half(found: re.Match[str]) -> str:
    return chr(int(found[1], 16))


def _unmask(value: Any, marker: bytes, where: str, replacement: _Replacement = None) -> Any:
    """
    Undo `_mask_half_pairs` in the JSON texts that a decoded value contains, and in its fields of type `Any`.

    Args:
        value: the decoded value.
        marker: the marker that `_mask_half_pairs` has returned.
        where: the name of the value.
        replacement: for the strings in other fields.

    Returns:
        The value.

    Raises:
        HalfPairError: a decoded string contains half a surrogate pair, and there is no replacement.
    """
    if isinstance(value, bytes | msgspec.Raw):
        return bytes(value).replace(marker, b"\\u")
    if isinstance(value, str) and (half := marker.decode("ascii")) in value:
        if replacement is None:
            raise HalfPairError(where)
        return re.sub(half + "(....)", replacement, value)
    if isinstance(value, list):
        return [_unmask(one, marker, where, replacement) for one in value]
    if isinstance(value, dict):
        pairs = value.items()
        return {
            _unmask(name, marker, where, replacement): _unmask(one, marker, where, replacement) for name, one in pairs
        }
    if isinstance(value, msgspec.Struct):
        for field in msgspec.structs.fields(value):
            place = f"{where}.{field.name}" if where else field.name
            chosen = _restore_half if field.type is Any else replacement
            force_setattr(value, field.name, _unmask(getattr(value, field.name), marker, place, chosen))
    return value
