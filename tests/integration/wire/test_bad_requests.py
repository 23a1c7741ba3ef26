"""Requests that a well-behaved client never sends: what is answered, and that the next client is served."""

import contextlib

import pytest
from peers import CLOSE, KEY, TEXT, TIMEOUT, close_payload, frame, handshake_request, wait_until

from wsserver.wire.protocol import ServerProtocol

HOST = "Host: 127.0.0.1"


def get(target: str = "/", *lines: str, host: str = HOST, method: str = "GET", version: str = "HTTP/1.1") -> bytes:
    """Write a plain request."""
    head = [f"{method} {target} {version}", *([host] if host else []), *lines, "", ""]
    return "\r\n".join(head).encode("latin-1")


CHUNKED = get("/", "Transfer-Encoding: chunked", method="POST")

# Name: what is sent, the status, words of the body.
REFUSED = {
    # Heads that are too big.
    "a head over 16 KiB in one header": (handshake_request("/echo", "X: " + "x" * 17_000), 431, "16384 bytes"),
    "a head over 16 KiB in many headers": (get("/", *[f"X-{n}: {'x' * 500}" for n in range(40)]), 431, "16384 bytes"),
    "a request line over 16 KiB": (get("/" + "x" * 17_000), 431, "16384 bytes"),
    "a head without an end": (b"GET / HTTP/1.1\r\n" + b"X: " + b"x" * 100_000, 431, "16384 bytes"),
    "a first line without an end": (b"GET /" + b"x" * 100_000, 431, "16384 bytes"),
    "129 headers": (get("/", *[f"X-{n}: {n}" for n in range(128)]), 431, "129 header lines"),
    "129 headers of a handshake": (handshake_request("/echo", *["X: 1"] * 124), 431, "129 header lines"),
    # What is not HTTP.
    "binary garbage": (bytes(range(128, 256)) * 4, 400, "not an HTTP request"),
    "zeros": (bytes(1000), 400, "not an HTTP request"),
    "a TLS hello": (bytes.fromhex("16030100c8010000c40303") + bytes(200), 400, "TLS"),
    "an SSH banner": (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", 400, ""),
    "an SMTP greeting": (b"EHLO example.com\r\n\r\n", 400, "invalid request line"),
    "a SOCKS hello": (b"\x05\x01\x00" + bytes(20), 400, "not an HTTP request"),
    "HTTP/2 with prior knowledge": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "HTTP/1.1"),
    "a frame without a handshake": (frame(TEXT, b"hello"), 400, "not an HTTP request"),
    "an empty method": (b" / HTTP/1.1\r\nHost: a\r\n\r\n", 400, ""),
    "a method with a bracket": (b"G(T / HTTP/1.1\r\nHost: a\r\n\r\n", 400, ""),
    "a method of a thousand letters": (b"G" * 1000 + b" / HTTP/1.1\r\nHost: a\r\n\r\n", 400, ""),
    "no version": (b"GET /\r\nHost: a\r\n\r\n", 400, "invalid request line"),
    "an unknown version": (get(version="HTTP/3.0"), 505, "HTTP/1.1"),
    "a version that is none": (get(version="HTTP/1.x"), 400, "invalid request line"),
    "two spaces in the request line": (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "invalid request line"),
    "a space in the target": (b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400, "invalid request line"),
    "a byte beyond ASCII in the target": (get("/caf\xe9"), 400, "request target"),
    "a NUL in the target": (get("/a\0b"), 400, "request target"),
    "a target that is no path": (get("echo"), 400, "request target"),
    "a fragment": (get("/echo#part"), 400, "fragment"),
    "the asterisk form": (get("*", method="OPTIONS"), 400, "request target"),
    "CONNECT": (get("example.com:443", method="CONNECT"), 400, "request target"),
    # Lines.
    "lines that end with LF": (b"GET / HTTP/1.1\nHost: a\n\n", 400, "CRLF"),
    "one line that ends with LF": (b"GET / HTTP/1.1\r\nHost: a\nX: 1\r\n\r\n", 400, "CRLF"),
    "a lone CR in a header": (get("/", "X: a\rb"), 400, "control character"),
    "a NUL in a header": (get("/", "X: a\0b"), 400, "control character"),
    "a folded header": (get("/", "X: a", " b"), 400, "header"),
    "a header without a colon": (get("/", "nonsense"), 400, "colon"),
    "a space before the colon": (get("/", "X : 1"), 400, "header name"),
    "an empty header name": (get("/", ": 1"), 400, "header name"),
    "0x85 in Origin": (handshake_request("/echo", "Origin: http://a\x85X: 1"), 403, "origin"),
    "0x85 in Host": (get(host="Host: a\x85X: 1"), 400, "invalid Host header"),
    "0x85 in a subprotocol": (handshake_request("/", "Sec-WebSocket-Protocol: a\x85b"), 400, "subprotocol"),
    "0x85 in extensions": (handshake_request("/", "Sec-WebSocket-Extensions: a\x85b"), 400, "Sec-WebSocket-Extensions"),
    "0x85 in the key": (handshake_request(replace={"Sec-WebSocket-Key": KEY + "\x85"}), 400, "16 bytes"),
    "0x85 in Connection": (handshake_request(replace={"Connection": "Upgrade\x85"}), 400, "Connection"),
    "0x85 in the protocol's version": (handshake_request(replace={"Sec-WebSocket-Version": "13\x85"}), 426, "13"),
    "0x85 in the length": (get("/", "Content-Length: 5\x85", method="POST"), 400, "Content-Length"),
    "0x0b in Cookie": (handshake_request("/echo", "Cookie: a\x0bX: 1"), 400, "control character"),
    "0x0c in Cookie": (handshake_request("/echo", "Cookie: a\x0cX: 1"), 400, "control character"),
    "0x1d in Cookie": (handshake_request("/echo", "Cookie: a\x1dX: 1"), 400, "control character"),
    "0x1e in Cookie": (handshake_request("/echo", "Cookie: a\x1eX: 1"), 400, "control character"),
    "0x1c in Cookie": (handshake_request("/echo", "Cookie: a\x1cX: 1"), 400, "control character"),
    # Host.
    "no Host": (get(host=""), 400, "Host"),
    "no Host in a handshake": (handshake_request(without=["Host"]), 400, "Host"),
    "two Hosts": (get("/", "Host: 127.0.0.1"), 400, "more than one Host"),
    "two Hosts in a handshake": (handshake_request("/echo", "Host: evil.example"), 400, "more than one Host"),
    "a Host with a path": (get(host="Host: a/b"), 400, "invalid Host header"),
    "a Host with a user": (get(host="Host: me@a"), 400, "invalid Host header"),
    "an empty Host": (get(host="Host:"), 400, "invalid Host header"),
    "another host in the absolute form": (get("http://evil.example/"), 400, "evil.example"),
    "another host in the absolute form of a handshake": (handshake_request("ws://evil.example/echo"), 400, "evil"),
    # Bodies.
    "a body over 64 KiB": (get("/", "Content-Length: 65537", method="POST"), 413, "65536"),
    "a body of 18 digits": (get("/", "Content-Length: " + "9" * 18, method="POST"), 413, "65536"),
    "a body of 30 digits": (get("/", "Content-Length: " + "9" * 30, method="POST"), 400, "Content-Length"),
    "a negative length": (get("/", "Content-Length: -1", method="POST"), 400, "Content-Length"),
    "a length with a plus": (get("/", "Content-Length: +5", method="POST"), 400, "Content-Length"),
    "a length in hexadecimal": (get("/", "Content-Length: 0x5", method="POST"), 400, "Content-Length"),
    "two lengths": (get("/", "Content-Length: 1", "Content-Length: 2", method="POST"), 400, "Content-Length"),
    "two equal lengths": (get("/", "Content-Length: 1", "Content-Length: 1", method="POST"), 400, "Content-Length"),
    "a list of lengths": (get("/", "Content-Length: 1, 1", method="POST"), 400, "Content-Length"),
    "an unknown coding": (get("/", "Transfer-Encoding: xchunked", method="POST"), 400, "expected chunked"),
    "another coding besides": (get("/", "Transfer-Encoding: gzip, chunked", method="POST"), 501, "expected chunked"),
    "a coding in HTTP/1.0": (get("/", "Transfer-Encoding: chunked", version="HTTP/1.0"), 400, "HTTP/1.0"),
    "a chunk size that is none": (CHUNKED + b"x\r\n", 400, "invalid chunk size"),
    "a chunk size with 0x": (CHUNKED + b"0x1\r\n", 400, "invalid chunk size"),
    "a chunk size with a space": (CHUNKED + b"1 \r\nx\r\n", 400, "invalid chunk size"),
    "a chunk size over 64 bits": (CHUNKED + b"1" + b"0" * 16 + b"\r\n", 400, "invalid chunk size"),
    "a chunk of 2**64-1 bytes": (CHUNKED + b"F" * 16 + b"\r\n", 413, "65536"),
    "a chunk that ends with LF": (CHUNKED + b"1\r\nx\n0\r\n\r\n", 400, "CRLF"),
    "a chunk size that ends with LF": (CHUNKED + b"1\nx\r\n", 400, "CRLF"),
    "a chunk longer than its size": (CHUNKED + b"1\r\nxyz\r\n", 400, "CRLF"),
    "chunks over 64 KiB": (CHUNKED + (b"8000\r\n" + b"x" * 0x8000 + b"\r\n") * 2 + b"1\r\n", 413, "65536"),
    "a trailer without a colon": (CHUNKED + b"0\r\nx\r\n\r\n", 400, "trailer"),
    "a length and a coding": (get("/", "Content-Length: 5", "Transfer-Encoding: chunked"), 400, "both"),
    # Handshakes.
    "a body on a handshake": (handshake_request("/echo", "Content-Length: 5") + b"hello", 400, "no body"),
    "a body on a handshake that does not come": (handshake_request("/echo", "Content-Length: 5"), 400, "no body"),
    "a chunked handshake": (handshake_request("/echo", "Transfer-Encoding: chunked"), 400, "no body"),
    "no key": (handshake_request(without=["Sec-WebSocket-Key"]), 400, "missing Sec-WebSocket-Key"),
    "an empty key": (handshake_request(replace={"Sec-WebSocket-Key": ""}), 400, "Sec-WebSocket-Key"),
    "a short key": (handshake_request(replace={"Sec-WebSocket-Key": "c2hvcnQ="}), 400, "16 bytes"),
    "a long key": (handshake_request(replace={"Sec-WebSocket-Key": "A" * 32}), 400, "16 bytes"),
    "a key that is no base64": (handshake_request(replace={"Sec-WebSocket-Key": "!" * 24}), 400, "16 bytes"),
    "two keys": (handshake_request("/echo", "Sec-WebSocket-Key: AAECAwQFBgcICQoLDA0ODw=="), 400, "more than one"),
    "no version of the protocol": (handshake_request(without=["Sec-WebSocket-Version"]), 400, "Version"),
    "version 8": (handshake_request(replace={"Sec-WebSocket-Version": "8"}), 426, "13"),
    "version 0": (handshake_request(replace={"Sec-WebSocket-Version": "0"}), 426, "13"),
    "version 14": (handshake_request(replace={"Sec-WebSocket-Version": "14"}), 426, "13"),
    "version thirteen": (handshake_request(replace={"Sec-WebSocket-Version": "thirteen"}), 426, "13"),
    "two versions": (handshake_request("/echo", "Sec-WebSocket-Version: 13"), 426, "13"),
    "a list of versions": (handshake_request(replace={"Sec-WebSocket-Version": "13, 8"}), 426, "13"),
    "no Connection": (handshake_request(without=["Connection"]), 400, "Connection"),
    "Connection: keep-alive": (handshake_request(replace={"Connection": "keep-alive"}), 400, "Connection"),
    "an upgrade by POST": (handshake_request(method="POST"), 405, "GET"),
    "an upgrade by PUT": (handshake_request(method="PUT"), 405, "GET"),
    "an upgrade by HEAD": (handshake_request(method="HEAD"), 405, "GET"),
    "an upgrade by HTTP/1.0": (handshake_request(version="HTTP/1.0"), 400, "HTTP/1.1"),
    "a path that is not UTF-8": (handshake_request("/%ff"), 400, "UTF-8"),
    "an overlong path": (handshake_request("/%c0%af"), 400, "UTF-8"),
    "a query that is not UTF-8": (handshake_request("/?a=%ff"), 400, "UTF-8"),
    "a query of 1001 parameters": (handshake_request("/?" + "&".join(["a=1"] * 1001)), 400, "query"),
    "a subprotocol twice": (handshake_request("/", "Sec-WebSocket-Protocol: a, a"), 400, "subprotocol"),
    "a subprotocol with a space": (handshake_request("/", "Sec-WebSocket-Protocol: a b"), 400, "subprotocol"),
    "broken extensions": (
        handshake_request("/", "Sec-WebSocket-Extensions: permessage-deflate; ="),
        400,
        "Sec-WebSocket-Extensions",
    ),
    "control characters in what is quoted": (handshake_request("/\x1b[31m"), 400, "x1b"),
}

