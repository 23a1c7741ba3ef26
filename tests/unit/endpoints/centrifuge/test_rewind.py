"""
The options `rewind` and `force_recovery_mode` of channels: subscriptions of Centrifuge clients begin with the past.

The replies in the modes `cache` and `stream` are those of Centrifugo 6.9.1 to the same commands.
"""

import time

import jwt
import pytest
from centrifuge_client import Client

from wsserver.config.settings import Settings
from wsserver.testing import MemoryServer

SECRET = "secret " * 6
TABLES = (
    ("cache", {"force_recovery_mode": "cache"}),
    ("auto", {"force_recovery_mode": "cache", "rewind": 1}),
    ("last3", {"rewind": 3}),
    ("cache2", {"force_recovery_mode": "cache", "rewind": 2}),
    ("plain", {"history_size": 0}),
    ("tags", {"force_recovery_mode": "cache", "rewind": 2, "allow_tags_filter": True, "history_size": 100}),
)
"""Six kinds of channels; each keeps the last three publications, except for the last two."""


@pytest.fixture
def server():
    """Start a server with all kinds of channels."""
    options = {"channel_allow": ("*",), "history_size": 3, "token_secret": SECRET, "anonymous": True}
    return MemoryServer(Settings(channel=TABLES, **options))


@pytest.fixture
def client(server):
    """Return a connected client."""
    return Client(server).connected()


def publish(server, channel, *numbers):
    """Publish numbers; return the epoch of the stream."""
    positions = []
    for number in numbers:
        done = server.service.hub.publish(channel, str(number), json=True)
        done.addCallback(lambda receipt: positions.append(receipt.position))
    server.clock.advance(0)
    return positions[-1].epoch


def subscribe(client, channel, **fields):
    """Subscribe; return the reply without its constant fields, and with the offsets of the publications only."""
    reply = client.request("subscribe", channel=channel, **fields)
    for name in ("epoch", "positioned", "recoverable"):
        assert reply.pop(name, None)
    if "publications" in reply:
        assert all(one["data"] == one["offset"] for one in reply["publications"])
        reply["publications"] = [one["offset"] for one in reply["publications"]]
    return reply


def recovered(offset=0, *publications):
    """Return the reply to a successful recovery."""
    written = ({"offset": offset} if offset else {}) | ({"publications": list(publications)} if publications else {})
    return {"was_recovering": True, "recovered": True, **written}


NOT_RECOVERED = {"was_recovering": True, "offset": 5}


