"""HTTP: the browser page, the origins that may connect, and hostile paths."""

import asyncio
import gzip
import json
import re
import subprocess

import aiohttp
import pytest
import requests
from peers import handshake_request
from waiting import wait_until
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

HOSTILE_PATHS = [
    "/..",
    "/../",
    "/../../../../etc/passwd",
    "/./index.html",
    "/a/../index.html",
    "/%2e%2e/%2e%2e/etc/passwd",
    "/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "/..%2f..%2fetc/passwd",
    "/..%5c..%5cwindows%5cwin.ini",
    "/..\\..\\windows\\win.ini",
    "/%5c%5cserver%5cshare",
    "/index.html%00",
    "/%00",
    "/index.html%00.js",
    "//",
    "//index.html",
    "///etc/passwd",
    "//evil.example/",
    "/index.html/",
    "/index.html//",
    "/index.html/..",
    "/.git/config",
    "/.git/",
    "/.env",
    "/.htaccess",
    "/%2egit/config",
    "/static/",
    "/static/index.html",
    "/wsserver/",
    "/INDEX.HTML",
    "/index.html.",
    "/index.html%20",
    "/index.html~",
    "/index.html::$DATA",
    "/index",
    "/main.js.map",
    "/main.js%3Fx",
    "/%69ndex%252ehtml",
    "/%252e%252e/etc/passwd",
    "/%c0%ae%c0%ae/%c0%afetc/passwd",
    "/%ff",
    "/%e2%82",
    "/%",
    "/%zz",
    "/%2",
    "/" + "a" * 8000,
    "/" + "a/" * 4000,
    "/" + "../" * 2000,
    "/" + "%2e%2e/" * 1000,
    "/con",
    "/dev/null",
    "/proc/self/environ",
    "/<script>alert(1)</script>",
    "/%3Cscript%3Ealert(1)%3C/script%3E",
    "/index.html;x=1",
    "/~root",
    "/%0d%0aX-Evil:%201",
    "/server.json/",
]

FILES = {
    "/": "text/html; charset=utf-8",
    "/index.html": "text/html; charset=utf-8",
    "/main.js": "text/javascript; charset=utf-8",
    "/style.css": "text/css; charset=utf-8",
    "/favicon.svg": "image/svg+xml; charset=utf-8",
    "/server.json": "application/json",
    "/admin": "text/html; charset=utf-8",
    "/admin/main.js": "text/javascript; charset=utf-8",
    "/admin/admin.css": "text/css; charset=utf-8",
}


