"""The frontend: what reaches an endpoint, what reaches the HTTP side, and what is refused. All in memory."""

import pytest
from turns import end_turn
from twisted.internet.address import IPv6Address, UNIXAddress
from twisted.web.http import HTTPChannel
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from wsserver.config.settings import Settings
from wsserver.testing import MemoryServer, build_frame
from wsserver.wire.frontend import MAX_TURNED_AWAY
from wsserver.wire.limits import BYTES_PER_TURN, MAX_UNSERVED, PIECES_PER_TURN
from wsserver.wire.protocol import show_peer

GET = b"GET /server.json HTTP/1.1\r\nHost: localhost:8080\r\n\r\n"


def responses(client):
    """Split what was received into (status, body) pairs."""
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
    """What goes on to the HTTP side."""

    @pytest.mark.parametrize("size", [0, 1, 5])
    def test_any_cut(self, size):
        """A request is answered however the network cuts it; empty lines before it do not matter."""
        client = MemoryServer().connect()
        client.send(b"\r\n\r\n" + GET, size)
        assert [status for status, _ in responses(client)] == [200]

    @pytest.mark.parametrize("path", ["/", "/server.json", "/echo", "/nothing"])
    def test_head(self, path):
        """HEAD tells the length of what GET would send, and logs no query."""
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

    def test_the_parser_of_twisted_never_sees_a_request(self, monkeypatch):
        """A head is parsed once, by `wsserver.wire.http11`; two parsers could disagree about it."""
        lines = []
        monkeypatch.setattr(HTTPChannel, "dataReceived", lambda channel, data: lines.append(data))
        client = MemoryServer().connect()
        client.send(GET + GET.replace(b"GET", b"HEAD"))
        assert [status for status, _ in responses(client)] == [200, 200]
        assert lines == []

    def test_pipelined(self):
        """Requests sent at once are answered in order."""
        client = MemoryServer().connect()
        client.send(GET + GET.replace(b"server.json", b"nothing") + GET)
        assert [status for status, _ in responses(client)] == [200, 404, 200]

    def test_close_asked_for(self):
        """Connection: close ends the connection; what follows is not answered."""
        client = MemoryServer().connect()
        client.send(GET.replace(b"Host", b"Connection: close\r\nHost") + GET)
        assert [status for status, _ in responses(client)] == [200]
        assert client.transport.lost

    def test_body(self):
        """A request with a body is read to its end, and the next one after it."""
        client = MemoryServer().connect()
        post = b"POST /server.json HTTP/1.1\r\nHost: localhost:8080\r\nContent-Length: 5\r\n\r\n"
        client.send(post + b"he")
        assert responses(client) == []
        client.send(b"llo" + GET)
        assert [status for status, _ in responses(client)] == [405, 200]

    def test_expect_continue(self):
        """A client that waits for permission to send its body gets it."""
        client = MemoryServer().connect()
        head = b"POST / HTTP/1.1\r\nHost: localhost:8080\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        client.send(head)
        assert client.transport.written == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"hello")
        assert [status for status, _ in responses(client)][-1] == 405

    @pytest.mark.parametrize("size", [0, 1, 7])
    def test_a_chunked_body_reaches_the_resource_decoded(self, size):
        """However the network cuts it, and the next request follows behind its end."""
        client = MemoryServer(Settings(api_key="k", channel_allow=("a",), history_size=0)).connect()
        head = (
            b"POST /api/publish HTTP/1.1\r\nHost: a\r\nX-API-Key: k\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n"
        )
        chunks = b'A;x=1\r\n{"channel"\r\n0e\r\n:"a","data":1}\r\n000\r\nX-API-Key: other\r\n\r\n'
        client.send(head + chunks + head.replace(b"k\r", b"x\r") + b"0\r\n\r\n" + GET, size)
        assert [status for status, _ in responses(client)] == [200, 401, 200]

    def test_expect_continue_with_a_chunked_body(self):
        """Permission is given once, and not when the body has come already."""
        head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
        client = MemoryServer().connect()
        client.send(head)
        assert client.transport.written == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"5\r\nhello\r\n0\r\n\r\n")
        assert [status for status, _ in responses(client)] == [100, 405]
        client.send(head + b"0\r\n\r\n")
        assert [status for status, _ in responses(client)] == [405]

    def test_a_chunked_body_has_the_deadline_of_every_request(self):
        """408 if it is not complete in time, however it drips."""
        server = MemoryServer(Settings(open_timeout=10))
        client = server.connect()
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(11):
            client.send(b"1\r\nx\r\n")
            server.clock.advance(0.99)
        assert [status for status, _ in responses(client)] == [408]

    def test_a_chunked_handshake_is_refused(self):
        """A WebSocket handshake has no body."""
        client = MemoryServer().connect()
        client.send(client.head("/echo").replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n"))
        assert responses(client) == [(400, b"400 Bad Request\nWebSocket handshake with a body; expected no body\n")]

    def test_a_page_of_an_allowed_origin_can_read_that_its_chunked_body_is_too_large(self):
        """The refusal carries the cross-origin headers."""
        client = MemoryServer(Settings(api_key="k", api_origin=("https://app.example",))).connect()
        head = b"POST /api/publish HTTP/1.1\r\nHost: a\r\nOrigin: https://app.example\r\n"
        client.send(head + b"Transfer-Encoding: chunked\r\n\r\nFFFFFF\r\n")
        answer = client.response()
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"\r\nAccess-Control-Allow-Origin: https://app.example" in answer

    def test_idle(self):
        """A kept-alive connection without a request is closed after a minute."""
        server = MemoryServer()
        client = server.connect()
        client.send(GET)
        server.clock.advance(59)
        assert not client.transport.lost
        server.clock.advance(2)
        assert client.transport.lost
        server.clock.advance(60)
        assert server.clock.getDelayedCalls() == []


class SlowConsumerPolicy(Resource):
    """Answers when told to."""

    isLeaf = True

    def render(self, request):
        self.request = request
        return NOT_DONE_YET


class SlowResponseTests:
    """While a response is being made."""

    def setup_method(self):
        self.server = MemoryServer()
        self.slow = SlowConsumerPolicy()
        self.server.service.frontend.http = self.channel
        self.client = self.server.connect()

    def channel(self, address, frontend):
        from wsserver.web.cors import CrossOrigin
        from wsserver.web.site import PageSite

        cross_origin = CrossOrigin(lambda: frontend._factory.policy, ())
        return PageSite(self.slow, self.server.clock, cross_origin).channel(address, frontend)

    def finish(self):
        self.slow.request.write(b"done")
        self.slow.request.finish()

    def test_handshake_after_it(self):
        """A handshake sent meanwhile is answered after it."""
        self.client.send(GET + self.client.head("/echo") + build_frame(1, b"hello"))
        assert self.client.transport.written == b""
        self.finish()
        assert self.client.response().startswith(b"HTTP/1.1 200 ")
        assert self.client.response().endswith(b"done\r\n0")
        assert self.client.response().startswith(b"HTTP/1.1 101 ")
        assert self.client.messages() == ["hello"]

    def test_flood_meanwhile(self):
        """What is sent meanwhile is bounded: the connection is not read until little enough of it is unanswered."""
        request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        self.client.send(GET)
        self.client.send(request * 4000)
        answered = 0
        while self.client.transport.paused:
            self.finish()
            self.server.clock.advance(0)
            answered += 1
        assert (4000 - answered) * len(request) == pytest.approx(MAX_UNSERVED, abs=len(request))

    def test_gone_meanwhile(self):
        """A client that leaves is forgotten, and the resource is told."""
        self.client.send(GET)
        told = []
        self.slow.request.notifyFinish().addErrback(told.append)
        self.client.transport.lose()
        assert len(told) == 1
        assert not self.server.service.frontend.sockets


class BudgetTests:
    """What one turn of the reactor does for clients that ask for much at once."""

    def turns(self, server, client):
        """Tell how many responses each turn of the reactor brings."""
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
    def test_pipelined_requests_are_served_some_in_each_turn(self, request_):
        """However many requests one read brings, a turn answers a bounded number, and all are answered in the end."""
        server = MemoryServer(Settings(api_key="right"))
        client = server.connect()
        client.send(request_ * 500)
        counts = self.turns(server, client)
        assert max(counts) == PIECES_PER_TURN
        assert sum(counts) == 500

    def test_large_files_end_a_turn_by_their_bytes(self):
        """A turn that has produced its bytes begins no other response."""
        server = MemoryServer()
        size = len(server.service._root({})._fetched[b"main.js"]._data)
        client = server.connect()
        client.send(b"GET /main.js HTTP/1.1\r\nHost: a\r\n\r\n" * 200)
        counts = self.turns(server, client)
        assert max(counts) <= min(PIECES_PER_TURN, BYTES_PER_TURN // size + 1)
        assert sum(counts) == 200

    def test_many_connections_share_one_budget(self):
        """Connections that flood together get no longer turn than one alone, and a new one is served before them."""
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

    def test_refused_handshakes_count(self):
        """Handshakes that are refused, each on a new connection, are served some in each turn too."""
        server = MemoryServer()
        clients = [server.connect() for _ in range(PIECES_PER_TURN + 10)]
        for client in clients:
            client.send(client.head("/echo", {"Sec-WebSocket-Version": "7"}))
        assert sum(bool(client.transport.written) for client in clients) == PIECES_PER_TURN
        server.clock.advance(0)
        assert all(client.transport.written for client in clients)

    def test_a_connection_that_waits_for_its_turn_is_not_read(self):
        """What a client pipelines while its requests wait stays in the kernel, up to a read beyond the limit."""
        server = MemoryServer()
        client = server.connect()
        client.send(b"GET /ready HTTP/1.1\r\nHost: a\r\n\r\n" * 3000)
        assert client.transport.paused
        server.clock.advance(0)
        assert not client.transport.paused
        assert client.transport.written.count(b"HTTP/1.1 200 OK") == 3000

    def test_an_unread_response_stops_the_requests_behind_it(self):
        """Nothing more is done for a client that does not read, whatever the budget would allow."""
        server = MemoryServer()
        client = server.connect()
        client.transport.reading = False
        client.send(b"GET /main.js HTTP/1.1\r\nHost: a\r\n\r\n" * 200)
        server.clock.advance(0)
        size = len(server.service._root({})._fetched[b"main.js"]._data)
        assert len(client.transport.unread) < 64 * 1024 + 2 * size

    def test_a_closed_connection_is_forgotten(self):
        """Requests that wait when their client goes are not served."""
        server = MemoryServer()
        client = server.connect()
        client.send(GET * 500)
        client.transport.lose()
        client.transport.written.clear()
        server.clock.advance(0)
        assert not client.transport.written
        assert not server.service.frontend.sockets


class HandshakeTests:
    """What goes on to an endpoint."""

    def test_on_a_kept_alive_connection(self):
        """A handshake may follow HTTP requests on the same connection."""
        client = MemoryServer().connect()
        client.send(GET + GET)
        assert len(responses(client)) == 2
        assert client.open("/echo").startswith(b"HTTP/1.1 101 ")
        client.send_text("hello")
        assert client.messages() == ["hello"]

    def test_http_timeout_does_not_outlive_it(self):
        """The HTTP side's idle timeout is over once the connection is a WebSocket."""
        server = MemoryServer(Settings(ping_interval=0))
        client = server.connect()
        client.send(GET)
        responses(client)
        client.open("/echo")
        server.clock.advance(600)
        client.send_text("still here")
        assert client.messages() == ["still here"]

    def test_frames_in_the_same_segment(self):
        """Frames sent with the handshake are not lost."""
        client = MemoryServer().connect()
        client.send(client.head("/echo") + build_frame(1, b"early"))
        client.response()
        assert client.messages() == ["early"]

    @pytest.mark.parametrize("path", ["/", "/ws", "/chat", "/websocket/server.php", "/echo/x"])
    def test_catch_all(self, path):
        """Commands are answered at every path without an endpoint of its own."""
        client = MemoryServer(Settings(catch_all="on")).connect()
        client.open(path)
        client.send_text("thanks")
        assert client.messages() == ["you're welcome"]

    @pytest.mark.parametrize("path", ["/echo", "/echo/", "/ech%6f", "/echo?x=1"])
    def test_echo(self, path):
        """/echo is found in every spelling, and never interprets."""
        client = MemoryServer(Settings(catch_all="off")).connect()
        client.open(path)
        client.send_text("thanks")
        assert client.messages() == ["thanks"]

    def test_without_the_catch_all_an_unknown_path_is_refused_with_404_and_a_sentence(self):
        """So is the path of a tutorial."""
        client = MemoryServer(Settings(catch_all="off")).connect()
        assert client.open("/chat").startswith(b"HTTP/1.1 404 ")
        assert client.transport.written == b"404 Not Found\nno WebSocket endpoint at '/chat'\n"


class RefusalTests:
    """What is refused, and how the connection ends."""

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
    def test_refused_at_once(self, status, data):
        """What is no request is refused with a status and a reason, and nothing after it is read."""
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
    def test_a_handshake_that_a_proxy_has_stripped_is_told_how_to_configure_it(self, path, replaced, status):
        """The client and the operator read what nginx needs, at every path."""
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

    def test_a_plain_get_is_told_nothing_of_a_proxy(self):
        """A browser that opens the path of an endpoint is no handshake."""
        client = MemoryServer().connect()
        client.send(GET.replace(b"/server.json", b"/echo"))
        ((status, body),) = responses(client)
        assert status == 426
        assert b"proxy" not in body

    def test_tls_on_a_plain_port(self):
        """Whoever speaks TLS to a plain port is told."""
        client = MemoryServer().connect()
        client.send(b"\x16\x03\x01\x02\x00")
        assert client.transport.written.endswith(
            b"\nTLS hello on a plain HTTP port; use http:// or ws://, or start the server with --tls-cert\n"
        )

    @pytest.mark.parametrize(
        "sent", [b"", b"GET / HTTP/1.1\r\nHo", GET.replace(b"\r\n\r\n", b"\r\nContent-Length: 9\r\n\r\nx")]
    )
    def test_slow(self, sent):
        """A request that is not whole within the deadline is refused with 408, however it drips."""
        server = MemoryServer(Settings(open_timeout=10))
        client = server.connect()
        client.send(sent)
        server.clock.advance(9.9)
        assert client.transport.written == b""
        server.clock.advance(0.2)
        ((status, body),) = responses(client)
        assert status == 408
        assert b"within 10s" in body

    def test_slow_second_request(self):
        """The deadline holds for each later request, from its first byte."""
        server = MemoryServer(Settings(open_timeout=10))
        client = server.connect()
        client.send(GET)
        responses(client)
        server.clock.advance(30)
        client.send(b"GET /")
        server.clock.advance(10.1)
        assert [status for status, _ in responses(client)] == [408]

    def test_too_many_connections(self):
        """One connection more than the limit is 503 with Retry-After; when one has gone there is room again."""
        server = MemoryServer(Settings(max_connections=2))
        first, second, third = server.connect(), server.connect(), server.connect()
        third.send(GET)
        head = third.response()
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: 5" in head
        first.open("/echo")
        first.send_close(1000)
        third.transport.lose()
        assert server.connect().open("/echo").startswith(b"HTTP/1.1 101 ")
        assert second.open("/echo").startswith(b"HTTP/1.1 101 ")

    @pytest.mark.parametrize("accept", [b"text/event-stream", b"application/json, Text/Event-Stream;q=0.9"])
    def test_tells_an_event_source_over_the_connection_limit_when_to_retry(self, accept):
        """HTML Standard section 9.2.3: any status but 200 would stop it for good."""
        server = MemoryServer(Settings(max_connections=1))
        server.connect()
        client = server.connect()
        client.send(b"GET /sse?channel=a HTTP/1.1\r\nHost: localhost\r\nAccept: %s\r\n\r\n" % accept)
        head = client.response()
        assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n")
        comment, retry, _, _ = bytes(client.transport.written).split(b"\n")
        assert 1000 <= int(retry.removeprefix(b"retry: ")) <= 3000
        assert comment == b": 503 the server has too many connections"
        assert client.transport.write_closed

    @pytest.mark.parametrize(
        "request_head", [b"POST /sse HTTP/1.1\r\nAccept: text/event-stream", b"GET /sse HTTP/1.1\r\nAccept: */*"]
    )
    def test_answers_503_over_the_connection_limit_to_what_is_no_event_source(self, request_head):
        """These clients read the status."""
        server = MemoryServer(Settings(max_connections=1))
        server.connect()
        client = server.connect()
        client.send(request_head + b"\r\nHost: localhost\r\n\r\n")
        assert client.response().startswith(b"HTTP/1.1 503 ")

    def test_answers_503_over_the_connection_limit_where_no_request_comes_in_time(self):
        """Connections over the limit do not stay."""
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
        """They would be a way around the limit."""
        server = MemoryServer(Settings(max_connections=1))
        clients = [server.connect() for _ in range(1 + MAX_TURNED_AWAY + 1)]
        assert [client.transport.lost for client in clients] == [False] * (1 + MAX_TURNED_AWAY) + [True]

    def test_tells_an_event_source_that_the_server_is_stopping_and_when_to_retry(self):
        """A page that connects during a restart comes back."""
        server = MemoryServer()
        client = server.connect()
        server.service.frontend.stop()
        client.send(b"GET /sse?channel=a HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
        assert client.response().startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream")
        assert client.transport.written.startswith(b": 503 the server is stopping\nretry: ")

    def test_bytes_after_a_refusal_are_dropped(self):
        """A refused peer may send on until the connection ends; nothing is kept."""
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
    """What stands in a header is neither in the response nor in the log (CWE-532)."""

    @pytest.fixture
    def log(self):
        """Collect what is logged, as it would be written."""
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
    def test_a_refused_header_is_named_only(self, name, value, bad, log):
        """Wherever the byte stands, for the page and for a handshake."""
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
    def test_no_refusal_of_a_handshake_shows_another_header(self, line, target, log):
        """Whatever is wrong with it."""
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
    def test_no_answer_of_the_site_shows_a_header_or_the_query(self, target, log):
        """404, 426, 401 and 400 of the HTTP side."""
        head = "\r\n".join(
            [f"GET {target} HTTP/1.1", "Host: a", *map(": ".join, SECRETS.items()), "Last-Event-ID: s3cr3t", "", ""]
        )
        self.check(MemoryServer(Settings(api_key="k")).connect(), log, head.encode("latin-1"))


class PeerTests:
    """How a peer is written in the log."""

    def test_addresses(self):
        """Addresses read as people write them."""
        assert show_peer(IPv6Address("TCP", "::1", 5)) == "[::1]:5"
        assert show_peer(UNIXAddress(None)) == "unix"
