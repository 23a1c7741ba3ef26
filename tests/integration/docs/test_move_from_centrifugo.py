"""The commands of docs/how-to/move-from-centrifugo.md, and its client with this server and with Centrifugo."""

import json
import os
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from node import install_node_packages
from paths import DOCS, ROOT
from ports import free_port
from waiting import TIMEOUT, wait_until

PAGE = DOCS / "how-to" / "move-from-centrifugo.md"
BLOCKS = re.findall(r"^```(\w+) ?([\w.]*)\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
CENTRIFUGO = ROOT / "build" / "bench" / "centrifugo"
"""Where `make centrifugo-diff` compiles it."""


def blocks(kind, name=""):
    """Return the texts of the page's blocks of a kind, with a name."""
    return [text for one_kind, one_name, text in BLOCKS if (one_kind, one_name) == (kind, name)]


@pytest.fixture
def page(tmp_path):
    """Return a function that runs a command of the page, on a free port, and returns what it prints."""
    port = str(free_port())
    (tmp_path / "node_modules").symlink_to(install_node_packages() / "node_modules")
    for kind, name in (("json", "config.json"), ("js", "app.js")):
        [text] = blocks(kind, name)
        (tmp_path / name).write_text(text.replace("8000", port), "utf-8")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environ = {name: value for name, value in os.environ.items() if not name.startswith("WSSERVER_")} | {"PATH": path}

    def run(command, **options):
        command = command.replace("8000", port)
        return subprocess.Popen(["bash", "-ec", f"exec {command}"], cwd=tmp_path, env=environ, **options)

    return run


def finish(process):
    """Wait for the end of a command, which must succeed; return what it has printed."""
    output, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, errors
    return output.decode(), errors.decode()


@contextmanager
def running(process):
    """Stop a process afterwards, if it still runs."""
    try:
        yield process
    finally:
        process.terminate()
        process.wait(TIMEOUT)


def check_the_client(page, tmp_path):
    """Run the client of the page and the command of the backend; the client prints what the page shows."""
    [start] = blocks("sh", "client")
    [printed] = blocks("text", "client")
    [publish] = [text for text in blocks("sh") if text.startswith("curl")]
    output = tmp_path / "output.txt"
    with output.open("wb") as file, running(page(start, stdout=file)) as client:
        wait_until(lambda: "clients in the room" in output.read_text("utf-8"), "the client has subscribed")
        answer, _ = finish(page(publish, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
        assert "result" in json.loads(answer)
        assert client.wait(TIMEOUT) == 0
    assert output.read_text("utf-8") == printed


def test_the_converted_configuration_serves_the_unchanged_client(page, tmp_path):
    convert, check, serve, _ = blocks("sh")
    [notes], [checked] = blocks("text", "notes"), blocks("text")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    assert finish(page(convert, **pipes)) == ("", notes)
    assert finish(page(check, **pipes)) == (checked, "")
    with running(page(serve.removesuffix("&\n"), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)):
        check_the_client(page, tmp_path)


@pytest.mark.centrifugo
def test_centrifugo_serves_the_client_with_the_same_result(page, tmp_path):
    with running(page(f"{CENTRIFUGO} --config config.json", stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)):
        check_the_client(page, tmp_path)
