"""The page, the page for operators, and what a page can connect to, in Firefox."""

from collections import deque
from typing import Any

import pytest
from firefox import FirefoxPage
from http_api import KEY, ok
from node import install_node_packages
from peers import RawPeer
from person import EVERYTHING
from ports import free_port
from processes import running_server
from sdk import DRIVER, SDK
from server_process import Process
from waiting import wait_until

CONNECT = "#connect"

ASK_WHO = """() => new Promise((resolve, reject) => {
    const socket = new WebSocket(`wss://${location.host}/whoami`);
    socket.onmessage = ({ data }) => { resolve(JSON.parse(data)); socket.close(); };
    socket.onerror = reject;
})"""

ECHO = """(texts) => new Promise((resolve, reject) => {
    const socket = new WebSocket(`wss://${location.host}/echo`);
    const echoes = [];
    socket.onopen = () => texts.forEach((text) => socket.send(text));
    socket.onmessage = ({ data }) => {
        if (echoes.push(data) < texts.length) return;
        resolve(echoes);
        socket.close();
    };
    socket.onerror = reject;
})"""

LISTEN = """(path) => new Promise((resolve, reject) => {
    const source = new EventSource(path);
    const finish = (value) => { resolve(value); source.close(); };
    source.addEventListener('request', ({ data }) => finish(data));
    source.onerror = reject;
})"""
"""JavaScript that returns the data of the event `request` of an event stream."""

START = """([url, options]) => {
    window.lines = [];
    window.execute = drive(Centrifuge, url, options, (line) => lines.push(line));
}"""


class Server(Process):
    """A server with faults, the API, and compression."""

    def __init__(self) -> None:
        super().__init__("--faults", "--compression", "on", "--api-key", KEY, "--channel-allow", "*")

    @property
    def origin(self) -> str:
        """The origin of its page."""
        return f"http://127.0.0.1:{self.port}"

    def connect(self) -> RawPeer:
        """Open a connection."""
        return RawPeer(self.port)


@pytest.fixture(scope="module")
def server():
    process = Server()
    yield process
    process.close()


@pytest.fixture
def page(firefox):
    """Open an empty page; a complaint of the browser fails the test."""
    opened = firefox.open_page()
    yield opened
    complaints = opened.complaints()
    opened.close()
    assert complaints == []


@pytest.fixture
def inspector(page, server):
    """Open the page of the server."""
    page.goto(server.origin + "/")
    return Inspector(page)


class Inspector:
    """
    The server's page.

    Args:
        page: the browser page that shows it.
    """

    def __init__(self, page: FirefoxPage) -> None:
        self.page = page

    def connect_to(self, path: str) -> None:
        """Connect to a path of the server."""
        self.page.fill("#url", path)
        self.page.click(CONNECT)
        self.page.wait_for_text("#state-word", "Open")

    def say(self, text: str, kind: str = "text") -> None:
        """Send a message."""
        self.page.fill("#type", kind)
        self.page.fill("#message", text)
        self.page.press("Enter")

    def read(self, selector: str, *texts: str) -> None:
        """Wait for a row, choose it, and wait until the message is shown whole with these texts."""
        wait_until(lambda: self.page.text(selector), selector)
        self.page.click(selector)
        self.page.wait_for_text("#detail", *texts)


