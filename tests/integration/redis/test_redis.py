"""The connection to Redis: TLS, users with few rights, sentinels, and the log lines when it fails."""

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
from peers import answer_to
from pytest_twisted import blockon
from redis_server import Sentinel
from twisted.internet.defer import gatherResults
from twisted.internet.threads import deferToThread
from waiting import wait_until

from wsserver.errors import SettingError


def redis_lines(log):
    """Return the log lines about Redis."""
    return log.lines("wsserver.redis")


class AbsentTests:
    """A Redis that is unavailable when the server starts."""

    def test_the_outage_is_one_log_line_and_the_connection_another(self, start_server, make_redis, log):
        """The line about the outage is not repeated with every attempt, and has no password."""
        redis = make_redis()
        redis.kill()
        server = start_server(redis=redis.url.replace("//", "//me:hush@"))
        link = server.service.hub.broker._link
        wait_until(lambda: link._attempts > 4, "some attempts")
        where = f"redis://127.0.0.1:{redis.port}/0"
        [line] = redis_lines(log)
        assert line.startswith(
            f"Redis at {where} (--redis) is unavailable, retrying: Connection refused; check that Redis runs"
        )
        assert not [event for event in log.events if "ClientService" in str(event.get("log_namespace"))]
        redis.start()
        redis.run("ACL", "SETUSER", "me", "on", ">hush", "+@all", "&*", "~*")
        up(server)
        assert redis_lines(log)[-1] == f"connected to Redis at {where}"
        assert len(redis_lines(log)) <= 3

    def test_the_log_names_a_host_that_does_not_resolve(self, start_server, log):
        start_server(redis="redis://no-such-host.invalid")
        wait_until(lambda: redis_lines(log), "a line in the log")
        assert "no-such-host.invalid" in redis_lines(log)[0]

    def test_an_http_server_at_the_address_is_logged_and_ready_is_503(self, start_server, log):
        """Other clients are served."""
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
            wait_until(lambda: redis_lines(log), "a line in the log")
            assert "an HTTP server answers there" in redis_lines(log)[0]
            assert ready(server) == 503
            assert server.serves_the_next()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()

    def test_a_redis_that_never_answers_times_out_after_5_s_and_is_retried(self, start_server, make_redis, log):
        redis = make_redis(requirepass="secret")
        redis.freeze()
        server = start_server(redis=redis.url.replace("//", "//:secret@"))
        wait_until(lambda: redis_lines(log), "a line in the log")
        assert "no answer within 5 s" in redis_lines(log)[0]
        redis.thaw()
        up(server)

    def test_the_log_quotes_a_redis_that_has_too_many_clients(self, start_server, make_redis, log):
        redis = make_redis(maxclients=1)
        with socket.create_connection(("127.0.0.1", redis.port)):
            start_server(redis=redis.url)
            wait_until(lambda: redis_lines(log), "a line in the log")
            assert "max number of clients" in redis_lines(log)[0]

    def test_a_missing_password_is_logged_and_ready_is_503(self, start_server, make_redis, log):
        redis = make_redis(requirepass="secret")
        server = start_server(redis=redis.url)
        wait_until(lambda: redis_lines(log), "a line in the log")
        assert "NOAUTH" in redis_lines(log)[0]
        assert ready(server) == 503