class PageTests:
    """The files of the browser page."""

    @pytest.mark.parametrize(("path", "content_type"), FILES.items(), ids=FILES)
    def test_each_file_has_its_content_type_and_the_security_headers(self, server, path, content_type):
        """The content security policy allows no foreign source, and no header names the server's version."""
        with server.connect() as peer:
            response = peer.request(path)
        assert (response.status, response.header("content-type")) == (200, content_type)
        policy = response.header("content-security-policy")
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert response.header("x-content-type-options") == "nosniff"
        assert response.header("referrer-policy") == "no-referrer"
        assert response.header("server") is None
        assert response.body

    def test_every_script_and_style_that_the_page_loads_is_served(self, server):
        """The modules that the scripts import are served too."""
        with server.connect() as peer:
            page = peer.request("/").text
            named = set(re.findall(r"(?:src|href)=\"([^\"#]+)\"", page))
            names = {name.removeprefix("./").removeprefix("/") for name in named if "://" not in name}
            scripts = {name for name in names if name.endswith(".js")}
            while scripts:
                text = peer.request(f"/{scripts.pop()}").text
                found = set(re.findall(r"(?:from|import)\s*[\"']\./([^\"']+)[\"']", text)) - names
                names |= found
                scripts |= found
            assert {"main.js", "style.css", "connection.js"} <= names
            assert {name: peer.request(f"/{name}").status for name in names} == dict.fromkeys(names, 200)

    def test_every_script_that_the_page_for_operators_loads_is_served(self, server):
        with server.connect() as peer:
            page = peer.request("/admin")
            names = set(re.findall(r"(?:src|href)=\"([^\"#]+)\"", page.text))
            scripts = {"admin/main.js"}
            while scripts:
                text = peer.request(f"/{scripts.pop()}").text
                found = {f"admin/{name}" for name in re.findall(r"from '\./([^']+)'", text)} - names
                names |= found
                scripts |= found
            assert {"admin/main.js", "admin/admin.css", "style.css", "admin/api.js"} <= names
            assert {name: peer.request(f"/{name}").status for name in names} == dict.fromkeys(names, 200)
            assert "connect-src 'self';" in page.header("content-security-policy")
            assert "require-trusted-types-for 'script'" in page.header("content-security-policy")
            away = peer.request("/admin/")
            assert (away.status, away.header("location")) == (308, "../admin")

    def test_server_json_says_what_a_call_of_the_api_needs(self, start_server):
        for options, expected in (({}, "off"), ({"api_key": "secret"}, "key"), ({"api_insecure": True}, "none")):
            with start_server(**options).connect() as peer:
                assert json.loads(peer.request("/server.json").body)["api"] == expected

    def test_a_request_with_the_files_etag_gets_304_without_a_body(self, server):
        with server.connect() as peer:
            etag = peer.request("/main.js").header("etag")
            assert re.fullmatch(r'"[0-9a-f]+"', etag)
            unchanged = peer.request("/main.js", f"If-None-Match: {etag}")
            assert (unchanged.status, unchanged.body, unchanged.header("etag")) == (304, b"", etag)
            assert unchanged.header("server") is None
            assert peer.request("/main.js", 'If-None-Match: "another"').status == 200
            assert peer.request("/style.css", f"If-None-Match: {etag}").status == 200

    @pytest.mark.parametrize("path", FILES)
    def test_head_returns_the_headers_of_get_without_a_body(self, server, path):
        """The connection stays usable."""
        with server.connect() as peer:
            got, headed = peer.request(path), peer.request(path, method="HEAD")
            assert (headed.status, headed.body) == (200, b"")
            for name in ("content-length", "content-type", "etag", "content-security-policy"):
                assert headed.header(name) == got.header(name)
            assert peer.request(path).body == got.body

    @pytest.mark.parametrize("path", ["/", "/sse?channel=foo", "/ready"])
    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
    def test_other_methods_get_405_with_allow_get_head(self, server, path, method):
        """The connection stays usable."""
        with server.connect() as peer:
            response = peer.request(path, method=method)
            assert (response.status, response.header("allow")) == (405, "GET, HEAD")
            assert response.text == f"405 Method Not Allowed\nmethod {method} is not allowed: expected GET or HEAD\n"
            assert peer.request("/").status == 200

    def test_the_page_is_the_same_with_a_query(self, server):
        with server.connect() as peer:
            assert peer.request("/?x=1&y=%ff").body == peer.request("/").body

    def test_a_thousand_ranges_return_the_file_once(self, server):
        """Multipart answers to overlapping ranges would make the server an amplifier."""
        with server.connect() as peer:
            whole = peer.request("/main.js")
            ranges = peer.request("/main.js", "Range: bytes=" + ",".join(["0-"] * 1000))
            assert (ranges.status, ranges.body) == (200, whole.body)

    def test_server_json_lists_the_paths_the_commands_and_the_close_codes(self, server):
        with server.connect() as peer:
            about = json.loads(peer.request("/server.json").body)
        assert about["name"] == "wsserver"
        shown = [path["path"] for path in about["paths"]]
        assert shown[:4] == ["/", "/echo", "/ws", "/whoami"]
        assert {"/ticker", "/connection/websocket", "/connection/uni_websocket"} <= set(shown)
        assert len(set(shown)) == len(shown)
        assert (about["tap"], about["faults"]) == (True, False)
        assert {"name": "hello", "help": "greet the client by its address"} in about["commands"]
        assert about["closeCodes"]["1009"].startswith("message too big")

    def test_the_access_log_has_one_line_without_the_query(self, server, log):
        """Tokens are sent in the query."""
        with server.connect() as peer:
            peer.request("/favicon.svg?token=secret")
        # The response is sent before its log line is written.
        wait_until(lambda: log.lines("wsserver.http"), "the log line")
        [line] = log.lines("wsserver.http")
        assert "GET /favicon.svg 200" in line
        assert "secret" not in line

    def test_the_page_and_a_websocket_share_one_tls_connection(self, start_server, tls_listen, tls_client):
        server = start_server(listen=tls_listen)
        with server.connect(tls=tls_client) as peer:
            assert peer.request("/").status == 200
            peer.handshake("/echo")
            assert peer.echoes("x" * 100_000)

    def test_plain_http_to_a_tls_port_does_not_affect_tls_clients(self, start_server, tls_listen, tls_client):
        server = start_server(listen=tls_listen)
        with server.connect() as plain:
            plain.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert b"plain HTTP request on a TLS port" in plain.read_to_end()
        with server.connect(tls=tls_client) as peer:
            assert peer.request("/").status == 200

    def test_a_handshake_refused_over_tls_is_400_and_names_the_missing_header(
        self, start_server, tls_listen, tls_client
    ):
        server = start_server(listen=tls_listen)
        with server.connect(tls=tls_client) as peer:
            peer.send(handshake_request(without=["Sec-WebSocket-Key"]))
            response = peer.read_response()
            assert response.status == 400
            assert "Sec-WebSocket-Key" in response.text


