"""The official SDKs of Centrifugo, unchanged, each in a process of its own that obeys the test."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue
from typing import Any

from node import install_node_packages
from peers import PATIENCE

__all__ = ["SDK", "running_sdk"]

HERE = Path(__file__).parent


class SDK:
    """
    A client.

    Args:
        process: it, with lines of JSON on its standard input and output.
    """

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self._lines: Queue[dict[str, Any]] = Queue()
        self._number = 0
        self.events: list[dict[str, Any]] = []
        """What has happened and was not expected yet, in its order."""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(json.loads(line))

    def _next(self, waits_for: str) -> dict[str, Any]:
        try:
            return self._lines.get(timeout=PATIENCE)
        except Empty:
            raise AssertionError(f"{waits_for} has not come, but {self.events}") from None

    def order(self, order: str, **parts: Any) -> int:
        """Give an order, without waiting for what becomes of it; gives its number."""
        self._number += 1
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"number": self._number, "order": order, **parts}) + "\n")
        self._process.stdin.flush()
        return self._number

    def call(self, order: str, **parts: Any) -> Any:
        """Give an order and wait for its result; an error comes as `{"error": {"code", "message"}}`."""
        return self.answer(self.order(order, **parts))

    def answer(self, number: int) -> Any:
        """Wait for what has become of an order."""
        while True:
            line = self._next(f"the answer to order {number}")
            if line.get("answer") == number:
                return {"error": line["error"]} if "error" in line else line["result"]
            if "event" in line:
                self.events.append(line)

    def expect(self, event: str, **parts: Any) -> dict[str, Any]:
        """Wait for an event, whatever comes before or after it; it is taken off the list."""
        seen = 0
        while True:
            for one in self.events[seen:]:
                if one["event"] == event and parts.items() <= one.items():
                    self.events.remove(one)
                    return one
            seen = len(self.events)
            line = self._next(f"{event} {parts}")
            if "event" in line:
                self.events.append(line)

    def publications(self, count: int) -> list[Any]:
        """Wait for some publications; give their data in the order in which they came."""
        return [self.expect("publication")["data"] for _ in range(count)]

    def subscribe(self, channel: str, **options: Any) -> dict[str, Any]:
        """Subscribe, and wait for it."""
        self.order("subscribe", channel=channel, options=options)
        return self.expect("subscribed", of="subscription", channel=channel)


@contextmanager
def running_sdk(kind: str, url: str, options: dict[str, Any]) -> Iterator[SDK]:
    """
    Run a client until the block ends.

    Args:
        kind: `javascript` or `python`.
        url: of the server, ws://.
        options: `token`, `asksForTokens`.
    """
    environment = dict(os.environ)
    if kind == "javascript":
        environment["NODE_PATH"] = str(install_node_packages() / "node_modules")
        command = ["node", str(HERE / "sdks" / "sdk.js")]
    else:
        command = [sys.executable, str(HERE / "sdks" / "sdk.py")]
    process = subprocess.Popen(
        [*command, f"{url}/connection/websocket", json.dumps(options)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    sdk = SDK(process)
    try:
        sdk.expect("ready")
        yield sdk
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.kill()
        process.wait(10)