HEAD_METHODS = ("an upgrade by HEAD",)


class RefusedTests:
    """Requests that are refused."""

    @pytest.mark.parametrize(("data", "status", "words"), REFUSED.values(), ids=REFUSED)
    def test_with_a_status_and_a_sentence(self, server, data, status, words):
        """A bad request is answered with its status and a sentence, the connection ends, and the server serves on."""
        with server.connect() as peer:
            peer.send(data)
            response = peer.read_response()
            assert response.status == status
            assert words in response.text
            assert response.text.startswith(f"{status} ")
            assert response.text.isprintable() or response.text.replace("\n", "").isprintable()
            assert response.header("connection") in ("close", "Upgrade, close")
            assert response.header("server") is None
            assert peer.read_to_end() == b"", "nothing but the one response"
        assert server.serves_the_next()

    @pytest.mark.parametrize("version", ["8", "14", "thirteen"])
    def test_an_unknown_version_is_told_the_known_one(self, server, version):
        """RFC 6455 section 4.4: the answer names the version that is spoken."""
        with server.connect() as peer:
            peer.send(handshake_request(replace={"Sec-WebSocket-Version": version}))
            response = peer.read_response()
            assert response.header("sec-websocket-version") == "13"
            assert response.header("upgrade") == "websocket"

    def test_the_wrong_method_is_told_the_right_one(self, server):
        """405 names what is allowed."""
        with server.connect() as peer:
            peer.send(handshake_request(method="POST"))
            assert peer.read_response().header("allow") == "GET"

    def test_a_refused_client_reads_why_though_it_sends_on(self, server):
        """A client in the middle of a long body reads its 413 instead of meeting a reset."""
        with server.connect() as peer:
            peer.send(get("/", "Content-Length: 1000000", method="POST"))
            try:
                peer.send(b"x" * 500_000)
            except ConnectionError:
                pytest.fail("the connection was reset while the client was sending")
            assert peer.read_response().status == 413
            assert peer.read_to_end() == b""

    def test_a_refused_client_that_stays_is_dropped(self, server):
        """A refused client that does not close is not kept."""
        with server.connect() as peer:
            peer.send(b"nonsense\r\n\r\n")
            assert peer.read_response().status == 400
            wait_until(lambda: not server.count_sockets(), "the connection dropped")

    def test_a_refusal_is_logged_in_one_line(self, server, log):
        """The log has one line, without the query and without control characters of the peer."""
        with server.connect() as peer:
            peer.send(handshake_request("/%ff?token=secret", "X-Note: \x9b31m"))
            peer.read_to_end()
        [line] = log.lines("wsserver.connection")
        assert "connection refused status=400 reason=" in line
        assert line.endswith(" path=/%ff")
        assert "secret" not in line
        assert line.isprintable()


