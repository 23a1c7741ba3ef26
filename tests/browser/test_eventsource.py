"""
EventSource clients reconnect automatically: those of Chromium and Firefox, a polyfill in both, and a package in Node.

Each client creates one EventSource, which must survive every case in which the server ends a stream or refuses it
temporarily. It recovers the missed events by the ID of the last event, or receives a gap notice.
"""

import json
import re
import subprocess
import threading
from contextlib import ExitStack, closing
from http.client import HTTPConnection

import pytest
from backend import Backend
from node import install_node_packages
from paths import DOCS
from peers import RawPeer
from ports import free_port
from processes import running_server, wait_until_ready
from redis_server import RedisServer
from waiting import wait_until

KEY = "a key for tests only"
LIMIT = 8
"""Maximum number of connections of the server."""

FOLLOW = re.search(r"```js\n(function follow.*?)```", (DOCS / "how-to/cross-origin.md").read_text("utf-8"), re.DOTALL)[
    1
]
EMPTY_PAGE = '<!doctype html><link rel="icon" href="data:,">'

LISTEN = """
const listen = (kind, url) => {
    const seen = { opened: 0, errors: 0, events: [] };
    const source = new kind(url);
    source.onopen = () => seen.opened++;
    source.onerror = () => seen.errors++;
    source.onmessage = (event) => seen.events.push(event.data);
    source.addEventListener("gap", () => seen.events.push("gap"));
    seen.source = source;
    return seen;
};
"""

IN_NODE = """
const { EventSource } = require("eventsource");
const seen = listen(EventSource, process.argv[1]);
setInterval(() => console.log(JSON.stringify({ ...seen, source: undefined })), 50);
process.stdin.on("end", () => process.exit()).resume();
"""


class PageClients:
    """Two streams in one page: the browser's own EventSource opens one, and the polyfill opens the other."""

    def __init__(self, browser, page, url):
        polyfill = install_node_packages() / "node_modules" / "event-source-polyfill" / "src" / "eventsource.js"
        page.evaluate(f"() => {{ {polyfill.read_text()} }}")
        kinds = f"{{ {browser}: listen(EventSource, url), polyfill_in_{browser}: listen(EventSourcePolyfill, url) }}"
        page.evaluate(f"(url) => {{ {LISTEN} window.seen = {kinds}; }}", url)
        self._page = page

    def __call__(self):
        """Return what the clients have seen."""
        names = "Object.entries(seen).map(([name, one]) => [name, { ...one, source: undefined }])"
        return self._page.evaluate(f"() => Object.fromEntries({names})")


class NodeClient:
    """A stream in a Node process."""

    def __init__(self, url, stack):
        folder = install_node_packages()
        command = ["node", "-e", LISTEN + IN_NODE, url]
        self._process = subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._seen = {"opened": 0, "errors": 0, "events": []}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        stack.callback(self._stop)

    def _read(self):
        for line in self._process.stdout:
            self._seen = json.loads(line)

    def _stop(self):
        self._process.stdin.close()
        self._process.wait(10)
        self._reader.join(10)
        self._process.stdout.close()

    def __call__(self):
        """Return what the client has seen."""
        return {"node": self._seen}


