"""
Mixed load: subscribers of every kind, publishers, echoes, HTTP requests and short connections, for a given time.

The subscribers and the publishers are those of the fault tests, so that lost publications are found here, too.
"""

import asyncio
import contextlib
import json
import random
import sys
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Under pytest, pyproject.toml adds these paths.
sys.path += [str(Path(__file__).resolve().parents[1] / folder) for folder in ("support", "chaos")]

import websockets
from accounts import Accounts
from checker import Verdict, check
from net import HTTP, get
from publishers import Publishers
from subscribers import KINDS, Centrifuge, RawFormat, Subscriber
from waits import TIMEOUT, is_away, lacks, wait_until

__all__ = ["KEY", "SETTINGS", "Mixed", "Shape"]

KEY = "soak-api-key"

SETTINGS = f"""
history_size = 100
history_ttl = "30s"
max_queued_bytes = "256KiB"
ping_interval = "5s"
ping_timeout = "30s"
api_key = "{KEY}"
channel_publish = ["*"]
channel_presence = ["close:*"]

[[channel]]
pattern = "*"
delta = "always"
"""
"""Options of the server, without its port and its Redis."""

CHANNELS = tuple(f"close:{number}" for number in range(10))

PAGES = ("/", "/ready", "/health", "/server.json", "/no-such-page")

METHODS = (
    ("info", {}),
    ("channels", {}),
    ("presence", {"channel": CHANNELS[0]}),
    ("history", {"channel": CHANNELS[1], "limit": 50}),
    ("broadcast", {"channels": ["soak:a", "soak:b"], "data": {"to": "nobody"}}),
    ("publish", {"data": "without a channel"}),
)
"""API calls that are repeated; the last one is refused."""


@dataclass(frozen=True)
class Shape:
    """How much of each kind of load there is."""

    subscribers: int = 120
    echoes: int = 40
    rate: float = 5.0
    """Publications per second and channel."""
    pause: float = 0.1
    """Seconds between two messages of an echo client, two HTTP requests, two short connections, or two faults."""


