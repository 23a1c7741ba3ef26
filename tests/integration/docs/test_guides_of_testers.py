"""The guides for testing clients: their commands run, and print what the pages show."""

import contextlib
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

from guide import Guide, replace_all, run_commands
from paths import DOCS
from peers import CLOSE, TEXT, close_payload, handshake_request
from ports import free_port
from programs import running
from twisted.internet import reactor
from waiting import TIMEOUT, wait_until
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from wsserver.config.settings import Settings
from wsserver.endpoints.cases.catalog import CASES
from wsserver.endpoints.faults.table import TABLE
from wsserver.service import WebSocketService

CLIENT, FAULTS, REPLAY = Guide("how-to/test-a-client"), Guide("reference/faults"), Guide("how-to/record-and-replay")
TAP, WHOAMI = Guide("reference/tap"), Guide("reference/whoami")


def receive(url, *sent, count=None, **options):
    """
    Connect, and send messages; return the messages of the server, and the close code.

    Without `count`, the server closes; with it, the client closes with 4000 after so many messages.
    """
    messages = []
    with connect(url, proxy=None, **options) as client, contextlib.suppress(ConnectionClosed):
        for message in sent:
            client.send(message)
        while len(messages) != count:
            messages.append(client.recv(TIMEOUT))
        client.close(4000)
    return messages, client.close_code


class TestAClientTests:
    """docs/how-to/test-a-client.md."""

    def test_the_paths_without_options_do_what_the_table_says(self, serve):
        server = serve(CLIENT.block("wsserver serve\n"))
        [ticker] = re.findall(r"`(/ticker\?\S+)`", (DOCS / "how-to/test-a-client.md").read_text("utf-8"))
        url = server.url
        assert receive(f"{url}/echo", "grüße", b"\x00", count=2) == (["grüße", b"\x00"], 4000)
        assert receive(url + ticker.replace("1s", "10ms")) == (["tick 1", "tick 2", "tick 3"], 1000)
        [hello], _ = receive(f"{url}/", "hello", count=1)
        assert re.fullmatch(r"Hello, 127\.0\.0\.1:\d+!", hello)
        assert receive(f"{url}/", "bye") == (["Goodbye!"], 1000)
        assert json.loads(receive(f"{url}/whoami", count=1)[0][0])["path"] == "/whoami"
        assert receive(f"{url}/any/path", "hello", count=1)[0]
        for data, code in ((b"\x81\x01x", 1002), (b"\x81\x81\0\0\0\0\xff", 1007)):
            with server.open("/echo") as peer:
                peer.send(data)
                assert peer.read_close().close_code == code

    def test_every_fault_that_the_guide_names_answers_the_handshake(self, serve):
        server = serve(CLIENT.block("wsserver serve --faults"))
        page = (DOCS / "how-to/test-a-client.md").read_text("utf-8")
        targets = re.findall(r"`(/faults/\S+)`", page)
        assert len(targets) > 25
        for target in targets:
            with server.connect() as peer:
                peer.send(handshake_request(target))
                wait_until(lambda target=target: fault_of(target) in server.service.connections.counters.faults, target)
        # A path or a parameter that does not exist would be refused.
        assert server.service.connections.counters.faults == Counter(map(fault_of, targets))


def fault_of(target):
    """Return the name of the fault in a URL."""
    return re.split("[/?]", target)[2]


class FaultTests:
    """docs/reference/faults.md."""

    def test_the_server_of_the_page_lists_its_faults(self, serve, tmp_path):
        start, curl = FAULTS.block("wsserver serve --faults").splitlines()
        server = serve(start)
        listed = json.loads(run_commands(curl.replace("8080", str(server.port)), tmp_path))
        assert {one["name"] for one in listed["faults"]} == set(TABLE)

    def test_an_application_serves_a_fault_at_a_path_of_its_own(self, server):
        made = []

        def run():
            names = {"settings": Settings(port=0), "reactor": reactor}
            names["WebSocketService"] = lambda *given, **named: made.append(WebSocketService(*given, **named))
            exec(FAULTS.block("from wsserver.endpoints.faults import make_fault"), names)
            made[0].startService()
            return made[0].ports[0].getHost().port

        port = server.ask(run)
        try:
            assert receive(f"ws://127.0.0.1:{port}/chat", "1", "2", "3", "4")[1] == 1012
        finally:
            server.ask(made[0].stopService)


