"""The commands of docs/reference/http-api.md do what the page says."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from peers import wait_until

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "http-api.md"

FREE = {"epoch", "uid", "name", "version", "uptime"}
"""Fields whose values are different each time."""


def blocks():
    """Give the page's commands, each with the output shown below it."""
    found = re.findall(r"```(sh|json|python)\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    rest = iter([*found, ("", "")])
    kind, text = next(rest)
    while kind:
        next_kind, next_text = next(rest)
        shown = next_text if next_kind == "json" else None
        if kind != "json":
            yield kind, text, shown
        kind, text = next_kind, next_text


def values(text):
    """Read JSON values, one after the other."""
    decoder, found = json.JSONDecoder(), []
    while text := text.strip():
        value, end = decoder.raw_decode(text)
        found.append(value)
        text = text[end:]
    return found


def alike(value):
    """Take out what is different each time."""
    if isinstance(value, dict):
        return {name: type(one) if name in FREE else alike(one) for name, one in value.items()}
    return [alike(one) for one in value] if isinstance(value, list) else value


def listens(port):
    """Tell whether somebody listens."""
    with socket.socket() as peer:
        return peer.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def shell():
    """Run commands of the page, at a port of our own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environ = {**os.environ, "PATH": path, "WSSERVER_PORT": str(port), "PYTHONPATH": str(PAGE.parents[2])}
    servers = []

    def run(text, kind="sh"):
        text = text.replace("8080", str(port))
        command = ["bash", "-e", "-c", text] if kind == "sh" else [sys.executable, "-c", text]
        if text.rstrip().endswith("&"):
            started = subprocess.Popen(
                ["bash", "-c", "exec " + text.rstrip().rstrip("&")], env=environ, stdout=subprocess.DEVNULL
            )
            servers.append(started)
            wait_until(lambda: listens(port), "the server listens")
            return ""
        done = subprocess.run(command, check=False, env=environ, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    yield run
    for server in servers:
        server.send_signal(signal.SIGTERM)
        server.wait(20)


def test_page(shell, tmp_path, monkeypatch):
    """Each command in order, each with the output that the page shows."""
    monkeypatch.chdir(tmp_path)
    tried = 0
    for kind, text, shown in blocks():
        output = shell(text, kind)
        if shown is not None:
            assert alike(values(output)) == alike(values(shown)), text
            tried += 1
        elif kind == "python":
            assert output == "3\n"
    assert tried == 8
