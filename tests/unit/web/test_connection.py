"""Tests for wsserver/web/connection.py: calls of the HTTP API, alone and between requests for pages. All in memory."""

import json

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import formatEvent, globalLogPublisher

from wsserver.config.settings import Settings
from wsserver.testing import MemoryServer

SETTINGS = Settings(api_key="k", api_origin=("https://app.example",))
PAGE = b"GET /server.json HTTP/1.1\r\nHost: a\r\n\r\n"


def call(body=None, *lines, path="/api/publish", method="POST", version="1.1", key="k"):
    """Return a request to the API as bytes; without a body, it publishes to the channel `news`."""
    data = json.dumps({"channel": "news", "data": 1} if body is None else body).encode()
    head = [f"{method} {path} HTTP/{version}", "Host: a", f"Content-Length: {len(data)}", *lines]
    if key:
        head.append(f"X-API-Key: {key}")
    return "\r\n".join([*head, "", ""]).encode() + data


def answers(client):
    """Remove the complete responses from the received bytes, and return them as (status, headers, body)."""
    found = []
    while head := client.response():
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        size = int(headers.get("content-length", 0))
        found.append((int(first.split()[1]), headers, bytes(client.transport.written[:size])))
        del client.transport.written[:size]
    return found


def statuses(client):
    return [status for status, _, _ in answers(client)]


@pytest.fixture
def log():
    """Return a list to which each event is appended: its namespace and its text."""
    lines = []

    def observe(event):
        lines.append((event["log_namespace"], formatEvent(event)))

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


@pytest.fixture
def server():
    return MemoryServer(SETTINGS)


@pytest.fixture
def client(server):
    return server.connect()


class PendingMethod:
    """Makes the API's `info` wait: each call gets a Deferred that the test fires."""

    def __init__(self, server, monkeypatch):
        self.calls = []
        monkeypatch.setattr(server.service.management, "info", self._info)

    def _info(self):
        self.calls.append(Deferred())
        return self.calls[-1]


@pytest.fixture
def pending(server, monkeypatch):
    return PendingMethod(server, monkeypatch).calls


INFO = call({}, path="/api/info")


class ResponseTests:
    """The bytes of a response."""

    def test_a_result_has_the_security_headers_a_date_and_no_server_header(self, client):
        client.send(call())
        ((status, headers, body),) = answers(client)
        assert status == 200
        assert json.loads(body)["result"]["offset"] == 1
        assert headers.pop("date").endswith(" GMT")
        assert headers.pop("content-security-policy").startswith("default-src 'none'; script-src 'self'; ")
        assert headers == {
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "cross-origin-opener-policy": "same-origin",
            "vary": "Origin",
            "content-type": "application/json",
            "cache-control": "no-store",
            "content-length": str(len(body)),
        }

    def test_the_headers_are_those_of_a_page_and_more(self, client):
        """Both ways of answering add the same common headers."""
        client.send(PAGE + call())
        (_, page, _), (_, api, _) = answers(client)
        common = ("content-security-policy", "x-content-type-options", "referrer-policy", "cross-origin-opener-policy")
        assert [page[name] for name in (*common, "vary")] == [api[name] for name in (*common, "vary")]
        assert len(page["date"]) == len(api["date"])

    @pytest.mark.parametrize(
        ("request_bytes", "status", "header"),
        [
            (call(method="GET"), 405, ("allow", "POST")),
            (call(method="PUT"), 405, ("allow", "POST")),
            (call(key=""), 401, ("www-authenticate", "Bearer")),
            (call(key="wrong"), 401, ("www-authenticate", "Bearer")),
            (call(path="/api/nothing"), 404, ("content-type", "application/json")),
            (call(path="/api/%ff"), 404, ("content-type", "application/json")),
            (call(path="/%61pi/publish"), 404, ("content-type", "application/json")),
            (call({}), 400, ("content-type", "application/json")),
            (call(None, "Sec-WebSocket-Key: x"), 426, ("upgrade", "websocket")),
        ],
    )
    def test_an_error_has_the_headers_that_its_status_requires(self, client, request_bytes, status, header):
        client.send(request_bytes)
        ((got, headers, _),) = answers(client)
        name, value = header
        assert (got, headers[name]) == (status, value)

    def test_503_of_the_broker_has_retry_after(self, server, client, pending):
        from wsserver.errors import BrokerDown

        client.send(INFO)
        pending[0].errback(BrokerDown("down"))
        ((status, headers, body),) = answers(client)
        assert (status, headers["retry-after"]) == (503, "1")
        assert json.loads(body) == {"error": {"code": 100, "message": "down"}}

    def test_an_error_is_sent_alone_in_error_mode_transport(self, client):
        client.send(call({}, "X-Centrifugo-Error-Mode: transport"))
        ((status, _, body),) = answers(client)
        assert (status, json.loads(body)["code"]) == (400, 107)

    def test_head_gets_the_length_without_the_body(self, client):
        client.send(call(method="HEAD") + call())
        head = client.response()
        assert head.startswith(b"HTTP/1.1 405 ")
        assert b"\r\nContent-Length: 77" in head
        assert statuses(client) == [200]

    @pytest.mark.parametrize("lines", [(), ("Connection: keep-alive",)])
    def test_closes_the_connection_of_an_http_1_0_client(self, client, lines):
        """The response has no Connection header: such a client expects this."""
        client.send(call(None, *lines, version="1.0"))
        head = client.response()
        assert head.startswith(b"HTTP/1.0 200 OK\r\n")
        assert b"Connection" not in head
        assert client.transport.lost

    @pytest.mark.parametrize("value", ["close", "Close", "keep-alive, close"])
    def test_closes_the_connection_if_the_client_asks_for_it(self, client, value):
        """The request that follows is not answered."""
        client.send(call(None, f"Connection: {value}") + call())
        ((status, headers, _),) = answers(client)
        assert (status, headers["connection"]) == (200, "close")
        assert client.transport.lost


