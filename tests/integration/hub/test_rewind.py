"""`rewind=N`: a new raw subscriber first gets the last publications of its channels, from memory and from Redis."""

import json

import pytest
import websockets.exceptions
import websockets.sync.client
from events import Events
from http_api import KEY, api, up
from twisted.internet import task
from waiting import TIMEOUT, wait_until


def publish(server, channel, *texts):
    """Publish texts through the HTTP API; return the position of the last one as an event id."""
    for text in texts:
        status, answer = api(server, "publish", {"channel": channel, "data": text})
        assert status == 200
    return f"{answer['result']['epoch']}:{answer['result']['offset']}"


def listen(server, query):
    """Open a WebSocket with the client library `websockets`."""
    return websockets.sync.client.connect(f"{server.url}/ws?{query}", compression=None)


def receive(client, count):
    """Receive `count` messages."""
    return [client.recv(TIMEOUT) for _ in range(count)]


@pytest.fixture
def start(broker, start_server):
    """Return a function that starts servers with either broker."""

    def go(**options):
        return up(start_server(api_key=KEY, **broker, **options))

    return go


class WebSocketTests:
    """`/ws?channel=foo&rewind=N`."""

    def test_the_last_publications_come_before_new_ones(self, start):
        server = start()
        publish(server, "foo", "1", "2", "3")
        with listen(server, "channel=foo&rewind=2") as client:
            assert receive(client, 2) == ["2", "3"]
            publish(server, "foo", "4")
            assert receive(client, 1) == ["4"]

    def test_format_json_marks_the_rewound_publications(self, start):
        server = start()
        publish(server, "foo", "1", "2")
        with listen(server, "channel=foo&rewind=1&format=json") as client:
            publish(server, "foo", "3")
            old, new = map(json.loads, receive(client, 2))
        assert (old["data"], old["offset"], old["rewound"]) == ("2", 2, True)
        assert (new["data"], new["offset"], "rewound" in new) == ("3", 3, False)

    def test_each_channel_is_rewound(self, start):
        server = start()
        publish(server, "a", "a1", "a2", "a3")
        publish(server, "b", "b1")
        with listen(server, "channel=a,b,c&rewind=2") as client:
            assert receive(client, 3) == ["a2", "a3", "b1"]

    def test_only_publications_that_match_the_filter_count(self, start):
        """The last one is found although it is more than a page in front of the end of the stream."""
        server = start(history_size=300, channel=[("foo", {"allow_tags_filter": True})])
        hub = server.service.hub
        for number in range(300):
            tags = {"a": "x" if number % 140 == 3 else "y"}
            server.ask(lambda number=number, tags=tags: hub.publish("foo", str(number), tags=tags))
        with listen(server, "channel=foo&rewind=2&filter=a:eq:x") as client:
            assert receive(client, 2) == ["143", "283"]
            server.ask(lambda: hub.publish("foo", "new", tags={"a": "x"}))
            assert receive(client, 1) == ["new"]

    def test_binary_data_is_rewound_as_it_was_published(self, start):
        server = start()
        api(server, "publish", {"channel": "foo", "b64data": "/wAK"})
        with listen(server, "channel=foo&rewind=1") as client:
            assert receive(client, 1) == [b"\xff\x00\n"]

    def test_more_than_one_page_is_rewound(self, start):
        """A page has at most 64 KiB of data."""
        server = start()
        texts = [f"{number} {'x' * 8000}" for number in range(60)] + ["y" * 60_000]
        publish(server, "foo", *texts)
        with listen(server, "channel=foo&rewind=50") as client:
            assert receive(client, 50) == texts[-50:]

    def test_a_position_has_precedence_as_long_as_nothing_after_it_is_lost(self, start):
        server = start(history_size=3)
        first = publish(server, "foo", "1")
        second = publish(server, "foo", "2")
        publish(server, "foo", "3")
        with listen(server, f"channel=foo&rewind=3&last_event_id={second}") as client:
            assert receive(client, 1) == ["3"]
        publish(server, "foo", "4", "5")
        with listen(server, f"channel=foo&rewind=1&last_event_id={first}") as client:
            gap, last = receive(client, 2)
        assert (json.loads(gap), last) == ({"event": "gap", "channel": "foo"}, "5")

    def test_a_channel_without_history_is_refused_with_400(self, start):
        server = start(channel=[("plain:*", {"history_size": 0})])
        reason = "rewind: history is not enabled for channel 'plain:1'; see --history-size"
        with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
            listen(server, "channel=foo,plain:1&rewind=1")
        assert refused.value.response.status_code == 400
        assert reason in refused.value.response.body.decode()
        with server.connect() as peer:
            response = peer.request("/sse?channel=foo,plain:1&rewind=1")
        assert response.status == 400
        assert reason in response.text
        wait_until(lambda: server.ask(server.service.hub.counts) == {}, "no channel is subscribed")


