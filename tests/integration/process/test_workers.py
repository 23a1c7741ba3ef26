"""Servers with several worker processes: supervision, restarts and the end."""

import fcntl
import json
import os
import pwd
import re
import resource
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from cent import Client, PublishRequest
from cryptography.hazmat.primitives.serialization import Encoding
from guide import Guide
from http_api import KEY
from other_user import searchable
from peers import CLOSE, RawPeer, answer_to, close_payload
from pki import make_authority
from redis_server import RedisServer
from server_process import SERVE, serve_command
from service_manager import service_manager
from twistd_process import TWISTD
from waiting import TIMEOUT, wait_until
from websockets.sync.client import connect
from worker_processes import Workers, connecting


@pytest.fixture
def start():
    """Return a function that starts a server with workers; its processes are killed after the test."""
    started = []

    def start(*options, **arguments):
        started.append(Workers(*options, **arguments))
        return started[-1]

    yield start
    for server in started:
        server.close()


def is_running(pid):
    """Return whether a process runs; a zombie does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False


def is_refused(port):
    """Return whether no process listens on a port."""
    try:
        RawPeer(port).socket.close()
    except ConnectionRefusedError:
        return True
    return False


def split(peers):
    """Return the open connections, and the number of those that have ended."""
    open_ones = [peer for peer in peers if not peer.has_ended()]
    return open_ones, len(peers) - len(open_ones)


def opened_by(log):
    """Return the numbers of the workers that have accepted WebSocket connections, according to a log."""
    return set(re.findall(r"(?m)connection opened .* worker=([0-9]+)$", log))


def serve_tls(server, authority, files):
    """Connect until each worker has answered with the certificate of some files."""
    port = server.find_port("https")
    trust = ssl.create_default_context(cafile=str(authority.root))
    expected = files.certificate.public_bytes(Encoding.DER)
    numbers = set()

    def have_served():
        with RawPeer(port, tls=trust) as peer:
            peer.handshake("/echo")
            assert peer.echoes()
            if peer.socket.getpeercert(binary_form=True) == expected:
                numbers.add(server.number_of(peer))
        return numbers == {1, 2}

    wait_until(have_served, "each worker has served the certificate")


REACTOR = "twisted.internet.epollreactor" if sys.platform == "linux" else "twisted.internet.selectreactor"

WORKER = """
import os, sys
from wsserver.process.__main__ import main
for passed, number in zip(sys.argv[1:], (3, 4)):
    os.dup2(int(passed), number)
    os.close(int(passed))
main()
"""

PLUGIN = """
import sys
from twisted.plugin import IPlugin
from zope.interface import implementer
from wsserver.endpoints.commands import ICommand

@implementer(IPlugin, ICommand)
class Greet:
    # Invalid in the workers.
    name = "Two Words" if sys.argv[0].endswith("__main__.py") else "greet"
    help = "greet"
    takes_argument = False

    def reply(self, session, argument):
        return "good day"