class PageTests:
    """Connect, send, receive, and look."""

    def test_sends_and_shows_text_json_and_bytes(self, inspector):
        inspector.connect_to("/echo")
        inspector.say("Grüße, 世界")
        inspector.read("#list .received", "received, text", "15 bytes", "Grüße, 世界")
        inspector.say('{"list": [1, 12345678901234567890], "no": null}', "json")
        inspector.page.wait_for_text("#counts", "2 sent · 2 received")
        inspector.read("#list .received:last-child", "list:", "2 items", "12345678901234567890", "no: null")
        inspector.say("de ad be ef", "hex")
        inspector.page.wait_for_text("#counts", "3 sent · 3 received")
        inspector.read("#list .received:last-child", "received, binary", "4 bytes")
        inspector.page.click("#tab-hex")
        inspector.page.wait_for_text("#detail-body", "de ad be ef")

    def test_filters_the_list(self, inspector):
        inspector.connect_to("/echo")
        inspector.say("apple")
        inspector.say("banana")
        inspector.page.wait_for_text("#counts", "2 sent · 2 received")
        inspector.page.fill("#search", "/^app/")
        inspector.page.wait_for_text("#counts", "2 of 6 shown")
        inspector.page.click("[data-show=sent]")
        inspector.page.wait_for_text("#counts", "1 of 6 shown")
        assert "banana" not in inspector.page.text("#list")

    def test_shows_the_close_code_of_a_fault_and_connects_again(self, inspector):
        """The fault is chosen in the panel."""
        inspector.page.wait_for_text("#faults-panel", "Faults")
        inspector.page.click("#faults-panel > summary")
        inspector.page.fill("#fault", "/faults/close")
        inspector.page.fill("#fault-code", "1012")
        inspector.page.wait_for_text("#fault-target", "/faults/close?code=1012")
        inspector.page.click("#fault-form button.primary")
        inspector.page.wait_for_text("#problem", "code 1012", "service restart")
        inspector.page.wait_for_text("#list", "Closed by the server, code 1012")
        inspector.page.click("#reconnect")
        inspector.page.click(CONNECT)
        inspector.page.wait_for_text("#state-word", "Retry in")
        wait_until(lambda: inspector.page.text("#list").count("Connected to") > 2, "another connection")
        inspector.page.click("#reconnect")

    def test_shows_the_wire_and_the_plots(self, inspector):
        inspector.connect_to("/echo")
        inspector.say("compressed " * 50)
        inspector.page.wait_for_text("#counts", "1 sent · 1 received")
        inspector.read("#list .sent", "sent, text", "550 bytes")
        wait_until(lambda: inspector.page.text("#tab-wire"), "the view of the wire")
        inspector.page.click("#tab-wire")
        inspector.page.wait_for_text("#detail-body", "Text frame from the client", "RSV1", "550 bytes")
        wait_until(lambda: inspector.page.text("#latency-p50") != "\u2013", "the time of an answer")
        painted = """() => [...document.querySelectorAll('#plots canvas')].map((canvas) => canvas.getContext('2d')
            .getImageData(0, 0, canvas.width, canvas.height).data.some((value) => value))"""
        wait_until(lambda: inspector.page.evaluate(painted) == [True] * 3, "the plots")

    def test_subscribes_to_a_channel_and_lists_a_publication(self, inspector, server):
        inspector.page.click("#channel-panel > summary")
        inspector.page.fill("#channel", "news")
        inspector.page.click("#subscribe")
        inspector.page.wait_for_text("#list", "Subscribed to news")
        assert ok(server, "publish", {"channel": "news", "data": {"n": 1}}) is not None
        inspector.page.wait_for_text("#list .received", "# news", '{"n": 1}')

    def test_speaks_chinese_when_the_user_chooses_so(self, inspector):
        inspector.page.click("#language")
        inspector.page.wait_for_text("#connect", "连接")
        inspector.page.reload()
        inspector.page.wait_for_text("#messages-title", "消息")
        assert inspector.page.evaluate("() => document.documentElement.lang") == "zh-CN"
        inspector.page.click("#language")
        inspector.page.wait_for_text("#connect", "Connect")


class AdminTests:
    """The page for operators."""

    def test_opens_with_the_key_and_shows_the_connections(self, page, server):
        with RawPeer(server.port) as peer:
            assert peer.handshake("/ws?channel=weather").status == 101
            page.goto(f"{server.origin}/admin")
            page.fill("#key", KEY)
            page.press("Enter")
            page.wait_for_text("#view-body", "weather")
            page.wait_for_text("[role=status]", "Live")
            page.click("#sign-out")


