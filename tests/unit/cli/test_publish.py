"""Tests for wsserver/cli/publish.py: the request body that `wsserver publish` sends."""

import base64
import json

import pytest

from wsserver.cli.publish import make_body, parse_tags
from wsserver.errors import SettingError


class BodyTests:
    """The body of the request."""

    @pytest.mark.parametrize(
        "data",
        [
            b"hello",
            b"",
            "gr\u00fc\u00dfe, \u4e16\u754c".encode(),
            b'"quoted"\\',
            b"-5",
            b"null",
            b'["","","","","",""]',
            b'""""""""\x01',
            b"\x00" * 100,
        ],
    )
    def test_utf8_data_is_sent_as_a_string(self, data):
        """This includes text that looks like JSON or a number, and text that base64 would make shorter."""
        assert json.loads(make_body("foo", data, as_json=False)) == {"channel": "foo", "data": data.decode()}

    @pytest.mark.parametrize("data", [b"\xff", b"a\x00\xfe"])
    def test_data_that_is_not_utf8_is_sent_in_base64(self, data):
        body = json.loads(make_body("foo", data, as_json=False))
        assert body == {"channel": "foo", "b64data": base64.b64encode(data).decode()}

    @pytest.mark.parametrize(
        "text", ['{"a": [1, 2.50, null]}', " 42 ", '"text"', "1" * 5, "123456789012345678901234567890"]
    )
    def test_json_data_is_sent_unchanged(self, text):
        body = make_body("foo", text.encode(), as_json=True)
        assert body == b'{"channel": "foo", "data": ' + text.encode() + b"}"
        assert json.loads(body)["data"] == json.loads(text)

    @pytest.mark.parametrize(
        "data", [b"", b"{", b"hello", b"NaN", b"-Infinity", b"1 2", b'1, "more": 2', b"\xff", b"[" * 100_000]
    )
    def test_data_that_is_not_one_json_value_is_refused(self, data):
        """Without the check, data with a second value or a field could inject fields into the request."""
        with pytest.raises(SettingError, match=r"^--json: invalid DATA '.*': "):
            make_body("foo", data, as_json=True)

    @pytest.mark.parametrize(("data", "as_json"), [(b"x", False), (b"\xff", False), (b"{}", True)])
    def test_tags_are_sent_with_every_form_of_data(self, data, as_json):
        body = json.loads(make_body("foo", data, {"a": '"', "\u4e16": ""}, as_json=as_json))
        assert body["tags"] == {"a": '"', "\u4e16": ""}
        assert len(body) == 3

    @pytest.mark.parametrize("channel", ["foo", 'a"b', "\u4e16", "\udcff"])
    def test_any_channel_name_is_sent_as_one_string(self, channel):
        assert json.loads(make_body(channel, b"x", as_json=False)) == {"channel": channel, "data": "x"}


class TagTests:
    """The values of `--tag`."""

    def test_the_first_equals_sign_ends_the_name(self):
        assert parse_tags(["a=b", "c=d=e", "f="]) == {"a": "b", "c": "d=e", "f": ""}

    @pytest.mark.parametrize(
        ("pairs", "message"),
        [
            (["a"], "--tag: expected NAME=VALUE, not 'a'"),
            (["a=1", "b=2", "a=3"], "--tag: several values for one name; a second one is 'a=3'"),
        ],
    )
    def test_refuses_what_is_not_a_pair_and_a_name_with_two_values(self, pairs, message):
        with pytest.raises(SettingError, match=f"^{message}$"):
            parse_tags(pairs)
