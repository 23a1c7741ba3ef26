"""Publications reach every subscriber of their channel: through Redis, and within one process."""

import json

import pytest
from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateResponseAccept
from http_api import KEY, api, ok, ready, up
from peers import BINARY, CLOSE, TEXT, answer_to, connect_autobahn, handshake_request
from pytest_twisted import blockon
from twisted.internet.threads import deferToThread
from waiting import wait_until


class RedisPublishTests:
    """Messages that are published to Redis directly, as by `redis-cli publish foo hello`."""

    def test_utf8_arrives_as_text_and_other_bytes_as_binary_unchanged(self, start_server, redis):
        server = up(start_server(redis=redis.url))
        with server.open("/ws?channel=foo") as peer:
            for data in (b"hello", "grüße, 世界".encode(), b"", b"\xff\x00bytes", b"x" * 100_000, b'{"a": 1}', b"42"):
                assert redis.publish("foo", data) == 1
                frame = peer.read_frame()
                assert (frame.opcode, frame.payload) == (BINARY if b"\xff" in data else TEXT, data)

    def test_a_thousand_messages_arrive_once_and_in_order(self, start_server, redis):
        server = up(start_server(redis=redis.url))
        with server.open("/ws?channel=foo") as peer:
            script = "for i = 1, 1000 do redis.call('PUBLISH', 'foo', i) end"
            redis.run("EVAL", script, "0")
            assert [int(peer.read_frame().payload) for _ in range(1000)] == list(range(1, 1001))

    def test_the_server_is_subscribed_in_redis_only_while_a_channel_has_subscribers(self, start_server, redis):
        server = up(start_server(redis=redis.url))
        assert redis.publish("foo", b"x") == 0
        with server.open("/ws?channel=foo"), server.open("/ws?channel=foo"):
            assert redis.publish("foo", b"x") == 1
        wait_until(lambda: redis.publish("foo", b"x") == 0, "unsubscribed")

    def test_a_publication_reaches_the_subscribers_of_both_servers_on_one_redis(self, start_server, redis):
        one, two = (up(start_server(redis=redis.url, api_key=KEY)) for _ in range(2))
        with one.open("/ws?channel=foo") as first, two.open("/ws?channel=foo") as second:
            assert api(one, "publish", {"channel": "foo", "data": "hello"})[0] == 200
            assert first.read_frame().payload == second.read_frame().payload == b"hello"

    def test_resubscribes_to_3000_channels_after_redis_restarts(self, start_server, redis):
        server = up(start_server(redis=redis.url))
        peers = [
            server.open("/ws?" + "&".join(f"channel=c{number}" for number in range(start, start + 100)))
            for start in range(0, 3000, 100)
        ]
        redis.kill()
        wait_until(lambda: ready(server) == 503, "not ready")
        redis.start()
        up(server)
        assert {redis.publish(f"c{number}", b"x") for number in range(0, 3000, 7)} == {1}
        for peer in peers:
            peer.socket.close()


