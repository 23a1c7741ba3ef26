"""
Follow a page of the documentation block by block, as a reader would.

    ```sh           a command; it keeps running, as in a terminal of its own, if it ends with &, or is `make serve` or
                    `wsserver`
    ```sh install   how to install; skipped here, because tests/packaging/test_documented_installation.py runs it
    ```python FILE  a file to save under this name
    ```js           for the console of a browser on the server's page
    ```text         what the command just above prints; ```json the same, except for the name of the epoch
    ```text send    a message to send from the server's page
    ```text NAME    what is printed next by the browser (`console`), by the last `wsserver subscribe` (`subscriber`), or
                    what the server's page shows as the last message (`received`), or the last paragraphs that the
                    server has printed (`server`)

The key of the HTTP API that `wsserver` prints differs each time: commands get the one that the server has printed.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from paths import DOCS
from playwright.sync_api import Page
from ports import free_port
from processes import wait_until_ready

__all__ = ["RECORD_SOCKETS", "WAIT_FOR_SOCKETS", "Block", "Walk", "read_blocks"]

TIMEOUT = 20
"""Maximum seconds to wait for an expected event. Tests do not measure it."""


@dataclass(frozen=True)
class Block:
    """A block of code."""

    kind: str
    name: str
    text: str


def read_blocks(page: Path) -> list[Block]:
    """Read the blocks of a page, in order."""
    found = re.findall(r"^```(\w+) ?([\w.]*)\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return [Block(*parts) for parts in found]


class Walk:
    """
    A reader who follows a page.

    Args:
        directory: the directory in which commands run.
        open_page: opens a page in the browser.
    """

    def __init__(self, directory: Path, open_page: Callable[[], Page]) -> None:
        self._directory = directory
        self._open_page = open_page
        self._page: Page | None = None
        self._console: list[str] = []
        self._subscriber: Path | None = None
        self._server_output: Path | None = None
        self._printed = ""
        self._stop_server: Callable[[], None] = lambda: None
        self._stack = ExitStack()
        self._redis, self._server, self._backend = free_port(), free_port(), free_port()
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        kept = {name: value for name, value in os.environ.items() if not name.startswith("WSSERVER_")}
        self._options: dict[str, Any] = {
            "cwd": directory,
            "env": kept | {"PATH": path, "WSSERVER_PORT": str(self._server)},
        }

    def __enter__(self) -> "Walk":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def follow(self, block: Block) -> None:
        """Do what a block says, or compare it with what has been printed."""
        text = self._at_our_ports(block.text)
        if block.name == "install":
            return
        if block.kind == "python":
            (self._directory / block.name).write_text(text, "utf-8")
        elif block.kind == "js":
            # In a browser's console, variables stay defined for later commands.
            text = re.sub(r"^const (\w+) =", r"globalThis.\1 =", text, flags=re.MULTILINE)
            self._browser().evaluate(f"async () => {{ {text} }}")
            # A reader is not as fast as to continue before the connections are open.
            self._browser().evaluate(WAIT_FOR_SOCKETS)
        elif block.kind == "sh" and (text.endswith(("&\n", "serve\n")) or text == "wsserver\n"):
            self._start(text)
        elif block.kind == "sh":
            self._run(text)
        elif block.name == "send":
            self._send(text)
        else:
            self._check(block)

    def _run(self, text: str) -> None:
        command = ["bash", "-ec", text]
        done = subprocess.run(command, **self._options, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{text}\n{done.stderr}"
        self._printed = done.stdout

    def _send(self, text: str) -> None:
        page = self._browser()
        if page.locator("#state").get_attribute("data-state") == "CLOSED":
            page.locator("#connect").click()
        page.locator("#message").fill(text.strip())
        page.locator("#send").click()

    def _check(self, block: Block) -> None:
        expected = _normal(Block(block.kind, block.name, self._at_our_ports(block.text)))
        found = {
            "": lambda: self._printed,
            "console": lambda: "".join(self._console),
            "subscriber": lambda: self._subscriber.read_text("utf-8"),
            "server": lambda: _paragraphs(self._server_output.read_text("utf-8")),
            # Empty until the first message has arrived.
            "received": lambda: ["", *self._browser().locator("#list .received .payload").all_inner_texts()][-1],
        }[block.name]
        self._wait_until(
            lambda: _normal(Block(block.kind, "", found())) == expected, lambda: f"{block.text}\n{found()}"
        )
        self._console.clear()

    def _at_our_ports(self, text: str) -> str:
        text = text.replace("make serve", "wsserver serve")
        text = text.replace("8080", str(self._server)).replace("6379", str(self._redis))
        text = text.replace("redis-cli ", f"redis-cli -p {self._redis} ").replace("3000", str(self._backend))
        text = text.replace("examples/backend.py", f"{DOCS}/examples/backend.py {self._backend}")
        key = _KEY.search(self._server_output.read_text("utf-8")) if self._server_output else None
        text = text if key is None else _KEY.sub(key[0], text)
        return re.sub(r"(wsserver (?:publish|subscribe)) ", rf"\1 --url http://127.0.0.1:{self._server} ", text)

    def _browser(self) -> Page:
        if self._page is None:
            self._page = self._open_page()
            self._page.add_init_script(RECORD_SOCKETS)
            self._page.on("console", lambda message: self._console.append(message.text + "\n"))
            self._page.goto(f"http://127.0.0.1:{self._server}/")
        return self._page

    def _start(self, text: str) -> None:
        is_server = not any(word in text for word in ("redis-server", "subscribe", "backend.py"))
        if is_server:
            self._stop_server()
        number = len(list(self._directory.iterdir()))
        if text == "wsserver\n" and _answers(self._redis):
            text = f"WSSERVER_REDIS=redis://127.0.0.1:{self._redis} {text}"
        output, errors = self._directory / f"{number}-output.txt", self._directory / f"{number}-errors.txt"
        with output.open("wb") as out, errors.open("wb") as err:
            process = subprocess.Popen(
                ["bash", "-c", text.rstrip("&\n")], **self._options, stdout=out, stderr=err, start_new_session=True
            )
        stop = partial(_stop, process)
        self._stack.callback(stop)
        if "redis-server" in text:
            self._wait_until(lambda: _answers(self._redis), output.read_text)
        elif "backend.py" in text:
            self._wait_until(lambda: _answers(self._backend), errors.read_text)
        elif "subscribe" in text:
            self._subscriber = output
            self._wait_until(lambda: "subscribed" in errors.read_text(), errors.read_text)
        else:
            self._stop_server, self._server_output = stop, output
            self._wait_until(lambda: _answers(self._server), lambda: output.read_text() + errors.read_text())
            wait_until_ready(self._server)

    def _wait_until(self, condition: Callable[[], bool], get_output: Callable[[], str]) -> None:
        deadline = time.monotonic() + TIMEOUT
        while not condition():
            assert time.monotonic() < deadline, f"not what the page shows:\n{get_output()}"
            # Playwright delivers a browser's events only during calls to it.
            if self._page is not None:
                self._page.wait_for_timeout(20)
            else:
                time.sleep(0.02)


_KEY = re.compile(r"(?<=X-API-Key: )[0-9a-f]{32}")

RECORD_SOCKETS = """
globalThis.sockets = [];
globalThis.WebSocket = class extends WebSocket {
  constructor(...words) { super(...words); sockets.push(this); }
};
"""

WAIT_FOR_SOCKETS = """
async () => {
  while (sockets.some(each => each.readyState === WebSocket.CONNECTING)) {
    await new Promise(resolve => setTimeout(resolve, 20));
  }
}
"""


def _paragraphs(output: str) -> str:
    """Return what a server has printed between its log lines."""
    return re.sub(r"^\d{4}-\d\d-\d\dT.*\n", "", output, flags=re.MULTILINE)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
    process.wait(TIMEOUT)


def _normal(block: Block) -> str:
    if block.kind == "json":
        return re.sub(r'("epoch": ?)"\w+"', r"\1", block.text).strip()
    # `(integer)` is what redis-cli prints before a number on a terminal. The client's port differs each time.
    return re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT", block.text.replace("(integer) ", "")).strip()


def _answers(port: int) -> bool:
    with socket.socket() as peer:
        return peer.connect_ex(("127.0.0.1", port)) == 0
