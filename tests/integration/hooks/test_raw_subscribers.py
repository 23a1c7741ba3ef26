"""What raw listeners may do where the backend is asked, and what can be done with them."""

import pytest
from events import Events
from http_api import KEY, ok
from peers import close_payload, handshake_request, wait_until

COOKIE = "Cookie: session=1"


def hooked(start_server, backend, *events, **settings):
    """Start a server that asks the backend."""
    urls = {f"hook_{event}": backend.url(f"/{event}") for event in events}
    return start_server(**{"api_key": KEY, "hook_timeout": 2.0} | urls | settings)


def status(server, path, *headers):
    """Tell how a handshake is answered."""
    with server.connect() as peer:
        peer.send(handshake_request(path, *headers))
        return peer.read_response()


class ConnectTests:
    """The backend says who a client is."""

    def test_user(self, start_server, backend):
        """By its cookie; and what it listens to without asking is open to it."""
        server = hooked(start_server, backend, "connect", channel_allow=("news",))
        backend.answer = lambda path, body: {"result": {"user": "42", "channels": ["chat:42"]}}
        with server.open("/ws?channel=news,chat:42", COOKIE), server.connect() as other:
            Events(other, "/sse?channel=chat:42", COOKIE)
            wait_until(lambda: len(ok(server, "connections", {"user": "42"})["connections"]) == 2, "both are known")
            known = ok(server, "connections", {"user": "42"})["connections"]
            assert {one["transport"] for one in known.values()} == {"websocket", "sse"}
            assert {one["protocol"] for one in known.values()} == {"raw"}
            for _, headers, body in backend.questions:
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
    def test_refused(self, start_server, backend, answer, expected, reason):
        """The client is told, in the handshake and for a stream of events."""
        server = hooked(start_server, backend, "connect")
        backend.answer = lambda path, body: answer
        response = status(server, "/ws?channel=foo")
        assert (response.status, reason in response.body) == (expected, True)
        assert (response.header("retry-after") is not None) is (expected == 503)
        with server.connect() as peer:
            response = peer.request("/sse?channel=foo")
            assert (response.status, reason in response.body) == (expected, True)

    def test_down(self, start_server, backend):
        """Nobody is let in because the backend is away; other endpoints do not mind."""
        server = hooked(start_server, backend, "connect")
        backend.close()
        assert status(server, "/ws?channel=foo").status == 503
        assert server.serves_the_next()

    def test_expiry(self, start_server, backend):
        """A connection that is over ends as one whose token is over."""
        server = hooked(start_server, backend, "connect")
        backend.answer = lambda path, body: {"result": {"user": "42", "expire_at": 1}}
        with server.open("/ws?channel=foo") as peer:
            assert peer.read_frame().close_code == 4001

    def test_token_goes_before(self, start_server, backend):
        """Who brings a token is not asked about."""
        server = hooked(start_server, backend, "connect", token_secret="s" * 32)
        assert status(server, "/ws?channel=foo&token=x").status == 401
        assert status(server, "/ws?channel=foo").status == 101
        assert len(backend.questions) == 1


class SubscribeTests:
    """The backend says what a client may listen to."""

    def test_decides(self, start_server, backend):
        """About every channel that is not open by name; not about one that is."""
        server = hooked(start_server, backend, "connect", "subscribe", channel_allow=("news",))
        allowed = {"chat": {"result": {}}, "secret": {"error": {"code": 403, "message": "members only"}}}
        backend.answer = lambda path, body: allowed.get(body.get("channel"), {"result": {"user": "42"}})
        assert status(server, "/ws?channel=news,chat").status == 101
        assert [body.get("channel") for _, _, body in backend.questions] == [None, "chat"]
        assert backend.questions[1][2]["user"] == "42"
        response = status(server, "/ws?channel=secret")
        assert (response.status, b"members only" in response.body) == (403, True)

    def test_loopback(self, start_server, backend):
        """What is open on loopback alone is the backend's to decide, too."""
        server = hooked(start_server, backend, "subscribe")
        backend.answer = lambda path, body: {"error": {"code": 403, "message": "no"}}
        assert status(server, "/ws?channel=foo").status == 403

    def test_one_after_the_other(self, start_server, backend):
        """A client that names many channels is no crowd; after the first no the others are not asked about."""
        server = hooked(start_server, backend, "subscribe")
        names = [f"c{number}" for number in range(100)]
        no = {"error": {"code": 403, "message": "no"}}
        backend.answer = lambda path, body: no if body["channel"] == "c50" else {"result": {}}
        assert status(server, f"/ws?channel={','.join(names)}").status == 403
        assert [body["channel"] for _, _, body in backend.questions] == names[:51]
        assert backend.most == 1

    def test_expiry(self, start_server, backend):
        """The connection ends no later than a subscription."""
        server = hooked(start_server, backend, "subscribe")
        backend.answer = lambda path, body: {"result": {"expire_at": 1}}
        with server.open("/ws?channel=foo") as peer:
            assert peer.read_frame().close_code == 4001

    def test_client_leaves_meanwhile(self, start_server, backend):
        """Nobody is subscribed for a client that has gone."""
        server = hooked(start_server, backend, "subscribe")
        with server.connect() as peer:
            peer.send(handshake_request("/ws?channel=foo"))
        wait_until(lambda: not server.count_sockets(), "it has gone")
        assert ok(server, "channels", {}) == {"channels": {}}
        assert ok(server, "connections", {}) == {"connections": {}}


