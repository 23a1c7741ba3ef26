"""Server processes that receive signals, and the exact log lines from start to stop."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest
from backend import Backend
from peers import CLOSE, TEXT, RawPeer, close_payload
from server_process import Process
from waiting import wait_until

from wsserver.process.signals import SAME
from wsserver.wire.drain import AT_ONCE


def messages(server):
    """Return the log lines without time and namespace."""
    return [line.partition("] ")[2] for line in server.read_log().splitlines()]


@pytest.fixture
def start():
    """Return a function that starts a server; servers are killed after the test."""
    started = []

    def start(*options, **arguments):
        started.append(Process(*options, **arguments))
        return started[-1]

    yield start
    for server in started:
        server.close()


class SignalTests:
    """The effect of each signal."""

    def test_logs_and_ignores_sigusr1_and_sigusr2(self, start):
        """Log rotation sends SIGUSR1; no client is disconnected."""
        server = start()
        with RawPeer(server.port) as peer:
            peer.handshake("/echo")
            for number in (signal.SIGUSR1, signal.SIGUSR2):
                server.process.send_signal(number)
                wait_until(lambda number=number: f"{number.name} ignored: " in server.read_log(), "a line")
                assert peer.echoes()

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
    def test_a_second_signal_ends_the_server_at_once_by_that_signal(self, start, number):
        """The first one waits for a peer that does not answer its Close frame."""
        server = start("--close-timeout", "300s", "--drain-timeout", "300s")
        with RawPeer(server.port) as peer:
            peer.handshake("/echo")
            server.process.send_signal(signal.SIGTERM)
            assert peer.read_close().close_code == 1012
            time.sleep(SAME)
            server.process.send_signal(number)
            assert server.process.wait(20) in (-number, -signal.SIGTERM)
        assert f"{number.name} ends the server at once" in server.read_log()
        assert "Traceback" not in server.read_log()

    def test_a_second_signal_sends_the_close_frames_that_are_still_due(self, start):
        server = start("--drain-jitter", "300s", "--drain-timeout", "300s")
        peers = [RawPeer(server.port) for _ in range(AT_ONCE + 50)]
        for peer in peers:
            peer.handshake("/echo")
        server.process.send_signal(signal.SIGTERM)
        time.sleep(SAME)
        server.process.send_signal(signal.SIGTERM)
        for peer in peers:
            assert peer.read_close().close_code == 1012
            peer.socket.close()
        assert server.process.wait(20) == -signal.SIGTERM

    def test_takes_two_signals_at_the_same_time_for_one(self, start):
        """A terminal and the program that started the server may each send one: the server drains."""
        server = start()
        with RawPeer(server.port) as peer:
            peer.handshake("/echo")
            server.process.send_signal(signal.SIGINT)
            server.process.send_signal(signal.SIGTERM)
            assert peer.read_close().close_code == 1012
            peer.send_frame(CLOSE, close_payload(1012))
            peer.read_to_end()
        assert server.process.wait(20) in (-signal.SIGINT, -signal.SIGTERM)
        assert "at once" not in server.read_log()

    def test_three_signals_at_once_stop_the_server_without_a_traceback(self, start):
        """The signals arrive before the reactor has handled the first one."""
        server = start()
        for _ in range(3):
            server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == -signal.SIGTERM
        assert "Traceback" not in server.read_log()


class PidFileTests:
    """`twistd --pidfile=...` after the previous server was killed."""

    @pytest.fixture
    def command(self, tmp_path):
        """Return the command that runs the server."""
        twistd = "import sys; from twisted.scripts.twistd import run; run()"
        return [sys.executable, "-c", twistd, "-n", f"--pidfile={tmp_path / 'a.pid'}", "wsserver", "--port", "0"]

    def test_starts_if_the_process_id_belongs_to_another_program(self, start, tmp_path, command):
        """Twisted itself treats any process with that ID as a running server."""
        (tmp_path / "a.pid").write_text(str(os.getppid()))
        server = start(command=command)
        assert (tmp_path / "a.pid").read_text() == str(server.process.pid)
        # Twisted handles signals once its reactor runs, which the log does not show.
        with RawPeer(server.port) as peer:
            assert peer.handshake("/echo").status == 101
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(20)
        assert not (tmp_path / "a.pid").exists()

    def test_refuses_a_file_without_a_process_id_in_one_line(self, tmp_path, command):
        (tmp_path / "a.pid").write_text("precious")
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode == 1
        assert done.stderr == (
            f"wsserver: the pid file {tmp_path / 'a.pid'} does not contain a process ID; "
            "remove it, or start with twistd --pidfile FILE -n wsserver, or use wsserver serve\n"
        )


class LogTests:
    """The lines that a server logs."""

    def test_a_drain_logs_how_many_connections_it_closes_and_how_long_that_takes(self, start):
        server = start("--drain-timeout", "20s")
        with RawPeer(server.port) as peer:
            peer.handshake("/echo")
            server.process.send_signal(signal.SIGTERM)
            assert peer.read_close().close_code == 1012
            peer.send_frame(CLOSE, close_payload(1012))
        server.process.wait(20)
        assert "draining connections=1 timeout=20s" in messages(server)
        assert any(re.fullmatch(r"drained connections=1 seconds=\d+\.\d", line) for line in messages(server))

    def test_logs_exactly_nine_lines_from_start_to_stop(self, start):
        """The log has no lines of Twisted's own factories, not even for a hook call."""
        backend = Backend()
        backend.answer = lambda path, body: {"result": {"user": "42"}}
        try:
            server = start("--hook-connect", backend.url("/connect"), "--catch-all", "off")
            with RawPeer(server.port) as peer:
                peer.handshake("/connection/websocket")
                peer.send_frame(TEXT, b'{"id":1,"connect":{}}')
                assert b"client" in peer.read_frame().payload
                peer.send_frame(CLOSE, close_payload(1000))
                peer.read_close()
            wait_until(lambda: "connection closed" in server.read_log(), "the connection has ended")
            server.process.send_signal(signal.SIGTERM)
            server.process.wait(20)
        finally:
            backend.close()
        expected = [
            "twistd .* starting up.",
            "reactor class: .*",
            r"unknown WebSocket paths .*",
            "the page is at .*",
            "connection opened number=1 .*",
            "connection closed number=1 .*",
            "Received SIGTERM, shutting down.",
            "Main loop terminated.",
            "Server Shut Down.",
        ]
        assert len(messages(server)) == len(expected), server.read_log()
        assert all(map(re.fullmatch, expected, messages(server))), server.read_log()
