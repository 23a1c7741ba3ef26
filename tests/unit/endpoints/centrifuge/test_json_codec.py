"""Tests for wsserver/endpoints/centrifuge/json_codec.py: the JSON of replies, pushes and publications."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from wsserver.centrifugecodes import Error
from wsserver.endpoints.centrifuge.json_codec import JSON
from wsserver.endpoints.centrifuge.replies import (
    PUBLISHED,
    UNSUBSCRIBED,
    ConnectResult,
    HistoryResult,
    MessagePush,
    PresenceResult,
    PresenceStatsResult,
    SubRefreshResult,
    SubscribeResult,
    UnsubscribePush,
)
from wsserver.hub.clients import ClientInfo
from wsserver.hub.publication import Publication


class EncodingTests:
    """The JSON of replies and pushes, byte for byte."""

    @pytest.mark.parametrize(
        ("written", "expected"),
        [
            (JSON.reply(3, UNSUBSCRIBED), '{"id":3,"unsubscribe":{}}'),
            (JSON.reply(3, PUBLISHED), '{"id":3,"publish":{}}'),
            (JSON.reply(3, SubRefreshResult(True, 9)), '{"id":3,"sub_refresh":{"expires":true,"ttl":9}}'),
            (
                JSON.reply(1, ConnectResult("a", subs={"c": SubscribeResult(recovered=True)})),
                '{"id":1,"connect":{"client":"a","subs":{"c":{"recovered":true}}}}',
            ),
            (
                JSON.reply(
                    2,
                    SubscribeResult(positioned=True, offset=0, publications=(Publication(b"1"), Publication(b"{\n}"))),
                ),
                '{"id":2,"subscribe":{"positioned":true,"publications":[{"data":1},{"data":{ }}]}}',
            ),
            (JSON.reply(1, PresenceResult(Raw(b"{}"))), '{"id":1,"presence":{"presence":{}}}'),
            (
                JSON.reply(1, HistoryResult(Raw(b"[{},{}]"), "e", 2)),
                '{"id":1,"history":{"publications":[{},{}],"epoch":"e","offset":2}}',
            ),
            (JSON.error_reply(2, Error(103, "no")), '{"id":2,"error":{"code":103,"message":"no"}}'),
            (
                JSON.error_reply(2, Error(100, "ü", temporary=True)),
                '{"id":2,"error":{"code":100,"message":"ü","temporary":true}}',
            ),
            (JSON.publication("c", Publication(b"1")), '{"push":{"channel":"c","pub":{"data":1}}}'),
            (JSON.push("", MessagePush(Raw(b"null"))), '{"push":{"message":{"data":null}}}'),
            (
                JSON.push('"', UnsubscribePush(2500, "x")),
                '{"push":{"channel":"\\"","unsubscribe":{"code":2500,"reason":"x"}}}',
            ),
        ],
    )
    def test_omits_fields_with_a_zero_value_from_replies_and_pushes(self, written, expected):
        assert written.decode() == expected

    @pytest.mark.parametrize(
        ("result", "expected"),
        [
            (PresenceResult(Raw(b"{}")), '{"presence":{}}'),
            (PresenceStatsResult(0, 0), '{"num_clients":0,"num_users":0}'),
            (HistoryResult(Raw(JSON.publications([])), "", 0), '{"publications":[],"epoch":"","offset":0}'),
        ],
    )
    def test_writes_the_fields_that_centrifuge_always_writes_even_if_they_are_zero(self, result, expected):
        """Source: the fields without `omitempty` in `client.pb.go` of centrifugal/protocol."""
        assert JSON.reply(1, result).decode() == f'{{"id":1,"{result.name.decode()}":{expected}}}'

    @pytest.mark.parametrize(
        ("one", "expected"),
        [
            # Data that a client or the API published as JSON: a string stays a string, with or without history.
            (Publication(b'"42"', 1, "e", json=True), '{"data":"42","offset":1}'),
            (Publication(rb'"\u0034\ud83d"', json=True), r'{"data":"\u0034\ud83d"}'),
            (Publication(b'{"a":\r\n 1.10}', json=True), '{"data":{"a":\r  1.10}}'),
            (Publication(b"42", 1, "e", json=True), '{"data":42,"offset":1}'),
            (Publication(b"null", 1, "e", json=True), '{"data":null,"offset":1}'),
            (Publication(b"0", 0, "", json=True), '{"data":0}'),
            (Publication(b"", 1, "e"), '{"data":"","offset":1}'),
            # Data without a declared type: valid JSON is sent as JSON, other text as a string.
            (Publication(b"42", 1, "e"), '{"data":42,"offset":1}'),
            (Publication(b"hello"), '{"data":"hello"}'),
            (Publication(b'{"a": 1}'), '{"data":{"a": 1}}'),
            (Publication(b'{"a":\n 1}\r\n'), '{"data":{"a":  1}}'),
            (Publication(b'"x"'), '{"data":"x"}'),
            (Publication(b"42"), '{"data":42}'),
            (Publication(b""), '{"data":""}'),
            (Publication(b" "), '{"data":" "}'),
            (Publication(b"a\nb"), '{"data":"a\\nb"}'),
            (Publication(b"NaN"), '{"data":"NaN"}'),
            (Publication(b"{} {}"), '{"data":"{} {}"}'),
            (Publication("ü".encode()), '{"data":"ü"}'),
            (Publication(b"[" * 100_000), '{"data":"' + "[" * 100_000 + '"}'),
            # Data that is not UTF-8.
            (Publication(b"\xff\x00"), '{"data":"/wA=","tags":{"encoding":"base64"}}'),
            (
                Publication(b"\xff", 2, "e", tags={"a": "b"}),
                '{"data":"/w==","offset":2,"tags":{"a":"b","encoding":"base64"}}',
            ),
            # All fields.
            (
                Publication(b"1", 3, "e", True, ClientInfo("c", "u", {"n": 1}, 0), {"t": "v"}),
                '{"data":1,"info":{"client":"c","user":"u","conn_info":{"n":1},"chan_info":0},"offset":3,"tags":{"t":"v"}}',
            ),
        ],
        ids=range(23),
    )
    def test_encodes_data_as_json_as_a_string_or_in_base64(self, one, expected):
        assert JSON.publications([one]).decode() == f"[{expected}]"

    @given(st.binary(), st.integers(0, 3))
    def test_encodes_arbitrary_data_as_json_on_one_line(self, data, offset):
        """A newline separates messages."""
        written = JSON.publications([Publication(data, offset, "e")])
        assert b"\n" not in written
        json.loads(written)