class CompressedPageTests:
    """The files of the page for clients that accept gzip, and for those that do not."""

    @pytest.mark.parametrize("path", [path for path in FILES if path != "/server.json"])
    def test_each_file_is_compressed_for_those_who_accept_it(self, server, path):
        with server.connect() as peer:
            plain, compressed = peer.request(path), peer.request(path, "Accept-Encoding: gzip, deflate, br, zstd")
            assert (plain.header("content-encoding"), compressed.header("content-encoding")) == (None, "gzip")
            assert plain.header("vary") == compressed.header("vary") == "Accept-Encoding"
            assert gzip.decompress(compressed.body) == plain.body
            assert len(compressed.body) < len(plain.body)
            assert plain.header("content-type") == compressed.header("content-type")
            assert plain.header("content-security-policy") == compressed.header("content-security-policy")

    def test_the_browser_gets_304_for_the_compressed_file_that_it_has(self, server):
        with server.connect() as peer:
            accepts = "Accept-Encoding: gzip"
            etag = peer.request("/main.js", accepts).header("etag")
            unchanged = peer.request("/main.js", accepts, f"If-None-Match: {etag}")
            assert (unchanged.status, unchanged.body, unchanged.header("etag")) == (304, b"", etag)
            assert unchanged.header("vary") == "Accept-Encoding"
            assert peer.request("/main.js", f"If-None-Match: {etag}").status == 200

    def test_curl_reads_it(self, server):
        address = f"http://127.0.0.1:{server.port}/main.js"
        command = ["curl", "-sS", "--noproxy", "*", "-w", "%{stderr}%{size_download}"]
        plain = subprocess.run([*command, address], capture_output=True, check=True, timeout=30)
        compressed = subprocess.run([*command, "--compressed", address], capture_output=True, check=True, timeout=30)
        assert plain.stdout == compressed.stdout
        assert int(compressed.stderr) < int(plain.stderr) / 2

    def test_requests_reads_it(self, server):
        address = f"http://127.0.0.1:{server.port}/main.js"
        compressed = requests.get(address, timeout=30)
        plain = requests.get(address, headers={"Accept-Encoding": "identity"}, timeout=30)
        assert compressed.headers["Content-Encoding"] == "gzip"
        assert compressed.content == plain.content

    def test_aiohttp_reads_it(self, server):
        async def read():
            address = f"http://127.0.0.1:{server.port}/main.js"
            async with aiohttp.ClientSession() as session, session.get(address) as response:
                return response.headers["Content-Encoding"], await response.text()

        coding, text = asyncio.run(read())
        assert (coding, text.splitlines()[0]) == ("gzip", "/**")


