"""
Deltas: what a server sends to Centrifuge subscribers, and its CPU time, beside complete and compressed publications.

    python benchmarks/deltas.py [subscribers]

Each publication is a JSON list of prices, of which a tenth differ from the publication before. The program starts a
server process for each row, publishes with the HTTP API, and reads what all subscribers receive. It also measures how
long making one delta takes, compiled and in Python.
"""

import http.client
import json
import selectors
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import pairwise
from os import sysconf
from pathlib import Path
from random import Random

from wsserver.hub.delta import create_delta, py_create_delta

SIZES = (1, 4, 16, 64)
"""Sizes of a publication in KiB."""

PUBLICATIONS = 200
"""Number of publications in each row."""

CONFIG = """
port = {port}
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


@contextmanager
def serving(compression: bool) -> Iterator[tuple[int, int]]:
    """Run a server; yields its port and the ID of its process."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as directory:
        config, log = Path(directory, "config.toml"), Path(directory, "log")
        config.write_text(CONFIG.format(port=port, compression="on" if compression else "off"))
        command = [Path(sys.executable).with_name("wsserver"), "serve", "--config", config]
        with log.open("w") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output)  # noqa: S603 (ours)
        try:
            while True:
                with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                if process.poll() is not None:
                    raise RuntimeError(log.read_text())
                time.sleep(0.05)
            yield port, process.pid
        finally:
            process.terminate()
            process.wait(10)


class Subscribers:
    """
    Subscribers that count the bytes that they receive, in a thread.

    Args:
        port: the server's port.
        count: their number.
        subscribe: the fields of the command `subscribe`.
        compressed: whether they offer compression.
    """

    def __init__(self, port: int, count: int, subscribe: str, *, compressed: bool) -> None:
        self.received, self._stopped = 0, False
        self._selector = selectors.DefaultSelector()
        self._buffer = bytearray(1 << 20)
        offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n" if compressed else ""
        head = (
            "GET /connection/websocket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{offer}\r\n"
        )
        commands = f'{{"id":1,"connect":{{}}}}\n{{"id":2,"subscribe":{subscribe}}}'.encode()
        # Masked with zeros, which leave the payload as it is (RFC 6455 section 5.3).
        frame = bytes([0x81, 0x80 | len(commands), 0, 0, 0, 0]) + commands
        for _ in range(count):
            one = socket.create_connection(("127.0.0.1", port))
            one.sendall(head.encode() + frame)
            one.setblocking(False)
            self._selector.register(one, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        self.wait()

    def _read(self) -> None:
        while not self._stopped:
            for key, _ in self._selector.select(0.1):
                with suppress(BlockingIOError):
                    self.received += key.fileobj.recv_into(self._buffer)  # type: ignore[union-attr]

    def wait(self) -> None:
        """Wait until nothing has arrived for half a second."""
        before = -1
        while before != self.received:
            before = self.received
            time.sleep(0.5)

    def stop(self) -> None:
        """Close the connections."""
        self._stopped = True
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()


def cpu_seconds(process: int) -> float:
    """Return the CPU time that a process has taken."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / sysconf("SC_CLK_TCK")


def measure(size: int, count: int, *, delta: bool, compressed: bool) -> tuple[float, float]:
    """Return the bytes that a subscriber receives for each publication, and the server's microseconds for each."""
    with serving(compressed) as (port, process), ExitStack() as stack:
        subscribe = '{"channel":"prices","delta":"fossil"}' if delta else '{"channel":"prices"}'
        subscribers = Subscribers(port, count, subscribe, compressed=compressed)
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
