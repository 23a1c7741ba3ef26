"""A client that resumes from a position gets each missed publication once and in order, or a gap event."""

import json

import pytest
from events import Events
from http_api import KEY, api, up
from twisted.internet import reactor
from twisted.internet.defer import fail, gatherResults
from twisted.internet.threads import blockingCallFromThread

from wsserver.errors import BrokerDown


def publish(server, channel, *texts):
    """Publish texts through the HTTP API; return the position of the last one as an event id."""
    for text in texts:
        status, answer = api(server, "publish", {"channel": channel, "data": text})
        assert status == 200
    return f"{answer['result']['epoch']}:{answer['result']['offset']}"


def publish_many(server, channel, texts):
    """Publish many texts without the HTTP API."""
    hub = server.service.hub
    blockingCallFromThread(reactor, lambda: gatherResults([hub.publish(channel, text) for text in texts]))


def read(events, count):
    """Read `count` events."""
    return [events.read() for _ in range(count)]


def messages(*texts):
    """Return the texts as the events that `read` returns for them."""
    return [("message", text.encode()) for text in texts]


def gap(channel):
    """Return the data of the channel's gap event."""
    return {"event": "gap", "channel": channel}


@pytest.fixture
def start(broker, start_server):
    """Return a function that starts servers: on one Redis, or each with its own memory broker."""

    def go(**options):
        return up(start_server(api_key=KEY, **broker, **options))

    return go


class EventStreamRecoveryTests:
    """Server-Sent Events: the browser sends the id of the last event it received."""

    @pytest.mark.parametrize("way", ["query", "header"])
    def test_missed_publications_come_before_new_ones_and_ids_continue(self, start, way):
        server = start()
        with server.connect() as peer:
            events = Events(peer, "/sse?channel=foo")
            position = publish(server, "foo", "1", "2")
            assert read(events, 2) == messages("1", "2")
            assert events.last_event_id == position
        publish(server, "foo", "3", "4\nfour", "5")
        with server.connect() as peer:
            if way == "query":
                events = Events(peer, f"/sse?channel=foo&last_event_id={position}")
            else:
                events = Events(peer, "/sse?channel=foo", f"Last-Event-ID: {position}")
            assert read(events, 3) == messages("3", "4\nfour", "5")
            last = publish(server, "foo", "6")
            assert read(events, 1) == messages("6")
            assert events.last_event_id == last

    def test_more_than_one_page_of_missed_publications_arrives_in_order_and_once(self, start):
        """Pages are limited by number (150 small texts) and by size (40 of 8 kB); one text is larger than a page."""
        server = start(history_size=300)
        texts = [str(number) for number in range(150)]
        texts += [f"{number} {'x' * 8000}" for number in range(40)] + ["y" * 65_000, "last"]
        position = publish(server, "foo", "first")
        publish_many(server, "foo", texts)
        with server.connect() as peer:
            events = Events(peer, f"/sse?channel=foo&lastEventId={position}")
            assert read(events, len(texts)) == messages(*texts)
            last = publish(server, "foo", "new")
            assert read(events, 1) == messages("new")
            assert events.last_event_id == last

    def test_the_last_event_id_header_takes_precedence_over_the_query(self, start):
        """A browser reconnects with its first query, so the id in the query is the older one."""
        server = start()
        old = publish(server, "foo", "1")
        new = publish(server, "foo", "2")
        publish(server, "foo", "3")
        with server.connect() as peer:
            events = Events(peer, f"/sse?channel=foo&last_event_id={old}", f"Last-Event-ID: {new}")
            assert read(events, 1) == messages("3")

    def test_an_event_id_holds_the_position_in_each_of_several_channels(self, start):
        server = start()
        with server.connect() as peer:
            events = Events(peer, "/sse?channel=a,b,c&format=json")
            publish(server, "a", "a1")
            publish(server, "b", "b1")
            got = [json.loads(data) for _, data in read(events, 2)]
            assert [one["data"] for one in got] == ["a1", "b1"]
            position = events.last_event_id
            assert [part.partition(":")[2] for part in position.split(",")] == ["1", "1", "0"]
        for channel, text in (("b", "b2"), ("a", "a2"), ("c", "c1"), ("b", "b3")):
            publish(server, channel, text)
        with server.connect() as peer:
            events = Events(peer, "/sse?channel=a,b,c&format=json", f"Last-Event-ID: {position}")
            got = [json.loads(data) for _, data in read(events, 4)]
            # Recovery goes channel by channel; there is no order across channels.
            assert [one["data"] for one in got] == ["a2", "b2", "b3", "c1"]

    def test_a_client_that_missed_nothing_gets_no_gap_event(self, start):
        server = start()
        position = publish(server, "foo", "1")
        with server.connect() as peer:
            events = Events(peer, "/sse?channel=foo", f"Last-Event-ID: {position}")
            publish(server, "foo", "2")
            assert read(events, 1) == messages("2")

    @pytest.mark.parametrize("position", ["0:1", "nonsense", "a:1,b:2", "-", "x" * 100])
    def test_an_unknown_last_event_id_header_gets_a_gap_event_and_new_publications(self, start, position):
        """The server does not refuse the request: a browser would not reconnect after an error status."""
        server = start()
        publish(server, "foo", "1")
        with server.connect() as peer:
            events = Events(peer, "/sse?channel=foo", f"Last-Event-ID: {position}")
            name, data = events.read()
            assert (name, json.loads(data)) == ("gap", gap("foo"))
            publish(server, "foo", "2")
            assert read(events, 1) == messages("2")

    @pytest.mark.parametrize("ahead", [10**14, 10**18 - 1])
    def test_a_position_beyond_the_end_of_the_stream_gets_a_gap_event(self, start, ahead):
        """Redis's Lua cannot represent the larger offset exactly; the API is called with at most 2**53 - 1."""
        server = start()
        epoch = publish(server, "foo", "1").partition(":")[0]
        with server.connect() as peer:
            events = Events(peer, "/sse?channel=foo", f"Last-Event-ID: {epoch}:{ahead}")
            name, data = events.read()
            assert (name, json.loads(data)) == ("gap", gap("foo"))
        for offset, reverse, found in ((ahead, False, []), (ahead, True, []), (3, True, []), (2, True, ["1"])):
            since = {"offset": min(offset, 2**53 - 1), "epoch": epoch}
            parameters = {"channel": "foo", "since": since, "limit": 10, "reverse": reverse}
            status, answer = api(server, "history", parameters)
            assert (status, [one["data"] for one in answer["result"]["publications"]]) == (200, found)

    def test_a_client_that_missed_more_than_is_kept_gets_a_gap_event_only(self, start):
        """The server does not send the publications that it still has: the client would consider them complete."""
        server = start(history_size=3)
        position = publish(server, "foo", "1")
        publish(server, "foo", "2", "3", "4", "5")
        with server.connect() as peer:
            events = Events(peer, "/sse?channel=foo", f"Last-Event-ID: {position}")
            name, data = events.read()
            assert (name, json.loads(data)) == ("gap", gap("foo"))
            publish(server, "foo", "6")
            assert read(events, 1) == messages("6")

    def test_a_channel_without_history_sends_no_event_ids(self, start):
        server = start(history_size=0)
        with server.connect() as peer:
            events = Events(peer, "/sse?channel=foo")
            _, answer = api(server, "publish", {"channel": "foo", "data": "1"})
            assert answer["result"] == {"delivered": 1}
            assert read(events, 1) == messages("1")
            assert events.last_event_id == ""


