"""
Measure how long resubscribing to 10 000 channels takes after the connection to Redis was lost.

    python benchmarks/resubscribe.py [channels]

Starts its own `redis-server`, and closes the connection with the subscriptions five times.
"""

import contextlib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks
from twisted.internet.task import react

from wsserver.config.redis_url import parse_redis_url
from wsserver.redis.supervisor import RedisLink

AT_ONCE = 5000


@contextlib.contextmanager
def redis_server() -> Iterator[int]:
    """Run a Redis server; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as directory:
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", directory]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603 (ours)
        try:
            yield port
        finally:
            process.kill()
            process.wait()


@inlineCallbacks
def measure(_: Any, port: int, channels: int) -> Generator[Any, Any, None]:
    """Close the connection five times; each time, print how long it took until all subscriptions were restored."""
    rising: list[Deferred[float]] = []

    def rise() -> "Deferred[float]":
        rising.append(Deferred())
        return rising[-1]

    link = RedisLink(
        parse_redis_url(f"redis://127.0.0.1:{port}"),
        reactor,
        on_messages=lambda _: None,
        on_up=lambda _: rising.pop().callback(time.monotonic()),
        on_down=lambda: None,
        on_permission_revoked=lambda _: None,
    )
    up = rise()
    link.start()
    yield up
    for start in range(0, channels, AT_ONCE):
        some = range(start, min(start + AT_ONCE, channels))
        yield gatherResults([link.subscribe(b"channel:%d" % number) for number in some])
    times = []
    for _ in range(5):
        up, began = rise(), time.monotonic()
        cut = ["redis-cli", "-p", str(port), "CLIENT", "KILL", "TYPE", "pubsub"]
        subprocess.run(cut, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 (ours)
        times.append((yield up) - began)
    yield link.stop()
    shown = " ".join(f"{one:.2f}" for one in sorted(times))
    print(f"{channels} channels: heard again after {shown} s")


if __name__ == "__main__":
    with redis_server() as port:
        react(measure, (port, int(sys.argv[1]) if len(sys.argv) > 1 else 10_000))