class Stage:
    """The clients, their server, and the Redis and the backend that the server depends on."""

    def __init__(self, tmp_path, page, firefox_page, stack):
        self._path, self._stack = tmp_path, stack
        self.port = free_port()
        (tmp_path / "redis").mkdir()
        self.redis = RedisServer(tmp_path / "redis", appendonly="yes", appendfsync="always")
        self.redis.start()
        stack.callback(self.redis.kill)
        self.backend = stack.enter_context(closing(Backend()))
        self._server = None
        self._starts = 0
        stack.callback(self.stop)
        self.start()
        wait_until_ready(self.port)
        self._open_page(page)
        firefox_page.goto_made(f"http://127.0.0.1:{self.port}/", EMPTY_PAGE)
        url = f"http://127.0.0.1:{self.port}/sse?channel=news&utm_source=test"
        self._clients = [
            PageClients("chromium", page, url),
            PageClients("firefox", firefox_page, url),
            NodeClient(url, stack),
        ]

    def _open_page(self, page):
        """
        Open an empty page of the server's origin without a request to the server.

        A page from the server would leave the browsers with up to six idle connections, accepted before the server
        reaches its limit. A stream that reconnects over one of them would, correctly, not be refused.
        """
        url = f"http://127.0.0.1:{self.port}/"
        page.route(url, lambda route: route.fulfill(body=EMPTY_PAGE, content_type="text/html"))
        page.goto(url)
        page.unroute(url)

    def start(self):
        """Start the server."""
        self._starts += 1
        folder = self._path / f"server{self._starts}"
        folder.mkdir()
        flags = ["--redis", self.redis.url, "--api-key", KEY, "--max-connections", str(LIMIT)]
        self._server = running_server(
            folder, self.port, *flags, "--hook-subscribe", self.backend.url("/subscribe"), "--hook-timeout", "0.3s"
        )
        self._server.__enter__()

    def stop(self):
        """Stop the server."""
        if self._server is not None:
            server, self._server = self._server, None
            server.__exit__(None, None, None)

    def call(self, method, **parameters):
        """Call the HTTP API."""
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=5)) as connection:
            return self.call_over(connection, method, **parameters)

    def call_over(self, connection, method, **parameters):
        """Call the HTTP API over a connection, which stays open."""
        connection.request("POST", f"/api/{method}", json.dumps(parameters), {"X-API-Key": KEY})
        response = connection.getresponse()
        assert response.status == 200, response.read()
        return json.load(response)["result"]

    def end_streams(self):
        """End every stream from the server's side."""
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=5)) as connection:
            self.end_streams_over(connection)

    def end_streams_over(self, connection):
        """End every stream from the server's side, with calls over a connection."""
        for client in self.call_over(connection, "connections")["connections"]:
            self.call_over(connection, "disconnect", user="", client=client)

    def fill(self, connection, stack):
        """
        End every stream, and use up the server's connections, until each client was refused.

        A client that reconnects before the connections are used up is not refused, so its stream is ended again.
        """
        before, ends = self.seen(), 0

        def try_again():
            nonlocal ends
            if self.call_over(connection, "connections")["connections"]:
                ends += 1
                self.end_streams_over(connection)
                for _ in range(LIMIT + 4):
                    stack.enter_context(RawPeer(self.port))
            # Each end, and each refusal, is an error.
            return all(seen["errors"] > before[name]["errors"] + ends for name, seen in self.seen().items())

        wait_until(try_again, "each client was refused")

    def seen(self):
        """Return what each client has seen: how often its stream opened, its errors, its events."""
        return {name: seen for clients in self._clients for name, seen in clients().items()}

    def wait(self, condition, what):
        """Wait until a condition is true for every client."""
        wait_until(
            lambda: all(condition(name, seen) for name, seen in self.seen().items()), lambda: f"{what}: {self.seen()}"
        )

    def wait_for_events(self, *events):
        """Wait until every client has received these events and no others."""
        self.wait(lambda _, seen: len(seen["events"]) >= len(events), f"each client has had {events}")
        assert all(seen["events"] == list(events) for seen in self.seen().values()), self.seen()

    def wait_for_refusals(self, before):
        """Wait until every client has lost its stream and was then refused at least once."""
        self.wait(lambda name, seen: seen["errors"] >= before[name]["errors"] + 2, "each client was refused")


@pytest.fixture
def stage(tmp_path, chromium, firefox):
    """Return a `Stage` whose clients are all connected."""
    with ExitStack() as stack:
        context = chromium.new_context()
        stack.callback(context.close)
        firefox_page = firefox.open_page()
        stack.callback(firefox_page.close)
        stage = Stage(tmp_path, context.new_page(), firefox_page, stack)
        stage.wait(lambda _, seen: seen["opened"] == 1, "each client is connected")
        yield stage


