"""The pytest plugin in runs of pytest of its own: what tests see, its reports, and other plugins beside it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT

SLOW_PLUGINS = ("-p", "no:schemathesis", "-p", "no:hypothesispytest")
"""Options that leave out plugins which take a second to load, and have nothing to do with these tests."""


@pytest.fixture
def run_pytest(tmp_path):
    """Return a function that runs pytest on a file, and returns its output; the run must end as expected."""

    def run(code, *options, **outcome):
        (tmp_path / "test_it.py").write_text(code, "utf-8")
        words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *SLOW_PLUGINS, *options, str(tmp_path)]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
        counted = {name: int(number) for number, name in re.findall(r"(\d+) (passed|failed|errors?)", done.stdout)}
        assert counted == outcome, done.stdout + done.stderr
        return done.stdout

    return run


def test_the_examples_of_the_guide_pass(run_pytest, tmp_path):
    """Every block of Python, each in a file of its own."""
    page = (ROOT / "docs/how-to/pytest.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    for number, block in enumerate(blocks):
        (tmp_path / f"test_block_{number}.py").write_text(block, "utf-8")
    assert len(blocks) == 7
    run_pytest("", passed=len(blocks))


def test_the_server_imports_nothing_from_the_working_directory(run_pytest, tmp_path):
    (tmp_path / "autobahn.py").write_text("raise ImportError('from the working directory')", "utf-8")
    run_pytest("def test_it(wsserver):\n    assert wsserver.port\n", passed=1)


SEEN = """
import pytest, socket, struct
from websockets.sync.client import connect

def test_fragments_are_one_message_and_pings_none(wsserver):
    with connect(wsserver.url + "/echo", compression=None) as client:
        client.send(["a", "b"])
        client.ping().wait(10)
        assert client.recv() == "ab"
        wsserver.connections[0].ping(b"x")
        client.send(b"\\x00")
        assert client.recv() == b"\\x00"
        assert wsserver.connections[0].messages == ["ab", b"\\x00"]
        assert wsserver.connections[0].sent == ["ab", b"\\x00"]
        assert wsserver.connections[0].is_open
        assert wsserver.connections[0].close_code is None

def test_the_next_test_begins_without_connections(wsserver):
    assert list(wsserver.connections) == []

def test_a_reset_is_1006(wsserver):
    client = socket.create_connection(("127.0.0.1", wsserver.port))
    client.sendall(b"GET /echo?x=1 HTTP/1.1\\r\\nHost: localhost\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n"
                   b"Sec-WebSocket-Version: 13\\r\\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\\r\\n\\r\\n")
    connection = wsserver.wait_for_connection()
    assert (connection.path, connection.query) == ("/echo", {"x": ["1"]})
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    assert connection.wait_for_close() == 1006
    assert connection.closed_by == ""

def test_faults_for_some_connections_come_before_the_one_for_all(wsserver):
    wsserver.fault("/echo", "status", code=500, times=1)
    wsserver.fault("/echo", "status", code=501, times=1)
    wsserver.fault("/echo", "status", code=502)
    for code in (500, 501, 502, 502):
        with pytest.raises(Exception, match=str(code)):
            connect(wsserver.url + "/echo").__enter__()

def test_several_faults_at_a_time(wsserver):
    wsserver.fault("/echo", ping=True, drop=False, not_utf8={"after": 1}, no_close={}, times=1)
    wsserver.fault("/echo", late_handshake="10ms", early_data=2, close={"code": 1012, "after": 1})
    for expected in (["a"], ["1 xxxxxxxxxxxxxx", "2 xxxxxxxxxxxxxx", "a"]):
        with connect(wsserver.url + "/echo", close_timeout=1) as client:
            client.send("a")
            got = []
            with pytest.raises(Exception, match="1007|1012"):
                while True:
                    got.append(client.recv(5))
        assert got == expected
    first, second = wsserver.connections
    assert [first.server_close_code, second.server_close_code] == [1006, 1012]

def test_a_publication_reaches_a_subscriber(wsserver):
    with connect(wsserver.url + "/ws?channel=foo") as client:
        wsserver.publish("foo", "hello")
        assert client.recv() == "hello"

def test_the_server_drops_a_connection(wsserver):
    with connect(wsserver.url + "/echo") as client:
        wsserver.wait_for_connection().drop()
        with pytest.raises(Exception):
            client.recv()

def test_every_message_of_a_flood_is_seen(wsserver):
    client = socket.create_connection(("127.0.0.1", wsserver.port))
    client.sendall(b"GET /echo HTTP/1.1\\r\\nHost: localhost\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n"
                   b"Sec-WebSocket-Version: 13\\r\\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\\r\\n\\r\\n")
    connection = wsserver.wait_for_connection()
    client.sendall(b"\\x81\\x81\\0\\0\\0\\0x" * 3000 + b"\\x88\\x80\\0\\0\\0\\0")
    assert connection.wait_for_close(timeout=30) == 1005
    assert (len(connection.messages), len(connection.sent)) == (3000, 3000)
    client.close()

