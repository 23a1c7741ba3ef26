"""The parameters of the API's methods, and their results."""

import json

import pytest

from wsserver.hub.clients import ClientInfo
from wsserver.hub.publication import Publication
from wsserver.hub.stream import Page, Position
from wsserver.jsonfields import read_object
from wsserver.web import parameters as p

GO = (3503, "force disconnect")


def fields(parameters):
    """Write parameters as JSON, and read them as the API does."""
    return read_object(json.dumps(parameters).encode())


class GoodTests:
    """What is taken."""

    @pytest.mark.parametrize(
        ("parameters", "data", "is_json"),
        [
            ({"data": "grüße"}, b'"gr\\u00fc\\u00dfe"', True),
            ({"data": ""}, b'""', True),
            ({"data": {"a": [1, "ü"]}}, b'{"a": [1, "\\u00fc"]}', True),
            ({"data": "\ud800"}, b'"\\ud800"', True),
            ({"data": ["\ud800"]}, b'["\\ud800"]', True),
            ({"data": None}, b"null", True),
            ({"data": 42}, b"42", True),
            ({"b64data": "/wA="}, b"\xff\x00", False),
            ({"b64data": "/wA=", "data": {}}, b"\xff\x00", False),
            ({"b64data": "", "data": 1}, b"1", True),
        ],
    )
    def test_data(self, parameters, data, is_json):
        """The JSON text as it was written, or the bytes of base64."""
        assert p.read_data(fields(parameters)) == (data, is_json)

    def test_defaults(self):
        """What is not there, or null, is not wanted."""
        for nothing in (
            {},
            dict.fromkeys(["tags", "idempotency_key", "limit", "since", "pattern", "disconnect"], b"null"),
        ):
            assert p.read_tags(nothing) is None
            assert p.read_key(nothing) == ""
            assert p.read_limit(nothing) == 0
            assert p.read_since(nothing) is None
            assert p.read_pattern(nothing) == "*"
            assert p.read_disconnect(nothing, GO) == GO
            assert p.read_options(nothing) == {}
            assert p.read_who(nothing, anybody=True) == ("", "")

    def test_given(self):
        """What is there."""
        assert p.read_tags(fields({"tags": {"a": "b"}})) == {"a": "b"}
        assert p.read_limit(fields({"limit": -7})) == -1
        assert p.read_since(fields({"since": {"offset": 7, "epoch": "x"}})) == Position(7, "x")
        assert p.read_since(fields({"since": {}})) == Position(0, "")
        assert p.read_disconnect(fields({"disconnect": {"code": 4000, "reason": "go"}}), GO) == (4000, "go")
        assert p.read_disconnect(fields({"disconnect": {"code": 0, "reason": ""}}), GO) == GO
        assert p.read_who(fields({"client": "c"})) == ("", "c")
        options = {"info": {"a": 1}, "data": 0, "expire_at": 5, "recover_since": {"offset": 1, "epoch": "x"}}
        assert p.read_options(fields({**options, "override": {}})) == {**options, "data": b"0"}

    def test_a_time_may_have_a_fraction(self):
        """It is rounded up."""
        assert p.read_options(fields({"expire_at": 5.25})) == {"expire_at": 6}

    def test_ignored(self):
        """What is unknown, and what is empty."""
        p.check_unsupported(fields({"new": 1, "version": 0, "session": "", "expression": "", "delta": True}))


class BadTests:
    """What is not."""

    @pytest.mark.parametrize(
        ("read", "parameters"),
        [
            (p.read_data, {}),
            (p.read_data, {"b64data": "%"}),
            (p.read_data, {"b64data": 1}),
            (p.read_tags, {"tags": {"a": 1}}),
            (p.read_tags, {"tags": {"\ud800": "a"}}),
            (p.read_tags, {"tags": []}),
            (p.read_key, {"idempotency_key": "ü" * 128}),
            (p.read_key, {"idempotency_key": 1}),
            (p.read_limit, {"limit": "1"}),
            (p.read_since, {"since": "x:1"}),
            (p.read_since, {"since": {"offset": -1}}),
            (p.read_since, {"since": {"offset": 2**53}}),
            (p.read_since, {"since": {"offset": 1, "epoch": 1}}),
            (p.read_pattern, {"pattern": "x" * 256}),
            (p.read_pattern, {"pattern": 1}),
            (p.read_who, {}),
            (p.read_who, {"user": ""}),
            (p.read_who, {"user": 42}),
            (p.read_options, {"expire_at": -1}),
            (p.read_options, {"info": "\ud800"}),
            (p.read_options, {"recover_since": {"offset": -1}}),
            (p.check_unsupported, {"version": 1}),
            (p.check_unsupported, {"session": "s"}),
            (p.check_unsupported, {"expression": "true"}),
            (p.check_unsupported, {"b64info": "AA=="}),
            (lambda parameters: p.read_disconnect(parameters, GO), {"disconnect": {"code": 1000}}),
            (lambda parameters: p.read_disconnect(parameters, GO), {"disconnect": {"code": 5000}}),
            (lambda parameters: p.read_disconnect(parameters, GO), {"disconnect": {"code": 4000, "reason": "x" * 124}}),
        ],
    )
    def test_refused(self, read, parameters):
        """Each with words."""
        with pytest.raises(ValueError, match=r"\w+"):
            read(fields(parameters))

    @pytest.mark.parametrize("name", [None, "", 5, "wsserver:x", "a\n", "\ud800", "x" * 256])
    def test_channel(self, name):
        """No name of a channel."""
        with pytest.raises(ValueError, match=r"^channel: "):
            p.read_channel(fields({"channel": name}))


class PageTests:
    """The result of `history`."""

    def test_publications(self):
        """JSON as it is, bytes as the JSON or the text that they are, or in base64; with what goes along."""
        publications = (
            Publication(b'{"a":1}', 1, "e", True),
            Publication(b"hello", 2, "e", tags={"t": "x"}),
            Publication(b"\xff", 3, "e", info=ClientInfo("c", "42")),
            Publication(b'"42"', 4, "e", True),
            Publication(b"42", 5, "e"),
        )
        assert json.loads(p.write_page(Page(publications, Position(3, "e")))) == {
            "publications": [
                {"data": {"a": 1}, "offset": 1},
                {"data": "hello", "offset": 2, "tags": {"t": "x"}},
                {"data": None, "b64data": "/w==", "offset": 3, "info": {"client": "c", "user": "42"}},
                {"data": "42", "offset": 4},
                {"data": 42, "offset": 5},
            ],
            "offset": 3,
            "epoch": "e",
        }

    def test_empty(self):
        """The position alone."""
        assert p.write_page(Page((), Position(0, "e"))) == b'{"publications":[],"offset":0,"epoch":"e"}'

    def test_bounded(self):
        """Those that are too much are left out; the position tells that there is more."""
        publications = tuple(Publication(b"x" * 1024**2, offset, "e") for offset in range(1, 21))
        page = json.loads(p.write_page(Page(publications, Position(20, "e"))))
        assert [one["offset"] for one in page["publications"]] == list(range(1, 9))
        assert page["offset"] == 20
