"""SIGHUP: a server process reads its options again."""

import contextlib
import json
import os
import select
import signal
import sys

import pytest
from peers import TEXT, RawPeer, handshake_request
from server_process import SERVE, Process
from waiting import TIMEOUT, wait_until
from worker_processes import Workers

FILE = """\
api_key = "{key}"
reply_prefix = "{key}: "
channel_allow = ["{channel}"]
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "wsserver.toml"
    path.write_text(FILE.format(key="one", channel="a"))
    return path


@pytest.fixture
def server(file):
    command = [sys.executable, "-c", SERVE, "serve", "--port", "0", "--config", str(file)]
    server = Process(command=command, directory=file.parent)
    yield server
    server.close()


def reload(server, line):
    """Send SIGHUP, and wait until the server has logged another line."""
    before = server.read_log().count(line)
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: server.read_log().count(line) > before, line)


def call(server, key):
    with RawPeer(server.port) as peer:
        return peer.request("/api/info", f"X-API-Key: {key}", method="POST").status


def subscribe(server, channel):
    with RawPeer(server.port) as peer:
        peer.send(handshake_request(f"/ws?channel={channel}"))
        return peer.read_response().status


@pytest.mark.kernel
class ReloadTests:
    """`kill -HUP`."""

    def test_changes_keys_and_rules_and_drops_no_client(self, server, file):
        with RawPeer(server.port) as peer:
            peer.handshake("/echo")
            assert (call(server, "one"), subscribe(server, "a"), subscribe(server, "b")) == (200, 101, 403)
            file.write_text(FILE.format(key="two", channel="b"))
            reload(server, "options reloaded")
            assert (call(server, "one"), call(server, "two")) == (401, 200)
            assert (subscribe(server, "a"), subscribe(server, "b")) == (403, 101)
            assert peer.echoes()

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("nonsense", "is not TOML"),
            ('api_key = "two"\nping_interval = "soon"', "wsserver.toml line 2: ping_interval: expected a time"),
            ('api_key = "two"\nhook_message_raw = true', "--hook-message-raw: expected --hook-message to be set"),
            ('api_key = "two"\ntoken_public_key = "/no/key.pem"', "token_public_key /no/key.pem: cannot be read"),
        ],
    )
    def test_a_bad_file_changes_nothing_and_its_reason_is_logged_in_one_line(self, server, file, text, reason):
        file.write_text(text)
        reload(server, "options not reloaded reason=")
        (line,) = [line for line in server.read_log().splitlines() if "options not reloaded" in line]
        assert reason in line.replace('\\"', '"')
        assert (call(server, "one"), call(server, "two"), subscribe(server, "a")) == (200, 401, 101)

    def test_names_the_options_that_need_a_restart(self, server, file):
        file.write_text(
            FILE.format(key="two", channel="b")
            + 'redis = "redis://:secret@127.0.0.1"\nlog_format = "json"\nlog_level = "debug"\naccess_log = "off"\n'
            'log_max_rate = 7\nlog_max_size = 2000000\nlog_max_files = 3\nmetrics = "on"\n'
            'admin_listen = ["tcp:0:interface=127.0.0.1"]\n'
        )
        names = "access-log admin-listen log-format log-level log-max-files log-max-rate log-max-size metrics redis"
        reload(server, "options changed that need a restart names=")
        (line,) = [one for one in server.read_log().splitlines() if "need a restart names=" in one]
        assert set(line.rpartition("=")[2].split(",")) == {f"--{name}" for name in names.split()}
        assert "secret" not in server.read_log()
        assert call(server, "two") == 200

    def test_a_hundred_reloads_under_load_drop_no_client(self, server, file):
        peers = [RawPeer(server.port) for _ in range(50)]
        for peer in peers:
            peer.handshake("/echo")
        for number in range(100):
            file.write_text(FILE.format(key=f"key{number}", channel="a"))
            reload(server, "options reloaded")
            assert all(peer.echoes() for peer in peers[number % 5 :: 5])
        assert all(peer.echoes() for peer in peers)
        assert call(server, "key99") == 200
        for peer in peers:
            peer.socket.close()
        assert "Traceback" not in server.read_log()


@pytest.mark.kernel
def test_all_workers_change_and_keep_the_old_options_if_the_file_is_bad(file):
    server = Workers("--config", str(file), directory=file.parent)
    try:
        peers = server.open_at_each()
        for key, line in (("two", "options reloaded"), ("three", "options reloaded")):
            file.write_text(FILE.format(key=key, channel="a"))
            reload(server, line)
        wait_until(lambda: prefixes(server) == {"three: hello there"}, "both workers have changed")
        file.write_text('reply_prefix = "four: "\nping_interval = "soon"')
        reload(server, "options not reloaded reason=")
        assert prefixes(server) == {"three: hello there"}
        assert all(peer.echoes() for peer in peers)
    finally:
        server.close()


@pytest.mark.kernel
def test_a_worker_that_was_suspended_gets_the_newest_options_and_stops(file):
    """The options are larger than any queue between the processes."""
    large = 'reply_prefix = "{}: "\nchannel_allow = ' + json.dumps([f"{number:0200}" for number in range(6000)])
    file.write_text(large.format("one"))
    server = Workers("--config", str(file), directory=file.parent)
    try:
        pid = server.pid(1)
        with suspended(pid):
            for prefix in ("two", "three"):
                file.write_text(large.format(prefix))
                reload(server, "options reloaded")
        wait_until(lambda: prefixes(server) == {"three: hello there"}, "both workers have changed")
        peers = server.open_at_each()
        with suspended(pid):
            reload(server, "options reloaded")
            server.process.terminate()
            # The other worker closes its connections.
            assert select.select([peer.socket for peer in peers], [], [], TIMEOUT)[0], server.read_log()
        for peer in peers:
            assert peer.read_close().close_reason == "the server is stopping"
            peer.socket.close()
        server.process.wait(TIMEOUT)
        assert "worker killed" not in server.read_log()
        assert "Traceback" not in server.read_log()
    finally:
        server.close()


@contextlib.contextmanager
def suspended(pid):
    """Suspend a process until the block ends."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def prefixes(server):
    """Return the echoes of several connections, which are spread over all workers."""
    found = set()
    for _ in range(20):
        with RawPeer(server.port) as peer:
            peer.handshake("/")
            peer.send_frame(TEXT, b"hello there")
            found.add(peer.read_message())
    return found