class ModeTests:
    """Five publications, of which the channel keeps three."""

    @pytest.mark.parametrize(
        ("since", "cache", "auto", "last3", "cache2"),
        [
            (None, {"offset": 5}, recovered(0, 5), recovered(0, 3, 4, 5), recovered(0, 4, 5)),
            ({}, recovered(0, 5), recovered(0, 5), {**NOT_RECOVERED, "publications": [3, 4, 5]}, recovered(0, 4, 5)),
            ({"offset": 5}, recovered(5), recovered(5), recovered(5), recovered(5)),
            ({"offset": 4}, recovered(4, 5), recovered(4, 5), recovered(4, 5), recovered(4, 5)),
            ({"offset": 2}, recovered(2, 5), recovered(2, 5), recovered(2, 3, 4, 5), recovered(2, 4, 5)),
            (
                {"offset": 1},
                recovered(1, 5),
                recovered(1, 5),
                {**NOT_RECOVERED, "publications": [3, 4, 5]},
                recovered(1, 4, 5),
            ),
            (
                {"offset": 9},
                recovered(9, 5),
                recovered(9, 5),
                {**NOT_RECOVERED, "publications": [3, 4, 5]},
                recovered(9, 4, 5),
            ),
            (
                {"offset": 5, "epoch": "other"},
                recovered(5, 5),
                recovered(5, 5),
                {**NOT_RECOVERED, "publications": [3, 4, 5]},
                recovered(5, 4, 5),
            ),
        ],
    )
    def test_the_mode_and_the_position_determine_the_publications(
        self, server, client, since, cache, auto, last3, cache2
    ):
        for channel, expected in (("cache", cache), ("auto", auto), ("last3", last3), ("cache2", cache2)):
            epoch = publish(server, channel, 1, 2, 3, 4, 5)
            fields = {}
            if since is not None:
                fields = {"recover": True, **({"epoch": epoch} if since else {}), **since}
            assert subscribe(client, channel, **fields) == expected

    def test_a_channel_without_publications_is_not_recovered(self, client):
        for channel in ("cache", "auto", "last3", "cache2"):
            assert subscribe(client, channel) == ({} if channel == "cache" else {"was_recovering": True})

    def test_only_a_client_with_the_last_position_is_recovered_once_the_history_has_expired(self, server):
        epoch = publish(server, "auto", 1, 2, 3, 4, 5)
        server.clock.advance(61)
        for offset, expected in ((5, recovered(5)), (4, NOT_RECOVERED)):
            client = Client(server).connected()
            assert subscribe(client, "auto", recover=True, epoch=epoch, offset=offset) == expected
        assert subscribe(Client(server).connected(), "auto") == NOT_RECOVERED

    @pytest.mark.parametrize(("channel", "code"), [("cache", None), ("last3", 112)])
    def test_a_client_that_rejects_unrecovered_positions_is_refused_unless_the_mode_is_cache(
        self, server, client, channel, code
    ):
        publish(server, channel, 1)
        reply = client.request("subscribe", channel=channel, recover=True, epoch="other", offset=7, flag=2)
        assert reply.get("code") == code

    def test_a_channel_without_history_is_unaffected(self, client):
        assert client.request("subscribe", channel="plain") == {}

    def test_new_publications_follow(self, server, client):
        publish(server, "last3", 1, 2, 3, 4)
        assert subscribe(client, "last3")["publications"] == [2, 3, 4]
        publish(server, "last3", 5)
        assert [one["push"]["pub"]["offset"] for one in client.receive()] == [5]


class FilterTests:
    """Only publications that match the client's filter count, as in Centrifugo."""

    def test_the_last_matching_publications_are_delivered(self, server):
        for number in range(1, 9):
            server.service.hub.publish("tags", str(number), json=True, tags={"a": "x" if number % 3 == 1 else "y"})
        server.clock.advance(0)
        equal = {"key": "a", "cmp": "eq"}
        for value, since, expected in (
            ("x", {}, recovered(0, 4, 7)),
            ("y", {}, recovered(0, 6, 8)),
            ("x", {"offset": 6}, recovered(6, 7)),
            ("none", {}, {"was_recovering": True, "offset": 8}),
        ):
            client = Client(server).connected()
            fields = {"recover": True, "epoch": server.service.hub.history("tags").result.position.epoch, **since}
            assert subscribe(client, "tags", tf={**equal, "val": value}, **fields) == expected


class ServerSideTests:
    """Subscriptions that the server makes."""

    def test_the_reply_to_connect_has_the_last_publications(self, server):
        publish(server, "auto", 1, 2)
        publish(server, "last3", 1, 2)
        claims = {"sub": "ann", "exp": int(time.time()) + 3600, "channels": ["auto", "last3", "cache"]}
        reply = Client(server).request("connect", token=jwt.encode(claims, SECRET, "HS256"))
        found = {
            channel: [one["offset"] for one in sub.get("publications", [])] for channel, sub in reply["subs"].items()
        }
        assert found == {"auto": [2], "last3": [1, 2], "cache": []}
        # The JavaScript SDK only delivers the publications of a recovered subscription.
        assert [sub.get("recovered", False) for sub in reply["subs"].values()] == [True, True, False]

    def test_the_last_publications_follow_a_subscribe_push(self, server):
        publish(server, "auto", 1, 2)
        client = Client(server)
        name = client.request("connect")["client"]
        server.service.management.subscribe("auto", client=name)
        assert [next(iter(one["push"].keys() - {"channel"})) for one in client.receive()] == ["subscribe", "pub"]
