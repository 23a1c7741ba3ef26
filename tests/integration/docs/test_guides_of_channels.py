"""The guides about channels and hooks, and those that measure and examine: their blocks do what the pages say."""

import contextlib
import json
import re
import shlex
from urllib.parse import quote

import pytest
from guide import Guide, read_settings, replace_all, run_commands
from http_api import KEY, ok
from programs import running
from tokens import SECRET, token
from waiting import TIMEOUT, wait_until
from websockets.sync.client import connect

from wsserver.cli.main import main

HOOKS, CENTRIFUGE, CHANNELS = Guide("how-to/hooks"), Guide("reference/centrifuge"), Guide("reference/channels")
MEASURE, DIAGNOSE = Guide("how-to/measure-a-server"), Guide("how-to/diagnose-a-connection")

BEGIN = '{"client": "9336a229-2400-4ebc-8c50-0a643d22e8a0", "transport": "websocket", "protocol": '
"""The beginning of the bodies of two requests."""


def command(peer, number, **content):
    """Send a Centrifuge command; return its reply."""
    peer.send_frame(1, json.dumps({"id": number, **content}).encode())
    while True:
        for line in peer.read_message().splitlines():
            if (reply := json.loads(line)).get("id") == number:
                return reply


def bodies(backend, path):
    """Return the bodies of the requests to a path."""
    return [body for asked, _, body in backend.requests if asked == path]


def same(found, shown, *varying):
    """Return whether two objects are the same, apart from the values of some fields."""
    return {**found, **dict.fromkeys(varying)} == {**shown, **dict.fromkeys(varying)}


def make(directory):
    """Make a directory; return it."""
    directory.mkdir()
    return directory


class HookTests:
    """docs/how-to/hooks.md."""

    @pytest.fixture
    def start(self, start_server, backend):
        """Return a function that starts a server with hooks."""

        def start(*names, **options):
            hooks = {f"hook_{name}": f"http://127.0.0.1:{backend.port}/{name}" for name in names}
            return start_server(**hooks, channel_allow=("chat:*",), **options)

        return start

    def test_the_options_name_the_urls_of_the_backend(self):
        settings = read_settings("wsserver serve " + HOOKS.block("--hook-rpc"))
        assert (settings.hook_rpc, settings.hook_message) == (
            "http://127.0.0.1:3000/rpc",
            "http://127.0.0.1:3000/message",
        )

    def test_an_answer_to_a_call_may_contain_publications(self, start, backend):
        server = start("connect", "rpc")
        backend.answer = lambda path, body: (
            json.loads(HOOKS.block('{"result"')) if path == "/rpc" else {"result": {"user": "ada"}}
        )
        with server.open("/ws?channel=chat:index") as subscriber, server.open("/connection/websocket") as peer:
            command(peer, 1, connect={})
            assert command(peer, 2, rpc={"method": "add", "data": [1, 2]})["rpc"] == {"data": "sent"}
            assert json.loads(subscriber.read_message()) == {"text": "hello"}

    def test_a_message_of_a_plain_websocket_reaches_the_backend_as_shown(self, start, backend, tmp_path):
        server = start("connect", "message", "channel", hook_message_raw=True)
        backend.answer = lambda path, body: {"result": {"user": "ada"}} if path == "/connect" else {}
        script = replace_all(HOOKS.block("const socket"), {"wss://example.com": server.url})
        (tmp_path / "page.mjs").write_text(script)
        with running("node", "--experimental-websocket", "page.mjs", directory=tmp_path):
            wait_until(lambda: bodies(backend, "/message"), "the message")
            wait_until(lambda: bodies(backend, "/channel"), "the event")
        shown = json.loads(HOOKS.block(BEGIN + '"raw"'))
        assert same(bodies(backend, "/message")[0], shown, "client")
        [event], [expected] = bodies(backend, "/channel")[0]["events"], json.loads(HOOKS.block('{"events"'))["events"]
        assert same(event, expected, "time_ms")

    def test_a_request_about_a_client_has_the_fields_that_are_shown(self, start, backend):
        server = start("connect", "publish")
        backend.answer = lambda path, body: {"result": {"user": "42"}}
        with server.open("/connection/websocket") as peer:
            command(peer, 1, connect={})
            command(peer, 2, publish={"channel": "chat:index", "data": {"text": "hello"}})
        shown = json.loads(HOOKS.block(BEGIN + '"json"'))
        assert same(bodies(backend, "/publish")[0], shown, "client")