class TLSTests:
    """`rediss://`: TLS to Redis."""

    @pytest.fixture
    def redis(self, make_redis, certificate):
        """Start a Redis that accepts TLS only."""
        return blockon(deferToThread(lambda: make_redis(tls=certificate)))

    def test_trusts_the_certificates_of_the_file_in_ssl_ca_certs(self, start_server, redis, certificate):
        server = up(start_server(redis=f"{redis.url}?ssl_ca_certs={certificate[1]}"))
        with server.open("/ws?channel=foo") as peer:
            redis.publish("foo", b"x" * 100_000)
            assert peer.read_frame().payload == b"x" * 100_000

    def test_trusts_the_certificates_of_the_file_in_ssl_cert_file(self, start_server, redis, certificate):
        """OpenSSL reads this environment variable."""
        with patch.dict(os.environ, SSL_CERT_FILE=str(certificate[1])):
            up(start_server(redis=redis.url))

    def test_an_untrusted_certificate_is_logged_and_ready_is_503(self, start_server, redis, log):
        server = start_server(redis=redis.url)
        wait_until(lambda: redis_lines(log), "a line in the log")
        assert "TLS: certificate verify failed" in redis_lines(log)[0]
        assert ready(server) == 503

    def test_a_certificate_for_another_host_is_logged_and_ready_is_503(self, start_server, redis, certificate, log):
        url = redis.url.replace("127.0.0.1", "127.0.0.2") + f"?ssl_ca_certs={certificate[1]}"
        redis.run("CONFIG", "SET", "bind", "127.0.0.1 127.0.0.2")
        server = start_server(redis=url)
        wait_until(lambda: redis_lines(log), "a line in the log")
        assert "TLS: the certificate is for another host" in redis_lines(log)[0]
        assert ready(server) == 503

    def test_the_log_names_the_right_scheme_if_redis_and_rediss_are_mixed_up(
        self, start_server, make_redis, redis, certificate, log
    ):
        plain = make_redis()
        tls = plain.url.replace("redis:", "rediss:")
        for url, words in ((tls, "write redis://"), (redis.url.replace("rediss", "redis"), "write rediss://")):
            server = start_server(redis=url)
            wait_until(lambda words=words: any(words in line for line in redis_lines(log)), words)
            assert ready(server) == 503

    @pytest.mark.parametrize(
        "content", [None, "no certificate", "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----"]
    )
    def test_a_file_without_certificates_is_a_setting_error_at_start(self, start_server, tmp_path, content):
        """A file that cannot be read is a setting error too."""
        path = tmp_path / "ca.pem"
        if content is not None:
            path.write_text(content)
        with pytest.raises(SettingError, match="redis: ssl_ca_certs"):
            start_server(redis=f"rediss://127.0.0.1?ssl_ca_certs={path}")


class UserTests:
    """A user of Redis with few rights (ACL)."""

    # The rights that the documentation recommends.
    PAGE = DOCS / "how-to" / "redis.md"
    RIGHTS = re.search(r"redis-cli ACL SETUSER web (.+)", PAGE.read_text())[1].replace("password", "p:w")

    @pytest.fixture
    def redis(self, make_redis):
        """Start a Redis that has the user described in the documentation."""
        redis = blockon(deferToThread(make_redis))
        redis.run("ACL", "SETUSER", "web", *shlex.split(self.RIGHTS))
        return redis

    @pytest.fixture
    def server(self, start_server, redis):
        """Start a server that logs in as this user."""
        url = redis.url.replace("//", "//web:p%3Aw@")
        return blockon(deferToThread(lambda: up(start_server(redis=url, api_key=KEY))))

    def test_subscribes_to_and_publishes_to_permitted_channels(self, server, redis):
        with server.open("/ws?channel=news,news:2") as peer:
            redis.publish("news", b"hello")
            assert peer.read_frame().payload == b"hello"
            assert api(server, "publish", {"channel": "news:2", "data": "x"})[0] == 200
            assert peer.read_frame().payload == b"x"

    def test_a_channel_that_redis_does_not_permit_is_403_with_the_reason(self, server, redis):
        """Other subscribers are not affected, and `/ready` stays 200."""
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

    def test_a_revoked_channel_closes_with_1008_and_the_others_resume_with_a_gap(self, server, redis):
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

    def test_the_log_names_the_missing_rights_for_the_servers_own_channels(self, start_server, redis, log):
        """`/ready` is 503 until the user has them."""
        redis.run("ACL", "SETUSER", "poor", "on", ">x", "resetchannels", "&news", "+@all", "~wsserver:*")
        server = start_server(redis=redis.url.replace("//", "//poor:x@"))
        wait_until(lambda: redis_lines(log), "a line in the log")
        assert "the user needs SUBSCRIBE for the channels wsserver:*" in redis_lines(log)[-1]
        redis.run("ACL", "SETUSER", "poor", "&wsserver:*", "-publish")
        wait_until(lambda: len(redis_lines(log)) > 1, "a second line")
        assert "the user needs PUBLISH for the channels wsserver:*" in redis_lines(log)[-1]
        assert ready(server) == 503
        redis.run("ACL", "SETUSER", "poor", "+publish")
        up(server)


