"""Tests for wsserver/web/centrifuge_http.py: Centrifuge clients over HTTP, message by message, in memory."""

import json
import time

import centrifuge.protocol.client_pb2 as official
import jwt
import pytest
from centrifuge_client import Client
from centrifuge_stream import Stream, send_request
from protobuf_messages import decode_replies, encode_commands
from twisted.internet.defer import Deferred
from twisted.logger import formatEvent, globalLogPublisher

from wsserver.config.settings import Settings
from wsserver.endpoints.centrifuge.emulation import Emulation
from wsserver.endpoints.centrifuge.executor import CONNECT_TIMEOUT, MAX_QUEUED_COMMANDS
from wsserver.endpoints.centrifuge.permissions import Permissions
from wsserver.hooks.messages import read_answered
from wsserver.testing import MemoryServer
from wsserver.wire.limits import PIECES_PER_TURN
from wsserver.wire.linger import LINGER

SECRET = "secret " * 6
OPEN = {"channel_allow": ("*",), "channel_publish": ("*",), "channel_presence": ("*",)}
PATHS = ("/connection/http_stream", "/connection/sse")
ONE_WAY = ("/connection/uni_http_stream", "/connection/uni_sse")
APP = "https://app.example"


def make_server(**settings):
    """Start a server that permits every client everything in every channel, with further settings."""
    return MemoryServer(Settings(**OPEN | settings))


def token(**claims):
    """Sign a token that expires in one hour."""
    return jwt.encode({"sub": "ann", "exp": int(time.time()) + 3600, **claims}, SECRET, "HS256")


def disconnect_of(stream):
    """Return the code and the reason of the push that ends a stream, and expect the end."""
    push = stream.receive()[-1]
    assert stream.ended
    assert stream.client.transport.lost
    return tuple(push.get("push", push)["disconnect"].values())


@pytest.fixture
def server():
    """Start a server that permits every client everything in every channel."""
    return make_server()


@pytest.fixture(params=PATHS)
def path(request):
    """Return the path of a stream."""
    return request.param


@pytest.fixture
def stream(server, path):
    """Connect a client."""
    return Stream(server, path).connected()


