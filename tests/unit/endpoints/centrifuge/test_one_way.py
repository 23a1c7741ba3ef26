"""Tests for wsserver/endpoints/centrifuge/one_way.py: clients of `/connection/uni_websocket`, in memory."""

import json
from urllib.parse import quote

import pytest
from centrifuge_client import Client
from fossil import apply_delta

from wsserver.centrifugecodes import INTERNAL, PERMISSION_DENIED, TOKEN_EXPIRED, TOO_MANY_REQUESTS, Error
from wsserver.config.settings import Settings
from wsserver.endpoints.centrifuge.permissions import Permissions
from wsserver.testing import MemoryServer

PATH = "/connection/uni_websocket"


@pytest.fixture
def server():
    """Start a server that permits every client everything in every channel."""
    return MemoryServer(Settings(channel_allow=("*",), channel_publish=("*",)))


def connect(server, **fields):
    """Connect a client; return it with its first push."""
    client = Client(server, PATH)
    client.send(fields)
    [push] = client.receive()
    return client, push["connect"]


class OneWayTests:
    """A client without an SDK, which only receives."""

    def test_the_first_push_is_connect(self, server):
        client, push = connect(server, subs={"foo": {}})
        assert push.items() >= {"ping": 25}.items()
        assert not {"pong", "node"} & push.keys()
        assert len(push["session"]) == 32
        assert push["subs"]["foo"]["recoverable"] is True
        server.service.hub.publish("foo", "hello")
        [push] = client.receive()
        assert (push["channel"], push["pub"]["data"]) == ("foo", "hello")

    def test_a_client_may_request_deltas(self):
        server = MemoryServer(Settings(channel_allow=("*",), channel=(("*", {"delta": "always"}),)))
        client, push = connect(server, subs={"foo": {"delta": "fossil"}})
        assert push["subs"]["foo"]["delta"] is True
        texts = [f"{'x' * 100} {number}" for number in range(2)]
        for text in texts:
            server.service.hub.publish("foo", text)
        first, second = (push["pub"] for push in client.receive())
        assert first["data"] == json.dumps(texts[0])
        delta = second["data"].encode()
        assert apply_delta(first["data"].encode(), delta) == json.dumps(texts[1]).encode()

    @pytest.mark.parametrize(
        ("offered", "chosen"),
        [
            ("centrifuge-json", "centrifuge-json"),
            ("centrifuge-protobuf", ""),
            ("centrifuge-protobuf, centrifuge-json", "centrifuge-json"),
        ],
    )
    def test_speaks_json_only(self, server, offered, chosen):
        client = Client(server, PATH, {"Sec-WebSocket-Protocol": offered})
        assert client.head.decode().partition("Sec-WebSocket-Protocol: ")[2] == chosen

    def test_the_url_may_contain_the_first_message(self, server):
        client = Client(server, f"{PATH}?cf_connect={quote(json.dumps({'subs': {'foo': {}}}))}")
        assert "foo" in client.receive()[0]["connect"]["subs"]

    def test_an_invalid_message_in_the_url_is_refused_with_400(self, server):
        peer = server.connect()
        assert peer.open(f"{PATH}?cf_connect=x").startswith(b"HTTP/1.1 400 ")
        assert b"cf_connect: bad request: the message is not JSON" in peer.transport.written

    def test_an_invalid_first_message_closes_with_3501_after_a_push(self, server):
        client = Client(server, PATH)
        client.peer.send_text("x")
        client.turn()
        frames = client.peer.frames()
        assert json.loads(frames[0].payload)["disconnect"]["code"] == 3501
        assert int.from_bytes(frames[1].payload[:2], "big") == 3501

    def test_further_messages_are_ignored(self, server):
        client, _ = connect(server)
        client.send({"id": 2, "publish": {"channel": "foo", "data": 1}})
        client.peer.send_text("x")
        assert client.receive() == []
        assert client.closed() is None

    def test_each_push_is_a_message_of_its_own(self, server):
        client, _ = connect(server, subs={"foo": {}, "bar": {}})
        one = server.service.hub.clients.find()[0]
        one.unsubscribe("foo")
        one.unsubscribe("bar")
        client.turn()
        assert [json.loads(text)["channel"] for text in client.peer.messages()] == ["foo", "bar"]

    def test_is_pinged_by_frames_and_by_messages(self, server):
        """Proxies see the frames, and scripts in a page see the messages."""
        client, _ = connect(server)
        server.clock.advance(25)
        frames = client.peer.frames()
        assert {frame.opcode for frame in frames} == {1, 9}
        assert [frame.payload for frame in frames if frame.opcode == 1] == [b"{}"]

    @pytest.mark.parametrize(
        ("error", "code"),
        [
            (TOKEN_EXPIRED, 3005),
            (TOO_MANY_REQUESTS, 3013),
            (PERMISSION_DENIED, 3507),
            (INTERNAL, 3004),
            (Error(400, "x"), 3004),
        ],
    )
    def test_an_error_is_a_disconnect(self, server, monkeypatch, error, code):
        monkeypatch.setattr(Permissions, "identify", lambda *_: error)
        client = Client(server, PATH)
        client.send({})
        [push] = client.receive()
        assert push["disconnect"]["code"] == code

    def test_a_server_that_stops_sends_a_push(self, server):
        client, _ = connect(server)
        server.service.connections.close_all(1001, "stop")
        frames = client.peer.frames()
        assert json.loads(frames[0].payload) == {"disconnect": {"code": 3001, "reason": "shutdown: stop"}}
        assert frames[1].opcode == 8

    def test_the_backend_sees_the_transport(self, server):
        connect(server)
        [fields] = server.service.management.connections().result.connections.values()
        assert (fields["transport"], fields["protocol"]) == ("uni_websocket", "json")

    def test_publications_may_be_deltas(self):
        server = MemoryServer(Settings(channel_allow=("*",), channel=[("foo", {"delta": "always"})]))
        client, push = connect(server, subs={"foo": {"delta": "fossil"}})
        assert push["subs"]["foo"]["delta"] is True
        for number in range(2):
            server.service.hub.publish("foo", json.dumps(["a long text " * 20, number]), json=True)
            server.clock.advance(0)
        pushes = client.receive()
        assert [one["pub"].get("delta", False) for one in pushes] == [False, True]
