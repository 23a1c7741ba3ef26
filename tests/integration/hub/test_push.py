"""What is published to a channel reaches everyone who listens to it: by Redis, and within the process."""

import json

import pytest
from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateResponseAccept
from http_api import KEY, api, ready, up
from peers import BINARY, TEXT, answer_to, connect_autobahn, handshake_request, wait_until
from pytest_twisted import blockon
from twisted.internet.threads import deferToThread


class RedisPublishTests:
    """`redis-cli publish foo hello`."""

    def test_byte_for_byte(self, start_server, redis):
        """Text comes as text, anything else as binary, each message as it was published."""
        server = up(start_server(redis=redis.url))
        with server.open("/ws?channel=foo") as peer:
            for data in (b"hello", "grüße, 世界".encode(), b"", b"\xff\x00bytes", b"x" * 100_000, b'{"a": 1}', b"42"):
                assert redis.publish("foo", data) == 1
                frame = peer.read_frame()
                assert (frame.opcode, frame.payload) == (BINARY if b"\xff" in data else TEXT, data)

    def test_order(self, start_server, redis):
        """A thousand messages arrive once, in order."""
        server = up(start_server(redis=redis.url))
        with server.open("/ws?channel=foo") as peer:
            script = "for i = 1, 1000 do redis.call('PUBLISH', 'foo', i) end"
            redis.run("EVAL", script, "0")
            assert [int(peer.read_frame().payload) for _ in range(1000)] == list(range(1, 1001))

    def test_listens_to_what_is_wanted(self, start_server, redis):
        """Redis is asked only for channels that somebody listens to, and no longer than that."""
        server = up(start_server(redis=redis.url))
        assert redis.publish("foo", b"x") == 0
        with server.open("/ws?channel=foo"), server.open("/ws?channel=foo"):
            assert redis.publish("foo", b"x") == 1
        wait_until(lambda: redis.publish("foo", b"x") == 0, "unsubscribed")

    def test_two_servers(self, start_server, redis):
        """Two servers on one Redis are as one."""
        one, two = (up(start_server(redis=redis.url, api_key=KEY)) for _ in range(2))
        with one.open("/ws?channel=foo") as first, two.open("/ws?channel=foo") as second:
            assert api(one, "publish", {"channel": "foo", "data": "hello"})[0] == 200
            assert first.read_frame().payload == second.read_frame().payload == b"hello"

    def test_many_channels(self, start_server, redis):
        """Every one of some thousand channels is heard again within seconds after Redis was gone."""
        server = up(start_server(redis=redis.url))
        peers = [
            server.open("/ws?" + "&".join(f"channel=c{number}" for number in range(start, start + 100)))
            for start in range(0, 3000, 100)
        ]
        redis.kill()
        wait_until(lambda: ready(server) == 503, "deaf")
        redis.start()
        up(server)
        assert {redis.publish(f"c{number}", b"x") for number in range(0, 3000, 7)} == {1}
        for peer in peers:
            peer.socket.close()


