"""Tests for wsserver/redis/presence.py, with a connection to Redis that executes the two scripts in memory."""

import pytest
from twisted.internet.defer import Deferred, fail, succeed

from wsserver.errors import BrokerDown
from wsserver.redis import presence, scripts
from wsserver.redis.presence import BATCH, RedisPresence


class FakeLink:
    """A connection to a Redis that knows hashes; while it is not `up`, every command fails."""

    def __init__(self):
        self.up = True
        self.hashes = {}
        self.calls = []
        self.unanswered = None
        """A Deferred that the next command returns instead of being executed."""

    def script(self, text):
        link = self

        class Script:
            def call(self, keys, arguments):
                return link.execute(text, *keys, *arguments)

        return Script()

    def execute(self, text, key, *arguments):
        self.calls.append((text, key, arguments))
        if self.unanswered is not None:
            answer, self.unanswered = self.unanswered, None
            return answer
        if not self.up:
            return fail(BrokerDown("Redis is unavailable"))
        stored = self.hashes.setdefault(key.decode(), {})
        if text == scripts.JOIN:
            stored.update(zip(arguments[1::2], arguments[2::2], strict=True))
        elif text == scripts.REMOVE_PROCESS:
            dead = [client for client, value in stored.items() if value.startswith(arguments[0])][: arguments[2]]
            for client in dead:
                del stored[client]
            return succeed(len(dead))
        else:
            for client in arguments:
                stored.pop(client, None)
        return succeed(None)


@pytest.fixture
def link():
    return FakeLink()


@pytest.fixture
def store(link):
    return RedisPresence(link)


def listed(link, channel="foo"):
    return list(link.hashes.get(f"wsserver:presence:{{{channel}}}", {}))


def failed(deferred):
    """Return whether a Deferred has failed with BrokerDown."""
    errors = []
    deferred.addErrback(lambda failure: errors.append(failure.trap(BrokerDown)))
    return bool(errors)


class RedisPresenceTests:
    def test_a_client_is_listed_from_add_to_remove(self, link, store):
        store.add("foo", "a", b"node a")
        assert listed(link) == ["a"]
        store.remove("foo", "a")
        assert listed(link) == []

    def test_removing_a_client_that_is_not_present_sends_no_command(self, link, store):
        assert store.remove("foo", "a") is None
        assert link.calls == []

    def test_refresh_stores_all_clients_again_after_redis_lost_its_data(self, link, store):
        for number in range(BATCH + 1):
            store.add("foo", f"c{number}", b"node")
        store.add("bar", "d", b"node")
        link.hashes.clear()
        link.calls.clear()
        store.refresh()
        assert len(listed(link)) == BATCH + 1
        assert listed(link, "bar") == ["d"]
        assert len(link.calls) == 3

    def test_refresh_removes_a_client_that_left_while_redis_was_unavailable(self, link, store):
        """A client that is not removed stays listed as long as another client keeps the hash from expiring."""
        store.add("foo", "a", b"node a")
        store.add("foo", "b", b"node b")
        link.up = False
        assert failed(store.remove("foo", "a"))
        link.up = True
        store.refresh()
        assert listed(link) == ["b"]
        link.calls.clear()
        store.refresh()
        assert [text for text, _, _ in link.calls] == [scripts.JOIN]

    def test_refresh_repeats_a_removal_until_redis_has_executed_it(self, link, store):
        store.add("foo", "a", b"node a")
        link.up = False
        assert failed(store.remove("foo", "a"))
        link.up = True
        link.unanswered = fail(BrokerDown("the connection was lost"))
        store.refresh()
        assert listed(link) == ["a"]
        store.refresh()
        assert listed(link) == []

    def test_refresh_sends_nothing_while_redis_is_unavailable(self, link, store):
        store.add("foo", "a", b"node a")
        store.add("foo", "b", b"node b")
        link.up = False
        assert failed(store.remove("foo", "a"))
        link.calls.clear()
        store.refresh()
        assert link.calls == []

    def test_keeps_a_client_that_joins_again_after_a_failed_removal(self, link, store):
        store.add("foo", "a", b"node a")
        link.up = False
        assert failed(store.remove("foo", "a"))
        link.up = True
        store.add("foo", "a", b"node a")
        store.refresh()
        assert listed(link) == ["a"]

    def test_keeps_a_client_that_joined_again_before_its_removal_failed(self, link, store):
        store.add("foo", "a", b"node a")
        link.unanswered = removal = Deferred()
        removed = store.remove("foo", "a")
        store.add("foo", "a", b"node a")
        removal.errback(BrokerDown("the connection was lost"))
        assert failed(removed)
        store.refresh()
        assert listed(link) == ["a"]

    def test_remembers_at_most_max_departed_clients_to_remove(self, link, store, monkeypatch):
        monkeypatch.setattr(presence, "MAX_DEPARTED", 2)
        for client in "abc":
            store.add("foo", client, b"node")
        link.up = False
        for client in "abc":
            assert failed(store.remove("foo", client))
        link.up = True
        store.refresh()
        assert listed(link) == ["c"]

    def test_removes_the_clients_of_a_dead_process_from_the_channels_of_this_process(self, link, store):
        store.add("foo", "a", b"node a")
        store.add("foo", "b", b"node b")
        link.hashes["wsserver:presence:{foo}"]["c"] = b"dead c"
        link.hashes["wsserver:presence:{bar}"] = {"d": b"dead d"}
        store.remove_process(b"dead")
        assert listed(link) == ["a", "b"]
        assert link.calls[-1] == (
            scripts.REMOVE_PROCESS,
            b"wsserver:presence:{foo}",
            (b"dead ", b"wsserver:pub:{foo}", BATCH),
        )
        assert listed(link, "bar") == ["d"]

    def test_searches_some_channels_at_a_time_for_the_clients_of_a_dead_process(self, link, store, monkeypatch):
        monkeypatch.setattr(presence, "CHANNELS_AT_ONCE", 2)
        for channel in ("a", "b", "c"):
            store.add(channel, "x", b"node x")
        del link.calls[:]
        link.unanswered = waiting = Deferred()
        done = store.remove_process(b"dead")
        assert len(link.calls) == 2
        waiting.callback(0)
        assert len(link.calls) == 3
        assert done.called

    def test_removes_many_clients_of_a_dead_process_in_several_commands(self, link, store, monkeypatch):
        """A single one would block Redis for all servers."""
        monkeypatch.setattr(presence, "BATCH", 2)
        store.add("foo", "a", b"node a")
        link.hashes["wsserver:presence:{foo}"].update((f"c{number}", b"dead c") for number in range(5))
        del link.calls[:]
        store.remove_process(b"dead")
        assert listed(link) == ["a"]
        assert len(link.calls) == 3

    def test_removing_a_dead_process_fails_with_broker_down_while_redis_is_unavailable(self, link, store):
        store.add("foo", "a", b"node a")
        link.up = False
        assert failed(store.remove_process(b"dead"))
