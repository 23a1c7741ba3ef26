"""`/ready` and `/health`: what probes are told while Redis fails in each of its ways, and what stands in the log."""

import contextlib
import http.server
import json
import socket
import threading
from unittest.mock import patch

import pytest
from http_api import KEY, api, ready, up
from peers import wait_until
from redis_server import RedisServer

from wsserver.redis import health


@pytest.fixture
def make_redis(tmp_path):
    """Make a server of Redis, started, in `tmp_path`; end it after the test."""
    made = []

    def make(lines="", **options):
        if lines:
            (tmp_path / "more.conf").write_text(lines)
            options["include"] = tmp_path / "more.conf"
        made.append(RedisServer(tmp_path, **options))
        made[-1].start()
        return made[-1]

    yield make
    for server in made:
        server.kill()


@pytest.fixture
def often():
    """Check writes ten times as often as usual, to save time."""
    with patch.object(health, "CHECK_INTERVAL", health.CHECK_INTERVAL / 10):
        yield


def probe(server, path="/ready", method="GET"):
    """Poll; returns the status and the sentence."""
    with server.connect() as peer:
        response = peer.request(path, method=method)
        return response.status, response.text.partition("\n")[2].strip() if response.status != 200 else response.text


def said(log, start):
    """Return what is in the log about Redis and begins so."""
    return [line for line in log.lines("wsserver.redis") if line.startswith(start)]


def run(redis, *commands):
    """Run commands, each a text with its words; fail if one fails."""
    for command in commands:
        answer = redis.run(*command.split())
        assert not answer.startswith(b"-"), answer


class ProbeTests:
    """The answers themselves."""

    @pytest.mark.parametrize(("path", "word"), [("/ready", "ready\n"), ("/health", "alive\n")])
    def test_without_redis_both_are_200_for_get_and_head(self, server, path, word):
        """Nothing is cached on the way."""
        assert probe(server, path) == (200, word)
        with server.connect() as peer:
            response = peer.request(path, method="HEAD")
            assert (response.status, response.body, response.header("cache-control")) == (200, b"", "no-store")
            assert peer.request(path, method="POST").status == 405

    def test_while_the_server_stops_ready_is_503_and_health_200(self, start_server):
        """A probe on a connection that is there already is answered until the end."""
        server = start_server(close_timeout=1)
        with server.open(), server.connect() as one, server.connect() as other:
            assert one.request("/health").status == other.request("/health").status == 200
            server.begin_to_stop()
            assert one.request("/health").text == "alive\n"
            response = other.request("/ready")
            assert (response.status, "the server is stopping" in response.text) == (503, True)

    def test_polls_are_logged_when_the_answer_changes_only(self, start_server, make_redis, log, often):
        """Other requests have a line each."""
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

    def test_info_tells_of_redis_only_if_there_is_one(self, start_server, make_redis):
        """A server without it has no connection to tell of."""
        names = []
        for settings in ({}, {"redis": make_redis().url}):
            server = up(start_server(api_key=KEY, **settings))
            [node] = api(server, "info", {})[1]["result"]["nodes"]
            names.append("redis_subscriber_up" in node["metrics"]["items"])
        assert names == [False, True]


