"""Requests of hooks to a backend, and the parsing of its responses."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsserver.hooks.messages import (
    Caller,
    Connected,
    HookDisconnect,
    HookError,
    Published,
    Subscribed,
    forwarded,
    read_connected,
    read_published,
    read_subscribed,
    write_request,
)

READERS = [read_connected, read_subscribed, read_published]
CALLER = Caller(client="c1", transport="websocket", protocol="json", user="42", headers=(("cookie", "secret"),))


def result(**fields):
    return json.dumps({"result": fields}).encode()


class RequestTests:
    """`write_request` and `forwarded`."""

    def test_has_the_caller_and_the_event_but_no_headers(self):
        assert json.loads(write_request(CALLER, user=CALLER.user, channel="news", data=b'{"a":null}')) == {
            "client": "c1",
            "transport": "websocket",
            "protocol": "json",
            "encoding": "json",
            "user": "42",
            "channel": "news",
            "data": {"a": None},
        }

    def test_omits_the_fields_that_are_none(self):
        request = json.loads(write_request(Caller(client="c1", transport="sse", protocol="raw"), data=None, user=""))
        assert request == {"client": "c1", "transport": "sse", "protocol": "raw", "encoding": "binary", "user": ""}

    def test_data_may_contain_half_a_surrogate_pair(self):
        """UTF-8 cannot encode it."""
        assert json.loads(write_request(CALLER, data=b'"\\ud800"'))["data"] == "\ud800"

    def test_forwards_only_cookie_and_authorization_headers_including_repeated_ones(self):
        """A backend recognizes its users by them."""
        headers = [
            ("host", "h"),
            ("cookie", "a=1"),
            ("cookie", "b=2"),
            ("authorization", "x"),
            ("upgrade", "websocket"),
        ]
        assert forwarded(headers) == (("cookie", "a=1"), ("cookie", "b=2"), ("authorization", "x"))


class ResponseTests:
    """`read_connected`, `read_subscribed` and `read_published`."""

    def test_reads_the_user_and_subscriptions_of_a_connect_result(self):
        body = result(
            user="42", expire_at=1700000000, info={"name": "x"}, data=[1], channels=["a"], subs={"b": {"info": 1}}
        )
        assert read_connected(body) == Connected(
            user="42",
            expire_at=1700000000,
            info={"name": "x"},
            data=b"[1]",
            channels=["a"],
            subs={"a": Subscribed(), "b": Subscribed(info=1)},
        )

    def test_reads_the_info_data_and_expiry_of_a_subscribe_result(self):
        body = result(info={"a": 1}, data="x", expire_at=5)
        assert read_subscribed(body) == Subscribed(info={"a": 1}, data=b'"x"', expire_at=5)

    @pytest.mark.parametrize(("given", "expected"), [(5.0, 5), (5.25, 6), (0.4, 1), (0.0, 0), (1.7e9, 1700000000)])
    def test_rounds_expire_at_up_to_whole_seconds(self, given, expected):
        """A fraction of a second must not become 0, which means never."""
        assert read_subscribed(result(expire_at=given)).expire_at == expected
        assert read_connected(result(expire_at=given)).expire_at == expected

    def test_reads_the_data_tags_and_options_of_a_publish_result(self):
        body = result(data={"a": 1}, skip_history=True, tags={"a": "b"}, idempotency_key="k")
        expected = Published(data=b'{"a": 1}', skip_history=True, tags={"a": "b"}, idempotency_key="k")
        assert read_published(body) == expected

    @pytest.mark.parametrize(
        ("read", "plain"),
        [(read_connected, Connected()), (read_subscribed, Subscribed()), (read_published, Published())],
    )
    def test_an_empty_result_accepts_and_null_and_unknown_fields_are_ignored(self, read, plain):
        assert read(b'{"result":{}}') == plain
        assert read(b'{"result":{"data":null,"tags":null,"new":1},"error":null}') == plain

    @pytest.mark.parametrize("text", [b"1.10", b"-0", b"1E5", b"9" * 5001, b"0.1e400", rb'"\ud83d"', b'{ "a" :1}'])
    def test_data_keeps_the_text_that_the_backend_wrote(self, text):
        """Numbers, escapes and white space are not changed."""
        assert read_connected(b'{"result":{"data": %b }}' % text).data == text
        assert read_subscribed(b'{"result":{"data": %b }}' % text).data == text
        assert read_published(b'{"result":{"data": %b }}' % text).data == text
        assert b'"data":%b' % text in write_request(CALLER, data=text)

    @pytest.mark.parametrize("read", READERS)
    def test_reads_an_error_or_a_disconnect_instead_of_a_result(self, read):
        error = {"code": 1000, "message": "no", "temporary": True}
        assert read(json.dumps({"error": error}).encode()) == HookError(1000, "no", temporary=True)
        assert read(b'{"error":{"code":403}}') == HookError(403, "")
        assert read(b'{"disconnect":{"code":4500,"reason":"go"},"result":{}}') == HookDisconnect(4500, "go")

    @pytest.mark.parametrize("read", READERS)
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"<html>",
            b"[]",
            b"null",
            b"{}",
            b'{"result":null}',
            b'{"result":[]}',
            b'{"result":NaN}',
            b"\xff",
            b"[" * 100_000,
            b'{"error":{}}',
            b'{"result":{"user":1e999,"expire_at":1e999,"tags":1e999}}',
            b'{"error":{"code":"403"}}',
            b'{"error":{"code":true}}',
            b'{"error":{"code":100}}',
            b'{"error":{"code":2000}}',
            b'{"error":{"code":403,"message":1}}',
            b'{"disconnect":{"code":3000}}',
            b'{"disconnect":{"code":5000}}',
            b'{"disconnect":{"code":4000,"reason":"' + b"x" * 124 + b'"}}',
            b'{"disconnect":{"code":4000,"reason":"\\ud800"}}',
        ],
    )
    def test_raises_value_error_for_a_malformed_response(self, read, body):
        with pytest.raises(ValueError, match=r".+"):
            read(body)

    @pytest.mark.parametrize(
        ("read", "fields"),
        [
            (read_connected, {"user": 42}),
            (read_connected, {"user": "\ud800"}),
            (read_connected, {"expire_at": -1}),
            (read_connected, {"expire_at": -0.5}),
            (read_connected, {"expire_at": "1700000000"}),
            (read_connected, {"expire_at": True}),
            (read_connected, {"expire_at": 10**20}),
            (read_connected, {"channels": "news"}),
            (read_connected, {"channels": [1]}),
            (read_connected, {"channels": [""]}),
            (read_connected, {"channels": ["\ud800"]}),
            (read_connected, {"channels": ["wsserver:x"]}),
            (read_connected, {"info": ["\ud800"]}),
            (read_subscribed, {"info": "\ud800"}),
            (read_published, {"tags": {"\ud800": "a"}}),
            (read_connected, {"subs": ["news"]}),
            (read_connected, {"subs": {"news": 1}}),
            (read_subscribed, {"expire_at": -1}),
            (read_published, {"tags": {"a": 1}}),
            (read_published, {"tags": "a"}),
            (read_published, {"skip_history": 1}),
            (read_published, {"idempotency_key": 1}),
        ],
    )
    def test_raises_value_error_for_a_result_with_an_invalid_field(self, read, fields):
        with pytest.raises(ValueError, match=r".+"):
            read(result(**fields))

    @given(st.binary(max_size=200))
    def test_any_bytes_are_parsed_or_raise_value_error(self, body):
        for read in READERS:
            try:
                answer = read(body)
            except ValueError:
                continue
            assert answer is not None