class WebSocketPathTests:
    """Plain HTTP on the paths of WebSocket endpoints, and on unknown paths."""

    @pytest.mark.parametrize("path", ["/ws", "/echo", "/ticker", "/ws/", "/echo?x=1"])
    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_get_and_post_get_426_that_names_a_websocket_client(self, server, path, method):
        with server.connect() as peer:
            response = peer.request(path, method=method)
            assert response.status == 426
            assert response.header("upgrade") == "websocket"
            assert "upgrade" in (response.header("connection") or "").lower()
            assert "WebSocket client" in response.text
            assert peer.request("/favicon.svg").status == 200

    def test_head_gets_426_and_the_connection_stays_usable(self, server):
        with server.connect() as peer:
            response = peer.request("/ws", method="HEAD")
            assert (response.status, response.header("upgrade")) == (426, "websocket")
            assert peer.request("/favicon.svg").status == 200

    @pytest.mark.parametrize(
        ("path", "status", "reason"),
        [
            ("/echo?channel=foo", 400, "'/echo' does not serve channels; connect to /ws?channel=NAME"),
            ("/faults/clos", 404, "unknown fault 'clos'; did you mean close?"),
            ("/faults/close?code=99999", 400, "code='99999': expected a whole number from 0 to 65535"),
            ("/faults/close?code=1012", 426, "/faults/close accepts WebSocket connections only"),
        ],
    )
    def test_a_get_is_refused_for_the_reason_for_which_a_handshake_would_be(self, start_server, path, status, reason):
        """Browsers hide the response to a handshake; the page asks with a GET."""
        with start_server(faults=True).connect() as peer:
            response = peer.request(path)
            assert response.status == status
            assert reason in response.text
            assert peer.request("/faults?format=json").status == 200

    def test_a_get_of_a_fault_names_the_option_if_there_are_none(self, server):
        with server.connect() as peer:
            response = peer.request("/faults/close")
            assert response.status == 404
            assert "start it with --faults" in response.text

    def test_an_unknown_path_says_that_a_websocket_client_may_connect(self, server):
        """With the catch-all, WebSocket clients may connect to any path."""
        with server.connect() as peer:
            assert "WebSocket client may connect" in peer.request("/anything").text

    def test_without_the_catch_all_an_unknown_path_is_a_404_without_that_hint(self, start_server):
        with start_server(catch_all="off").connect() as peer:
            response = peer.request("/anything")
            assert response.status == 404
            assert "WebSocket" not in response.text


class HostilePathTests:
    """Paths that are made to break servers."""

    def test_the_list_has_at_least_fifty_different_paths(self):
        assert len(set(HOSTILE_PATHS)) >= 50

    @pytest.mark.parametrize("path", HOSTILE_PATHS, ids=lambda path: path[:40])
    def test_get_is_a_short_plain_400_or_404_without_details_of_the_machine(self, server, path):
        """The server serves the next client."""
        with server.connect() as peer:
            peer.send(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode("latin-1"))
            response = peer.read_response()
            assert response.status in (400, 404)
            assert response.header("content-type") == "text/plain; charset=utf-8"
            assert response.header("x-content-type-options") == "nosniff"
            assert response.header("x-evil") is None
            assert response.header("server") is None
            assert not re.search(r"Traceback|site-packages|root:|\.py\b|[Tt]wisted|[Aa]utobahn", response.text)
            assert len(response.body) < 1000
        assert server.serves_the_next()

    @pytest.mark.parametrize("path", HOSTILE_PATHS, ids=lambda path: path[:40])
    def test_a_handshake_without_the_catch_all_is_400_or_404(self, start_server, path):
        """A path that consists only of slashes is the root path, and is accepted."""
        server = start_server(catch_all="off")
        with server.connect() as peer:
            peer.send(handshake_request(path))
            # "//" and the like are the root.
            assert peer.read_response().status in ((101,) if not path.strip("/") else (400, 404))
        assert server.serves_the_next()


class NoVersionTests:
    """Responses do not identify the software, so that an attacker cannot look up its weaknesses."""

    @pytest.mark.parametrize(
        "request_bytes",
        [
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET /missing HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET /ws HTTP/1.1\r\nHost: a\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
            b"nonsense\r\n\r\n",
            handshake_request("/echo"),
            handshake_request("/echo", "Origin: http://evil.example"),
            handshake_request("/ticker?count=0"),
        ],
        ids=["page", "head", "missing", "426", "405", "400", "101", "403", "denied"],
    )
    def test_no_response_has_a_server_header_or_names_the_software(self, server, request_bytes):
        with server.connect() as peer:
            peer.send(request_bytes)
            response = peer.read_response("HEAD" if request_bytes.startswith(b"HEAD") else "GET")
            assert response.header("server") is None
            assert response.header("x-powered-by") is None
            head = " ".join(f"{name}: {value}" for name, value in response.headers)
            assert not re.search(r"twisted|autobahn|python|wsserver/", head + response.text[:200], re.IGNORECASE)


