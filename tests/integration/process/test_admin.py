"""The admin endpoint of a server process: metrics, probes and API on a port of their own, also with several workers."""

import json
import re
import signal
from contextlib import closing

import pytest
from peers import RawPeer
from prometheus_client.parser import text_string_to_metric_families as parse_text
from server_process import Process, serve_command
from waiting import wait_until

pytestmark = pytest.mark.kernel

KEY = "X-API-Key: secret"
ADMIN = ("--admin-listen", "tcp:0:interface=127.0.0.1", "--metrics", "on", "--api-key", "secret")


@pytest.fixture
def serve():
    """Return a function that starts a server process, and returns it and its admin port."""
    started = []

    def serve(*options):
        process = Process(*options)
        started.append(process)
        pattern = re.compile(r"admin endpoint at 127\.0\.0\.1:([0-9]+)")
        process.wait_or_close(lambda: pattern.search(process.read_log()), "its admin port")
        return process, int(pattern.search(process.read_log())[1])

    yield serve
    for process in started:
        process.close()


def get(port, path, *headers):
    """Return the status and the text of a response."""
    with RawPeer(port) as peer:
        response = peer.request(path, *headers)
        return response.status, response.text


def call(port, method, body="{}"):
    """Call the API with the key."""
    with RawPeer(port) as peer:
        head = f"POST /api/{method} HTTP/1.1\r\nHost: a\r\n{KEY}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        peer.send(head.encode())
        return peer.read_response()


def samples(text):
    """Return the samples of a page of metrics: name and labels -> value."""
    families = parse_text(text)
    return {(one.name, *sorted(one.labels.values())): one.value for family in families for one in family.samples}


class AdminTests:
    """One process."""

    def test_its_paths_are_on_the_admin_endpoint_and_are_404_on_the_public_port(self, serve):
        process, admin = serve(*ADMIN)
        for path in ("/metrics", "/ready", "/health"):
            assert get(admin, path)[0] == 200
            status, text = get(process.port, path, KEY)
            assert status == 404
            assert "--admin-listen" in text
        assert call(admin, "info").status == 200
        assert call(process.port, "info").status == 404
        assert get(admin, "/")[0] == 404
        upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
        assert get(admin, "/echo", *upgrade, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")[0] == 404
        with RawPeer(process.port) as peer:
            peer.handshake("/echo")
            assert peer.echoes()

    def test_the_page_for_operators_is_on_the_admin_endpoint_and_is_404_on_the_public_port(self, serve):
        process, admin = serve(*ADMIN)
        status, text = get(admin, "/admin")
        assert (status, "admin/main.js" in text) == (200, True)
        for path in ("/admin/main.js", "/admin/admin.css", "/style.css", "/favicon.svg"):
            assert get(admin, path)[0] == 200
        assert json.loads(get(admin, "/server.json")[1])["api"] == "key"
        for path in ("/admin", "/admin/", "/admin/main.js"):
            assert get(process.port, path)[0] == 404
        assert "--admin-listen" in get(process.port, "/admin")[1]
        assert json.loads(get(process.port, "/server.json")[1])["api"] == "off"

    def test_the_api_needs_the_key_on_the_admin_endpoint_too(self, serve):
        _, admin = serve(*ADMIN)
        with RawPeer(admin) as peer:
            peer.send(b"POST /api/info HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}")
            assert peer.read_response().status == 401

    def test_it_answers_while_the_public_port_is_full(self, serve):
        process, admin = serve(*ADMIN, "--max-connections", "1")
        with RawPeer(process.port) as first:
            first.handshake("/echo")
            others = [RawPeer(process.port) for _ in range(40)]
            status, text = get(admin, "/metrics")
            assert status == 200
            assert samples(text)["wsserver_connections", "websocket"] == 1
            assert get(admin, "/health") == (200, "alive\n")
            for one in others:
                one.__exit__(None, None, None)

    def test_a_reload_changes_its_limits_too(self, serve, tmp_path):
        file = tmp_path / "wsserver.toml"
        file.write_text('max_request_body = "1KiB"\n')
        process, admin = serve(*ADMIN, "--config", str(file))
        body = json.dumps({"channel": "a", "data": "x" * 5000})
        assert call(admin, "publish", body).status == 413
        file.write_text('max_request_body = "1MiB"\n')
        process.process.send_signal(signal.SIGHUP)
        wait_until(lambda: call(admin, "publish", body).status == 200, "a larger body accepted")

    def test_open_files_are_reserved_for_its_connections(self):
        command = ["prlimit", "--nofile=700:700", "--", *serve_command()]
        with closing(Process(*ADMIN, command=command)) as server:
            assert "connection limit lowered limit=316 " in server.read_log()

    def test_it_reports_the_drain_until_its_end(self, serve):
        process, admin = serve(*ADMIN, "--drain-timeout", "20s", "--close-timeout", "20s")
        with RawPeer(process.port) as peer:
            peer.handshake("/echo")
            process.process.send_signal(signal.SIGTERM)
            wait_until(lambda: get(admin, "/ready")[0] == 503, "the server is not ready")
            assert samples(get(admin, "/metrics")[1])["wsserver_ready",] == 0
            assert get(admin, "/health")[0] == 200
            peer.reset()
        # twistd ends by the signal that it has received.
        assert process.process.wait(20) == -signal.SIGTERM


class WorkersTests:
    """Several processes: each request for the metrics returns those of all of them."""

    def test_a_scrape_returns_the_metrics_of_all_workers(self, serve):
        process, admin = serve(*ADMIN, "--workers", "2")
        wait_until(lambda: get(admin, "/health")[0] == 200, "a worker answers")
        peers = [RawPeer(process.port) for _ in range(12)]
        for peer in peers:
            peer.handshake("/echo")
            assert peer.echoes()
        found = samples(get(admin, "/metrics")[1])
        assert found["wsserver_workers",] == 2
        messages = [found["wsserver_messages_received_total", number, "websocket"] for number in ("1", "2")]
        assert sum(messages) == 12
        assert found["wsserver_connections", "1", "websocket"] + found["wsserver_connections", "2", "websocket"] == 12
        for peer in peers:
            peer.__exit__(None, None, None)

    def test_the_metrics_of_the_workers_are_valid_json_numbers(self, serve):
        """They are sent from worker to worker as JSON, which has no infinity."""
        _, admin = serve(*ADMIN, "--workers", "2")
        wait_until(lambda: get(admin, "/health")[0] == 200, "a worker answers")
        text = get(admin, "/metrics")[1]
        json.dumps(list(samples(text).values()), allow_nan=False)
        families = [family.name for family in parse_text(text)]
        assert len(families) == len(set(families))
