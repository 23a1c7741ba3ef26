"""The way to a Redis: TLS, users with few rights, sentinels; and what is said when it cannot be gone."""

import contextlib
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import threading
import time
from unittest.mock import patch

import pytest
from events import assert_ends_with_retry
from http_api import KEY, api, ready, up
from paths import DOCS
from peers import answer_to, wait_until
from pytest_twisted import blockon
from redis_server import RedisServer, Sentinel
from twisted.internet.defer import gatherResults
from twisted.internet.threads import deferToThread

from wsserver.errors import SettingError


@pytest.fixture
def make_redis(tmp_path):
    """Make servers of Redis, started; end them after the test."""
    made = []

    def make(kind=RedisServer, *arguments, **options):
        directory = tmp_path / f"redis-{len(made)}"
        directory.mkdir()
        made.append(kind(directory, *arguments, **options))
        made[-1].start()
        return made[-1]

    yield make
    for server in made:
        server.kill()


def said(log):
    """Return what is in the log about Redis."""
    return log.lines("wsserver.redis")


class AbsentTests:
    """A Redis that is not there from the start."""

    def test_said_once(self, start_server, make_redis, log):
        """The log says so in one line, however often it is tried, and in another when it is there."""
        redis = make_redis()
        redis.kill()
        server = start_server(redis=redis.url.replace("//", "//me:hush@"))
        link = server.service.hub.broker._link
        wait_until(lambda: link._attempts > 4, "some attempts")
        where = f"redis://127.0.0.1:{redis.port}/0"
        [line] = said(log)
        assert line.startswith(f"Redis at {where} is unavailable, retrying: Connection refused; check that Redis runs")
        assert not [event for event in log.events if "ClientService" in str(event.get("log_namespace"))]
        redis.start()
        redis.run("ACL", "SETUSER", "me", "on", ">hush", "+@all", "&*", "~*")
        up(server)
        assert said(log)[-1] == f"connected to Redis at {where}"
        assert len(said(log)) <= 3

    def test_no_such_host(self, start_server, log):
        """A name that nobody knows is said."""
        start_server(redis="redis://no-such-host.invalid")
        wait_until(lambda: said(log), "a line in the log")
        assert "no-such-host.invalid" in said(log)[0]

    def test_no_redis(self, start_server, log):
        """Something else at that place is noticed, and does no harm."""
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def answer():
                with contextlib.suppress(OSError):
                    while True:
                        with listener.accept()[0] as other:
                            other.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                            other.recv(1000)

            thread = threading.Thread(target=answer)
            thread.start()
            server = start_server(redis=f"redis://:x@127.0.0.1:{listener.getsockname()[1]}")
            wait_until(lambda: said(log), "a line in the log")
            assert "an HTTP server answers there" in said(log)[0]
            assert ready(server) == 503
            assert server.serves_the_next()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()

    def test_silent_from_the_start(self, start_server, make_redis, log):
        """One that does not even answer to the password is given up, and tried again."""
        redis = make_redis(requirepass="secret")
        redis.freeze()
        server = start_server(redis=redis.url.replace("//", "//:secret@"))
        wait_until(lambda: said(log), "a line in the log")
        assert "no answer within 5 s" in said(log)[0]
        redis.thaw()
        up(server)

    def test_too_many_clients(self, start_server, make_redis, log):
        """What a Redis says that takes nobody any more is said."""
        redis = make_redis(maxclients=1)
        with socket.create_connection(("127.0.0.1", redis.port)):
            start_server(redis=redis.url)
            wait_until(lambda: said(log), "a line in the log")
            assert "max number of clients" in said(log)[0]

    def test_another_redis(self, start_server, make_redis, log):
        """A password that is wanted and not given is said."""
        redis = make_redis(requirepass="secret")
        server = start_server(redis=redis.url)
        wait_until(lambda: said(log), "a line in the log")
        assert "NOAUTH" in said(log)[0]
        assert ready(server) == 503