class SlowTests:
    """Requests that take their time."""

    @pytest.mark.parametrize(
        "data",
        [b"", b"G", b"GET / HTTP/1.1\r\nHost: a\r\n", get("/", "Content-Length: 10", method="POST") + b"12345"],
        ids=["nothing", "one byte", "half a head", "half a body"],
    )
    def test_what_is_not_whole_in_time_is_answered_with_408(self, start_server, data):
        """A request that is not here after --open-timeout gets 408, and the connection ends."""
        server = start_server(open_timeout=0.2)
        with server.connect() as peer:
            peer.send(data)
            response = peer.read_response()
            assert response.status == 408
            assert "200ms" in response.text
            assert peer.read_to_end() == b""
        assert server.serves_the_next()

    def test_a_byte_now_and_then_does_not_extend_the_time(self, start_server):
        """The time is from the first byte to the last, so dripping bytes does not help."""
        server = start_server(open_timeout=0.3)
        with server.connect() as peer:
            peer.socket.settimeout(0.05)
            request = iter(get("/", "X: " + "x" * 10_000))
            answered = False
            while not answered:
                peer.send(bytes([next(request)]))
                with contextlib.suppress(TimeoutError):
                    answered = b"408" in peer.socket.recv(65536)
            peer.socket.settimeout(TIMEOUT)

    def test_the_second_request_of_a_connection_has_its_own_time(self, start_server):
        """A kept-alive connection may pause between requests, not in the middle of one."""
        server = start_server(open_timeout=0.2)
        with server.connect() as peer:
            assert peer.request("/favicon.svg").status == 200
            with pytest.raises(TimeoutError):
                peer.socket.settimeout(0.5)
                peer.socket.recv(1)
            peer.socket.settimeout(TIMEOUT)
            peer.send(b"GET / HT")
            assert peer.read_response().status == 408

    def test_an_open_connection_has_no_such_limit(self, start_server):
        """The time for the request does not end an open WebSocket connection."""
        server = start_server(open_timeout=0.1)
        with server.open("/ticker?every=250ms&count=1") as peer:
            assert peer.read_message() == "tick 1"

    def test_byte_by_byte(self, server):
        """A handshake that comes byte by byte is as good as any."""
        with server.connect() as peer:
            for byte in handshake_request("/echo"):
                peer.send(bytes([byte]))
            assert peer.read_response().status == 101
            assert peer.echoes()


