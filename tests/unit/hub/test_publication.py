"""Publishing from an application: a call with wrong arguments raises immediately, and leaves the channel unchanged."""

import pytest
from deferreds import result
from hubs import make_hub, make_management
from twisted.internet.task import Clock

from wsserver.config.redis_url import parse_redis_url
from wsserver.hub.clients import ClientInfo
from wsserver.hub.memory import MemoryBroker
from wsserver.hub.publication import Publication
from wsserver.redis.broker import RedisBroker


@pytest.fixture(params=["memory", "redis"])
def hub(request):
    """Make a hub with each broker; the Redis broker is not connected."""
    clock = Clock()
    broker = (
        MemoryBroker(clock) if request.param == "memory" else RedisBroker(parse_redis_url("redis://localhost"), clock)
    )
    return make_hub(broker, clock)


WRONG_TYPES = [
    (("news", {"a": 1}), {}, "data must be str or bytes, not dict; for a JSON value pass json.dumps"),
    (("news", None), {}, "data must be str or bytes, not NoneType"),
    (("news", 5), {}, "data must be str or bytes, not int"),
    (("news", ["x"]), {}, "data must be str or bytes, not list"),
    ((b"news", b"x"), {}, "channel must be str, not bytes"),
    ((None, b"x"), {}, "channel must be str, not NoneType"),
    (("news", b"x"), {"tags": ["a"]}, "tags must be a mapping of str to str, not list"),
    (("news", b"x"), {"tags": {"a": 1}}, "tag 'a' must be str, not int"),
    (("news", b"x"), {"tags": {1: "a"}}, "a tag's name must be str, not int"),
    (("news", b"x"), {"info": {"client": "c"}}, "info must be ClientInfo, not dict"),
    (("news", b"x"), {"idempotency_key": b"k"}, "idempotency_key must be str, not bytes"),
]
WRONG_VALUES = [
    (("", b"x"), {}, "channel name is empty"),
    (("a\n", b"x"), {}, "control character"),
    (("x" * 256, b"x"), {}, "expected at most 255"),
    (("\ud83d", b"x"), {}, "half of a surrogate pair"),
    (("wsserver:control", b"x"), {}, "is reserved"),
    (("news", b"{"), {"json": True}, "data: it is not JSON"),
    (("news", b'"\xff"'), {"json": True}, "data: it is not JSON"),
    (("news", "NaN"), {"json": True}, "data: it is not JSON"),
    (("news", "[" * 257 + "]" * 257), {"json": True}, "data: it is nested too deeply: over 256 levels"),
    (("news", "\ud83d"), {}, "data contains half a surrogate pair"),
    (("news", b"x"), {"tags": {"a": "\ud83d"}}, "tag 'a' contains half a surrogate pair"),
]


class HubTests:
    """`hub.publish` of an embedding application."""

    @pytest.mark.parametrize(
        "data", ["grüße", "grüße".encode(), bytearray("grüße".encode()), memoryview("grüße".encode())]
    )
    def test_publishes_str_bytes_bytearray_and_memoryview_as_bytes(self, data):
        """Text is encoded in UTF-8; buffers that may change later are copied."""
        clock = Clock()
        hub = make_hub(MemoryBroker(clock), clock)
        result(hub.publish("news", data))
        (publication,) = result(hub.history("news", limit=-1)).publications
        assert (type(publication.data), publication.data.decode().strip('"')) == (bytes, "grüße")

    @pytest.mark.parametrize(("arguments", "options", "message"), WRONG_TYPES)
    def test_raises_type_error_for_a_wrong_type_at_the_call(self, hub, arguments, options, message):
        """Without this check, the error would occur later, in a subscriber or a reader of the history."""
        with pytest.raises(TypeError, match=f"^{message}"):
            hub.publish(*arguments, **options)

    @pytest.mark.parametrize(("arguments", "options", "message"), WRONG_VALUES)
    def test_raises_value_error_for_an_invalid_value_at_the_call(self, hub, arguments, options, message):
        """Invalid values are, for example, an invalid channel name, and text that UTF-8 cannot encode."""
        with pytest.raises(ValueError, match=message):
            hub.publish(*arguments, **options)

    def test_a_refused_publication_uses_no_offset_and_is_not_stored(self):
        clock = Clock()
        hub = make_hub(MemoryBroker(clock), clock)
        for arguments, options, _ in WRONG_TYPES:
            with pytest.raises(TypeError):
                hub.publish(*arguments, **options)
        assert result(hub.publish("news", "x", info=ClientInfo("c"), tags={"a": "b"})).position.offset == 1
        assert len(result(hub.history("news", limit=-1)).publications) == 1

    def test_reading_history_or_presence_raises_type_error_for_wrong_types(self, hub):
        for read in (
            lambda: hub.history(5),
            lambda: hub.history("news", limit="1"),
            lambda: hub.history("news", since=(1, "e")),
            lambda: hub.presence.clients(b"news"),
        ):
            with pytest.raises(TypeError, match="must be"):
                read()