class OpeningTests:
    """The response to the first request."""

    def test_answers_connect_with_a_session_that_is_not_the_client_id(self, server, path):
        stream = Stream(server, path)
        assert stream.head.startswith("HTTP/1.1 200 OK")
        [reply] = stream.receive()
        assert reply["id"] == 1
        fields = reply["connect"]
        assert fields.items() >= {"ping": 25, "pong": True, "node": server.service.hub.broker.node}.items()
        assert len(fields["session"]) == 32
        assert fields["session"] not in fields["client"]
        assert Stream(server, path).connected().session != fields["session"]

    def test_the_headers_keep_proxies_from_buffering_the_response(self, server, path):
        head = Stream(server, path).head
        assert "X-Accel-Buffering: no\r\n" in head
        assert "Cache-Control: no-store\r\n" in head
        assert ("Content-Type: text/event-stream" if path.endswith("sse") else "Content-Type: application/json") in head

    def test_a_websocket_client_gets_no_session(self, server):
        fields = Client(server).request("connect")
        assert not {"session", "node"} & fields.keys()

    def test_http_1_0_gets_a_response_without_chunks(self, server, path):
        stream = Stream(server, path, version="1.0")
        assert stream.head.startswith("HTTP/1.0 200 OK")
        assert "chunked" not in stream.head
        stream.connected()
        assert stream.request("publish", channel="foo", data=1) == {}

    @pytest.mark.parametrize("path", PATHS[1:] + ONE_WAY)
    def test_an_event_stream_accepts_the_first_message_as_a_body(self, server, path):
        body = b"{}" if path in ONE_WAY else b'{"id":1,"connect":{}}'
        client = send_request(server, "POST", path, body)
        assert client.response().startswith(b"HTTP/1.1 200 ")
        assert b'"connect":{"client":' in client.transport.written

    def test_executes_several_commands_of_the_first_message(self, server, path):
        first = (
            '{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"foo"}}\n{"id":3,"unsubscribe":{"channel":"foo"}}'
        )
        replies = Stream(server, path, connect=None, first=first).receive()
        assert [reply["id"] for reply in replies] == [1, 2, 3]

    @pytest.mark.parametrize(
        ("first", "code"), [("no JSON", 3501), ('{"id":1,"subscribe":{"channel":"foo"}}', 3501), ("{}", 3501)]
    )
    def test_an_invalid_first_message_is_answered_with_a_disconnect(self, server, path, first, code):
        stream = Stream(server, path, connect=None, first=first)
        assert disconnect_of(stream)[0] == code

    @pytest.mark.parametrize(
        ("method", "path", "status", "words"),
        [
            ("GET", "/connection/http_stream", 405, "expected POST"),
            ("GET", "/emulation", 405, "expected POST"),
            ("HEAD", "/connection/sse", 405, ""),
            ("PUT", "/connection/uni_sse", 405, "expected GET or POST"),
            ("GET", "/connection/sse", 400, "expected the parameter cf_connect"),
            ("GET", "/connection/sse?cf_connect=%ff", 400, "not UTF-8"),
            ("GET", "/connection/uni_sse?cf_connect=%5B%5D", 400, "the message: expected an object, got an array"),
            ("POST", "/connection/sse?token=a&access_token=b", 400, "more than one token"),
            ("GET", "/connection/htp_stream", 404, "/connection/http_stream"),
        ],
    )
    def test_refuses_a_wrong_request(self, server, method, path, status, words):
        client = send_request(server, method, path)
        assert client.response().startswith(b"HTTP/1.1 %d " % status)
        assert words in client.transport.written.decode()

    @pytest.mark.parametrize(
        "command", [{"publish": {"channel": "foo", "data": 1}}, {"rpc": {"data": 1}}, {"send": {"data": 1}}]
    )
    def test_a_link_can_neither_publish_nor_call_the_backend(self, server, command):
        """A page of any site can make the browser send a GET request with the user's cookies, and without an Origin."""
        first = '{"id":1,"connect":{}}\n' + json.dumps({"id": 2} | command)
        stream = Stream(server, "/connection/sse", connect=None, first=first)
        assert stream.head.startswith("HTTP/1.1 400 ")
        assert b"a GET request may not" in stream.read()
        assert not server.service.hub.clients.find()

    def test_a_message_over_the_limit_gets_413(self):
        server = make_server(max_message_size=100)
        for path in (*PATHS[:1], ONE_WAY[0]):
            client = send_request(server, "POST", path, b" " * 101)
            assert client.response().startswith(b"HTTP/1.1 413 ")
            assert b"--max-message-size" in client.transport.written

    @pytest.mark.parametrize("path", PATHS + ONE_WAY)
    def test_a_client_that_is_not_connected_in_time_is_disconnected_with_3502(self, server, monkeypatch, path):
        """The backend does not answer."""
        monkeypatch.setattr(Permissions, "identify", lambda *_: Deferred())
        stream = Stream(server, path)
        server.clock.advance(CONNECT_TIMEOUT - 1)
        assert stream.receive() == []
        server.clock.advance(2)
        assert disconnect_of(stream)[0] == 3502