class AcceptedTests:
    """Requests that are unusual and right."""

    @pytest.mark.parametrize(
        "request_bytes",
        [
            handshake_request("/echo", *["X: 1"] * 123),
            handshake_request("/echo", "X: " + "x" * 16_000),
            handshake_request("http://127.0.0.1/echo"),
            handshake_request("ws://127.0.0.1/echo"),
            handshake_request("/echo", "Content-Length: 0"),
            handshake_request(replace={"Connection": "keep-alive, Upgrade"}),
            handshake_request(replace={"Connection": "upgrade"}),
            handshake_request(replace={"Upgrade": "WebSocket"}),
            handshake_request(replace={"Upgrade": "h2c, websocket"}),
            handshake_request(replace={"Host": "example.com:8080"}),
            handshake_request(replace={"Host": "[::1]:8080"}),
            handshake_request("/echo", "Connection: close"),
            handshake_request("/%65cho"),
            handshake_request("/echo?a=1&a=2"),
            handshake_request("/echo?"),
            b"\r\n\r\n" + handshake_request("/echo"),
        ],
        ids=[
            "128 headers",
            "a head of nearly 16 KiB",
            "the absolute form",
            "the absolute form with ws",
            "Content-Length: 0",
            "Connection: keep-alive, Upgrade",
            "connection in lower case",
            "Upgrade: WebSocket",
            "two upgrades",
            "a name as Host",
            "an IPv6 address as Host",
            "two Connection headers",
            "a percent-encoded letter",
            "a query",
            "an empty query",
            "empty lines before",
        ],
    )
    def test_is_served(self, server, request_bytes):
        """An unusual handshake that breaks no rule opens a connection."""
        with server.connect() as peer:
            peer.send(request_bytes)
            response = peer.read_response()
            assert response.status == 101, response
            assert peer.echoes()

    def test_frames_in_the_same_segment_as_the_handshake(self, server):
        """Frames that come together with the handshake are answered."""
        with server.connect() as peer:
            peer.send(handshake_request("/echo") + frame(TEXT, b"one") + frame(TEXT, b"two")[:5])
            assert peer.read_response().status == 101
            assert peer.read_message() == "one"
            peer.send_frame(CLOSE)
        assert server.serves_the_next()

    def test_a_whole_life_in_one_segment(self, server):
        """Handshake, message and Close in one segment are answered in turn."""
        with server.connect() as peer:
            peer.send(handshake_request("/echo") + frame(TEXT, b"one") + frame(CLOSE, close_payload(1000)))
            assert peer.read_response().status == 101
            assert peer.read_message() == "one"
            assert peer.read_close().close_code == 1000
            assert peer.read_to_end() == b""

    def test_the_client_may_send_its_end_of_stream_with_the_handshake(self, server):
        """A client that half-closes leaves nothing behind."""
        with server.connect() as peer:
            peer.send(handshake_request("/echo"))
            peer.socket.shutdown(1)
            wait_until(lambda: not server.count_sockets(), "the connection gone")


