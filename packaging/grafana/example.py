"""
Draw the picture of the dashboard in the documentation: run a server under a mixed load, scrape it, and draw the panels.

It needs Redis, Prometheus and OpenSSL, and the Python packages matplotlib and websockets. The server is run by the
`wsserver` on the path. The load stops by itself, 40 seconds before the picture is drawn:

    python packaging/grafana/example.py --minutes 5 --out docs/how-to/dashboard.png
"""

import argparse
import asyncio
import contextlib
import json
import math
import random
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from websockets import ConnectionClosed, InvalidStatus
from websockets.asyncio.client import connect

PUBLIC, TLS, ADMIN, REDIS, BACKEND, PROMETHEUS = range(18390, 18396)
KEY = "example"
OPTIONS = (
    f"--listen=tcp:{PUBLIC}:interface=127.0.0.1",
    f"--admin-listen=tcp:{ADMIN}:interface=127.0.0.1",
    f"--redis=redis://127.0.0.1:{REDIS}",
    f"--hook-connect=http://127.0.0.1:{BACKEND}/connect",
    f"--api-key={KEY}",
    "--metrics=on",
    "--channel-allow=*",
    "--channel-publish=c*",
    "--history-size=100",
    "--ping-interval=5s",
    # Limits that the load reaches.
    "--max-message-size=16KiB",
    "--max-queued-bytes=256KiB",
    "--max-connections-per-address=450",
    "--max-channels-per-client=5",
    "--message-rate=50",
)
SILENCE = 40.0
"""Seconds without load at the end of the picture."""


