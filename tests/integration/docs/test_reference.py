"""The output that reference pages show is what the server prints."""

import os
import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from events import Events
from paths import DOCS
from peers import RawPeer
from server_process import Process
from twistd_process import find_port, twistd
from waiting import TIMEOUT, wait_until
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

REFERENCE = DOCS / "reference"
PATHS, CONFIGURATION = ((REFERENCE / name).read_text("utf-8") for name in ("paths.md", "configuration.md"))
CHANNELS, WIRE = ((REFERENCE / name).read_text("utf-8") for name in ("channels.md", "wire.md"))

# Nothing listens at port 1.
NO_REDIS = ("--redis", "redis://127.0.0.1:1")


def run(command: str, port: int = 0, **environ: str) -> str:
    """Run a command that a page shows, at the server's port; return everything it prints."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-c", command.replace("8080", str(port))],
        env=os.environ | environ | {"PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    return done.stdout


@pytest.mark.parametrize(("number", "options"), [(0, ()), (1, NO_REDIS)], ids=["no options", "--redis"])
def test_the_log_line_about_unknown_paths_is_that_of_the_page(tmp_path, number, options):
    line = re.findall(r"^    (unknown WebSocket paths .*)$", PATHS, re.MULTILINE)[number]
    with twistd(tmp_path, "-n", "wsserver", "--port", "0", *options) as log:
        find_port(log, r"ws://127\.0\.0\.1:([0-9]+)/")
        assert line in log.read_text()


def test_the_refusal_of_an_unknown_path_is_that_of_the_page(tmp_path):
    command, shown = re.search(r"^    \$ (curl .*?\n.*?)\n((?:    .*\n)+)", PATHS, re.MULTILINE).groups()
    first, _, last = (line.strip() for line in shown.splitlines())
    with twistd(tmp_path, "-n", "wsserver", "--port", "0", *NO_REDIS) as log:
        answer = run(command, find_port(log, r"ws://127\.0\.0\.1:([0-9]+)/"))
    assert first in answer
    assert answer.endswith(last + "\n")


def test_a_temporarily_refused_event_stream_is_that_of_the_page(tmp_path):
    command, shown = re.search(r"^\$ (curl .*)\n(: 503 .*)\nretry: ", CHANNELS, re.MULTILINE).groups()
    with twistd(tmp_path, "-n", "wsserver", "--port", "0", *NO_REDIS) as log:
        answer = run(f"{command} -s", find_port(log, r"ws://127\.0\.0\.1:([0-9]+)/"))
    assert re.fullmatch(re.escape(shown) + r"\nretry: [123]\d{3}\n+", answer)


def test_the_error_for_a_misspelled_variable_is_that_of_the_page():
    command, shown = re.search(r"```sh\n(.*?)```\n```text\n(.*?)```", CONFIGURATION, re.DOTALL).groups()
    assert run(command) == shown


def without_numbers(line: str) -> str:
    """Replace values that differ in each run: the connection's number and ID, ports, sizes and durations."""
    return re.sub(
        r"(?<=connection=)[0-9a-f]+-\d+|(?<=number=)\d+|\d+\.\d+(?!\.)|(?<=:)\d+|(?<=bytes=)\d+|(?<=suppressed=)\d+",
        "N",
        line,
    )


def test_the_log_lines_of_connections_requests_and_refusals_are_those_of_the_page(tmp_path):
    section = WIRE.partition("## Log lines")[2]
    shown = {without_numbers(line) for line in re.findall(r"^    (.*)$", section, re.MULTILINE)}
    assert len(shown) == 7
    options = ("--compression", "on", "--log-max-rate", "2")
    with twistd(tmp_path, "-n", "wsserver", "--port", "0", *options) as log:
        origin = f"127.0.0.1:{find_port(log, r'ws://127[.]0[.]0[.]1:([0-9]+)/')}"
        with connect(f"ws://{origin}/echo", proxy=None) as client:
            for _ in range(3):
                client.send("four")
                client.recv(timeout=TIMEOUT)
        with connect(f"ws://{origin}/echo?tap={'ab' * 16}", proxy=None):
            run(f"curl -s 'http://{origin}/tap/{'ab' * 16}?follow=0'")
        run(f"curl -s http://{origin}/server.json")
        command = '{"id":1,"connect":{}}'
        run(f"curl -s --max-time 1 -d '{command}' http://{origin}/connection/http_stream")
        for _ in range(3):
            with pytest.raises(InvalidStatus):
                connect(f"ws://{origin}/echo", proxy=None, origin="http://evil.example")
        wait_until(lambda: "refused suppressed=" in log.read_text(), "the refusals are logged")
        wait_until(lambda: "code=3000" in log.read_text(), "the end of the stream is logged")
        lines = {without_numbers(line.partition("] ")[2]) for line in log.read_text().splitlines()}
    assert shown <= lines


def test_a_filter_lets_through_the_publication_that_the_page_names(tmp_path):
    section = CHANNELS.partition("## Filters")[2].partition("\n## ")[0]
    (config,) = re.findall(r"```toml\n(.*?)```", section, re.DOTALL)
    serve, publish = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    (target,) = re.findall(r"curl -N 'http://127\.0\.0\.1:8080(.*?)'", serve)
    assert serve.startswith("wsserver serve --config quotes.toml --api-key secret\n")
    path = tmp_path / "quotes.toml"
    path.write_text(config)
    with closing(Process("--config", str(path), "--api-key", "secret")) as server, RawPeer(server.port) as peer:
        events = Events(peer, target)
        for line in publish.splitlines():
            assert '"offset"' in run(f"{line} --url http://127.0.0.1:8080", server.port)
        assert events.read() == ("message", b"BTC 101")
        assert events.last_event_id.endswith(":2")
