"""A server process that a service manager starts, with sockets by descriptor, notifications and a watchdog."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from peers import RawPeer
from server_process import SERVE
from service_manager import service_manager
from waiting import TIMEOUT, wait_until
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

pytestmark = pytest.mark.kernel

LISTEN = ("--listen", "systemd:domain=INET:name=wsserver")

HANGS = """
import os, signal, time

def hang(number, frame):
    # A signal handler runs in the reactor's thread.
    open(os.environ["HANGING"], "x").close()
    while os.path.exists(os.environ["HANGING"]):
        time.sleep(0.01)

signal.signal(signal.SIGALRM, hang)
"""


class SocketActivationTests:
    """`--listen systemd:`, with sockets from another process."""

    def test_serves_the_socket_with_a_name(self, tmp_path):
        with service_manager(tmp_path, ["other", "wsserver"]) as (manager, ports):
            manager.start(*LISTEN)
            manager.wait_for("READY=1")
            with connect(f"ws://127.0.0.1:{ports['wsserver']}/echo", proxy=None) as client:
                client.send("hello")
                assert client.recv(TIMEOUT) == "hello"

    def test_serves_several_sockets_by_index_and_by_name(self, tmp_path):
        with service_manager(tmp_path, ["one", "two", "three"]) as (manager, ports):
            manager.start(
                *("--listen", "systemd:domain=INET:name=three", "--listen", "systemd:domain=INET:index=0"),
                *("--listen", "haproxy:systemd:domain=INET:name=two"),
            )
            manager.wait_for("READY=1")
            for name in ("one", "three"):
                with RawPeer(ports[name]) as peer:
                    peer.handshake("/echo")
                    assert peer.echoes()
            with RawPeer(ports["two"]) as peer:
                peer.send(b"PROXY TCP4 203.0.113.7 192.0.2.1 40000 443\r\n")
                peer.handshake("/ws")
                assert peer.echoes()
            wait_until(lambda: "peer=203.0.113.7:40000" in manager.read_log(), manager.read_log)

    def test_the_sockets_are_not_passed_on_to_child_processes(self, tmp_path):
        program = "import os, wsserver.service; print(sorted({'LISTEN_PID', 'LISTEN_FDS'} & set(os.environ)), end='')"
        with service_manager(tmp_path) as (manager, _):
            manager.run(sys.executable, "-c", program).wait(TIMEOUT)
            assert manager.read_log() == "[]"

    def test_says_which_domain_a_socket_has_if_the_option_names_another(self, tmp_path):
        with service_manager(tmp_path) as (manager, _):
            manager.start("--listen", "systemd:domain=INET6:name=wsserver").wait(TIMEOUT)
            assert manager.read_log().endswith(
                "wsserver: cannot listen on systemd:domain=INET6:name=wsserver: "
                "domain: the socket that systemd passes is INET, not INET6\n"
            )

    def test_connections_wait_in_the_socket_while_the_server_restarts(self, tmp_path):
        """No client is refused, and each one is served."""
        failures, served, ended = [], [], threading.Event()

        def client(port):
            while not ended.is_set():
                try:
                    with RawPeer(port) as peer:
                        served.append(peer.request("/health").status)
                except (OSError, AssertionError) as error:
                    failures.append(error)

        with service_manager(tmp_path) as (manager, ports):
            first = manager.start(*LISTEN)
            manager.wait_for("READY=1")
            threads = [threading.Thread(target=client, args=(ports["wsserver"],)) for _ in range(2)]
            for thread in threads:
                thread.start()
            try:
                wait_until(lambda: len(served) >= 10, "connections to the first server")
                manager.stop(first)
                manager.start(*LISTEN)
                manager.wait_for("READY=1")
                before = len(served)
                wait_until(lambda: len(served) >= before + 10, "connections to the second server")
            finally:
                ended.set()
                for thread in threads:
                    thread.join(TIMEOUT)
            assert failures == []
            assert set(served) == {200}

    def test_a_server_that_systemd_socket_activate_starts_serves_the_connection_that_started_it(self, tmp_path):
        activate = shutil.which("systemd-socket-activate")
        assert activate is not None, "run tests/install_system_packages.sh"
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        command = [activate, "--listen", f"127.0.0.1:{port}", "--fdname=wsserver"]
        # It passes no variable on unless it is told to.
        command += [f"--setenv={name}" for name in os.environ if name.startswith(("COVERAGE", "PYTHON", "HOME"))]
        with (tmp_path / "log.txt").open("wb") as log:
            process = subprocess.Popen(
                [*command, sys.executable, "-c", SERVE, "serve", *LISTEN], stdout=log, stderr=log
            )
        try:
            wait_until(lambda: "Listening on" in (tmp_path / "log.txt").read_text(), "it listens")
            with connect(f"ws://127.0.0.1:{port}/echo", proxy=None, open_timeout=TIMEOUT) as client:
                client.send("hello")
                assert client.recv(TIMEOUT) == "hello"
        finally:
            process.terminate()
            process.wait(TIMEOUT)


class NotificationTests:
    """READY, STOPPING and the watchdog of a server process."""

    @pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
    def test_notifies_that_it_is_ready_when_it_listens_and_that_it_stops_before_it_closes(self, tmp_path, abstract):
        with service_manager(tmp_path, [], abstract=abstract) as (manager, _):
            process = manager.start("--port", "0")
            assert manager.wait_for("READY=1") == []
            port = int(re.search(r"http://127\.0\.0\.1:([0-9]+)/", manager.read_log())[1])
            with connect(f"ws://127.0.0.1:{port}/echo", proxy=None) as client:
                process.terminate()
                with pytest.raises(ConnectionClosed):
                    client.recv(TIMEOUT)
                # Received already, although the server still waits for its clients.
                assert ["STOPPING=1", "STATUS=closing connections"] in manager.read_all()
            assert process.wait(TIMEOUT) == -signal.SIGTERM

    @pytest.mark.parametrize("workers", ["1", "2"])
    def test_sighup_notifies_that_it_reloads_and_is_ready_again(self, tmp_path, workers):
        with service_manager(tmp_path, []) as (manager, _):
            process = manager.start("--port", "0", "--workers", workers)
            manager.wait_for("READY=1")
            process.send_signal(signal.SIGHUP)
            manager.wait_for("RELOADING=1")
            assert manager.wait_for("READY=1") == []

    def test_a_server_that_cannot_listen_does_not_become_ready(self, tmp_path):
        with socket.create_server(("127.0.0.1", 0)) as taken, service_manager(tmp_path, []) as (manager, _):
            assert manager.start("--port", str(taken.getsockname()[1])).wait(TIMEOUT) == 1
            assert manager.read_all() == []

    def test_the_keep_alive_ends_while_the_reactor_hangs(self, tmp_path):
        hanging = tmp_path / "hanging"
        variables = {"WATCHDOG_USEC": "100000", "HANGING": str(hanging)}
        with service_manager(tmp_path) as (manager, _):
            process = manager.start(*LISTEN, program=HANGS + SERVE, environ=variables)
            manager.wait_for("READY=1")
            for _ in range(3):
                manager.wait_for("WATCHDOG=1")
            process.send_signal(signal.SIGALRM)
            wait_until(hanging.exists, "the reactor hangs")
            manager.read_all()
            manager.received.clear()
            time.sleep(0.5)
            assert manager.read_all() == []
            hanging.unlink()
            manager.wait_for("WATCHDOG=1")