class LogTests:
    """The lines of the access log."""

    def test_each_call_is_one_line_without_its_query(self, client, log):
        client.send(call(path="/api/publish?token=secret") + call({}, method="HEAD"))
        sizes = [len(body) for _, _, body in answers(client)]
        reason = "the API accepts POST requests, not 'HEAD'"
        refused = f'connection refused status=405 reason="{reason}" peer=127.0.0.1:50000 path=/api/publish'
        assert log == [
            ("wsserver.http", f"POST /api/publish 200 bytes={sizes[0]} peer=127.0.0.1:50000"),
            ("wsserver.connection", refused),
        ]

    def test_a_call_with_a_wrong_key_is_a_refusal_with_its_reason(self, server, client, log):
        client.send(call({}, key="hush"))
        [(status, _, _)] = answers(client)
        [(namespace, line)] = log
        assert status == 401
        assert namespace == "wsserver.connection"
        assert "status=401" in line
        assert "path=/api/publish" in line
        assert "hush" not in line
        (kept,) = server.service.connections.access_log.rejects.describe()
        assert (kept["status"], kept["path"]) == (401, "/api/publish")

    def test_a_refused_preflight_logs_the_option_that_allows_it(self, client, log):
        client.send(call("", "Origin: https://b.example", "Access-Control-Request-Method: POST", method="OPTIONS"))
        ((status, headers, body),) = answers(client)
        assert (status, headers["content-type"]) == (403, "text/plain; charset=utf-8")
        assert b"--api-origin https://b.example" in body
        assert [namespace for namespace, _ in log] == ["wsserver.connection"]
        assert "path=/api/publish" in log[0][1]


class CrossOriginTests:
    """Calls from pages of other origins."""

    def test_answers_the_preflight_of_an_allowed_origin_without_a_body(self, client):
        client.send(call("", "Origin: https://app.example", "Access-Control-Request-Method: POST", method="OPTIONS"))
        head = client.response()
        assert head.startswith(b"HTTP/1.1 204 No Content\r\n")
        assert b"Access-Control-Allow-Methods: POST\r\n" in head
        assert b"Content-Length" not in head
        del client.transport.written[:]
        client.send(call())
        assert statuses(client) == [200]

    @pytest.mark.parametrize(("origin", "allowed"), [("https://app.example", True), ("https://b.example", False)])
    def test_only_pages_of_allowed_origins_can_read_the_answer(self, client, origin, allowed):
        client.send(call({}, f"Origin: {origin}"))
        ((status, headers, _),) = answers(client)
        assert status == 400
        assert (headers.get("access-control-allow-origin") == origin) is allowed
        assert headers["vary"] == "Origin"