class CentrifugeTests:
    """docs/reference/centrifuge.md."""

    def test_both_commands_print_the_publication_as_shown(self, start_server, tmp_path):
        server = start_server(channel_allow=("news",))
        first, second = CENTRIFUGE.block("curl -N -d").replace("8080", str(server.port)).splitlines()
        shown = CENTRIFUGE.block('{"channel":"news"').strip()
        with (
            running("bash", "-c", f"exec {first}", directory=make(tmp_path / "lines")) as lines,
            running("bash", "-c", f"exec {second}", directory=make(tmp_path / "events")) as events,
        ):
            wait_until(lambda: server.ask(lambda: server.service.hub.counts().get("news")) == 2, "two subscribers")
            server.ask(lambda: server.service.hub.publish("news", "hello"))
            lines.wait_for(f"(?m)^{re.escape(shown)}$")
            events.wait_for(f"(?m)^data: {re.escape(shown)}$")

    def test_a_channel_of_the_table_begins_with_the_last_publication(self, serve, tmp_path):
        (tmp_path / "file.toml").write_text(CENTRIFUGE.block("[[channel]]"))
        server = serve(f"wsserver serve --config {tmp_path}/file.toml", channel_allow=("*",))
        for text in ("1", "2"):
            server.ask(lambda text=text: server.service.hub.publish("price:x", text))
        with connect(f"{server.url}/ws?channel=price:x", proxy=None) as client:
            assert client.recv(TIMEOUT) == "2"


class ChannelTests:
    """docs/reference/channels.md."""

    @pytest.fixture
    def start(self, serve, tmp_path):
        """Return a function that starts a server with a `[[channel]]` table of the page."""

        def start(pattern, **options):
            (tmp_path / "file.toml").write_text(CHANNELS.block(f'[[channel]]\npattern = "{pattern}"'))
            return serve(f"wsserver serve --config {tmp_path}/file.toml", **options)

        return start

    def test_a_filter_in_json_selects_publications(self, start):
        server = start("quotes", channel_allow=("*",), api_key=KEY)
        given = quote(json.dumps(json.loads(CHANNELS.block('{"op": "or"'))))
        with connect(f"{server.url}/ws?channel=quotes&filter={given}", proxy=None) as client:
            for data, tags in (
                ("DOGE 1", {"ticker": "DOGE", "price": "1"}),
                ("BTC 1", {"ticker": "BTC", "price": "1"}),
                ("DOGE 100", {"ticker": "DOGE", "price": "100"}),
            ):
                ok(server, "publish", {"channel": "quotes", "data": data, "tags": tags})
            assert [client.recv(TIMEOUT) for _ in range(2)] == ["BTC 1", "DOGE 100"]

    def test_a_subscription_to_a_channel_of_the_table_gets_deltas(self, start):
        server = start("prices:*", channel_allow=("*",))
        with server.open("/connection/websocket") as peer:
            command(peer, 1, connect={})
            assert command(peer, 2, subscribe={"channel": "prices:x", "delta": "fossil"})["subscribe"]["delta"]
            for number in (1, 2):
                data = json.dumps({"text": "x" * 200, "n": number})
                server.ask(lambda data=data: server.service.hub.publish("prices:x", data, json=True))
            pushed = "".join(peer.read_message() for _ in range(2))
            assert '"delta":true' in pushed

    def test_the_channels_of_the_table_have_presence_and_clients_may_publish(self, start):
        server = start("chat:*", channel_allow=("*",))
        with server.open("/connection/websocket") as peer:
            command(peer, 1, connect={})
            command(peer, 2, subscribe={"channel": "chat:x"})
            assert "error" not in command(peer, 3, publish={"channel": "chat:x", "data": 1})
            assert command(peer, 4, presence={"channel": "chat:x"})["presence"]["presence"]
            assert command(peer, 5, history={"channel": "chat:x", "limit": -1})["history"]["offset"] == 1

    def test_only_the_users_in_a_name_may_subscribe(self, start):
        server = start("dialog:*", token_secret=SECRET)
        for user, code in (("42", None), ("43", None), ("44", 103)):
            with server.open("/connection/websocket") as peer:
                command(peer, 1, connect={"token": token({"sub": user, "exp": 4_000_000_000})})
                reply = command(peer, 2, subscribe={"channel": "dialog:#42,43"})
                assert reply.get("error", {}).get("code") == code