class OutageTests:
    """Redis is away."""

    def test_down_at_start(self, start_server, redis):
        """The server starts, serves echo and commands, refuses subscribers, and joins when Redis comes."""
        redis.kill()
        server = start_server(redis=redis.url, api_key=KEY)
        assert server.serves_the_next()
        assert ready(server) == 503
        with server.connect() as peer:
            response = answer_to(peer, "/ws?channel=foo")
            assert (response.status, response.header("retry-after")) == (503, "1")
        assert api(server, "publish", {"channel": "foo", "data": "x"})[0] == 503
        redis.start()
        up(server)
        with server.open("/ws?channel=foo") as peer:
            redis.publish("foo", b"hello")
            assert peer.read_frame().payload == b"hello"

    @pytest.mark.parametrize(("form", "gap"), [("raw", "notice"), ("json", "notice"), ("raw", "close")])
    def test_killed_and_started_again(self, start_server, redis, form, gap):
        """Whoever listened is told that something may be missing, and hears what follows."""
        server = up(start_server(redis=redis.url, gap=gap))
        with server.open(f"/ws?channel=foo&format={form}") as peer:
            redis.publish("foo", b"before")
            assert b"before" in peer.read_frame().payload
            redis.kill()
            wait_until(lambda: ready(server) == 503, "deaf")
            redis.start()
            if gap == "close":
                assert peer.read_frame().close_code == 1012
                return
            assert json.loads(peer.read_frame().payload) == {"event": "gap", "channel": "foo"}
            up(server)
            redis.publish("foo", b"after")
            assert b"after" in peer.read_frame().payload

    def test_silent(self, start_server, redis):
        """A Redis whose sockets are open and that does nothing is noticed, and so is its return."""
        server = up(start_server(redis=redis.url, api_key=KEY))
        with server.open("/ws?channel=foo") as peer:
            redis.freeze()
            wait_until(lambda: ready(server) == 503, "not ready")
            with server.connect() as prober:
                assert "Redis is unavailable: no probe came back within 2 s" in prober.request("/ready").text
                assert prober.request("/health").status == 200
            redis.thaw()
            up(server)
            assert b"gap" in peer.read_frame().payload

    def test_silent_twice_while_somebody_waits(self, start_server, redis):
        """A client that waits for two channels is refused, and the next silence is noticed too."""
        server = up(start_server(redis=redis.url))
        with server.connect() as peer:
            redis.freeze()
            peer.send(handshake_request("/ws?channel=a,b"))
            assert peer.read_response().status == 503
        for _ in range(2):
            redis.thaw()
            up(server)
            redis.freeze()
            wait_until(lambda: ready(server) == 503, "deaf")
        redis.thaw()

    def test_the_password_is_set_right(self, start_server, redis, log):
        """A wrong password is said, and tried again: it may be mended at the other end."""
        redis.run("CONFIG", "SET", "requirepass", "other")
        server = start_server(redis=redis.url.replace("//", "//:right@"))
        wait_until(
            lambda: any("refuses the password" in line for line in log.lines("wsserver.redis")), "a line in the log"
        )
        assert ready(server) == 503
        redis.kill()
        redis.start()
        redis.run("CONFIG", "SET", "requirepass", "right")
        up(server)

    def test_one_connection_is_lost(self, start_server, redis):
        """Nothing is acknowledged while the server cannot hear, and it hears again within a second or two."""
        server = up(start_server(redis=redis.url, api_key=KEY))
        with server.open("/ws?channel=foo") as peer:
            for kind in ("pubsub", "normal"):
                redis.run("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
                assert json.loads(peer.read_frame().payload)["event"] == "gap"
                up(server)
                assert api(server, "publish", {"channel": "foo", "data": kind})[0] == 200
                assert peer.read_frame().payload == kind.encode()


class MemoryTests:
    """Without Redis: the HTTP API feeds the channels."""

    @pytest.fixture
    def server(self, broker, start_server):
        """Start a server on either broker."""
        return blockon(deferToThread(lambda: up(start_server(api_key=KEY, **broker))))

    def test_publish(self, server):
        """Everyone who listens gets it; the answer says how many that were here."""
        with server.open("/ws?channel=foo") as one, server.open("/ws?channel=foo&channel=bar") as two:
            assert api(server, "publish", {"channel": "foo", "data": "hello"})[1]["result"]["delivered"] == 2
            assert api(server, "publish", {"channel": "bar", "data": {"n": 1}})[1]["result"]["delivered"] == 1
            assert one.read_frame().payload == b"hello"
            assert [two.read_frame().payload for _ in range(2)] == [b"hello", b'{"n": 1}']

    def test_formats(self, server):
        """The same publication, as each subscriber asks for it."""
        paths = ["channel=foo", "channel=foo&format=json", "channel=foo&format=redis", "channel=foo&binary=1"]
        peers = [server.open(f"/ws?{path}") for path in paths]
        _, answer = api(server, "publish", {"channel": "foo", "data": "hello"})
        place = {name: answer["result"][name] for name in ("offset", "epoch")}
        assert place["offset"] == 1
        got = [peer.read_frame() for peer in peers]
        assert [frame.opcode for frame in got] == [TEXT, TEXT, TEXT, BINARY]
        assert got[0].payload == got[3].payload == b"hello"
        assert json.loads(got[1].payload) == {"channel": "foo", "data": "hello", **place}
        assert json.loads(got[2].payload) == ["message", "foo", "hello"]
        for peer in peers:
            peer.socket.close()

    def test_bytes(self, server):
        """Any bytes can be published over HTTP too."""
        with server.open("/ws?channel=foo") as raw, server.open("/ws?channel=foo&format=json") as enveloped:
            assert api(server, "publish", {"channel": "foo", "b64data": "/wA="})[0] == 200
            assert (frame := raw.read_frame()).payload == b"\xff\x00"
            assert frame.opcode == BINARY
            envelope = json.loads(enveloped.read_frame().payload)
            assert (envelope["b64data"], envelope["offset"]) == ("/wA=", 1)
            api(server, "publish", {"channel": "foo", "data": {"n": [1, "é"]}})
            assert raw.read_frame().payload == rb'{"n": [1, "\u00e9"]}'
            assert json.loads(enveloped.read_frame().payload)["data"] == {"n": [1, "é"]}

    def test_broadcast(self, server):
        """One call, many channels."""
        with server.open("/ws?channel=a,b") as peer:
            status, answer = api(server, "broadcast", {"channels": ["a", "b", "c"], "data": "x"})
            assert status == 200
            assert [one["result"]["delivered"] for one in answer["result"]["responses"]] == [1, 1, 0]
            assert [peer.read_frame().payload for _ in range(2)] == [b"x", b"x"]

    def test_channels(self, server):
        """The API tells who listens."""
        with server.open("/ws?channel=chat:1,news"), server.open("/ws?channel=news"):
            every = {"chat:1": {"num_clients": 1}, "news": {"num_clients": 2}}
            assert api(server, "channels", {}) == (200, {"result": {"channels": every}})
            some = api(server, "channels", {"pattern": "chat:*"})[1]["result"]["channels"]
            assert some == {"chat:1": {"num_clients": 1}}

    def test_a_subscriber_does_not_speak(self, server):
        """What it sends closes it, with a sentence."""
        with server.open("/ws?channel=foo") as peer:
            peer.send_frame(TEXT, b"hello")
            frame = peer.read_frame()
            assert frame.close_code == 1008
            assert "receive-only" in frame.close_reason


class SlowReaderTests:
    """A subscriber that does not read."""

    def test_closed(self, start_server):
        """It is closed with 1013 once too much waits for it, and nobody else waits."""
        server = start_server(api_key=KEY, max_queued_bytes=200_000, close_timeout=1.0)
        server.shrink_send_buffers()
        data = "x" * 50_000
        with server.open("/ws?channel=foo", receive_buffer=4096) as slow, server.open("/ws?channel=foo") as other:
            for _ in range(40):
                assert api(server, "publish", {"channel": "foo", "data": data})[0] == 200
                assert other.read_frame().payload == data.encode()
            wait_until(lambda: server.count_connections() == 1, "the slow one gone")
            slow.socket.close()

    def test_it_gets_what_waited(self, start_server):
        """One that reads again in time gets all, in order."""
        server = start_server(api_key=KEY, max_queued_bytes=10_000_000)
        server.shrink_send_buffers()
        with server.open("/ws?channel=foo", receive_buffer=4096) as slow:
            for number in range(30):
                api(server, "publish", {"channel": "foo", "data": f"{number}," + "x" * 50_000})
            assert [int(slow.read_frame().payload.split(b",")[0]) for _ in range(30)] == list(range(30))

    @pytest.mark.parametrize("wire", ["plain", "tls"])
    @pytest.mark.parametrize("policy", ["drop-oldest", "latest"])
    def test_something_is_given_up(self, start_server, policy, wire, tls_listen, tls_client):
        """Wherever something is missing a gap was told before; the last one comes, and others get all."""
        options = {"listen": tls_listen} if wire == "tls" else {}
        server = start_server(api_key=KEY, max_queued_bytes=100_000, slow=policy, channel_allow=("*",), **options)
        server.shrink_send_buffers()
        context = tls_client if wire == "tls" else None
        slow = server.open("/ws?channel=foo", receive_buffer=4096, tls=context)
        with slow, server.open("/ws?channel=foo", tls=context) as other:
            for number in range(60):
                server.ask(lambda n=number: server.service.hub.publish("foo", b"%d," % n + b"x" * 20_000) and None)
                assert other.read_frame().payload.startswith(b"%d," % number)
            dropped = server.service.hub.dropped
            seen, told, gaps, got = -1, False, 0, 0
            while seen < 59:
                payload = slow.read_frame().payload
                if payload.startswith(b"{"):
                    assert json.loads(payload) == {"event": "gap", "channel": "foo"}
                    told, gaps = True, gaps + 1
                    continue
                number = int(payload.split(b",")[0])
                assert number == seen + 1 or (told and number > seen)
                seen, told, got = number, False, got + 1
            assert gaps == 1
            assert got + dropped == 60
            assert server.service.hub.dropped == dropped

    def test_publications_over_tls(self, start_server, tls_listen, tls_client):
        """What is published leaves through TLS as well, many in one turn."""
        server = start_server(listen=tls_listen, channel_allow=("*",))
        with (
            server.open("/ws?channel=foo", tls=tls_client) as one,
            server.open("/ws?channel=foo", tls=tls_client) as two,
        ):
            server.ask(lambda: [server.service.hub.publish("foo", b"%d" % n) for n in range(100)] and None)
            for peer in (one, two):
                assert [int(peer.read_frame().payload) for _ in range(100)] == list(range(100))


class CompressedTests:
    """Clients that have agreed to permessage-deflate."""

    def test_with_a_client_of_autobahn(self, start_server):
        """Each gets every message whole, compressed or not, whatever it has agreed to."""
        server = start_server(compression="on", compression_context_takeover="on")
        texts = [json.dumps({"number": n, "text": "as long as it needs to be " * n}) for n in range(30)]
        offers = [[], [PerMessageDeflateOffer()], [PerMessageDeflateOffer(request_max_window_bits=9)]]
        options = {"perMessageCompressionAccept": PerMessageDeflateResponseAccept}
        url = f"{server.url}/ws?channel=foo"
        peers = [connect_autobahn(url, perMessageCompressionOffers=offer, **options) for offer in offers]
        for text in texts:
            server.ask(lambda text=text: server.service.hub.publish("foo", text.encode()) and None)
        for peer in peers:
            assert [peer.receive() for _ in texts] == texts
            peer.close()


class RefusedTests:
    """What is not allowed."""

    @pytest.mark.parametrize(
        ("query", "status", "words"),
        [
            ("channel=", 400, "is empty"),
            ("channel=a&format=xml", 400, "expected raw, json or redis"),
            ("channel=a&binary=yes", 400, "expected 0 or 1"),
            ("channel=a&formatt=red", 400, "unknown parameter 'formatt': expected format"),
            ("channel=" + "x" * 256, 400, "expected at most 255"),
            ("channel=a%00b", 400, "control character"),
            ("channel=wsserver:probe:1", 403, "is reserved"),
            ("channel=" + ",".join(map(str, range(129))), 400, "at most 128"),
        ],
    )
    def test_query(self, server, query, status, words):
        """A bad query is refused with a sentence."""
        with server.connect() as peer:
            response = answer_to(peer, f"/ws?{query}")
            assert response.status == status
            assert words in response.text

    def test_allow_list(self, start_server):
        """Only what the list names may be listened to."""
        server = start_server(channel_allow=("news", "chat:*"))
        for channel, status in (("news", 101), ("chat:", 101), ("chat:a/b", 101), ("newsx", 403), ("xnews", 403)):
            with server.connect() as peer:
                assert answer_to(peer, f"/ws?channel={channel}").status == status

    def test_beyond_loopback(self, start_server):
        """A server that others can reach opens no channel until it is told which."""
        server = start_server(interface="0.0.0.0")
        with server.connect() as peer:
            response = answer_to(peer, "/ws?channel=foo")
            assert response.status == 403
            assert "--channel-allow" in response.text

    def test_rebound_name(self, server):
        """A page whose name was made to point to this machine hears nothing."""
        with server.connect() as peer:
            response = answer_to(peer, "/ws?channel=foo", replace={"Host": "evil.example"})
            assert response.status == 403

    @pytest.mark.parametrize(
        ("method", "body", "key", "status"),
        [
            ("publish", {"channel": "foo", "data": "x"}, "", 401),
            ("publish", {"channel": "foo", "data": "x"}, "wrong", 401),
            ("publish", {"channel": "foo"}, KEY, 400),
            ("publish", {"data": "x"}, KEY, 400),
            ("publish", {"channel": 5, "data": "x"}, KEY, 400),
            ("publish", {"channel": "wsserver:x", "data": "x"}, KEY, 400),
            ("publish", {"channel": "foo", "b64data": "%"}, KEY, 400),
            ("publish", b'{"channel": "foo", "data": NaN}', KEY, 400),
            ("publish", b'{"channel": "foo", "data": 01}', KEY, 400),
            ("publish", b'{"channel": "foo", "data": "\xff"}', KEY, 400),
            ("publish", b'{"channel": "foo", "data": ' + b"[" * 256 + b"]" * 256 + b"}", KEY, 400),
            ("publish", b"not JSON", KEY, 400),
            ("publish", b"[]", KEY, 400),
            ("broadcast", {"channels": [], "data": "x"}, KEY, 400),
            ("nothing", {}, KEY, 404),
        ],
    )
    def test_api(self, start_server, method, body, key, status):
        """A call that is not served says why, with a status that is not 200."""
        found, answer = api(start_server(api_key=KEY), method, body, key=key)
        assert found == status
        assert answer["error"]["message"]

    def test_closed_api(self, server):
        """Without a key there is no API."""
        status, answer = api(server, "publish", {"channel": "foo", "data": "x"})
        assert (status, answer["error"]["code"]) == (403, 108)

    def test_bearer(self, start_server):
        """The key may come as a Bearer token."""
        server = start_server(api_key=KEY)
        body = {"channel": "foo", "data": "x"}
        assert api(server, "publish", body, f"Authorization: Bearer {KEY}", key="")[0] == 200
