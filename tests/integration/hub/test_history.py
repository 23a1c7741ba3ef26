"""A client that comes back gets what it missed, in order, once; or is told that it cannot have it."""

import json

import pytest
from events import Events
from http_api import KEY, api, up
from twisted.internet import reactor
from twisted.internet.defer import fail, gatherResults
from twisted.internet.threads import blockingCallFromThread

from wsserver.errors import BrokerDown


def publish(server, channel, *texts):
    """Publish texts; returns the place of the last one as an id."""
    for text in texts:
        status, answer = api(server, "publish", {"channel": channel, "data": text})
        assert status == 200
    return f"{answer['result']['epoch']}:{answer['result']['offset']}"


def publish_many(server, channel, texts):
    """Publish many texts past the HTTP API."""
    hub = server.service.hub
    blockingCallFromThread(reactor, lambda: gatherResults([hub.publish(channel, text) for text in texts]))


def read(events, count):
    """Read some events."""
    return [events.read() for _ in range(count)]


def messages(*texts):
    """Write them as `read` tells them."""
    return [("message", text.encode()) for text in texts]


def gap(channel):
    """Write the notice of a gap."""
    return {"event": "gap", "channel": channel}


@pytest.fixture
def start(broker, start_server):
    """Start servers that share a broker, or one on its own."""

    def go(**options):
        return up(start_server(api_key=KEY, **broker, **options))

    return go


class EventTests:
    """Server-Sent Events: the browser says by itself where it was."""

    @pytest.mark.parametrize("way", ["query", "header"])
    def test_comes_back(self, start, way):
        """What was published meanwhile comes first, then what follows; the id goes on."""
        server = start()
        with server.connect() as peer:
            events = Events(peer, "/sse?channel=foo")
            place = publish(server, "foo", "1", "2")
            assert read(events, 2) == messages("1", "2")
            assert events.last_event_id == place
        publish(server, "foo", "3", "4\nfour", "5")
        with server.connect() as peer:
            if way == "query":
                events = Events(peer, f"/sse?channel=foo&last_event_id={place}")
            else:
                events = Events(peer, "/sse?channel=foo", f"Last-Event-ID: {place}")
            assert read(events, 3) == messages("3", "4\nfour", "5")
            last = publish(server, "foo", "6")
            assert read(events, 1) == messages("6")
            assert events.last_event_id == last

    def test_more_than_a_page_comes_in_order_and_once(self, start):
        """By number (150 small ones), by size (40 of 8 kB), and one that is larger than a page."""
        server = start(history_size=300)
        texts = [str(number) for number in range(150)]
        texts += [f"{number} {'x' * 8000}" for number in range(40)] + ["y" * 65_000, "last"]
        place = publish(server, "foo", "first")
        publish_many(server, "foo", texts)
        with server.connect() as peer:
            events = Events(peer, f"/sse?channel=foo&lastEventId={place}")
            assert read(events, len(texts)) == messages(*texts)
            last = publish(server, "foo", "new")
            assert read(events, 1) == messages("new")
            assert events.last_event_id == last

    def test_header_counts(self, start):
        """A browser connects again with the query of the first time: what it says now is newer."""
        server = start()
        old = publish(server, "foo", "1")
        new = publish(server, "foo", "2")
        publish(server, "foo", "3")
        with server.connect() as peer:
            events = Events(peer, f"/sse?channel=foo&last_event_id={old}", f"Last-Event-ID: {new}")
            assert read(events, 1) == messages("3")

    def test_several_channels(self, start):
        """The id tells the place in each."""
        server = start()
        with server.connect() as peer:
            events = Events(peer, "/sse?channel=a,b,c&format=json")
            publish(server, "a", "a1")
            publish(server, "b", "b1")
            got = [json.loads(data) for _, data in read(events, 2)]
            assert [one["data"] for one in got] == ["a1", "b1"]
            place = events.last_event_id
            assert [part.partition(":")[2] for part in place.split(",")] == ["1", "1", "0"]
        for channel, text in (("b", "b2"), ("a", "a2"), ("c", "c1"), ("b", "b3")):
            publish(server, channel, text)
        with server.connect() as peer:
            events = Events(peer, "/sse?channel=a,b,c&format=json", f"Last-Event-ID: {place}")
            got = [json.loads(data) for _, data in read(events, 4)]
            # Channel by channel: between channels there is no order.
            assert [one["data"] for one in got] == ["a2", "b2", "b3", "c1"]

    def test_nothing_missed(self, start):
        """Who has missed nothing is told nothing."""
        server = start()
        place = publish(server, "foo", "1")
        with server.connect() as peer:
            events = Events(peer, "/sse?channel=foo", f"Last-Event-ID: {place}")
            publish(server, "foo", "2")
            assert read(events, 1) == messages("2")

    @pytest.mark.parametrize("place", ["0:1", "nonsense", "a:1,b:2", "-", "x" * 100])
    def test_unknown_place(self, start, place):
        """A place that nobody knows is a gap, and no reason to refuse: a browser would not come again."""
        server = start()
        publish(server, "foo", "1")
        with server.connect() as peer:
            events = Events(peer, "/sse?channel=foo", f"Last-Event-ID: {place}")
            name, data = events.read()
            assert (name, json.loads(data)) == ("gap", gap("foo"))
            publish(server, "foo", "2")
            assert read(events, 1) == messages("2")

    @pytest.mark.parametrize("ahead", [10**14, 10**18 - 1])
    def test_far_ahead(self, start, ahead):
        """A place that the stream has not come to is a gap, however far ahead; it need not be what Lua can reckon."""
        server = start()
        epoch = publish(server, "foo", "1").partition(":")[0]
        with server.connect() as peer:
            events = Events(peer, "/sse?channel=foo", f"Last-Event-ID: {epoch}:{ahead}")
            name, data = events.read()
            assert (name, json.loads(data)) == ("gap", gap("foo"))
        for reverse, found in ((False, []), (True, ["1"])):
            since = {"offset": min(ahead, 2**53 - 1), "epoch": epoch}
            asked = {"channel": "foo", "since": since, "limit": 10, "reverse": reverse}
            status, answer = api(server, "history", asked)
            assert (status, [one["data"] for one in answer["result"]["publications"]]) == (200, found)

    def test_too_much_missed(self, start):
        """More than is kept: the gap is told, and what is kept is not passed off as everything."""
        server = start(history_size=3)
        place = publish(server, "foo", "1")
        publish(server, "foo", "2", "3", "4", "5")
        with server.connect() as peer:
            events = Events(peer, "/sse?channel=foo", f"Last-Event-ID: {place}")
            name, data = events.read()
            assert (name, json.loads(data)) == ("gap", gap("foo"))
            publish(server, "foo", "6")
            assert read(events, 1) == messages("6")

    def test_no_history(self, start):
        """A channel that keeps nothing has no ids."""
        server = start(history_size=0)
        with server.connect() as peer:
            events = Events(peer, "/sse?channel=foo")
            _, answer = api(server, "publish", {"channel": "foo", "data": "1"})
            assert answer["result"] == {"delivered": 1}
            assert read(events, 1) == messages("1")
            assert events.last_event_id == ""