class OrderTests:
    """Several requests on one connection."""

    @pytest.mark.parametrize("size", [0, 1, 7, 100])
    def test_answers_calls_and_pages_in_the_order_of_the_requests(self, client, size):
        client.send(call() + PAGE + call({}) + call() + PAGE.replace(b"server.json", b"nothing") + call(), size)
        assert statuses(client) == [200, 200, 400, 200, 404, 200]

    def test_answers_a_request_after_the_pending_answer_to_an_earlier_one(self, client, pending):
        client.send(INFO + call() + PAGE)
        assert answers(client) == []
        pending[0].callback([])
        assert statuses(client) == [200, 200, 200]

    def test_a_handshake_may_follow_calls(self, client):
        client.send(call() + call() + client.head("/echo"))
        assert statuses(client) == [200, 200, 101]
        client.send_text("hello")
        assert client.messages() == ["hello"]

    def test_drops_the_answer_if_the_client_has_disconnected(self, client, pending, log):
        """Nothing is written and nothing is logged."""
        client.send(INFO)
        client.transport.lose()
        pending[0].callback([])
        assert client.transport.written == b""
        assert log == []

    def test_a_half_closed_client_gets_its_answers(self, client, pending):
        """The connection is then closed."""
        client.send(call() + INFO + PAGE)
        client.transport.protocol.readConnectionLost()
        assert statuses(client) == [200]
        pending[0].callback([])
        assert statuses(client) == [200, 200]
        assert client.transport.lost

    def test_runs_no_further_call_while_the_client_does_not_read(self, server, client):
        client.transport.reading = False
        client.send(call() * 1000)
        server.clock.advance(0)
        assert len(client.transport.unread) < 80 * 1024
        done = 0
        while client.transport.unread:
            client.transport.read_again()
            done += len(answers(client))
            server.clock.advance(0)
        assert done + len(answers(client)) == 1000

    def test_closes_the_connection_after_the_answer_while_the_server_stops(self, server, client):
        """A client that has sent its request in time gets its answer, and knows that it is the last one."""
        client.send(call())
        server.service.frontend.stopping = True
        client.send(call())
        assert bytes(client.transport.written).count(b"Connection: close") == 1
        assert statuses(client) == [200, 200]
        assert client.transport.lost

    def test_answers_503_to_a_handshake_while_the_server_stops(self, server, client):
        client.send(call())
        client.transport.written.clear()
        server.service.frontend.stopping = True
        assert client.open("/echo").startswith(b"HTTP/1.1 503 ")
        assert b"the server is stopping" in client.transport.written


class IdleTests:
    """The idle timeout of kept-alive connections."""

    @pytest.mark.parametrize("requests", [call(), PAGE, call() + PAGE, PAGE + call()])
    def test_closes_the_connection_75_seconds_after_the_last_answer(self, server, client, requests, log):
        """Each answer starts the time again. No timer remains."""
        for _ in range(3):
            client.send(requests)
            server.clock.advance(74)
            assert not client.transport.lost
        log.clear()
        server.clock.advance(2)
        assert client.transport.lost
        assert log == [("wsserver.http", "idle connection closed peer=127.0.0.1:50000")]
        assert server.clock.getDelayedCalls() == []

    def test_does_not_close_the_connection_while_a_call_runs(self, server, client, pending):
        client.send(call() + INFO)
        server.clock.advance(300)
        assert not client.transport.lost
        pending[0].callback([])
        assert statuses(client) == [200, 200]
        server.clock.advance(74)
        assert not client.transport.lost
        server.clock.advance(1)
        assert client.transport.lost

    def test_drops_a_client_that_does_not_read_its_last_answer(self, server, client):
        client.transport.reading = False
        client.send(call())
        server.clock.advance(76)
        assert not client.transport.lost
        server.clock.advance(5)
        assert client.transport.aborted
        assert server.clock.getDelayedCalls() == []