class TLSTests:
    """`rediss://`: TLS to Redis."""

    @pytest.fixture
    def redis(self, make_redis, certificate):
        """Start a Redis that speaks TLS only."""
        return blockon(deferToThread(lambda: make_redis(tls=certificate)))

    def test_own_certificates(self, start_server, redis, certificate):
        """The file of certificates to trust is named in the URL."""
        server = up(start_server(redis=f"{redis.url}?ssl_ca_certs={certificate[1]}"))
        with server.open("/ws?channel=foo") as peer:
            redis.publish("foo", b"x" * 100_000)
            assert peer.read_frame().payload == b"x" * 100_000

    def test_environment(self, start_server, redis, certificate):
        """Or in the environment, for every program that uses OpenSSL."""
        with patch.dict(os.environ, SSL_CERT_FILE=str(certificate[1])):
            up(start_server(redis=redis.url))

    def test_not_trusted(self, start_server, redis, log):
        """A certificate that nobody vouches for is not taken."""
        server = start_server(redis=redis.url)
        wait_until(lambda: said(log), "a line in the log")
        assert "TLS: certificate verify failed" in said(log)[0]
        assert ready(server) == 503

    def test_another_host(self, start_server, redis, certificate, log):
        """Nor is one for another host."""
        url = redis.url.replace("127.0.0.1", "127.0.0.2") + f"?ssl_ca_certs={certificate[1]}"
        redis.run("CONFIG", "SET", "bind", "127.0.0.1 127.0.0.2")
        server = start_server(redis=url)
        wait_until(lambda: said(log), "a line in the log")
        assert "TLS: the certificate is for another host" in said(log)[0]
        assert ready(server) == 503

    def test_mixed_up(self, start_server, make_redis, redis, certificate, log):
        """TLS to a Redis without, and none to one with it."""
        plain = make_redis()
        tls = plain.url.replace("redis:", "rediss:")
        for url, words in ((tls, "write redis://"), (redis.url.replace("rediss", "redis"), "write rediss://")):
            server = start_server(redis=url)
            wait_until(lambda words=words: any(words in line for line in said(log)), words)
            assert ready(server) == 503

    @pytest.mark.parametrize(
        "content", [None, "no certificate", "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----"]
    )
    def test_no_certificates(self, start_server, tmp_path, content):
        """A file that cannot be read, or holds none, is said at the start."""
        path = tmp_path / "ca.pem"
        if content is not None:
            path.write_text(content)
        with pytest.raises(SettingError, match="redis: ssl_ca_certs"):
            start_server(redis=f"rediss://127.0.0.1?ssl_ca_certs={path}")


class UserTests:
    """A user of Redis with few rights (ACL)."""

    # As the docs say.
    PAGE = DOCS / "how-to" / "redis.md"
    RIGHTS = re.search(r"redis-cli ACL SETUSER web (.+)", PAGE.read_text())[1].replace("password", "p:w")

    @pytest.fixture
    def redis(self, make_redis):
        """Start a Redis with such a user."""
        redis = blockon(deferToThread(make_redis))
        redis.run("ACL", "SETUSER", "web", *shlex.split(self.RIGHTS))
        return redis

    @pytest.fixture
    def server(self, start_server, redis):
        """Start a server that is this user."""
        url = redis.url.replace("//", "//web:p%3Aw@")
        return blockon(deferToThread(lambda: up(start_server(redis=url, api_key=KEY))))

    def test_permitted(self, server, redis):
        """What it may listen to, it hears; what it may publish, it publishes."""
        with server.open("/ws?channel=news,news:2") as peer:
            redis.publish("news", b"hello")
            assert peer.read_frame().payload == b"hello"
            assert api(server, "publish", {"channel": "news:2", "data": "x"})[0] == 200
            assert peer.read_frame().payload == b"x"

    def test_refused(self, server, redis):
        """Any other channel is refused to whoever asks for it, with a reason; the rest goes on."""
        with server.open("/ws?channel=news") as peer:
            for path in ("/ws?channel=secrets", "/ws?channel=news:2,secrets"):
                with server.connect() as other:
                    response = answer_to(other, path)
                    assert response.status == 403
                    assert "Redis does not permit" in response.text
            with server.connect() as other:
                response = other.request("/sse?channel=secrets")
                assert response.status == 403
                assert "Redis does not permit" in response.text
            assert ready(server) == 200
            redis.publish("news", b"hello")
            assert peer.read_frame().payload == b"hello"

    def test_taken_away(self, server, redis):
        """A channel that is not permitted any more is closed to those who listened; the others are heard again."""
        channels = [f"news{number}" for number in range(100)]
        with server.open("/ws?channel=" + ",".join(channels)) as peer, server.open("/ws?channel=news:x") as other:
            redis.run("ACL", "SETUSER", "web", "resetchannels", "&wsserver:*", *(f"&{channel}" for channel in channels))
            frame = other.read_frame()
            assert (frame.close_code, "no longer permits" in frame.close_reason) == (1008, True)
            up(server)
            gaps = {json.loads(peer.read_frame().payload)["channel"] for _ in channels}
            assert gaps == set(channels)
            for channel in channels:
                assert redis.publish(channel, channel.encode()) == 1
                assert peer.read_frame().payload == channel.encode()

    def test_not_even_the_server(self, start_server, redis, log):
        """One that may not use the server's own channels is told which rights it needs."""
        redis.run("ACL", "SETUSER", "poor", "on", ">x", "resetchannels", "&news", "+@all", "~wsserver:*")
        server = start_server(redis=redis.url.replace("//", "//poor:x@"))
        wait_until(lambda: said(log), "a line in the log")
        assert "the user needs SUBSCRIBE for the channels wsserver:*" in said(log)[-1]
        redis.run("ACL", "SETUSER", "poor", "&wsserver:*", "-publish")
        wait_until(lambda: len(said(log)) > 1, "a second line")
        assert "the user needs PUBLISH for the channels wsserver:*" in said(log)[-1]
        assert ready(server) == 503
        redis.run("ACL", "SETUSER", "poor", "+publish")
        up(server)


