"""`/faults`, `/whoami` and `/.sse` over HTTP."""

import json
import re

import pytest

from wsserver.config.settings import Settings
from wsserver.endpoints.faults.table import TABLE
from wsserver.testing import MemoryServer

HTML = "Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n"


def fetch(target, headers="", method="GET", **settings):
    """Return the head and the body of a response."""
    server = MemoryServer(Settings(**settings))
    client = server.connect()
    client.send(f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode())
    head, _, body = bytes(client.transport.written).decode().partition("\r\n\r\n")
    return head, body


class FaultsTests:
    """`/faults`."""

    def test_lists_every_fault_as_json(self):
        head, body = fetch("/faults", faults=True)
        about = json.loads(body)
        assert "application/json" in head
        assert about["enabled"] is True
        assert [one["path"] for one in about["faults"]] == [f"/faults/{name}" for name in TABLE]

    def test_a_browser_gets_a_page_with_every_fault_and_no_inline_script_or_style(self):
        head, body = fetch("/faults", HTML, faults=True)
        assert "text/html" in head
        assert "default-src 'none'" in head
        assert re.findall(r'id="fault-([^"]+)"', body) == list(TABLE)
        assert re.findall(r"<script[^>]*>", body) == ['<script type="module" src="document.js">']
        assert not re.search(r"<style|style=|onclick", body)

    def test_a_browser_can_ask_for_json(self):
        assert json.loads(fetch("/faults?format=json", HTML, faults=True)[1])["enabled"] is True

    @pytest.mark.parametrize("accept", ["", HTML])
    def test_a_server_without_faults_answers_404_and_names_the_option(self, accept):
        head, body = fetch("/faults", accept)
        assert head.startswith("HTTP/1.1 404 ")
        assert "--faults" in body
        assert accept or json.loads(body)["enabled"] is False

    @pytest.mark.parametrize("page", ["/faults", "/case"])
    def test_a_slash_at_the_end_redirects_to_the_page(self, page):
        head, _ = fetch(f"{page}/", HTML, faults=True, cases=True)
        assert head.startswith("HTTP/1.1 308 ")
        assert f"Location: ..{page}\r\n" in head

    @pytest.mark.parametrize("path", ["/faults", "/whoami", "/.sse"])
    def test_refuses_other_methods(self, path):
        head, _ = fetch(path, "Content-Length: 0\r\n", method="POST", faults=True)
        assert head.startswith("HTTP/1.1 405 ")
        assert "Allow: GET, HEAD" in head

    @pytest.mark.parametrize("path", ["/faults", "/whoami", "/.sse"])
    def test_answers_head_without_a_body(self, path):
        head, body = fetch(path, method="HEAD", faults=True)
        assert head.startswith("HTTP/1.1 200 ")
        assert body == ""


class WhoAmITests:
    """`/whoami`."""

    def test_describes_the_request(self):
        _, body = fetch("/whoami?a=1&token=hush", "Cookie: a=hush\r\nX-One: 1\r\nX-One: 2\r\n")
        about = json.loads(body)
        assert "hush" not in body
        assert about["headers"] == [["host", "localhost"], ["cookie", "a=[secret]"], ["x-one", "1"], ["x-one", "2"]]
        assert (about["address"], about["peer"]) == ("127.0.0.1:50000", "127.0.0.1:50000")
        assert (about["path"], about["query"], about["tls"]) == ("/whoami", {"a": ["1"], "token": ["[secret]"]}, None)


class EchoStreamTests:
    """`/.sse`."""

    def open(self):
        server = MemoryServer(Settings())
        client = server.connect()
        client.send(b"GET /.sse?a=1 HTTP/1.1\r\nHost: localhost\r\nCookie: a=hush\r\n\r\n")
        return server, client

    def test_sends_the_request_then_the_time_each_second(self):
        server, client = self.open()
        server.clock.pump([1.01] * 2)
        text = bytes(client.transport.written).decode()
        assert re.findall("event: (.*)", text) == ["server", "request", "time", "time"]
        assert "data: GET /.sse HTTP/1.1\ndata: \ndata: host: localhost\ndata: cookie: a=[secret]\nid: 2\n\n" in text
        assert "data: 1970-01-01T00:00:01Z\nid: 3\n\n" in text

    def test_sends_no_times_while_the_client_does_not_read(self):
        server, client = self.open()
        client.transport._producer.pauseProducing()
        server.clock.pump([1.01] * 10)
        assert b"event: time" not in client.transport.written
        client.transport._producer.resumeProducing()
        server.clock.pump([1.01])
        assert bytes(client.transport.written).count(b"event: time") == 1

    def test_ends_when_the_client_leaves(self):
        server, client = self.open()
        client.transport.lose()
        server.clock.pump([1] * 40)
        assert server.clock.getDelayedCalls() == []
        assert len(server.service.connections.connections) == 0

    def test_ends_when_the_server_stops(self):
        server, client = self.open()
        stopped = []
        server.service.stopService().addCallback(stopped.append)
        assert client.transport.lost
        assert bytes(client.transport.written).endswith(b"0\r\n\r\n")
        server.clock.pump([1] * 5)
        assert stopped

    def test_counts_as_a_connection_of_its_client(self):
        server, _ = self.open()
        assert "/.sse" in server.service.frontend.long_lived


class PageTests:
    """`/.ws` over HTTP."""

    def test_is_the_page(self):
        assert fetch("/.ws")[1] == fetch("/")[1]
        assert "<!doctype html>" in fetch("/.ws")[1]