class DisconnectTests:
    """What can be done with raw listeners, and what the backend hears of it."""

    def test_told(self, start_server, backend):
        """That a client has gone: who, and how."""
        server = hooked(start_server, backend, "connect", "disconnect")
        backend.answer = lambda path, body: {"result": {"user": "42"}}
        with server.open("/ws?channel=foo") as peer:
            peer.send_frame(8, close_payload(4002, "bye"))
            assert peer.read_frame().close_code == 4002
        wait_until(lambda: len(backend.questions) == 2, "told")
        path, _, body = backend.questions[1]
        assert (path, body["user"], body["client"]) == ("/disconnect", "42", backend.questions[0][2]["client"])
        assert body["disconnect"] == {"code": 4002, "reason": "bye"}
        with server.connect() as peer:
            Events(peer, "/sse?channel=foo")
        wait_until(lambda: len(backend.questions) == 4, "told of the stream")
        assert backend.questions[3][2]["disconnect"] == {"code": 3000, "reason": "connection closed"}

    def test_disconnected(self, start_server, backend):
        """A user is sent away, with the backend's code."""
        server = hooked(start_server, backend, "connect", "disconnect")
        backend.answer = lambda path, body: {"result": {"user": "42"}}
        with server.open("/ws?channel=foo") as peer, server.connect() as other:
            stream = Events(other, "/sse?channel=foo")
            wait_until(lambda: len(ok(server, "connections", {})["connections"]) == 2, "both are known")
            body = {"user": "42", "disconnect": {"code": 4501, "reason": "banned"}}
            assert ok(server, "disconnect", body) == {"clients": 2}
            frame = peer.read_frame()
            assert (frame.close_code, frame.close_reason) == (4501, "banned")
            with pytest.raises(AssertionError):
                stream.read()
        wait_until(lambda: len(backend.questions) == 4, "told")
        ends = [body["disconnect"] for path, _, body in backend.questions if path == "/disconnect"]
        assert ends == [{"code": 4501, "reason": "banned"}] * 2
        assert ok(server, "connections", {}) == {"connections": {}}

    def test_taken_off_a_channel(self, start_server, backend):
        """That ends the connection: its address says that it listens to it."""
        server = start_server(api_key=KEY)
        with server.open("/ws?channel=foo,bar") as peer:
            (client,) = ok(server, "connections", {"pattern": "foo"})["connections"]
            assert ok(server, "subscribe", {"client": client, "channel": "more"}) == {"clients": 0}
            assert ok(server, "refresh", {"client": client, "expire_at": 1}) == {"clients": 0}
            assert ok(server, "unsubscribe", {"client": client, "channel": "else"}) == {"clients": 0}
            assert ok(server, "unsubscribe", {"client": client, "channel": "foo"}) == {"clients": 1}
            frame = peer.read_frame()
            assert (frame.close_code, frame.close_reason) == (1008, "server unsubscribe")

    def test_refreshed(self, start_server, backend):
        """A connection whose time is limited gets more of it, or none."""
        server = hooked(start_server, backend, "connect")
        backend.answer = lambda path, body: {"result": {"user": "42", "expire_at": 4_000_000_000}}
        with server.open("/ws?channel=foo") as peer:
            assert ok(server, "refresh", {"user": "42", "expire_at": 3_900_000_000}) == {"clients": 1}
            assert ok(server, "refresh", {"user": "42", "expire_at": 1}) == {"clients": 1}
            assert peer.read_frame().close_code == 4001

    def test_told_at_the_end(self, start_server, backend):
        """A server that stops tells of everyone before it has stopped."""
        server = hooked(start_server, backend, "disconnect")
        peers = [server.open("/ws?channel=foo") for _ in range(20)]
        server.begin_to_stop()
        for peer in peers:
            assert peer.read_frame().close_code == 1001
            peer.send_frame(8, close_payload(1001))
        server.stop()
        assert len(backend.questions) == 20
        assert {body["disconnect"]["code"] for _, _, body in backend.questions} == {1001}
