"""JSON that others have written."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsserver.jsonfields import (
    MAX_DEPTH,
    TooDeepError,
    decode_string,
    is_too_deep,
    read_json,
    read_object,
    read_value,
    take,
    take_string_map,
    take_time,
    take_value,
    write_object,
)

NONE = [
    *(b"", b"{", b"{}{}", b"[]", b"1", b'"a"', b"null", b'{"a":NaN}', b'{"a":-Infinity}', b"\xff", b"[" * 10**6),
    *(b"\xef\xbb\xbf{}", "{}".encode("utf-16"), b'{"a":"\xff"}', b'{"a":"\xed\xa0\xbd"}', b'{"\xc0\x80":1}'),
    *(b'{"a":tru}', b'{"a":1,}', b'{"a":01}', b'{"a":1.}', b'{"a":.5}', b'{"a":+1}', b'{"a":-}', b'{"a":1e}'),
    *(b'{"a":"\\ud83d}', b'{"a":"\\ud8g0"}', b'{"a":"\\ud83d\\x"}', b'{"a":"\n"}', b'{"a":[1 2]}', b"{'a':1}"),
]


class ObjectTests:
    """An object, or words."""

    def test_object(self):
        """Every kind of value."""
        text = '{"a": [1,-2.5e3,"ü",null,true,{}] , "b":-0,"b":"\\u00fc" }'.encode()
        assert read_object(text) == {"a": '[1,-2.5e3,"ü",null,true,{}]'.encode(), "b": b'"\\u00fc"'}
        assert read_value(read_object(text)["a"]) == [1, -2500.0, "ü", None, True, {}]

    @pytest.mark.parametrize("text", NONE)
    def test_none(self, text):
        """Neither anything else, nor what only Python takes."""
        with pytest.raises(ValueError, match=r"it is (not (JSON|a JSON object)|nested too deeply)"):
            read_object(text)

    @pytest.mark.parametrize(("start", "end"), [(b"[", b"]"), (b'{"a":', b"}")])
    def test_deep(self, start, end):
        """Nesting has a limit, far from the one that depends on who has called; breadth has none."""
        inner = b"[" + b"[],{}," * 200 + b"0]"
        for depth, taken in ((MAX_DEPTH - 3, True), (MAX_DEPTH - 2, False), (900, False)):
            text = b'{"a":' + start * depth + inner + end * depth + b"}"
            with (
                contextlib.nullcontext()
                if taken
                else pytest.raises(ValueError, match=f"nested too deeply: over {MAX_DEPTH} levels")
            ):
                read_object(text)

    @given(st.binary(max_size=100))
    def test_anything(self, text):
        """Nothing breaks it."""
        with contextlib.suppress(ValueError):
            assert isinstance(read_object(text), dict)


class FieldTests:
    """A field of its kind, or words."""

    @pytest.mark.parametrize(("kind", "value"), [(str, "ü"), (int, 0), (bool, False), (list, []), (dict, {})])
    def test_taken(self, kind, value):
        """What is there, else the default; null is not there."""
        assert take({"a": json.dumps(value).encode()}, "a", kind, "default") == value
        assert take({"a": b"null"}, "a", kind, "default") == "default"
        assert take({}, "a", kind, "default") == "default"

    @pytest.mark.parametrize(
        ("kind", "value", "problem"),
        [
            (str, 1, "a: expected a text"),
            (str, "\ud800", "a: half a surrogate pair is no character"),
            (int, "1", "a: expected a whole number"),
            (int, 1.0, "a: expected a whole number"),
            (int, True, "a: expected a whole number"),
            (bool, 1, "a: expected true or false"),
            (list, {}, "a: expected a list"),
            (dict, [], "a: expected an object"),
        ],
    )
    def test_wrong(self, kind, value, problem):
        """Its name is told, and what was expected."""
        with pytest.raises(ValueError, match=rf"^{problem}$"):
            take({"a": json.dumps(value).encode()}, "a", kind, None)

    def test_a_field_that_others_read_keeps_its_text(self):
        """Escapes of half a surrogate pair too, in keys and values, beside whole pairs and escaped backslashes."""
        value = rb'{"\ud83d":["\uDE00","\ud83d\ude00","\\ud83d","\ud83d\ud83d\ude00",1.10,-0,1E5,0.1e400]}'
        assert read_object(b'{"a": %b , "b":["\\udfff"]}' % value) == {"a": value, "b": rb'["\udfff"]'}
        assert take({"a": b"[ %b,\n1 ]" % value}, "a", list, []) == [value, b"1"]
        assert read_json(b" \t%b\r\n" % value) == value
        assert list(read_object(rb'{"\ud83d\ud83d\ude00":1}')) == ["\ud83d\U0001f600"]

    def test_a_number_of_any_length_keeps_its_text(self):
        """Python refuses to read more than 4,300 digits."""
        assert read_object(b'{"a":%b}' % (b"9" * 5001)) == {"a": b"9" * 5001}
        with pytest.raises(ValueError, match=r"^a: expected a whole number$"):
            take({"a": b"9" * 5001}, "a", int, None)

    def test_a_value_that_python_cannot_represent_is_refused(self):
        """The field is named."""
        for text in (b"1e400", rb'["\ud83d"]', rb'{"\ud83d":1}'):
            with pytest.raises(ValueError, match=r"^a: "):
                take_value({"a": text}, "a")

    def test_times(self):
        """Seconds, perhaps with a fraction, which is rounded up."""
        assert [take_time({"a": text}, "a") for text in (b"5", b"5.25", b"1e3", b"null", b"0.4")] == [5, 6, 1000, 0, 1]
        for text in (b"-1", b"-0.5", b"1e400", b"9" * 20, b'"5"', b"true", b"[]"):
            with pytest.raises(ValueError, match=r"^a: expected seconds since 1970$"):
                take_time({"a": text}, "a")

    def test_strings(self):
        """In UTF-8, if it can encode them."""
        assert decode_string(rb'"\u0041b\ud83d\ude00"') == "Ab\U0001f600".encode()
        assert decode_string(rb'"\ud83d"') is None
        assert take_string_map({"a": rb'{"\u0041":"b"}'}, "a") == {"A": "b"}
        for text in (rb'{"\ud83d":"b"}', rb'{"b":"\ud83d"}', b'{"a":1}', b"[]"):
            with pytest.raises(ValueError, match=r"^\w: "):
                take_string_map({"a": text}, "a")

    def test_a_text_is_written_as_it_is(self):
        """Between values that are written anew."""
        assert write_object({"a": b"1.10", "b": "ü", "c": 1}) == '{"a":1.10,"b":"ü","c":1}'.encode()


class DepthTests:
    """How deep a text is nested, found without decoding it."""

    @pytest.mark.parametrize(
        ("text", "deep"),
        [
            (b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, False),
            (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), True),
            (b"[" + b"[]," * 1000 + b"1]", False),
            (b'["' + b"[" * 1000 + b'"]', False),
            (b'["\\"' + b"[" * 1000 + b'\\\\"]', False),
            (b'[["]]]]]"],' * 1 + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"]", True),
            (b"]" * 1000 + b"[" * 500, False),
            (b"", False),
        ],
    )
    def test_depth(self, text, deep):
        """Brackets in strings do not count."""
        assert is_too_deep(text) is deep

    def test_too_deep_for_the_decoder(self):
        """An error too, not the end of the process."""
        with pytest.raises(TooDeepError):
            read_json(b"[" * 10**6)
