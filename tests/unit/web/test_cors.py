"""Tests for wsserver/web/cors.py: which pages of other origins may read a response."""

import re

import pytest
from paths import DOCS

from wsserver.config.settings import Settings
from wsserver.testing import MemoryServer
from wsserver.wire.handshake import Policy

PAGE = DOCS / "how-to" / "cross-origin.md"
APP = "https://app.example"


def read_rows():
    """Return the table of the documentation, one tuple per row."""
    table = PAGE.read_text("utf-8").partition("| request | Origin |")[2].partition("\n\n")[0]
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in table.split("\n")[2:]]


def code(cell):
    """Return the text in back quotes; None if there is none."""
    found = re.search("`([^`]+)`", cell)
    return found[1] if found else None


def start(options=""):
    """Start a server that other hosts can reach, or with `--interface 127.0.0.1` one on loopback only."""
    words = options.split()
    flags = {"api_key": ["KEY"], "channel_allow": ["a"], "history_size": ["0"]}
    for word, value in zip(words, [*words, "--"][1:], strict=True):
        if word.startswith("--"):
            flags[word[2:].replace("-", "_")] = ["true" if value.startswith("--") else value]
    settings = Settings.load(flags)
    server = MemoryServer(settings)
    server.service.frontend.policy = Policy.of(settings, loopback_only="--interface" in words)
    return server


def send(server, method, target, origin=None, *lines, body=b""):
    """Send a request; return the status, the headers by lower-case name, and the rest."""
    client = server.connect()
    fields = ["Host: push.example", *([f"Origin: {origin}"] if origin is not None else []), *lines]
    if body:
        fields.append(f"Content-Length: {len(body)}")
    head = "\r\n".join([f"{method} {target} HTTP/1.1", *fields, "", ""])
    client.send(head.encode() + body)
    status, *answered = client.response().decode().split("\r\n")
    headers = [line.split(": ", 1) for line in answered if line]
    names = [name.lower() for name, _ in headers]
    assert len({name for name in names if name != "set-cookie"}) == len(names), "a header twice"
    return int(status.split()[1]), {name.lower(): value for name, value in headers}, bytes(client.transport.written)


PREFLIGHT = ("Access-Control-Request-Method: POST", "Access-Control-Request-Headers: x-api-key")
UPGRADE = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


class TableTests:
    """The table of docs/how-to/cross-origin.md."""

    def test_has_45_rows(self):
        """A fixed number of rows shows that the test parses the whole table."""
        assert len(read_rows()) == 45

    @pytest.mark.parametrize(("request_", "origin", "options", "status", "allowed", "credentials"), read_rows())
    def test_answers_each_row_as_documented(self, request_, origin, options, status, allowed, credentials):
        """The test compares the status, and whether a browser lets the page read the response."""
        lines, body = [], b""
        if request_.startswith("WebSocket"):
            method, target, lines = "GET", code(request_), list(UPGRADE)
        else:
            method, target = code(request_).split()
        if method == "OPTIONS":
            lines = list(PREFLIGHT)
        if method == "POST":
            body = b'{"channel":"a","data":1}'
        if "with KEY" in request_:
            lines.append("X-API-Key: KEY")
        got, headers, _ = send(start(code(options) or ""), method, target, code(origin), *lines, body=body)
        assert str(got) == status
        assert headers.get("access-control-allow-origin") == code(allowed)
        assert headers.get("access-control-allow-credentials", "") == credentials
        # The page is not shared with other origins, but compressed for browsers that accept it.
        vary = "Accept-Encoding" if target == "/" else "Origin"
        assert headers.get("vary") == (None if request_.startswith("WebSocket") else vary)


class PreflightTests:
    """`OPTIONS` with `Access-Control-Request-Method`."""

    def test_answers_204_with_the_method_and_headers_of_the_api(self):
        status, headers, rest = send(start(f"--api-origin {APP}"), "OPTIONS", "/api/publish", APP, *PREFLIGHT)
        assert (status, rest) == (204, b"")
        assert headers["access-control-allow-methods"] == "POST"
        assert headers["access-control-allow-headers"] == (
            "Authorization, Content-Type, X-API-Key, X-Centrifugo-Error-Mode"
        )
        assert headers["access-control-max-age"] == "7200"
        assert "content-length" not in headers
        assert "access-control-allow-private-network" not in headers

    def test_allows_the_headers_that_clients_of_event_streams_send(self):
        """These are the headers of docs/how-to/authentication.md and of EventSource polyfills."""
        lines = ("Access-Control-Request-Method: GET", "Access-Control-Request-Headers: authorization,last-event-id")
        status, headers, _ = send(start(f"--origin {APP}"), "OPTIONS", "/sse?channel=a", APP, *lines)
        assert (status, headers["access-control-allow-methods"]) == (204, "GET, HEAD")
        assert {"Authorization", "Last-Event-ID", "Cache-Control"} <= set(
            headers["access-control-allow-headers"].split(", ")
        )

    def test_allows_a_private_network_to_a_permitted_origin_only(self):
        """Chromium sends such a preflight request before a public page may reach a loopback server."""
        ask = "Access-Control-Request-Private-Network: true"
        _, headers, _ = send(start(f"--origin {APP}"), "OPTIONS", "/ready", APP, *PREFLIGHT, ask)
        assert headers["access-control-allow-private-network"] == "true"
        _, headers, _ = send(start(), "OPTIONS", "/ready", APP, *PREFLIGHT, ask)
        assert "access-control-allow-private-network" not in headers

    def test_keeps_the_connection_open_for_the_request_that_follows(self):
        client = start(f"--origin {APP}").connect()
        head = f"/ready HTTP/1.1\r\nHost: a\r\nOrigin: {APP}\r\n"
        client.send(f"OPTIONS {head}{PREFLIGHT[0]}\r\n\r\nGET {head}\r\n".encode())
        assert client.response().startswith(b"HTTP/1.1 204 ")
        assert client.response().startswith(b"HTTP/1.1 200 ")

    @pytest.mark.parametrize("lines", [(), (f"Origin: {APP}",), PREFLIGHT])
    def test_refuses_options_without_an_origin_or_a_requested_method_with_405(self, lines):
        assert send(start(f"--origin {APP}"), "OPTIONS", "/ready", None, *lines)[0] == 405