class ForgetfulTests:
    """A Redis that comes back with less than it had acknowledged."""

    @staticmethod
    def publish(server, *texts):
        """Publish; returns the place of the last one as an id."""
        answers = [api(server, "publish", {"channel": "foo", "data": text}) for text in texts]
        assert {status for status, _ in answers} == {200}
        return "{epoch}:{offset}".format(**answers[-1][1]["result"])

    def killed(self, redis, server):
        """Publish before and after a snapshot, kill Redis, and start it again; returns the place before it died."""
        self.publish(server, "1")
        redis.run("SAVE")
        place = self.publish(server, "2", "3")
        redis.kill()
        wait_until(lambda: ready(server) == 503, "deaf")
        redis.start()
        up(server)
        return place

    def test_snapshot(self, start_server, make_redis):
        """The same offsets are not given a second time, or nobody could tell what is new."""
        redis = make_redis()
        server = up(start_server(redis=redis.url, api_key=KEY))
        with server.open("/ws?channel=foo&format=json") as peer:
            place = self.killed(redis, server)
            assert [json.loads(peer.read_frame().payload)["data"] for _ in range(3)] == ["1", "2", "3"]
            new = self.publish(server, "4", "5", "6", "7")
            assert new.partition(":")[0] != place.partition(":")[0]
            assert json.loads(peer.read_frame().payload) == {"event": "gap", "channel": "foo"}
            assert [json.loads(peer.read_frame().payload)["data"] for _ in range(4)] == ["4", "5", "6", "7"]
        with server.open(f"/ws?channel=foo&format=json&last_event_id={place}") as peer:
            assert json.loads(peer.read_frame().payload) == {"event": "gap", "channel": "foo"}

    def test_append_only(self, start_server, make_redis):
        """One that writes down every command goes on where it was."""
        redis = make_redis(appendonly="yes", appendfsync="always")
        server = up(start_server(redis=redis.url, api_key=KEY))
        place = self.killed(redis, server)
        epoch, _, offset = place.partition(":")
        assert self.publish(server, "4") == f"{epoch}:{int(offset) + 1}"
        with server.open(f"/ws?channel=foo&format=json&last_event_id={place}") as peer:
            assert json.loads(peer.read_frame().payload)["data"] == "4"

    def test_not_permitted_to_ask(self, start_server, make_redis, log):
        """Without the right to ask it is not noticed, and that is said."""
        redis = make_redis()
        redis.run("ACL", "SETUSER", "web", "on", ">x", "&*", "~*", "+@all", "-info")
        up(start_server(redis=redis.url.replace("//", "//web:x@")))
        assert "because it refuses INFO: the user in --redis lacks a permission" in said(log)[0]


