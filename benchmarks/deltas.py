"""
Deltas: what a server sends to Centrifuge subscribers, and its CPU time, beside complete and compressed publications.

    python benchmarks/deltas.py [subscribers]

Each publication is a JSON list of prices, of which a tenth differ from the publication before. The program starts a
server process for each row, publishes with the HTTP API, and reads what all subscribers receive. It also measures how
long making one delta takes, compiled and in Python.
"""

import http.client
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from random import Random

from subscribers import Subscribers, cpu_seconds, serving

from wsserver.hub.delta import create_delta, py_create_delta

SIZES = (1, 4, 16, 64)
"""Sizes of a publication in KiB."""

PUBLICATIONS = 200
"""Number of publications in each row."""

CONFIG = """
api_key = "bench"
compression = "{compression}"
max_queued_bytes = "16MiB"
channel_allow = ["*"]
[[channel]]
pattern = "*"
delta = "always"
"""


def texts(size: int) -> Iterator[str]:
    """Yield JSON texts of about `size` KiB; a tenth of the values differ from one text to the next."""
    rng = Random(1)  # noqa: S311
    prices = {f"PAIR-{n}": {"price": rng.randrange(10**6) / 100, "open": True} for n in range(size * 1024 // 43)}
    while True:
        yield json.dumps(prices)
        for name in rng.sample(sorted(prices), max(1, len(prices) // 10)):
            prices[name]["price"] = rng.randrange(10**6) / 100


def cost_of_a_delta(create: Callable[[bytes, bytes], bytes | None], size: int) -> tuple[float, int]:
    """Return the microseconds that making a delta takes, the best of five, and its size."""
    made = [text.encode() for text, _ in zip(texts(size), range(21), strict=False)]
    times = []
    for _ in range(5):
        begin, length = time.perf_counter(), 0
        for base, text in pairwise(made):
            length += len(create(base, text) or text)
        times.append(time.perf_counter() - begin)
    return min(times) / 20 * 1e6, length // 20


def measure(size: int, count: int, *, delta: bool, compressed: bool) -> tuple[float, float]:
    """Return the bytes that a subscriber receives for each publication, and the server's microseconds for each."""
    with serving(CONFIG.format(compression="on" if compressed else "off")) as (port, process), ExitStack() as stack:
        subscribe = '{"channel":"prices","delta":"fossil"}' if delta else '{"channel":"prices"}'
        subscribers = Subscribers(port, [subscribe] * count, compressed=compressed)
        stack.callback(subscribers.stop)
        api = http.client.HTTPConnection("127.0.0.1", port)
        received, seconds = subscribers.received, cpu_seconds(process)
        for text, _ in zip(texts(size), range(PUBLICATIONS), strict=False):
            api.request("POST", "/api/publish", f'{{"channel":"prices","data":{text}}}', {"X-API-Key": "bench"})
            assert api.getresponse().read().startswith(b'{"result"')
        subscribers.wait()
        received, seconds = subscribers.received - received, cpu_seconds(process) - seconds
        return received / count / PUBLICATIONS, seconds / PUBLICATIONS * 1e6


def main() -> None:
    """Print the tables of docs/explanation/performance.md."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    print("| size of a publication | size of the delta | compiled | in Python |\n|--:|--:|--:|--:|")
    for size in SIZES:
        (fast, length), (slow, _) = cost_of_a_delta(create_delta, size), cost_of_a_delta(py_create_delta, size)
        print(f"| {size} KiB | {length} B | {fast:.0f} us | {slow:.0f} us |")
    print(f"\n{count} subscribers:\n")
    print("| size of a publication | form | bytes for each subscriber | CPU time for all |\n|--:|---|--:|--:|")
    for size in (4, 16):
        for name, delta, compressed in (
            ("complete", False, False),
            ("compressed", False, True),
            ("delta", True, False),
            ("delta, compressed", True, True),
        ):
            sent, taken = measure(size, count, delta=delta, compressed=compressed)
            print(f"| {size} KiB | {name} | {sent:.0f} | {taken / 1000:.2f} ms |")


if __name__ == "__main__":
    main()