def test_a_recording_of_the_guide_is_replayed(serve, tmp_path):
    """docs/how-to/record-and-replay.md."""
    server = serve("wsserver serve")
    secret, client, curl = REPLAY.block("SECRET=").splitlines()
    target = re.search(r"127\.0\.0\.1:8080(/\S+tap=)\$SECRET", client)[1]
    chosen = run_commands(f"{secret}; echo $SECRET", tmp_path).strip()
    assert receive(server.url + target + chosen)[0] == ["tick 1", "tick 2", "tick 3"]
    run_commands(curl.replace("8080", str(server.port)), tmp_path, {"SECRET": chosen})
    port = free_port()
    command = replace_all(REPLAY.block("wsserver replay"), {"9000": port}).split()
    with running(Path(sys.executable).with_name(command[0]), *command[1:], directory=tmp_path) as replay:
        url = replay.wait_for(r"ws://127\.0\.0\.1:\d+/ticker")[0]
        assert url == f"ws://127.0.0.1:{port}/ticker"
        assert receive(url) == (["tick 1", "tick 2", "tick 3"], 1000)


class TapTests:
    """docs/reference/tap.md."""

    def test_the_script_shows_the_frames_of_its_connection(self, serve, tmp_path):
        """In Node, where it gets a client that sends a message, as a page would."""
        server = serve("wsserver serve")
        script = TAP.block("const bytes").replace("8080", str(server.port)).replace("localhost", "127.0.0.1")
        script += "socket.addEventListener('open', () => socket.send('hello'))\n"
        flags = ["--experimental-eventsource", "--experimental-websocket", "--no-warnings"]
        (tmp_path / "tap.mjs").write_text(script)
        with running("node", *flags, "tap.mjs", directory=tmp_path) as node:
            node.wait_for(r"type: 'handshake',\s+direction: 'in'")
            node.wait_for(r"(?s)direction: 'out',\s+opcode: 1,.*text: 'hello'")

    def test_curl_reads_a_tap_with_the_headers_of_the_response(self, serve, tmp_path):
        server = serve("wsserver serve")
        with server.connect() as peer:
            response = peer.handshake("/echo")
            shown = dict(line.split(": ") for line in TAP.block("WSServer-Connection-Id:").splitlines())
            given = {name: response.header(name.lower()) for name in shown}
            parts = {"8080": server.port, "4b0f...": given["WSServer-Tap-Secret"]}
            parts[shown["WSServer-Connection-Id"]] = given["WSServer-Connection-Id"]
            command = replace_all(TAP.block("curl -N -H"), parts)
            with subprocess.Popen(["bash", "-c", f"exec {command}"], stdout=subprocess.PIPE, cwd=tmp_path) as curl:
                try:
                    wait_until(lambda: b"joined" in curl.stdout.readline(), "the tap joins")
                    peer.send_frame(TEXT, b"hello")
                    wait_until(lambda: b'"text":"hello"' in curl.stdout.readline(), "the frame")
                    peer.send_frame(CLOSE, close_payload(1000))
                    wait_until(lambda: b'"type":"end"' in curl.stdout.readline(), "the end")
                finally:
                    curl.kill()

    def test_the_events_are_those_that_the_page_shows(self, serve, tmp_path):
        server = serve("wsserver serve")
        shown = [json.loads(line) for line in TAP.block('{"id":3').splitlines()]
        secret = "ab" * 16
        receive(f"{server.url}/echo?tap={secret}", "hello", count=1, compression=None)
        lines = run_commands(f"curl -s http://127.0.0.1:{server.port}/tap/{secret}", tmp_path).splitlines()
        events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
        found = [event for event in events if event["type"] == "frame" and event["opcode"] == 1]
        varying = {"t": 0, "mask": None, "seconds": None}
        assert [{**event, **varying} for event in found] == [{**event, **varying} for event in shown]


def test_the_page_that_runs_the_cases_in_a_browser_is_served(serve):
    """docs/how-to/conformance.md."""
    server = serve(Guide("how-to/conformance").block("wsserver serve --cases"))
    with server.connect() as peer:
        assert peer.request("/conformance.html").status == 200
        assert json.loads(peer.request("/case/count").body) == {"count": len(CASES)}


def test_whoami_answers_over_http_and_through_tls(serve, issued, authority, tmp_path):
    """docs/reference/whoami.md; the second URL is that of a proxy."""
    files = issued["ECDSA"]
    plain = serve("wsserver serve")
    secure = serve("wsserver serve", tls_cert=str(files.fullchain), tls_key=str(files.privkey))
    parts = {"127.0.0.1:8080": f"127.0.0.1:{plain.port}", "push.example": f"localhost:{secure.port}"}
    commands = replace_all(WHOAMI.block("curl http"), parts)
    printed = run_commands(commands, tmp_path, {"CURL_CA_BUNDLE": str(authority.root)})
    first, end = json.JSONDecoder().raw_decode(printed)
    second = json.loads(printed[end:])
    assert first["tls"] is None
    assert second["tls"]["version"].startswith("TLS")
    assert [name for name, _ in first["headers"]] == [name for name, _ in second["headers"]]