FAULTS = {
    # Name: options, lines of the file, what breaks it, what mends it, the words.
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
    """A Redis whose sockets are open and that refuses what publishing needs."""

    @pytest.mark.parametrize(("options", "lines", "breaks", "mends", "words"), FAULTS.values(), ids=FAULTS)
    def test_ready_says_what_redis_refuses_until_it_accepts_it_again(
        self, start_server, make_redis, log, often, options, lines, breaks, mends, words
    ):
        """So does a call of the API; the log has one warning, and one line when it is over; `/health` stays 200."""
        if options:
            # By itself it would be the other port plus 10,000, and out of range.
            with socket.create_server(("127.0.0.1", 0)) as listener:
                options = options | {"cluster-port": listener.getsockname()[1]}
        redis = make_redis(lines, **options)
        if options:
            run(redis, "CLUSTER ADDSLOTS 0", *mends)
            wait_until(lambda: b"cluster_state:ok" in redis.run("CLUSTER", "INFO"), "the cluster")
        server = up(start_server(redis=redis.url, api_key=KEY))
        run(redis, *breaks)
        wait_until(lambda: ready(server) == 503, "not ready")
        assert words in probe(server)[1]
        assert probe(server, method="HEAD")[0] == 503
        assert probe(server, "/health") == (200, "alive\n")
        status, answer = api(server, "publish", {"channel": "foo", "data": "x"})
        assert (status, words in json.dumps(answer)) == (403 if "NOPERM" in words else 503, True)
        assert [words in line for line in said(log, "Redis accepts no publications: ")] == [True]
        run(redis, *mends)
        wait_until(lambda: ready(server) == 200, "ready again")
        assert api(server, "publish", {"channel": "foo", "data": "x"})[0] == 200
        assert said(log, "Redis accepts publications again") == ["Redis accepts publications again"]

    def test_a_full_disk(self, start_server, make_redis, tmp_path, often):
        """Redis refuses writes once a snapshot has failed (`stop-writes-on-bgsave-error`)."""
        redis = make_redis(save="3600 1")
        server = up(start_server(redis=redis.url, api_key=KEY))
        # A directory in its place is what root cannot overwrite either.
        (tmp_path / "dump.rdb").mkdir()
        run(redis, "BGSAVE")
        wait_until(lambda: ready(server) == 503, "not ready")
        assert "Redis cannot save its data to disk and refuses writes: MISCONF" in probe(server)[1]
        status, answer = api(server, "publish", {"channel": "foo", "data": "x"})
        assert (status, "cannot save its data" in json.dumps(answer)) == (503, True)
        (tmp_path / "dump.rdb").rmdir()
        run(redis, "BGSAVE")
        up(server)

    def test_becoming_a_replica_and_a_primary_again_is_noticed_at_the_default_interval(self, start_server, make_redis):
        """By a probe that polls `/ready`."""
        redis = make_redis()
        server = up(start_server(redis=redis.url))
        for command, status in (("REPLICAOF 127.0.0.1 1", 503), ("REPLICAOF NO ONE", 200)):
            run(redis, command)
            wait_until(lambda status=status: ready(server) == status, f"{status}")

    def test_a_redis_that_is_killed(self, start_server, make_redis):
        """`/ready` says why there is no connection, and a call of the API gets 503 in words."""
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
    """A Redis whose commands were renamed away (`rename-command`) or are denied by its access control list."""

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
    def test_without_the_commands_that_are_not_needed_it_comes_up(self, start_server, make_redis, log, lines, words):
        """For the loss of INFO there is one warning, however often the server connects."""
        redis = make_redis(lines)
        server = up(start_server(redis=redis.url, api_key=KEY))
        assert api(server, "publish", {"channel": "foo", "data": "x"})[0] == 200
        redis.kill()
        wait_until(lambda: ready(server) == 503, "the loss")
        redis.start()
        up(server)
        [line] = said(log, "cannot detect whether Redis loses data in a restart, because it refuses INFO: ")
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
    def test_without_a_command_that_is_needed_ready_and_the_log_name_it(
        self, start_server, make_redis, log, command, words
    ):
        """Redis repeats the arguments of AUTH in its answer: the password is not shown."""
        redis = make_redis(f'rename-command {command} ""\n')
        url = redis.url.replace("//", "//:hush@") if command == "AUTH" else redis.url
        server = start_server(redis=f"{url}/1" if command == "SELECT" else url)
        wait_until(lambda: words in probe(server)[1], words)
        wait_until(lambda: any(words in line for line in log.lines("wsserver.redis")), words)
        assert "hush" not in probe(server)[1] + "".join(log.lines("wsserver.redis"))


@contextlib.contextmanager
def web_server():
    """Serve HTTP, as something else at the port of Redis; gives the port."""
    kind = http.server.BaseHTTPRequestHandler
    with patch.object(kind, "log_message"), http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


REFUSES = "Redis refuses the password; check user and password in --redis: WRONGPASS"


class MessageTests:
    """What is wrong with the way to Redis is one clear line in the log, and the same words at `/ready`."""

    def check(self, server, log, words):
        """Check the line after some attempts."""
        link = server.service.hub.broker._link
        wait_until(lambda: link._attempts > 2, "some attempts", patience=30)
        [line] = said(log, f"Redis at {link._url.shown} is unavailable, retrying: ")
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
    def test_a_login_that_redis_refuses(self, start_server, make_redis, log, login, password, words):
        """Never with the password."""
        redis = make_redis(requirepass=password)
        self.check(start_server(redis=redis.url.replace("//", f"//{login}")), log, words)

    def test_a_database_that_does_not_exist(self, start_server, make_redis, log):
        """Redis has 16 of them."""
        server = start_server(redis=f"{make_redis().url}/99")
        self.check(server, log, "Redis has no such database; check the number at the end of --redis: ERR DB index")

    @pytest.mark.parametrize("login", ["", ":hush@"])
    def test_a_web_server(self, start_server, log, login):
        """As behind a wrong port."""
        with web_server() as port:
            server = start_server(redis=f"redis://{login}127.0.0.1:{port}")
            self.check(server, log, "check host and port in --redis")
            server.stop()

    def test_a_port_where_nobody_listens(self, start_server, log):
        """The operating system's word, and what to check."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        words = "Connection refused; check that Redis runs at this host and port"
        self.check(start_server(redis=f"redis://127.0.0.1:{port}"), log, words)

    def test_a_name_that_does_not_resolve(self, start_server, log):
        """The name is in the line."""
        server = start_server(redis="redis://no-such-host.invalid")
        self.check(server, log, "the host name does not resolve: no-such-host.invalid")

    @pytest.mark.parametrize("login", ["", ":hush@"])
    def test_no_tls_to_a_redis_with_it(self, start_server, make_redis, log, certificate, login):
        """Redis closes the connection, with an alert or without."""
        redis = make_redis(tls=certificate)
        server = start_server(redis=redis.url.replace("rediss://", f"redis://{login}"))
        self.check(server, log, "write rediss:// in")
