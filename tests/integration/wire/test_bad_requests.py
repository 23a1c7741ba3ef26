"""Requests that no well-behaved client sends: the response to each, and that the server serves the next client."""

import contextlib

import pytest
from peers import CLOSE, KEY, TEXT, close_payload, frame, handshake_request
from waiting import TIMEOUT, wait_until

from wsserver.wire.protocol import ServerProtocol

HOST = "Host: 127.0.0.1"


def get(target: str = "/", *lines: str, host: str = HOST, method: str = "GET", version: str = "HTTP/1.1") -> bytes:
    """Build a plain HTTP request."""
    head = [f"{method} {target} {version}", *([host] if host else []), *lines, "", ""]
    return "\r\n".join(head).encode("latin-1")


CHUNKED = get("/", "Transfer-Encoding: chunked", method="POST")

# Name -> the bytes to send, the status, and text that the body contains.
REFUSED = {
    # Heads that are too big.
    "a head over 16 KiB in one header": (handshake_request("/echo", "X: " + "x" * 17_000), 431, "16384 bytes"),
    "a head over 16 KiB in many headers": (get("/", *[f"X-{n}: {'x' * 500}" for n in range(40)]), 431, "16384 bytes"),
    "a request line over 16 KiB": (get("/" + "x" * 17_000), 431, "16384 bytes"),
    "a head without an end": (b"GET / HTTP/1.1\r\n" + b"X: " + b"x" * 100_000, 431, "16384 bytes"),
    "a first line without an end": (b"GET /" + b"x" * 100_000, 431, "16384 bytes"),
    "129 headers": (get("/", *[f"X-{n}: {n}" for n in range(128)]), 431, "129 header lines"),
    "129 headers of a handshake": (handshake_request("/echo", *["X: 1"] * 124), 431, "129 header lines"),
    # Data that is not HTTP.
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
    "an invalid version": (get(version="HTTP/1.x"), 400, "invalid request line"),
    "two spaces in the request line": (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "invalid request line"),
    "a space in the target": (b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400, "invalid request line"),
    "a byte beyond ASCII in the target": (get("/caf\xe9"), 400, "request target"),
    "a NUL in the target": (get("/a\0b"), 400, "request target"),
    "a target that is not a path": (get("echo"), 400, "request target"),
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
    "0x85 in the WebSocket version": (handshake_request(replace={"Sec-WebSocket-Version": "13\x85"}), 426, "13"),
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
    "another coding before chunked": (
        get("/", "Transfer-Encoding: gzip, chunked", method="POST"),
        501,
        "expected chunked",
    ),
    "a coding in HTTP/1.0": (get("/", "Transfer-Encoding: chunked", version="HTTP/1.0"), 400, "HTTP/1.0"),
    "an invalid chunk size": (CHUNKED + b"x\r\n", 400, "invalid chunk size"),
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
    "a handshake that declares a body but sends none": (
        handshake_request("/echo", "Content-Length: 5"),
        400,
        "no body",
    ),
    "a chunked handshake": (handshake_request("/echo", "Transfer-Encoding: chunked"), 400, "no body"),
    "no key": (handshake_request(without=["Sec-WebSocket-Key"]), 400, "missing Sec-WebSocket-Key"),
    "an empty key": (handshake_request(replace={"Sec-WebSocket-Key": ""}), 400, "Sec-WebSocket-Key"),
    "a short key": (handshake_request(replace={"Sec-WebSocket-Key": "c2hvcnQ="}), 400, "16 bytes"),
    "a long key": (handshake_request(replace={"Sec-WebSocket-Key": "A" * 32}), 400, "16 bytes"),
    "a key that is not base64": (handshake_request(replace={"Sec-WebSocket-Key": "!" * 24}), 400, "16 bytes"),
    "two keys": (handshake_request("/echo", "Sec-WebSocket-Key: AAECAwQFBgcICQoLDA0ODw=="), 400, "more than one"),
    "no WebSocket version": (handshake_request(without=["Sec-WebSocket-Version"]), 400, "Version"),
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
    "control characters in a quoted path": (handshake_request("/\x1b[31m"), 400, "x1b"),
}

HEAD_METHODS = ("an upgrade by HEAD",)


