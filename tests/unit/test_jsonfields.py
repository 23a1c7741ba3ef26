"""Tests for wsserver/jsonfields.py: JSON from clients, hooks and Redis."""

import contextlib
import json
import re
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsserver.jsonfields import (
    MAX_DEPTH,
    HalfPairError,
    JSONField,
    JSONStruct,
    Nullable,
    Seconds,
    TooDeepError,
    decode,
    decode_replacing,
    decode_shallow,
    decode_string,
    is_too_deep,
    read_json,
    write,
    write_object,
)


class Inner(JSONStruct, frozen=True):
    number: Nullable[int] = 7

    def __post_init__(self):
        JSONStruct.__post_init__(self)
        if self.number == 13:
            raise ValueError("number: expected another one")


class Outer(JSONStruct, frozen=True):
    text: Nullable[str] = "default"
    number: Nullable[Annotated[int, msgspec.Meta(ge=0, le=9)]] = 7
    flag: Nullable[bool] = True
    texts: Nullable[list[str]] = []
    map: Nullable[dict[str, str]] = {}
    inner: Inner | None = None
    inners: Nullable[dict[str, Inner]] = {}
    value: Any = None
    raw: JSONField = None
    until: Seconds = 0


class Code(JSONStruct, frozen=True):
    code: int
    reason: Nullable[str] = ""
    flag: Nullable[bool] = True


NONE = [
    *(b"", b"{", b"{}{}", b"[]", b"1", b'"a"', b"null", b'{"a":NaN}', b'{"a":-Infinity}', b"\xff", b"[" * 10**6),
    *(b"\xef\xbb\xbf{}", "{}".encode("utf-16"), b'{"a":"\xff"}', b'{"a":"\xed\xa0\xbd"}', b'{"\xc0\x80":1}'),
    *(b'{"a":tru}', b'{"a":1,}', b'{"a":01}', b'{"a":1.}', b'{"a":.5}', b'{"a":+1}', b'{"a":-}', b'{"a":1e}'),
    *(b'{"a":"\\ud83d}', b'{"a":"\\ud8g0"}', b'{"a":"\\ud83d\\x"}', b'{"a":"\n"}', b'{"a":[1 2]}', b"{'a':1}"),
]


RAW = dict[str, msgspec.Raw]


class DecodeTests:
    """Decode a whole JSON document into a type."""

    def test_decodes_every_kind_of_json_value(self):
        """The last of several fields with the same name counts; unknown fields are ignored."""
        text = '{"value": [1,-2.5e3,"ü",null,true,{}] , "text":"a","text":"\\u00fc","new":1 }'.encode()
        assert decode(Outer, text) == Outer(value=[1, -2500.0, "ü", None, True, {}], text="ü")

    @pytest.mark.parametrize("kind", [Outer, RAW])
    @pytest.mark.parametrize("text", NONE)
    def test_refuses_invalid_json_and_values_other_than_objects(self, kind, text):
        """Values that only Python's json module accepts, such as NaN, are refused, too."""
        with pytest.raises(ValueError, match=r"it is (not (JSON|a JSON object)|nested too deeply)"):
            decode(kind, text)

    @pytest.mark.parametrize(("start", "end"), [(b"[", b"]"), (b'{"a":', b"}")])
    def test_limits_how_deep_a_document_is_nested_but_not_how_broad(self, start, end):
        """The limit is fixed, far below the one that depends on the caller's stack."""
        inner = b"[" + b"[],{}," * 200 + b"0]"
        for depth, accepted in ((MAX_DEPTH - 3, True), (MAX_DEPTH - 2, False), (900, False)):
            text = b'{"a":' + start * depth + inner + end * depth + b"}"
            with (
                contextlib.nullcontext()
                if accepted
                else pytest.raises(ValueError, match=f"nested too deeply: over {MAX_DEPTH} levels")
            ):
                decode(RAW, text)

    @given(st.binary(max_size=100))
    def test_raises_only_value_error_for_random_bytes(self, text):
        with contextlib.suppress(ValueError):
            assert isinstance(decode(RAW, text), dict)