class SocketTests:
    """The same over a WebSocket, for clients that keep account themselves."""

    def test_comes_back(self, start):
        """What was missed comes before what follows."""
        server = start()
        with server.open("/ws?channel=foo&format=json") as peer:
            publish(server, "foo", "1")
            got = json.loads(peer.read_frame().payload)
        publish(server, "foo", "2", "3")
        with server.open(f"/ws?channel=foo&last_event_id={got['epoch']}:{got['offset']}") as peer:
            publish(server, "foo", "4")
            assert [peer.read_frame().payload for _ in range(3)] == [b"2", b"3", b"4"]

    def test_gap(self, start):
        """What is not to be had is told."""
        server = start(history_size=1)
        place = publish(server, "foo", "1")
        publish(server, "foo", "2", "3")
        with server.open(f"/ws?channel=foo&last_event_id={place}") as peer:
            assert json.loads(peer.read_frame().payload) == gap("foo")
            publish(server, "foo", "4")
            assert peer.read_frame().payload == b"4"

    def test_gap_closes(self, start):
        """With --gap close it is told by 1012."""
        server = start(history_size=1, gap="close")
        place = publish(server, "foo", "1")
        publish(server, "foo", "2", "3")
        with server.open(f"/ws?channel=foo&last_event_id={place}") as peer:
            assert int.from_bytes(peer.read_close().payload[:2], "big") == 1012

    @pytest.mark.parametrize("place", ["%00", "a:1;b:2", "a%20b", "7", "a:1,b:2", "a:-1"])
    def test_bad_place(self, start, place):
        """What cannot be a place is a mistake in the query."""
        server = start()
        with server.connect() as peer:
            response = peer.request(f"/sse?channel=foo&last_event_id={place}")
            assert response.status == 400
            assert b"last_event_id" in response.body


class TogetherTests:
    """Two servers, one Redis."""

    def test_recovers_elsewhere(self, start_server, redis):
        """What was published at one server is missed, and had, at the other."""
        one, other = (up(start_server(redis=redis.url, api_key=KEY)) for _ in range(2))
        place = publish(one, "foo", "1")
        publish(other, "foo", "2")
        publish(one, "foo", "3")
        with other.open(f"/ws?channel=foo&last_event_id={place}") as peer:
            assert [peer.read_frame().payload for _ in range(2)] == [b"2", b"3"]


class FlushTests:
    """FLUSHALL while publications are still on their way: the commands' connection overtakes the listening one."""

    def test_a_late_publication_of_the_flushed_stream_holds_up_nothing(self, start_server, redis):
        """Redis flushes between the confirmation of the subscription and the read of the position."""
        server = up(start_server(redis=redis.url, api_key=KEY))
        broker = server.service.hub.broker
        listening, history, reads = broker._link._pair[1].transport, broker.history, []

        def count(*arguments, **options):
            reads.append(arguments)
            # Not for ever.
            return history(*arguments, **options) if len(reads) < 10 else fail(BrokerDown("read too often"))

        def read_late(*arguments, **options):
            broker.history = count
            listening.pauseProducing()
            reactor.callLater(0.1, listening.resumeProducing)
            # One after the other on the same connection.
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
