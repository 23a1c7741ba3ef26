"""Tests for wsserver/cli/publish.py: what `wsserver publish` sends."""

import base64
import json

import pytest

from wsserver.cli.publish import make_body
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
        ],
    )
    def test_text(self, data):
        """What is UTF-8 is sent as a text, whatever it looks like."""
        assert json.loads(make_body("foo", data, as_json=False)) == {"channel": "foo", "data": data.decode()}

    @pytest.mark.parametrize("data", [b"\xff", b"a\x00\xfe", b"\x00" * 100])
    def test_bytes(self, data):
        """What is not, or would grow sixfold by being escaped, is sent in base64."""
        body = json.loads(make_body("foo", data, as_json=False))
        assert body == {"channel": "foo", "b64data": base64.b64encode(data).decode()}

    @pytest.mark.parametrize(
        "text", ['{"a": [1, 2.50, null]}', " 42 ", '"text"', "1" * 5, "123456789012345678901234567890"]
    )
    def test_json(self, text):
        """A JSON value is sent as it was written."""
        body = make_body("foo", text.encode(), as_json=True)
        assert body == b'{"channel": "foo", "data": ' + text.encode() + b"}"
        assert json.loads(body)["data"] == json.loads(text)

    @pytest.mark.parametrize(
        "data", [b"", b"{", b"hello", b"NaN", b"-Infinity", b"1 2", b'1, "more": 2', b"\xff", b"[" * 100_000]
    )
    def test_no_json(self, data):
        """What is no JSON value is refused here, and so cannot be more than one."""
        with pytest.raises(SettingError, match=r"^--json: invalid DATA '.*': "):
            make_body("foo", data, as_json=True)

    @pytest.mark.parametrize("channel", ["foo", 'a"b', "\u4e16", "\udcff"])
    def test_channel(self, channel):
        """Whatever the channel is called, it is one text."""
        assert json.loads(make_body(channel, b"x", as_json=False)) == {"channel": channel, "data": "x"}
