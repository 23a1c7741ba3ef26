"""Filters by tags over real connections, with the memory broker and with Redis."""

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

import pytest
from command_line import environment
from events import Events
from http_api import KEY, api, ok, up
from peers import TEXT
from pytest_twisted import blockon
from twisted.internet.threads import deferToThread

BTC = {"key": "ticker", "cmp": "eq", "val": "BTC"}
FILTERED = (("bare", {"history_size": 0, "allow_tags_filter": True}), ("*", {"allow_tags_filter": True}))


@pytest.fixture
def start(broker, start_server):
    """Return a function that starts servers: on one Redis, or each with its own memory broker."""

    def go(**options):
        return up(start_server(**{"api_key": KEY, "channel": FILTERED, **broker, **options}))

    return go


@pytest.fixture
def server(start):
    """Start a server."""
    return blockon(deferToThread(start))


def publish(server, *tickers, channel="quotes"):
    """Publish one publication for each ticker, whose data and tag it is."""
    for ticker in tickers:
        result = ok(server, "publish", {"channel": channel, "data": ticker, "tags": {"ticker": ticker}})
    return f"{result.get('epoch')}:{result.get('offset')}"


@pytest.fixture
def subscribe():
    """Return a function that subscribes to a channel; it returns a function that reads the next publication."""
    with ExitStack() as stack:

        def one(server, way, query, channel="quotes"):
            if way == "sse":
                events = Events(stack.enter_context(server.connect()), f"/sse?channel={channel}&{query}")

                def read():
                    return events.read()[1].decode()

                return read
            peer = stack.enter_context(server.open(f"/ws?channel={channel}&{query}"))
            return peer.read_message

        yield one


class DeliveryTests:
    """Live publications."""

    @pytest.mark.parametrize("channel", ["quotes", "bare"])
    @pytest.mark.parametrize("way", ["ws", "sse"])
    def test_receives_what_matches_and_others_receive_everything(self, server, subscribe, way, channel):
        every = subscribe(server, way, "format=raw", channel)
        one = subscribe(server, way, "filter=ticker:eq:BTC", channel)
        some = subscribe(server, way, f"filter={quote(json.dumps({'op': 'not', 'nodes': [BTC]}))}", channel)
        both = subscribe(server, way, "filter=ticker:in:BTC,ETH&filter=ticker:sw:E", channel)
        publish(server, "BTC", "XRP", "ETH", "BTC", "ETH", channel=channel)
        assert [every() for _ in range(5)] == ["BTC", "XRP", "ETH", "BTC", "ETH"]
        assert [one() for _ in range(2)] == ["BTC", "BTC"]
        assert [some() for _ in range(3)] == ["XRP", "ETH", "ETH"]
        assert [both() for _ in range(2)] == ["ETH", "ETH"]

    def test_tags_come_from_every_way_to_publish(self, start, subscribe, backend):
        backend.answer = lambda path, body: {"result": {"tags": {"ticker": "BTC"}}}
        server = start(hook_publish=backend.url("/publish"))
        read = subscribe(server, "ws", "filter=ticker:eq:BTC")
        publish(server, "BTC")
        assert read() == "BTC"
        server.ask(lambda: server.service.hub.publish("quotes", "from Python", tags={"ticker": "BTC"}))
        assert read() == "from Python"
        with server.open("/connection/websocket") as peer:
            peer.send_frame(
                TEXT, b'{"id":1,"connect":{}}\n{"id":2,"publish":{"channel":"quotes","data":"by a client"}}'
            )
            assert read() == "by a client"
        url = f"http://127.0.0.1:{server.port}"
        program = Path(sys.executable).with_name("wsserver")
        tags = ("--tag", "a=b", "--tag", "ticker=BTC")
        command = [program, "publish", "quotes", "from a shell", *tags, "--url", url, "--api-key", KEY]
        subprocess.run(command, check=True, timeout=30, env=environment())
        assert read() == "from a shell"

    def test_a_plain_publish_has_no_tags(self, redis, start_server, subscribe):
        server = up(start_server(redis=redis.url, channel=FILTERED))
        read, none = (subscribe(server, "ws", f"filter=ticker:{cmp}") for cmp in ("ex", "nex"))
        redis.publish("quotes", b"plain")
        assert none() == "plain"
        server.ask(lambda: server.service.hub.publish("quotes", "tagged", tags={"ticker": ""}))
        assert read() == "tagged"

    def test_tags_reach_subscribers_at_another_server(self, redis, start_server, subscribe):
        one, two = (up(start_server(redis=redis.url, api_key=KEY, channel=FILTERED)) for _ in range(2))
        reads = [subscribe(one, way, "filter=ticker:eq:BTC") for way in ("ws", "sse")]
        publish(two, "ETH", "BTC")
        assert [read() for read in reads] == ["BTC", "BTC"]


