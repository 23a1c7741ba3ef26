"""Publications from `redis-cli publish` reach a page."""

import json
import subprocess
from contextlib import closing

from backend import Backend
from ports import free_port
from processes import running_server, wait_until_ready
from waiting import wait_until

LISTEN = """() => {
    window.got = [];
    const socket = new WebSocket(location.origin.replace("http", "ws") + "/ws?channel=foo");
    socket.onmessage = (event) => got.push(["socket", event.data]);
    const source = new EventSource("/sse?channel=foo");
    source.onmessage = (event) => got.push(["events", event.data]);
    const open = (target) => new Promise((resolve, reject) => { target.onopen = resolve; target.onerror = reject; });
    return Promise.all([open(socket), open(source)]).then(() => true);
}"""

# Playwright's wait_for_function polls with eval, which the page's Content-Security-Policy forbids.
WAIT_FOR_FOUR = """() => new Promise((resolve, reject) => {
    const end = performance.now() + 10000;
    const check = () => {
        if (got.length >= 4) resolve(got);
        else if (performance.now() > end) reject(new Error(`only ${JSON.stringify(got)} arrived`));
        else setTimeout(check, 20);
    };
    check();
})"""


TALK = """() => new Promise((resolve, reject) => {
    const got = [];
    const socket = new WebSocket(location.origin.replace("http", "ws") + "/ws?channel=foo");
    socket.onopen = () => {
        for (let number = 0; number < 5; number++) socket.send(JSON.stringify({ number }));
        socket.send(new Uint8Array([255, 0]));
    };
    socket.onmessage = (event) => { got.push(event.data); if (got.length === 5) socket.close(); };
    socket.onclose = (event) => resolve([got, event.code]);
    setTimeout(() => reject(new Error(`only ${JSON.stringify(got)} arrived`)), 10000);
})"""


def cli(port, *words):
    """Run redis-cli; return its output."""
    return subprocess.run(["redis-cli", "-p", str(port), *words], capture_output=True, text=True, check=False).stdout


class PushTests:
    def test_a_page_receives_what_redis_cli_publishes_by_websocket_and_events(self, redis, tmp_path, open_browser_page):
        port = free_port()
        with running_server(tmp_path, port, "--redis", f"redis://127.0.0.1:{redis.port}"):
            wait_until_ready(port)
            page, _ = open_browser_page()
            page.goto(f"http://127.0.0.1:{port}/")
            assert page.evaluate(LISTEN)
            for text in ("hello", "grüße, 世界"):
                assert cli(redis.port, "publish", "foo", text) == "1\n"
            received = page.evaluate(WAIT_FOR_FOUR)
            assert len(received) == 4
            for kind in ("socket", "events"):
                assert [text for name, text in received if name == kind] == ["hello", "grüße, 世界"]

    def test_a_page_sends_messages_to_the_backend_over_a_plain_websocket(self, tmp_path, open_browser_page):
        """The backend publishes each text to the channel, and reads the binary message."""
        port, backend = free_port(), Backend()
        backend.answer = lambda path, body: {
            "result": {"publish": [{"channel": "foo", "data": body["data"]}]} if "data" in body else {}
        }
        flags = ("--hook-message", backend.url("/message"), "--hook-message-raw")
        with closing(backend), running_server(tmp_path, port, *flags):
            wait_until_ready(port)
            page, _ = open_browser_page()
            page.goto(f"http://127.0.0.1:{port}/")
            received, _ = page.evaluate(TALK)
            assert [json.loads(text) for text in received] == [{"number": number} for number in range(5)]
            wait_until(lambda: len(backend.requests) == 6, "the binary message")
            assert backend.requests[5][2]["b64data"] == "/wA="
