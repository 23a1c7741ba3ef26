"""A running server: in the foreground, as a daemon, and how it stops."""

import json
import os
import signal
import socket
from pathlib import Path

import pytest
from environments import Environment
from programs import run, running
from waiting import wait_until
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect, unix_connect

FOREGROUND = {"twistd": ("twistd", "-n", "--pidfile=", "wsserver"), "wsserver serve": ("wsserver", "serve")}


def is_alive(pid: int) -> bool:
    """Return whether a process exists and is not a zombie."""
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


class StoppingTests:
    """SIGINT and SIGTERM stop the server."""

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
    @pytest.mark.parametrize("command", FOREGROUND.values(), ids=FOREGROUND)
    def test_a_signal_closes_connections_with_1012_and_without_a_traceback(
        self, from_wheel: Environment, tmp_path: Path, command, number
    ):
        words = (from_wheel.bin(command[0]), *command[1:], "--port", "0", "--close-timeout", "2s")
        with running(*words, directory=tmp_path) as server:
            with connect(f"ws://127.0.0.1:{server.port()}/echo", proxy=None) as peer:
                server.process.send_signal(number)
                with pytest.raises(ConnectionClosed) as caught:
                    peer.recv(timeout=30)
                assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (1012, "the server is stopping")
            server.process.wait(30)
            assert "Traceback" not in server.output + server.errors
            assert server.errors == ""

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
    def test_the_server_ends_by_the_signal_it_received(self, from_wheel: Environment, tmp_path: Path, number):
        """twistd does the same, and supervisors expect it."""
        with running(from_wheel.bin("wsserver"), "serve", "--port", "0", directory=tmp_path) as server:
            server.port()
            assert server.stop(number) == -number

    def test_the_server_stops_although_a_client_does_not_answer_the_close(
        self, from_wheel: Environment, tmp_path: Path
    ):
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

    def test_sigterm_closes_with_1012_and_removes_the_pid_file(self, from_wheel: Environment, tmp_path: Path):
        """The command that starts the daemon returns, silently, once the server is listening."""
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
                assert caught.value.rcvd.code == 1012
        finally:
            wait_until(lambda: not is_alive(pid), lambda: "the daemon has ended")
        assert not pidfile.exists()
        assert "Traceback" not in logfile.read_text()

    def test_log_format_json_applies_to_the_log_file(self, from_wheel: Environment, tmp_path: Path):
        pidfile, logfile = tmp_path / "wsserver.pid", tmp_path / "wsserver.log"
        options = (f"--pidfile={pidfile}", f"--logfile={logfile}", "wsserver", "--port", "0", "--log-format", "json")
        assert run(from_wheel.bin("twistd"), *options, directory=tmp_path).status == 0
        pid = int(pidfile.read_text())
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not is_alive(pid), lambda: "the daemon has ended")
        lines = [json.loads(line) for line in logfile.read_text().splitlines()]
        assert any("the page is at" in line["message"] for line in lines)


class LogTests:
    """The log on standard output."""

    def test_json_lines_have_time_level_namespace_message_and_fields(self, from_wheel: Environment, tmp_path: Path):
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

    def test_text_lines_contain_neither_control_characters_nor_tokens(self, from_wheel: Environment, tmp_path: Path):
        with running(from_wheel.bin("wsserver"), "serve", "--port", "0", directory=tmp_path) as server:
            port = server.port()
            with connect(f"ws://127.0.0.1:{port}/a%0Ab%1B?token=secret", proxy=None) as peer:
                peer.close(4000, "\x1b[31m\nred")
            server.wait_for(r"code=4000")
            server.stop()
        assert all(line.isprintable() for line in server.output.splitlines())
        assert "secret" not in server.output


class ListenTests:
    """`--listen` and `--interface`."""

    def test_serves_on_a_unix_socket_and_removes_it(self, from_wheel: Environment, tmp_path: Path):
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

    def test_serves_on_two_addresses_at_once(self, from_wheel: Environment, tmp_path: Path):
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

    def test_interface_colon_colon_1_serves_on_ipv6(self, from_wheel: Environment, tmp_path: Path):
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
