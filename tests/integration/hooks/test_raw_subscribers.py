"""Raw subscribers on a server with hooks: what the backend decides, and what the API can do with them."""

import time

import pytest
from backend import Backend
from events import Events
from http_api import KEY, ok
from peers import BINARY, TEXT, close_payload, handshake_request
from waiting import wait_until

COOKIE = "Cookie: session=1"


def hooked(start_server, backend, *events, **settings):
    """Start a server that calls the backend for these events."""
    urls = {f"hook_{event}": backend.url(f"/{event}") for event in events}
    return start_server(**{"api_key": KEY, "hook_timeout": 2.0} | urls | settings)


def status(server, path, *headers):
    """Send a handshake; return the response."""
    with server.connect() as peer:
        peer.send(handshake_request(path, *headers))
        return peer.read_response()


class MessageTests:
    """The message hook with --hook-message-raw."""

    def test_messages_reach_the_backend_in_order_and_its_answers_the_client_and_the_channel(
        self, start_server, backend
    ):
        server = hooked(start_server, backend, "connect", "message", hook_message_raw=True)

        def answer(path, body):
            if path == "/connect":
                return {"result": {"user": "42", "channels": ["chat"]}}
            content = {"b64data": body["b64data"]} if "b64data" in body else {"data": body["data"]}
            return {"result": {**content, "publish": [{"channel": channel, **content} for channel in body["channels"]]}}

        backend.answer = answer
        with server.open("/ws?channel=chat", COOKIE) as sender, server.open("/ws?channel=chat", COOKIE) as other:
            for number in range(50):
                sender.send_frame(TEXT, b"%d" % number)
            sender.send_frame(BINARY, b"\xff\x00")
            assert [other.read_frame().payload for _ in range(51)] == [*(b"%d" % n for n in range(50)), b"\xff\x00"]
            received = [sender.read_frame() for _ in range(102)]
            assert [frame.opcode for frame in received[-2:]] == [BINARY, BINARY]
        messages = [(headers, body) for path, headers, body in backend.requests if path == "/message"]
        assert [body.get("data") for _, body in messages] == [*map(str, range(50)), None]
        headers, body = messages[-1]
        assert headers["cookie"] == "session=1"
        assert body.pop("client")
        assert body == {
            "transport": "websocket",
            "protocol": "raw",
            "encoding": "binary",
            "user": "42",
            "channels": ["chat"],
            "b64data": "/wA=",
        }
        assert messages[0][1]["encoding"] == "json"

    def test_a_slow_or_dead_backend_loses_messages_but_no_client(self, start_server, backend):
        """The next message is passed on."""
        server = hooked(start_server, backend, "message", hook_message_raw=True, hook_timeout=0.3)
        backend.answer = lambda path, body: time.sleep(0.6) or {"result": {"data": "late"}}
        with server.open("/ws?channel=chat") as peer:
            peer.send_frame(TEXT, b"slow")
            wait_until(lambda: server.service.hooks.queues["message"].failed == 1, "the timeout")
            port = backend.port
            backend.close()
            peer.send_frame(TEXT, b"dead")
            wait_until(lambda: server.service.hooks.queues["message"].failed == 2, "the failure")
            again = Backend(port)
            again.answer = lambda path, body: {"result": {"data": "back"}}
            peer.send_frame(TEXT, b"alive")
            assert peer.read_frame().payload == b"back"
            again.close()


