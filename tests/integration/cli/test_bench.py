"""`wsserver bench` against real servers: ours, `websockets`, `aiohttp` and `ws` of Node, and servers that misbehave."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import threading

import aiohttp.web
import pytest
import websockets
from command_line import PROGRAM, environment
from node import install_node_packages
from websockets.asyncio.server import serve

from wsserver.wire.handshake import response

SHORT = ("--duration", "0.3", "--warmup", "0.1", "--connections", "4")

NODE_ECHO = """
const { WebSocketServer } = require("ws");
const server = new WebSocketServer({ port: 0, host: "127.0.0.1" });
server.on("connection", (one) => one.on("message", (data, isBinary) => one.send(data, { binary: isBinary })));
server.on("listening", () => console.log(server.address().port));
"""


def bench(*words, directory=None, **more):
    """Run the program to its end; return its status, standard output and standard error."""
    done = subprocess.run(
        [PROGRAM, "bench", *words],
        cwd=directory,
        env=environment(**more),
        capture_output=True,
        timeout=60,
        check=False,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr


def figures(*words, **more):
    """Run a measurement that succeeds; return its figures."""
    status, output, errors = bench(*words, *SHORT, "--json", **more)
    assert (status, errors) == (0, "")
    return json.loads(output)


@contextlib.contextmanager
def in_thread(start):
    """Run an asyncio server in a thread: `start` is a coroutine function that returns the port and a stop function."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        port, stop = asyncio.run_coroutine_threadsafe(start(), loop).result(30)
        yield port
        asyncio.run_coroutine_threadsafe(stop(), loop).result(30)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def websockets_server(handler, **options):
    """Return a coroutine function that starts a server of `websockets`."""

    async def start():
        server = await serve(handler, "127.0.0.1", 0, **options)

        async def stop():
            server.close()
            await server.wait_closed()

        return server.sockets[0].getsockname()[1], stop

    return start


async def echo(connection):
    with contextlib.suppress(websockets.ConnectionClosed):
        async for message in connection:
            await connection.send(message)


async def start_aiohttp():
    async def handle(request):
        assert request.headers["Cookie"] == "a=b"
        answer = aiohttp.web.WebSocketResponse(protocols=["chat"])
        await answer.prepare(request)
        async for message in answer:
            await answer.send_str(message.data)
        return answer

    app = aiohttp.web.Application()
    app.router.add_get("/path", handle)
    runner = aiohttp.web.AppRunner(app)
    await runner.setup()
    site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0, shutdown_timeout=0.1)
    await site.start()
    return runner.addresses[0][1], runner.cleanup


