"""Run Centrifugo's official SDKs, unchanged, in a process or a browser page; a test controls them with orders."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import jwt
from java import install_java_client
from node import install_node_packages
from waiting import TIMEOUT

__all__ = ["DRIVER", "KINDS", "SDK", "SDKS", "SECRET", "running_sdk", "token"]

SDKS = Path(__file__).parent / "sdks"
DRIVER = SDKS / "sdk.js"
"""The script that executes orders with the JavaScript SDK, in Node and in a page."""

KINDS: dict[str, dict[str, Any]] = {
    "javascript": {},
    "javascript-protobuf": {"protobuf": True},
    # As in a browser behind a proxy that blocks WebSocket.
    "javascript-http_stream": {"transports": ["closed websocket", "http_stream"]},
    "javascript-http_stream-protobuf": {"transports": ["closed websocket", "http_stream"], "protobuf": True},
    "javascript-sse": {"transports": ["closed websocket", "sse"]},
    "python": {},
    "python-protobuf": {"protobuf": True},
    "java": {},
}
"""SDK, its transport if that is not WebSocket, and its protocol if that is not JSON -> options of the client."""

SECRET = "a secret that is long enough to sign tokens with, for tests only"


def token(ttl: int = 600, **claims: Any) -> str:
    """Return a token as a backend would issue it."""
    return jwt.encode({"sub": "ann", "exp": int(time.time()) + ttl} | claims, SECRET, "HS256")


class SDK:
    """
    A client that uses one of Centrifugo's SDKs and executes the orders of a test.

    Args:
        send: sends an order to the client.
        receive: waits for the client's next answer or event; raises Empty if none arrives.
    """

    def __init__(self, send: Callable[[dict[str, Any]], object], receive: Callable[[], dict[str, Any]]) -> None:
        self._send, self._receive = send, receive
        self._number = 0
        self.client = ""
        """The ID that the server has given to the client, for tests that need it."""
        self.events: list[dict[str, Any]] = []
        """Events that no test has expected yet, in the order received."""

    def _next(self, waits_for: str) -> dict[str, Any]:
        try:
            return self._receive()
        except Empty:
            raise AssertionError(f"{waits_for} has not come, but {self.events}") from None

    def order(self, order: str, **parts: Any) -> int:
        """Send an order without waiting for its result; return its number."""
        self._number += 1
        self._send({"number": self._number, "order": order, **parts})
        return self._number

    def call(self, order: str, **parts: Any) -> Any:
        """Send an order and return its result; an error is returned as `{"error": {"code", "message"}}`."""
        return self.answer(self.order(order, **parts))

    def answer(self, number: int) -> Any:
        """Wait for the result of an order, and return it."""
        while True:
            line = self._next(f"the answer to order {number}")
            if line.get("answer") == number:
                return {"error": line["error"]} if "error" in line else line["result"]
            if "event" in line:
                self.events.append(line)

    def expect(self, event: str, **parts: Any) -> dict[str, Any]:
        """Wait for an event, whatever events come before it; remove it from the list and return it."""
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
        """Wait for `count` publications; return their data in the order received."""
        return [self.expect("publication")["data"] for _ in range(count)]

    def subscribe(self, channel: str, **options: Any) -> dict[str, Any]:
        """Subscribe to a channel and wait for the event `subscribed`."""
        self.order("subscribe", channel=channel, options=options)
        return self.expect("subscribed", of="subscription", channel=channel)


@contextmanager
def running_sdk(kind: str, url: str, options: dict[str, Any]) -> Iterator[SDK]:
    """
    Run a client in a process until the block ends.

    Args:
        kind: the SDK, its transport and its protocol: a key of `KINDS`.
        url: the server's ws:// URL, without a path.
        options: `token`, `asksForTokens`, `transports` (only in JavaScript, see `node.js`).
    """
    environment = dict(os.environ)
    if kind == "java":
        command, url = install_java_client(), f"{url}/connection/websocket"
    elif kind.startswith("python"):
        command = [sys.executable, str(SDKS / "sdk.py")]
    else:
        environment["NODE_PATH"] = str(install_node_packages() / "node_modules")
        command = ["node", str(SDKS / "node.js")]
    process = subprocess.Popen(
        [*command, url, json.dumps(KINDS[kind] | options)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdin is not None
    orders, lines = process.stdin, Queue[dict[str, Any]]()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.put(json.loads(line))

    def send(order: dict[str, Any]) -> None:
        orders.write(json.dumps(order) + "\n")
        orders.flush()

    threading.Thread(target=read, daemon=True).start()
    sdk = SDK(send, lambda: lines.get(timeout=TIMEOUT))
    try:
        sdk.expect("ready")
        yield sdk
    finally:
        orders.close()
        process.kill()
        process.wait(10)