class FieldTests:
    """Fields have their declared type, or the error names them."""

    @pytest.mark.parametrize(
        ("name", "value"),
        [("text", "ü"), ("number", 0), ("flag", False), ("texts", ["a"]), ("map", {"a": "b"}), ("inner", Inner(1))],
    )
    def test_uses_the_default_if_the_field_is_missing_or_null(self, name, value):
        """Each object gets a new copy of a mutable default."""
        text = msgspec.json.encode({name: value})
        assert getattr(decode(Outer, text), name) == value
        assert decode(Outer, b'{"%b":null}' % name.encode()) == decode(Outer, b"{}") == Outer()
        assert decode(Outer, b'{"map":null}').map is not decode(Outer, b'{"map":null}').map

    def test_a_null_field_after_a_required_one_has_its_own_default(self):
        assert decode(Code, b'{"code":1,"reason":null,"flag":null}') == Code(1, "", True)

    @pytest.mark.parametrize(
        ("fields", "problem"),
        [
            ({"text": 1}, "text: expected a string, got an integer"),
            ({"text": "\ud800"}, "text: expected text in UTF-8, got half a surrogate pair"),
            ({"texts": ["\ud800"]}, "texts: expected text in UTF-8, got half a surrogate pair"),
            ({"number": "1"}, "number: expected an integer, got a string"),
            ({"number": 1.0}, "number: expected an integer, got a number"),
            ({"number": True}, "number: expected an integer, got true or false"),
            ({"number": -1}, "number: expected an integer >= 0"),
            ({"number": 10}, "number: expected an integer <= 9"),
            ({"flag": 1}, "flag: expected true or false, got an integer"),
            ({"texts": {}}, "texts: expected an array, got an object"),
            ({"texts": ["a", 1]}, "texts[1]: expected a string, got an integer"),
            ({"map": []}, "map: expected an object, got an array"),
            ({"map": {"a": 1}}, "map[...]: expected a string, got an integer"),
            ({"inner": []}, "inner: expected an object, got an array"),
            ({"inner": {"number": "1"}}, "inner.number: expected an integer, got a string"),
            ({"inner": {"number": 13}}, "inner.number: expected another one"),
            ({"inners": {"a": {"number": 13}}}, "inners[...].number: expected another one"),
        ],
    )
    def test_an_error_names_the_field_and_what_was_expected(self, fields, problem):
        """A prefix is added if the object is part of another document."""
        text = json.dumps(fields).encode()
        for where, prefix in (("", ""), ("call", "call.")):
            with pytest.raises(ValueError, match=rf"^{re.escape(prefix + problem)}$"):
                decode(Outer, text, where)

    def test_an_error_names_a_missing_required_field_with_its_prefix(self):
        """A document that is not an object is reported under the prefix alone."""
        with pytest.raises(ValueError, match=r"^error\.code: missing$"):
            decode(Code, b"{}", "error")
        with pytest.raises(ValueError, match=r"^error: expected an object, got an array$"):
            decode(Code, b"[]", "error")

    def test_a_raw_field_keeps_its_exact_json_text(self):
        """This includes escapes of half a surrogate pair, even next to whole pairs and to escaped backslashes."""
        value = rb'{"\ud83d":["\uDE00","\ud83d\ude00","\\ud83d","\ud83d\ud83d\ude00",1.10,-0,1E5,0.1e400]}'
        found = decode(Outer, b'{"raw": %b , "text":"\\ud83d\\ude00"}' % value)
        assert (found.raw, found.text) == (value, "\U0001f600")
        assert decode(list[msgspec.Raw], b"[ %b,\n1 ]" % value) == [value, b"1"]
        assert read_json(b" \t%b\r\n" % value) == value

    @settings(max_examples=1000)
    @given(
        st.lists(
            st.sampled_from(["\\u", "\\", "d83d", "de00", "d8", "3d", "d", "f", "0041", "x", "\0", '"', "\\n"]),
            max_size=8,
        )
    )
    def test_a_raw_value_is_accepted_if_and_only_if_it_is_json(self, parts):
        """An invalid escape stays invalid next to half a surrogate pair: other clients could not decode it."""
        text = ('"' + "".join(parts) + '"').encode()
        try:
            json.loads(text)
        except ValueError:
            with pytest.raises(ValueError, match="it is not JSON"):
                read_json(text)
        else:
            assert read_json(text) == text

    @pytest.mark.parametrize(
        "text", [rb'"\ud3d\ude00"', rb'"\ud83\\\ude00"', rb'"\ud83\\"', rb'"\u\ud83d"', rb'"\u0\udead"']
    )
    def test_an_incomplete_escape_is_invalid_next_to_half_a_surrogate_pair(self, text):
        for _ in range(50):
            with pytest.raises(ValueError, match="it is not JSON"):
                read_json(text)

    def test_a_raw_field_that_is_null_or_missing_is_none(self):
        assert decode(Outer, b'{"raw":null}').raw is None
        assert decode(Outer, b"{}").raw is None

    def test_a_raw_field_keeps_the_text_of_a_5001_digit_number(self):
        """Python refuses to convert more than 4,300 digits, so typed fields report the number as out of range."""
        assert decode(Outer, b'{"raw":%b}' % (b"9" * 5001)).raw == b"9" * 5001
        with pytest.raises(ValueError, match=r"^number: integer value out of range$"):
            decode(Outer, b'{"number":%b}' % (b"9" * 5001))
        with pytest.raises(ValueError, match=r"^value: number out of range$"):
            decode(Outer, b'{"value":1e400}')

    def test_a_time_with_a_fraction_is_rounded_up_to_whole_seconds(self):
        """Negative, infinite and non-numeric times raise ValueError."""
        times = [decode(Outer, b'{"until":%b}' % text).until for text in (b"5", b"5.25", b"1e3", b"null", b"0.4")]
        assert times == [5, 6, 1000, 0, 1]
        assert {type(one) for one in times} == {int}
        for text in (b"-1", b"-0.5", b"1e400", b"9" * 20, b'"5"', b"true", b"[]"):
            with pytest.raises(ValueError, match=r"^until: (expected seconds since 1970|number out of range)"):
                decode(Outer, b'{"until":%b}' % text)

    def test_a_number_in_a_field_of_any_type_is_not_rounded(self):
        found = decode(Outer, b'{"value":1.5,"until":1.5}')
        assert (found.value, found.until) == (1.5, 2)

    def test_refuses_strings_with_half_a_surrogate_pair(self):
        """UTF-8 cannot encode half a pair; other escapes are decoded."""
        assert decode_string(rb'"\u0041b\ud83d\ude00"') == "Ab\U0001f600".encode()
        assert decode_string(rb'"\ud83d"') is None
        assert decode(Outer, rb'{"map":{"\u0041":"b"}}').map == {"A": "b"}
        for text in (rb'{"\ud83d":"b"}', rb'{"b":"\ud83d"}', b'{"a":1}', b"[]"):
            with pytest.raises(ValueError, match=r"^map(\[\.\.\.\])?: "):
                decode(Outer, b'{"map":%b}' % text)

    @pytest.mark.parametrize("value", ["\ud83d", ["a\ude00b", {"\udfff": "\U0001f600\ud83d"}]])
    def test_a_field_of_any_type_keeps_half_a_surrogate_pair(self, value):
        """It is written as its escape."""
        text = json.dumps(value).encode()
        found = decode(Outer, b'{"value":%b}' % text).value
        assert found == value
        assert json.loads(write(found)) == value
        assert b"\xed" not in write(found)

    def test_decode_replacing_replaces_half_a_surrogate_pair_in_strings(self):
        """Raw values and fields of any type keep it."""
        text = rb'{"text":"a\ud83db","texts":["\ude00"],"raw":"\ud83d","value":"\ud83d","map":{"\udfff":"c"}}'
        with pytest.raises(HalfPairError, match=r"^text: "):
            decode(Outer, text)
        assert decode_replacing(Outer, text) == Outer(
            "a\ufffdb", texts=["\ufffd"], map={"\ufffd": "c"}, value="\ud83d", raw=rb'"\ud83d"'
        )

    def test_write_object_copies_raw_json_and_encodes_other_values(self):
        assert write_object({"a": b"1.10", "b": "ü", "c": 1}) == '{"a":1.10,"b":"ü","c":1}'.encode()


class DepthTests:
    """How deep a document is nested, found without decoding it."""

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
    def test_is_too_deep_counts_open_brackets_outside_strings(self, text, deep):
        assert is_too_deep(text) is deep

    def test_a_million_open_brackets_raise_too_deep_error(self):
        """Without a limit the decoder would overflow the stack and end the process."""
        with pytest.raises(TooDeepError):
            read_json(b"[" * 10**6)
        with pytest.raises(TooDeepError):
            decode_shallow(RAW, b'{"a":' + b"[" * 10**6)
