"""What a backend is asked, and how its answers are read."""

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


class QuestionTests:
    """What is sent."""

    def test_fields(self):
        """Whom it is about, and what the event is; nothing of the headers."""
        assert json.loads(write_request(CALLER, user=CALLER.user, channel="news", data=b'{"a":null}')) == {
            "client": "c1",
            "transport": "websocket",
            "protocol": "json",
            "encoding": "json",
            "user": "42",
            "channel": "news",
            "data": {"a": None},
        }

    def test_left_out(self):
        """What is not there is not written."""
        question = json.loads(write_request(Caller(client="c1", transport="sse", protocol="raw"), data=None, user=""))
        assert question == {"client": "c1", "transport": "sse", "protocol": "raw", "encoding": "binary", "user": ""}

    def test_half_a_character(self):
        """A client's data may have in it what UTF-8 cannot write."""
        assert json.loads(write_request(CALLER, data=b'"\\ud800"'))["data"] == "\ud800"

    def test_headers(self):
        """Those by which a backend knows its users go on, each time they come; no others."""
        headers = [
            ("host", "h"),
            ("cookie", "a=1"),
            ("cookie", "b=2"),
            ("authorization", "x"),
            ("upgrade", "websocket"),
        ]
        assert forwarded(headers) == (("cookie", "a=1"), ("cookie", "b=2"), ("authorization", "x"))


class AnswerTests:
    """What a backend may say."""

    def test_connected(self):
        """Who it is, and what it listens to."""
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

    def test_subscribed(self):
        """With what others see, and what the client gets."""
        body = result(info={"a": 1}, data="x", expire_at=5)
        assert read_subscribed(body) == Subscribed(info={"a": 1}, data=b'"x"', expire_at=5)

    @pytest.mark.parametrize(("given", "until"), [(5.0, 5), (5.25, 6), (0.4, 1), (0.0, 0), (1.7e9, 1700000000)])
    def test_a_time_may_have_a_fraction(self, given, until):
        """It is rounded up: less than one second is not never."""
        assert read_subscribed(result(expire_at=given)).expire_at == until
        assert read_connected(result(expire_at=given)).expire_at == until

    def test_published(self):
        """Something else, perhaps."""
        body = result(data={"a": 1}, skip_history=True, tags={"a": "b"}, idempotency_key="k")
        expected = Published(data=b'{"a": 1}', skip_history=True, tags={"a": "b"}, idempotency_key="k")
        assert read_published(body) == expected

    @pytest.mark.parametrize(
        ("read", "plain"),
        [(read_connected, Connected()), (read_subscribed, Subscribed()), (read_published, Published())],
    )
    def test_plain_yes(self, read, plain):
        """An empty result is a yes; null is as if it were not there, and unknown fields may be there."""
        assert read(b'{"result":{}}') == plain
        assert read(b'{"result":{"data":null,"tags":null,"new":1},"error":null}') == plain

    @pytest.mark.parametrize("text", [b"1.10", b"-0", b"1E5", b"9" * 5001, b"0.1e400", rb'"\ud83d"', b'{ "a" :1}'])
    def test_data_keeps_its_text(self, text):
        """Numbers, escapes and white space are as the backend wrote them."""
        assert read_connected(b'{"result":{"data": %b }}' % text).data == text
        assert read_subscribed(b'{"result":{"data": %b }}' % text).data == text
        assert read_published(b'{"result":{"data": %b }}' % text).data == text
        assert b'"data":%b' % text in write_request(CALLER, data=text)

    @pytest.mark.parametrize("read", READERS)
    def test_no(self, read):
        """With an error, or with the end of the connection."""
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
    def test_nonsense(self, read, body):
        """Anything else is not guessed at."""
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
    def test_bad_result(self, read, fields):
        """A result with a wrong field is no yes."""
        with pytest.raises(ValueError, match=r".+"):
            read(result(**fields))

    @given(st.binary(max_size=200))
    def test_anything(self, body):
        """Whatever comes is read, or is a ValueError."""
        for read in READERS:
            try:
                answer = read(body)
            except ValueError:
                continue
            assert answer is not None
