"""Two server processes on one Redis behave as one; what a process leaves behind when it dies is soon gone."""

import json

import pytest
from events import Events
from http_api import api
from peers import TEXT, wait_until
from server_process import Process


@pytest.fixture
def started(redis):
    """Start processes."""
    processes = []

    def start(*options):
        processes.append(Process(redis, "--channel-presence", "*", "--channel-publish", "*", *options))
        return processes[-1]

    yield start
    for process in processes:
        process.stop()


@pytest.fixture
def two(started):
    """Start two."""
    return lambda: (started(), started())


class Centrifuge:
    """A client of the Centrifuge protocol."""

    def __init__(self, server):
        self.peer = server.open("/connection/websocket")
        self._number = 0
        self.client = self.ask("connect", {})["client"]

    def ask(self, method, parameters):
        """Send a command; returns its result."""
        self._number += 1
        self.peer.send_frame(TEXT, json.dumps({"id": self._number, method: parameters}).encode())
        while True:
            got = self.read()
            if got.get("id") == self._number:
                return got[method]

    def read(self):
        """Read a reply or a push."""
        while True:
            for line in self.peer.read_frame().payload.decode().split("\n"):
                if line != "{}":
                    return json.loads(line)


class TogetherTests:
    """What is done at one process is seen at the other."""

    def test_publish(self, two):
        """Whatever way it was published, and whatever the listener speaks."""
        one, other = two()
        with other.open("/ws?channel=foo") as raw, other.connect() as peer:
            events = Events(peer, "/sse?channel=foo")
            sdk = Centrifuge(other)
            sdk.ask("subscribe", {"channel": "foo"})
            api(one, "publish", {"channel": "foo", "data": "hello"})
            assert raw.read_frame().payload == b"hello"
            assert events.read() == ("message", b"hello")
            push = sdk.read()["push"]
            assert (push["channel"], push["pub"]["data"], push["pub"]["offset"]) == ("foo", "hello", 1)
            Centrifuge(one).ask("publish", {"channel": "foo", "data": {"n": 1}})
            assert raw.read_frame().payload == b'{"n": 1}'
            assert sdk.read()["push"]["pub"]["data"] == {"n": 1}

    def test_presence(self, two):
        """Who is on a channel is known at both, and told at both."""
        one, other = two()
        first, second = Centrifuge(one), Centrifuge(other)
        first.ask("subscribe", {"channel": "foo", "join_leave": True})
        second.ask("subscribe", {"channel": "foo"})
        wait_until(lambda: first.read()["push"].get("join", {}).get("info", {}).get("client") == second.client, "told")
        for server in (one, other):
            presence = api(server, "presence", {"channel": "foo"})[1]["result"]["presence"]
            assert set(presence) == {first.client, second.client}
        second.ask("unsubscribe", {"channel": "foo"})
        assert first.read()["push"]["leave"]["info"]["client"] == second.client
        assert set(first.ask("presence", {"channel": "foo"})["presence"]) == {first.client}

    def test_management(self, two):
        """A backend sees all connections at either, and can end those of the other."""
        one, other = two()
        first, second = Centrifuge(one), Centrifuge(other)
        second.ask("subscribe", {"channel": "foo"})
        known = api(one, "connections", {})[1]["result"]["connections"]
        assert set(known) == {first.client, second.client}
        assert api(one, "channels", {})[1]["result"]["channels"]["foo"] == {"num_clients": 1}
        assert len(api(one, "info", {})[1]["result"]["nodes"]) == 2
        assert api(one, "unsubscribe", {"channel": "foo", "client": second.client, "user": ""})[0] == 200
        assert second.read()["push"]["unsubscribe"]["code"] == 2000
        assert api(one, "disconnect", {"client": second.client, "user": ""})[0] == 200
        assert int.from_bytes(second.peer.read_close().payload[:2], "big") == 3503


class DeathTests:
    """A process that is killed says nothing any more."""

    def test_presence(self, two):
        """Within ten seconds nobody of it is on a channel; those of the other stay."""
        one, other = two()
        first, second = Centrifuge(one), Centrifuge(other)
        first.ask("subscribe", {"channel": "foo"})
        second.ask("subscribe", {"channel": "foo"})

        def present():
            return set(first.ask("presence", {"channel": "foo"})["presence"])

        wait_until(lambda: present() == {first.client, second.client}, "both are there")
        other.kill()
        wait_until(lambda: present() == {first.client}, "the dead are gone", patience=10)
        assert len(api(one, "info", {})[1]["result"]["nodes"]) == 1

    def test_redis_again(self, redis, started):
        """A Redis that has forgotten everything is told again who is here."""
        # With history, every subscription would begin again by itself.
        one = started("--history-size", "0")
        first = Centrifuge(one)
        first.ask("subscribe", {"channel": "foo"})
        redis.kill()
        redis.start()

        def present():
            status, answer = api(one, "presence", {"channel": "foo"})
            return status == 200 and set(answer["result"]["presence"]) == {first.client}

        wait_until(present, "who was here is here again")