class SurvivalTests:
    """Each client creates its EventSource once; every later connection is an automatic reconnect."""

    def test_clients_recover_after_each_temporary_failure_and_learn_of_a_gap(self, stage):
        """The failures are too many connections, a restart while Redis is down, and a backend that does not answer."""
        stage.call("publish", channel="news", data="one")
        stage.wait_for_events("one")

        # The server has too many connections. This case is first: clients keep their connections after other refusals.
        with ExitStack() as stack:
            connection = stack.enter_context(closing(HTTPConnection("127.0.0.1", stage.port, timeout=5)))
            stage.fill(connection, stack)
            stage.call_over(connection, "publish", channel="news", data="two")
            assert all(seen["events"] == ["one"] for seen in stage.seen().values()), stage.seen()
        stage.wait_for_events("one", "two")

        # The server restarts while Redis is unavailable.
        before = stage.seen()
        stage.stop()
        stage.redis.kill()
        stage.start()
        stage.wait_for_refusals(before)
        stage.redis.start()
        wait_until_ready(stage.port)
        stage.call("publish", channel="news", data="three")
        stage.wait_for_events("one", "two", "three")

        # The backend does not answer.
        before = stage.seen()
        stage.backend.answer = lambda path, body: None
        stage.end_streams()
        stage.call("publish", channel="news", data="four")
        stage.wait_for_refusals(before)
        stage.backend.answer = lambda path, body: {"result": {}}
        stage.wait_for_events("one", "two", "three", "four")

        # The missed publication is lost, so the clients receive a notice of the gap.
        stage.end_streams()
        stage.redis.run("FLUSHALL")
        stage.call("publish", channel="news", data="lost")
        stage.wait_for_events("one", "two", "three", "four", "gap")
        stage.call("publish", channel="news", data="six")
        stage.wait_for_events("one", "two", "three", "four", "gap", "six")


class CrossOriginTests:
    """Pages of another origin."""

    def test_a_page_in_firefox_survives_a_restart_with_the_function_of_the_documentation(
        self, tmp_path, firefox, redis
    ):
        """Firefox itself gives up if it cannot connect."""
        port, starts = free_port(), []

        def start():
            starts.append(tmp_path / str(len(starts)))
            starts[-1].mkdir()
            flags = ("--origin", "null", "--api-key", KEY, "--redis", redis.url)
            return running_server(starts[-1], port, *flags)

        def publish(data):
            with closing(HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
                body = json.dumps({"channel": "news", "data": data})
                connection.request("POST", "/api/publish", body, {"X-API-Key": KEY})
                return connection.getresponse().status

        def seen():
            return page.evaluate("() => [events, source.readyState]")

        page = firefox.open_page()
        # Its origin is null.
        page.goto("about:blank")
        with start():
            wait_until_ready(port)
            page.evaluate(
                f"(url) => {{ {FOLLOW} window.source = new EventSource(url); window.events = []; "
                "follow(url, (event) => events.push(event.data)); }",
                f"http://127.0.0.1:{port}/sse?channel=news",
            )
            wait_until(lambda: page.evaluate("() => source.readyState") == 1, "the stream")
            wait_until(lambda: publish("one") == 200 and "one" in seen()[0], "the event")
        wait_until(lambda: seen()[1] == 2, "Firefox gives up")
        before = seen()[0]
        with start():
            wait_until_ready(port)
            assert publish("two") == 200
            wait_until(lambda: seen()[0] == [*before, "two"], lambda: f"the next event: {seen()}")
            assert seen()[1] == 2
        page.close()


class GapCloseTests:
    """`--gap close`: the server ends the stream instead of sending a notice."""

    def test_a_client_whose_position_is_lost_reconnects_once_more_and_then_receives(self, tmp_path, open_browser_page):
        """The server restarts without Redis, so the streams are lost. The client must not reconnect for ever."""
        port, starts = free_port(), []

        def start():
            starts.append(tmp_path / str(len(starts)))
            starts[-1].mkdir()
            return running_server(starts[-1], port, "--api-key", KEY, "--gap", "close")

        def publish(data):
            with closing(HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
                body = json.dumps({"channel": "news", "data": data})
                connection.request("POST", "/api/publish", body, {"X-API-Key": KEY})
                return json.load(connection.getresponse())["result"]["delivered"]

        with start():
            page, complaints = open_browser_page()
            complaints.allow("ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_CONNECTION_REFUSED")
            page.goto(f"http://127.0.0.1:{port}/")
            page.evaluate(f"(url) => {{ {LISTEN} window.seen = listen(EventSource, url); }}", "/sse?channel=news")
            wait_until(lambda: publish("one") == 1, "the client receives")
        with start():
            wait_until(lambda: page.evaluate("seen.opened") == 3, "the client has connected again, twice")
            wait_until(lambda: publish("two") == 1, "the client receives")
            wait_until(lambda: page.evaluate("seen.events.at(-1)") == "two", "the client has received")
            assert page.evaluate("seen.opened") == 3
