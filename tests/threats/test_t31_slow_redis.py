"""T31: a slow connection to Redis, and a server that is slow to read from it."""

import asyncio
import json
import multiprocessing
import signal
import time

import pytest
from arena import KIB, unaffected
from http_api import KEY
from peers import RawPeer
from ports import free_port

DELAY, RATE = 0.2, 64 * KIB


async def forward(reader, writer):
    """Forward data, late and slowly."""
    queue = asyncio.Queue(64)

    async def take():
        while data := await reader.read(4096):
            await queue.put((time.monotonic() + DELAY, data))
        await queue.put((0, b""))

    task = asyncio.create_task(take())
    try:
        while True:
            due, data = await queue.get()
            if not data:
                break
            await asyncio.sleep(max(len(data) / RATE, due - time.monotonic()))
            writer.write(data)
            await writer.drain()
    finally:
        task.cancel()
        writer.close()


def run_proxy(port, to):
    """Forward connections to another port, with 200 ms of delay and 64 KiB/s in each direction."""

    async def connected(reader, writer):
        other_reader, other_writer = await asyncio.open_connection("127.0.0.1", to)
        await asyncio.gather(forward(reader, other_writer), forward(other_reader, writer), return_exceptions=True)

    async def serve():
        async with await asyncio.start_server(connected, "127.0.0.1", port) as server:
            await server.serve_forever()

    asyncio.run(serve())


@pytest.fixture
def slow_redis(redis):
    """Start a slow proxy before Redis; return its URL."""
    port = free_port()
    process = multiprocessing.get_context("fork").Process(target=run_proxy, args=(port, redis.port), daemon=True)
    process.start()
    yield f"redis://127.0.0.1:{port}"
    process.kill()
    process.join()


def ready(server):
    return server.get("/ready").status == 200


def test_t31_a_slow_redis_does_not_delay_other_work(start_server, slow_redis, redis, figures, full):
    """While the connection to Redis is slow, echoes are not delayed, and what is queued for Redis stays bounded."""
    server = start_server("--redis", slow_redis, "--channel-allow", "*", message_limit=None)
    server.wait_for(lambda: ready(server), "ready")
    body = json.dumps({"channel": "news", "data": "x" * 5000}).encode()
    request = (
        f"POST /api/publish HTTP/1.1\r\nHost: a\r\nX-API-Key: {KEY}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    )
    peers = [RawPeer(server.port) for _ in range(20)]
    time.sleep(0.5)
    before, peak, statuses, end = server.rss(), 0, [], time.monotonic() + (20 if full else 3)
    with unaffected(server, figures), server.open("/ws?channel=news"):
        while time.monotonic() < end:
            for number, peer in enumerate(peers):
                peer.socket.settimeout(0.02)
                try:
                    peer.send((request + body) * 3)
                    peer.buffer += peer.socket.recv(65536)
                except TimeoutError:
                    pass
                except ConnectionError:
                    peers[number] = RawPeer(server.port)
            peak = max(peak, server.rss())
    statuses = sum(peer.buffer.count(b"HTTP/1.1 ") for peer in peers)
    for peer in peers:
        peer.socket.close()
    figures.at_least(1, statuses, "publications answered")
    figures.at_most(8 * KIB + 20 * 128, (peak - before) / KIB, "memory for what is queued", "KiB")


@pytest.mark.waits
def test_t31_a_stopped_server_notices_what_it_missed(start_server, redis, figures, full):
    """
    A server that is stopped while Redis publishes, until Redis drops it, recovers or reports what it missed.

    Redis drops a subscriber with more than 1 MiB queued here, instead of 32 MiB, so that seconds suffice.
    """
    redis.run("CONFIG", "SET", "client-output-buffer-limit", "pubsub 1mb 256kb 1")
    server = start_server("--redis", redis.url, "--channel-allow", "*", "--channel-format", "json", message_limit=None)
    other = start_server("--redis", redis.url)
    for one in (server, other):
        one.wait_for(lambda one=one: ready(one), "ready")
    count = 400
    with server.open("/ws?channel=news") as peer:
        server.process.send_signal(signal.SIGSTOP)
        try:
            with other.connect() as publisher:
                for number in range(count):
                    body = json.dumps({"channel": "news", "data": f"{number}:" + "x" * 30_000}).encode()
                    answer = publisher.request("/api/publish", f"X-API-Key: {KEY}", method="POST", body=body)
                    assert answer.status == 200
            time.sleep(2)
        finally:
            server.process.send_signal(signal.SIGCONT)
        # Redis has dropped the server; it may first read what had arrived before.
        server.wait_for(lambda: server.log().count("connected to Redis") >= 2, "connected again")
        server.wait_for(lambda: ready(server), "ready again")
        with other.connect() as publisher:
            body = json.dumps({"channel": "news", "data": "last"}).encode()
            assert publisher.request("/api/publish", f"X-API-Key: {KEY}", method="POST", body=body).status == 200
        got, gaps = set(), 0
        while True:
            message = json.loads(peer.read_message())
            gaps += message.get("event") == "gap"
            if message.get("data") == "last":
                break
            if "data" in message:
                got.add(int(message["data"].partition(":")[0]))
    missing = count - len(got)
    figures.at_most(0, missing if not gaps else 0, f"silently lost of {count}")