class OpaqueValueTests:
    """Bytes from 0x80 on in header values: opaque (RFC 9110 section 5.5)."""

    # The UTF-8 of "Å" has the byte 0x85 in it, at which str.splitlines() ends a line of Latin-1.
    COOKIE = "Cookie: name=" + "Ågot Grüße 世界".encode().decode("latin-1")

    @pytest.mark.parametrize("target", ["/", "/server.json", "/favicon.svg", "/ready"])
    def test_the_page_is_served_with_a_cookie_in_utf8(self, server, target):
        """A cookie that another program on the same host has set locks nobody out."""
        with server.connect() as peer:
            peer.send(get(target, self.COOKIE))
            assert peer.read_response().status == 200

    @pytest.mark.parametrize("path", ["/echo", "/", "/ticker", "/ws?channel=a", "/connection/websocket"])
    def test_every_handshake_is_accepted_with_a_cookie_in_utf8(self, server, path):
        """Also with every other byte, in a header of any name."""
        every_byte = bytes(range(0x80, 0x100)).decode("latin-1")
        with server.connect() as peer:
            peer.send(handshake_request(path, self.COOKIE, f"X-Name: {every_byte}"))
            assert peer.read_response().status == 101

    def test_the_api_is_served_with_a_cookie_in_utf8(self, start_server):
        """The request reaches twisted.web with the value it came with."""
        server = start_server(api_key="key")
        with server.connect() as peer:
            body = b'{"channel":"a","data":1}'
            head = get("/api/publish", self.COOKIE, "X-API-Key: key", f"Content-Length: {len(body)}", method="POST")
            peer.send(head + body)
            assert peer.read_response().status == 200

    def test_an_event_stream_is_served_with_a_cookie_in_utf8(self, server):
        """As for the page."""
        with server.connect() as peer:
            peer.send(get("/sse?channel=a", self.COOKIE))
            assert peer.socket.recv(65536).startswith(b"HTTP/1.1 200 ")

    def test_an_endpoint_sees_one_value_and_no_header_more(self, start_server):
        """What would be another header to Autobahn's own parser is part of the value for an endpoint."""
        seen = []

        class Watching(ServerProtocol):
            def onConnect(self, request):
                seen.append(request.headers)

        server = start_server(endpoints={"/watch": Watching})
        with server.connect() as peer:
            peer.send(handshake_request("/watch", "X-Name: a\x85X-Admin: yes"))
            assert peer.read_response().status == 101
        assert seen[0]["x-name"] == "a\x85X-Admin: yes"
        assert "x-admin" not in seen[0]

    def test_an_endpoint_that_repeats_such_a_value_fails_instead_of_splitting_the_response(self, start_server, log):
        """A client on Autobahn would take the rest for a header of the server's."""

        class Repeating(ServerProtocol):
            def onConnect(self, request):
                return None, {"X-Name": request.headers["x-name"]}

        server = start_server(endpoints={"/repeat": Repeating})
        with server.connect() as peer:
            peer.send(handshake_request("/repeat", "X-Name: a\x85X-Admin: yes"))
            assert peer.read_response().status == 500
        assert log.take_failures(ValueError)