class SentinelTests:
    """`redis+sentinel://`: the sentinels say where the master is."""

    @pytest.fixture
    def pair(self, make_redis):
        """Start a master and its replica."""

        def make():
            # Else a master waits for seconds whether more replicas come.
            master = make_redis(**{"repl-diskless-sync-delay": 0})
            replica = make_redis(replicaof=f"127.0.0.1 {master.port}")
            wait_until(lambda: b"link_status:up" in replica.run("INFO", "replication"), "the replica in step")
            return master, replica

        return blockon(deferToThread(make))

    @staticmethod
    def url(*sentinels, query=""):
        """Write the URL."""
        hosts = ",".join(f"127.0.0.1:{one.port}" for one in sentinels)
        return f"redis+sentinel://{hosts}/mymaster/0{query}"

    @pytest.mark.parametrize("how", ["kill", "freeze"])
    def test_failover(self, start_server, make_redis, pair, how):
        """The master goes, the replica is promoted: the server follows, and tells those who listen."""
        master, replica = pair
        sentinel = make_redis(Sentinel, master)
        wait_until(
            lambda: b"%d" % replica.port in sentinel.run("SENTINEL", "replicas", "mymaster"), "the replica known"
        )
        server = up(start_server(redis=self.url(sentinel), api_key=KEY, history_size=10))
        with server.open("/ws?channel=foo&format=json") as peer:
            master.publish("foo", b"before")
            assert json.loads(peer.read_frame().payload)["data"] == "before"
            assert api(server, "publish", {"channel": "foo", "data": "kept"})[0] == 200
            kept = json.loads(peer.read_frame().payload)
            getattr(master, how)()
            wait_until(lambda: ready(server) == 503, "deaf")
            wait_until(lambda: ready(server) == 200, "at the new master", patience=20)
            assert json.loads(peer.read_frame().payload) == {"event": "gap", "channel": "foo"}
            assert replica.publish("foo", b"after") == 1
            assert json.loads(peer.read_frame().payload)["data"] == "after"
            assert api(server, "publish", {"channel": "foo", "data": "kept again"})[0] == 200
            assert json.loads(peer.read_frame().payload)["epoch"] != kept["epoch"]
        if how == "freeze":
            master.thaw()

    def test_another_is_named(self, start_server, make_redis, pair):
        """A master that was cut off from its sentinels goes on; the server does not go with it."""
        master, other = make_redis(), make_redis()
        sentinel = make_redis(Sentinel, master)
        server = up(start_server(redis=self.url(sentinel)))
        with server.open("/ws?channel=foo") as peer:
            sentinel.run("SENTINEL", "remove", "mymaster")
            assert master.publish("foo", b"before") == 1
            assert peer.read_frame().payload == b"before"
            sentinel.run("SENTINEL", "monitor", "mymaster", "127.0.0.1", str(other.port), "1")
            assert b"gap" in peer.read_frame().payload
            assert other.publish("foo", b"after") == 1
            assert peer.read_frame().payload == b"after"

    def test_some_sentinels(self, start_server, make_redis, pair):
        """One of three sentinels is enough, and what it needs is its own password."""
        master, _ = pair
        dead, frozen = make_redis(Sentinel, master), make_redis(Sentinel, master)
        sentinel = make_redis(Sentinel, master, password="s&s")
        dead.kill()
        frozen.freeze()
        up(start_server(redis=self.url(dead, frozen, sentinel, query="?sentinel_password=s%26s")))
        frozen.thaw()

    def test_problems(self, start_server, make_redis, pair, log):
        """Each sentinel's reason is said; one that names a replica is not believed."""
        master, replica = pair
        wrong, dead, sentinel = make_redis(Sentinel, replica), make_redis(), make_redis(Sentinel, master, password="x")
        dead.kill()
        start_server(redis=self.url(dead, sentinel, wrong).replace("mymaster", "other"))
        wait_until(lambda: said(log), "a line in the log")
        for words in (
            f"{dead.port}: Connection refused",
            f"{sentinel.port}: the sentinel requires a password; add ?sentinel_password= to --redis: NOAUTH",
            "knows no master named other",
        ):
            assert words in said(log)[0]
        start_server(redis=self.url(wrong))
        wait_until(lambda: len(said(log)) > 1, "a second line")
        assert "not the master" in said(log)[1]


class RefusedPublishTests:
    """What Redis does not take."""

    def test_permission(self, start_server, make_redis):
        """A publication that its user may not make is answered with 403."""
        redis = make_redis()
        redis.run("ACL", "SETUSER", "web", "on", ">x", "&*", "~wsserver:*", "+@all", "-evalsha")
        server = start_server(redis=redis.url.replace("//", "//web:x@"), api_key=KEY)
        wait_until(lambda: server.service.hub.broker.up, "the connection")
        status, answer = api(server, "publish", {"channel": "foo", "data": "x"})
        assert (status, answer["error"]["code"]) == (403, 103)
        assert "Redis does not permit" in answer["error"]["message"]
        assert ready(server) == 503

    @pytest.mark.parametrize("rights", [("-eval", "-evalsha"), ("resetkeys",)], ids=["no scripts", "no keys"])
    def test_subscribing_is_a_temporary_failure_while_redis_refuses_what_every_channel_needs(
        self, start_server, make_redis, rights
    ):
        """An EventSource stops for good at 403, and an SDK at error 103; an operator is about to mend it."""
        redis = make_redis()
        redis.run("ACL", "SETUSER", "web", "on", ">x", "&*", "~*", "+@all", *rights)
        server = start_server(redis=redis.url.replace("//", "//web:x@"))
        wait_until(lambda: server.service.hub.broker.up, "the connection")
        with server.connect() as peer:
            assert_ends_with_retry(peer)
            assert peer.request("/sse?channel=foo").status == 503
        with server.open("/connection/websocket") as client:
            client.send_frame(1, b'{"id":1,"connect":{}}')
            client.read_message()
            client.send_frame(1, b'{"id":2,"subscribe":{"channel":"foo"}}')
            error = json.loads(client.read_message())["error"]
            assert (error["code"], error["temporary"]) == (100, True)


