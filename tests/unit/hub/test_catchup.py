"""A listener that returns and does not read holds little, and gets everything once it reads. All in memory."""

import pytest
from catchup import SIZE, Listener, numbers, publish
from twisted.internet.defer import Deferred, fail, succeed

from wsserver.config.settings import Settings
from wsserver.errors import BrokerDown
from wsserver.hub.pages import MAX_READS, PAGE_BYTES, PageReader
from wsserver.hub.recovery import MAX_BUFFERED
from wsserver.testing import HIGH_WATER, MemoryServer
from wsserver.web import sse

MAX_HELD = HIGH_WATER + 2 * PAGE_BYTES
"""What a page and what the transport takes before it says so weigh, the frames around them included."""


def serve(**options):
    """Start a server that keeps much."""
    return MemoryServer(Settings(**{"channel_allow": ("*",), "history_size": 10_000} | options))


def epoch(server, channel="h"):
    """Return the epoch of a channel's stream."""
    pages = []
    server.service.hub.history(channel).addCallback(pages.append)
    return pages[0].position.epoch


def turns(server, count=300):
    """Let the reactor turn."""
    for _ in range(count):
        server.clock.advance(0)


def held(listener):
    """Count the bytes that the server has written and the peer has not read."""
    assert listener.transport.unread
    return len(listener.transport.unread)


