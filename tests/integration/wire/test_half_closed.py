"""
Clients that send a request and at once close their sending side, as `nc -N` does, still get the response.

A request ends by its length, not by the end of the connection (RFC 9112 section 6.3).
"""

import contextlib
import json
import socket
import ssl

import pytest
from backend import Backend
from http_api import KEY, up
from waiting import wait_until

from wsserver.wire.poller import Poller

CALLS = {
    "publish": {"channel": "news", "data": "hello"},
    "broadcast": {"channels": ["news", "old"], "data": "hello"},
    "history": {"channel": "news", "limit": 10},
    "presence": {"channel": "news"},
    "channels": {},
    "info": {},
    "batch": {"commands": [{"publish": {"channel": "news", "data": 1}}, {"history": {"channel": "news"}}]},
}
OPTIONS = {"api_key": KEY, "history_size": 10, "history_ttl": 60, "channel_presence": ("*",), "channel_allow": ("*",)}


def post(method: str, parameters: object) -> bytes:
    """Build a request to the HTTP API."""
    body = json.dumps(parameters).encode()
    return b"POST /api/%s HTTP/1.1\r\nHost: a\r\nX-API-Key: %s\r\nContent-Length: %d\r\n\r\n%s" % (
        method.encode(),
        KEY.encode(),
        len(body),
        body,
    )


def end(peer) -> None:
    """Close the peer's sending side of the connection."""
    peer.socket.shutdown(socket.SHUT_WR)


@pytest.fixture(params=["poller", "reactor"])
def watched_by(request, monkeypatch):
    """Run each test with the poller, and with the reactor alone as on systems without epoll."""
    if request.param == "reactor":
        monkeypatch.setattr(Poller, "available", False)
    return request.param