class EchoTests:
    """Servers that send back every message."""

    def test_measures_this_server(self, server):
        for payload in ("text", "binary", "utf8"):
            found = figures(f"{server.url.replace('http', 'ws')}/echo", "--payload", payload, "--size", "300")
            assert found["messages"] > 0
            assert 0 < found["p50_us"] <= found["p90_us"] <= found["p99_us"] <= found["p999_us"]
            assert found["max_us"] > 0

    def test_measures_from_a_directory_with_a_package_of_the_same_name(self, server, tmp_path):
        """Such as a checkout, in which the load generator is not compiled."""
        (tmp_path / "wsserver").mkdir()
        (tmp_path / "wsserver/__init__.py").touch()
        assert figures(f"ws://127.0.0.1:{server.port}/echo", directory=tmp_path)["messages"] > 0

    def test_measures_websockets_in_flight(self):
        with in_thread(websockets_server(echo, compression=None)) as port:
            assert figures(f"ws://localhost:{port}", "--in-flight", "8")["messages"] > 0

    def test_measures_aiohttp_with_headers_and_a_subprotocol(self):
        with in_thread(start_aiohttp) as port:
            url = f"ws://127.0.0.1:{port}/path?a=b"
            assert figures(url, "--header", "Cookie: a=b", "--subprotocol", "chat")["messages"] > 0

    def test_measures_ws_of_node(self, tmp_path):
        (tmp_path / "node_modules").symlink_to(install_node_packages() / "node_modules")
        (tmp_path / "echo.js").write_text(NODE_ECHO)
        with subprocess.Popen(["node", "echo.js"], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
            port = int(process.stdout.readline())
            try:
                assert figures(f"ws://127.0.0.1:{port}")["messages"] > 0
            finally:
                process.kill()

    def test_sends_on_schedule(self, server):
        found = figures(f"{server.url.replace('http', 'ws')}/echo", "--rate", "1000")
        assert 200 <= found["messages"] <= 400

    def test_counts_the_deliveries_to_centrifuge_clients(self, start_server):
        server = start_server(channel_publish=("news",))
        url = f"{server.url.replace('http', 'ws')}/connection/websocket"
        assert figures(url, "--centrifuge", "news", "--in-flight", "4")["messages"] > 0

    def test_prints_a_summary(self, server):
        status, output, errors = bench(f"{server.url.replace('http', 'ws')}/echo", *SHORT)
        assert (status, errors) == (0, "")
        assert "4 connections, 64 bytes, 1 in flight" in output
        assert "all correct" in output
        assert "p99.9" in output

    def test_prints_the_figures_so_far_at_ctrl_c(self, server):
        words = [PROGRAM, "bench", f"{server.url.replace('http', 'ws')}/echo", "--duration", "3600", "--warmup", "0.1"]
        with subprocess.Popen(
            words, env=environment(), stdout=subprocess.PIPE, text=True, start_new_session=True
        ) as process:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(2)
            # As a terminal does, to all processes of the group.
            os.killpg(process.pid, signal.SIGINT)
            output, _ = process.communicate(timeout=30)
        assert process.returncode == 0
        assert "all correct" in output


class TLSTests:
    def serve(self, issued):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(issued.fullchain, issued.privkey)
        return in_thread(websockets_server(echo, ssl=context, compression=None))

    def test_accepts_a_certificate_of_a_trusted_authority_for_the_name(self, authority, tmp_path):
        with self.serve(authority.issue(tmp_path / "own")) as port:
            for host in ("localhost", "127.0.0.1"):
                found = figures(f"wss://{host}:{port}", SSL_CERT_FILE=str(authority.root))
                assert found["messages"] > 0

    def test_refuses_an_unknown_authority_and_another_name_unless_insecure(self, authority, tmp_path):
        with self.serve(authority.issue(tmp_path / "own", names=("example.com",))) as port:
            status, _, errors = bench(f"wss://127.0.0.1:{port}", *SHORT)
            assert status == 1
            assert "certificate" in errors
            status, _, errors = bench(f"wss://127.0.0.1:{port}", *SHORT, SSL_CERT_FILE=str(authority.root))
            assert status == 1
            assert "mismatch" in errors
            assert figures(f"wss://127.0.0.1:{port}", "--insecure")["messages"] > 0


@contextlib.contextmanager
def scripted(handle):
    """Run a server that calls `handle` with the socket of each connection, after it has read the request."""

    def accept():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(connection,), daemon=True).start()

    def talk(connection):
        with connection, contextlib.suppress(OSError):
            request = b""
            while b"\r\n\r\n" not in request:
                got = connection.recv(65536)
                if not got:
                    return
                request += got
            handle(connection, request)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept)
        thread.start()
        yield f"ws://127.0.0.1:{listener.getsockname()[1]}/"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def accept_handshake(connection, request):
    key = next(line for line in request.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
    connection.sendall(response(key.partition(b":")[2].strip().decode()))


def refuse(connection, request):
    connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")


def close(connection, request):
    accept_handshake(connection, request)
    connection.sendall(b"\x88\x06\x03\xf0busy")
    connection.recv(65536)


def answer_wrongly(connection, request):
    accept_handshake(connection, request)
    connection.recv(65536)
    connection.sendall(b"\x81\x40" + b"x" * 64)


def drop(connection, request):
    accept_handshake(connection, request)
    connection.recv(65536)


class FaultTests:
    """Servers that do not do what is measured. Each fault is one line, and the exit status is 1."""

    @pytest.mark.parametrize(
        ("handle", "message"),
        [
            (refuse, "refused: HTTP/1.1 403 Forbidden"),
            (close, "closed by the server: 1008 busy"),
            (answer_wrongly, "reply"),
            (drop, "connection ended without a close frame"),
        ],
        ids=["refuses", "closes", "answers wrongly", "drops"],
    )
    def test_says_in_one_line_what_the_server_did(self, handle, message):
        with scripted(handle) as url:
            status, output, errors = bench(url, *SHORT)
        assert (status, output, errors.count("\n")) == (1, "", 1)
        assert errors.startswith(f"wsserver: measuring {url} failed: ")
        assert message in errors

    def test_gives_up_if_the_server_never_answers(self):
        release = threading.Event()
        with scripted(lambda *_: release.wait(60)) as url:
            status, _, errors = bench(url, *SHORT)
            release.set()
        assert status == 1
        assert "0 of 4 connections opened within" in errors

    def test_ends_with_75_if_no_server_listens(self):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        status, output, errors = bench(f"ws://127.0.0.1:{port}/", *SHORT)
        assert (status, output) == (75, "")
        assert "Connection refused" in errors