@pytest.mark.parametrize("way", ["ws", "sse"])
class PacedTests:
    """What was missed leaves as the client reads."""

    def test_a_client_that_does_not_read_holds_no_more_than_a_page_and_then_gets_all(self, way):
        """1.6 MB were missed, and as much is published meanwhile."""
        server = serve()
        publish(server, 200)
        listener = Listener(server, way, "channel=h", f"{epoch(server)}:0")
        turns(server)
        publish(server, 200, start=200)
        turns(server)
        assert held(listener) <= MAX_HELD
        assert listener.read_all() == numbers(range(400))
        publish(server, 1, start=400)
        turns(server, 2)
        assert listener.texts() == ["400"]

    def test_many_channels_of_one_connection_hold_no_more_than_one(self, way):
        """The limit is the connection's."""
        server = serve()
        channels = [f"h{number}" for number in range(20)]
        for channel in channels:
            publish(server, 20, channel=channel)
        listener = Listener(server, way, f"channel={','.join(channels)}", ",".join([f"{epoch(server, 'h0')}:0"] * 20))
        turns(server)
        assert held(listener) <= MAX_HELD
        assert listener.read_all() == numbers(*[range(20)] * 20)

    def test_what_the_stream_has_lost_meanwhile_is_told(self, way):
        """The stream keeps 100; the client stops reading while 150 more are published."""
        server = serve(history_size=100)
        publish(server, 50)
        listener = Listener(server, way, "channel=h", f"{epoch(server)}:0")
        turns(server)
        publish(server, 150, start=50)
        turns(server)
        found = listener.read_all()
        assert found.count("gap") == 1
        assert found[-1] == "gap"
        assert found[:-1] == numbers(range(len(found) - 1))
        publish(server, 1, start=200)
        assert listener.read_all(3) == ["200"]

    def test_publications_without_an_offset_come_after_what_was_missed(self, way):
        """As long as they fit into the buffer."""
        server = serve()
        publish(server, 100)
        listener = Listener(server, way, "channel=h", f"{epoch(server)}:0")
        turns(server)
        publish(server, 5, start=900, plain=True)
        assert listener.read_all() == numbers(range(100), range(900, 905))

    def test_more_of_them_than_may_wait_are_told_as_a_gap(self, way):
        """No stream has them."""
        server = serve()
        publish(server, 100)
        listener = Listener(server, way, "channel=h", f"{epoch(server)}:0")
        turns(server)
        publish(server, MAX_BUFFERED // SIZE + 1, start=900, plain=True)
        assert held(listener) <= MAX_HELD
        assert listener.read_all() == [*numbers(range(100)), "gap"]

    def test_many_clients_that_return_together_all_get_everything(self, way):
        """They take turns."""
        server = serve()
        publish(server, 50)
        listeners = [Listener(server, way, "channel=h", f"{epoch(server)}:0") for _ in range(20)]
        assert [listener.read_all(20) for listener in listeners] == [numbers(range(50))] * 20

    @pytest.mark.parametrize("failure", [BrokerDown("away"), RuntimeError("a fault")])
    def test_a_page_that_cannot_be_read_ends_the_connection(self, way, failure):
        """The client returns, and recovers from where it is."""
        server = serve()
        publish(server, 50)
        listener = Listener(server, way, "channel=h", f"{epoch(server)}:0", reading=True)
        server.service.hub.broker.history = lambda *arguments, **options: fail(failure)
        turns(server, 3)
        if way == "ws":
            assert listener.client.close_frame() == (
                1013,
                "missed publications cannot be read; reconnect to recover them",
            )
        else:
            assert listener.transport.lost
        assert server.service.hub.count("h") == 0

    def test_a_client_that_leaves_is_sent_no_further_page(self, way):
        """Its page may still be on its way."""
        server = serve()
        publish(server, 50)
        where, broker = epoch(server), server.service.hub.broker
        listener = Listener(server, way, "channel=h", f"{where}:0", reading=True)
        read, pages = broker.history, []

        def late(*arguments, **options):
            done = Deferred()
            pages.append((done, read(*arguments, **options)))
            return done

        broker.history = late
        turns(server, 3)
        ((done, page),) = pages
        listener.transport.lose()
        listener.transport.written.clear()
        page.chainDeferred(done)
        turns(server, 3)
        assert listener.transport.written == b""
        assert len(pages) == 1
        assert server.service.hub.count("h") == 0


class FaultTests:
    """A fault of the server."""

    def test_an_event_source_is_told_to_retry_after_a_fault_and_does_not_wait_for_ever(self):
        """The position could not be read, for no reason that is known."""
        server = serve()
        server.service.hub.broker.history = lambda *arguments, **options: fail(RuntimeError("a fault"))
        client = server.connect()
        client.send(b"GET /sse?channel=h HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
        assert client.response().startswith(b"HTTP/1.1 200 ")
        assert client.transport.written.startswith(b": 500 internal server error\nretry: ")
        assert server.service.hub.count("h") == 0

    def test_a_stream_that_fails_before_its_response_begins_leaves_its_channel(self, monkeypatch):
        """Otherwise the hub would write to it until the connection is closed."""
        server = serve()

        def fail_to_write():
            raise RuntimeError("a fault")

        monkeypatch.setattr(sse, "write_retry", fail_to_write)
        client = server.connect()
        client.send(b"GET /sse?channel=h HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.response().startswith(b"HTTP/1.1 500 ")
        assert server.service.hub.count("h") == 0


class BusyTests:
    """What arrives while the stream is read."""

    def test_more_than_may_wait_is_read_from_the_stream_instead_of_told_as_a_gap(self):
        """It has an offset."""
        server = serve()
        publish(server, 10)
        broker, where = server.service.hub.broker, epoch(server)
        read, answers = broker.history, []

        def late(*arguments, **options):
            done = Deferred()
            answers.append((done, read(*arguments, **options)))
            return done

        listener = Listener(server, "ws", "channel=h", f"{where}:0", reading=True)
        broker.history = late
        found = []
        for number in range(200):
            if number < 50:
                publish(server, 1, start=10 + number)
            if answers and number % 25 == 24:
                done, page = answers.pop(0)
                page.chainDeferred(done)
            turns(server, 2)
            found += listener.texts()
        assert found == numbers(range(60))


class NextTurn:
    """A reactor whose turns are told apart."""

    def __init__(self):
        self.calls = []

    def callLater(self, delay, function):
        """Call it in the next turn."""
        assert delay == 0
        self.calls.append(function)

    def turn(self):
        """Make the calls that are due, and not those that they add."""
        calls, self.calls = self.calls, []
        for call in calls:
            call()


class PageReaderTests:
    """How many pages are read at once."""

    def test_reads_a_few_pages_in_each_turn_and_none_before_the_next(self):
        """Though each is there at once, as in memory, and each client asks for another."""
        reactor, read = NextTurn(), []
        reader = PageReader(reactor)

        def ask(client):
            reader.read(lambda: succeed(client)).addCallback(read.append).addCallback(lambda _: ask(client))

        for client in range(10):
            ask(client)
        assert read == []
        counts = []
        for _ in range(11):
            before = len(read)
            reactor.turn()
            counts.append(len(read) - before)
        assert max(counts) <= MAX_READS
        assert sum(counts) >= 5 * MAX_READS
        # In turns: nobody is served twice before everyone was once.
        assert sorted(read[:10]) == list(range(10))

    def test_waits_for_pages_under_way(self):
        """As Redis answers later."""
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

    def test_goes_on_after_a_failure(self):
        """It is for the one that asked."""
        reactor, failures, results = NextTurn(), [], []
        reader = PageReader(reactor)
        for _ in range(MAX_READS):
            reader.read(lambda: fail(BrokerDown("away"))).addErrback(failures.append)
        reader.read(lambda: succeed("page")).addCallback(results.append)
        for _ in range(4):
            reactor.turn()
        assert len(failures) == MAX_READS
        assert results == ["page"]


def result_of(deferred):
    """Take the result of a Deferred that has one."""
    taken = []
    deferred.addCallback(taken.append)
    return taken[0]