def test_a_ping_that_is_too_long_is_an_error_and_the_server_goes_on(wsserver):
    with connect(wsserver.url + "/echo"):
        with pytest.raises(Exception, match="Exception: .*125"):
            wsserver.wait_for_connection().ping(b"x" * 126)
        assert wsserver.connections[0].is_open

def test_errors_name_the_problem(wsserver):
    with open("pid", "w") as file:
        file.write(str(wsserver._process.pid))
    for call, problem in (
        (lambda: wsserver.fault("/echo", nope=1), "unknown parameter 'nope'"),
        (lambda: wsserver.fault("/echo", drop=True, close={"code": 1}), "close and drop cannot be combined"),
        (lambda: wsserver.fault("/echo", ping=5, push=True, count=3), "expected ping.count or push.count"),
        (lambda: wsserver.fault("echo"), "expected a path such as '/echo'"),
        (lambda: wsserver.fault("/echo", times=-1), "times -1: expected a number from 0"),
        (lambda: wsserver.replay("missing.jsonl"), "missing.jsonl: No such file"),
        (lambda: wsserver.connections[3], "there have been 0 connections"),
    ):
        with pytest.raises(Exception, match=problem):
            call()
"""


def test_a_test_sees_what_the_client_did_and_the_server_does_what_it_asks_for(run_pytest, tmp_path):
    run_pytest(SEEN, passed=SEEN.count("\ndef test_"))
    # No process is left after the run.
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text()}").exists()


def test_the_processes_of_many_sets_of_options_are_bounded(run_pytest):
    code = """
import pytest
from pathlib import Path
from wsserver.pytest_plugin import plugin

plugin.MAX_PROCESSES = 2
PIDS = []

@pytest.fixture(params=[1, 2, 1, 3])
def wsserver_settings(request):
    return {"open_timeout": float(request.param)}

def test_it(wsserver):
    if wsserver._process.pid not in PIDS:
        PIDS.append(wsserver._process.pid)

def test_the_one_that_was_used_longest_ago_is_stopped():
    assert [Path(f"/proc/{pid}").exists() for pid in PIDS] == [True, False, True]
"""
    run_pytest(code, passed=5)


def test_a_failed_test_shows_the_connections_and_the_log_and_a_wrong_option_is_named(run_pytest):
    code = """
import pytest
from websockets.sync.client import connect

def test_fails(wsserver):
    with connect(wsserver.url + "/echo") as client:
        client.send("hello")
        client.recv()
        wsserver.connections[0].wait_for_close(timeout=0.1)

class OptionTests:
    @pytest.fixture
    def wsserver_settings(self):
        return {"ping_interval": "soon"}

    def test_it(self, wsserver):
        pass
"""
    output = run_pytest(code, "-o", "python_classes=*Tests", failed=1, error=1)
    assert "waited 0.1 s for the end of <connection" in output
    assert "-- wsserver --" in output
    assert "<- text 'hello'" in output
    assert "connection opened number=1" in output
    # The frames of the plugin are hidden.
    assert "def wait(" not in output
    assert "wsserver_settings: ping_interval: expected a time from 0s to 1h" in output


def test_works_with_xdist_asyncio_and_twisted(run_pytest):
    code = """
import asyncio, os, pytest, aiohttp
from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from websockets.sync.client import connect
import pytest_twisted

@pytest.mark.asyncio
@pytest.mark.parametrize("n", range(4))
async def test_aiohttp(wsserver, n):
    async with aiohttp.ClientSession() as session, session.ws_connect(wsserver.url + "/echo") as client:
        await client.send_str(str(n))
        assert (await client.receive()).data == str(n)
        await asyncio.to_thread(wsserver.connections[0].wait_for_messages, 1)
    assert wsserver.connections[0].messages == [str(n)]

def talk(url):
    with connect(url) as client:
        client.send("hello")
        return client.recv()

@pytest_twisted.ensureDeferred
async def test_twisted(wsserver):
    assert await deferToThread(talk, wsserver.url + "/echo") == "hello"
    assert wsserver.connections[0].messages == ["hello"]
"""
    run_pytest(code, "-n", "2", passed=5)


def test_a_run_without_the_fixture_imports_nothing_else(run_pytest):
    code = """
import sys

def test_it():
    found = {name for name in sys.modules if name.startswith("wsserver")}
    assert found == {"wsserver", "wsserver.pytest_plugin", "wsserver.pytest_plugin.plugin"}
"""
    run_pytest(code, passed=1)