class RefusedOriginTests:
    """Help for the author of a page whose origin is refused."""

    @pytest.mark.parametrize(
        ("method", "target", "option"),
        [("GET", "/sse?channel=a", "--origin"), ("OPTIONS", "/api/info", "--api-origin")],
    )
    def test_gets_a_403_that_names_the_option_with_its_value(self, method, target, option):
        """The option is --origin or --api-origin, depending on the path."""
        status, _, rest = send(start(), method, target, APP, *PREFLIGHT)
        assert status == 403
        assert rest.decode().endswith(f"start the server with {option} {APP}\n")

    @pytest.mark.parametrize(
        ("method", "target", "option"),
        [("GET", "/sse?channel=a", "--origin"), ("OPTIONS", "/api/info", "--api-origin")],
    )
    def test_is_logged_with_the_option_and_its_value(self, method, target, option):
        """A browser tells the page, and its author, only that the request failed."""
        from twisted.logger import formatEvent, globalLogPublisher

        events = []
        globalLogPublisher.addObserver(events.append)
        try:
            send(start(), method, target, APP, *PREFLIGHT)
        finally:
            globalLogPublisher.removeObserver(events.append)
        [line] = [formatEvent(event) for event in events if event.get("log_namespace") == "wsserver.connection"]
        assert target.partition("?")[0] in line
        assert f'start the server with {option} {APP}" peer=' in line

    def test_is_refused_with_403_if_the_request_has_two_origins(self):
        server = start(f"--origin {APP} --api-origin {APP}")
        for target in ("/sse?channel=a", "/api/info"):
            assert send(server, "OPTIONS", target, APP, *PREFLIGHT)[0] == 204
            assert send(server, "OPTIONS", target, APP, f"Origin: {APP}", *PREFLIGHT)[0] == 403


class ErrorTests:
    """Error responses have the CORS headers, so that a page can read them."""

    def test_adds_the_headers_to_503_while_the_server_stops(self):
        """The page may read Retry-After, too."""
        server = start(f"--origin {APP}")
        server.service.frontend.stopping = True
        status, headers, _ = send(server, "POST", "/connection/http_stream", APP)
        assert (status, headers["access-control-allow-origin"], headers["vary"]) == (503, APP, "Origin")
        assert headers["access-control-expose-headers"] == "Retry-After, WWW-Authenticate"
        assert headers["retry-after"] == "1"

    def test_adds_the_headers_to_413_for_a_body_over_64_kib(self):
        server = start(f"--api-origin {APP}")
        status, headers, rest = send(server, "POST", "/api/publish", APP, body=b"x" * 65_537)
        assert (status, headers["access-control-allow-origin"]) == (413, APP)
        assert b"at most 65536" in rest

    def test_adds_the_headers_to_408_after_open_timeout(self):
        server = start(f"--api-origin {APP}")
        client = server.connect()
        client.send(f"POST /api/publish HTTP/1.1\r\nHost: a\r\nOrigin: {APP}\r\nContent-Length: 9\r\n\r\n".encode())
        server.clock.advance(11)
        head = client.response()
        assert head.startswith(b"HTTP/1.1 408 ")
        assert f"\r\nAccess-Control-Allow-Origin: {APP}".encode() in head

    def test_adds_the_headers_to_an_event_stream_while_the_server_stops(self):
        """Without the headers, an EventSource of a page of another origin would not reconnect."""
        server = start(f"--origin {APP}")
        server.service.frontend.stopping = True
        status, headers, rest = send(server, "GET", "/sse?channel=a", APP, "Accept: text/event-stream")
        assert (status, headers["access-control-allow-origin"]) == (200, APP)
        assert headers["access-control-allow-credentials"] == "true"
        assert b"retry: " in rest

    def test_adds_the_headers_to_500_of_a_failed_resource(self, monkeypatch):
        server = start(f"--origin {APP}")
        monkeypatch.setattr(type(server.service), "problem", None)
        server = start(f"--origin {APP}")
        status, headers, _ = send(server, "GET", "/ready", APP)
        assert (status, headers["access-control-allow-origin"]) == (500, APP)
