"""docs/how-to/hooks.md and its backend: the commands print what the page says."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from paths import DOCS, EXAMPLES
from peers import RawPeer
from twistd_process import find_port, twistd
from waiting import TIMEOUT, wait_until

PAGE = DOCS / "how-to" / "hooks.md"


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """Run docs/examples/backend.py; return its port and its output file."""
    output = tmp_path / "backend.txt"
    with output.open("wb") as file:
        command = [sys.executable, EXAMPLES / "backend.py", "0"]
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    try:
        yield find_port(output, r"http://127\.0\.0\.1:([0-9]+)"), output
    finally:
        process.terminate()
        process.wait(TIMEOUT)


def test_the_curl_commands_print_what_the_page_shows(backend, tmp_path):
    """
    The server refuses the first two curl commands, and the third one subscribes.

    The server is started with the page's command, on other ports.
    """
    port, _ = backend
    page = PAGE.read_text("utf-8").replace("3000", str(port))
    server_command, *curls = re.findall(r"```sh\n(wsserver serve .*?|curl .*?)(?: &)?\n```", page)
    texts = re.findall(r"```text\n(.*?)```", page, re.DOTALL)
    assert (len(curls), len(texts)) == (3, 2)
    with twistd(tmp_path, "-n", "wsserver", *server_command.split()[2:], "--port", "0") as log:
        server_port = find_port(log, r"ws://127\.0\.0\.1:([0-9]+)/")

        def run(command: str) -> str:
            command = command.replace("8080", str(server_port))
            done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=TIMEOUT, check=False)
            return done.stdout.strip()

        assert [run(command) for command in curls[:2]] == [text.strip() for text in texts]
        assert run(curls[2].replace("curl", "curl --max-time 0.5")).startswith(": listening")


def test_the_backend_answers_every_hook(backend, start_server):
    """It allows and refuses subscriptions and publications, answers calls, and logs disconnects and channel events."""
    port, output = backend
    hooks = {
        f"hook_{name}": f"http://127.0.0.1:{port}/{name}"
        for name in ("connect", "subscribe", "publish", "rpc", "message", "disconnect", "channel")
    }
    server = start_server(**hooks)
    with RawPeer(server.port) as peer:
        peer.handshake("/connection/websocket", "Cookie: user=ada")
        for number, (command, answer) in enumerate(
            [
                ('"connect":{}', '"user":"ada"|"client":'),
                ('"subscribe":{"channel":"news"}', '"chat channels only"'),
                ('"subscribe":{"channel":"chat:index"}', '"subscribe":'),
                ('"publish":{"channel":"chat:index","data":"damn"}', '"no swearing"'),
                ('"publish":{"channel":"chat:index","data":"hello"}', '"hello"|"publish":'),
                ('"rpc":{"method":"add","data":[1,2]}', '"hello"|"data":3'),
                ('"rpc":{"method":"drop"}', '"no such method"|"data":3'),
            ],
            1,
        ):
            peer.send_frame(1, b'{"id":%d,%s}' % (number, command.encode()))
            assert re.search(answer, message := peer.read_message()), message
        peer.send_frame(1, b'{"send":{"data":"hi"}}')
        messages = iter(peer.read_message, None)
        assert any('{"user": "ada", "text": "hi"}' in message for message in messages)
    wait_until(lambda: "ada has gone: " in output.read_text(), "the disconnect hook is logged")
    wait_until(lambda: "chat:index is occupied" in output.read_text(), "the channel hook is logged")