@dataclass
class Mixed:
    """
    The load.

    Args:
        port: the server's port on 127.0.0.1.
        redis_port: the port of its Redis.
        shape: how much load.
        seed: the seed of all choices.
    """

    port: int
    redis_port: int
    shape: Shape = field(default_factory=Shape)
    seed: int = 1
    counts: Counter[str] = field(default_factory=Counter)
    _stalls: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self, seconds: float) -> Verdict:
        """
        Run the load, then wait for the last publications, and close all connections.

        Args:
            seconds: how long the load lasts.

        Returns:
            What the checker of the fault tests found.

        Raises:
            Exception: what an echo client, an HTTP request or a short connection met.
        """
        rng = random.Random(self.seed)
        accounts = Accounts()
        subscribers = self._subscribers(rng)
        accounts.logs = [log for subscriber in subscribers for log in subscriber.logs.values()]
        clients = [subscriber for subscriber in subscribers if isinstance(subscriber, Centrifuge)]
        publishers = Publishers(accounts, [self.port], self.redis_port, KEY, clients, rng)
        listening = [asyncio.create_task(subscriber.run()) for subscriber in subscribers]
        try:
            await self._work(seconds, publishers, subscribers, rng)
            await wait_until(lambda: not any(map(is_away, accounts.logs)))
            async with asyncio.timeout(TIMEOUT):
                await publishers.mark(CHANNELS)
            await wait_until(lambda: not any(lacks(log, accounts.markers[log.channel]) for log in accounts.logs))
        finally:
            for task in listening:
                task.cancel()
            await asyncio.gather(*listening, return_exceptions=True)
        return check(accounts)

    def _subscribers(self, rng: random.Random) -> list[Subscriber]:
        made = []
        for number in range(self.shape.subscribers):
            kind = KINDS[number % len(KINDS)]
            wanted = [CHANNELS[number // len(KINDS) % len(CHANNELS)]]
            if kind is not RawFormat and number % 3 == 0:
                wanted.append(CHANNELS[(number // len(KINDS) + 1) % len(CHANNELS)])
            made.append(kind(f"{kind.kind}-{number}", wanted, [self.port], random.Random(rng.random())))
        return made

    async def _work(
        self, seconds: float, publishers: Publishers, subscribers: list[Subscriber], rng: random.Random
    ) -> None:
        works: list[Coroutine[Any, Any, None]] = [
            publishers.run(CHANNELS, self.shape.rate),
            *(self._echo() for _ in range(self.shape.echoes)),
            self._repeat(lambda: self._fetch(rng.choice(PAGES))),
            self._repeat(lambda: self._call(*rng.choice(METHODS))),
            self._repeat(lambda: self._short(rng)),
            self._repeat(lambda: self._disturb(rng.choice(subscribers), rng)),
        ]
        tasks = [asyncio.create_task(work) for work in works]
        try:
            # None of them ends by itself.
            done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _repeat(self, act: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            await asyncio.sleep(self.shape.pause)
            await act()

    async def _echo(self) -> None:
        async with websockets.connect(f"ws://127.0.0.1:{self.port}/echo", compression=None, max_size=None) as echo:
            for number in range(10**9):
                message = f"{number} ".ljust(64 if number % 50 else 100_000, "x")
                await echo.send(message if number % 2 else message.encode())
                async with asyncio.timeout(TIMEOUT):
                    answer = await echo.recv()
                if answer != (message if number % 2 else message.encode()):
                    raise AssertionError(f"echo of message {number} differs: {answer[:80]!r}")
                self.counts["echoes"] += 1
                await asyncio.sleep(self.shape.pause)

    async def _fetch(self, path: str) -> None:
        status = await get(self.port, path, TIMEOUT)
        if status != (404 if path == "/no-such-page" else 200):
            raise AssertionError(f"GET {path}: {status}")
        self.counts["pages"] += 1

    async def _call(self, method: str, body: dict[str, Any]) -> None:
        http = HTTP(KEY)
        try:
            status, answer = await http.post(self.port, f"/api/{method}", body)
        finally:
            http.close()
        if status != (400 if "data" in body and len(body) == 1 else 200):
            raise AssertionError(f"/api/{method}: {status} {answer}")
        self.counts["calls"] += 1

    async def _short(self, rng: random.Random) -> None:
        """Open a connection of some kind, use it once, and leave it in some way."""
        path = rng.choice(("/echo", "/ws?channel=close:1", "/connection/websocket", "/sse?channel=close:2", "/"))
        if path.startswith("/sse"):
            await self._short_stream(path)
            return
        uri = f"ws://127.0.0.1:{self.port}{path}"
        connection = await websockets.connect(uri, compression=rng.choice(("deflate", None)))
        if path in ("/echo", "/"):
            await connection.send("hello")
            await connection.recv()
        elif path.startswith("/connection"):
            await connection.send('{"id":1,"connect":{}}')
            await connection.recv()
        if rng.random() < 0.5:
            await connection.close()
        else:
            connection.transport.abort()
            await connection.wait_closed()
        self.counts["short connections"] += 1

    async def _short_stream(self, path: str) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        async with asyncio.timeout(TIMEOUT):
            await reader.readuntil(b"\r\n\r\n")
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        self.counts["short connections"] += 1

    async def _disturb(self, subscriber: Subscriber, rng: random.Random) -> None:
        """Reset the connection of a subscriber, or let it read nothing for some seconds."""
        await asyncio.sleep(10 * self.shape.pause)
        if rng.random() < 0.7:
            subscriber.drop(rng.uniform(0, 5))
            self.counts["drops"] += 1
        else:
            stall = asyncio.create_task(subscriber.stall(rng.uniform(0, 8)))
            self._stalls.add(stall)
            stall.add_done_callback(self._stalls.discard)
            self.counts["stalls"] += 1


def main() -> None:
    """Run the load for some seconds, and print the outcome as JSON."""
    port, redis_port, seconds = (int(word) for word in sys.argv[1:4])
    mixed = Mixed(port, redis_port)
    verdict = asyncio.run(mixed.run(seconds))
    print(
        json.dumps({"passed": verdict.passed, "faults": verdict.faults, "counts": {**verdict.counts, **mixed.counts}})
    )


if __name__ == "__main__":
    main()