class DataLossTests:
    """A Redis that restarts with less than it had acknowledged."""

    @staticmethod
    def publish(server, *texts):
        """Publish texts; return the position of the last one as an event id."""
        answers = []
        for text in texts:
            # On a busy disk, Redis may need seconds to write; the server then answers 503 until Redis is available.
            up(server)
            answers.append(api(server, "publish", {"channel": "foo", "data": text}))
        assert {status for status, _ in answers} == {200}
        return "{epoch}:{offset}".format(**answers[-1][1]["result"])

    def publish_around_a_snapshot(self, redis, server):
        """Publish before and after a snapshot; return the position of the last publication."""
        self.publish(server, "1")
        redis.run("SAVE")
        return self.publish(server, "2", "3")

    def restart(self, redis, server):
        """Kill Redis, which then has only the snapshot and its append-only file, and start it again."""
        redis.kill()
        wait_until(lambda: ready(server) == 503, "not ready")
        redis.start()
        up(server)

    def test_lost_publications_start_a_new_epoch_with_a_gap(self, start_server, make_redis):
        """In the old epoch, lost offsets would be assigned twice and clients could not detect new publications."""
        redis = make_redis()
        server = up(start_server(redis=redis.url, api_key=KEY))
        with server.open("/ws?channel=foo&format=json") as peer:
            position = self.publish_around_a_snapshot(redis, server)
            # Before the restart: Redis may be killed after it has confirmed a publication, but before it sends it.
            assert [json.loads(peer.read_frame().payload)["data"] for _ in range(3)] == ["1", "2", "3"]
            self.restart(redis, server)
            new = self.publish(server, "4", "5", "6", "7")
            assert new.partition(":")[0] != position.partition(":")[0]
            assert json.loads(peer.read_frame().payload) == {"event": "gap", "channel": "foo"}
            assert [json.loads(peer.read_frame().payload)["data"] for _ in range(4)] == ["4", "5", "6", "7"]
        with server.open(f"/ws?channel=foo&format=json&last_event_id={position}") as peer:
            assert json.loads(peer.read_frame().payload) == {"event": "gap", "channel": "foo"}

    def test_a_redis_that_lost_nothing_continues_the_stream(self, start_server, make_redis):
        """This Redis writes every command to its append-only file."""
        redis = make_redis(appendonly="yes", appendfsync="always")
        server = up(start_server(redis=redis.url, api_key=KEY))
        position = self.publish_around_a_snapshot(redis, server)
        self.restart(redis, server)
        epoch, _, offset = position.partition(":")
        assert self.publish(server, "4") == f"{epoch}:{int(offset) + 1}"
        with server.open(f"/ws?channel=foo&format=json&last_event_id={position}") as peer:
            assert json.loads(peer.read_frame().payload)["data"] == "4"

    def test_without_the_right_to_info_the_log_says_that_losses_go_undetected(self, start_server, make_redis, log):
        redis = make_redis()
        redis.run("ACL", "SETUSER", "web", "on", ">x", "&*", "~*", "+@all", "-info")
        up(start_server(redis=redis.url.replace("//", "//web:x@")))
        assert "because it refuses INFO: the user in --redis lacks a permission" in redis_lines(log)[0]


class SentinelTests:
    """`redis+sentinel://`: the sentinels name the master."""

    @pytest.fixture
    def pair(self, make_redis):
        """Start a master and its replica."""

        def make():
            # By default a master waits some seconds for more replicas.
            master = make_redis(**{"repl-diskless-sync-delay": 0})
            replica = make_redis(replicaof=f"127.0.0.1 {master.port}")
            wait_until(lambda: b"link_status:up" in replica.run("INFO", "replication"), "the replica in step")
            return master, replica

        return blockon(deferToThread(make))

    @staticmethod
    def url(*sentinels, query=""):
        """Return the URL for these sentinels."""
        hosts = ",".join(f"127.0.0.1:{one.port}" for one in sentinels)
        return f"redis+sentinel://{hosts}/mymaster/0{query}"

    @pytest.mark.parametrize("how", ["kill", "freeze"])
    def test_follows_a_failover_and_sends_subscribers_a_gap(self, start_server, make_redis, pair, how):
        """The replica is promoted, and its stream has a new epoch."""
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
            wait_until(lambda: ready(server) == 503, "not ready")
            wait_until(lambda: ready(server) == 200, "at the new master", timeout=20)
            assert json.loads(peer.read_frame().payload) == {"event": "gap", "channel": "foo"}
            assert replica.publish("foo", b"after") == 1
            assert json.loads(peer.read_frame().payload)["data"] == "after"
            assert api(server, "publish", {"channel": "foo", "data": "kept again"})[0] == 200
            assert json.loads(peer.read_frame().payload)["epoch"] != kept["epoch"]
        if how == "freeze":
            master.thaw()

    def test_leaves_a_live_master_when_the_sentinel_names_another(self, start_server, make_redis, pair):
        """A master that is cut off from its sentinels still accepts connections."""
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

    def test_one_of_three_sentinels_suffices_with_its_own_password(self, start_server, make_redis, pair):
        """Of the other two sentinels, one is down and one does not answer."""
        master, _ = pair
        dead, frozen = make_redis(Sentinel, master), make_redis(Sentinel, master)
        sentinel = make_redis(Sentinel, master, password="s&s")
        dead.kill()
        frozen.freeze()
        up(start_server(redis=self.url(dead, frozen, sentinel, query="?sentinel_password=s%26s")))
        frozen.thaw()

    def test_the_log_names_each_sentinels_failure_and_a_wrong_master(self, start_server, make_redis, pair, log):
        """A sentinel that names a replica as the master is not believed."""
        master, replica = pair
        wrong, dead, sentinel = make_redis(Sentinel, replica), make_redis(), make_redis(Sentinel, master, password="x")
        dead.kill()
        start_server(redis=self.url(dead, sentinel, wrong).replace("mymaster", "other"))
        wait_until(lambda: redis_lines(log), "a line in the log")
        for words in (
            f"{dead.port}: Connection refused",
            f"{sentinel.port}: the sentinel requires a password; add ?sentinel_password= to --redis: NOAUTH",
            "knows no master named other",
        ):
            assert words in redis_lines(log)[0]
        start_server(redis=self.url(wrong))
        wait_until(lambda: len(redis_lines(log)) > 1, "a second line")
        assert "not the master" in redis_lines(log)[1]