class MeasureTests:
    """docs/how-to/measure-a-server.md, for a shorter time."""

    BRIEFLY = " --duration 0.3 --warmup 0.1"

    def test_a_rate_and_many_connections(self, server, tmp_path):
        text = MEASURE.block("wsserver bench ws://127.0.0.1:8080/echo --connections").rstrip()
        printed = run_commands(text.replace("8080", str(server.port)) + self.BRIEFLY, tmp_path)
        assert re.search(r"^replies: \d+, all correct", printed, re.MULTILINE)

    def test_deliveries_to_centrifuge_clients(self, serve, tmp_path):
        start, bench = MEASURE.block("wsserver serve --channel-publish").splitlines()
        server = serve(start)
        printed = run_commands(bench.replace("8080", str(server.port)) + self.BRIEFLY, tmp_path)
        assert re.search(r"^deliveries: \d+", printed, re.MULTILINE), printed


def test_doctor_examines_a_channel_a_timeout_a_token_an_origin_and_an_authority(
    start_server, issued, authority, tmp_path, monkeypatch, capsys
):
    """docs/how-to/diagnose-a-connection.md; at a server with TLS of this machine, and with a shorter `--wait`."""
    files = issued["ECDSA"]
    options = {"tls_cert": str(files.fullchain), "tls_key": str(files.privkey), "channel_allow": ("*",)}
    open_port = start_server(**options, origin=("https://www.example.com",)).port
    closed_port = start_server(**options, token_secret=SECRET).port
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.root))
    with_token, with_origin, with_ca = DIAGNOSE.block("WSSERVER_TOKEN=").splitlines()

    def place(line, port):
        line = re.sub(r"wss://[\w.]+", f"wss://localhost:{port}", line).rstrip()
        return line.replace("--wait 70s", "--wait 1s") if "--wait" in line else f"{line} --wait 0"

    def examine(line):
        with contextlib.suppress(SystemExit):
            main(shlex.split(place(line, open_port))[1:])
        return capsys.readouterr().out

    environ = {"SSL_CERT_FILE": str(authority.root), "WSSERVER_TOKEN_SECRET": SECRET}
    channel = examine(DIAGNOSE.block("wsserver doctor wss://push.example.com"))
    wait = examine(DIAGNOSE.block("wsserver doctor wss://example.com"))
    token_report = run_commands(place(with_token, closed_port), tmp_path, environ)
    origin = examine(with_origin)
    trusted = examine(with_ca.replace("company-root.pem", str(authority.root)))
    for report in (channel, wait, token_report, origin, trusted):
        assert not re.findall(r"^fail.*", report, re.MULTILINE)
    assert "ok    sse" in channel
    assert "open after 1 s" in wait
    assert "ok    token" in token_report
    assert "pages of https://www.example.com may connect" in origin
    assert "tls          TLS" in trusted
