"""Centrifugo's official JavaScript SDK in a browser page, driven with the same orders as in Node."""

import json
import re
import signal
import time
from collections import deque
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from itertools import count
from queue import Empty

import pytest
from backend import Backend
from node import install_node_packages
from paths import DOCS
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError
from ports import free_port
from processes import is_ready, running_server, running_site, wait_until_ready
from redis_server import RedisServer
from sdk import DRIVER, SDK, SECRET, token
from waiting import TIMEOUT, wait_until

KEY = "a key for tests only"
JAVASCRIPT = re.findall(r"```js\n(.*?)```", (DOCS / "reference" / "centrifuge.md").read_text("utf-8"), re.DOTALL)
START = """([url, options]) => {
    window.lines = [];
    window.execute = drive(Centrifuge, url, options, (line) => lines.push(JSON.stringify(line)));
}"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Serve pages that load the SDK from another origin than the server's; yields the site's origin."""
    folder = tmp_path_factory.mktemp("site")
    bundles = install_node_packages() / "node_modules" / "centrifuge" / "dist"
    (folder / DRIVER.name).write_bytes(DRIVER.read_bytes())
    for page, bundle in (("json", "centrifuge.js"), ("protobuf", "centrifuge.protobuf.js")):
        (folder / bundle).write_bytes((bundles / bundle).read_bytes())
        (folder / f"{page}.html").write_text(
            '<!doctype html><title>SDK</title><link rel="icon" href="data:,">'
            f'<script src="{bundle}"></script><script src="sdk.js"></script>'
        )
    with running_site(folder) as origin:
        yield origin


@pytest.fixture
def open_sdk(site, open_browser_page):
    """
    Return a function that opens a page with one client; with `on_reconnect`, connections may fail.

    With another transport than `websocket`, the client tries a WebSocket first, as behind a proxy that blocks it. The
    protocol is JSON, unless the name of the transport ends with `-protobuf`.
    """

    def open_sdk(port, *, on_reconnect=False, transport="websocket", **options):
        page, complaints = open_browser_page()
        transport, _, protobuf = transport.partition("-")
        options["protobuf"] = bool(protobuf)
        if on_reconnect or transport != "websocket":
            complaints.allow("WebSocket connection to .* failed")
        if on_reconnect:
            complaints.allow("Failed to load resource: net::.*")
        page.goto(f"{site}/{protobuf or 'json'}.html")
        url = f"ws://127.0.0.1:{port}/connection/websocket"
        if transport != "websocket":
            endpoint = f"http://127.0.0.1:{port}/connection/{transport}"
            blocked = {"transport": "websocket", "endpoint": "ws://127.0.0.1:1/"}
            url = [blocked, {"transport": transport, "endpoint": endpoint}]
            options |= {"emulationEndpoint": f"http://127.0.0.1:{port}/emulation"}
        page.evaluate(START, [url, options])
        lines = deque()

        def receive():
            if not lines:
                try:
                    arrived = page.wait_for_function("lines.length ? lines.splice(0) : null", timeout=1000 * TIMEOUT)
                except PlaywrightTimeoutError:
                    raise Empty from None
                lines.extend(arrived.json_value())
            return json.loads(lines.popleft())

        return SDK(lambda order: page.evaluate("(order) => { execute(order); }", order), receive)

    return open_sdk


@pytest.fixture
def connect(open_sdk):
    """Return a function that opens a page with a connected client."""

    def connect(port, **options):
        sdk = open_sdk(port, **options)
        sdk.order("connect")
        connected = sdk.expect("connected")
        assert connected["transport"] == options.get("transport", "websocket").partition("-")[0]
        sdk.client = connected["client"]
        return sdk

    return connect


@pytest.fixture(params=["websocket", "websocket-protobuf", "http_stream", "http_stream-protobuf", "sse"])
def transport(request):
    """Return the name of a transport of the SDK, and of the protocol if it is not JSON."""
    return request.param


@contextmanager
def running(site, folder, *flags, port=0):
    """Run a server that allows the page's origin and has an API key; yields its port and its process."""
    port = port or free_port()
    folder.mkdir()
    with running_server(folder, port, "--origin", site, "--api-key", KEY, *flags) as process:
        wait_until_ready(port)
        yield port, process