class RefusedPublishTests:
    """Redis users without a right that publishing, or every subscription, needs."""

    def test_a_publication_without_permission_is_403_with_code_103(self, start_server, make_redis):
        """`/ready` is 503."""
        redis = make_redis()
        redis.run("ACL", "SETUSER", "web", "on", ">x", "&*", "~wsserver:*", "+@all", "-evalsha")
        server = start_server(redis=redis.url.replace("//", "//web:x@"), api_key=KEY)
        wait_until(lambda: server.service.hub.broker.up, "the connection")
        status, answer = api(server, "publish", {"channel": "foo", "data": "x"})
        assert (status, answer["error"]["code"]) == (403, 103)
        assert "Redis does not permit" in answer["error"]["message"]
        assert ready(server) == 503

    @pytest.mark.parametrize("rights", [("-eval", "-evalsha"), ("resetkeys",)], ids=["no scripts", "no keys"])
    def test_subscribing_fails_temporarily_while_redis_refuses_what_every_channel_needs(
        self, start_server, make_redis, rights
    ):
        """An EventSource stops for good after 403 and an SDK after error 103, but an operator can grant the right."""
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
    """The Lua scripts that the server runs in Redis."""

    def test_scripts_are_called_by_hash_only_even_after_a_restart_of_redis(self, start_server, make_redis):
        """If the first publication had to send the script whole, the next publication would overtake it."""
        redis = make_redis()
        server = up(start_server(redis=redis.url, api_key=KEY))
        for _ in range(2):
            assert api(server, "publish", {"channel": "foo", "data": "x"})[0] == 200
            assert api(server, "history", {"channel": "foo"})[0] == 200
            used = redis.run("INFO", "commandstats")
            assert b"cmdstat_evalsha:" in used
            assert b"cmdstat_eval:" not in used
            redis.kill()
            wait_until(lambda: ready(server) == 503, "not ready")
            redis.start()
            up(server)

    def test_publishing_works_for_a_user_without_the_right_to_load_scripts(self, start_server, make_redis):
        redis = make_redis()
        redis.run("ACL", "SETUSER", "web", "on", ">x", "&*", "~wsserver:*", "+@all", "-script|load")
        server = up(start_server(redis=redis.url.replace("//", "//web:x@"), api_key=KEY))
        assert api(server, "publish", {"channel": "foo", "data": "x"})[0] == 200


class MalformedMessageTests:
    """Content of the server's channels and keys that this version did not write; a later version may have."""

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
    def test_a_malformed_message_is_ignored_with_a_log_line(self, start_server, make_redis, log, channel, message):
        """The connection to Redis stays up."""
        redis = make_redis()
        server = up(start_server(redis=redis.url))
        with server.open("/ws?channel=foo") as peer:
            redis.publish(channel, message)
            redis.publish("foo", b"after")
            assert peer.read_frame().payload == b"after"
        lines = log.lines("wsserver.redis") + log.lines("wsserver.hub")
        assert [line for line in lines if "ignoring a malformed" in line]

    def test_a_malformed_history_entry_is_503_with_code_100_and_the_reason(self, start_server, make_redis):
        redis = make_redis()
        server = up(start_server(redis=redis.url, api_key=KEY))
        assert api(server, "publish", {"channel": "foo", "data": "x"})[0] == 200
        redis.run("XADD", "wsserver:history:{foo}", "2-0", "d", "nonsense")
        status, answer = api(server, "history", {"channel": "foo", "limit": 10})
        assert (status, answer["error"]["code"]) == (503, 100)
        assert "an entry in an unknown format" in answer["error"]["message"]


