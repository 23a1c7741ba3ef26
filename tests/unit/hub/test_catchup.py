"""A recovering client that does not read uses little memory, and receives everything once it reads. All in memory."""

import pytest
from catchup import SIZE, RawSubscriber, numbers, publish
from twisted.internet.defer import Deferred, fail, succeed

from wsserver.config.settings import Settings
from wsserver.errors import BrokerDown
from wsserver.hub.pages import MAX_READS, PAGE_BYTES, PAGES_PER_TURN, SECONDS_PER_TURN, PageReader
from wsserver.hub.recovery import MAX_BUFFERED
from wsserver.testing import HIGH_WATER, MemoryServer
from wsserver.web import sse

MAX_UNREAD = HIGH_WATER + 2 * PAGE_BYTES
"""Maximum number of unread bytes: the high-water mark of the transport, and a page with its framing."""


def serve(**options):
    """Start a server with long histories."""
    return MemoryServer(Settings(**{"channel_allow": ("*",), "history_size": 10_000} | options))


def epoch(server, channel="h"):
    """Return the epoch of a channel's stream."""
    pages = []
    server.service.hub.history(channel).addCallback(pages.append)
    return pages[0].position.epoch


def turns(server, count=300):
    """Run turns of the reactor."""
    for _ in range(count):
        server.clock.advance(0)


def unread_bytes(subscriber):
    """Return the number of bytes that the server has written and the client has not read."""
    assert subscriber.transport.unread
    return len(subscriber.transport.unread)