class ConnectTests:
    """The connect hook: the backend identifies the client."""

    def test_the_cookie_identifies_the_user_and_opens_the_channels_of_the_answer(self, start_server, backend):
        """A channel that neither the backend nor --channel-allow names gets 403."""
        server = hooked(start_server, backend, "connect", channel_allow=("news",))
        backend.answer = lambda path, body: {"result": {"user": "42", "channels": ["chat:42"]}}
        with server.open("/ws?channel=news,chat:42", COOKIE), server.connect() as other:
            Events(other, "/sse?channel=chat:42", COOKIE)
            wait_until(
                lambda: len(ok(server, "connections", {"user": "42"})["connections"]) == 2, "both connections listed"
            )
            known = ok(server, "connections", {"user": "42"})["connections"]
            assert {one["transport"] for one in known.values()} == {"websocket", "sse"}
            assert {one["protocol"] for one in known.values()} == {"raw"}
            for _, headers, body in backend.requests:
                assert headers["cookie"] == "session=1"
                assert body["client"] in known
            assert status(server, "/ws?channel=else", COOKIE).status == 403

    @pytest.mark.parametrize(
        ("answer", "expected", "reason"),
        [
            ({"error": {"code": 401, "message": "log in first"}}, 401, b"log in first"),
            ({"error": {"code": 1000, "message": "no"}}, 403, b"no"),
            ({"error": {"code": 429, "message": "slowly", "temporary": True}}, 503, b"slowly"),
            ({"disconnect": {"code": 4501, "reason": "banned"}}, 403, b"banned"),
            ({"oops": 1}, 503, b"the backend is unavailable"),
        ],
    )
    def test_an_error_of_the_backend_becomes_401_403_or_503_with_its_reason(
        self, start_server, backend, answer, expected, reason
    ):
        """A handshake and an event stream get the same status; a 503 has a Retry-After header."""
        server = hooked(start_server, backend, "connect")
        backend.answer = lambda path, body: answer
        response = status(server, "/ws?channel=foo")
        assert (response.status, reason in response.body) == (expected, True)
        assert (response.header("retry-after") is not None) is (expected == 503)
        with server.connect() as peer:
            response = peer.request("/sse?channel=foo")
            assert (response.status, reason in response.body) == (expected, True)

    def test_clients_get_503_while_the_backend_is_down_and_echo_still_works(self, start_server, backend):
        server = hooked(start_server, backend, "connect")
        backend.close()
        assert status(server, "/ws?channel=foo").status == 503
        assert server.serves_the_next()

    def test_closes_with_4001_when_expire_at_of_the_answer_has_passed(self, start_server, backend):
        server = hooked(start_server, backend, "connect")
        backend.answer = lambda path, body: {"result": {"user": "42", "expire_at": 1}}
        with server.open("/ws?channel=foo") as peer:
            assert peer.read_frame().close_code == 4001

    def test_a_client_with_a_token_is_authenticated_without_the_hook(self, start_server, backend):
        server = hooked(start_server, backend, "connect", token_secret="s" * 32)
        assert status(server, "/ws?channel=foo&token=x").status == 401
        assert status(server, "/ws?channel=foo").status == 101
        assert len(backend.requests) == 1


class SubscribeTests:
    """The subscribe hook: the backend authorizes channels."""

    def test_the_backend_decides_on_every_channel_outside_channel_allow(self, start_server, backend):
        server = hooked(start_server, backend, "connect", "subscribe", channel_allow=("news",))
        allowed = {"chat": {"result": {}}, "secret": {"error": {"code": 403, "message": "members only"}}}
        backend.answer = lambda path, body: allowed.get(body.get("channel"), {"result": {"user": "42"}})
        assert status(server, "/ws?channel=news,chat").status == 101
        assert [body.get("channel") for _, _, body in backend.requests] == [None, "chat"]
        assert backend.requests[1][2]["user"] == "42"
        response = status(server, "/ws?channel=secret")
        assert (response.status, b"members only" in response.body) == (403, True)

    def test_the_backend_is_not_asked_about_channels_that_an_option_excludes(self, start_server, backend):
        """Nor about user-limited channels, whose name decides."""
        tables = (("quiet", {"hook_subscribe": False}), ("d*", {"allow_user_limited_channels": True}))
        server = hooked(start_server, backend, "connect", "subscribe", channel=tables)
        backend.answer = lambda path, body: {"result": {"user": "42"}}
        found = {name: status(server, f"/ws?channel={name}").status for name in ("quiet", "d%2342", "d%2343", "dialog")}
        assert found == {"quiet": 403, "d%2342": 101, "d%2343": 403, "dialog": 101}
        assert [body["channel"] for _, _, body in backend.requests if "channel" in body] == ["dialog"]

    def test_the_backend_decides_on_loopback_too(self, start_server, backend):
        """Without the hook, a server on loopback opens every channel."""
        server = hooked(start_server, backend, "subscribe")
        backend.answer = lambda path, body: {"error": {"code": 403, "message": "no"}}
        assert status(server, "/ws?channel=foo").status == 403

    def test_channels_are_checked_one_at_a_time_until_the_first_refusal(self, start_server, backend):
        server = hooked(start_server, backend, "subscribe")
        names = [f"c{number}" for number in range(100)]
        no = {"error": {"code": 403, "message": "no"}}
        backend.answer = lambda path, body: no if body["channel"] == "c50" else {"result": {}}
        assert status(server, f"/ws?channel={','.join(names)}").status == 403
        assert [body["channel"] for _, _, body in backend.requests] == names[:51]
        assert backend.max_concurrent == 1

    def test_closes_with_4001_when_expire_at_of_a_subscription_has_passed(self, start_server, backend):
        server = hooked(start_server, backend, "subscribe")
        backend.answer = lambda path, body: {"result": {"expire_at": 1}}
        with server.open("/ws?channel=foo") as peer:
            assert peer.read_frame().close_code == 4001

    def test_a_client_that_disconnects_after_its_handshake_is_not_subscribed(self, start_server, backend):
        server = hooked(start_server, backend, "subscribe")
        with server.connect() as peer:
            peer.send(handshake_request("/ws?channel=foo"))
        wait_until(lambda: not server.count_sockets(), "the connection closed")
        assert ok(server, "channels", {}) == {"channels": {}}
        assert ok(server, "connections", {}) == {"connections": {}, "total": 0}