class SlowProxy:
    """
    A proxy to a Redis that passes on replies slowly.

    Args:
        port: of the Redis.

    Attributes:
        rate: bytes per second for each connection.
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
                # A small buffer: replies wait in Redis, not in the kernel.
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
        """Close every connection."""
        while self._sockets:
            with contextlib.suppress(OSError):
                self._sockets.pop().shutdown(socket.SHUT_RDWR)

    def close(self):
        """Stop listening and close every connection."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self.cut()


class SlowConnectionTests:
    """Connections to Redis that are slow but not dead."""

    @pytest.fixture
    def redis(self, make_redis):
        """Start a Redis."""
        return blockon(deferToThread(make_redis))

    @pytest.fixture
    def proxy(self, redis):
        """Start the proxy."""
        proxy = SlowProxy(redis.port)
        yield proxy
        proxy.close()

    def test_messages_that_delay_a_probe_all_arrive_without_a_gap(self, start_server, redis, proxy, log):
        server = up(start_server(redis=proxy.url))
        with server.open("/ws?channel=foo") as peer:
            messages = [b"%d," % number + b"x" * 8192 for number in range(40)]
            for data in messages:
                redis.publish("foo", data)
            assert [peer.read_frame().payload for _ in messages] == messages
        assert not [line for line in redis_lines(log) if "lost Redis" in line]

    def test_resubscribing_may_take_longer_than_a_probe_while_replies_arrive(self, start_server, redis, proxy, log):
        server = up(start_server(redis=proxy.url))
        link = server.service.hub.broker._link
        channels = [b"%0200d" % number for number in range(1500)]
        usual, proxy.rate = proxy.rate, 1e9
        server.ask(lambda: gatherResults([link.subscribe(channel) for channel in channels]))
        proxy.rate = usual
        proxy.cut()
        wait_until(lambda: ready(server) == 503, "not ready")
        wait_until(lambda: ready(server) == 200, "up again", timeout=30)
        assert [line for line in redis_lines(log) if "is unavailable" in line] == []
        assert redis.publish(channels[-1].decode(), b"x") == 1


PROGRAM = """
import json, sys
from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from wsserver.errors import NotPermitted
from wsserver.redis.supervisor import RedisLink
from wsserver.config.redis_url import parse_redis_url

got = []

def on_messages(messages):
    for _, channel, data in messages:
        if channel == "\\u00fc".encode():
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
    on_messages=on_messages,
    on_up=on_up,
    on_down=lambda: None,
    on_permission_revoked=lambda channel: None,
)
link.start()
reactor.run()
print(json.dumps(got))
"""


class ReplyTests:
    """Replies and messages of a real Redis."""

    def test_any_bytes_are_returned_in_order(self, make_redis):
        redis = make_redis()
        redis.run("ACL", "SETUSER", "me", "on", ">x", "+@all", "~*", "resetchannels", "&a", "&wsserver:*", "&ü")
        command = [sys.executable, "-c", PROGRAM, redis.url.replace("//", "//me:x@")]
        done = subprocess.run(command, capture_output=True, timeout=60, check=True)
        got = json.loads(done.stdout)
        assert got[:2] == ["refused", repr([b"\r\n", 7, [b"\xff"], None])]
        data = ["", "x" * 300_000, "\r\n", bytes(range(256)).decode("latin-1"), *map(str, range(1000)), "end"]
        assert got[2:] == [["Ã¼", one] for one in data]


class OversizedMessageTests:
    """A PUBLISH of redis-cli with more than the server reads."""

    def test_costs_a_reconnect_that_is_counted_and_explained(self, start_server, make_redis, log):
        """Subscribers of other channels learn that something may be missing, and receive what follows."""
        redis = make_redis()
        server = up(start_server(redis=redis.url))
        with server.connect() as other, server.connect() as big:
            other.handshake("/ws?channel=other")
            big.handshake("/ws?channel=big")
            redis.publish("other", b"before")
            assert other.read_message() == "before"
            assert redis.publish("big", bytes(17 * 1024 * 1024)) == 1
            assert json.loads(other.read_message()) == {"event": "gap", "channel": "other"}
            redis.publish("other", b"after")
            assert other.read_message() == "after"
        assert server.service.hub.broker.metrics()["redis_oversized_messages_total"] == 1
        [line] = [line for line in redis_lines(log) if "lost Redis" in line]
        assert line.endswith("reconnecting: a message to channel 'big' is over 16MiB")