class CommandTests:
    """Commands in requests of their own."""

    def test_the_client_subscribes_publishes_and_receives(self, server, stream):
        assert stream.request("subscribe", channel="foo")["recoverable"] is True
        assert stream.send({"id": 7, "publish": {"channel": "foo", "data": {"a": 1}}}) == 204
        reply, push = sorted(stream.receive(), key=lambda one: one.get("id", 99))
        assert reply == {"id": 7, "publish": {}}
        assert push["push"]["pub"]["data"] == {"a": 1}
        server.service.hub.publish("foo", "hello")
        assert [one["push"]["pub"]["data"] for one in stream.receive()] == ["hello"]

    def test_each_reply_is_a_line_or_an_event_of_its_own(self, stream):
        stream.send({"id": 2, "unsubscribe": {"channel": "a"}}, {"id": 3, "unsubscribe": {"channel": "b"}})
        body = stream.read()
        expected = (b'{"id":2,"unsubscribe":{}}', b'{"id":3,"unsubscribe":{}}')
        if stream.is_events:
            assert body == b"".join(b"data: %b\n\n" % reply for reply in expected)
        else:
            assert body == b"".join(b"%b\n" % reply for reply in expected)

    def test_a_carriage_return_in_json_does_not_end_an_event(self, server, stream):
        stream.request("subscribe", channel="foo")
        server.service.hub.publish("foo", b'{"a":\r1,\r\n"b":2}', json=True)
        [one] = stream.receive()
        assert one["push"]["pub"]["data"] == {"a": 1, "b": 2}

    def test_presence_contains_the_client_until_it_disconnects(self, server, stream):
        stream.request("subscribe", channel="foo")
        assert len(stream.request("presence", channel="foo")["presence"]) == 1
        stream.client.transport.lose()
        server.clock.advance(60)
        other = Client(server).connected()
        other.request("subscribe", channel="foo")
        assert len(other.request("presence", channel="foo")["presence"]) == 1

    def test_missed_publications_are_recovered(self, server, path, stream):
        position = stream.request("subscribe", channel="foo")
        stream.client.transport.lose()
        server.service.hub.publish("foo", "missed")
        again = Stream(server, path).connected()
        found = again.request("subscribe", channel="foo", recover=True, epoch=position["epoch"], offset=0)
        assert found["recovered"] is True
        assert [one["data"] for one in found["publications"]] == ["missed"]

    def test_an_invalid_command_is_answered_with_a_disconnect(self, stream):
        assert stream.send({"id": 2}) == 204
        assert disconnect_of(stream)[0] == 3501

    def test_the_client_must_answer_pings(self, server, stream):
        for _ in range(2):
            server.clock.advance(25)
            assert stream.receive() == [{}]
            assert stream.send({}) == 204
        server.clock.advance(25)
        server.clock.advance(11)
        assert stream.receive()[-1] == {"push": {"disconnect": {"code": 3012, "reason": "no pong"}}}

    def test_a_request_without_the_id_of_a_process_reaches_this_one(self, stream):
        assert stream.send({"id": 2, "unsubscribe": {"channel": "a"}}, node="") == 204
        assert stream.receive() == [{"id": 2, "unsubscribe": {}}]


class ProtobufTests:
    """The Protobuf form, which only `/connection/http_stream` has."""

    HEADERS = ("Content-Type: application/octet-stream",)

    def test_the_client_connects_subscribes_and_receives(self, server):
        connect = encode_commands({"id": 1, "connect": {}})
        client = send_request(server, "POST", PATHS[0], connect, self.HEADERS, "1.0")
        assert b"Content-Type: application/octet-stream\r\n" in client.response()
        [reply] = decode_replies(bytes(client.transport.written))
        connected = reply["connect"]
        client.transport.written.clear()
        commands = encode_commands(
            {"id": 2, "subscribe": {"channel": "foo"}}, {"id": 3, "publish": {"channel": "foo", "data": b"\xff"}}
        )
        body = official.EmulationRequest(session=connected["session"], node=connected["node"], data=commands)
        assert self.send(server, body.SerializeToString()) == 204
        server.clock.advance(0)
        replies = decode_replies(bytes(client.transport.written))
        assert [reply.get("id", 0) for reply in replies] == [2, 3, 0]
        assert replies[2]["push"]["pub"]["data"] == b"\xff"

    def send(self, server, body, headers=HEADERS):
        client = send_request(server, "POST", "/emulation", body, headers)
        return int(client.response().split()[1])

    def test_another_body_gets_400(self, server):
        assert self.send(server, b"\xff") == 400

    def test_a_session_accepts_commands_in_its_own_form_only(self, server, stream):
        body = official.EmulationRequest(session=stream.session, node=stream.node, data=b"{}")
        assert self.send(server, body.SerializeToString()) == 400
        assert stream.request("unsubscribe", channel="a") == {}

    @pytest.mark.parametrize("path", PATHS[1:] + ONE_WAY)
    def test_other_paths_refuse_it_with_415(self, server, path):
        assert send_request(server, "POST", path, b"", self.HEADERS).response().startswith(b"HTTP/1.1 415 ")