class DisconnectTests:
    """The disconnect hook, and the API methods on raw subscribers."""

    def test_the_hook_gets_user_client_and_the_close_code(self, start_server, backend):
        """An event stream that ends has code 3000."""
        server = hooked(start_server, backend, "connect", "disconnect")
        backend.answer = lambda path, body: {"result": {"user": "42"}}
        with server.open("/ws?channel=foo") as peer:
            peer.send_frame(8, close_payload(4002, "bye"))
            assert peer.read_frame().close_code == 4002
        wait_until(lambda: len(backend.requests) == 2, "the disconnect hook")
        path, _, body = backend.requests[1]
        assert (path, body["user"], body["client"]) == ("/disconnect", "42", backend.requests[0][2]["client"])
        assert body["disconnect"] == {"code": 4002, "reason": "bye"}
        with server.connect() as peer:
            Events(peer, "/sse?channel=foo")
        wait_until(lambda: len(backend.requests) == 4, "the disconnect hook of the stream")
        assert backend.requests[3][2]["disconnect"] == {"code": 3000, "reason": "connection closed"}

    def test_disconnect_closes_a_websocket_and_a_stream_and_the_hook_gets_its_code(self, start_server, backend):
        server = hooked(start_server, backend, "connect", "disconnect")
        backend.answer = lambda path, body: {"result": {"user": "42"}}
        with server.open("/ws?channel=foo") as peer, server.connect() as other:
            stream = Events(other, "/sse?channel=foo")
            wait_until(lambda: len(ok(server, "connections", {})["connections"]) == 2, "both connections listed")
            body = {"user": "42", "disconnect": {"code": 4501, "reason": "banned"}}
            assert ok(server, "disconnect", body) == {"clients": 2}
            frame = peer.read_frame()
            assert (frame.close_code, frame.close_reason) == (4501, "banned")
            with pytest.raises(AssertionError):
                stream.read()
        wait_until(lambda: len(backend.requests) == 4, "the disconnect hook")
        ends = [body["disconnect"] for path, _, body in backend.requests if path == "/disconnect"]
        assert ends == [{"code": 4501, "reason": "banned"}] * 2
        assert ok(server, "connections", {}) == {"connections": {}, "total": 0}

    def test_unsubscribe_closes_the_connection_with_1008_and_subscribe_has_no_effect(self, start_server, backend):
        """A raw subscriber's channels are those of its URL."""
        server = start_server(api_key=KEY)
        with server.open("/ws?channel=foo,bar") as peer:
            (client,) = ok(server, "connections", {"pattern": "foo"})["connections"]
            assert ok(server, "subscribe", {"client": client, "channel": "more"}) == {"clients": 0}
            assert ok(server, "refresh", {"client": client, "expire_at": 1}) == {"clients": 0}
            assert ok(server, "unsubscribe", {"client": client, "channel": "else"}) == {"clients": 0}
            assert ok(server, "unsubscribe", {"client": client, "channel": "foo"}) == {"clients": 1}
            frame = peer.read_frame()
            assert (frame.close_code, frame.close_reason) == (1008, "server unsubscribe")

    def test_refresh_sets_the_expiry_and_a_past_one_closes_with_4001(self, start_server, backend):
        server = hooked(start_server, backend, "connect")
        backend.answer = lambda path, body: {"result": {"user": "42", "expire_at": 4_000_000_000}}
        with server.open("/ws?channel=foo") as peer:
            assert ok(server, "refresh", {"user": "42", "expire_at": 3_900_000_000}) == {"clients": 1}
            assert ok(server, "refresh", {"user": "42", "expire_at": 1}) == {"clients": 1}
            assert peer.read_frame().close_code == 4001

    def test_a_stopping_server_calls_the_hook_for_every_client_before_it_has_stopped(self, start_server, backend):
        server = hooked(start_server, backend, "disconnect")
        peers = [server.open("/ws?channel=foo") for _ in range(20)]
        server.begin_to_stop()
        for peer in peers:
            assert peer.read_frame().close_code == 1012
            peer.send_frame(8, close_payload(1012))
        server.stop()
        assert len(backend.requests) == 20
        assert {body["disconnect"]["code"] for _, _, body in backend.requests} == {1012}
