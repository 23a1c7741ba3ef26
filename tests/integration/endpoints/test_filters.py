"""The filter of a subscription, `tagsFilter`, in the JavaScript SDK over every transport and protocol."""

from functools import partial

import pytest
from http_api import up
from pytest_twisted import blockon
from sdk import KINDS, running_sdk
from twisted.internet.threads import deferToThread

KINDS_WITH_FILTERS = [kind for kind in KINDS if kind.startswith("javascript")]
"""The other SDKs have no filters yet."""

BTC = {"key": "ticker", "cmp": "eq", "val": "BTC"}
EXPENSIVE = {
    "op": "and",
    "nodes": [{"key": "ticker", "cmp": "in", "vals": ["BTC", "ETH"]}, {"key": "price", "cmp": "gt", "val": "99.5"}],
}


@pytest.fixture
def server(start_server, broker):
    """Start a server with filters in the channel `quotes`."""
    options = {"channel": (("quotes", {"allow_tags_filter": True}),), **broker}
    return blockon(deferToThread(lambda: up(start_server(**options))))


def publish(server, *quotes):
    """Publish quotes such as `BTC 100`, with their parts as tags."""
    for quote in quotes:
        tags = dict(zip(("ticker", "price"), quote.split(), strict=True))
        server.ask(partial(server.service.hub.publish, "quotes", quote, tags=tags))


@pytest.mark.parametrize("kind", KINDS_WITH_FILTERS)
def test_an_sdk_receives_and_recovers_only_what_matches(server, kind):
    with running_sdk(kind, server.url, {}) as sdk:
        sdk.order("connect")
        sdk.subscribe("quotes", tagsFilter=EXPENSIVE)
        publish(server, "BTC 100", "ETH 99.5", "ETH 99.51", "XRP 100", "BTC 1000")
        got = [sdk.expect("publication") for _ in range(3)]
        assert [one["data"] for one in got] == ["BTC 100", "ETH 99.51", "BTC 1000"]
        assert [one["offset"] for one in got] == [1, 3, 5]
        assert got[1]["tags"] == {"ticker": "ETH", "price": "99.51"}
        for missed, received in ((["XRP 100", "ETH 200", "BTC 1"], ["ETH 200"]), (["XRP 1", "XRP 2"], [])):
            client = sdk.expect("connected")["client"]
            server.ask(partial(server.service.management.disconnect, client=client, code=3000))
            sdk.expect("connecting", code=3000)
            publish(server, *missed)
            assert sdk.expect("subscribed", of="subscription")["recovered"] is True
            assert sdk.publications(len(received)) == received
        publish(server, "BTC 5", "BTC 300")
        assert sdk.publications(1) == ["BTC 300"]
        assert not [one for one in sdk.events if one["event"] in {"publication", "unsubscribed"}]


@pytest.mark.parametrize("kind", ["javascript", "javascript-protobuf"])
def test_an_invalid_filter_and_a_channel_without_filters_are_refused_with_107(server, kind):
    with running_sdk(kind, server.url, {}) as sdk:
        sdk.order("connect")
        sdk.expect("connected")
        for channel, tags_filter in (("quotes", {"op": "and", "nodes": []}), ("plain", BTC)):
            sdk.order("subscribe", channel=channel, options={"tagsFilter": tags_filter})
            assert sdk.expect("unsubscribed", channel=channel)["code"] == 107
        sdk.subscribe("other")