class SessionTests:
    """Who may send commands of a session."""

    def send(self, server, body, headers=()):
        client = send_request(server, "POST", "/emulation", body, headers)
        status = int(client.response().split()[1])
        return status, client.transport.written.decode()

    @pytest.mark.parametrize(
        ("body", "status", "words"),
        [
            (b"", 400, "the body is not JSON"),
            (b'{"data":"{}"}', 400, "session"),
            (b'{"session":"a","data":{}}', 400, "data"),
            (b'{"session":"a","data":"{}"}', 404, "no such session"),
            (b'{"session":"a","node":"b","data":"{}"}', 404, "--redis"),
        ],
    )
    def test_refuses_a_wrong_request_or_an_unknown_session(self, server, body, status, words):
        found, text = self.send(server, body)
        assert found == status
        assert words in text

    def test_an_ended_session_gets_404(self, stream):
        stream.client.transport.lose()
        assert stream.send({}) == 404

    def test_the_client_id_is_no_session(self, server, stream):
        [client] = server.service.hub.clients.find()
        assert stream.send({}, session=client.client) == 404

    def test_the_id_of_another_process_gets_404_without_redis(self, stream):
        assert stream.send({}, node="another") == 404

    def test_an_unexpected_failure_drops_the_connection(self, server, monkeypatch):
        """Neither a timer nor a response would close it."""
        done = Deferred()
        monkeypatch.setattr(Emulation, "execute", lambda self, commands: done)
        client = send_request(server, "POST", "/emulation", b'{"session":"x","data":"{}"}')
        done.errback(RuntimeError("a bug"))
        assert client.transport.aborted

    def test_only_the_page_that_has_connected_may_send(self, path):
        server = make_server(origin=(APP, "https://other.example"))
        stream = Stream(server, path, headers=[f"Origin: {APP}"]).connected()
        command = {"id": 2, "unsubscribe": {"channel": "a"}}
        assert stream.send(command) == 204
        assert stream.send(command, headers=()) == 403
        assert stream.send(command, headers=["Origin: https://other.example"]) == 403
        assert stream.send(command, headers=["Origin: https://evil.example"]) == 403

    def test_a_stream_of_the_servers_own_page_needs_no_origin(self, server):
        """Browsers send no Origin header with the request for an event stream."""
        stream = Stream(server, "/connection/sse").connected()
        assert stream.send({"id": 2, "unsubscribe": {"channel": "a"}}, headers=["Origin: http://a"]) == 204

    def test_a_page_of_a_forbidden_origin_gets_403(self, server, path):
        assert Stream(server, path, headers=["Origin: https://evil.example"]).head.startswith("HTTP/1.1 403 ")

    def test_the_token_of_another_user_gets_403(self, path):
        server = make_server(token_secret=SECRET)
        stream = Stream(server, path, connect={"token": token()}).connected()
        command = {"id": 2, "unsubscribe": {"channel": "a"}}
        for sent, status in ((token(), 204), (token(sub="bob"), 403), ("an expired one", 204)):
            assert stream.send(command, headers=[f"Authorization: Bearer {sent}"]) == status

    def test_a_token_in_the_headers_of_the_first_request_identifies_the_client(self, path):
        server = make_server(token_secret=SECRET)
        Stream(server, path, headers=[f"Authorization: Bearer {token()}"]).connected()
        assert server.service.hub.clients.find("ann")


