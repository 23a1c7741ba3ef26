"""Subscriptions with a filter by tags (`tf`), message by message, in memory."""

import json

import pytest
from centrifuge_client import Client
from protobuf_messages import encode_commands

from wsserver.config.settings import Settings
from wsserver.endpoints.centrifuge.json_codec import JSON
from wsserver.endpoints.centrifuge.protobuf_codec import PROTOBUF
from wsserver.hub.filters import compile_filter
from wsserver.testing import MemoryServer

BTC = {"key": "ticker", "cmp": "eq", "val": "BTC"}


@pytest.fixture
def server():
    """Start a server whose clients may filter by tags, except in the channel `closed`."""
    filtered = {"history_size": 5, "allow_tags_filter": True}
    channels = (("closed", {}), ("bare", filtered | {"history_size": 0}), ("*", filtered))
    return MemoryServer(Settings(channel_allow=("*",), channel_presence=("*",), channel=channels))


def publish(server, *tickers, channel="c"):
    """Publish one publication for each ticker, whose data and tag it is."""
    for ticker in tickers:
        server.service.hub.publish(channel, ticker, tags={"ticker": ticker})


def received(client):
    """Return the offset and data of each publication that a client has received since the last call."""
    pushes = [message["push"] for message in client.receive()]
    return [(push["pub"].get("offset", 0), push["pub"]["data"]) for push in pushes if "pub" in push]


def subscribed(server, channel="c", **fields):
    """Connect and subscribe a client; return it, and the reply."""
    client = Client(server).connected()
    return client, client.request("subscribe", channel=channel, **fields)


class DeliveryTests:
    """New publications."""

    @pytest.mark.parametrize("channel", ["c", "bare"])
    def test_sends_only_publications_that_match_and_with_their_tags(self, server, channel):
        client, _ = subscribed(server, channel, tf=BTC)
        plain, _ = subscribed(server, channel)
        publish(server, "ETH", "BTC", "ETH", channel=channel)
        server.service.hub.publish(channel, "without tags")
        (message,) = client.receive()
        offset = {"offset": 2} if channel == "c" else {}
        assert message["push"]["pub"] == {"data": "BTC", "tags": {"ticker": "BTC"}, **offset}
        assert [data for _, data in received(plain)] == ["ETH", "BTC", "ETH", "without tags"]

    def test_stays_subscribed_while_publications_are_left_out(self, server):
        """A publication that was left out is not a gap."""
        client, _ = subscribed(server, tf=BTC)
        for _ in range(20):
            publish(server, "ETH")
            assert client.receive() == []
        publish(server, "BTC")
        assert received(client) == [(21, "BTC")]

    def test_sends_join_and_leave_events_whatever_the_filter_is(self, server):
        client, _ = subscribed(server, tf=BTC, join_leave=True)
        client.receive()
        other, _ = subscribed(server)
        (message,) = client.receive()
        assert message["push"]["join"]["info"]["client"] != ""
        other.request("unsubscribe", channel="c")
        (message,) = client.receive()
        assert "leave" in message["push"]

    def test_another_filter_needs_another_subscription(self, server):
        client, _ = subscribed(server, tf=BTC)
        assert client.request("subscribe", channel="c", tf=BTC)["code"] == 105
        client.request("unsubscribe", channel="c")
        client.request("subscribe", channel="c", tf={"op": "not", "nodes": [BTC]})
        publish(server, "BTC", "ETH")
        assert received(client) == [(2, "ETH")]

    def test_a_gap_is_reported_although_the_missing_publications_may_not_match(self, server):
        """The server cannot know whether they would have matched."""
        client, _ = subscribed(server, tf=BTC)
        state = server.service.hub.find("c")
        server.service.hub._recovery.notify_gap(state, stream=True)
        (message,) = client.receive()
        assert message["push"]["unsubscribe"]["code"] == 2500


