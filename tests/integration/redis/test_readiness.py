"""`/ready` and `/health`: their answers for each way in which Redis can fail, and the log lines."""

import contextlib
import http.server
import json
import socket
import threading
from unittest.mock import patch

import pytest
from http_api import KEY, api, ready, up
from waiting import wait_until

from wsserver.redis import health


@pytest.fixture
def check_often():
    """Check ten times as often as usual whether Redis accepts writes, to save time."""
    with patch.object(health, "CHECK_INTERVAL", health.CHECK_INTERVAL / 10):
        yield


def probe(server, path="/ready", method="GET"):
    """Send one probe; return the status and the reason, or the body if the status is 200."""
    with server.connect() as peer:
        response = peer.request(path, method=method)
        return response.status, response.text.partition("\n")[2].strip() if response.status != 200 else response.text


def redis_lines(log, start):
    """Return the log lines about Redis that begin with `start`."""
    return [line for line in log.lines("wsserver.redis") if line.startswith(start)]


def run(redis, *commands):
    """Run Redis commands, each given as one string; fail the test if Redis refuses one."""
    for command in commands:
        answer = redis.run(*command.split())
        assert not answer.startswith(b"-"), answer


class ProbeTests:
    """The server's answers to probes, and the lines that it logs about them."""

    @pytest.mark.parametrize(("path", "word"), [("/ready", "ready\n"), ("/health", "alive\n")])
    def test_without_redis_both_are_200_for_get_and_head(self, server, path, word):
        """The answers are not cacheable; POST gets 405."""
        assert probe(server, path) == (200, word)
        with server.connect() as peer:
            response = peer.request(path, method="HEAD")
            assert (response.status, response.body, response.header("cache-control")) == (200, b"", "no-store")
            assert peer.request(path, method="POST").status == 405

    def test_while_the_server_stops_ready_is_503_and_health_200(self, start_server):
        """Probes whose connection is open already are answered; the connection is closed after the answer."""
        server = start_server(close_timeout=1)
        with server.open(), server.connect() as one, server.connect() as other:
            one.send(b"GET /health HT")
            other.send(b"GET /ready HT")
            wait_until(lambda: server.count_sockets() == 3, "all three accepted")
            server.begin_to_stop()
            one.send(b"TP/1.1\r\nHost: a\r\n\r\n")
            other.send(b"TP/1.1\r\nHost: a\r\n\r\n")
            alive, ready = one.read_to_end(), other.read_to_end()
            assert (alive.startswith(b"HTTP/1.1 200 "), alive.endswith(b"alive\n")) == (True, True)
            assert (ready.startswith(b"HTTP/1.1 503 "), b"the server is stopping" in ready) == (True, True)
            assert b"\r\nConnection: close\r\n" in alive

    def test_a_probe_is_logged_only_if_the_status_has_changed(self, start_server, make_redis, log, check_often):
        """Every other request has its own log line."""
        redis = make_redis()
        server = up(start_server(redis=redis.url))
        for path in ("/ready", "/health", "/health", "/favicon.svg", "/favicon.svg"):
            probe(server, path)
        probe(server, "/health", method="HEAD")
        run(redis, "CONFIG SET maxmemory 1")
        wait_until(lambda: ready(server) == 503, "not ready")
        assert [ready(server) for _ in range(3)] == [503] * 3
        run(redis, "CONFIG SET maxmemory 0")
        up(server)
        lines = [" ".join(line.split()[:3]) for line in log.lines("wsserver.http")]
        assert lines[-6:] == ["GET /ready 200", "GET /health 200"] + ["GET /favicon.svg 200"] * 2 + [
            "GET /ready 503",
            "GET /ready 200",
        ]

    def test_info_has_metrics_of_redis_only_with_redis(self, start_server, make_redis):
        names = []
        for settings in ({}, {"redis": make_redis().url}):
            server = up(start_server(api_key=KEY, **settings))
            [node] = api(server, "info", {})[1]["result"]["nodes"]
            names.append("redis_subscriber_up" in node["metrics"]["items"])
        assert names == [False, True]


FAULTS = {
    # Name: options, lines of the configuration file, commands that break it, that repair it, expected words.
    "read-only replica": ({}, "", ["REPLICAOF 127.0.0.1 1"], ["REPLICAOF NO ONE"], "is a read-only replica"),
    "out of memory": ({}, "", ["CONFIG SET maxmemory 1"], ["CONFIG SET maxmemory 0"], "is out of memory"),
    "too few replicas": (
        {},
        "",
        ["CONFIG SET min-replicas-to-write 1"],
        ["CONFIG SET min-replicas-to-write 0"],
        "has too few replicas",
    ),
    "no scripts": (
        {},
        "user default on nopass ~* &* +@all",
        ["ACL SETUSER default -evalsha -eval"],
        ["ACL SETUSER default +evalsha +eval"],
        "Redis does not permit the server to run the command: NOPERM",
    ),
    "no streams": (
        {},
        "user default on nopass ~* &* +@all",
        ["ACL SETUSER default -xadd"],
        ["ACL SETUSER default +xadd"],
        "the user in --redis lacks a permission that publishing needs",
    ),
    "cluster without slots": (
        {"cluster-enabled": "yes", "cluster-require-full-coverage": "no"},
        "",
        ["CLUSTER DELSLOTSRANGE 1 16383"],
        ["CLUSTER ADDSLOTSRANGE 1 16383"],
        "the Redis Cluster is down",
    ),
}


