"""Tests for wsserver/endpoints/raw/formats.py: publications and gap notices as raw clients receive them."""

import json

import pytest

from wsserver.endpoints.raw.formats import gap_notice, write_publication
from wsserver.endpoints.raw.request import Format
from wsserver.hub.clients import ClientInfo
from wsserver.hub.publication import Publication

TEXT, BINARY = 0x81, 0x82


class JSONTests:
    """`format=json`."""

    @pytest.mark.parametrize(
        ("publication", "expected"),
        [
            (Publication(b'{"a":1}', json=True), {"channel": "c", "data": {"a": 1}}),
            (Publication(b'{"a":1}'), {"channel": "c", "data": '{"a":1}'}),
            (Publication(b"\xff"), {"channel": "c", "b64data": "/w=="}),
            (Publication(b"x", 7, "e"), {"channel": "c", "data": "x", "offset": 7, "epoch": "e"}),
            (Publication(b"x", info=ClientInfo("id"), tags={"a": "b"}), {"channel": "c", "data": "x"}),
        ],
        ids=["JSON", "text that happens to be JSON", "bytes", "with a position", "without info and tags"],
    )
    def test_writes_json_as_a_value_text_as_a_string_and_bytes_in_base64(self, publication, expected):
        payload, first = write_publication("c", publication, Format.JSON)
        assert json.loads(payload) == expected
        assert first == TEXT

    def test_inserts_json_byte_for_byte(self):
        """Numbers and white space stay unchanged."""
        payload, _ = write_publication("c", Publication(b'{"n": 1.10}', json=True), Format.JSON)
        assert payload == b'{"channel":"c","data":{"n": 1.10}}'


class RedisTests:
    """`format=redis`."""

    @pytest.mark.parametrize(
        ("data", "expected"), [(b"x", ["message", "c", "x"]), (b"\xff", ["message", "c", "/w==", "base64"])]
    )
    def test_writes_the_message_of_redis_and_marks_base64(self, data, expected):
        """A fourth item marks base64."""
        payload, first = write_publication("c", Publication(data), Format.REDIS)
        assert (json.loads(payload), first) == (expected, TEXT)


class OpcodeTests:
    """The opcode of the frame."""

    @pytest.mark.parametrize("form", list(Format))
    def test_is_binary_on_request_in_every_format(self, form):
        assert write_publication("c", Publication(b"x"), form, binary=True)[1] == BINARY

    def test_is_binary_for_raw_data_that_is_not_utf8(self):
        """RFC 6455 section 5.6 requires that a text frame contains UTF-8."""
        assert write_publication("c", Publication(b"\xff"), Format.RAW) == (b"\xff", BINARY)


def test_writes_a_gap_notice_that_names_the_channel():
    """WebSocket and event streams use the same notice."""
    assert gap_notice("grüße") == '{"event":"gap","channel":"grüße"}'.encode()