class RefusedTests:
    """Requests that the server refuses."""

    @pytest.mark.parametrize(("data", "status", "words"), REFUSED.values(), ids=REFUSED)
    def test_answers_with_a_status_and_a_sentence_then_closes(self, server, data, status, words):
        """The server then serves the next client."""
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
    def test_answers_an_unknown_websocket_version_with_version_13(self, server, version):
        """RFC 6455 section 4.4: the response names the version that the server supports."""
        with server.connect() as peer:
            peer.send(handshake_request(replace={"Sec-WebSocket-Version": version}))
            response = peer.read_response()
            assert response.header("sec-websocket-version") == "13"
            assert response.header("upgrade") == "websocket"

    def test_answers_a_handshake_by_post_with_allow_get(self, server):
        with server.connect() as peer:
            peer.send(handshake_request(method="POST"))
            assert peer.read_response().header("allow") == "GET"

    def test_a_client_in_the_middle_of_a_long_body_reads_its_413(self, server):
        """The connection is not reset while the client sends."""
        with server.connect() as peer:
            peer.send(get("/", "Content-Length: 1000000", method="POST"))
            try:
                peer.send(b"x" * 500_000)
            except ConnectionError:
                pytest.fail("the connection was reset while the client was sending")
            assert peer.read_response().status == 413
            assert peer.read_to_end() == b""

    def test_drops_a_refused_client_that_does_not_close(self, server):
        with server.connect() as peer:
            peer.send(b"nonsense\r\n\r\n")
            assert peer.read_response().status == 400
            wait_until(lambda: not server.count_sockets(), "the connection dropped")

    def test_logs_a_refusal_in_one_printable_line_without_the_query(self, server, log):
        with server.connect() as peer:
            peer.send(handshake_request("/%ff?token=secret", "X-Note: \x9b31m"))
            peer.read_to_end()
        [line] = log.lines("wsserver.connection")
        assert "connection refused status=400 reason=" in line
        assert line.endswith(" path=/%ff")
        assert "secret" not in line
        assert line.isprintable()


class SlowTests:
    """Requests that arrive slowly."""

    @pytest.mark.parametrize(
        "data",
        [b"", b"G", b"GET / HTTP/1.1\r\nHost: a\r\n", get("/", "Content-Length: 10", method="POST") + b"12345"],
        ids=["nothing", "one byte", "half a head", "half a body"],
    )
    def test_answers_a_request_incomplete_after_open_timeout_with_408(self, start_server, data):
        server = start_server(open_timeout=0.2)
        with server.connect() as peer:
            peer.send(data)
            response = peer.read_response()
            assert response.status == 408
            assert "200ms" in response.text
            assert peer.read_to_end() == b""
        assert server.serves_the_next()

    def test_answers_a_request_that_drips_with_408(self, start_server):
        """--open-timeout applies to the whole request, so single bytes do not extend it."""
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

    def test_answers_an_incomplete_second_request_with_408(self, start_server):
        """A keep-alive connection may be idle between requests, but not in the middle of one."""
        server = start_server(open_timeout=0.2)
        with server.connect() as peer:
            assert peer.request("/favicon.svg").status == 200
            with pytest.raises(TimeoutError):
                peer.socket.settimeout(0.5)
                peer.socket.recv(1)
            peer.socket.settimeout(TIMEOUT)
            peer.send(b"GET / HT")
            assert peer.read_response().status == 408

    def test_open_timeout_does_not_end_an_open_websocket_connection(self, start_server):
        server = start_server(open_timeout=0.1)
        with server.open("/ticker?every=250ms&count=1") as peer:
            assert peer.read_message() == "tick 1"

    def test_accepts_a_handshake_sent_byte_by_byte(self, server):
        with server.connect() as peer:
            for byte in handshake_request("/echo"):
                peer.send(bytes([byte]))
            assert peer.read_response().status == 101
            assert peer.echoes()