class FaultTests:
    """A Redis that accepts connections and refuses what publishing needs."""

    @pytest.mark.parametrize(("options", "lines", "breaks", "repairs", "words"), FAULTS.values(), ids=FAULTS)
    def test_ready_is_503_with_the_reason_until_redis_accepts_publications_again(
        self, start_server, make_redis, log, check_often, options, lines, breaks, repairs, words
    ):
        """The API's error has the same reason; the log has one warning and one line for the recovery."""
        if options:
            # The default is the port plus 10,000, which may be out of range.
            with socket.create_server(("127.0.0.1", 0)) as listener:
                options = options | {"cluster-port": listener.getsockname()[1]}
        redis = make_redis(lines=lines, **options)
        if options:
            run(redis, "CLUSTER ADDSLOTS 0", *repairs)
            wait_until(lambda: b"cluster_state:ok" in redis.run("CLUSTER", "INFO"), "the cluster")
        server = up(start_server(redis=redis.url, api_key=KEY))
        run(redis, *breaks)
        wait_until(lambda: ready(server) == 503, "not ready")
        assert words in probe(server)[1]
        assert probe(server, method="HEAD")[0] == 503
        assert probe(server, "/health") == (200, "alive\n")
        status, answer = api(server, "publish", {"channel": "foo", "data": "x"})
        assert (status, words in json.dumps(answer)) == (403 if "NOPERM" in words else 503, True)
        assert [words in line for line in redis_lines(log, "Redis accepts no publications: ")] == [True]
        run(redis, *repairs)
        wait_until(lambda: ready(server) == 200, "ready again")
        assert api(server, "publish", {"channel": "foo", "data": "x"})[0] == 200
        assert redis_lines(log, "Redis accepts publications again") == ["Redis accepts publications again"]

    def test_ready_is_503_after_a_failed_snapshot_until_one_succeeds(self, start_server, make_redis, check_often):
        """Redis refuses writes once a snapshot has failed (`stop-writes-on-bgsave-error`), as on a full disk."""
        redis = make_redis(save="3600 1")
        server = up(start_server(redis=redis.url, api_key=KEY))
        # A directory in place of the snapshot makes it fail, for root too.
        (redis.directory / "dump.rdb").mkdir()
        run(redis, "BGSAVE")
        wait_until(lambda: ready(server) == 503, "not ready")
        assert "Redis cannot save its data to disk and refuses writes: MISCONF" in probe(server)[1]
        status, answer = api(server, "publish", {"channel": "foo", "data": "x"})
        assert (status, "cannot save its data" in json.dumps(answer)) == (503, True)
        (redis.directory / "dump.rdb").rmdir()
        run(redis, "BGSAVE")
        up(server)

    def test_ready_follows_a_change_to_replica_and_back_at_the_default_interval(self, start_server, make_redis):
        redis = make_redis()
        server = up(start_server(redis=redis.url))
        for command, status in (("REPLICAOF 127.0.0.1 1", 503), ("REPLICAOF NO ONE", 200)):
            run(redis, command)
            wait_until(lambda status=status: ready(server) == status, f"{status}")

    def test_ready_and_the_api_are_503_with_the_reason_while_redis_is_killed(self, start_server, make_redis):
        """`/health` stays 200."""
        redis = make_redis()
        server = up(start_server(redis=redis.url, api_key=KEY))
        redis.kill()
        wait_until(lambda: "Connection refused" in probe(server)[1], "the reason")
        assert probe(server)[1].startswith("Redis is unavailable: Connection refused; check that Redis runs at this")
        assert probe(server, "/health")[0] == 200
        status, answer = api(server, "publish", {"channel": "foo", "data": "x"})
        assert (status, "Redis is unavailable" in json.dumps(answer)) == (503, True)
        redis.start()
        up(server)


NOT_NEEDED = ("INFO", "CONFIG", "CLIENT", "SCRIPT", "ROLE", "PING", "HELLO", "COMMAND", "KEYS", "FLUSHALL", "ECHO")