class ClosingTests:
    """How a stream ends."""

    def test_the_backend_disconnects_with_a_code_and_a_reason(self, server, stream):
        server.service.management.disconnect(client=server.service.hub.clients.find()[0].client, code=4501, reason="no")
        assert disconnect_of(stream) == (4501, "no")

    def test_a_server_that_stops_disconnects_with_3001(self, server, stream):
        server.service.connections.close_all(1001, "the server is stopping")
        assert disconnect_of(stream) == (3001, "shutdown: the server is stopping")

    def test_a_client_that_does_not_read_the_end_is_dropped(self, server, stream):
        stream.client.transport.reading = False
        stream.send({"id": 2})
        server.clock.advance(LINGER - 0.1)
        assert not stream.client.transport.lost
        server.clock.advance(0.2)
        assert stream.client.transport.aborted

    def test_a_half_closed_connection_is_closed(self, server, stream):
        stream.client.transport.protocol.readConnectionLost()
        stream.turn()
        assert stream.read() == b""
        assert stream.ended
        assert stream.client.transport.lost
        assert not server.service.hub.clients.find()

    def test_a_half_closed_connection_is_closed_after_the_replies_to_all_commands(self, server):
        """The commands take several turns of the reactor."""
        presence = [{"id": number, "presence": {"channel": "foo"}} for number in range(2, 301)]
        body = "\n".join(map(json.dumps, [{"id": 1, "connect": {}}, *presence])).encode()
        client = server.connect()
        client.send(b"POST /connection/http_stream HTTP/1.0\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        client.transport.protocol.readConnectionLost()
        server.clock.advance(0)
        replies = client.response().partition(b"\r\n\r\n")[2] + bytes(client.transport.written)
        assert [json.loads(line)["id"] for line in replies.splitlines()] == list(range(1, 301))
        assert client.transport.lost

    @pytest.mark.parametrize(
        "target",
        ["/connection/uni_sse", "/connection/sse?cf_connect={%22id%22:1,%22connect%22:{}}", "/sse?channel=foo"],
    )
    def test_a_connection_is_closed_that_was_half_closed_before_the_server_reached_its_request(self, server, target):
        others = server.connect()
        others.send(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n" * (PIECES_PER_TURN + 1))
        client = server.connect()
        client.send(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert not client.transport.written
        client.transport.protocol.readConnectionLost()
        server.clock.advance(0)
        assert client.response().startswith(b"HTTP/1.1 200 ")
        assert client.transport.lost

    def test_a_half_closed_connection_is_closed_after_the_answer_of_the_backend(self, path, monkeypatch):
        server = make_server(hook_rpc="http://127.0.0.1:1/")
        answer = Deferred()
        monkeypatch.setattr(server.service.hooks, "rpc", lambda *args, **more: answer)
        stream = Stream(server, path).connected()
        assert stream.send({"id": 2, "rpc": {}}) == 204
        stream.client.transport.protocol.readConnectionLost()
        stream.turn()
        assert not stream.client.transport.lost
        answer.callback(read_answered(b'{"result":{}}'))
        assert [one["id"] for one in stream.receive()] == [2]
        assert stream.client.transport.lost

    def test_the_end_is_logged_with_its_code(self, server, stream):
        lines = []
        globalLogPublisher.addObserver(lines.append)
        try:
            server.clock.advance(2)
            stream.client.transport.lose()
        finally:
            globalLogPublisher.removeObserver(lines.append)
        [line] = [formatEvent(one) for one in lines if one["log_namespace"] == "wsserver.http"]
        path = stream.target.partition("?")[0]
        expected = f"{stream.method} {path} 200 code=3000 reason='connection closed' seconds=2.000 peer=127.0.0.1:50000"
        assert line == expected

    def test_nothing_is_kept_of_an_ended_stream(self, server, stream):
        stream.client.transport.lose()
        assert len(server.service.connections.connections) == 0
        assert len(server.service.frontend.sockets) == 0
        assert not server.service.hub.clients.find()

    def test_the_connections_of_the_api_name_the_transport(self, server, stream):
        found = server.service.management.connections().result.connections
        [fields] = found.values()
        assert (fields["transport"], fields["protocol"]) == (stream.target[12:].partition("?")[0], "json")


class BackPressureTests:
    """A client that does not read its response."""

    def stop_reading(self, server, stream):
        """Stop the reader; publish until the transport is full."""
        stream.request("subscribe", channel="foo")
        stream.client.transport.reading = False
        server.service.hub.publish("foo", "x" * 70_000)
        server.clock.advance(0)
        server.service.hub.publish("foo", "x" * 70_000)
        server.clock.advance(0)

    def test_receives_everything_in_order_once_it_reads_again(self, server, stream):
        self.stop_reading(server, stream)
        for number in range(10):
            server.service.hub.publish("foo", str(number))
        server.clock.advance(0)
        stream.client.transport.read_again()
        found = [one["push"]["pub"]["data"] for one in stream.receive()]
        assert found[2:] == [str(number) for number in range(10)]

    def test_a_full_queue_ends_the_stream_with_3008(self, path):
        server = make_server(max_queued_bytes=200_000)
        stream = Stream(server, path).connected()
        self.stop_reading(server, stream)
        for _ in range(4):
            server.service.hub.publish("foo", "x" * 60_000)
            server.clock.advance(0)
        assert not server.service.hub.clients.find()
        stream.client.transport.read_again()
        assert disconnect_of(stream)[0] == 3008

    def test_commands_wait_and_too_many_get_429(self, server, stream):
        self.stop_reading(server, stream)
        command = {"id": 5, "unsubscribe": {"channel": "foo"}}
        assert [stream.send(command) for _ in range(MAX_QUEUED_COMMANDS)] == [204] * MAX_QUEUED_COMMANDS
        assert stream.send(command) == 429
        stream.client.transport.read_again()
        for _ in range(40):
            stream.turn()
        assert sum(one.get("id") == 5 for one in stream.receive()) == MAX_QUEUED_COMMANDS


class OneWayTests:
    """One-way streams."""

    @pytest.fixture(params=ONE_WAY)
    def path(self, request):
        """Return the path of a one-way stream."""
        return request.param

    def test_receives_bare_pushes_of_the_channels_that_it_names(self, server, path):
        stream = Stream(server, path, connect={"subs": {"foo": {}}})
        [push] = stream.receive()
        assert push["connect"].items() >= {"ping": 25}.items()
        assert "pong" not in push["connect"]
        assert push["connect"]["subs"]["foo"]["recoverable"] is True
        server.service.hub.publish("foo", "hello")
        [push] = stream.receive()
        assert (push["channel"], push["pub"]["data"]) == ("foo", "hello")

    def test_receives_the_channels_of_its_token(self, path):
        server = make_server(token_secret=SECRET)
        stream = Stream(server, path, connect={"token": token(channels=["mine"])})
        assert list(stream.receive()[0]["connect"]["subs"]) == ["mine"]

    def test_is_pinged_and_need_not_answer(self, server, path):
        stream = Stream(server, path).connected()
        for _ in range(10):
            server.clock.advance(25)
        assert stream.receive() == [{}] * 10

    @pytest.mark.parametrize(("sent", "code"), [("wrong", 3500), (token(exp=1), 3005)])
    def test_a_refused_token_is_a_disconnect(self, path, sent, code):
        server = make_server(token_secret=SECRET)
        assert disconnect_of(Stream(server, path, connect={"token": sent}))[0] == code

    def test_a_lost_position_is_recovered(self, server, path):
        stream = Stream(server, path, connect={"subs": {"foo": {}}})
        position = stream.receive()[0]["connect"]["subs"]["foo"]
        stream.client.transport.lose()
        server.service.hub.publish("foo", "missed")
        since = {"recover": True, "epoch": position["epoch"], "offset": 0}
        again = Stream(server, path, connect={"subs": {"foo": since}}).receive()[0]["connect"]["subs"]["foo"]
        assert again["recovered"] is True
        assert [one["data"] for one in again["publications"]] == ["missed"]

    def test_cannot_send_commands(self, server, path):
        stream = Stream(server, path).connected()
        assert stream.session
        assert stream.send({"id": 2, "publish": {"channel": "foo", "data": 1}}) == 404

    def test_null_stands_for_a_message_without_fields(self, server, path):
        assert Stream(server, path, connect=None, first="null").connected()

    def test_an_event_stream_without_a_message_is_anonymous(self, server):
        client = send_request(server, "GET", "/connection/uni_sse")
        assert b'data: {"connect":{"client":' in client.transport.written


@pytest.mark.parametrize("path", [*PATHS, *ONE_WAY, "/emulation"])
def test_a_websocket_handshake_gets_404_even_with_a_catch_all(path):
    """The server would otherwise echo the commands of an SDK."""
    peer = make_server(catch_all="on").connect()
    assert peer.open(path).startswith(b"HTTP/1.1 404 ")
    assert b"accepts no WebSocket" in peer.transport.written
