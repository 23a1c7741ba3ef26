"""A server that runs: in the foreground, as a daemon, and how it stops."""

import json
import os
import signal
import socket
from pathlib import Path

import pytest
from environments import Environment
from programs import run, running, wait_until
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect, unix_connect

FOREGROUND = {"twistd": ("twistd", "-n", "--pidfile=", "wsserver"), "wsserver serve": ("wsserver", "serve")}


def is_alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


class StoppingTests:
    """SIGINT and SIGTERM."""

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
    @pytest.mark.parametrize("command", FOREGROUND.values(), ids=FOREGROUND)
    def test_clients_are_told(self, from_wheel: Environment, tmp_path: Path, command, number):
        """On either signal clients see 1001 and the server ends without a traceback."""
        words = (from_wheel.bin(command[0]), *command[1:], "--port", "0", "--close-timeout", "2s")
        with running(*words, directory=tmp_path) as server:
            with connect(f"ws://127.0.0.1:{server.port()}/echo", proxy=None) as peer:
                server.process.send_signal(number)
                with pytest.raises(ConnectionClosed) as caught:
                    peer.recv(timeout=30)
                assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (1001, "the server is stopping")
            server.process.wait(30)
            assert "Traceback" not in server.output + server.errors
            assert server.errors == ""

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
    def test_the_exit_status(self, from_wheel: Environment, tmp_path: Path, number):
        """A server that was asked to stop does so, and ends by that signal, as twistd does and supervisors expect."""
        with running(from_wheel.bin("wsserver"), "serve", "--port", "0", directory=tmp_path) as server:
            server.port()
            assert server.stop(number) == -number

    def test_a_client_that_does_not_answer_does_not_hold_it_up(self, from_wheel: Environment, tmp_path: Path):
        """The server ends after --close-timeout at the latest."""
        words = ("serve", "--port", "0", "--close-timeout", "500ms")
        with running(from_wheel.bin("wsserver"), *words, directory=tmp_path) as server:
            with socket.create_connection(("127.0.0.1", server.port())) as silent:
                silent.sendall(
                    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    b"Sec-WebSocket-Key: AAECAwQFBgcICQoLDA0ODw==\r\nSec-WebSocket-Version: 13\r\n\r\n"
                )
                assert silent.recv(1000).startswith(b"HTTP/1.1 101 ")
                server.stop()
            assert "Traceback" not in server.output + server.errors


class DaemonTests:
    """`twistd --pidfile=... --logfile=... wsserver`."""

    def test_from_start_to_stop(self, from_wheel: Environment, tmp_path: Path):
        """The command returns once the server serves; SIGTERM stops it, tells clients, and removes the pid file."""
        pidfile, logfile = tmp_path / "wsserver.pid", tmp_path / "wsserver.log"
        options = (f"--pidfile={pidfile}", f"--logfile={logfile}", "wsserver", "--port", "0")
        started = run(from_wheel.bin("twistd"), *options, directory=tmp_path)
        assert (started.status, started.output, started.errors) == (0, "", "")
        pid = int(pidfile.read_text())
        try:
            port = int(logfile.read_text().partition("the page is at http://127.0.0.1:")[2].partition("/")[0])
            with connect(f"ws://127.0.0.1:{port}/", proxy=None) as peer:
                peer.send("thanks")
                assert peer.recv(timeout=30) == "you're welcome"
                os.kill(pid, signal.SIGTERM)
                with pytest.raises(ConnectionClosed) as caught:
                    peer.recv(timeout=30)
                assert caught.value.rcvd.code == 1001
        finally:
            wait_until(lambda: not is_alive(pid), lambda: "the daemon gone")
        assert not pidfile.exists()
        assert "Traceback" not in logfile.read_text()

    def test_its_log_is_json_where_asked_for(self, from_wheel: Environment, tmp_path: Path):
        """--log-format json holds for a log file too."""
        pidfile, logfile = tmp_path / "wsserver.pid", tmp_path / "wsserver.log"
        options = (f"--pidfile={pidfile}", f"--logfile={logfile}", "wsserver", "--port", "0", "--log-format", "json")
        assert run(from_wheel.bin("twistd"), *options, directory=tmp_path).status == 0
        pid = int(pidfile.read_text())
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not is_alive(pid), lambda: "the daemon gone")
        lines = [json.loads(line) for line in logfile.read_text().splitlines()]
        assert any("the page is at" in line["message"] for line in lines)