class ScriptTests:
    """The scripts in Redis."""

    def test_there_beforehand(self, start_server, make_redis):
        """None is sent whole when it is used: what is published next would overtake it. So after an outage."""
        redis = make_redis()
        server = up(start_server(redis=redis.url, api_key=KEY))
        for _ in range(2):
            assert api(server, "publish", {"channel": "foo", "data": "x"})[0] == 200
            assert api(server, "history", {"channel": "foo"})[0] == 200
            used = redis.run("INFO", "commandstats")
            assert b"cmdstat_evalsha:" in used
            assert b"cmdstat_eval:" not in used
            redis.kill()
            wait_until(lambda: ready(server) == 503, "the loss of Redis")
            redis.start()
            up(server)

    def test_not_permitted(self, start_server, make_redis):
        """A user that may not load any may still run them."""
        redis = make_redis()
        redis.run("ACL", "SETUSER", "web", "on", ">x", "&*", "~wsserver:*", "+@all", "-script|load")
        server = up(start_server(redis=redis.url.replace("//", "//web:x@"), api_key=KEY))
        assert api(server, "publish", {"channel": "foo", "data": "x"})[0] == 200


class StrangeMessageTests:
    """What stands in the server's own channels and keys, and no server has written; perhaps a later version has."""

    @pytest.mark.parametrize(
        ("channel", "message"),
        [
            ("wsserver:pub:{foo}", b"p:1:e:[1]\nx"),
            ("wsserver:pub:{foo}", b'p:1:e:{"info":[]}\nx'),
            ("wsserver:pub:{foo}", b"p:1:e:" + b"[" * 100_000 + b"\nx"),
            ("wsserver:pub:{foo}", b"j:" + b"[" * 100_000),
            ("wsserver:control", b'{"ask":"info","with":{},"id":"x","from":5}'),
            ("wsserver:control", b"[" * 100_000),
        ],
    )
    def test_published(self, start_server, make_redis, log, channel, message):
        """It is passed over, and the link stays up."""
        redis = make_redis()
        server = up(start_server(redis=redis.url))
        with server.open("/ws?channel=foo") as peer:
            redis.publish(channel, message)
            redis.publish("foo", b"after")
            assert peer.read_frame().payload == b"after"
        lines = log.lines("wsserver.redis") + log.lines("wsserver.hub")
        assert [line for line in lines if "ignoring a malformed" in line]

    def test_stored(self, start_server, make_redis):
        """A stream that holds it cannot be read, which is said."""
        redis = make_redis()
        server = up(start_server(redis=redis.url, api_key=KEY))
        assert api(server, "publish", {"channel": "foo", "data": "x"})[0] == 200
        redis.run("XADD", "wsserver:history:{foo}", "2-0", "d", "nonsense")
        status, answer = api(server, "history", {"channel": "foo", "limit": 10})
        assert (status, answer["error"]["code"]) == (503, 100)
        assert "an entry in an unknown format" in answer["error"]["message"]


