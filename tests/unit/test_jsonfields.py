"""JSON that others have written."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsserver.jsonfields import DEEPEST, read_object, take

NONE = [
    *(b"", b"{", b"{}{}", b"[]", b"1", b'"a"', b"null", b'{"a":NaN}', b'{"a":-Infinity}', b"\xff", b"[" * 10**6),
    *(b"\xef\xbb\xbf{}", "{}".encode("utf-16"), b'{"a":' + b"9" * 5000 + b"}"),
]


class ObjectTests:
    """An object, or words."""

    def test_object(self):
        """Every kind of value."""
        assert read_object('{"a":[1,-2.5e3,"ü",null,true,{}]}'.encode()) == {"a": [1, -2500.0, "ü", None, True, {}]}

    @pytest.mark.parametrize("text", NONE)
    def test_none(self, text):
        """Neither anything else, nor what only Python takes."""
        with pytest.raises(ValueError, match=r"it is not (JSON|a JSON object)"):
            read_object(text)

    @pytest.mark.parametrize(("start", "end"), [(b"[", b"]"), (b'{"a":', b"}")])
    def test_deep(self, start, end):
        """Nesting has a limit, far from the one that depends on who has called; breadth has none."""
        inner = b"[" + b"[],{}," * 200 + b"0]"
        for depth, taken in ((DEEPEST - 3, True), (DEEPEST - 2, False), (900, False)):
            text = b'{"a":' + start * depth + inner + end * depth + b"}"
            with contextlib.nullcontext() if taken else pytest.raises(ValueError, match="nested too deeply"):
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
        assert take({"a": value}, "a", kind, "default") == value
        assert take({"a": None}, "a", kind, "default") == "default"
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
            take({"a": value}, "a", kind, None)
