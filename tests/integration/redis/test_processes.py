"""Two server processes on one Redis behave as one; the presence of a killed process expires."""

import json
from http.client import HTTPConnection

import pytest
from centrifuge_peer import CentrifugePeer
from events import Events
from http_api import api
from server_process import RedisProcess
from waiting import TIMEOUT, wait_until


@pytest.fixture
def started(redis):
    """Return a function that starts server processes."""
    processes = []

    def start(*options):
        processes.append(RedisProcess(redis, "--channel-presence", "*", "--channel-publish", "*", *options))
        return processes[-1]

    yield start
    for process in processes:
        process.stop()


@pytest.fixture
def two(started):
    """Return a function that starts two server processes."""
    return lambda: (started(), started())


class TwoProcessesTests:
    """Each change at one process reaches the other process."""

    def test_a_publication_at_one_reaches_every_kind_of_subscriber_at_the_other(self, two):
        """One publication is made through the API, the next by a client of the Centrifuge protocol."""
        one, other = two()
        with other.open("/ws?channel=foo") as raw, other.connect() as peer:
            events = Events(peer, "/sse?channel=foo")
            sdk = CentrifugePeer(other.port)
            sdk.ask("subscribe", {"channel": "foo"})
            api(one, "publish", {"channel": "foo", "data": "hello"})
            assert raw.read_frame().payload == b"hello"
            assert events.read() == ("message", b"hello")
            push = sdk.read()["push"]
            assert (push["channel"], push["pub"]["data"], push["pub"]["offset"]) == ("foo", "hello", 1)
            CentrifugePeer(one.port).ask("publish", {"channel": "foo", "data": {"n": 1}})
            assert raw.read_frame().payload == b'{"n": 1}'
            assert sdk.read()["push"]["pub"]["data"] == {"n": 1}

    def test_presence_join_and_leave_are_the_same_at_both(self, two):
        one, other = two()
        first, second = CentrifugePeer(one.port), CentrifugePeer(other.port)
        first.ask("subscribe", {"channel": "foo", "join_leave": True})
        second.ask("subscribe", {"channel": "foo"})
        wait_until(
            lambda: first.read()["push"].get("join", {}).get("info", {}).get("client") == second.client,
            "the join event",
        )
        for server in (one, other):
            presence = api(server, "presence", {"channel": "foo"})[1]["result"]["presence"]
            assert set(presence) == {first.client, second.client}
        second.ask("unsubscribe", {"channel": "foo"})
        assert first.read()["push"]["leave"]["info"]["client"] == second.client
        assert set(first.ask("presence", {"channel": "foo"})["presence"]) == {first.client}

    def test_the_api_of_one_lists_unsubscribes_and_disconnects_clients_of_the_other(self, two):
        one, other = two()
        first, second = CentrifugePeer(one.port), CentrifugePeer(other.port)
        second.ask("subscribe", {"channel": "foo"})
        known = api(one, "connections", {})[1]["result"]["connections"]
        assert set(known) == {first.client, second.client}
        assert api(one, "channels", {})[1]["result"]["channels"]["foo"] == {"num_clients": 1}
        assert len(api(one, "info", {})[1]["result"]["nodes"]) == 2
        assert api(one, "unsubscribe", {"channel": "foo", "client": second.client, "user": ""})[0] == 200
        assert second.read()["push"]["unsubscribe"]["code"] == 2000
        assert api(one, "disconnect", {"client": second.client, "user": ""})[0] == 200
        assert int.from_bytes(second.peer.read_close().payload[:2], "big") == 3503


class Stream:
    """A client of the Centrifuge protocol that receives an endless HTTP response."""

    def __init__(self, server):
        self._connection = HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT)
        self._connection.request("POST", "/connection/http_stream", b'{"id":1,"connect":{}}')
        self._response = self._connection.getresponse()
        connected = self.read()["connect"]
        self.session, self.node = connected["session"], connected["node"]

    def read(self):
        """Read a reply or a push."""
        while True:
            reply = json.loads(self._response.readline())
            if reply:
                return reply

    def send(self, server, command):
        """Send a command to a server process; return the status of the response."""
        request = {"session": self.session, "node": self.node, "data": json.dumps(command)}
        connection = HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT)
        connection.request("POST", "/emulation", json.dumps(request))
        status = connection.getresponse().status
        connection.close()
        return status


class EmulationTests:
    """Commands in HTTP requests of their own, which reach any process."""

    def test_a_command_at_one_is_executed_by_the_process_that_has_the_session(self, two):
        one, other = two()
        stream = Stream(other)
        assert stream.send(one, {"id": 2, "subscribe": {"channel": "foo"}}) == 204
        assert stream.read()["id"] == 2
        api(one, "publish", {"channel": "foo", "data": "hello"})
        assert stream.read()["push"]["pub"]["data"] == "hello"
        assert stream.send(other, {"id": 3, "unsubscribe": {"channel": "foo"}}) == 204
        assert stream.read() == {"id": 3, "unsubscribe": {}}

    def test_a_session_of_a_killed_process_gets_404(self, two):
        one, other = two()
        stream = Stream(other)
        other.kill()
        assert stream.send(one, {"id": 2, "unsubscribe": {"channel": "foo"}}) == 404

    def test_gets_503_while_redis_is_unavailable(self, redis, two):
        one, other = two()
        stream = Stream(other)
        redis.kill()
        wait_until(lambda: stream.send(one, {"id": 2, "unsubscribe": {"channel": "foo"}}) == 503, "refused")


class KilledProcessTests:
    """A killed process does not announce its end, and a Redis that restarts empty has lost all data."""

    def test_the_presence_and_the_node_of_a_killed_process_expire(self, two):
        """The clients of the other process stay present."""
        one, other = two()
        first, second = CentrifugePeer(one.port), CentrifugePeer(other.port)
        first.ask("subscribe", {"channel": "foo"})
        second.ask("subscribe", {"channel": "foo"})

        def present():
            return set(first.ask("presence", {"channel": "foo"})["presence"])

        wait_until(lambda: present() == {first.client, second.client}, "both present")
        other.kill()
        wait_until(lambda: present() == {first.client}, "the expiry", timeout=10)
        assert len(api(one, "info", {})[1]["result"]["nodes"]) == 1

    def test_presence_is_registered_again_after_redis_lost_its_data(self, redis, started):
        # With history, Redis's new epoch would make every subscription start over, and so register its presence.
        one = started("--history-size", "0")
        first = CentrifugePeer(one.port)
        first.ask("subscribe", {"channel": "foo"})
        redis.kill()
        redis.start()

        def present():
            status, answer = api(one, "presence", {"channel": "foo"})
            return status == 200 and set(answer["result"]["presence"]) == {first.client}

        wait_until(present, "present again")
