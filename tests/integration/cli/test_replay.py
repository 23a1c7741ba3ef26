"""`wsserver replay`: a recorded connection again, for two clients."""

import asyncio
import contextlib
import json
import re
import subprocess
import urllib.request

import aiohttp
import pytest
from command_line import PROGRAM, environment
from websockets.sync.client import connect

SECRET = "ab" * 20


@contextlib.contextmanager
def replaying(*words):
    """Run the program; yields the URL that it prints, and a function that returns its log so far."""
    program = subprocess.Popen(
        [PROGRAM, "replay", *words, "--port", "0"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    log = []
    try:
        line = program.stdout.readline()
        found = re.search(r"ws://\S+", line)
        assert found, (line, program.stderr.read())
        yield found[0]
    finally:
        program.terminate()
        log.append(program.stderr.read())
        assert program.wait(30) == 0, log
        program.stdout.close()
        program.stderr.close()
    replaying.log = log[0]


def run(*words):
    """Run the program, which must fail; return its status and its error."""
    done = subprocess.run(
        [PROGRAM, "replay", *words], env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stderr


@pytest.fixture(params=["jsonl", "har"])
def record(request, server, tmp_path):
    """Return a function that records a connection with the client `websockets`, and returns the file."""

    def start():
        with connect(f"{server.url}/echo?tap={SECRET}") as client:
            for message in ("grüße", b"\x00\xff", "x" * 3000):
                client.send(message)
                assert client.recv() == message
        path = tmp_path / f"recording.{request.param}"
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/tap/{SECRET}?format={request.param}") as response:
            path.write_bytes(response.read())
        return str(path)

    # A fixture runs in the thread of the server; a test does not.
    return start


def test_another_client_gets_the_recorded_messages(record):
    async def talk(url):
        async with aiohttp.ClientSession() as session, session.ws_connect(url) as client:
            received = []
            for message in ("anything", "else", "counts"):
                await client.send_str(message)
                received.append((await client.receive(30)).data)
            return received

    with replaying(record(), "--speed", "0") as url:
        assert url.endswith("/echo")
        assert asyncio.run(talk(url)) == ["grüße", b"\x00\xff", "x" * 3000]
    assert replaying.log.count("replay differs") == 3


def test_the_path_can_be_another_one(record):
    with replaying(record(), "--path", "/feed") as url:
        assert url.endswith("/feed")
        with connect(url) as client:
            client.send("grüße")
            assert client.recv() == "grüße"
    assert "replay differs" not in replaying.log


def test_a_har_has_what_readers_of_the_format_expect(server, tmp_path):
    with connect(f"{server.url}/echo?tap={SECRET}") as client:
        client.send(["two ", "parts"])
        client.recv()
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/tap/{SECRET}?format=har") as response:
        archive = json.load(response)
    log = archive["log"]
    assert log["version"] == "1.2"
    assert set(log["creator"]) == {"name", "version"}
    (entry,) = log["entries"]
    assert {"startedDateTime", "time", "request", "response", "cache", "timings"} <= set(entry)
    assert {"method", "url", "httpVersion", "cookies", "headers", "queryString", "headersSize", "bodySize"} <= set(
        entry["request"]
    )
    assert {"status", "statusText", "httpVersion", "cookies", "headers", "content", "redirectURL"} <= set(
        entry["response"]
    )
    assert entry["request"]["url"].startswith(f"ws://127.0.0.1:{server.port}/echo")
    assert [(one["type"], one["opcode"], one["data"]) for one in entry["_webSocketMessages"]] == [
        ("send", 1, "two parts"),
        ("receive", 1, "two parts"),
    ]


@pytest.mark.parametrize(
    ("words", "status", "problem"),
    [
        (("missing.jsonl",), 1, "missing.jsonl: No such file or directory"),
        (("--speed", "-1", "x"), 2, "expected a number from 0 to 1000, not '-1'"),
        (("--path", "echo", "x"), 2, "expected a path such as /echo, not 'echo'"),
        ((__file__,), 1, "expected the events of a tap (format=jsonl), or a HAR with WebSockets"),
    ],
)
def test_a_mistake_is_named_in_one_line(words, status, problem):
    found, error = run(*words)
    assert found == status
    assert problem in error
    assert "Traceback" not in error


def test_a_port_in_use_is_an_error(record, server):
    status, error = run(record(), "--port", str(server.port))
    assert (status, str(server.port) in error) == (1, True)