class AcceptedTests:
    """Unusual requests that violate no rule."""

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
    def test_accepts_an_unusual_handshake_that_violates_no_rule(self, server, request_bytes):
        with server.connect() as peer:
            peer.send(request_bytes)
            response = peer.read_response()
            assert response.status == 101, response
            assert peer.echoes()

    def test_answers_frames_in_the_same_segment_as_the_handshake(self, server):
        with server.connect() as peer:
            peer.send(handshake_request("/echo") + frame(TEXT, b"one") + frame(TEXT, b"two")[:5])
            assert peer.read_response().status == 101
            assert peer.read_message() == "one"
            peer.send_frame(CLOSE)
        assert server.serves_the_next()

    def test_answers_a_handshake_message_and_close_in_one_segment(self, server):
        with server.connect() as peer:
            peer.send(handshake_request("/echo") + frame(TEXT, b"one") + frame(CLOSE, close_payload(1000)))
            assert peer.read_response().status == 101
            assert peer.read_message() == "one"
            assert peer.read_close().close_code == 1000
            assert peer.read_to_end() == b""

    def test_drops_a_client_that_half_closes_right_after_its_handshake(self, server):
        with server.connect() as peer:
            peer.send(handshake_request("/echo"))
            peer.socket.shutdown(1)
            wait_until(lambda: not server.count_sockets(), "the connection gone")


class OpaqueValueTests:
    """Bytes from 0x80 in header values are opaque (RFC 9110 section 5.5)."""

    # The UTF-8 of "Å" has the byte 0x85 in it, at which str.splitlines() ends a line of Latin-1.
    COOKIE = "Cookie: name=" + "Ågot Grüße 世界".encode().decode("latin-1")

    @pytest.mark.parametrize("target", ["/", "/server.json", "/favicon.svg", "/ready"])
    def test_serves_get_requests_with_a_cookie_in_utf8(self, server, target):
        """Another program on the same host may have set the cookie."""
        with server.connect() as peer:
            peer.send(get(target, self.COOKIE))
            assert peer.read_response().status == 200

    @pytest.mark.parametrize("path", ["/echo", "/", "/ticker", "/ws?channel=a", "/connection/websocket"])
    def test_accepts_a_handshake_with_a_cookie_in_utf8(self, server, path):
        """A second header contains every byte from 0x80 to 0xff."""
        every_byte = bytes(range(0x80, 0x100)).decode("latin-1")
        with server.connect() as peer:
            peer.send(handshake_request(path, self.COOKIE, f"X-Name: {every_byte}"))
            assert peer.read_response().status == 101

    def test_serves_the_api_to_a_client_with_a_cookie_in_utf8(self, start_server):
        """twisted.web receives the value unchanged."""
        server = start_server(api_key="key")
        with server.connect() as peer:
            body = b'{"channel":"a","data":1}'
            head = get("/api/publish", self.COOKIE, "X-API-Key: key", f"Content-Length: {len(body)}", method="POST")
            peer.send(head + body)
            assert peer.read_response().status == 200

    def test_serves_an_event_stream_to_a_client_with_a_cookie_in_utf8(self, server):
        with server.connect() as peer:
            peer.send(get("/sse?channel=a", self.COOKIE))
            assert peer.socket.recv(65536).startswith(b"HTTP/1.1 200 ")

    def test_an_endpoint_sees_one_header_where_autobahn_would_see_two(self, start_server):
        """Autobahn's own parser splits the value at the byte 0x85."""
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

    def test_answers_500_if_an_endpoint_repeats_such_a_value(self, start_server, log):
        """A client that uses Autobahn would parse what follows the byte 0x85 as another header of the server."""

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

    def test_accepts_a_handshake_after_five_http_requests(self, server):
        with server.connect() as peer:
            for target in ("/", "/favicon.svg", "/server.json", "/missing", "/ws"):
                assert peer.request(target).status in (200, 404, 426)
            peer.handshake("/echo")
            assert peer.echoes()
            peer.send_frame(CLOSE, close_payload(1000))
            assert peer.read_close().close_code == 1000
            assert peer.read_to_end() == b""

    def test_answers_pipelined_pages_and_a_handshake_in_order(self, server):
        with server.connect() as peer:
            peer.send(get("/") + get("/favicon.svg") + handshake_request("/echo") + frame(TEXT, b"hello"))
            assert [peer.read_response().status for _ in range(3)] == [200, 200, 101]
            assert peer.read_message() == "hello"

    def test_accepts_a_handshake_after_a_post_whose_body_is_a_handshake(self, server):
        """A body is never parsed as the next request."""
        with server.connect() as peer:
            body = handshake_request("/ws")
            post = get("/", f"Content-Length: {len(body)}", method="POST") + body
            peer.send(post + handshake_request("/echo") + frame(TEXT, b"hello"))
            assert [peer.read_response().status for _ in range(2)] == [405, 101]
            assert peer.read_message() == "hello"

    def test_waits_for_a_body_of_64_kib_that_arrives_in_pieces(self, server):
        with server.connect() as peer:
            peer.send(get("/", "Content-Length: 65536", method="POST"))
            for _ in range(16):
                peer.send(b"x" * 4096)
            assert peer.read_response().status == 405
            assert peer.request("/").status == 200

    def test_sends_100_continue_once_to_a_client_that_expects_it(self, server):
        with server.connect() as peer:
            peer.send(get("/", "Content-Length: 5", "Expect: 100-continue", method="POST"))
            assert peer.read_response().status == 100
            peer.send(b"hello")
            assert peer.read_response().status == 405
            assert peer.request("/favicon.svg").status == 200

    def test_refuses_too_large_a_body_with_413_instead_of_100_continue(self, server):
        with server.connect() as peer:
            peer.send(get("/", "Content-Length: 70000", "Expect: 100-continue", method="POST"))
            assert peer.read_response().status == 413

    def test_answers_200_pipelined_requests_in_order(self, server):
        with server.connect() as peer:
            peer.send(b"".join(get("/favicon.svg" if n % 2 else "/missing") for n in range(200)))
            assert [peer.read_response().status for _ in range(200)] == [404, 200] * 100

    def test_serves_an_http_1_0_client_without_host_and_closes(self, server):
        with server.connect() as peer:
            peer.send(b"GET /favicon.svg HTTP/1.0\r\n\r\n")
            assert peer.read_response().status == 200
            assert peer.read_to_end() == b""

    def test_closes_after_a_request_with_connection_close(self, server):
        """Requests after it are not answered."""
        with server.connect() as peer:
            peer.send(get("/favicon.svg", "Connection: close") + get("/"))
            assert peer.read_response().status == 200
            assert peer.read_to_end() == b""
        wait_until(lambda: not server.count_sockets(), "the connection gone")

    def test_answers_a_valid_request_before_it_refuses_the_next(self, server):
        with server.connect() as peer:
            peer.send(get("/favicon.svg") + b"nonsense\r\n\r\n" + get("/"))
            assert [peer.read_response().status for _ in range(2)] == [200, 400]
            assert peer.read_to_end() == b""