class EventStreamTests:
    """`/sse?channel=foo&rewind=N`."""

    def test_the_notice_rewound_comes_between_old_and_new_publications(self, start):
        server = start()
        last = publish(server, "foo", "1", "2", "3")
        with server.connect() as peer:
            events = Events(peer, "/sse?channel=foo&rewind=2")
            assert [events.read() for _ in range(2)] == [("message", b"2"), ("message", b"3")]
            assert events.read() == ("rewound", b'{"event":"rewound","channel":"foo"}')
            assert events.last_event_id == last
            publish(server, "foo", "4")
            assert events.read() == ("message", b"4")

    def test_a_reconnect_with_the_id_of_an_event_does_not_rewind_again(self, start):
        """After each event of the rewind, and after its notice."""
        server = start()
        for number, rest in ((1, [b"2", b"3"]), (2, [b"3"]), (3, []), (4, [])):
            publish(server, "foo", "1", "2", "3")
            with server.connect() as peer:
                events = Events(peer, "/sse?channel=foo&rewind=3")
                for _ in range(number):
                    events.read()
            with server.connect() as peer:
                events = Events(peer, "/sse?channel=foo&rewind=3", f"Last-Event-ID: {events.last_event_id}")
                new = publish(server, "foo", "new")
                assert [events.read()[1] for _ in range(len(rest) + 1)] == [*rest, b"new"]
                assert events.last_event_id == new

    def test_an_empty_rewind_has_its_notice(self, start):
        """What is published after it is recovered after a reconnect, even if it is more than the rewind."""
        server = start()
        with server.connect() as peer:
            events = Events(peer, "/sse?channel=foo&rewind=1")
            assert events.read()[0] == "rewound"
        publish(server, "foo", "1", "2", "3")
        with server.connect() as peer:
            events = Events(peer, "/sse?channel=foo&rewind=1", f"Last-Event-ID: {events.last_event_id}")
            assert [events.read() for _ in range(3)] == [("message", b"1"), ("message", b"2"), ("message", b"3")]

    def test_format_json_marks_the_rewound_publications_and_binary_data(self, start):
        server = start()
        publish(server, "foo", "1")
        api(server, "publish", {"channel": "foo", "b64data": "/w=="})
        with server.connect() as peer:
            events = Events(peer, "/sse?channel=foo&rewind=2&format=json")
            got = [json.loads(events.read()[1]) for _ in range(2)]
        assert [(one.get("data"), one.get("b64data"), one["rewound"]) for one in got] == [
            ("1", None, True),
            (None, "/w==", True),
        ]


class BusyTests:
    """Subscribers come while publications are stored and delivered."""

    def test_subscribers_of_a_busy_channel_get_each_publication_once_and_in_order(self, start):
        """With Redis, a publication may be read from the stream and also arrive by the subscription."""
        server = start(history_size=100)
        hub, count = server.service.hub, 0

        def publish_next():
            nonlocal count
            count += 1
            hub.publish("foo", str(count))

        def begin():
            loop = task.LoopingCall(publish_next)
            loop.start(0.001)
            return loop

        publish(server, "foo", *["0"] * 5)
        loop = server.ask(begin)
        runs = []
        for rewind in (1, 5, 100) * 10:
            with listen(server, f"channel=foo&rewind={rewind}&format=json") as client:
                got = [json.loads(text) for text in receive(client, rewind + 50)]
            runs.append((rewind, got))
        server.ask(loop.stop)
        for rewind, got in runs:
            offsets = [one["offset"] for one in got]
            assert offsets == list(range(offsets[0], offsets[0] + len(offsets)))
            rewound = [one for one in got if "rewound" in one]
            assert got[: len(rewound)] == rewound
            # The stream may have trimmed the oldest of 100 before they were read.
            assert len(rewound) == rewind or (rewind == 100 and rewound)