class RefusedCommandTests:
    """A Redis that renamed commands away (`rename-command`) or denies them by its access control list."""

    @pytest.mark.parametrize(
        ("lines", "words"),
        [
            (
                "".join(f'rename-command {command} ""\n' for command in NOT_NEEDED),
                "Redis does not know the command INFO, which may have been renamed: ERR unknown command 'INFO'",
            ),
            (
                f"user default on nopass ~* &* +@all {' '.join(f'-{command.lower()}' for command in NOT_NEEDED)}",
                "the user in --redis lacks a permission: NOPERM",
            ),
        ],
        ids=["renamed", "denied"],
    )
    def test_is_ready_without_optional_commands_and_warns_once_about_info(
        self, start_server, make_redis, log, lines, words
    ):
        """The warning is not repeated when the server reconnects."""
        redis = make_redis(lines=lines)
        server = up(start_server(redis=redis.url, api_key=KEY))
        assert api(server, "publish", {"channel": "foo", "data": "x"})[0] == 200
        redis.kill()
        wait_until(lambda: ready(server) == 503, "the outage noticed")
        redis.start()
        up(server)
        [line] = redis_lines(log, "cannot detect whether Redis loses data in a restart, because it refuses INFO: ")
        assert words in line

    @pytest.mark.parametrize(
        ("command", "words"),
        [
            ("EVALSHA", "Redis does not know the command EVALSHA"),
            ("PUBLISH", "Redis does not know the command PUBLISH"),
            ("SUBSCRIBE", "Redis does not know the command SUBSCRIBE"),
            ("XADD", "a command that publishing needs may have been renamed"),
            ("AUTH", "Redis does not know the command AUTH"),
            ("SELECT", "Redis does not know the command SELECT"),
        ],
    )
    def test_ready_and_the_log_name_a_missing_required_command(self, start_server, make_redis, log, command, words):
        """Redis repeats the arguments of AUTH in its error, but the password is not shown."""
        redis = make_redis(lines=f'rename-command {command} ""\n')
        url = redis.url.replace("//", "//:hush@") if command == "AUTH" else redis.url
        server = start_server(redis=f"{url}/1" if command == "SELECT" else url)
        wait_until(lambda: words in probe(server)[1], words)
        wait_until(lambda: any(words in line for line in log.lines("wsserver.redis")), words)
        assert "hush" not in probe(server)[1] + "".join(log.lines("wsserver.redis"))


@contextlib.contextmanager
def web_server():
    """Serve HTTP on a free port, as another server at the port of Redis; yield the port."""
    kind = http.server.BaseHTTPRequestHandler
    with patch.object(kind, "log_message"), http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


REFUSES = "Redis refuses the password; check user and password in --redis: WRONGPASS"


class MessageTests:
    """A connection to Redis that fails has one clear log line, and the same words at `/ready`."""

    def check(self, server, log, words):
        """Check that after some attempts one log line and `/ready` have these words, without the password."""
        link = server.service.hub.broker._link
        wait_until(lambda: link._attempts > 2, "some attempts", timeout=30)
        [line] = redis_lines(log, f"Redis at {link._url.shown} (--redis) is unavailable, retrying: ")
        assert words in line
        assert words in probe(server)[1]
        assert "hush" not in line + probe(server)[1]

    @pytest.mark.parametrize(
        ("login", "password", "words"),
        [
            (":hush@", "right", REFUSES),
            ("me:hush@", "right", REFUSES),
            ("me:hush@", "", REFUSES),
            ("", "right", "Redis requires a password; give it in --redis, as in redis://:PASSWORD@HOST: NOAUTH"),
            (":hush@", "", "--redis has a password, but Redis requires none: ERR AUTH <password> called without any"),
        ],
        ids=["wrong password", "wrong user", "unknown user", "missing password", "needless password"],
    )
    def test_a_refused_login_names_the_reason_and_not_the_password(
        self, start_server, make_redis, log, login, password, words
    ):
        redis = make_redis(requirepass=password)
        self.check(start_server(redis=redis.url.replace("//", f"//{login}")), log, words)

    def test_a_missing_database_names_the_number_in_redis(self, start_server, make_redis, log):
        """Redis has 16 databases by default; the URL selects number 99."""
        server = start_server(redis=f"{make_redis().url}/99")
        self.check(server, log, "Redis has no such database; check the number at the end of --redis: ERR DB index")

    @pytest.mark.parametrize("login", ["", ":hush@"])
    def test_an_http_server_at_the_port_says_to_check_host_and_port(self, start_server, log, login):
        with web_server() as port:
            server = start_server(redis=f"redis://{login}127.0.0.1:{port}")
            self.check(server, log, "check host and port in --redis")
            server.stop()

    def test_a_closed_port_says_connection_refused_and_what_to_check(self, start_server, log):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        words = "Connection refused; check that Redis runs at this host and port"
        self.check(start_server(redis=f"redis://127.0.0.1:{port}"), log, words)

    def test_an_unknown_host_name_is_named(self, start_server, log):
        server = start_server(redis="redis://no-such-host.invalid")
        self.check(server, log, "the host name does not resolve: no-such-host.invalid")

    @pytest.mark.parametrize("login", ["", ":hush@"])
    def test_plain_text_to_a_redis_with_tls_says_to_write_rediss(
        self, start_server, make_redis, log, certificate, login
    ):
        """Redis closes the connection, with a TLS alert or without."""
        redis = make_redis(tls=certificate)
        server = start_server(redis=redis.url.replace("rediss://", f"redis://{login}"))
        self.check(server, log, "write rediss:// in")