@pytest.mark.usefixtures("watched_by")
class HalfClosedTests:
    """The server's behaviour after a client has closed its sending side."""

    def test_answers_every_api_method_and_logs_it_with_200(self, start_server, broker, log):
        """The response arrives whole, then the connection ends."""
        server = up(start_server(**OPTIONS, **broker))
        for method, parameters in CALLS.items():
            with server.connect() as peer:
                peer.send(post(method, parameters))
                end(peer)
                response = peer.read_response()
                assert (response.status, set(json.loads(response.body)) - {"replies"}) == (
                    200,
                    {"result"} if method != "batch" else set(),
                )
                assert peer.read_to_end() == b""
        lines = [line.split()[1:3] for line in log.lines("wsserver.http")]
        assert [line for line in lines if line[0] != "/ready"] == [[f"/api/{method}", "200"] for method in CALLS]
        wait_until(lambda: server.count_sockets() == 0, "no connection left")

    @pytest.mark.parametrize("path", ["/", "/main.js", "/ready", "/server.json", "/nothing"])
    def test_answers_pages_with_200_and_an_unknown_path_with_404(self, start_server, path):
        server = start_server()
        with server.connect() as peer:
            peer.send(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % path.encode())
            end(peer)
            assert peer.read_response().status == (404 if path == "/nothing" else 200)
            assert peer.read_to_end() == b""

    def test_answers_all_of_301_pipelined_requests(self, start_server):
        """The server needs several reactor turns for so many requests."""
        server = up(start_server(**OPTIONS))
        with server.connect() as peer:
            peer.send(b"GET /ready HTTP/1.1\r\nHost: a\r\n\r\n" * 300 + post("publish", CALLS["publish"]))
            end(peer)
            assert [peer.read_response().status for _ in range(301)] == [200] * 301
            assert peer.read_to_end() == b""
        wait_until(lambda: server.count_sockets() == 0, "no connection left")

    def test_sends_every_response_to_a_client_that_reads_late(self, start_server):
        """Responses that wait for the client to read are not discarded."""
        server = start_server()
        server.shrink_send_buffers()
        with server.connect(receive_buffer=4096) as peer:
            peer.send(b"GET /main.js HTTP/1.1\r\nHost: a\r\n\r\n" * 100)
            end(peer)
            frontend = server.ask(lambda: next(iter(server.service.frontend.sockets)))
            wait_until(lambda: frontend._write_blocked, "the server waiting for the client to read")
            assert [peer.read_response().status for _ in range(100)] == [200] * 100
            assert peer.read_to_end() == b""

    def test_closes_without_a_response_if_the_request_is_incomplete(self, start_server):
        server = start_server()
        for start in (b"", b"GET / HT", b"POST /api/info HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n12"):
            with server.connect() as peer:
                peer.send(start)
                end(peer)
                assert peer.read_to_end() == b""
        wait_until(lambda: server.count_sockets() == 0, "no connection left")

    def test_closes_an_idle_keep_alive_connection(self, start_server):
        server = start_server()
        with server.connect() as peer:
            assert peer.request("/ready").status == 200
            end(peer)
            assert peer.read_to_end() == b""
        wait_until(lambda: server.count_sockets() == 0, "no connection left")

    def test_closes_a_refused_connection_after_its_400(self, start_server):
        """A lingering close ends as soon as the client closes its side."""
        server = start_server()
        with server.connect() as peer:
            peer.send(b"nonsense\r\n\r\n")
            end(peer)
            assert b"400 Bad Request" in peer.read_to_end()
        wait_until(lambda: server.count_sockets() == 0, "no connection left")

    def test_sends_missed_events_before_it_ends_the_stream(self, start_server, broker):
        """An event stream has no end of its own, so the server ends it after the missed publications."""
        server = up(start_server(**OPTIONS, **broker))
        with server.connect() as peer:
            peer.send(post("publish", CALLS["publish"]))
            epoch = json.loads(peer.read_response().body)["result"]["epoch"]
        with server.connect() as peer:
            peer.send(b"GET /sse?channel=news&last_event_id=%s:0 HTTP/1.1\r\nHost: a\r\n\r\n" % epoch.encode())
            end(peer)
            received = peer.read_to_end()
        assert received.startswith(b"HTTP/1.1 200 ")
        assert b"data: hello\n" in received
        wait_until(lambda: server.count_sockets() == 0, "no connection left")
        wait_until(lambda: server.ask(server.service.hub.counts) == {}, "no subscriber left")

    def test_ends_an_open_event_stream_at_once(self, start_server):
        """The server cannot distinguish a client that has left from one that has only finished sending."""
        server = start_server(**OPTIONS)
        with server.connect() as peer:
            peer.send(b"GET /sse?channel=news HTTP/1.1\r\nHost: a\r\n\r\n")
            wait_until(lambda: server.ask(server.service.hub.counts), "the subscriber")
            end(peer)
            assert b": listening" in peer.read_to_end()
        wait_until(lambda: server.ask(server.service.hub.counts) == {}, "no subscriber left")

    def test_opens_and_ends_a_stream_whose_hook_answers_after_the_half_close(self, start_server):
        backend = Backend()
        server = start_server(hook_subscribe=backend.url("/subscribe"))
        try:
            with server.connect() as peer:
                backend.answer = lambda path, body: (end(peer), {"result": {}})[1]
                peer.send(b"GET /sse?channel=news HTTP/1.1\r\nHost: a\r\n\r\n")
                received = peer.read_to_end()
            assert received.startswith(b"HTTP/1.1 200 ")
            assert b": listening" in received
            wait_until(lambda: server.count_sockets() == 0, "no connection left")
        finally:
            backend.close()

    def test_ends_a_websocket_connection(self, start_server):
        """A WebSocket connection cannot be half-closed (RFC 6455 section 7.1.1)."""
        server = start_server()
        with server.open() as peer:
            assert peer.echoes()
            end(peer)
            assert peer.read_to_end() == b""
        wait_until(lambda: server.count_connections() == 0, "no connection left")


def test_ends_a_tls_connection_when_the_client_sends_close_notify(start_server, certificate):
    """The server answers close_notify with its own and closes the connection (RFC 5246 section 7.2.1)."""
    key, cert = certificate
    server = start_server(tls_cert=str(cert), tls_key=str(key), channel_allow=("*",))
    with server.connect(tls=ssl.create_default_context(cafile=str(cert))) as peer:
        peer.send(b"GET /sse?channel=news HTTP/1.1\r\nHost: a\r\n\r\n")
        while b": listening" not in peer.buffer:
            assert peer._receive()
        # Python's ssl raises an error for data that was in flight when it sent its close_notify.
        with contextlib.suppress(ssl.SSLError):
            peer.socket.unwrap()
        wait_until(lambda: server.count_sockets() == 0, "no connection left")
        wait_until(lambda: server.ask(server.service.hub.counts) == {}, "no subscriber left")
