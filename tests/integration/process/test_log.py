"""The log of a server process that uses most features: no secret, no line of a framework, no line for a poll."""

import json
import re
import signal
from contextlib import closing

import pytest
from backend import Backend
from peers import RawPeer
from server_process import Process

pytestmark = pytest.mark.kernel

SECRETS = ("s3cret-key", "s3cret-token", "s3cret-cookie", "s3cret-bearer", "s3cret-password", "s3cret-protocol")
KEY, TOKEN, COOKIE, BEARER, PASSWORD, PROTOCOL = SECRETS

NOISE = re.compile(r"[Ff]actory|HTTP11|Unhandled|Traceback|Port .* Closed|<function|twisted\.web", re.ASCII)
"""What Twisted and Autobahn log about themselves."""

HEADERS = (
    f"Cookie: session={COOKIE}; name=\xc5",
    f"X-API-Key: {KEY}\x85",
    f"X-API-Key: {KEY}",
    f"Authorization: Bearer {BEARER}",
    f"Authorization: Basic {BEARER}\x85",
    f"Sec-WebSocket-Protocol: bearer.{PROTOCOL}",
    f"Sec-WebSocket-Protocol: {PROTOCOL} x",
    f"Origin: https://user:{PASSWORD}@evil.example",
)

PATHS = (
    "/",
    "/echo",
    "/ws?channel=foo",
    "/sse?channel=foo",
    "/connection/websocket",
    "/connection/sse",
    "/connection/uni_sse",
    "/connection/http_stream",
    "/emulation",
    "/api/publish",
    "/api/rejects",
    "/metrics",
    "/ready",
    "/nothing",
    "/ticker",
)


@pytest.fixture(params=["text", "json"])
def process(request):
    """Run a server with an API key, tokens, metrics, hooks and all log levels."""
    backend = Backend()
    hooks = [
        f"--hook-{event}={backend.url()}" for event in ("connect", "subscribe", "publish", "disconnect", "channel")
    ]
    options = [f"--api-key={KEY}", f"--token-secret={PASSWORD * 3}", "--channel-allow=*", "--metrics=on"]
    process = Process(*options, *hooks, "--log-level=debug", "--log-max-rate=0", f"--log-format={request.param}")
    yield process
    process.close()
    backend.close()


def send(port, path, *headers, method="GET", body="", read=RawPeer._receive):
    """Send a request on a connection of its own, and return what `read` returns: it waits for the first bytes."""
    lines = "".join(f"{line}\r\n" for line in headers)
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {len(body)}\r\n{lines}\r\n{body}"
    with RawPeer(port) as peer:
        peer.send(head.encode("latin-1"))
        return read(peer)


def ask_everything(port):
    """Send requests with secrets to every path: in the query, in headers, valid and invalid."""
    upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    for path in PATHS:
        query = f"{path}{'&' if '?' in path else '?'}token={TOKEN}&cf_connect={TOKEN}"
        for header in HEADERS:
            send(port, query, header)
            send(port, query, header, *upgrade, key)
            send(port, query, header, "Content-Type: application/json", method="POST", body=f'{{"token": "{TOKEN}"}}')


def test_no_secret_no_framework_and_no_poll_is_logged(process):
    ask_everything(process.port)
    for path in ("/ready", "/health", "/metrics") * 5:
        assert send(process.port, path, f"X-API-Key: {KEY}", read=RawPeer.read_response).status == 200
    key = f"X-API-Key: {KEY}"
    response = send(process.port, "/api/rejects", key, method="POST", body="{}", read=RawPeer.read_response)
    rejects = response.body.decode()
    assert len(json.loads(rejects)["result"]["rejects"]) > 10
    process.process.send_signal(signal.SIGTERM)
    process.process.wait(20)
    log = process.read_log()
    assert log.count("connection refused") > 50
    for secret in SECRETS:
        assert secret not in log
        assert secret not in rejects
    wrong = [line for line in log.splitlines() if NOISE.search(line)]
    assert not wrong
    polls = [line for line in log.splitlines() if re.search(r"GET /(ready|health|metrics) 200", line)]
    # The first answer of each probe is logged.
    assert len(polls) == 2


def test_the_pages_for_testing_clients_are_named_when_the_server_starts():
    with closing(Process("--faults", "--cases")) as server:
        server.wait_or_close(lambda: "/case" in server.read_log(), "the last line of the start")
        log = server.read_log()
        assert f"the faults are listed at http://127.0.0.1:{server.port}/faults\n" in log
        assert f"the conformance cases are listed at http://127.0.0.1:{server.port}/case\n" in log