class SlowLine:
    """
    A line to a Redis over which replies come slowly.

    Args:
        port: of the Redis.

    Attributes:
        rate: bytes a second for each connection.
    """

    def __init__(self, port):
        self._redis, self.rate = port, 64 * 1024
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets = []
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                # What waits, waits in Redis and not in the kernel.
                far = socket.socket()
                far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                far.connect(("127.0.0.1", self._redis))
                self._sockets += [near, far]
                threading.Thread(target=self._pass_on, args=(near, far), daemon=True).start()
                threading.Thread(target=self._pass_on, args=(far, near, True), daemon=True).start()

    def _pass_on(self, source, target, slowly=False):
        with contextlib.suppress(OSError):
            while data := source.recv(4096):
                target.sendall(data)
                time.sleep(len(data) / self.rate if slowly else 0)
            target.shutdown(socket.SHUT_RDWR)

    def cut(self):
        """Cut every connection."""
        while self._sockets:
            with contextlib.suppress(OSError):
                self._sockets.pop().shutdown(socket.SHUT_RDWR)

    def close(self):
        """End."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self.cut()


class SlowLineTests:
    """A line that is slow is not dead."""

    @pytest.fixture
    def redis(self, make_redis):
        """Start a Redis."""
        return blockon(deferToThread(make_redis))

    @pytest.fixture
    def line(self, redis):
        """Lay the line."""
        line = SlowLine(redis.port)
        yield line
        line.close()

    def test_many_bytes(self, start_server, redis, line, log):
        """Messages that keep a probe waiting for seconds are all heard, and nothing is said to be missing."""
        server = up(start_server(redis=line.url))
        with server.open("/ws?channel=foo") as peer:
            messages = [b"%d," % number + b"x" * 8192 for number in range(40)]
            for data in messages:
                redis.publish("foo", data)
            assert [peer.read_frame().payload for _ in messages] == messages
        assert not [line for line in said(log) if "deaf" in line]

    def test_many_channels(self, start_server, redis, line, log):
        """Subscribing to many channels may take longer than a probe may, as long as it goes on."""
        server = up(start_server(redis=line.url))
        link = server.service.hub.broker._link
        channels = [b"%0200d" % number for number in range(1500)]
        usual, line.rate = line.rate, 1e9
        server.ask(lambda: gatherResults([link.subscribe(channel) for channel in channels]))
        line.rate = usual
        line.cut()
        wait_until(lambda: ready(server) == 503, "deaf")
        wait_until(lambda: ready(server) == 200, "up again", patience=30)
        assert [line for line in said(log) if "is unavailable" in line] == []
        assert redis.publish(channels[-1].decode(), b"x") == 1


PROGRAM = """
import json, sys
if sys.argv[2] == "without":
    sys.modules["hiredis"] = None
import txredisapi
from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from wsserver.errors import NotPermitted
from wsserver.redis.supervisor import RedisLink
from wsserver.config.redis_url import parse_redis_url

got = []

def on_message(channel, data):
    got.append((channel.decode("latin-1"), data.decode("latin-1")))
    if data == b"end":
        reactor.callLater(0, stop)

@inlineCallbacks
def on_up(again):
    yield link.subscribe(b"a")
    yield link.subscribe("\\u00fc".encode())
    try:
        yield link.subscribe(b"secret")
    except NotPermitted:
        got.append("refused")
    script = link.script("return {ARGV[1], 7, {KEYS[1]}, false}")
    answer = yield script.call([b"\\xff"], [b"\\r\\n"])
    got.append(repr(answer))
    for data in (b"", b"x" * 300000, b"\\r\\n", bytes(range(256)), *(b"%d" % number for number in range(1000)), b"end"):
        yield link.command("PUBLISH", "\\u00fc", data)

@inlineCallbacks
def stop():
    yield link.stop()
    reactor.stop()

link = RedisLink(
    parse_redis_url(sys.argv[1]),
    reactor,
    on_message=on_message,
    on_up=on_up,
    on_down=lambda: None,
    on_permission_revoked=lambda channel: None,
)
link.start()
reactor.run()
print(json.dumps([txredisapi.hiredis is not None, got]))
"""


class ReaderTests:
    """txredisapi reads replies with hiredis where it is installed, else by itself."""

    @pytest.mark.parametrize("reader", ["with", "without"])
    def test_both(self, make_redis, reader):
        """Both give the same: any bytes, in order."""
        redis = make_redis()
        redis.run("ACL", "SETUSER", "me", "on", ">x", "+@all", "~*", "resetchannels", "&a", "&wsserver:*", "&ü")
        command = [sys.executable, "-c", PROGRAM, redis.url.replace("//", "//me:x@"), reader]
        done = subprocess.run(command, capture_output=True, timeout=60, check=True)
        hiredis, got = json.loads(done.stdout)
        assert hiredis == (reader == "with")
        assert got[:2] == ["refused", repr([b"\r\n", 7, [b"\xff"], None])]
        data = ["", "x" * 300_000, "\r\n", bytes(range(256)).decode("latin-1"), *map(str, range(1000)), "end"]
        assert got[2:] == [["Ã¼", one] for one in data]