class WebSocketRecoveryTests:
    """WebSocket: the client remembers its position and sends it as `last_event_id`."""

    def test_missed_publications_come_before_new_ones(self, start):
        server = start()
        with server.open("/ws?channel=foo&format=json") as peer:
            publish(server, "foo", "1")
            got = json.loads(peer.read_frame().payload)
        publish(server, "foo", "2", "3")
        with server.open(f"/ws?channel=foo&last_event_id={got['epoch']}:{got['offset']}") as peer:
            publish(server, "foo", "4")
            assert [peer.read_frame().payload for _ in range(3)] == [b"2", b"3", b"4"]

    def test_a_client_that_missed_more_than_is_kept_gets_a_gap_message(self, start):
        server = start(history_size=1)
        position = publish(server, "foo", "1")
        publish(server, "foo", "2", "3")
        with server.open(f"/ws?channel=foo&last_event_id={position}") as peer:
            assert json.loads(peer.read_frame().payload) == gap("foo")
            publish(server, "foo", "4")
            assert peer.read_frame().payload == b"4"

    def test_a_gap_closes_with_1012_with_gap_close(self, start):
        server = start(history_size=1, gap="close")
        position = publish(server, "foo", "1")
        publish(server, "foo", "2", "3")
        with server.open(f"/ws?channel=foo&last_event_id={position}") as peer:
            assert int.from_bytes(peer.read_close().payload[:2], "big") == 1012

    @pytest.mark.parametrize("position", ["%00", "a:1;b:2", "a%20b", "7", "a:1,b:2", "a:-1"])
    def test_a_malformed_last_event_id_is_refused_with_400(self, start, position):
        server = start()
        with server.connect() as peer:
            response = peer.request(f"/sse?channel=foo&last_event_id={position}")
            assert response.status == 400
            assert b"last_event_id" in response.body


class TwoServersTests:
    """Two servers on one Redis."""

    def test_recovers_at_the_other_server_what_both_published(self, start_server, redis):
        one, other = (up(start_server(redis=redis.url, api_key=KEY)) for _ in range(2))
        position = publish(one, "foo", "1")
        publish(other, "foo", "2")
        publish(one, "foo", "3")
        with other.open(f"/ws?channel=foo&last_event_id={position}") as peer:
            assert [peer.read_frame().payload for _ in range(2)] == [b"2", b"3"]


class FlushedRedisTests:
    """FLUSHALL while publications are in flight: replies to commands overtake messages of the subscription."""

    def test_a_late_publication_of_the_flushed_stream_delays_no_subscriber(self, start_server, redis):
        """Redis is flushed between the confirmation of the subscription and the read of the position."""
        server = up(start_server(redis=redis.url, api_key=KEY))
        broker = server.service.hub.broker
        listening, history, reads = broker._link._pair[1].transport, broker.history, []

        def count(*arguments, **options):
            reads.append(arguments)
            # Stop a server that would read forever.
            return history(*arguments, **options) if len(reads) < 10 else fail(BrokerDown("read too often"))

        def read_late(*arguments, **options):
            broker.history = count
            listening.pauseProducing()
            reactor.callLater(0.1, listening.resumeProducing)
            # These commands run in this order, on one connection.
            server.service.hub.publish("foo", "late")
            broker._link.command("FLUSHALL")
            server.service.hub.publish("foo", "1")
            return history(*arguments, **options)

        broker.history = read_late
        with server.connect() as peer:
            events = Events(peer, "/sse?channel=foo&last_event_id=old:1")
            assert events.read() == ("gap", json.dumps(gap("foo"), separators=(",", ":")).encode())
            redis.run("PUBLISH", "foo", "plain")
            publish(server, "foo", "2")
            assert read(events, 2) == messages("plain", "2")
        assert len(reads) <= 2