class ConnectionLimitTests:
    """The option --max-connections."""

    def test_refuses_a_third_client_with_503_until_another_leaves(self, start_server):
        """The response has a Retry-After header."""
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

    def test_counts_silent_and_http_connections(self, start_server):
        server = start_server(max_connections=2)
        with server.connect() as silent, server.connect() as page:
            assert page.request("/favicon.svg").status == 200
            with server.connect() as third:
                assert third.read_response().status == 503
            silent.reset()
            wait_until(lambda: server.count_sockets() == 1, "the others gone")
            assert server.serves_the_next()

    def test_does_not_count_refused_connections_that_stay_open(self, start_server):
        server = start_server(max_connections=2)
        with server.open() as first, server.open(), server.connect() as refused, server.connect() as refused_too:
            assert refused.read_response().status == refused_too.read_response().status == 503
            first.reset()
            wait_until(lambda: server.count_connections() == 1, "the first gone")
            assert server.serves_the_next()

    def is_open_to_the_next(self, server):
        """Return whether the server accepts an opening handshake."""
        with server.connect() as peer:
            peer.send(handshake_request("/echo"))
            return peer.read_response().status == 101

    def test_keeps_at_most_50_connections_during_a_flood(self, start_server):
        """Refused connections stay open briefly so that clients can read the 503; admitted clients are served."""
        server = start_server(max_connections=1)
        with server.open() as first, contextlib.ExitStack() as stack:
            refused = stack.enter_context(server.connect())
            assert refused.read_response().status == 503
            for _ in range(100):
                # The server may drop a connection before connect() returns.
                with contextlib.suppress(ConnectionError):
                    stack.enter_context(server.connect())
            wait_until(lambda: server.count_sockets() <= 50, "most of them dropped")
            assert first.echoes()
        # The server may still have to accept connections that their clients have closed.
        wait_until(lambda: self.is_open_to_the_next(server), "the next client served")