class TransportTests:
    """What a page in Firefox can connect to."""

    def test_websocket_events_and_api_work_over_tls(self, page, authority, tmp_path):
        own, port = authority.issue(tmp_path / "issued"), free_port()
        flags = ("--tls-cert", str(own.fullchain), "--tls-key", str(own.privkey), "--api-key", KEY)
        compression = ("--compression", "on", "--compression-context-takeover", "on", "--compression-window-bits", "12")
        (tmp_path / "server").mkdir()
        with running_server(tmp_path / "server", port, *flags, *compression):
            page.goto(f"https://localhost:{port}/whoami?format=json")
            assert page.evaluate(EVERYTHING, KEY) == ["hello", 200, "published"]
            seen = page.evaluate(ASK_WHO)
            assert (seen["tls"]["version"], seen["tls"]["alpn"]) == ("TLSv1.3", "http/1.1")
            assert seen["tls"]["server_name"] == "localhost"
            # Chromium also offers client_max_window_bits.
            assert seen["extensions_offered"] == [{"extension": "permessage-deflate"}]
            assert seen["extensions"][0].items() >= {"server_max_window_bits": 12, "client_max_window_bits": 15}.items()
            texts = ["a text that repeats itself, " * 40, "another one, which is about as long, " * 40] * 2
            assert page.evaluate(ECHO, texts) == texts
            page.goto("about:blank")

    def test_an_event_stream_without_a_channel_shows_the_request(self, page, server):
        page.goto(f"{server.origin}/whoami")
        assert "GET /.sse" in page.evaluate(LISTEN, "/.sse")

    @pytest.mark.parametrize(
        ("transport", "protocol"),
        [("websocket", "json"), ("websocket", "protobuf"), ("http_stream", "protobuf"), ("sse", "json")],
    )
    def test_the_sdk_of_centrifugo_subscribes_and_receives(self, page, server, transport, protocol):
        page.goto(f"{server.origin}/whoami")
        sdk = start_sdk(page, server.port, transport, protocol)
        sdk.order("connect")
        assert sdk.expect("connected")["transport"] == transport
        sdk.subscribe("news")
        ok(server, "publish", {"channel": "news", "data": {"n": 1}})
        assert sdk.publications(1) == [{"n": 1}]
        sdk.order("disconnect")
        sdk.expect("disconnected", of="client", code=0)
        # A library of the SDK tries WebAssembly, which the policy of the server's pages forbids, and does without it.
        assert all("wasm" in complaint for complaint in page.complaints())


def start_sdk(page: FirefoxPage, port: int, transport: str, protocol: str) -> SDK:
    """Create a client of the JavaScript SDK in a page."""
    bundles = install_node_packages() / "node_modules" / "centrifuge" / "dist"
    bundle = bundles / ("centrifuge.protobuf.js" if protocol == "protobuf" else "centrifuge.js")
    url = f"ws://127.0.0.1:{port}/connection/websocket"
    endpoints = [{"transport": transport, "endpoint": f"http://127.0.0.1:{port}/connection/{transport}"}]
    options = {"emulationEndpoint": f"http://127.0.0.1:{port}/emulation", "protobuf": protocol == "protobuf"}
    script = f"(given) => {{ {bundle.read_text('utf-8')}\n{DRIVER.read_text('utf-8')}\n({START})(given); }}"
    page.evaluate(script, [url if transport == "websocket" else endpoints, options])
    lines: deque[dict[str, Any]] = deque()

    def receive() -> dict[str, Any]:
        if not lines:
            wait_until(lambda: lines.extend(page.evaluate("() => lines.splice(0)")) or lines, "an event of the SDK")
        return lines.popleft()

    return SDK(lambda order: page.evaluate("(order) => { execute(order); }", order), receive)