class RecoveryTests:
    """Missed publications."""

    @pytest.mark.parametrize("way", ["ws", "sse"])
    def test_recovers_what_matches_without_a_gap_notice_and_in_order(self, server, subscribe, way):
        """More than one page is missed."""
        position = publish(server, "first")
        hub = server.service.hub

        def fill():
            for number in range(90):
                hub.publish("quotes", str(number), tags={"third": str(number % 3 == 0)})

        server.ask(fill)
        read = subscribe(server, way, f"filter=third:eq:True&last_event_id={position}")
        assert [read() for _ in range(30)] == [str(number) for number in range(0, 90, 3)]
        server.ask(lambda: hub.publish("quotes", "new", tags={"third": "True"}))
        assert read() == "new"

    def test_event_ids_continue_the_stream_after_publications_that_were_left_out(self, server):
        with server.connect() as peer:
            events = Events(peer, "/sse?channel=quotes&filter=ticker:eq:BTC")
            publish(server, "ETH", "BTC", "ETH")
            assert events.read() == ("message", b"BTC")
            last = events.last_event_id
            assert last.endswith(":2")
        publish(server, "ETH", "BTC")
        with server.connect() as peer:
            events = Events(peer, "/sse?channel=quotes&filter=ticker:eq:BTC", f"Last-Event-ID: {last}")
            assert events.read() == ("message", b"BTC")
            assert events.last_event_id.endswith(":5")

    def test_the_position_moves_past_missed_publications_that_do_not_match(self, server):
        """After another reconnect, the server need not read them again, and the history may have lost them."""
        position = publish(server, "BTC")
        last = publish(server, "ETH", "ETH")
        with server.connect() as peer:
            events = Events(peer, "/sse?channel=quotes&filter=ticker:eq:BTC", f"Last-Event-ID: {position}")
            assert [events._lines(), events._lines()] == [[f"id: {one}".encode()] for one in (position, last)]

    def test_a_lost_history_is_reported(self, server, subscribe):
        """Whether the lost publications would have matched is not known."""
        publish(server, "ETH")
        read = subscribe(server, "sse", "filter=ticker:eq:BTC&last_event_id=lost:7")
        assert json.loads(read()) == {"event": "gap", "channel": "quotes"}


class RefusalTests:
    """Filters that are refused."""

    @pytest.mark.parametrize("path", ["/ws", "/sse"])
    @pytest.mark.parametrize(
        ("query", "reason"),
        [
            ("filter=ticker", "filter: expected KEY:CMP:VALUE, such as ticker:eq:BTC, or JSON, not 'ticker'"),
            ("filter=ticker:is:BTC", "filter.cmp: expected one of eq, neq, "),
            ("filter=%7B%22op%22:1%7D", "filter.op: expected a string, got an integer"),
            ("filter=" + "&filter=".join(["a:ex"] * 101), "expected a filter with at most 100 nodes"),
        ],
    )
    def test_an_invalid_filter_is_refused_with_400_and_the_field(self, server, path, query, reason):
        with server.connect() as peer:
            response = peer.request(f"{path}?channel=quotes&{query}", *UPGRADE[path])
            assert (response.status, reason in response.text) == (400, True), response.text

    @pytest.mark.parametrize("path", ["/ws", "/sse"])
    def test_a_filter_is_refused_where_filters_are_not_enabled(self, start, path):
        server = start(channel=())
        with server.connect() as peer:
            response = peer.request(f"{path}?channel=quotes&filter=ticker:ex", *UPGRADE[path])
            assert response.status == 400
            assert "filters are not enabled for channel 'quotes'; set allow_tags_filter" in response.text


UPGRADE = {
    "/sse": (),
    "/ws": (
        *("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    ),
}


def test_the_api_counts_all_subscribers(server, subscribe):
    """Counting those that match would take as long as delivering to them."""
    subscribe(server, "ws", "filter=ticker:eq:BTC")
    status, answer = api(server, "publish", {"channel": "quotes", "data": 1, "tags": {"ticker": "ETH"}})
    assert (status, answer["result"]["delivered"]) == (200, 1)