class ManagementTests:
    """The operations on connections."""

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda one: one.disconnect(user=5), "user must be str, not int"),
            (lambda one: one.disconnect(client=b"c"), "client must be str, not bytes"),
            (lambda one: one.disconnect(user="ada", code="3000"), "code must be int, not str"),
            (lambda one: one.disconnect(user="ada", reason=None), "reason must be str, not NoneType"),
            (lambda one: one.disconnect(user="ada", except_clients="c1"), "except_clients must be a collection of str"),
            (lambda one: one.unsubscribe(b"news", user="ada"), "channel must be str, not bytes"),
            (lambda one: one.subscribe("news", user="ada", options={"info": b"x"}), "bytes"),
            (lambda one: one.subscribe(None, user="ada"), "channel must be str, not NoneType"),
            (lambda one: one.refresh(user="ada", expire_at=1.5), "expire_at must be int, not float"),
            (lambda one: one.connections(pattern=5), "pattern must be str, not int"),
            (lambda one: one.channels(pattern=None), "pattern must be str, not NoneType"),
        ],
    )
    def test_raises_type_error_for_a_wrong_type_at_the_call(self, hub, call, message):
        with pytest.raises(TypeError, match=message):
            call(make_management(hub, Clock()))

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda one: one.disconnect(user="ada", code=1000), "^code must be from 3000 to 4999, not 1000$"),
            (lambda one: one.disconnect(user="ada", reason="x" * 124), "^reason .* is too long: expected at most 123"),
            (lambda one: one.unsubscribe("", user="ada"), "^channel name is empty"),
            (lambda one: one.subscribe("news", user="ada", options={"data": float("nan")}), "not JSON compliant"),
            (lambda one: one.subscribe("news", user="ada", options={"data": b"x"}), "^it is not JSON$"),
        ],
    )
    def test_raises_value_error_for_an_invalid_value_at_the_call(self, hub, call, message):
        """Invalid values are, for example, a close code below 3000, and data that JSON cannot contain."""
        with pytest.raises(ValueError, match=message):
            call(make_management(hub, Clock()))


class ObjectTests:
    """A publication as a JSON object."""

    @pytest.mark.parametrize(
        ("publication", "written"),
        [
            (Publication(b'{"a": 1}', json=True), b'{"data":D}'),
            (
                Publication(b"1", 7, "e", info=ClientInfo("c1"), tags={"a": "b"}),
                b'{"data":D,"info":{"client":"c1","user":""},"offset":7,"tags":{"a":"b"}}',
            ),
            (
                Publication(b"1", info=ClientInfo("c1", 'u"', {"n": 1.5}, [1]), tags={}),
                b'{"data":D,"info":{"client":"c1","user":"u\\"","conn_info":{"n":1.5},"chan_info":[1]}}',
            ),
            (Publication(b"1", info=ClientInfo("c1", 'u"')), b'{"data":D,"info":{"client":"c1","user":"u\\""}}'),
        ],
    )
    def test_omits_the_fields_that_the_publication_does_not_have(self, publication, written):
        assert publication.as_object(b"D") == written

    def test_further_fields_follow_the_data(self):
        assert Publication(b"1", 7).as_object(b"D", b',"n":0') == b'{"data":D,"n":0,"offset":7}'