class OutageTests:
    """Redis is unavailable."""

    def test_a_server_started_without_redis_refuses_with_503_until_redis_is_up(self, start_server, redis):
        """Echo and commands work meanwhile."""
        redis.kill()
        server = start_server(redis=redis.url, api_key=KEY)
        assert server.serves_the_next()
        assert ready(server) == 503
        with server.connect() as peer:
            response = answer_to(peer, "/ws?channel=foo")
            assert (response.status, response.header("retry-after")) == (503, "1")
        assert api(server, "publish", {"channel": "foo", "data": "x"})[0] == 503
        (kept,) = [one for one in ok(server, "rejects", {})["rejects"] if one["path"] == "/ws"]
        assert (kept["status"], kept["count"]) == (503, 1)
        redis.start()
        up(server)
        with server.open("/ws?channel=foo") as peer:
            redis.publish("foo", b"hello")
            assert peer.read_frame().payload == b"hello"

    @pytest.mark.parametrize(("form", "gap"), [("raw", "notice"), ("json", "notice"), ("raw", "close")])
    def test_a_restart_of_redis_sends_subscribers_a_gap_message_or_closes_with_1012(
        self, start_server, redis, form, gap
    ):
        """With --gap notice the connection stays open and later publications arrive."""
        server = up(start_server(redis=redis.url, gap=gap))
        with server.open(f"/ws?channel=foo&format={form}") as peer:
            redis.publish("foo", b"before")
            assert b"before" in peer.read_frame().payload
            redis.kill()
            wait_until(lambda: ready(server) == 503, "not ready")
            redis.start()
            if gap == "close":
                assert peer.read_frame().close_code == 1012
                return
            assert json.loads(peer.read_frame().payload) == {"event": "gap", "channel": "foo"}
            up(server)
            redis.publish("foo", b"after")
            assert b"after" in peer.read_frame().payload

    def test_a_redis_that_stops_answering_makes_ready_503_until_it_answers_again(self, start_server, redis):
        """The sockets of Redis stay open, so only a probe can detect the failure. `/health` stays 200."""
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

    def test_a_pending_subscriber_gets_503_and_later_silences_are_detected_too(self, start_server, redis):
        """The client waits for two channels when Redis stops answering for the first time."""
        server = up(start_server(redis=redis.url))
        with server.connect() as peer:
            redis.freeze()
            peer.send(handshake_request("/ws?channel=a,b"))
            assert peer.read_response().status == 503
        for _ in range(2):
            redis.thaw()
            up(server)
            redis.freeze()
            wait_until(lambda: ready(server) == 503, "not ready")
        redis.thaw()

    def test_retries_after_a_refused_password_until_redis_accepts_it(self, start_server, redis, log):
        """The log names the refusal; the operator may correct the password in Redis."""
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

    def test_the_loss_of_either_redis_connection_sends_a_gap_and_recovers(self, start_server, redis):
        """A publication that the API acknowledges afterwards arrives."""
        server = up(start_server(redis=redis.url, api_key=KEY))
        with server.open("/ws?channel=foo") as peer:
            for kind in ("pubsub", "normal"):
                redis.run("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
                assert json.loads(peer.read_frame().payload)["event"] == "gap"
                up(server)
                assert api(server, "publish", {"channel": "foo", "data": kind})[0] == 200
                assert peer.read_frame().payload == kind.encode()


class APIPublishTests:
    """The HTTP API publishes to channels, over both brokers."""

    @pytest.fixture
    def server(self, broker, start_server):
        """Start a server on either broker."""
        return blockon(deferToThread(lambda: up(start_server(api_key=KEY, **broker))))

    def test_every_subscriber_gets_the_publication_and_the_answer_counts_them(self, server):
        with server.open("/ws?channel=foo") as one, server.open("/ws?channel=foo&channel=bar") as two:
            assert api(server, "publish", {"channel": "foo", "data": "hello"})[1]["result"]["delivered"] == 2
            assert api(server, "publish", {"channel": "bar", "data": {"n": 1}})[1]["result"]["delivered"] == 1
            assert one.read_frame().payload == b"hello"
            assert [two.read_frame().payload for _ in range(2)] == [b"hello", b'{"n": 1}']

    def test_each_subscriber_gets_the_publication_in_its_own_format(self, server):
        paths = ["channel=foo", "channel=foo&format=json", "channel=foo&format=redis", "channel=foo&binary=1"]
        peers = [server.open(f"/ws?{path}") for path in paths]
        _, answer = api(server, "publish", {"channel": "foo", "data": "hello"})
        position = {name: answer["result"][name] for name in ("offset", "epoch")}
        assert position["offset"] == 1
        got = [peer.read_frame() for peer in peers]
        assert [frame.opcode for frame in got] == [TEXT, TEXT, TEXT, BINARY]
        assert got[0].payload == got[3].payload == b"hello"
        assert json.loads(got[1].payload) == {"channel": "foo", "data": "hello", **position}
        assert json.loads(got[2].payload) == ["message", "foo", "hello"]
        for peer in peers:
            peer.socket.close()

    def test_b64data_arrives_as_binary_and_in_base64_in_an_envelope(self, server):
        """JSON data arrives with its text unchanged."""
        with server.open("/ws?channel=foo") as raw, server.open("/ws?channel=foo&format=json") as enveloped:
            assert api(server, "publish", {"channel": "foo", "b64data": "/wA="})[0] == 200
            assert (frame := raw.read_frame()).payload == b"\xff\x00"
            assert frame.opcode == BINARY
            envelope = json.loads(enveloped.read_frame().payload)
            assert (envelope["b64data"], envelope["offset"]) == ("/wA=", 1)
            api(server, "publish", {"channel": "foo", "data": {"n": [1, "é"]}})
            assert raw.read_frame().payload == rb'{"n": [1, "\u00e9"]}'
            assert json.loads(enveloped.read_frame().payload)["data"] == {"n": [1, "é"]}

    def test_broadcast_publishes_to_each_channel_and_counts_its_subscribers(self, server):
        with server.open("/ws?channel=a,b") as peer:
            status, answer = api(server, "broadcast", {"channels": ["a", "b", "c"], "data": "x"})
            assert status == 200
            assert [one["result"]["delivered"] for one in answer["result"]["responses"]] == [1, 1, 0]
            assert [peer.read_frame().payload for _ in range(2)] == [b"x", b"x"]

    def test_channels_returns_subscriber_counts_for_all_or_a_pattern(self, server):
        with server.open("/ws?channel=chat:1,news"), server.open("/ws?channel=news"):
            every = {"chat:1": {"num_clients": 1}, "news": {"num_clients": 2}}
            assert api(server, "channels", {}) == (200, {"result": {"channels": every}})
            some = api(server, "channels", {"pattern": "chat:*"})[1]["result"]["channels"]
            assert some == {"chat:1": {"num_clients": 1}}

    def test_a_subscriber_that_sends_a_message_is_closed_with_1008(self, server):
        with server.open("/ws?channel=foo") as peer:
            peer.send_frame(TEXT, b"hello")
            frame = peer.read_frame()
            assert frame.close_code == 1008
            assert "receive-only" in frame.close_reason


class SlowReaderTests:
    """A subscriber that does not read, under each value of --slow."""

    def test_is_closed_with_1013_when_its_send_queue_is_full_and_delays_no_other(self, start_server):
        server = start_server(api_key=KEY, max_queued_bytes=200_000, close_timeout=15.0)
        server.shrink_send_buffers()
        data = "x" * 50_000
        with server.open("/ws?channel=foo", receive_buffer=4096) as slow, server.open("/ws?channel=foo") as other:
            for _ in range(40):
                assert api(server, "publish", {"channel": "foo", "data": data})[0] == 200
                assert other.read_frame().payload == data.encode()
            frames = [slow.read_frame()]
            while frames[-1].opcode == TEXT:
                frames.append(slow.read_frame())
            assert 0 < len(frames) - 1 < 40
            assert (frames[-1].opcode, frames[-1].close_code) == (CLOSE, 1013)

    def test_a_reader_that_resumes_in_time_gets_every_publication_in_order(self, start_server):
        server = start_server(api_key=KEY, max_queued_bytes=10_000_000)
        server.shrink_send_buffers()
        with server.open("/ws?channel=foo", receive_buffer=4096) as slow:
            for number in range(30):
                api(server, "publish", {"channel": "foo", "data": f"{number}," + "x" * 50_000})
            assert [int(slow.read_frame().payload.split(b",")[0]) for _ in range(30)] == list(range(30))

    @pytest.mark.parametrize("wire", ["plain", "tls"])
    @pytest.mark.parametrize("policy", ["drop-oldest", "latest"])
    def test_one_gap_message_precedes_the_dropped_publications_and_the_last_one_arrives(
        self, start_server, policy, wire, tls_listen, tls_client
    ):
        """Another subscriber, which reads, gets every publication."""
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
            seen, after_gap, gaps, got = -1, False, 0, 0
            while seen < 59:
                payload = slow.read_frame().payload
                if payload.startswith(b"{"):
                    assert json.loads(payload) == {"event": "gap", "channel": "foo"}
                    after_gap, gaps = True, gaps + 1
                    continue
                number = int(payload.split(b",")[0])
                assert number == seen + 1 or (after_gap and number > seen)
                seen, after_gap, got = number, False, got + 1
            assert gaps == 1
            assert got + dropped == 60
            assert server.service.hub.dropped == dropped


class TLSTests:
    """Subscribers that connect over TLS."""

    def test_a_hundred_publications_in_one_turn_arrive_in_order_over_tls(self, start_server, tls_listen, tls_client):
        server = start_server(listen=tls_listen, channel_allow=("*",))
        with (
            server.open("/ws?channel=foo", tls=tls_client) as one,
            server.open("/ws?channel=foo", tls=tls_client) as two,
        ):
            server.ask(lambda: [server.service.hub.publish("foo", b"%d" % n) for n in range(100)] and None)
            for peer in (one, two):
                assert [int(peer.read_frame().payload) for _ in range(100)] == list(range(100))


class CompressedTests:
    """Clients that negotiated permessage-deflate."""

    def test_every_autobahn_client_gets_every_message_whatever_it_negotiated(self, start_server):
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
    """Requests that the server refuses."""

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
    def test_an_invalid_query_is_refused_with_a_reason(self, server, query, status, words):
        with server.connect() as peer:
            response = answer_to(peer, f"/ws?{query}")
            assert response.status == status
            assert words in response.text

    def test_a_channel_outside_channel_allow_is_refused_with_403(self, start_server):
        server = start_server(channel_allow=("news", "chat:*"))
        for channel, status in (("news", 101), ("chat:", 101), ("chat:a/b", 101), ("newsx", 403), ("xnews", 403)):
            with server.connect() as peer:
                assert answer_to(peer, f"/ws?channel={channel}").status == status

    def test_a_server_beyond_loopback_refuses_every_channel_without_channel_allow(self, start_server):
        """The body of the 403 names the option."""
        server = start_server(interface="0.0.0.0")
        with server.connect() as peer:
            response = answer_to(peer, "/ws?channel=foo")
            assert response.status == 403
            assert "--channel-allow" in response.text

    def test_a_foreign_host_header_on_loopback_is_refused_with_403(self, server):
        """A DNS rebinding attack: the page's host name resolves to 127.0.0.1."""
        with server.connect() as peer:
            response = answer_to(peer, "/ws?channel=foo", replace={"Host": "evil.example"})
            assert response.status == 403

    @pytest.mark.parametrize(
        "header", ["X-Forwarded-For: 203.0.113.7", "Forwarded: for=203.0.113.7", "Via: 1.1 proxy", "X-Real-IP: ::1"]
    )
    def test_a_client_behind_a_proxy_is_not_local_whatever_host_it_names(self, server, header):
        """Most proxies pass on the Host header of the client, which can be `localhost`."""
        with server.connect() as peer, server.connect() as other:
            answers = [
                answer_to(peer, "/ws?channel=foo", header, replace={"Host": "localhost"}),
                other.request("/sse?channel=foo", header, host="localhost"),
            ]
        for answer in answers:
            assert answer.status == 403
            assert "through a proxy" in answer.text

    def test_no_client_is_local_with_trusted_proxy(self, start_server):
        server = start_server(trusted_proxy=("127.0.0.1",))
        with server.connect() as peer:
            response = answer_to(peer, "/ws?channel=foo", replace={"Host": "localhost"})
            assert response.status == 403
            assert "other machines can reach the server" in response.text

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
    def test_an_invalid_api_call_gets_its_error_status_and_a_message(self, start_server, method, body, key, status):
        found, answer = api(start_server(api_key=KEY), method, body, key=key)
        assert found == status
        assert answer["error"]["message"]

    def test_the_api_is_403_without_api_key(self, server):
        status, answer = api(server, "publish", {"channel": "foo", "data": "x"})
        assert (status, answer["error"]["code"]) == (403, 108)

    def test_the_api_key_is_accepted_as_a_bearer_token(self, start_server):
        server = start_server(api_key=KEY)
        body = {"channel": "foo", "data": "x"}
        assert api(server, "publish", body, f"Authorization: Bearer {KEY}", key="")[0] == 200
