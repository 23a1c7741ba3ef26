"""The official SDKs that support deltas apply those of this server: live, recovered, and after some were lost."""

import json
import random

import pytest
from http_api import up
from sdk import KINDS

JAVASCRIPT = [kind for kind in KINDS if kind.startswith("javascript")]
ALL = [*JAVASCRIPT, "python", "python-protobuf"]
"""The SDK for Java does not support deltas."""


def table(**options):
    """Return options whose channels all permit deltas."""
    return {"channel": (("*", {"delta": "always", **options}),)}


def value(number, more=""):
    """Return a value that differs little from that of another number; the text of the number has a long character."""
    return {"prices": [[n, n * n] for n in range(50)], "changed": f"{chr(0x20AC + number)} {number}\n", "more": more}


def publish(server, data):
    """Publish a value from the process of the server."""
    server.ask(lambda: server.service.hub.publish("c", json.dumps(data), json=True))


def subscribe(sdk):
    """Subscribe to the channel `c` with deltas."""
    return sdk.subscribe("c", delta="fossil")


def deltas_of(sdk):
    """Return how many publications were complete, and how many were deltas; only the SDK for JavaScript counts them."""
    stats = sdk.call("deltaStats", channel="c")
    return stats["numFullPayloads"], stats["numDeltaPayloads"]


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize(("history", "compression"), [(100, "off"), (0, "on")])
def test_every_value_arrives_and_a_recovery_continues(start_server, connect, kind, history, compression):
    """With compression, the SDK for JavaScript receives compressed frames, because the package `ws` offers it."""
    server = up(start_server(**table(history_size=history), compression=compression, compression_min_size=1))
    sdk = connect(server)
    subscribe(sdk)
    for number in range(5):
        publish(server, value(number))
    assert sdk.publications(5) == [value(number) for number in range(5)]
    if kind in JAVASCRIPT:
        assert deltas_of(sdk) == (1, 4)
    # The server ends the subscription; the SDK subscribes again. With a history, it recovers.
    server.ask(lambda: server.service.management.disconnect(client=sdk.client, code=3000))
    sdk.expect("connecting", code=3000)
    if history:
        for number in range(5, 8):
            publish(server, value(number))
    subscribed = sdk.expect("subscribed", of="subscription")
    assert subscribed["recovered"] is bool(history)
    for number in range(8, 10):
        publish(server, value(number))
    expected = [*range(5, 8), 8, 9] if history else [8, 9]
    assert sdk.publications(len(expected)) == [value(number) for number in expected]
    if kind in JAVASCRIPT:
        # The first recovered publication and the first one after it were complete.
        assert deltas_of(sdk) == ((3, 7) if history else (2, 5))


@pytest.mark.parametrize("kind", ["javascript", "javascript-http_stream-protobuf"])
@pytest.mark.parametrize(
    ("slow", "history"), [("close", 1000), ("drop-oldest", 1000), ("drop-oldest", 0), ("latest", 0)]
)
def test_a_client_that_does_not_read_for_a_while_decodes_what_follows(start_server, connect, slow, history, kind):
    """Large publications that have nothing in common fill its queue; between them are some that differ little."""
    server = up(start_server(**table(history_size=history, slow=slow)))
    sdk = connect(server)
    subscribe(sdk)
    publish(server, value(0))
    assert sdk.publications(1) == [value(0)]
    rng = random.Random(1)
    sent = [value(0)]
    # Longer than publishing takes, also on a busy machine.
    blocked = sdk.order("block", seconds=2)
    for number in range(1, 60):
        sent.append(value(number, rng.randbytes(80_000).hex() if number % 3 else ""))
        publish(server, sent[-1])
    sdk.answer(blocked)
    if slow == "close" or history:
        # The SDK connects or subscribes again. It cannot recover, because it has missed too much.
        sdk.expect("subscribed", of="subscription")
    sent += [value(100), value(101)]
    for data in sent[-2:]:
        publish(server, data)
    seen = [sent[0]]
    while seen[-1] != sent[-1]:
        seen += sdk.publications(1)
    places = [sent.index(one) for one in seen]
    assert places == sorted(set(places))
    assert len(places) < len(sent), "nothing was dropped"
    assert deltas_of(sdk)[1] > 0


@pytest.mark.parametrize("kind", ["javascript"])
def test_two_servers_on_one_redis_make_their_own_deltas(start_server, connect, redis, kind):
    """Also of publications that other programs make."""
    servers = [up(start_server(**table(), redis=redis.url)) for _ in range(2)]
    sdks = [connect(server) for server in servers]
    for sdk in sdks:
        subscribe(sdk)
    for number in range(6):
        publish(servers[number % 2], value(number))
    for number in range(6, 8):
        redis.publish("c", json.dumps(value(number)).encode())
    for sdk in sdks:
        assert sdk.publications(8) == [value(number) for number in range(8)]
        assert deltas_of(sdk) == (1, 7)
