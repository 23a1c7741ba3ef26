"""Requests of hooks to a backend, and the parsing of its responses."""

import contextlib
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsserver.hooks.messages import (
    MAX_PUBLISH,
    Answered,
    Caller,
    Connected,
    HookDisconnect,
    HookError,
    Published,
    Subscribed,
    forwarded,
    read_answered,
    read_connected,
    read_published,
    read_subscribed,
    read_taken,
    write_channel_events,
    write_request,
)
from wsserver.hub.channel_events import ChannelEvent
from wsserver.hub.override import forces_events
from wsserver.hub.publication import Publication

READERS = [read_connected, read_subscribed, read_published, read_answered]
CALLER = Caller(client="c1", transport="websocket", protocol="json", user="42", headers=(("cookie", "secret"),))

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 10**20) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
NAMES = st.text("abc:", min_size=1, max_size=8)
VALID = {
    "user": st.text(),
    "expire_at": st.integers(0, 2**40) | st.floats(0, 2**40),
    "info": ANY_JSON,
    "data": ANY_JSON,
    "channels": st.lists(NAMES, max_size=3),
    "subs": st.dictionaries(NAMES, st.fixed_dictionaries({}, optional={"info": ANY_JSON}), max_size=3),
    "skip_history": st.booleans(),
    "delta": st.booleans(),
    "tags": st.dictionaries(st.text(), st.text(), max_size=3),
    "idempotency_key": st.text(),
}
"""Field of a result -> valid values."""
FIELDS = sorted(VALID)
RESULTS = st.fixed_dictionaries({}, optional=VALID)


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

    @pytest.mark.parametrize(
        ("data", "fields"),
        [
            (b' {"a":1.10}', {"encoding": "json", "data": {"a": 1.1}}),
            (b"\xff", {"encoding": "binary", "b64data": "/w=="}),
            (b"hello", {"encoding": "binary", "b64data": "aGVsbG8="}),
            (None, {"encoding": "binary"}),
        ],
    )
    def test_data_of_a_protobuf_client_is_data_if_it_is_json_and_b64data_otherwise(self, data, fields):
        """`encoding` says which of the two fields the request has."""
        request = json.loads(write_request(Caller(client="c1", transport="websocket", protocol="protobuf"), data=data))
        assert request == {"client": "c1", "transport": "websocket", "protocol": "protobuf", **fields}

    def test_info_may_contain_half_a_surrogate_pair(self):
        """JSON.stringify writes one for a name that was cut inside an emoji."""
        assert read_connected(rb'{"result":{"info":{"name":"\ud83d"}}}').info == {"name": "\ud83d"}
        assert read_subscribed(rb'{"result":{"info":"\ude00"}}').info == "\ude00"

    def test_data_may_contain_half_a_surrogate_pair(self):
        """UTF-8 cannot encode half a pair, so it stays a JSON escape."""
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
        assert forwarded(headers, "unix") == (("cookie", "a=1"), ("cookie", "b=2"), ("authorization", "x"))

    @pytest.mark.parametrize(
        ("address", "host"),
        [
            ("203.0.113.7:4000", "203.0.113.7"),
            ("203.0.113.7", "203.0.113.7"),
            ("[2001:db8::1]:4000", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[fe80::1%eth0]:4000", "fe80::1"),
        ],
    )
    def test_the_address_of_the_client_replaces_what_the_client_has_sent(self, address, host):
        forged = [("x-forwarded-for", "198.51.100.9"), ("x-real-ip", "198.51.100.9"), ("x-forwarded-for", "::1")]
        assert forwarded(forged, address) == (("x-forwarded-for", host), ("x-real-ip", host))

    def test_a_client_without_an_ip_address_cannot_forge_one(self):
        """It connects over a UNIX socket."""
        assert forwarded([("x-forwarded-for", "198.51.100.9"), ("x-real-ip", "198.51.100.9")], "unix") == ()


class ChannelEventTests:
    """Requests with channel events, and the answers to them."""

    def test_a_request_has_the_events_in_order(self):
        events = [ChannelEvent("a", True, 1_792_281_600_000), ChannelEvent('ü:"', False, 5)]
        assert json.loads(write_channel_events(events)) == {
            "events": [
                {"channel": "a", "type": "occupied", "time_ms": 1_792_281_600_000},
                {"channel": 'ü:"', "type": "vacated", "time_ms": 5},
            ]
        }

    @pytest.mark.parametrize(
        ("body", "taken"),
        [
            (b"{}", True),
            (b'{"result":{}}', True),
            (b'{"result":null,"error":null}', True),
            (b'{"error":{"code":400}}', True),
            (b'{"error":{"code":400,"temporary":true}}', False),
        ],
    )
    def test_only_a_temporary_error_repeats_the_events(self, body, taken):
        assert read_taken(body) is taken

    @pytest.mark.parametrize("body", [b"", b"[]", b"null", b"\xff", b'{"error":1}', b'{"error":{"code":1}}'])
    def test_raises_value_error_for_a_malformed_answer(self, body):
        with pytest.raises(ValueError, match=r"JSON|error"):
            read_taken(body)


class ResponseTests:
    """`read_connected`, `read_subscribed`, `read_published` and `read_answered`."""

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

    @pytest.mark.parametrize(
        ("fields", "rewind"),
        [
            ({}, None),
            ({"rewind": 3}, 3),
            ({"rewind": 0}, 0),
            ({"cache_recover": True}, 1),
            ({"cache_recover": False}, None),
            ({"cache_recover": True, "rewind": 0}, 0),
        ],
    )
    def test_reads_the_number_of_publications_to_rewind_by_either_name(self, fields, rewind):
        """`cache_recover` is Centrifugo's name for one publication."""
        assert read_subscribed(result(**fields)).rewind == rewind
        assert read_connected(result(subs={"a": fields})).subs["a"].rewind == rewind

    @pytest.mark.parametrize(
        ("override", "forced"),
        [
            (b"null", None),
            (b"{}", None),
            (b'{"force_push_join_leave":null}', None),
            (b'{"force_push_join_leave":{}}', False),
            (b'{"force_push_join_leave":{"value":true},"x":1}', True),
        ],
    )
    def test_reads_whether_a_subscription_overrides_the_events(self, override, forced):
        found = read_subscribed(b'{"result":{"override":%b}}' % override)
        assert forces_events(found.override) is forced
        found = read_connected(b'{"result":{"subs":{"a":{"override":%b}}}}' % override)
        assert forces_events(found.subs["a"].override) is forced

    @pytest.mark.parametrize(("given", "expected"), [(5.0, 5), (5.25, 6), (0.4, 1), (0.0, 0), (1.7e9, 1700000000)])
    def test_rounds_expire_at_up_to_whole_seconds(self, given, expected):
        """A fraction of a second must not become 0, because 0 means that the connection never expires."""
        assert read_subscribed(result(expire_at=given)).expire_at == expected
        assert read_connected(result(expire_at=given)).expire_at == expected

    def test_reads_the_data_tags_and_options_of_a_publish_result(self):
        body = result(data={"a": 1}, skip_history=True, tags={"a": "b"}, idempotency_key="k", delta=True)
        expected = Published(data=b'{"a": 1}', skip_history=True, tags={"a": "b"}, idempotency_key="k", delta=True)
        assert read_published(body) == expected

    @pytest.mark.parametrize(
        ("read", "plain"),
        [(read_connected, Connected()), (read_subscribed, Subscribed()), (read_published, Published())],
    )
    def test_an_empty_result_accepts_and_null_and_unknown_fields_are_ignored(self, read, plain):
        assert read(b'{"result":{}}') == plain
        assert read(b'{"result":{"data":null,"tags":null,"new":1},"error":null}') == plain

    def test_reads_the_data_and_the_publications_of_an_answer(self):
        """The data may be `null`, which differs from no data."""
        assert read_answered(b'{"result":{"data": [1.10] }}').content() == Publication(b"[1.10]", json=True)
        assert read_answered(b'{"result":{"data":null}}').content() == Publication(b"null", json=True)
        assert read_answered(b'{"result":{"b64data":"/w==","data":1}}').content() == Publication(b"\xff")
        empty = read_answered(b'{"result":{"b64data":null,"publish":null}}')
        assert (empty.content(), empty.publish) == (None, [])
        (one,) = read_answered(result(publish=[{"channel": "c", "data": 1, "idempotency_key": "k"}])).publish
        assert (one.channel, one.publication(), one.idempotency_key) == ("c", Publication(b"1", json=True), "k")
        assert len(read_answered(result(publish=[{"channel": "c", "data": 1}] * MAX_PUBLISH)).publish) == MAX_PUBLISH

    def test_a_null_in_a_map_is_an_empty_value(self):
        """A backend in Go writes a nil pointer as null, and Centrifugo decodes it to the empty value."""
        assert read_connected(b'{"result":{"subs":{"a":null}}}').subs == {"a": Subscribed()}
        assert read_published(b'{"result":{"tags":{"a":null}}}').tags == {"a": ""}

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
        assert read(b'{"error":{"code":403,"message":null,"temporary":null}}') == HookError(403, "")
        assert read(b'{"disconnect":{"code":4500,"reason":null}}') == HookDisconnect(4500, "")
        assert read(b'{"disconnect":{"code":4500,"reason":"go"},"result":{}}') == HookDisconnect(4500, "go")

    @pytest.mark.parametrize("read", READERS)
    @pytest.mark.parametrize(
        ("body", "problem"),
        [
            (b"", "it is not JSON"),
            (b"<html>", "it is not JSON"),
            (b"[]", "it is not a JSON object"),
            (b"null", "it is not a JSON object"),
            (b"{}", "no result, no error and no disconnect"),
            (b'{"result":null}', "no result, no error and no disconnect"),
            (b'{"result":[]}', "result: expected an object, got an array"),
            (b'{"result":NaN}', "it is not JSON"),
            (b"\xff", "it is not JSON"),
            (b"[" * 100_000, "nested too deeply: over 256 levels"),
            (b'{"error":{}}', "error.code: missing"),
            (
                b'{"result":{"user":1e999,"expire_at":1e999,"tags":1e999,"b64data":1e999}}',
                "result.*: number out of range",
            ),
            (b'{"error":{"code":"403"}}', "error.code: expected an integer, got a string"),
            (b'{"error":{"code":true}}', "error.code: expected an integer, got true or false"),
            (b'{"error":{"code":399}}', "error.code: expected an integer >= 400"),
            (b'{"error":{"code":2000}}', "error.code: expected an integer <= 1999"),
            (b'{"error":{"code":403,"message":1}}', "error.message: expected a string, got an integer"),
            (b'{"disconnect":{"code":3999}}', "disconnect.code: expected an integer >= 4000"),
            (b'{"disconnect":{"code":5000}}', "disconnect.code: expected an integer <= 4999"),
            (
                b'{"disconnect":{"code":4000,"reason":"' + b"x" * 124 + b'"}}',
                "disconnect.reason: expected at most 123 bytes",
            ),
            (b'{"disconnect":{"code":4000,"reason":"\\ud800"}}', "disconnect.reason: .* half a surrogate pair"),
        ],
    )
    def test_raises_value_error_for_a_malformed_response(self, read, body, problem):
        with pytest.raises(ValueError, match=problem):
            read(body)

    @pytest.mark.parametrize("read", READERS)
    def test_accepts_the_whole_range_of_codes_and_the_longest_reason(self, read):
        for code in (400, 1999):
            assert read(b'{"error":{"code":%d}}' % code) == HookError(code)
        for code in (4000, 4999):
            body = json.dumps({"disconnect": {"code": code, "reason": "x" * 123}}).encode()
            assert read(body) == HookDisconnect(code, "x" * 123)

    @pytest.mark.parametrize(
        ("read", "fields", "problem"),
        [
            (read_connected, {"user": 42}, "user: expected a string, got an integer"),
            (read_connected, {"user": "\ud800"}, "user: .* half a surrogate pair"),
            (read_connected, {"expire_at": -1}, "expire_at: .* a number >= 0"),
            (read_subscribed, {"rewind": 101}, "rewind: .* <= 100"),
            (read_connected, {"subs": {"a": {"rewind": "1"}}}, r"subs\[...\].rewind: expected an integer"),
            (read_connected, {"expire_at": -0.5}, "expire_at: .* a number >= 0"),
            (read_connected, {"expire_at": "1700000000"}, "expire_at: .* a number, got a string"),
            (read_connected, {"expire_at": True}, "expire_at: .* a number, got true or false"),
            (read_connected, {"expire_at": 10**20}, "expire_at: .* a number < 9007199254740992"),
            (read_connected, {"channels": "news"}, "channels: expected an array, got a string"),
            (read_connected, {"channels": [1]}, r"channels\[0\]: expected a string, got an integer"),
            (read_connected, {"channels": [""]}, "channels: channel name is empty"),
            (read_connected, {"channels": ["\ud800"]}, "channels: .* half a surrogate pair"),
            (read_connected, {"channels": ["wsserver:x"]}, "channels: channel name 'wsserver:x' is reserved"),
            (read_published, {"tags": {"\ud800": "a"}}, "tags: .* half a surrogate pair"),
            (read_connected, {"subs": ["news"]}, "subs: expected an object, got an array"),
            (read_connected, {"subs": {"news": 1}}, r"subs\[...\]: expected an object, got an integer"),
            (read_connected, {"subs": {"": {}}}, "subs: channel name is empty"),
            (read_connected, {"subs": {"news": {}, "wsserver:x": {}}}, "subs: channel name 'wsserver:x' is reserved"),
            (read_subscribed, {"expire_at": -1}, "expire_at: .* a number >= 0"),
            (read_published, {"tags": {"a": 1}}, r"tags\[...\]: expected a string, got an integer"),
            (read_published, {"tags": "a"}, "tags: expected an object, got a string"),
            (read_published, {"skip_history": 1}, "skip_history: expected true or false, got an integer"),
            (read_published, {"idempotency_key": 1}, "idempotency_key: expected a string, got an integer"),
            (read_answered, {"b64data": "?"}, "b64data: expected base64"),
            (read_answered, {"publish": {}}, "publish: expected an array, got an object"),
            (read_answered, {"publish": [{"data": 1}]}, r"publish\[0\].channel: missing"),
            (
                read_answered,
                {"publish": [{"channel": "wsserver:x", "data": 1}]},
                r"publish\[0\].channel: .* reserved",
            ),
            (read_answered, {"publish": [{"channel": "c"}]}, r"publish\[0\].data: expected data, or b64data"),
            (
                read_answered,
                {"publish": [{"channel": "c", "b64data": "?"}]},
                r"publish\[0\].b64data: expected base64",
            ),
            (read_answered, {"publish": [{"channel": "c", "data": 1}] * 101}, "publish: expected at most 100 publi"),
        ],
    )
    def test_raises_value_error_that_names_the_invalid_field_of_a_result(self, read, fields, problem):
        with pytest.raises(ValueError, match=f"^result.{problem}"):
            read(result(**fields))

    @given(st.binary(max_size=200))
    def test_raises_only_value_error_for_random_bytes(self, body):
        """Random bytes are almost never valid JSON."""
        for read in READERS:
            with contextlib.suppress(ValueError):
                assert read(body) is not None

    @given(RESULTS)
    def test_reads_every_field_of_a_random_valid_result(self, fields):
        body = result(**fields)
        connected, subscribed, published, answered = (read(body) for read in READERS)
        content = answered.content()
        assert (content is not None) == ("data" in fields)
        assert json.loads(content.data if content is not None else "null") == fields.get("data")
        for answer in (connected, subscribed):
            assert answer.expire_at == math.ceil(fields.get("expire_at", 0))
            assert answer.info == fields.get("info")
        for answer in (connected, subscribed, published):
            assert json.loads(answer.data or "null") == fields.get("data")
        assert connected.user == fields.get("user", "")
        assert set(connected.subs) == {*fields.get("channels", ()), *fields.get("subs", ())}
        assert published.skip_history is fields.get("skip_history", False)
        assert published.delta is fields.get("delta", False)
        assert published.tags == fields.get("tags")
        assert published.idempotency_key == fields.get("idempotency_key", "")

    @given(RESULTS, st.sampled_from(FIELDS), ANY_JSON)
    def test_a_result_with_one_random_field_is_read_or_the_error_names_the_field(self, fields, name, value):
        for read in READERS:
            try:
                answer = read(result(**fields | {name: value}))
            except ValueError as error:
                assert str(error).startswith(f"result.{name}")  # noqa: PT017 (most values are valid)
            else:
                assert isinstance(answer, Connected | Subscribed | Published | Answered)
