"""T29: Redis is reachable but does not answer, is empty, or does not accept writes."""

import json
import time

import pytest
from http_api import KEY
from peers import RawPeer
from redis_server import RedisServer

pytestmark = pytest.mark.waits

LIMIT = 6.0


def ready(server):
    return server.get("/ready").status == 200


def publish(server, data):
    """Publish to the channel `news`; return the status."""
    with RawPeer(server.port) as peer:
        body = json.dumps({"channel": "news", "data": data}).encode()
        return peer.request("/api/publish", f"X-API-Key: {KEY}", method="POST", body=body).status


@pytest.fixture
def connected(start_server, redis):
    server = start_server("--redis", redis.url, "--channel-allow", "*", "--channel-format", "json")
    server.wait_for(lambda: ready(server), "ready")
    return server


def seconds_until(server, state):
    """Return the seconds until `/ready` has the given state."""
    begin = time.monotonic()
    server.wait_for(lambda: ready(server) is state, f"ready is {state}", 20)
    return time.monotonic() - begin


def test_t29_a_frozen_redis_is_noticed(connected, redis, figures, full):
    """A Redis that hangs with open sockets is noticed within 6 s, and so is its return."""
    redis.freeze()
    try:
        figures.at_most(LIMIT, seconds_until(connected, False), "time until /ready is 503", "s")
        time.sleep(20 if full else 1)
        assert connected.get("/health").status == 200
    finally:
        redis.thaw()
    figures.at_most(LIMIT, seconds_until(connected, True), "time until /ready is 200 again", "s")
    assert publish(connected, 1) == 200


def test_t29_a_redis_that_refuses_writes_is_noticed(connected, redis, tmp_path, figures):
    """A Redis that becomes a replica is noticed within 6 s."""
    (tmp_path / "master").mkdir()
    other = RedisServer(tmp_path / "master")
    other.start()
    try:
        redis.run("REPLICAOF", "127.0.0.1", str(other.port))
        figures.at_most(LIMIT, seconds_until(connected, False), "time until /ready is 503", "s")
        assert publish(connected, 1) == 503
        redis.run("REPLICAOF", "NO", "ONE")
        figures.at_most(LIMIT, seconds_until(connected, True), "time until /ready is 200 again", "s")
    finally:
        other.kill()


def test_t29_subscribers_learn_of_an_empty_redis(connected, redis, figures):
    """A subscriber that returns after Redis was replaced by an empty one learns that publications may be missing."""
    with connected.open("/ws?channel=news") as peer:
        assert publish(connected, "before") == 200
        assert "before" in peer.read_message()
        redis.run("FLUSHALL")
        redis.kill()
        redis.start()
        connected.wait_for(lambda: ready(connected), "ready again")
        assert publish(connected, "after") == 200
        got = []
        while not got or "after" not in got[-1]:
            got.append(peer.read_message())
    notices = [text for text in got if '"event":"gap"' in text.replace(" ", "")]
    figures.at_least(1, len(notices), "notices of a gap")