class ReusedConnectionTests:
    """HTTP requests before the handshake, on one connection."""

    def test_a_handshake_after_several_pages(self, server):
        """A kept-alive connection may become a WebSocket connection."""
        with server.connect() as peer:
            for target in ("/", "/favicon.svg", "/server.json", "/missing", "/ws"):
                assert peer.request(target).status in (200, 404, 426)
            peer.handshake("/echo")
            assert peer.echoes()
            peer.send_frame(CLOSE, close_payload(1000))
            assert peer.read_close().close_code == 1000
            assert peer.read_to_end() == b""

    def test_pipelined_with_pages(self, server):
        """Pages and a handshake in one segment are answered in order."""
        with server.connect() as peer:
            peer.send(get("/") + get("/favicon.svg") + handshake_request("/echo") + frame(TEXT, b"hello"))
            assert [peer.read_response().status for _ in range(3)] == [200, 200, 101]
            assert peer.read_message() == "hello"

    def test_a_handshake_after_a_post_with_a_body(self, server):
        """A body is not taken for the next request, nor the next request for a body."""
        with server.connect() as peer:
            body = handshake_request("/ws")
            post = get("/", f"Content-Length: {len(body)}", method="POST") + body
            peer.send(post + handshake_request("/echo") + frame(TEXT, b"hello"))
            assert [peer.read_response().status for _ in range(2)] == [405, 101]
            assert peer.read_message() == "hello"

    def test_a_body_that_comes_in_pieces(self, server):
        """A request waits for its whole body."""
        with server.connect() as peer:
            peer.send(get("/", "Content-Length: 65536", method="POST"))
            for _ in range(16):
                peer.send(b"x" * 4096)
            assert peer.read_response().status == 405
            assert peer.request("/").status == 200

    def test_100_continue(self, server):
        """A client that waits for leave to send its body gets it, once."""
        with server.connect() as peer:
            peer.send(get("/", "Content-Length: 5", "Expect: 100-continue", method="POST"))
            assert peer.read_response().status == 100
            peer.send(b"hello")
            assert peer.read_response().status == 405
            assert peer.request("/favicon.svg").status == 200

    def test_100_continue_is_not_sent_before_a_refusal(self, server):
        """A body that is too big is refused at once."""
        with server.connect() as peer:
            peer.send(get("/", "Content-Length: 70000", "Expect: 100-continue", method="POST"))
            assert peer.read_response().status == 413

    def test_many_pipelined_requests(self, server):
        """Two hundred requests in one go are answered in order."""
        with server.connect() as peer:
            peer.send(b"".join(get("/favicon.svg" if n % 2 else "/missing") for n in range(200)))
            assert [peer.read_response().status for _ in range(200)] == [404, 200] * 100

    def test_http_1_0(self, server):
        """An HTTP/1.0 client gets its page, without a Host header too, and the end of the stream."""
        with server.connect() as peer:
            peer.send(b"GET /favicon.svg HTTP/1.0\r\n\r\n")
            assert peer.read_response().status == 200
            assert peer.read_to_end() == b""

    def test_connection_close(self, server):
        """A client that asks for the end of the connection gets it; nothing behind that is answered."""
        with server.connect() as peer:
            peer.send(get("/favicon.svg", "Connection: close") + get("/"))
            assert peer.read_response().status == 200
            assert peer.read_to_end() == b""
        wait_until(lambda: not server.count_sockets(), "the connection gone")

    def test_a_bad_request_after_a_good_one(self, server):
        """The good request is answered before the bad one is refused."""
        with server.connect() as peer:
            peer.send(get("/favicon.svg") + b"nonsense\r\n\r\n" + get("/"))
            assert [peer.read_response().status for _ in range(2)] == [200, 400]
            assert peer.read_to_end() == b""