class OriginTests:
    """The origins whose pages may connect."""

    @pytest.mark.parametrize(
        "origin",
        [
            "http://127.0.0.1",
            "http://localhost:3000",
            "https://localhost",
            "http://[::1]:8080",
            "http://app.localhost",
            "HTTP://LOCALHOST:80",
        ],
    )
    def test_a_server_on_loopback_accepts_origins_on_loopback(self, server, origin):
        with connect(f"{server.url}/echo", origin=origin, proxy=None) as client:
            client.send("hello")
            assert client.recv(timeout=15) == "hello"

    @pytest.mark.parametrize(
        "origin",
        [
            "https://evil.example",
            "http://127.0.0.1.evil.example",
            "http://localhost.evil.example",
            "http://evil-localhost",
            "http://localhost@evil.example",
            "null",
            "file://",
            "chrome-extension://abcdefgh",
            "ftp://localhost",
            "localhost",
            "",
            "http://localhost http://evil.example",
            "http://10.0.0.1",
            "http://0x7f.1",
        ],
    )
    def test_a_foreign_or_invalid_origin_is_403_with_the_reason(self, server, origin):
        """The body names --origin, or quotes the invalid header."""
        with server.connect() as peer:
            peer.send(handshake_request("/echo", f"Origin: {origin}"))
            response = peer.read_response()
            assert response.status == 403
            assert "--origin" in response.text or "invalid Origin header" in response.text
            assert peer.read_to_end() == b""
        assert server.serves_the_next()

    def test_the_websockets_client_can_read_which_origin_was_refused_and_the_option(self, server):
        with pytest.raises(InvalidStatus) as caught:
            connect(f"{server.url}/echo", origin="https://evil.example", proxy=None)
        assert caught.value.response.status_code == 403
        assert b"--origin" in caught.value.response.body
        assert b"https://evil.example" in caught.value.response.body

    def test_two_origin_headers_are_403_even_if_each_alone_is_allowed(self, server):
        with server.connect() as peer:
            peer.send(handshake_request("/echo", "Origin: http://localhost", "Origin: http://localhost"))
            assert peer.read_response().status == 403

    def test_origin_allows_exactly_the_named_origins(self, start_server):
        """The scheme's default port and the host's case do not matter."""
        server = start_server(origin=("https://app.example", "null"))
        for origin in ("https://app.example", "https://app.example:443", "https://APP.example", "null"):
            with server.connect() as peer:
                peer.handshake("/echo", f"Origin: {origin}")
        for origin in ("http://app.example", "https://app.example:444", "https://app.example.evil.example"):
            with server.connect() as peer:
                peer.send(handshake_request("/echo", f"Origin: {origin}"))
                assert peer.read_response().status == 403

    def test_allow_any_origin_insecure_accepts_a_foreign_origin(self, start_server):
        server = start_server(allow_any_origin_insecure=True)
        with server.connect() as peer:
            peer.handshake("/echo", "Origin: https://evil.example")

    def test_a_server_on_every_address_refuses_loopback_origins_and_accepts_its_own(self, start_server):
        """The server's own origin has the host and the port of the Host header."""
        server = start_server(interface="0.0.0.0")
        own = f"Host: chat.example:{server.port}"
        with server.connect() as peer:
            peer.send(handshake_request("/echo", own, "Origin: http://localhost:3000", without=["Host"]))
            assert peer.read_response().status == 403
        with server.connect() as peer:
            origin = f"Origin: http://chat.example:{server.port}"
            peer.send(handshake_request("/echo", own, origin, without=["Host"]))
            assert peer.read_response().status == 101

    def test_a_client_without_an_origin_header_is_accepted(self, server):
        assert server.serves_the_next()