class RecoveryTests:
    """Missed publications."""

    def test_recovers_only_publications_that_match(self, server):
        """The reply has the offset that the client sent, as without a filter."""
        client, reply = subscribed(server, tf=BTC)
        client.request("unsubscribe", channel="c")
        publish(server, "BTC", "ETH", "BTC", "ETH")
        again = client.request("subscribe", channel="c", tf=BTC, recover=True, offset=0, epoch=reply["epoch"])
        assert (again["recovered"], again.get("offset", 0)) == (True, 0)
        assert [(one["offset"], one["data"]) for one in again["publications"]] == [(1, "BTC"), (3, "BTC")]
        publish(server, "ETH", "BTC")
        assert received(client) == [(6, "BTC")]

    def test_a_client_whose_filter_matches_no_missed_publication_is_at_the_end_of_the_stream(self, server):
        """So it does not have to recover the same publications again. Centrifugo returns the offset of the request."""
        client, reply = subscribed(server, tf=BTC)
        client.request("unsubscribe", channel="c")
        publish(server, "ETH", "ETH")
        again = client.request("subscribe", channel="c", tf=BTC, recover=True, offset=0, epoch=reply["epoch"])
        assert (again["recovered"], again["offset"], again.get("publications")) == (True, 2, None)

    def test_a_client_that_was_away_for_too_long_is_not_recovered(self, server):
        """The history keeps five publications. The server cannot know whether earlier ones would have matched."""
        client, reply = subscribed(server, tf=BTC)
        client.request("unsubscribe", channel="c")
        publish(server, *["ETH"] * 6)
        again = client.request("subscribe", channel="c", tf=BTC, recover=True, offset=0, epoch=reply["epoch"])
        assert (again.get("recovered"), again["offset"]) == (None, 6)

    def test_history_is_not_filtered(self, server):
        client, _ = subscribed(server, tf=BTC)
        publish(server, "BTC", "ETH")
        page = client.request("history", channel="c", limit=10)
        assert [one["data"] for one in page["publications"]] == ["BTC", "ETH"]


class RefusalTests:
    """Filters that are refused."""

    @pytest.mark.parametrize(
        ("tf", "message"),
        [
            ({}, "tf.cmp: expected one of "),
            (BTC | {"val": ""}, "tf.val: missing for eq"),
            ({"op": "and", "nodes": [BTC, BTC | {"cmp": "is"}]}, "tf.nodes[1].cmp: expected one of "),
            ({"op": "or", "nodes": [BTC] * 100}, "tf.nodes[99]: expected a filter with at most 100 nodes"),
        ],
    )
    def test_refuses_an_invalid_filter_with_107_and_stays_connected(self, server, tf, message):
        client, reply = subscribed(server, tf=tf)
        assert reply["code"] == 107
        assert reply["message"].startswith("bad request: " + message)
        assert client.request("subscribe", channel="c", tf=BTC)["recoverable"] is True

    def test_refuses_a_filter_with_107_where_filters_are_not_enabled(self, server):
        client, reply = subscribed(server, "closed", tf=BTC)
        assert reply["code"] == 107
        assert reply["message"].endswith("filters are not enabled for channel 'closed'; set allow_tags_filter")
        assert client.request("subscribe", channel="closed")["recoverable"] is True

    @pytest.mark.parametrize(
        "tf", [7, "x", [], BTC | {"val": 7}, BTC | {"vals": "x"}, {"op": "and", "nodes": [None]}, {"nodes": {}}]
    )
    def test_closes_with_3501_on_a_filter_of_another_type(self, server, tf):
        client = Client(server).connected()
        client.send({"id": 2, "subscribe": {"channel": "c", "tf": tf}})
        code, reason = client.closed()
        assert code == 3501
        assert "subscribe.tf" in reason

    def test_protobuf_and_json_describe_equal_filters(self):
        """So subscribers of both forms share the compiled filter."""
        tf = {"op": "and", "nodes": [BTC, {"key": "a", "cmp": "in", "vals": ["b"]}]}
        command = {"id": 2, "subscribe": {"channel": "c", "tf": tf}}
        (one,), (two,) = JSON.parse(json.dumps(command).encode()), PROTOBUF.parse(encode_commands(command))
        assert compile_filter(one.request.tf, "tf") is compile_filter(two.request.tf, "tf")

    def test_a_filter_of_null_is_no_filter(self, server):
        client, _ = subscribed(server, tf=None)
        publish(server, "ETH")
        assert received(client) == [(1, "ETH")]

    def test_ignores_the_filter_of_a_subscription_that_the_server_makes(self, server):
        """As Centrifugo does: of such a subscription, the client sends only the position."""
        client = Client(server)
        assert client.request("connect", subs={"c": {"tf": BTC}})["subs"].keys() == {"c"}
        publish(server, "ETH")
        assert received(client) == [(1, "ETH")]