greet = Greet()
"""


@pytest.fixture
def redis(tmp_path):
    """Start a Redis server."""
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.kill()


def add_invalid_plugin(directory):
    """Add a command plugin that is valid in the supervisor only."""
    plugins = directory / "twisted" / "plugins"
    plugins.mkdir(parents=True)
    (plugins / "greet.py").write_text(PLUGIN)


class SupervisionTests:
    """Workers that die, hang or fail to start."""

    def test_replaces_a_killed_worker_while_the_clients_of_the_other_one_notice_nothing(self, start):
        server = start()
        peers = server.open_at_each()
        with connecting(server.port) as clients:
            for _ in range(3):
                count = len(server.started(1))
                os.kill(server.pid(1), signal.SIGKILL)
                wait_until(lambda count=count: len(server.started(1)) > count, "a new worker")
                now = len(clients.served)
                wait_until(lambda now=now: len(clients.served) > now + 50, "50 connections are served")
        left, ended = split(peers)
        assert left
        assert ended
        assert all(peer.echoes() for peer in left)
        assert clients.refused == []
        # Those that the killed worker had accepted.
        assert len(clients.broken) <= 3 * 4
        assert "worker exited worker=1" in server.read_log()
        assert 'reason="signal SIGKILL"' in server.read_log()

    def test_starts_a_worker_that_exits_repeatedly_with_a_delay(self, start):
        server = start()
        for count in range(1, 6):
            os.kill(server.pid(2), signal.SIGKILL)
            if count < 5:
                wait_until(lambda count=count: len(server.started(2)) > count, "a new worker")
        wait_until(
            lambda: "worker exits repeatedly worker=2; the next one starts in 1 s" in server.read_log(), "a line"
        )
        # The other worker accepts all connections in the meantime.
        for peer in server.open_many():
            peer.socket.close()
        wait_until(lambda: len(server.started(2)) == 6, "the next worker")

    def test_starts_workers_once_the_supervisor_has_descriptors_again(self, start):
        server = start()
        pid = server.process.pid
        before = len(os.listdir(f"/proc/{pid}/fd"))
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        line = 'restart is cancelled worker=1 reason="the new worker cannot be started: Too many open files'
        # A process needs descriptors for the channel and for three pipes.
        for count, free in enumerate((6, 4, 2, 0), 1):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (before + free, hard))
            server.process.send_signal(signal.SIGUSR2)
            wait_until(lambda count=count: server.read_log().count(line) == count, "the end of the restart")
        os.kill(server.pid(1), signal.SIGKILL)
        line = 'worker not started worker=1 reason="Too many open files"; the next attempt is in 1 s'
        wait_until(lambda: line in server.read_log(), "the failure")
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
        wait_until(lambda: len(server.started(1)) == 2, "a new worker")
        server.process.send_signal(signal.SIGUSR2)
        wait_until(lambda: "all workers are restarted" in server.read_log(), "the second restart")
        wait_until(lambda: len(os.listdir(f"/proc/{pid}/fd")) == before, "no descriptor is left")
        assert "Traceback" not in server.read_log()

    def test_another_worker_accepts_connections_in_the_place_of_a_suspended_one(self, start):
        server = start()
        pid = server.pid(1)
        os.kill(pid, signal.SIGSTOP)
        try:
            # Some of these connections wait in the queue of the suspended worker.
            for peer in server.open_many():
                peer.socket.close()
        finally:
            os.kill(pid, signal.SIGCONT)
        assert is_running(pid)

    def test_the_workers_stop_if_the_supervisor_is_killed(self, start):
        server = start()
        pids = [server.pid(1), server.pid(2)]
        with RawPeer(server.port) as peer:
            peer.handshake("/echo")
            server.kill()
            wait_until(lambda: is_refused(server.port), "the sockets are closed")
            close = peer.read_close()
            assert close.close_reason == "the server is stopping"
            peer.send_frame(CLOSE, close_payload(1000))
        wait_until(lambda: not any(map(is_running, pids)), "the workers exit")


class RestartTests:
    """SIGUSR2 restarts the workers one by one."""

    def test_no_connection_is_refused_during_a_restart(self, start):
        server = start()
        before = [server.pid(1), server.pid(2)]
        with connecting(server.port) as clients:
            server.process.send_signal(signal.SIGUSR2)
            wait_until(lambda: "all workers are restarted" in server.read_log(), "the restart")
        assert clients.refused == clients.broken == []
        assert len(clients.served) > 50
        assert not any(map(is_running, before))
        assert is_running(server.pid(1))
        assert is_running(server.pid(2))

    def test_a_worker_that_gets_sigterm_is_replaced_before_it_closes_its_connections(self, start):
        server = start()
        first = server.pid(1)
        with connecting(server.port) as clients:
            os.kill(first, signal.SIGTERM)
            wait_until(lambda: not is_running(first), "the worker exits")
        assert clients.refused == clients.broken == []
        assert len(server.started(1)) == 2


class UpgradeTests:
    """A worker of this version under a supervisor of another one, as after SIGUSR2."""

    def start(self, settings):
        """Start a worker as an older supervisor does; return its first message that is no beat, and its output."""
        ours, theirs = socket.socketpair()
        with ours, theirs, socket.create_server(("127.0.0.1", 0)) as listener:
            first = {"number": 1, "settings": settings, "descriptors": [[4]], "reactor": REACTOR}
            data = json.dumps(first).encode()
            ours.sendall(struct.pack("!I", len(data)) + data)
            # Numbers that are not in use when the worker's own numbers are set.
            passed = [fcntl.fcntl(one.fileno(), fcntl.F_DUPFD, 10) for one in (theirs, listener)]
            theirs.close()
            worker = subprocess.Popen(
                [sys.executable, "-c", WORKER, *map(str, passed)],
                pass_fds=passed,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for descriptor in passed:
                os.close(descriptor)
            message = next(one for one in self.read(ours) if one["type"] != "beat")
        # The worker stops, because its channel has ended.
        return message, worker.communicate(timeout=TIMEOUT)[0]

    def read(self, channel):
        channel.settimeout(TIMEOUT)
        with channel.makefile("rb") as file:
            while size := file.read(4):
                yield json.loads(file.read(struct.unpack("!I", size)[0]))

    def test_serves_without_the_files_and_despite_an_option_that_was_removed(self):
        message, output = self.start({"removed_option": "1"})
        assert message["type"] == "serving"
        assert "options ignored that this version does not have names=--removed-option" in output
        assert "Traceback" not in output

    def test_tells_the_supervisor_which_option_it_refuses(self):
        message, output = self.start({"port": "old"})
        assert message["type"] == "failed"
        assert message["reason"].startswith("port: expected")
        assert "Traceback" not in output


class StopTests:
    """The end of all workers."""

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
    def test_closes_the_connections_of_all_workers(self, start, number):
        server = start()
        pids = [server.pid(1), server.pid(2)]
        # Ctrl-C in a terminal sends SIGINT to the process group of the supervisor, not to those of the workers.
        assert [os.getpgid(pid) for pid in pids] == pids
        peers = server.open_many()
        server.process.send_signal(number)
        for peer in peers:
            assert peer.read_close().close_reason == "the server is stopping"
            peer.send_frame(CLOSE, close_payload(1000))
            peer.read_to_end()
        server.process.wait(30)
        assert not any(map(is_running, pids))
        assert "Traceback" not in server.read_log()

    def test_clients_get_a_close_code_if_the_workers_get_the_signal_as_well(self, start):
        """systemd sends it to all processes unless the unit has `KillMode=mixed`."""
        server = start("--drain-jitter=0")
        peers = server.open_many()
        for pid in (server.pid(1), server.process.pid, server.pid(2)):
            os.kill(pid, signal.SIGTERM)
        for peer in peers:
            assert peer.read_close().close_code == 1012
            peer.send_frame(CLOSE, close_payload(1012))
        server.process.wait(30)

    def test_a_second_signal_ends_all_workers_at_once(self, start):
        """The clients do not answer the Close frame, for which the workers would wait a minute."""
        server = start("--close-timeout", "1m")
        pids = [server.pid(1), server.pid(2)]
        peers = server.open_many()
        server.process.send_signal(signal.SIGTERM)
        for peer in peers:
            peer.read_close()
        # A signal within a quarter of a second counts as the same one.
        time.sleep(0.3)
        assert all(map(is_running, pids))
        assert is_refused(server.port)
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(TIMEOUT)
        wait_until(lambda: not any(map(is_running, pids)), "the workers exit")
        assert "Traceback" not in server.read_log()


class ListenTests:
    """All ways to listen, and what happens to the sockets."""

    def test_all_workers_serve_every_kind_of_listener(self, start, tmp_path):
        authority = make_authority(tmp_path)
        issued = authority.issue(tmp_path / "pki")
        path = str(tmp_path / "ws.sock")
        server = start(
            *("--listen", "tcp:0:interface=127.0.0.1", "--listen", f"unix:{path}:mode=600"),
            *("--listen", f"ssl:0:interface=127.0.0.1:privateKey={issued.privkey}:certKey={issued.fullchain}"),
            *("--listen", "haproxy:tcp:0:interface=127.0.0.1"),
            command=[sys.executable, "-c", SERVE, "serve"],
        )
        ports = server.find_ports()
        tls = ssl.create_default_context(cafile=str(authority.root))
        kinds = [{"port": ports[0]}, {"path": path}, {"port": ports[1], "tls": tls}, {"port": ports[2]}]

        def serve_all():
            for kind in kinds:
                for _ in range(6):
                    with RawPeer(**kind) as peer:
                        if kind == kinds[3]:
                            peer.send(b"PROXY TCP4 203.0.113.7 192.0.2.1 40000 443\r\n")
                        peer.handshake("/ws")
                        assert peer.echoes()

        serve_all()
        assert os.stat(path).st_mode & 0o777 == 0o600
        # Another worker serves all of them in the place of one that is suspended, and the workers are replaced.
        pid = server.pid(2)
        os.kill(pid, signal.SIGSTOP)
        serve_all()
        os.kill(pid, signal.SIGCONT)
        server.process.send_signal(signal.SIGUSR2)
        wait_until(lambda: "all workers are restarted" in server.read_log(), "the restart")
        serve_all()
        assert os.stat(path).st_mode & 0o777 == 0o600
        server.process.terminate()
        server.process.wait(TIMEOUT)
        assert not os.path.lexists(path)
        assert not os.path.lexists(f"{path}.lock")
        assert "Traceback" not in server.read_log()

    def test_each_worker_serves_the_socket_of_systemd_also_after_a_restart(self, tmp_path):
        with service_manager(tmp_path) as (manager, ports):
            process = manager.start("--workers", "2", "--listen", "systemd:domain=INET:name=wsserver")
            manager.wait_for("READY=1")
            assert "all workers accept connections" in manager.read_log()

            def serve_until_each_worker_has():
                before = manager.read_log()
                with connecting(ports["wsserver"]) as clients:
                    wait_until(lambda: opened_by(manager.read_log()[len(before) :]) == {"1", "2"}, "each serves")
                assert not clients.refused + clients.broken

            serve_until_each_worker_has()
            process.send_signal(signal.SIGUSR2)
            wait_until(lambda: "all workers are restarted" in manager.read_log(), "the restart")
            serve_until_each_worker_has()
            process.send_signal(signal.SIGTERM)
            manager.wait_for("STOPPING=1")
            process.wait(TIMEOUT)

    def test_each_worker_serves_the_certificate_of_tls_cert_and_the_renewed_one_after_a_reload(self, start, tmp_path):
        authority = make_authority(tmp_path)
        files = authority.issue(tmp_path / "pki")
        server = start("--tls-cert", str(files.fullchain), "--tls-key", str(files.privkey))
        serve_tls(server, authority, files)
        renewed = authority.issue(tmp_path / "pki")
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "options reloaded" in server.read_log(), "the reload")
        serve_tls(server, authority, renewed)

    def test_workers_of_another_user_use_a_key_that_only_root_can_read(self, start, tmp_path):
        """
        Those that start after SIGHUP, too: the supervisor is that user now.

        If the tests do not run as root, the user stays the same.
        """
        user = "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        group = str(pwd.getpwnam(user).pw_gid)
        authority = make_authority(tmp_path)
        (tmp_path / "stage").mkdir()
        twistd = [str(TWISTD), "-n", "--pidfile=", "--uid", user, "--gid", group, "wsserver", "--port", "0"]
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            directory.chmod(0o755)
            files = authority.issue(directory)
            files.privkey.chmod(0o600)
            server = start(
                *("--tls-cert", str(files.fullchain), "--tls-key", str(files.privkey)),
                command=searchable(twistd, tmp_path / "stage"),
            )
            assert {os.stat(f"/proc/{server.pid(number)}").st_uid for number in (1, 2)} == {pwd.getpwnam(user).pw_uid}
            serve_tls(server, authority, files)
            server.process.send_signal(signal.SIGHUP)
            wait_until(lambda: "options reloaded" in server.read_log(), "the reload")
            os.kill(server.pid(1), signal.SIGKILL)
            wait_until(lambda: server.read_log().count("worker accepts connections worker=1") == 2, "a new worker")
            serve_tls(server, authority, files)
            # As certbot's directories are.
            directory.chmod(0o700)
            server.process.send_signal(signal.SIGHUP)
            wait_until(lambda: server.read_log().count("options reloaded") == 2, "the second reload")
            server.process.send_signal(signal.SIGUSR2)
            wait_until(lambda: "all workers are restarted" in server.read_log(), "the restart")
            serve_tls(server, authority, files)
            assert "not renewed" not in server.read_log()

    def test_relative_paths_start_from_the_directory_in_which_twistd_was_started(self, start, tmp_path):
        """Also after SIGHUP, and when a certificate is read again."""
        authority = make_authority(tmp_path)
        files = authority.issue(tmp_path / "pki")
        cert, key = (path.relative_to(tmp_path) for path in (files.fullchain, files.privkey))
        (tmp_path / "wsserver.toml").write_text(f'tls_cert = "{cert}"\ntls_key = "{key}"\nport = 0\n')
        server = start(
            command=[str(TWISTD), "-n", "--pidfile=", "--rundir", "/", "wsserver"],
            directory=tmp_path,
            environ=os.environ | {"WSSERVER_CONFIG": "wsserver.toml"},
        )
        serve_tls(server, authority, files)
        renewed = authority.issue(tmp_path / "pki")
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "options reloaded" in server.read_log(), "the reload")
        serve_tls(server, authority, renewed)

    def test_refuses_a_port_on_which_another_supervisor_listens(self, start):
        server = start()
        command = [sys.executable, "-c", SERVE, "serve", "--workers", "2", "--port", str(server.port)]
        second = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)
        assert second.returncode == 1
        assert "another program listens on this port" in second.stderr

    def test_a_worker_that_cannot_start_ends_the_supervisor_with_its_message(self, tmp_path):
        add_invalid_plugin(tmp_path)
        result = subprocess.run(
            [*serve_command(f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {SERVE}"), "--workers", "2"],
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT,
        )
        assert result.returncode == 1
        assert re.search("(?m)^wsserver: .*'Two Words'", result.stderr), result.stderr

    def test_a_daemon_whose_workers_cannot_start_logs_the_reason(self, tmp_path):
        add_invalid_plugin(tmp_path)
        log, pid_file = tmp_path / "log", tmp_path / "pid"
        subprocess.run(
            [TWISTD, "--pidfile", pid_file, "--logfile", log, "wsserver", "--workers", "2", "--port", "0"],
            env=os.environ | {"PYTHONPATH": str(tmp_path)},
            check=True,
            timeout=TIMEOUT,
        )
        wait_until(lambda: log.exists() and "the workers cannot start reason=" in log.read_text(), "the reason")
        assert "'Two Words'" in log.read_text()
        wait_until(lambda: not pid_file.exists(), "the daemon ends")


class ChannelTests:
    """Channels and the HTTP API across workers."""

    def test_a_publication_through_any_worker_reaches_the_subscribers_of_all_workers(self, start, redis):
        server = start("--redis", redis.url, "--api-key", KEY)
        wait_until(lambda: RawPeer(server.port).request("/ready").status == 200, "the server is ready")
        subscribers = [connect(f"ws://127.0.0.1:{server.port}/ws?channel=a", proxy=None, legacy=True) for _ in range(8)]
        for number in range(8):
            # Each client of the API has a connection of its own.
            backend = Client(f"http://127.0.0.1:{server.port}/api", KEY)
            backend.publish(PublishRequest(channel="a", data={"n": number}))
        redis.publish("a", b'{"n": 8}')
        for subscriber in subscribers:
            assert [json.loads(subscriber.recv(TIMEOUT))["n"] for _ in range(9)] == list(range(9))
            subscriber.close()
        with RawPeer(server.port) as peer:
            info = json.loads(peer.request("/api/info", "X-API-Key: " + KEY, method="POST", body=b"{}").body)
        assert len(info["result"]["nodes"] if "result" in info else info["nodes"]) == 2

    def test_without_redis_everything_that_concerns_channels_is_refused_with_the_reason(self, start):
        server = start("--api-key", KEY)
        assert "with --workers 2 they need --redis" in server.read_log()
        with RawPeer(server.port) as peer:
            answer = answer_to(peer, "/ws?channel=a")
        assert answer.status == 403
        assert "need --redis" in answer.text
        with RawPeer(server.port) as peer:
            body = b'{"channel": "a", "data": 1}'
            answer = peer.request("/api/publish", "X-API-Key: " + KEY, method="POST", body=body)
        assert answer.status == 403
        shown = Guide("how-to/workers").block("channels, the HTTP API and /emulation need --redis")
        assert shown.strip() in answer.text
        emulated = json.dumps({"session": "s", "node": "another", "data": "{}"}).encode()
        with RawPeer(server.port) as peer:
            answer = peer.request("/emulation", "Content-Type: application/json", method="POST", body=emulated)
        assert answer.status == 403
        assert "need --redis" in answer.text
        with RawPeer(server.port) as peer:
            assert peer.request("/ready").status == 200


class LogTests:
    """One log for all workers."""

    def test_each_line_is_a_json_object_with_log_format_json(self, start):
        server = start("--log-format", "json")
        for peer in server.open_many():
            peer.socket.close()
        wait_until(lambda: server.read_log().count("connection opened") == 20, "the lines of all connections")
        lines = [json.loads(line) for line in server.read_log().splitlines()]
        assert {line["worker"] for line in lines if line["message"].startswith("connection opened")} == {1, 2}
