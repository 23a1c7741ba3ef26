"""
The server as a process of its own, under each reactor of twistd, with and without epoll.

`twistd` runs the server from this source tree.
"""

import contextlib
import os
import select
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from paths import ROOT
from peers import BINARY, CLOSE, PING, PONG, TEXT, RawPeer, close_payload, frame
from server_process import Process
from waiting import TIMEOUT, wait_until

WITHOUT_EPOLL = """
import select, sys
del select.epoll
from twisted.scripts.twistd import run
sys.argv[0] = "twistd"
run()
"""

REACTORS = {
    "epoll": ("epoll", True),
    "poll": ("poll", True),
    "select": ("select", True),
    "asyncio": ("asyncio", True),
    "select without epoll": ("select", False),
}
"""Name -> twistd's name of the reactor, and whether the system has epoll."""


def environment() -> dict[str, str]:
    """Return this process's environment, with our source first and without the server's settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WSSERVER_")}
    paths = [str(ROOT), *filter(None, [kept.get("PYTHONPATH")])]
    return kept | {"PYTHONPATH": os.pathsep.join(paths)}


class ReactorProcess(Process):
    """The server under a reactor, on TCP, TLS and a UNIX socket."""

    def __init__(self, name: str, directory: Path, certificate: tuple[Path, Path], close_timeout: str) -> None:
        reactor, has_epoll = REACTORS[name]
        twistd = [str(Path(sys.executable).parent / "twistd")] if has_epoll else ["-c", WITHOUT_EPOLL]
        self.unix = str(directory / "s")
        listeners = (
            "tcp:0:interface=127.0.0.1",
            f"ssl:0:privateKey={certificate[0]}:certKey={certificate[1]}:interface=127.0.0.1",
            f"unix:{self.unix}",
        )
        options = [word for listener in listeners for word in ("--listen", listener)]
        options += ["--max-message-size", "4MiB", "--close-timeout", close_timeout]
        command = [sys.executable, *twistd, "-n", "--pidfile=", "-r", reactor, "wsserver"]
        super().__init__(*options, command=command, directory=directory, environ=environment())
        self.tls_port = self.find_port("https")

    def count_epolls(self) -> int:
        """Return the number of epoll instances of the process."""
        count = 0
        for entry in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                count += "eventpoll" in str(entry.readlink())
        return count


@contextlib.contextmanager
def run_server(
    name: str, directory: Path, certificate: tuple[Path, Path], close_timeout: str = "60s"
) -> Iterator[ReactorProcess]:
    """Run a server under a reactor until the block ends; its log must have no traceback."""
    server = ReactorProcess(name, directory, certificate, close_timeout)
    try:
        yield server
    finally:
        server.kill()
        log = server.read_log()
        server.close()
    assert "Traceback" not in log, log


@pytest.fixture(scope="module", params=REACTORS)
def name(request: pytest.FixtureRequest) -> str:
    """Return the name of the reactor in REACTORS."""
    return str(request.param)


@pytest.fixture(scope="module")
def running(
    name: str, tmp_path_factory: pytest.TempPathFactory, certificate: tuple[Path, Path]
) -> Iterator[ReactorProcess]:
    """Return a server that runs for all tests of a reactor."""
    with run_server(name, tmp_path_factory.mktemp("s"), certificate) as server:
        yield server


@pytest.fixture(params=["tcp", "tls", "unix"])
def connect(request: pytest.FixtureRequest, running: ReactorProcess, tls_client: ssl.SSLContext):
    """Return a function that opens WebSocket connections, for each kind of listener."""

    def connect(**options) -> RawPeer:
        peers = {
            "tcp": lambda: RawPeer(running.port, **options),
            "tls": lambda: RawPeer(running.tls_port, tls=tls_client, **options),
            "unix": lambda: RawPeer(path=running.unix, **options),
        }
        peer = peers[request.param]()
        peer.handshake("/echo")
        return peer

    return connect


def send(peer: RawPeer, data: bytes, unread: float = 0) -> None:
    """
    Send data and read meanwhile, as a client must if the answers fill every buffer.

    Both happen in one thread, because Python's TLS sockets do not support two threads.

    Args:
        peer: the sending client.
        data: the bytes to send.
        unread: seconds to send without reading.
    """
    wants = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
    parts, rest, first_read = [], memoryview(data), time.monotonic() + unread
    peer.socket.setblocking(False)
    while rest:
        sent = 0
        with contextlib.suppress(*wants):
            sent = peer.socket.send(rest[:65536])
        rest = rest[sent:]
        if time.monotonic() >= first_read:
            with contextlib.suppress(*wants):
                while part := peer.socket.recv(1 << 18):
                    parts.append(part)
        if not sent:
            select.select([peer.socket] if time.monotonic() >= first_read else [], [peer.socket], [], 0.02)
    peer.socket.settimeout(TIMEOUT)
    peer.buffer += b"".join(parts)


class EchoTests:
    def test_runs_the_server_of_this_source_tree(self):
        """This holds even if another version is installed."""
        words = [sys.executable, "-c", "import wsserver; print(wsserver.__file__)"]
        result = subprocess.run(words, env=environment(), cwd="/", capture_output=True, text=True, check=True)
        assert Path(result.stdout.strip()).is_relative_to(ROOT)

    def test_echoes_fifty_small_messages(self, connect):
        with connect() as peer:
            for number in range(50):
                assert peer.echoes(f"message {number}")

    def test_echoes_an_empty_message(self, connect):
        with connect() as peer:
            assert peer.echoes("")

    def test_echoes_one_mebibyte_three_times(self, connect):
        data = os.urandom(1 << 20)
        with connect() as peer:
            for _ in range(3):
                send(peer, frame(BINARY, data))
                assert peer.read_message() == data

    def test_echoes_a_frame_that_arrives_byte_by_byte(self, connect):
        with connect() as peer:
            for byte in frame(TEXT, b"slowly"):
                peer.send(bytes([byte]))
            assert peer.read_message() == "slowly"

    def test_echoes_five_thousand_pipelined_messages_in_order(self, connect):
        count = 5000
        with connect() as peer:
            send(peer, b"".join(frame(TEXT, b"%d" % number) for number in range(count)))
            for number in range(count):
                assert peer.read_message() == str(number)

    def test_sends_every_echo_to_a_client_that_reads_late(self, connect):
        """The echoes fill every buffer."""
        data, count = os.urandom(100_000), 100
        with connect(receive_buffer=16384) as peer:
            send(peer, frame(BINARY, data) * count, unread=0.1)
            for _ in range(count):
                assert peer.read_message() == data

    def test_answers_a_ping_before_the_next_message(self, connect):
        with connect() as peer:
            peer.send(frame(PING, b"here?") + frame(TEXT, b"text"))
            got = peer.read_frame()
            assert (got.opcode, got.payload) == (PONG, b"here?")
            assert peer.read_message() == "text"

    def test_twenty_connections_each_receive_their_own_echoes(self, connect):
        with contextlib.ExitStack() as stack:
            peers = [stack.enter_context(connect()) for _ in range(20)]
            for round_ in range(3):
                for number, peer in enumerate(peers):
                    peer.send_frame(TEXT, b"%d of %d" % (number, round_))
                for number, peer in enumerate(peers):
                    assert peer.read_message() == f"{number} of {round_}"


BAD = {
    "a bad frame": (frame(TEXT, b"x", masked=False), 1002),
    "text that is no UTF-8": (frame(TEXT, b"\xff"), 1007),
    "too long a message": (frame(BINARY, b"", length_bytes=8, declared=5 << 20), 1009),
}


class CloseTests:
    def test_echoes_the_clients_close_code_and_ends_the_stream(self, connect):
        for code in (1000, 1001, 3000, 4999):
            with connect() as peer:
                peer.send_frame(CLOSE, close_payload(code))
                assert peer.read_close().close_code == code
                assert peer.read_to_end() == b""

    def test_closes_with_1002_1007_or_1009_and_ends_the_stream(self, connect):
        for case, (data, code) in BAD.items():
            with connect() as peer:
                peer.send(data)
                assert peer.read_close().close_code == code, case
                # Bytes after the head of a message that is too long are its payload, so the client cannot answer.
                if code != 1009:
                    peer.send_frame(CLOSE, close_payload(code))
                    assert peer.read_to_end() == b"", case

    def test_sends_unread_echoes_before_the_close_frame(self, connect):
        """The client closes before it has read its echoes."""
        data, count = os.urandom(1 << 20), 8
        with connect(receive_buffer=16384) as peer:
            send(peer, frame(BINARY, data) * count + frame(CLOSE, close_payload(1000)), unread=0.1)
            for _ in range(count):
                assert peer.read_message() == data
            assert peer.read_close().close_code == 1000
            # Reading times out before --close-timeout does, so the server has ended the connection by itself.
            assert peer.read_to_end() == b""

    @pytest.mark.parametrize("kind", ["end", "reset"])
    def test_closes_the_descriptors_of_vanished_clients(self, running, kind):
        """Other clients are served."""

        def files() -> int:
            return len(os.listdir(f"/proc/{running.process.pid}/fd"))

        with RawPeer(running.port) as witness:
            witness.handshake()
            assert witness.echoes()
            before = files()
            peers = [RawPeer(running.port) for _ in range(20)]
            for peer in peers:
                peer.handshake()
            assert files() >= before + 20
            for peer in peers:
                peer.send_frame(TEXT, b"never read")
                peer.reset() if kind == "reset" else peer.socket.close()
            wait_until(lambda: files() <= before, "its sockets closed")
            assert witness.echoes()

    def test_sigterm_closes_every_connection_with_1001_and_ends_the_process(
        self, name, tmp_path, certificate, tls_client
    ):
        """The process ends within --close-timeout, although one client never answers."""
        with run_server(name, tmp_path, certificate, close_timeout="500ms") as server, contextlib.ExitStack() as stack:
            peers = [
                stack.enter_context(peer)
                for peer in (RawPeer(server.port), RawPeer(server.tls_port, tls=tls_client), RawPeer(path=server.unix))
            ]
            silent = stack.enter_context(RawPeer(server.port))
            silent.handshake()
            idle = stack.enter_context(RawPeer(server.port))
            for peer in peers:
                peer.handshake()
                assert peer.echoes()
            server.process.send_signal(signal.SIGTERM)
            for peer in peers:
                close = peer.read_close()
                assert (close.close_code, close.close_reason) == (1012, "the server is stopping")
                peer.send_frame(CLOSE, close.payload)
                assert peer.read_to_end() == b""
            # A client that never answers, and one without a request, do not delay the end.
            assert server.process.wait(TIMEOUT) == -signal.SIGTERM
            assert idle.has_ended()


class PageTests:
    """HTTP requests to the ports that also accept WebSocket connections."""

    @pytest.mark.parametrize("listener", ["tcp", "tls", "unix"])
    def test_serves_the_page_twice_on_one_connection(self, running, tls_client, listener):
        peers = {
            "tcp": lambda: RawPeer(running.port),
            "tls": lambda: RawPeer(running.tls_port, tls=tls_client),
            "unix": lambda: RawPeer(path=running.unix),
        }
        with peers[listener]() as peer:
            for _ in range(2):
                response = peer.request("/")
                assert response.status == 200
                assert "<!doctype html>" in response.text.lower()


class EpollTests:
    """The number of epoll instances that the process uses."""

    def test_uses_one_epoll_instance_for_connections_if_the_system_has_epoll(self, running, name):
        """Without epoll, the reactor watches the connections."""
        reactor, has_epoll = REACTORS[name]
        with RawPeer(running.port) as peer:
            peer.handshake()
            assert peer.echoes()
            its_own = 1 if has_epoll else 0
            # asyncio waits by epoll as well, where there is one.
            of_reactor = 1 if has_epoll and reactor in ("epoll", "asyncio") else 0
            assert running.count_epolls() == its_own + of_reactor


class StarvationTests:
    """One client sends without a pause; the server must still answer another one."""

    def test_answers_both_a_flooding_client_and_another(self, running):
        """The flood consists of the smallest frames."""
        stop = threading.Event()
        flood = frame(TEXT, b"") * 10_000
        answered = 0

        def send_without_pause() -> None:
            nonlocal answered
            with RawPeer(running.port) as greedy:
                greedy.handshake()
                greedy.socket.setblocking(False)
                rest = memoryview(flood)
                while not stop.is_set():
                    readable, writable, _ = select.select([greedy.socket], [greedy.socket], [], 0.1)
                    if readable:
                        answered += len(greedy.socket.recv(1 << 20))
                    if writable:
                        with contextlib.suppress(BlockingIOError):
                            rest = rest[greedy.socket.send(rest) :] or memoryview(flood)
                with contextlib.suppress(OSError):
                    greedy.socket.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=send_without_pause, daemon=True)
        try:
            with RawPeer(running.port) as modest:
                modest.handshake()
                thread.start()
                for _ in range(20):
                    before = answered
                    assert modest.echoes("and me?")
                    wait_until(lambda before=before: answered > before, "the other one is answered as well")
            wait_until(lambda: answered > 10_000, "10,000 bytes of answers")
        finally:
            stop.set()
            thread.join(TIMEOUT)