class Backend(BaseHTTPRequestHandler):
    """Answers hook requests after up to 30 ms; some of the answers are errors."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer a request."""
        self.rfile.read(int(self.headers["content-length"]))
        time.sleep(random.uniform(0.002, 0.03))
        body = b'{"result":{}}'
        self.send_response(500 if random.random() < 0.03 else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Log nothing."""


@contextlib.contextmanager
def running(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the block ends."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.terminate()


@contextlib.contextmanager
def scraped_server(directory: Path) -> Iterator[None]:
    """Run a server with a certificate, its Redis, its backend and a Prometheus that scrapes it."""
    certificate = ("-subj", "/CN=localhost", "-days", "60", "-keyout", f"{directory}/key.pem")
    command = (
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        *certificate,
        "-out",
        f"{directory}/cert.pem",
    )
    subprocess.run(command, check=True, capture_output=True)
    scrapes = [{"job_name": "wsserver", "static_configs": [{"targets": [f"127.0.0.1:{ADMIN}"]}]}]
    # JSON is YAML.
    config = {"global": {"scrape_interval": "3s"}, "scrape_configs": scrapes}
    (directory / "prometheus.yml").write_text(json.dumps(config))
    backend = ThreadingHTTPServer(("127.0.0.1", BACKEND), Backend)
    threading.Thread(target=backend.serve_forever, daemon=True).start()
    endpoint = f"ssl:{TLS}:interface=127.0.0.1:privateKey={directory}/key.pem:certKey={directory}/cert.pem"
    prometheus = (f"--config.file={directory}/prometheus.yml", f"--storage.tsdb.path={directory}/data")
    with (
        running("redis-server", "--port", str(REDIS), "--save", "", "--dir", str(directory)),
        running("wsserver", "serve", *OPTIONS, f"--listen={endpoint}"),
        running("prometheus", *prometheus, f"--web.listen-address=127.0.0.1:{PROMETHEUS}"),
    ):
        yield


class Load:
    """
    Clients of many kinds; each kind connects again and again until the end.

    Args:
        seconds: how long the load lasts.
    """

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds
        self.url = f"ws://127.0.0.1:{PUBLIC}"
        self.kinds: dict[Callable[[], Awaitable[None]], int] = {
            self.echo: 150,
            self.centrifuge: 100,
            self.returning: 60,
            self.stream: 30,
            self.slow: 6,
            self.too_large: 2,
            self.too_fast: 2,
            self.refused: 4,
            self.publish: 6,
            self.publish_much: 1,
            self.info: 1,
        }
        """Kind of client -> number of clients at a time."""

    async def run(self) -> None:
        """Run all clients until the end."""
        async with asyncio.TaskGroup() as tasks:
            for kind, count in self.kinds.items():
                for _ in range(count):
                    tasks.create_task(self.repeat(kind))
                    await asyncio.sleep(0.02)

    async def repeat(self, kind: Callable[[], Awaitable[None]]) -> None:
        """Run a client again and again."""
        while time.monotonic() < self.end:
            try:
                await asyncio.wait_for(kind(), self.end - time.monotonic() + 0.1)
            except (OSError, ConnectionClosed, InvalidStatus, TimeoutError):
                await asyncio.sleep(0.5)

    async def echo(self) -> None:
        """Send messages, and receive them."""
        async with connect(f"{self.url}/echo") as client:
            for _ in range(random.randrange(20, 200)):
                await client.send("x" * random.randrange(10, 500))
                await client.recv()
                await asyncio.sleep(random.expovariate(5))

    async def centrifuge(self) -> None:
        """Subscribe to some channels with the Centrifuge protocol, and publish now and then."""
        async with connect(f"{self.url}/connection/websocket") as client:
            await client.send('{"id":1,"connect":{}}')
            channels = random.sample(range(20), random.choice((3, 3, 3, 7)))
            for number, channel in enumerate(channels):
                await client.send(json.dumps({"id": 2 + number, "subscribe": {"channel": f"c{channel}"}}))
            for _ in range(random.randrange(20, 90)):
                with contextlib.suppress(TimeoutError):
                    if await asyncio.wait_for(client.recv(), 1) == "{}":
                        await client.send("{}")
                if random.random() < 0.05:
                    await client.send('{"id":99,"publish":{"channel":"c1","data":{"x":1}}}')

    async def returning(self) -> None:
        """Subscribe, leave, and come back with the position; some were away for so long that it is lost."""
        channel, position = f"c{random.randrange(20)}", ""
        for _ in range(5):
            async with connect(f"{self.url}/ws?channel={channel}&format=json{position}") as client:
                until = time.monotonic() + random.uniform(2, 10)
                while time.monotonic() < until:
                    with contextlib.suppress(TimeoutError):
                        found = json.loads(await asyncio.wait_for(client.recv(), 1))
                        if "offset" in found:
                            offset = 1 if random.random() < 0.01 else found["offset"]
                            position = f"&last_event_id={found['epoch']}:{offset}"

    async def stream(self) -> None:
        """Receive an event stream."""
        await self.read_raw("/sse?channel=c1", random.uniform(10, 40), b"")

    async def slow(self) -> None:
        """Subscribe to a channel with much data, and do not read."""
        head = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        await self.read_raw("/ws?channel=big", 0, f"{head}Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n".encode())

    async def read_raw(self, path: str, seconds: float, headers: bytes) -> None:
        """Send a request, read the response for some seconds, then wait without reading."""
        reader, writer = await asyncio.open_connection("127.0.0.1", PUBLIC, limit=1024)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{PUBLIC}\r\n".encode() + headers + b"\r\n")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    while await reader.read(4096):
                        pass
            await asyncio.sleep(0 if seconds else random.uniform(20, 40))
        finally:
            writer.close()

    async def too_large(self) -> None:
        """Send a message that is too large."""
        await asyncio.sleep(random.expovariate(0.5))
        async with connect(f"{self.url}/echo") as client:
            await client.send("x" * 20_000)
            await client.recv()

    async def too_fast(self) -> None:
        """Send more messages than the server reads."""
        async with connect(f"{self.url}/echo") as client:
            for _ in range(1000):
                await client.send("x")
            for _ in range(1000):
                await client.recv()

    async def refused(self) -> None:
        """Connect from a page of another origin, or to a path that does not exist."""
        await asyncio.sleep(random.expovariate(1))
        if random.random() < 0.7:
            await connect(f"{self.url}/echo", origin="https://evil.example")
        else:
            await connect(f"{self.url}/nothing")

    async def publish(self) -> None:
        """Publish through the HTTP API, more often at some times than at others."""
        await self.call("publish", {"channel": f"c{random.randrange(20)}", "data": "x" * random.randrange(20, 400)})
        await asyncio.sleep(random.expovariate(20 * (1 + 0.7 * math.sin(time.time() / 20))))

    async def publish_much(self) -> None:
        """Publish much data, for the clients that do not read."""
        await self.call("publish", {"channel": "big", "data": "y" * 30_000})
        await asyncio.sleep(0.05)

    async def info(self) -> None:
        """Call other methods of the HTTP API."""
        await self.call(random.choice(("info", "channels", "presence")), {"channel": "c1"})
        await asyncio.sleep(2)

    async def call(self, method: str, content: object) -> None:
        """Call a method of the HTTP API; an error is an answer, too."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{ADMIN}/api/{method}", json.dumps(content).encode(), {"X-API-Key": KEY}
        )
        with contextlib.suppress(urllib.error.HTTPError):
            await asyncio.to_thread(urllib.request.urlopen, request, timeout=5)


async def interrupt(seconds: float) -> None:
    """Interrupt the connections to Redis after some seconds."""
    await asyncio.sleep(seconds)
    for kind in ("normal", "pubsub"):
        command = ("redis-cli", "-p", str(REDIS), "client", "kill", "type", kind)
        await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL)


async def work(seconds: float) -> None:
    """Run the load, with an outage of Redis in the middle."""
    await asyncio.gather(Load(seconds).run(), interrupt(seconds / 2))


def main() -> None:
    """Run everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5, help="how long the picture is")
    parser.add_argument("--out", type=Path, default=Path("dashboard.png"), help="the picture")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, scraped_server(Path(directory)):
        time.sleep(5)
        asyncio.run(work(chosen.minutes * 60 - SILENCE))
        time.sleep(SILENCE - 5)
        words = (
            "--prometheus",
            f"http://127.0.0.1:{PROMETHEUS}",
            "--minutes",
            str(chosen.minutes),
            "--out",
            chosen.out,
        )
        subprocess.run([sys.executable, str(Path(__file__).with_name("render.py")), *map(str, words)], check=True)


if __name__ == "__main__":
    main()
