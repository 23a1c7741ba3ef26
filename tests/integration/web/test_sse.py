"""`/sse`: channels as Server-Sent Events."""

import json
from contextlib import closing

import pytest
from backend import Backend
from events import Events, assert_ends_with_retry
from http_api import KEY, api, up
from pytest_twisted import blockon
from twisted.internet.threads import deferToThread
from waiting import wait_until


class EventTests:
    """The events of a stream, and its end."""

    @pytest.fixture
    def server(self, broker, start_server):
        """Start a server on either broker."""
        return blockon(deferToThread(lambda: up(start_server(api_key=KEY, **broker))))

    def test_each_publication_is_one_event_and_binary_data_a_bytes_event(self, server):
        """A text of several lines becomes several data lines."""
        with server.connect() as peer:
            events = Events(peer, "/sse?channel=foo")
            assert "text/event-stream" in events.head
            for data in ("hello", "grüße", "two\nlines", ""):
                assert api(server, "publish", {"channel": "foo", "data": data})[1]["result"]["delivered"] == 1
                assert events.read() == ("message", data.encode())
            api(server, "publish", {"channel": "foo", "b64data": "/w=="})
            name, data = events.read()
            assert (name, json.loads(data)["b64data"]) == ("bytes", "/w==")

    def test_a_client_of_http_1_0_gets_the_same_events_without_chunks(self, server):
        """One fan-out serves clients of both versions."""
        with server.connect() as old, server.connect() as new:
            events = Events(new, "/sse?channel=foo")
            old.send(b"GET /sse?channel=foo HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
            received = b""
            while not received.endswith(b"\n\n"):
                received += old.socket.recv(65_536)
            assert b"transfer-encoding" not in received.lower()
            api(server, "publish", {"channel": "foo", "data": "hello"})
            assert events.read() == ("message", b"hello")
            expected = f"id: {events.last_event_id}\ndata: hello\n\n".encode()
            while b"data: hello" not in received:
                received += old.socket.recv(65_536)
            assert received.endswith(expected)

    def test_format_json_sends_envelopes_with_channel_offset_and_epoch(self, server):
        with server.connect() as peer:
            events = Events(peer, "/sse?channel=foo,bar&format=json")
            api(server, "publish", {"channel": "bar", "data": "hello"})
            assert json.loads(events.read()[1]) | {"epoch": ""} == {
                "channel": "bar",
                "data": "hello",
                "offset": 1,
                "epoch": "",
            }

    def test_a_client_that_disconnects_is_unsubscribed(self, server):
        with server.connect() as peer:
            Events(peer, "/sse?channel=foo")
        wait_until(lambda: api(server, "channels", {})[1] == {"result": {"channels": {}}}, "unsubscribed")

    def test_a_stopping_server_ends_an_open_stream(self, server):
        with server.connect() as peer:
            Events(peer, "/sse?channel=foo")
            server.stop()
            wait_until(peer.has_ended, "the stream ended")


class RefusedTests:
    """Requests that the server refuses permanently or temporarily."""

    @pytest.mark.parametrize(
        ("query", "status"),
        [
            ("", 400),
            ("?channel=", 400),
            ("?channel=a&binary=1", 400),
            ("?channel=%ff", 400),
            ("?channel=wsserver:", 403),
        ],
    )
    def test_an_invalid_channel_or_query_is_refused_with_a_reason(self, server, query, status):
        with server.connect() as peer:
            response = peer.request(f"/sse{query}")
            assert response.status == status
            assert response.text

    @pytest.mark.parametrize("method", ["HEAD", "POST"])
    def test_head_and_post_are_405(self, server, method):
        with server.connect() as peer:
            assert peer.request("/sse?channel=foo", method=method).status == 405

    def test_is_503_without_redis_but_200_with_retry_for_an_event_source(self, start_server, redis, log):
        """An EventSource never reconnects after a status other than 200. The access log says 503 in both cases."""
        redis.kill()
        server = start_server(redis=redis.url)
        with server.connect() as peer:
            response = peer.request("/sse?channel=foo")
            assert (response.status, response.header("retry-after")) == (503, "1")
            assert_ends_with_retry(peer)
        refusals = [
            line for line in log.lines("wsserver.connection") if line.startswith("connection refused status=503 ")
        ]
        assert [line.rpartition(" ")[2] for line in refusals] == ["path=/sse"] * 2

    def test_an_event_source_gets_200_and_retry_while_the_backend_does_not_answer(self, start_server):
        """A refusal by the backend is permanent and gets 403."""
        backend = Backend()
        server = start_server(hook_subscribe=backend.url("/subscribe"))
        backend.answer = lambda path, body: {"error": {"code": 403, "message": "no"}}
        with closing(backend), server.connect() as peer:
            assert peer.request("/sse?channel=foo", "Accept: text/event-stream").status == 403
            backend.answer = lambda path, body: None
            assert_ends_with_retry(peer)

    def test_an_event_source_gets_400_or_403_for_a_permanent_refusal(self, start_server):
        """An EventSource does not reconnect after these statuses."""
        server = start_server(channel_allow=["foo"])
        with server.connect() as peer:
            for target, status in (("/sse?channel=", 400), ("/sse?channel=bar", 403)):
                assert peer.request(target, "Accept: text/event-stream").status == status


class MissingPublicationTests:
    """Publications are missing after an outage of Redis, or because the client does not read."""

    def test_an_outage_of_redis_sends_a_gap_event(self, start_server, redis):
        server = up(start_server(redis=redis.url))
        with server.connect() as peer:
            events = Events(peer, "/sse?channel=foo")
            redis.kill()
            redis.start()
            name, data = events.read()
            assert (name, json.loads(data)) == ("gap", {"event": "gap", "channel": "foo"})

    def test_a_reader_whose_send_queue_is_full_is_unsubscribed_and_delays_no_publisher(self, start_server):
        server = start_server(api_key=KEY, max_queued_bytes=200_000)
        server.shrink_send_buffers()
        with server.connect(receive_buffer=4096) as peer:
            Events(peer, "/sse?channel=foo")
            for _ in range(40):
                assert api(server, "publish", {"channel": "foo", "data": "x" * 50_000})[0] == 200
            wait_until(lambda: api(server, "channels", {})[1] == {"result": {"channels": {}}}, "unsubscribed")

    @pytest.mark.parametrize("policy", ["drop-oldest", "latest"])
    def test_a_gap_event_precedes_dropped_publications_and_the_last_one_arrives(self, start_server, policy):
        server = start_server(max_queued_bytes=100_000, slow=policy)
        server.shrink_send_buffers()
        with server.connect(receive_buffer=4096) as peer:
            events = Events(peer, "/sse?channel=foo")
            for number in range(60):
                server.ask(lambda n=number: server.service.hub.publish("foo", b"%d," % n + b"x" * 20_000) and None)
            wait_until(lambda: server.service.hub.dropped, "publications dropped")
            seen, after_gap = -1, False
            while seen < 59:
                name, data = events.read()
                if name == "gap":
                    after_gap = True
                    continue
                number = int(data.split(b",")[0])
                assert number == seen + 1 or (after_gap and number > seen)
                seen, after_gap = number, False