class LogTests:
    """What is written to standard output."""

    def test_json(self, from_wheel: Environment, tmp_path: Path):
        """With --log-format json every line is an object with time, level, namespace and message."""
        words = ("serve", "--port", "0", "--log-format", "json")
        with running(from_wheel.bin("wsserver"), *words, directory=tmp_path) as server:
            port = int(server.wait_for(r"ws://127\.0\.0\.1:([0-9]+)/")[1])
            with connect(f"ws://127.0.0.1:{port}/a%0Ab%1B", proxy=None) as peer:
                peer.send("bye")
                assert peer.recv(timeout=30) == "Goodbye!"
            with socket.create_connection(("127.0.0.1", port)) as wrong:
                wrong.sendall(b"\x00\x1b[31m\xff\r\n\r\n")
                assert wrong.recv(1000).startswith(b"HTTP/1.1 400 ")
            server.stop()
        assert server.errors == ""
        lines = [json.loads(line) for line in server.output.splitlines()]
        assert all({"time", "level", "namespace", "message"} <= set(line) for line in lines)
        assert sum("connection opened" in line["message"] for line in lines) == 1
        [close] = [line for line in lines if "connection closed" in line["message"]]
        assert (close["code"], close["by"]) == (1000, "server")
        assert any(line["message"].startswith("connection refused ") for line in lines)

    def test_text(self, from_wheel: Environment, tmp_path: Path):
        """Without it every line is for people, and none has a control character that a peer has sent."""
        with running(from_wheel.bin("wsserver"), "serve", "--port", "0", directory=tmp_path) as server:
            port = server.port()
            with connect(f"ws://127.0.0.1:{port}/a%0Ab%1B?token=secret", proxy=None) as peer:
                peer.close(4000, "\x1b[31m\nred")
            server.wait_for(r"code=4000")
            server.stop()
        assert all(line.isprintable() for line in server.output.splitlines())
        assert "secret" not in server.output


class ListenTests:
    """--listen."""

    def test_a_unix_socket(self, from_wheel: Environment, tmp_path: Path):
        """A server may listen on a UNIX socket; the socket is gone when it has stopped."""
        path = tmp_path / "ws.sock"
        with running(from_wheel.bin("wsserver"), "serve", "--listen", f"unix:{path}", directory=tmp_path) as server:
            server.wait_for("listening on")
            with unix_connect(str(path), uri="ws://localhost/") as peer:
                peer.send("name")
                assert peer.recv(timeout=30) == "my name is wsserver"
                peer.send("whoami")
                assert json.loads(peer.recv(timeout=30))["address"] == "unix"
            server.stop()
        assert not path.exists()
        assert "Traceback" not in server.output + server.errors

    def test_two_at_once(self, from_wheel: Environment, tmp_path: Path):
        """A server may listen on several addresses at once."""
        path = tmp_path / "ws.sock"
        words = ("serve", "--listen", f"unix:{path}", "--listen", "tcp:0:interface=127.0.0.1")
        with running(from_wheel.bin("wsserver"), *words, directory=tmp_path) as server:
            port = server.port()
            with (
                unix_connect(str(path), uri="ws://localhost/echo") as one,
                connect(f"ws://127.0.0.1:{port}/echo", proxy=None) as other,
            ):
                for peer in (one, other):
                    peer.send("hello")
                    assert peer.recv(timeout=30) == "hello"
            server.stop()

    def test_ipv6(self, from_wheel: Environment, tmp_path: Path):
        """--interface ::1 listens on IPv6."""
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            pytest.skip("this machine has no IPv6 loopback")
        words = ("serve", "--port", "0", "--interface", "::1")
        with running(from_wheel.bin("wsserver"), *words, directory=tmp_path) as server:
            port = int(server.wait_for(r"ws://\[::1\]:([0-9]+)/")[1])
            with connect(f"ws://[::1]:{port}/echo", proxy=None) as peer:
                peer.send("hello")
                assert peer.recv(timeout=30) == "hello"