@pytest.mark.parametrize("way", ["ws", "sse"])
class PacedTests:
    """Missed publications are sent as fast as the client reads."""

    def test_limits_unread_bytes_and_sends_everything_once_the_client_reads(self, way):
        """The client has missed 1.6 MB. Another 1.6 MB are published during its recovery."""
        server = serve()
        publish(server, 200)
        subscriber = RawSubscriber(server, way, "channel=h", f"{epoch(server)}:0")
        turns(server)
        publish(server, 200, start=200)
        turns(server)
        assert unread_bytes(subscriber) <= MAX_UNREAD
        assert subscriber.read_all() == numbers(range(400))
        publish(server, 1, start=400)
        turns(server, 2)
        assert subscriber.texts() == ["400"]

    def test_a_rewind_is_sent_as_fast_as_the_client_reads(self, way):
        """The rewind has 800 kB. The publications after it follow."""
        server = serve()
        publish(server, 150)
        subscriber = RawSubscriber(server, way, "channel=h&rewind=100", "")
        turns(server)
        publish(server, 20, start=150)
        turns(server)
        assert unread_bytes(subscriber) <= MAX_UNREAD
        notices = ["rewound"] if way == "sse" else []
        assert subscriber.read_all() == [*numbers(range(50, 150)), *notices, *numbers(range(150, 170))]

    def test_twenty_channels_of_a_connection_share_the_limit_of_one(self, way):
        server = serve()
        channels = [f"h{number}" for number in range(20)]
        for channel in channels:
            publish(server, 20, channel=channel)
        subscriber = RawSubscriber(
            server, way, f"channel={','.join(channels)}", ",".join([f"{epoch(server, 'h0')}:0"] * 20)
        )
        turns(server)
        assert unread_bytes(subscriber) <= MAX_UNREAD
        assert subscriber.read_all() == numbers(*[range(20)] * 20)

    def test_publications_trimmed_before_the_client_reads_are_reported_as_a_gap(self, way):
        """The stream keeps 100 publications; 150 more are published while the client does not read."""
        server = serve(history_size=100)
        publish(server, 50)
        subscriber = RawSubscriber(server, way, "channel=h", f"{epoch(server)}:0")
        turns(server)
        publish(server, 150, start=50)
        turns(server)
        found = subscriber.read_all()
        assert found.count("gap") == 1
        assert found[-1] == "gap"
        assert found[:-1] == numbers(range(len(found) - 1))
        publish(server, 1, start=200)
        assert subscriber.read_all(3) == ["200"]

    def test_publications_without_an_offset_follow_the_missed_ones(self, way):
        """The publications without an offset fit into the buffer."""
        server = serve()
        publish(server, 100)
        subscriber = RawSubscriber(server, way, "channel=h", f"{epoch(server)}:0")
        turns(server)
        publish(server, 5, start=900, plain=True)
        assert subscriber.read_all() == numbers(range(100), range(900, 905))

    def test_too_many_publications_without_an_offset_are_reported_as_a_gap(self, way):
        """No stream contains the publications without an offset, so they cannot be read again."""
        server = serve()
        publish(server, 100)
        subscriber = RawSubscriber(server, way, "channel=h", f"{epoch(server)}:0")
        turns(server)
        publish(server, MAX_BUFFERED // SIZE + 1, start=900, plain=True)
        assert unread_bytes(subscriber) <= MAX_UNREAD
        assert subscriber.read_all() == [*numbers(range(100)), "gap"]

    def test_twenty_clients_that_reconnect_together_all_receive_everything(self, way):
        server = serve()
        publish(server, 50)
        subscribers = [RawSubscriber(server, way, "channel=h", f"{epoch(server)}:0") for _ in range(20)]
        assert [subscriber.read_all(20) for subscriber in subscribers] == [numbers(range(50))] * 20

    @pytest.mark.parametrize("failure", [BrokerDown("away"), RuntimeError("a fault")])
    def test_a_page_that_cannot_be_read_closes_the_connection(self, way, failure):
        """The client reconnects, and recovers from its position."""
        server = serve()
        publish(server, 50)
        subscriber = RawSubscriber(server, way, "channel=h", f"{epoch(server)}:0", reading=True)
        server.service.hub.broker.history = lambda *arguments, **options: fail(failure)
        turns(server, 3)
        if way == "ws":
            assert subscriber.client.close_frame() == (
                1013,
                "missed publications cannot be read; reconnect to recover them",
            )
        else:
            assert subscriber.transport.lost
        assert server.service.hub.count("h") == 0

    def test_a_client_that_has_disconnected_is_sent_no_further_page(self, way):
        """The client disconnects while the server reads a page for it."""
        server = serve()
        publish(server, 50)
        stream_epoch, broker = epoch(server), server.service.hub.broker
        subscriber = RawSubscriber(server, way, "channel=h", f"{stream_epoch}:0", reading=True)
        read, pages = broker.history, []

        def late(*arguments, **options):
            done = Deferred()
            pages.append((done, read(*arguments, **options)))
            return done

        broker.history = late
        turns(server, 3)
        ((done, page),) = pages
        subscriber.transport.lose()
        subscriber.transport.written.clear()
        done.callback(page)
        turns(server, 3)
        assert subscriber.transport.written == b""
        assert len(pages) == 1
        assert server.service.hub.count("h") == 0


class FaultTests:
    """Internal errors."""

    def test_an_event_source_receives_a_retry_field_after_an_internal_error(self):
        """Reading the stream's position fails with an unexpected exception."""
        server = serve()
        server.service.hub.broker.history = lambda *arguments, **options: fail(RuntimeError("a fault"))
        client = server.connect()
        client.send(b"GET /sse?channel=h HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
        assert client.response().startswith(b"HTTP/1.1 200 ")
        assert client.transport.written.startswith(b": 500 internal server error\nretry: ")
        assert server.service.hub.count("h") == 0

    def test_an_error_before_the_response_is_a_500_and_unsubscribes(self, monkeypatch):
        """Otherwise, the hub would write publications to the connection until it is closed."""
        server = serve()

        def fail_to_write():
            raise RuntimeError("a fault")

        monkeypatch.setattr(sse, "write_retry", fail_to_write)
        client = server.connect()
        client.send(b"GET /sse?channel=h HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.response().startswith(b"HTTP/1.1 500 ")
        assert server.service.hub.count("h") == 0


class BusyTests:
    """Publications that arrive while the stream is read."""

    def test_more_than_the_buffer_holds_is_read_again_from_the_stream(self):
        """No gap is reported, because the stream contains publications with an offset."""
        server = serve()
        publish(server, 10)
        broker, stream_epoch = server.service.hub.broker, epoch(server)
        read, answers = broker.history, []

        def late(*arguments, **options):
            done = Deferred()
            answers.append((done, read(*arguments, **options)))
            return done

        subscriber = RawSubscriber(server, "ws", "channel=h", f"{stream_epoch}:0", reading=True)
        broker.history = late
        found = []
        for number in range(200):
            if number < 50:
                publish(server, 1, start=10 + number)
            if answers and number % 25 == 24:
                done, page = answers.pop(0)
                done.callback(page)
            turns(server, 2)
            found += subscriber.texts()
        assert found == numbers(range(60))


class NextTurn:
    """A reactor that runs calls in the turn after the one that scheduled them."""

    def __init__(self):
        self.calls = []
        self.now = 0.0

    def seconds(self):
        """Return the time, which only the test changes."""
        return self.now

    def callLater(self, delay, function):
        """Schedule a call for the next turn."""
        assert delay == 0
        self.calls.append(function)

    def turn(self):
        """Run the calls that are due, but not those that they schedule."""
        calls, self.calls = self.calls, []
        for call in calls:
            call()


class PageReaderTests:
    """How many pages are read at once."""

    def test_reads_at_most_pages_per_turn_in_each_turn(self):
        """The limit applies even if each page is available immediately and each client then requests another."""
        reactor, read = NextTurn(), []
        reader = PageReader(reactor)

        def request(client):
            reader.read(lambda: succeed(client)).addCallback(read.append).addCallback(lambda _: request(client))

        for client in range(10):
            request(client)
        assert read == []
        for turn in range(1, 4):
            reactor.turn()
            assert len(read) == turn * PAGES_PER_TURN
        # Round robin: no client is served twice before every client was served once.
        assert sorted(read[:10]) == list(range(10))

    def test_reads_no_further_page_in_a_turn_when_the_time_is_used_up(self):
        """The delivery of a page counts, too. The next turn continues."""
        reactor, read = NextTurn(), []
        reader = PageReader(reactor)

        def deliver(page):
            read.append(page)
            reactor.now += SECONDS_PER_TURN / 2.5

        for number in range(7):
            reader.read(lambda number=number: succeed(number)).addCallback(deliver)
        reactor.turn()
        assert read == [0, 1, 2]
        reactor.turn()
        assert read == [0, 1, 2, 3, 4, 5]
        reactor.turn()
        assert read == list(range(7))

    def test_starts_no_more_reads_until_a_pending_one_completes(self):
        """The broker behaves like Redis here: each page arrives in a later turn."""
        reactor, started = NextTurn(), []
        reader = PageReader(reactor)

        def start():
            started.append(Deferred())
            return started[-1]

        results = [reader.read(start) for _ in range(10)]
        for _ in range(3):
            reactor.turn()
        assert len(started) == MAX_READS
        started[0].callback("page")
        assert result_of(results[0]) == "page"
        for _ in range(3):
            reactor.turn()
        assert len(started) == MAX_READS + 1

    def test_a_failed_read_does_not_stop_the_next_ones(self):
        """Only its own caller receives the failure."""
        reactor, failures, results = NextTurn(), [], []
        reader = PageReader(reactor)
        for _ in range(MAX_READS):
            reader.read(lambda: fail(BrokerDown("away"))).addErrback(failures.append)
        reader.read(lambda: succeed("page")).addCallback(results.append)
        reactor.turn()
        assert len(failures) == MAX_READS
        assert results == ["page"]


def result_of(deferred):
    """Return the result of a Deferred that has fired."""
    taken = []
    deferred.addCallback(taken.append)
    return taken[0]
