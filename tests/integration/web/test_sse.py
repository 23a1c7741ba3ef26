"""`/sse`: the channels as Server-Sent Events."""

import json
from contextlib import closing

import pytest
from backend import Backend
from events import Events, assert_ends_with_retry
from http_api import KEY, api, up
from peers import wait_until
from pytest_twisted import blockon
from twisted.internet.threads import deferToThread


class EventTests:
    """What comes."""

    @pytest.fixture
    def server(self, broker, start_server):
        """Start a server on either broker."""
        return blockon(deferToThread(lambda: up(start_server(api_key=KEY, **broker))))

    def test_events(self, server):
        """Each publication is an event; several lines are several lines of data."""
        with server.connect() as peer:
            events = Events(peer, "/sse?channel=foo")
            assert "text/event-stream" in events.head
            for data in ("hello", "grüße", "two\nlines", ""):
                assert api(server, "publish", {"channel": "foo", "data": data})[1]["result"]["delivered"] == 1
                assert events.read() == ("message", data.encode())
            api(server, "publish", {"channel": "foo", "b64data": "/w=="})
            name, data = events.read()
            assert (name, json.loads(data)["b64data"]) == ("bytes", "/w==")

    def test_formats(self, server):
        """Envelopes on request."""
        with server.connect() as peer:
            events = Events(peer, "/sse?channel=foo,bar&format=json")
            api(server, "publish", {"channel": "bar", "data": "hello"})
            assert json.loads(events.read()[1]) | {"epoch": ""} == {
                "channel": "bar",
                "data": "hello",
                "offset": 1,
                "epoch": "",
            }

    def test_leaving(self, server):
        """A client that leaves listens no more."""
        with server.connect() as peer:
            Events(peer, "/sse?channel=foo")
        wait_until(lambda: api(server, "channels", {})[1] == {"result": {"channels": {}}}, "nobody listens")

    def test_stopping(self, server):
        """A stream does not keep the server from stopping."""
        with server.connect() as peer:
            Events(peer, "/sse?channel=foo")
            server.stop()
            wait_until(peer.has_ended, "the stream ended")


class RefusedTests:
    """What is refused."""

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
    def test_query(self, server, query, status):
        """With a sentence."""
        with server.connect() as peer:
            response = peer.request(f"/sse{query}")
            assert response.status == status
            assert response.text

    @pytest.mark.parametrize("method", ["HEAD", "POST"])
    def test_method(self, server, method):
        """Only GET makes a stream."""
        with server.connect() as peer:
            assert peer.request("/sse?channel=foo", method=method).status == 405

    def test_redis_is_away(self, start_server, redis, log):
        """503 and Retry-After; an EventSource gets 200 and `retry:`, since any other status would stop it for good."""
        redis.kill()
        server = start_server(redis=redis.url)
        with server.connect() as peer:
            response = peer.request("/sse?channel=foo")
            assert (response.status, response.header("retry-after")) == (503, "1")
            assert_ends_with_retry(peer)
        assert sum(" /sse 503 " in line for line in log.lines("wsserver.connection")) == 2

    def test_an_event_source_is_told_to_retry_while_the_backend_does_not_answer(self, start_server):
        """A hook without an answer is temporary; a no is 403 for everyone."""
        backend = Backend()
        server = start_server(hook_subscribe=backend.url("/subscribe"))
        backend.answer = lambda path, body: {"error": {"code": 403, "message": "no"}}
        with closing(backend), server.connect() as peer:
            assert peer.request("/sse?channel=foo", "Accept: text/event-stream").status == 403
            backend.answer = lambda path, body: None
            assert_ends_with_retry(peer)

    def test_an_event_source_gets_4xx_for_what_is_permanent(self, start_server):
        """It stops."""
        server = start_server(channel_allow=["foo"])
        with server.connect() as peer:
            for target, status in (("/sse?channel=", 400), ("/sse?channel=bar", 403)):
                assert peer.request(target, "Accept: text/event-stream").status == status

    def test_gap(self, start_server, redis):
        """After an outage there is an event that says so."""
        server = up(start_server(redis=redis.url))
        with server.connect() as peer:
            events = Events(peer, "/sse?channel=foo")
            redis.kill()
            redis.start()
            name, data = events.read()
            assert (name, json.loads(data)) == ("gap", {"event": "gap", "channel": "foo"})

    def test_slow_reader(self, start_server):
        """One that does not read is let go, and nobody else waits."""
        server = start_server(api_key=KEY, max_queued_bytes=200_000)
        server.shrink_send_buffers()
        with server.connect(receive_buffer=4096) as peer:
            Events(peer, "/sse?channel=foo")
            for _ in range(40):
                assert api(server, "publish", {"channel": "foo", "data": "x" * 50_000})[0] == 200
            wait_until(lambda: api(server, "channels", {})[1] == {"result": {"channels": {}}}, "it listens no more")

    @pytest.mark.parametrize("policy", ["drop-oldest", "latest"])
    def test_something_is_given_up(self, start_server, policy):
        """Wherever something is missing an event says so before; the last one comes."""
        server = start_server(max_queued_bytes=100_000, slow=policy)
        server.shrink_send_buffers()
        with server.connect(receive_buffer=4096) as peer:
            events = Events(peer, "/sse?channel=foo")
            for number in range(60):
                server.ask(lambda n=number: server.service.hub.publish("foo", b"%d," % n + b"x" * 20_000) and None)
            wait_until(lambda: server.service.hub.dropped, "some given up")
            seen, told = -1, False
            while seen < 59:
                name, data = events.read()
                if name == "gap":
                    told = True
                    continue
                number = int(data.split(b",")[0])
                assert number == seen + 1 or (told and number > seen)
                seen, told = number, False