@pytest.fixture(scope="module")
def server(site, tmp_path_factory):
    """Start a server that permits clients everything on every channel; yields its port."""
    folder = tmp_path_factory.mktemp("server") / "open"
    with running(site, folder, "--channel-publish", "*", "--channel-presence", "*") as (port, _):
        yield port


@pytest.fixture
def start(site, tmp_path):
    """Return a function whose result is a context manager: it runs a server until the block ends."""
    folders = (tmp_path / f"server-{number}" for number in count())
    return lambda *flags, **options: running(site, next(folders), *flags, **options)


@pytest.fixture
def durable_redis(tmp_path):
    """Start a Redis that writes each change to disk before it replies."""
    folder = tmp_path / "redis"
    folder.mkdir()
    redis = RedisServer(folder, appendonly="yes", appendfsync="always")
    redis.start()
    yield redis
    redis.kill()


def call_api(port, method, **parameters):
    """Call a server's HTTP API, as a backend does."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)) as connection:
        connection.request("POST", f"/api/{method}", json.dumps(parameters), {"X-API-Key": KEY})
        response = connection.getresponse()
        answer = json.load(response)
    assert response.status == 200, answer
    return answer


def publish(port, channel, *messages):
    """Publish messages through the HTTP API, as a backend does."""
    commands = [{"publish": {"channel": channel, "data": data}} for data in messages]
    replies = call_api(port, "batch", commands=commands)["replies"]
    assert all("publish" in reply for reply in replies), replies


def none_left(sdk, port, channel):
    """Publish one more message; return whether the next message that the client receives is this one."""
    publish(port, channel, "the last")
    return sdk.publications(1) == ["the last"]


class CommandTests:
    """Commands that the SDK in a page sends to the server."""

    def test_two_pages_exchange_values_history_and_presence(self, server, connect, transport):
        one, two = connect(server, transport=transport), connect(server, transport=transport)
        room = f"room {transport}"
        for sdk in (one, two):
            sdk.subscribe(room, joinLeave=True)
        assert {one.expect("join")["info"]["client"] for _ in range(2)} == {one.client, two.client}
        values = ["hello", "42", "zwei\nZeilen, 世界", 42, -1.5, None, [], {"a": {"b": [""]}}]
        for number, value in enumerate(values):
            assert (one, two)[number % 2].call("publish", channel=room, data=value) == {}
        for sdk in (one, two):
            assert sdk.publications(len(values)) == values
        page = two.call("history", channel=room, options={"limit": 2, "reverse": True})
        assert [(one["offset"], one["data"]) for one in page["publications"]] == [(8, values[7]), (7, values[6])]
        assert two.call("presence", channel=room)["clients"].keys() == {one.client, two.client}
        assert two.call("presenceStats", channel=room) == {"numClients": 2, "numUsers": 1}
        two.order("unsubscribe", channel=room)
        assert one.expect("leave")["info"]["client"] == two.client

    def test_a_thousand_messages_arrive_once_and_in_order_on_two_pages(self, server, connect, transport):
        """One page publishes half of the messages, and the backend publishes the other half."""
        one, two = connect(server, transport=transport), connect(server)
        order = f"order {transport}"
        for sdk in (one, two):
            sdk.subscribe(order)
        assert one.call("batch", channel=order, messages=list(range(500))) == 500
        publish(server, order, *range(500, 1000))
        for sdk in (one, two):
            assert sdk.publications(1000) == list(range(1000))
        assert none_left(one, server, order)

    def test_a_page_unsubscribed_by_the_server_recovers_when_it_subscribes_again(self, server, connect, transport):
        """The page receives no publication while it is unsubscribed."""
        sdk = connect(server, transport=transport)
        left = f"left {transport}"
        sdk.subscribe(left)
        assert call_api(server, "unsubscribe", channel=left, client=sdk.client)["result"]["clients"] == 1
        assert sdk.expect("unsubscribed", of="subscription")["code"] == 2000
        assert call_api(server, "publish", channel=left, data="missed")["result"]["delivered"] == 0
        assert sdk.subscribe(left)["recovered"] is True
        assert sdk.publications(1) == ["missed"]
        assert none_left(sdk, server, left)


class DeltaTests:
    """Publications that the page receives as deltas."""

    @pytest.mark.parametrize(
        "transport", ["websocket", "websocket-protobuf", "http_stream-protobuf", "sse"], indirect=True
    )
    def test_a_page_applies_deltas_also_after_a_recovery(self, start, connect, tmp_path, transport):
        config = tmp_path / "config.toml"
        config.write_text('[[channel]]\npattern = "*"\ndelta = "requested"\n')
        values = [{"prices": list(range(200)), "changed": f"{number} {chr(0x20AC + number)}"} for number in range(9)]

        def publish_deltas(port, some):
            for value in some:
                call_api(port, "publish", channel="c", data=value, delta=True)

        with start("--config", str(config)) as (port, _):
            sdk = connect(port, transport=transport)
            sdk.subscribe("c", delta="fossil")
            publish_deltas(port, values[:4])
            assert sdk.publications(4) == values[:4]
            call_api(port, "disconnect", user="", client=sdk.client, disconnect={"code": 3000, "reason": "again"})
            sdk.expect("connecting", code=3000)
            publish_deltas(port, values[4:7])
            assert sdk.expect("subscribed", of="subscription")["recovered"] is True
            publish_deltas(port, values[7:])
            assert sdk.publications(5) == values[4:]
            stats = sdk.call("deltaStats", channel="c")
            assert stats["numPublications"] == 9
            # Complete are the first one, and at most the first one recovered and the first one after that.
            assert stats["numDeltaPayloads"] >= 6
            sdk.order("disconnect")
            sdk.expect("disconnected")


class OneWayTests:
    """Pages without an SDK."""

    def test_the_documented_event_source_receives_publications_and_obeys_a_disconnect(self, server, open_browser_page):
        """The script is that of docs/reference/centrifuge.md."""
        page, _ = open_browser_page()
        printed = []
        page.on("console", lambda message: printed.append(message.text))
        page.goto(f"http://127.0.0.1:{server}/")
        [script] = [block for block in JAVASCRIPT if "uni_sse" in block]
        page.evaluate(f"() => {{ {script} window.source = source; }}")
        # Not with `wait_for_function`, which polls with `eval`: the page's policy forbids it.
        wait_until(lambda: page.evaluate("source.readyState === EventSource.OPEN"), "the stream is open")
        publish(server, "news", "hello")
        wait_until(lambda: page.wait_for_timeout(10) or printed, "the publication")
        assert printed == ["news hello"]
        clients = call_api(server, "connections")["result"]["connections"]
        [client] = [name for name, one in clients.items() if one["transport"] == "uni_sse"]
        call_api(server, "disconnect", client=client, disconnect={"code": 4500, "reason": "no"})
        wait_until(lambda: page.evaluate("source.readyState === EventSource.CLOSED"), "the stream is closed")


class TokenTests:
    """Pages that connect with tokens."""

    def test_connection_and_subscription_tokens_are_refreshed_without_reconnecting(self, start, open_sdk):
        with start("--token-secret", SECRET) as (port, _):
            sdk = open_sdk(port, asksForTokens=True)
            sdk.order("connect")
            sdk.order("subscribe", channel="c", options={"asksForTokens": True})
            requests = {"connection": 0, "subscription": 0}
            # The SDK asks for the next token only after the server has accepted the one before.
            while min(requests.values()) < 3:
                of = sdk.expect("token wanted")["of"]
                requests[of] += 1
                claims = {"channel": "c"} if of == "subscription" else {}
                sdk.order("token", token=token(2 if requests[of] < 3 else 600, **claims))
            publish(port, "c", "hello")
            assert sdk.publications(1) == ["hello"]
            happened = [event["event"] for event in sdk.events]
            assert sorted(happened) == ["connected", "connecting", "subscribed", "subscribing"]


class BackendTests:
    """Calls and messages of a page that a backend answers."""

    def test_the_backend_answers_calls_and_messages_in_order_and_publishes(self, start, connect):
        """It can recognize the page by its origin."""
        backend = Backend()
        backend.answer = lambda path, body: {
            "result": {"data": body["data"], "publish": [{"channel": "news", "data": body["data"]}]}
        }
        hooks = ("--hook-rpc", backend.url("/rpc"), "--hook-message", backend.url("/message"))
        with closing(backend), start(*hooks) as (port, _):
            sdk = connect(port)
            sdk.subscribe("news")
            calls = []
            for number in range(0, 20, 2):
                calls.append(sdk.order("rpc", method="echo", data={"n": number}))
                sdk.order("send", data={"n": number + 1})
            assert [sdk.answer(call)["data"]["n"] for call in calls] == [*range(0, 20, 2)]
            assert [one["n"] for one in sdk.publications(20)] == [*range(20)]
            assert [sdk.expect("message")["data"]["n"] for _ in range(10)] == [*range(1, 20, 2)]
            assert {headers["origin"].partition(":")[0] for _, headers, _ in backend.requests} == {"http"}
            backend.answer = lambda path, body: {"error": {"code": 404, "message": "no such method"}}
            assert sdk.call("rpc", method="m")["error"] == {"code": 404, "message": "no such method"}
            backend.answer = lambda path, body: {"disconnect": {"code": 4500, "reason": "banned"}}
            sdk.order("send", data=1)
            assert sdk.expect("disconnected")["code"] == 4500


class ReconnectionTests:
    """The page's connection is lost, and the SDK reconnects."""

    def test_a_page_learns_that_a_restart_without_redis_lost_its_stream(self, start, connect):
        """The page receives the publications made after the restart."""
        with start() as (port, _):
            sdk = connect(port, on_reconnect=True)
            sdk.subscribe("c")
            publish(port, "c", "before")
            assert sdk.publications(1) == ["before"]
        assert sdk.expect("connecting", code=3001)["reason"].startswith("shutdown")
        with start(port=port):
            again = sdk.expect("subscribed")
            assert (again["wasRecovering"], again["recovered"]) == (True, False)
            assert none_left(sdk, port, "c")

    def test_a_page_recovers_what_another_server_published_during_a_restart(
        self, start, connect, durable_redis, transport
    ):
        """Each publication arrives exactly once, and in order."""
        flags = ("--redis", durable_redis.url)
        with start(*flags) as (other, _):
            with start(*flags) as (port, _):
                sdk = connect(port, on_reconnect=True, transport=transport)
                sdk.subscribe("c")
                publish(other, "c", 0)
                assert sdk.publications(1) == [0]
            publish(other, "c", *range(1, 50))
            with start(*flags, port=port):
                again = sdk.expect("subscribed")
                assert (again["wasRecovering"], again["recovered"]) == (True, True)
                assert sdk.publications(49) == list(range(1, 50))
                assert none_left(sdk, other, "c")

    @pytest.mark.parametrize("late", [False, True])
    def test_a_page_recovers_what_was_published_after_a_restart_of_redis(self, start, connect, durable_redis, late):
        """Publications arrive once and in order, even if the page's server was suspended and reconnects later."""
        flags = ("--redis", durable_redis.url)
        with start(*flags) as (other, _), start(*flags) as (port, process):
            sdk = connect(port)
            sdk.subscribe("c")
            publish(other, "c", 0)
            assert sdk.publications(1) == [0]
            with frozen(process) if late else ExitStack():
                durable_redis.kill()
                wait_until(lambda: not is_ready(other), "the outage of Redis is noticed")
                durable_redis.start()
                wait_until_ready(other)
                publish(other, "c", *range(1, 50))
            assert sdk.publications(49) == list(range(1, 50))
            assert none_left(sdk, other, "c")
            assert all(event["recovered"] for event in sdk.events if event["event"] == "subscribed")
            assert not [event for event in sdk.events if event["event"] in ("disconnected", "unsubscribed")]

    def test_pages_recover_while_the_workers_are_restarted(self, start, connect, durable_redis):
        """With a fallback, a page's commands are requests of their own, which may reach another worker."""
        flags = ("--workers", "2", "--redis", durable_redis.url, "--channel-publish", "*")
        with start(*flags) as (port, process):
            sdks = [connect(port, on_reconnect=True, transport="sse") for _ in range(3)]
            sdks.append(connect(port, on_reconnect=True))
            for sdk in sdks:
                sdk.subscribe("c")
            for number, sdk in enumerate(sdks):
                sdk.call("publish", channel="c", data=number)
                assert [other.publications(1) for other in sdks] == [[number]] * len(sdks)
            process.send_signal(signal.SIGUSR2)
            for number in range(4, 24):
                publish(port, "c", number)
                time.sleep(0.1)
            assert [sdk.publications(20) for sdk in sdks] == [list(range(4, 24))] * len(sdks)
            assert all(event["recovered"] for sdk in sdks for event in sdk.events if event.get("wasRecovering"))


@contextmanager
def frozen(process):
    """Suspend a process for a block; its sockets stay open."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)