class ConnectionLimitTests:
    """--max-connections."""

    def test_one_more_is_refused_until_one_leaves(self, start_server):
        """Over the limit a client gets 503 with Retry-After; once another has closed, clients are accepted again."""
        server = start_server(max_connections=2)
        with server.open() as first, server.open() as second:
            with server.connect() as third:
                third.send(handshake_request())
                response = third.read_response()
                assert (response.status, response.header("retry-after")) == (503, "5")
                assert third.read_to_end() == b""
            assert first.echoes()
            assert second.echoes()
            second.send_frame(CLOSE, close_payload(1000))
            assert second.read_close().close_code == 1000
            wait_until(lambda: server.count_sockets() == 1, "the closed connection gone")
            assert server.serves_the_next()
            assert first.echoes()

    def test_connections_that_are_not_websockets_count_too(self, start_server):
        """Silent and HTTP connections are within the limit."""
        server = start_server(max_connections=2)
        with server.connect() as silent, server.connect() as page:
            assert page.request("/favicon.svg").status == 200
            with server.connect() as third:
                assert third.read_response().status == 503
            silent.reset()
            wait_until(lambda: server.count_sockets() == 1, "the others gone")
            assert server.serves_the_next()

    def test_refused_connections_do_not_take_the_place_of_others(self, start_server):
        """Refused clients that do not leave do not keep the next one out when there is room again."""
        server = start_server(max_connections=2)
        with server.open() as first, server.open(), server.connect() as refused, server.connect() as refused_too:
            assert refused.read_response().status == refused_too.read_response().status == 503
            first.reset()
            wait_until(lambda: server.count_connections() == 1, "the first gone")
            assert server.serves_the_next()

    def test_a_flood_of_refused_connections_is_bounded(self, start_server):
        """However many come over the limit, few are kept to read why, and the ones within it are served."""
        server = start_server(max_connections=1)
        with server.open() as first, contextlib.ExitStack() as stack:
            told = stack.enter_context(server.connect())
            assert told.read_response().status == 503
            for _ in range(100):
                # One that is dropped at once may see that while it connects.
                with contextlib.suppress(ConnectionError):
                    stack.enter_context(server.connect())
            wait_until(lambda: server.count_sockets() <= 50, "most of them dropped")
            assert first.echoes()
        wait_until(lambda: not server.count_sockets(), "all of them gone")
        assert server.serves_the_next()
