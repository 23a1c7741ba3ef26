"""Tests for wsserver/wire/frontend.py: requests for the HTTP side, for an endpoint, and refused ones. All in memory."""

import pytest
from turns import end_turn
from twisted.internet.address import IPv6Address, UNIXAddress
from twisted.web.http import HTTPChannel
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from wsserver.config.settings import Settings
from wsserver.testing import MemoryServer, build_frame
from wsserver.web.static import static_directory
from wsserver.wire.access_log import show_peer
from wsserver.wire.admission import MAX_TURNED_AWAY
from wsserver.wire.limits import BYTES_PER_TURN, MAX_UNSERVED, PIECES_PER_TURN

GET = b"GET /server.json HTTP/1.1\r\nHost: localhost:8080\r\n\r\n"


def responses(client):
    """Split the received responses into (status, body) pairs."""
    found = []
    while head := client.response():
        status = int(head.split()[1])
        length = next(
            (int(line[16:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        found.append((status, bytes(client.transport.written[:length])))
        del client.transport.written[:length]
    return found


class RequestTests:
    """Requests that are passed on to the HTTP side."""

    @pytest.mark.parametrize("size", [0, 1, 5])
    def test_answers_a_request_in_pieces_of_any_size(self, size):
        """Empty lines before the request are ignored (RFC 9112 section 2.2)."""
        client = MemoryServer().connect()
        client.send(b"\r\n\r\n" + GET, size)
        assert [status for status, _ in responses(client)] == [200]

    @pytest.mark.parametrize("path", ["/", "/server.json", "/echo", "/nothing"])
    def test_head_returns_the_length_without_a_body_and_logs_no_query(self, path):
        """The access log has one line, without the token of the query."""
        from twisted.logger import formatEvent, globalLogPublisher

        lines = []
        globalLogPublisher.addObserver(lines.append)
        client = MemoryServer().connect()
        client.send(f"HEAD {path}?token=secret HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        globalLogPublisher.removeObserver(lines.append)
        head = client.response().lower()
        assert int(head.partition(b"content-length: ")[2].split()[0]) > 0
        assert client.transport.written == b""
        assert len(lines) == 1
        assert "secret" not in formatEvent(lines[0])

    def test_does_not_pass_requests_to_the_parser_of_twisted(self, monkeypatch):
        """`wsserver.wire.http11` parses a head once; two parsers could read it differently."""
        lines = []
        monkeypatch.setattr(HTTPChannel, "dataReceived", lambda channel, data: lines.append(data))
        client = MemoryServer().connect()
        client.send(GET + GET.replace(b"GET", b"HEAD"))
        assert [status for status, _ in responses(client)] == [200, 200]
        assert lines == []

    def test_answers_pipelined_requests_in_order(self):
        client = MemoryServer().connect()
        client.send(GET + GET.replace(b"server.json", b"nothing") + GET)
        assert [status for status, _ in responses(client)] == [200, 404, 200]

    def test_connection_close_ends_the_connection_after_the_response(self):
        """The server does not answer a request that follows."""
        client = MemoryServer().connect()
        client.send(GET.replace(b"Host", b"Connection: close\r\nHost") + GET)
        assert [status for status, _ in responses(client)] == [200]
        assert client.transport.lost

    def test_waits_for_the_whole_body_before_it_answers(self):
        """The next request starts where the body ends."""
        client = MemoryServer().connect()
        post = b"POST /server.json HTTP/1.1\r\nHost: localhost:8080\r\nContent-Length: 5\r\n\r\n"
        client.send(post + b"he")
        assert responses(client) == []
        client.send(b"llo" + GET)
        assert [status for status, _ in responses(client)] == [405, 200]

    def test_sends_100_continue_before_a_body_of_known_length(self):
        client = MemoryServer().connect()
        head = b"POST / HTTP/1.1\r\nHost: localhost:8080\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        client.send(head)
        assert client.transport.written == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"hello")
        assert [status for status, _ in responses(client)][-1] == 405

    @pytest.mark.parametrize("size", [0, 1, 7])
    def test_a_chunked_body_reaches_the_resource_decoded(self, size):
        """The data arrives in pieces of any size. The next request starts where the chunked body ends."""
        client = MemoryServer(Settings(api_key="k", channel_allow=("a",), history_size=0)).connect()
        head = (
            b"POST /api/publish HTTP/1.1\r\nHost: a\r\nX-API-Key: k\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n"
        )
        chunks = b'A;x=1\r\n{"channel"\r\n0e\r\n:"a","data":1}\r\n000\r\nX-API-Key: other\r\n\r\n'
        client.send(head + chunks + head.replace(b"k\r", b"x\r") + b"0\r\n\r\n" + GET, size)
        assert [status for status, _ in responses(client)] == [200, 401, 200]

    def test_sends_100_continue_once_and_only_before_a_chunked_body(self):
        """If the body arrives with the head, the client does not wait for 100."""
        head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
        client = MemoryServer().connect()
        client.send(head)
        assert client.transport.written == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"5\r\nhello\r\n0\r\n\r\n")
        assert [status for status, _ in responses(client)] == [100, 405]
        client.send(head + b"0\r\n\r\n")
        assert [status for status, _ in responses(client)] == [405]

    def test_answers_408_if_a_chunked_body_is_incomplete_after_open_timeout(self):
        """Further chunks do not extend the deadline."""
        server = MemoryServer(Settings(open_timeout=10))
        client = server.connect()
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(11):
            client.send(b"1\r\nx\r\n")
            server.clock.advance(0.99)
        assert [status for status, _ in responses(client)] == [408]

    def test_refuses_a_handshake_with_a_chunked_body_with_400(self):
        client = MemoryServer().connect()
        client.send(client.head("/echo").replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n"))
        assert responses(client) == [(400, b"400 Bad Request\nWebSocket handshake with a body; expected no body\n")]

    def test_the_413_for_a_large_chunked_body_has_cross_origin_headers(self):
        """A page of an allowed origin can read the refusal."""
        client = MemoryServer(Settings(api_key="k", api_origin=("https://app.example",))).connect()
        head = b"POST /api/publish HTTP/1.1\r\nHost: a\r\nOrigin: https://app.example\r\n"
        client.send(head + b"Transfer-Encoding: chunked\r\n\r\nFFFFFF\r\n")
        answer = client.response()
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"\r\nAccess-Control-Allow-Origin: https://app.example" in answer

    @pytest.mark.parametrize(("settings", "timeout"), [(Settings(), 75), (Settings(keepalive_timeout=20.0), 20)])
    def test_closes_an_idle_kept_alive_connection_after_the_keepalive_timeout(self, settings, timeout):
        """No timer remains."""
        server = MemoryServer(settings)
        client = server.connect()
        client.send(GET)
        server.clock.advance(timeout - 1)
        assert not client.transport.lost
        server.clock.advance(2)
        assert client.transport.lost
        assert server.service.connections.counters.limits == {"keepalive_timeout": 1}
        server.clock.advance(60)
        assert server.clock.getDelayedCalls() == []


class SlowResource(Resource):
    """A resource whose response the test finishes."""

    isLeaf = True

    def render(self, request):
        self.request = request
        return NOT_DONE_YET


class SlowResponseTests:
    """Requests that arrive before an earlier response is finished."""

    def setup_method(self):
        self.server = MemoryServer()
        self.slow = SlowResource()
        self.server.service.frontend.http = self.channel
        self.client = self.server.connect()

    def channel(self, frontend):
        from wsserver.web.connection import HTTPServer
        from wsserver.web.cors import CrossOrigin
        from wsserver.web.site import PageSite

        clock, cross_origin = self.server.clock, CrossOrigin(lambda: frontend._factory.policy, ())
        access_log = frontend._factory.access_log
        pages = PageSite(self.slow, clock, cross_origin, access_log)
        rest = {"access_log": access_log, "reactor": clock, "keepalive_timeout": lambda: 75.0, "limits": {}}
        return HTTPServer(None, {}, pages, cross_origin, **rest).connection(frontend)

    def finish(self):
        self.slow.request.write(b"done")
        self.slow.request.finish()

    def test_answers_a_handshake_after_the_pending_response(self):
        """Frames that follow the handshake are answered, too."""
        self.client.send(GET + self.client.head("/echo") + build_frame(1, b"hello"))
        assert self.client.transport.written == b""
        self.finish()
        assert self.client.response().startswith(b"HTTP/1.1 200 ")
        assert self.client.response().endswith(b"done\r\n0")
        assert self.client.response().startswith(b"HTTP/1.1 101 ")
        assert self.client.messages() == ["hello"]

    def test_pauses_reading_while_over_64_kib_are_unanswered(self):
        """The memory for pipelined requests is bounded by MAX_UNSERVED."""
        request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        self.client.send(GET)
        self.client.send(request * 4000)
        answered = 0
        while self.client.transport.paused:
            self.finish()
            self.server.clock.advance(0)
            answered += 1
        assert (4000 - answered) * len(request) == pytest.approx(MAX_UNSERVED, abs=len(request))

    def test_a_lost_connection_notifies_the_resource_and_is_unregistered(self):
        self.client.send(GET)
        failures = []
        self.slow.request.notifyFinish().addErrback(failures.append)
        self.client.transport.lose()
        assert len(failures) == 1
        assert not self.server.service.frontend.sockets


class BudgetTests:
    """The work of one reactor turn is limited, regardless of how much the clients request."""

    def turns(self, server, client):
        """Return the number of responses of each reactor turn."""
        counts = [len(responses(client))]
        while end_turn(server.clock):
            counts.append(len(responses(client)))
        return counts

    @pytest.mark.parametrize(
        "request_",
        [
            b"GET /ready HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET /server.json HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n",
            b"POST /api/info HTTP/1.1\r\nHost: a\r\nX-API-Key: wrong\r\n\r\n",
            b"POST /api/info HTTP/1.1\r\nHost: a\r\nX-API-Key: right\r\n\r\n",
        ],
        ids=["ready", "document", "not found", "wrong key", "right key"],
    )
    def test_serves_at_most_a_budget_of_pipelined_requests_per_turn(self, request_):
        """The remaining requests are answered in later turns."""
        server = MemoryServer(Settings(api_key="right"))
        client = server.connect()
        client.send(request_ * 500)
        counts = self.turns(server, client)
        assert max(counts) == PIECES_PER_TURN
        assert sum(counts) == 500

    def test_starts_no_response_after_the_byte_budget_of_a_turn(self):
        """Large files use up the byte budget of a turn before its budget of responses."""
        server = MemoryServer()
        size = (static_directory() / "main.js").stat().st_size
        client = server.connect()
        client.send(b"GET /main.js HTTP/1.1\r\nHost: a\r\n\r\n" * 200)
        counts = self.turns(server, client)
        assert max(counts) <= min(PIECES_PER_TURN, BYTES_PER_TURN // size + 1)
        assert sum(counts) == 200

    def test_twenty_connections_share_one_budget_and_a_new_one_is_first(self):
        """Twenty connections that flood the server together get no more work per turn than one connection alone."""
        server = MemoryServer()
        attackers = [server.connect() for _ in range(20)]
        for attacker in attackers:
            attacker.send(GET * 50)
        assert sum(len(responses(attacker)) for attacker in attackers) == PIECES_PER_TURN
        new = server.connect()
        new.send(GET)
        end_turn(server.clock)
        assert len(responses(new)) == 1
        assert sum(len(responses(attacker)) for attacker in attackers) == PIECES_PER_TURN - 1

    def test_refused_handshakes_count_towards_the_budget(self):
        """Each handshake is on a connection of its own."""
        server = MemoryServer()
        clients = [server.connect() for _ in range(PIECES_PER_TURN + 10)]
        for client in clients:
            client.send(client.head("/echo", {"Sec-WebSocket-Version": "7"}))
        assert sum(bool(client.transport.written) for client in clients) == PIECES_PER_TURN
        server.clock.advance(0)
        assert all(client.transport.written for client in clients)

    def test_pauses_reading_a_connection_that_waits_for_its_turn(self):
        """Further pipelined requests stay in the kernel. The server buffers at most one read beyond the limit."""
        server = MemoryServer()
        client = server.connect()
        client.send(b"GET /ready HTTP/1.1\r\nHost: a\r\n\r\n" * 3000)
        assert client.transport.paused
        server.clock.advance(0)
        assert not client.transport.paused
        assert client.transport.written.count(b"HTTP/1.1 200 OK") == 3000

    def test_serves_no_further_request_while_the_client_does_not_read(self):
        """The server waits for the client even if the budget of the turn would allow another request."""
        server = MemoryServer()
        client = server.connect()
        client.transport.reading = False
        client.send(b"GET /main.js HTTP/1.1\r\nHost: a\r\n\r\n" * 200)
        server.clock.advance(0)
        size = (static_directory() / "main.js").stat().st_size
        assert len(client.transport.unread) < 64 * 1024 + 2 * size

    def test_drops_waiting_requests_if_the_connection_is_lost(self):
        server = MemoryServer()
        client = server.connect()
        client.send(GET * 500)
        client.transport.lose()
        client.transport.written.clear()
        server.clock.advance(0)
        assert not client.transport.written
        assert not server.service.frontend.sockets


class HandshakeTests:
    """Handshakes that are passed on to an endpoint."""

    def test_accepts_a_handshake_on_a_kept_alive_connection(self):
        """A handshake may follow HTTP requests."""
        client = MemoryServer().connect()
        client.send(GET + GET)
        assert len(responses(client)) == 2
        assert client.open("/echo").startswith(b"HTTP/1.1 101 ")
        client.send_text("hello")
        assert client.messages() == ["hello"]

    def test_the_http_idle_timeout_ends_with_the_handshake(self):
        """A WebSocket connection may be idle for ten minutes."""
        server = MemoryServer(Settings(ping_interval=0))
        client = server.connect()
        client.send(GET)
        responses(client)
        client.open("/echo")
        server.clock.advance(600)
        client.send_text("still here")
        assert client.messages() == ["still here"]

    def test_reads_frames_in_the_segment_of_the_handshake(self):
        client = MemoryServer().connect()
        client.send(client.head("/echo") + build_frame(1, b"early"))
        client.response()
        assert client.messages() == ["early"]

    @pytest.mark.parametrize("path", ["/echo", "/ws?channel=a", "/connection/websocket"])
    def test_closes_a_websocket_whose_client_was_half_closed_before_the_server_reached_its_handshake(self, path):
        """On a busy server, and without pings, the connection would stay open forever."""
        server = MemoryServer(Settings(ping_interval=0, channel_allow=("a",)))
        server.connect().send(GET * (PIECES_PER_TURN + 1))
        client = server.connect()
        client.send(client.head(path) + build_frame(1, b"early"))
        assert not client.transport.written
        client.transport.protocol.readConnectionLost()
        server.clock.advance(0)
        assert client.response().startswith(b"HTTP/1.1 101 ")
        if path == "/echo":
            assert client.messages() == ["early"]
        assert client.transport.lost

    @pytest.mark.parametrize("path", ["/", "/ws", "/chat", "/websocket/server.php", "/echo/x"])
    def test_answers_commands_at_any_path_with_the_catch_all(self, path):
        """The catch-all endpoint serves every path that has no endpoint of its own."""
        client = MemoryServer(Settings(catch_all="on")).connect()
        client.open(path)
        client.send_text("thanks")
        assert client.messages() == ["you're welcome"]

    @pytest.mark.parametrize("path", ["/echo", "/echo/", "/ech%6f", "/echo?x=1"])
    def test_echo_is_found_in_every_spelling_and_answers_no_command(self, path):
        client = MemoryServer(Settings(catch_all="off")).connect()
        client.open(path)
        client.send_text("thanks")
        assert client.messages() == ["thanks"]

    def test_refuses_an_unknown_path_with_404_without_the_catch_all(self):
        client = MemoryServer(Settings(catch_all="off")).connect()
        assert client.open("/chat").startswith(b"HTTP/1.1 404 ")
        assert client.transport.written == b"404 Not Found\nno WebSocket endpoint at '/chat'; see --catch-all\n"


class RefusalTests:
    """Refused requests, and how their connections end."""

    @pytest.mark.parametrize(
        ("status", "data"),
        [
            (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
            (400, b"\x00\x01\x02\x03"),
            (400, b"GET / HTTP/1.1\nHost: a\n\n"),
            (400, b"hello world\r\n\r\n"),
            (400, b"x" * 40),
            (400, GET.replace(b"Host: localhost:8080\r\n", b"")),
            (501, GET.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: gzip, chunked\r\n\r\n")),
            (400, GET.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n")),
            (413, GET.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n10001\r\n")),
            (413, GET.replace(b"\r\n\r\n", b"\r\nContent-Length: 70000\r\n\r\n")),
            (431, b"GET / HTTP/1.1\r\nX: " + b"y" * 17000),
            (431, b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 128 + b"\r\n"),
            (505, b"GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
        ],
    )
    def test_refuses_an_invalid_request_and_reads_no_further(self, status, data):
        """The response has a status and a reason; a lingering close follows."""
        server = MemoryServer()
        client = server.connect()
        client.send(data)
        client.send(GET)
        ((got, body),) = responses(client)
        assert got == status
        assert len(body.splitlines()) == 2
        assert client.transport.write_closed
        server.clock.advance(2)
        assert client.transport.lost
        server.clock.advance(60)
        assert server.clock.getDelayedCalls() == []

    @pytest.mark.parametrize(
        "path", ["/", "/ws?channel=a", "/echo", "/nothing", "/sse", "/server.json", "/api/publish"]
    )
    @pytest.mark.parametrize(
        ("replaced", "status"),
        [
            # As nginx sends it without being configured: HTTP/1.0, `Connection: close`, no Upgrade.
            ([(b"HTTP/1.1", b"HTTP/1.0"), (b"Upgrade: websocket\r\n", b""), (b"n: Upgrade", b"n: close")], 426),
            ([(b"Upgrade: websocket\r\n", b"")], 426),
            ([(b"Upgrade: websocket\r\n", b""), (b"Connection: Upgrade\r\n", b"")], 426),
            ([(b"Connection: Upgrade\r\n", b"")], 400),
            ([(b"n: Upgrade", b"n: close")], 400),
            ([(b"n: Upgrade", b"n: keep-alive")], 400),
            ([(b"HTTP/1.1", b"HTTP/1.0")], 400),
        ],
    )
    def test_explains_the_nginx_options_for_a_handshake_stripped_by_a_proxy(self, path, replaced, status):
        """The response names the options that nginx needs, at every path."""
        client = MemoryServer().connect()
        data = client.head(path)
        for old, new in replaced:
            assert old in data
            data = data.replace(old, new)
        client.send(data)
        ((got, body),) = responses(client)
        assert got == status
        for words in (
            b"proxy",
            b"proxy_http_version 1.1",
            b"proxy_set_header Upgrade $http_upgrade",
            b'Connection "upgrade"',
        ):
            assert words in body

    def test_answers_a_plain_get_of_an_endpoint_with_426_without_proxy_advice(self):
        """A browser that opens the endpoint's path sends no handshake."""
        client = MemoryServer().connect()
        client.send(GET.replace(b"/server.json", b"/echo"))
        ((status, body),) = responses(client)
        assert status == 426
        assert b"proxy" not in body

    def test_names_tls_cert_if_a_plain_port_receives_a_tls_hello(self):
        client = MemoryServer().connect()
        client.send(b"\x16\x03\x01\x02\x00")
        assert client.transport.written.endswith(
            b"\nTLS hello on a plain HTTP port; use http:// or ws://, or start the server with --tls-cert\n"
        )

    @pytest.mark.parametrize(
        "sent", [b"", b"GET / HTTP/1.1\r\nHo", GET.replace(b"\r\n\r\n", b"\r\nContent-Length: 9\r\n\r\nx")]
    )
    def test_answers_408_if_a_request_is_incomplete_after_open_timeout(self, sent):
        server = MemoryServer(Settings(open_timeout=10))
        client = server.connect()
        client.send(sent)
        server.clock.advance(9.9)
        assert client.transport.written == b""
        server.clock.advance(0.2)
        ((status, body),) = responses(client)
        assert status == 408
        assert b"within 10s" in body
        assert server.service.connections.counters.limits == {"open_timeout": 1}

    def test_answers_408_to_an_incomplete_second_request(self):
        """The deadline of a later request starts with its first byte."""
        server = MemoryServer(Settings(open_timeout=10))
        client = server.connect()
        client.send(GET)
        responses(client)
        server.clock.advance(30)
        client.send(b"GET /")
        server.clock.advance(10.1)
        assert [status for status, _ in responses(client)] == [408]

    @pytest.mark.parametrize(
        ("request_", "status", "limit"),
        [
            (b"GET /" + b"a" * 2000, 431, "max_request_head"),
            (b"POST /api/info HTTP/1.1\r\nHost: a\r\nContent-Length: 1025\r\n\r\n", 413, "max_request_body"),
            (
                b"POST /api/info HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n401\r\n",
                413,
                "max_request_body",
            ),
        ],
    )
    def test_refuses_a_request_over_a_configured_size_names_the_option_and_counts_it(self, request_, status, limit):
        server = MemoryServer(Settings(max_request_head="1KiB", max_request_body="1KiB"))
        client = server.connect()
        client.send(request_)
        ((found, body),) = responses(client)
        assert found == status
        assert f"(server option --{limit.replace('_', '-')})".encode() in body
        assert dict(server.service.frontend.counters.limits) == {limit: 1}

    def test_accepts_a_request_of_a_configured_size_over_the_default(self):
        server = MemoryServer(Settings(max_request_head="32KiB", max_request_body="128KiB", api_key="k" * 16))
        client = server.connect()
        body = b'{"channel":"a","data":"%b"}' % (b"x" * 100_000)
        head = b"POST /api/publish HTTP/1.1\r\nHost: a\r\nX-API-Key: %b\r\nX-Long: %b\r\nContent-Length: %d\r\n\r\n"
        client.send(head % (b"k" * 16, b"y" * 20_000, len(body)) + body)
        assert [status for status, _ in responses(client)] == [200]
        websocket = server.connect()
        assert websocket.open("/ws", {"X-Long": "y" * 20_000}).startswith(b"HTTP/1.1 101 ")
        websocket.send_text("whoami")
        assert "y" * 20_000 in websocket.messages()[0]

    def test_answers_503_over_the_connection_limit_until_one_is_closed(self):
        """The response has a Retry-After header."""
        server = MemoryServer(Settings(max_connections=2))
        first, second, third = server.connect(), server.connect(), server.connect()
        head = third.open("/echo")
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: 5" in head
        first.open("/echo")
        first.send_close(1000)
        third.transport.lose()
        assert server.connect().open("/echo").startswith(b"HTTP/1.1 101 ")
        assert second.open("/echo").startswith(b"HTTP/1.1 101 ")

    @pytest.mark.parametrize("accept", [b"text/event-stream", b"application/json, Text/Event-Stream;q=0.9"])
    def test_answers_an_event_source_over_the_connection_limit_with_200_and_retry(self, accept):
        """EventSource would never reconnect after any other status (HTML Standard section 9.2.3)."""
        server = MemoryServer(Settings(max_connections=1))
        server.connect()
        client = server.connect()
        client.send(b"GET /sse?channel=a HTTP/1.1\r\nHost: localhost\r\nAccept: %s\r\n\r\n" % accept)
        head = client.response()
        assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n")
        comment, retry, _, _ = bytes(client.transport.written).split(b"\n")
        assert 1000 <= int(retry.removeprefix(b"retry: ")) <= 3000
        assert comment == b": 503 the server has too many connections; see --max-connections"
        assert client.transport.write_closed

    @pytest.mark.parametrize(
        "request_head", [b"POST /sse HTTP/1.1\r\nAccept: text/event-stream", b"GET /sse HTTP/1.1\r\nAccept: */*"]
    )
    def test_answers_503_over_the_connection_limit_to_other_requests(self, request_head):
        """Only a GET that accepts text/event-stream comes from an EventSource."""
        server = MemoryServer(Settings(max_connections=1))
        server.connect()
        client = server.connect()
        client.send(request_head + b"\r\nHost: localhost\r\n\r\n")
        assert client.response().startswith(b"HTTP/1.1 503 ")

    def test_answers_503_over_the_connection_limit_to_an_incomplete_request(self):
        """The server waits two seconds for the request, and two more for the client to close."""
        server = MemoryServer(Settings(max_connections=1))
        server.connect()
        client = server.connect()
        client.send(b"GET /sse")
        server.clock.advance(1.9)
        assert client.transport.written == b""
        server.clock.advance(0.2)
        assert client.response().startswith(b"HTTP/1.1 503 ")
        server.clock.advance(2)
        assert client.transport.lost

    def test_drops_connections_over_the_limit_beyond_a_bounded_number(self):
        """Connections that wait for their refusal use memory, too, so their number must be limited."""
        server = MemoryServer(Settings(max_connections=1))
        clients = [server.connect() for _ in range(1 + MAX_TURNED_AWAY + 1)]
        assert [client.transport.lost for client in clients] == [False] * (1 + MAX_TURNED_AWAY) + [True]

    def test_answers_an_event_source_with_200_and_retry_during_shutdown(self):
        """A page that connects during a restart reconnects."""
        server = MemoryServer()
        client = server.connect()
        server.service.frontend.stopping = True
        client.send(b"GET /sse?channel=a HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
        assert client.response().startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream")
        assert client.transport.written.startswith(b": 503 the server is stopping\nretry: ")

    def test_drops_the_bytes_that_follow_a_refused_request(self):
        """A refused client may send until the connection ends; the server buffers nothing."""
        server = MemoryServer()
        client = server.connect()
        client.send(b"nonsense\r\n\r\n")
        client.send(b"x" * 1_000_000)
        (frontend,) = server.service.frontend.sockets
        assert len(frontend._reader) == 0


SECRETS = {
    "Cookie": "session=s3cr3t",
    "Authorization": "Basic s3cr3t",
    "Proxy-Authorization": "Bearer s3cr3t",
    "X-API-Key": "s3cr3t",
    "Set-Cookie": "id=s3cr3t",
    "Sec-WebSocket-Protocol": "wsserver.v1, bearer.s3cr3t",
    "X-Forwarded-For": "s3cr3t",
    "X-Forwarded-Access-Token": "s3cr3t",
    "Referer": "https://example.com/?key=s3cr3t",
    "X-Custom": "s3cr3t",
}


class SecretTests:
    """The value of a header appears neither in the response nor in the log (CWE-532)."""

    @pytest.fixture
    def log(self):
        """Return a function that returns the log, in both formats."""
        from twisted.logger import globalLogPublisher

        from wsserver.logging import format_json, format_text

        events = []
        globalLogPublisher.addObserver(events.append)
        yield lambda: "".join(f"{format_text(event)}{format_json(event)}" for event in events)
        globalLogPublisher.removeObserver(events.append)

    def check(self, client, log, data):
        client.send(data)
        answer = bytes(client.transport.written)
        assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5")), answer
        assert b"s3cr3t" not in answer
        assert log()
        assert "s3cr3t" not in log()

    @pytest.mark.parametrize("bad", ["\0", "\x01", "\x0b", "\r", "\n", "\x1c", "\x7f", "\r\n ", "\r\n:"], ids=ascii)
    @pytest.mark.parametrize(("name", "value"), SECRETS.items(), ids=SECRETS)
    def test_the_refusal_of_a_header_does_not_contain_its_value(self, name, value, bad, log):
        """The invalid byte is at each place of the value, in a request for a page and in a handshake."""
        for field in (f"{name}: {value}{bad}", f"{name}: {bad}{value}", f"{name}{bad}: {value}"):
            for upgrade in ("", "Upgrade: websocket\r\n"):
                head = f"GET / HTTP/1.1\r\nHost: a\r\n{upgrade}{field}\r\n\r\n"
                self.check(MemoryServer().connect(), log, head.encode("latin-1"))

    @pytest.mark.parametrize(
        "line",
        [
            "Sec-WebSocket-Version: 8",
            "Sec-WebSocket-Key: short",
            "Connection: close",
            "Origin: https://evil.example",
            "Origin: \x85",
            "Sec-WebSocket-Protocol: a, a",
            "Sec-WebSocket-Protocol: wsserver.v1, bearer.s3cr3t, bearer.s3cr3t",
            "Sec-WebSocket-Protocol: (s3cr3t)",
            "Sec-WebSocket-Extensions: ;",
            "Content-Length: 5",
            "Content-Length: x",
            "Transfer-Encoding: gzip",
            "Host: b",
        ],
    )
    @pytest.mark.parametrize("target", ["/ws?channel=a&key=s3cr3t", "/echo?s3cr3t=%ff", "http://me:s3cr3t@a/"])
    def test_the_refusal_of_a_handshake_contains_no_secret_header_or_query(self, line, target, log):
        """The test causes each kind of refusal."""
        name = line.partition(":")[0]
        fields = SECRETS | {
            "Host": "a",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        }
        lines = [f"{key}: {value}" for key, value in fields.items() if key != name or name == "Host"]
        head = "\r\n".join([f"GET {target} HTTP/1.1", *lines, line, "", ""])
        self.check(MemoryServer().connect(), log, head.encode("latin-1"))

    @pytest.mark.parametrize("target", ["/nothing?key=s3cr3t", "/echo?key=s3cr3t", "/api/publish?key=s3cr3t", "/sse"])
    def test_errors_of_the_http_side_contain_no_header_and_no_query(self, target, log):
        """The errors have the statuses 404, 426, 401 and 400."""
        head = "\r\n".join(
            [f"GET {target} HTTP/1.1", "Host: a", *map(": ".join, SECRETS.items()), "Last-Event-ID: s3cr3t", "", ""]
        )
        self.check(MemoryServer(Settings(api_key="k")).connect(), log, head.encode("latin-1"))


class PeerTests:
    """Peer addresses in the log."""

    def test_shows_ipv6_in_brackets_and_a_unix_socket_as_unix(self):
        assert show_peer(IPv6Address("TCP", "::1", 5)) == "[::1]:5"
        assert show_peer(UNIXAddress(None)) == "unix"
