"""Closing gaps page by page: in order, without duplicates, and with a limited amount of work and bytes in each turn."""

import hubs
import pytest
from catchup import RawSubscriber, numbers, publish
from hubs import DropsEverything
from twisted.internet.defer import Deferred

from wsserver.config.settings import Settings
from wsserver.hub.channel import PublicationBuffer
from wsserver.hub.memory import MemoryBroker
from wsserver.hub.pages import PAGE_BYTES, PAGE_SIZE, PAGES_PER_TURN
from wsserver.hub.publication import Publication
from wsserver.hub.rules import Rule, Rules
from wsserver.testing import HIGH_WATER, MemoryServer


class Subscriber:
    """Records each batch: how many publications, and the bytes of their data."""

    kind = "raw"

    def __init__(self):
        self.batches, self.events = [], []

    def frame(self, channel, publication):
        """Return the publication's data as its frame."""
        return publication.data + b" "

    def event_frame(self, channel, event):
        """Return no frame."""
        return b""

    def deliver(self, batch):
        """Record a batch."""
        self.batches.append((batch.count, batch.size))
        self.events += [int(number.lstrip(b"x")) for number in batch.frames.split()]

    def missed(self, channel, stream):
        """Record a gap."""
        self.events.append("gap" if stream else "plain gap")


def make_hub(clock):
    """Make a hub with a long history."""
    broker = MemoryBroker(clock)
    return hubs.make_hub(broker, clock, Rules(Rule(10_000, 1e9))), broker


def lose(broker, publish):
    """Publish while the hub does not receive publications."""
    listener = broker.listener
    broker.deliver_to(DropsEverything())
    publish()
    broker.deliver_to(listener)


def turn(clock):
    """Run the calls that are due, but not those that they schedule."""
    due, clock.calls = clock.calls, []
    for call in due:
        call.called = 1
        call.func(*call.args, **call.kw)


class PagedTests:
    """Missing publications are read and delivered page by page."""

    @pytest.mark.parametrize("size", [1, 4000])
    def test_a_long_gap_is_delivered_in_pages_in_order_and_once(self, clock, size):
        """1000 publications, more than fit into a page by number or by bytes."""
        hub, broker = make_hub(clock)
        one = Subscriber()
        hub.subscribe("foo", one)
        hub.publish("foo", b"0")
        clock.advance(0)
        lose(broker, lambda: [hub.publish("foo", (b"%d" % number).rjust(size, b"x")) for number in range(1, 1000)])
        hub.on_reconnect()
        # These are published while the gap is being closed.
        hub.publish("foo", b"1000")
        hub.publish("foo", b"1001", skip_history=True)
        clock.advance(0)
        assert one.events == [0, "plain gap", *range(1, 1002)]
        assert max(count for count, _ in one.batches) <= PAGE_SIZE + 2
        assert max(size for _, size in one.batches) <= PAGE_BYTES + 8

    def test_publications_that_arrive_while_the_last_page_is_read_keep_their_order(self, clock):
        """The page contains those with an offset. Those without one are inserted between them."""
        hub, broker = make_hub(clock)
        one, waiting, read = Subscriber(), [], broker.history
        hub.subscribe("foo", one)
        hub.publish("foo", b"0")
        clock.advance(0)
        lose(broker, lambda: hub.publish("foo", b"1"))

        def late(*arguments, **options):
            done = Deferred()
            waiting.append(lambda: done.callback(read(*arguments, **options)))
            return done

        broker.history = late
        hub.on_reconnect()
        for number in range(2, 6):
            hub.publish("foo", b"%d" % number, skip_history=number % 2 == 0)
        waiting[0]()
        clock.advance(0)
        assert one.events == [0, "plain gap", 1, 2, 3, 4, 5]

    def test_serves_at_most_pages_per_turn_channels_in_a_turn(self, clock):
        """After an outage, all channels have a gap."""
        hub, broker = make_hub(clock)
        count = 3 * PAGES_PER_TURN
        subscribers = [Subscriber() for _ in range(count)]
        for number, one in enumerate(subscribers):
            hub.subscribe(f"foo{number}", one)
            hub.publish(f"foo{number}", b"0")
        clock.advance(0)
        lose(broker, lambda: [hub.publish(f"foo{number}", b"1") for number in range(count)])
        hub.on_reconnect()
        served = []
        while clock.calls:
            turn(clock)
            served.append(sum(1 in one.events for one in subscribers))
        assert served[-1] == count
        assert max(after - before for before, after in zip([0, *served], served, strict=False)) <= PAGES_PER_TURN

    def test_a_second_outage_before_a_page_is_delivered_causes_another_read(self, clock):
        """The page was read before that outage, and does not contain what was lost in it."""
        hub, broker = make_hub(clock)
        one = Subscriber()
        hub.subscribe("foo", one)
        hub.publish("foo", b"0")
        clock.advance(0)
        lose(broker, lambda: hub.publish("foo", b"1"))
        hub.on_reconnect()
        lose(broker, lambda: hub.publish("foo", b"2"))
        hub.on_reconnect()
        clock.advance(0)
        assert one.events == [0, "plain gap", 1, 2]

    def test_a_stream_removed_between_two_pages_is_reported_as_a_gap(self, clock):
        """The notice comes after the publications of the first page, and before the next publication."""
        hub, broker = make_hub(clock)
        one = Subscriber()
        hub.subscribe("foo", one)
        hub.publish("foo", b"0")
        clock.advance(0)
        lose(broker, lambda: [hub.publish("foo", b"%d" % number) for number in range(1, 400)])
        hub.on_reconnect()
        while 1 not in one.events:
            turn(clock)
        broker.remove_history("foo")
        clock.advance(0)
        hub.publish("foo", b"400")
        clock.advance(0)
        found = one.events
        assert found.count("gap") == 1
        at = found.index("gap")
        assert found[:at] == [0, "plain gap", *range(1, at - 1)]
        assert found[at + 1 :] == [400]

    def test_catches_up_with_a_channel_busier_than_a_page_per_turn(self, clock):
        """1000 publications arrive in each turn."""
        hub, broker = make_hub(clock)
        one, next_one = Subscriber(), iter(range(1, 10**6))
        hub.subscribe("foo", one)
        hub.publish("foo", b"0")
        clock.advance(0)
        lose(broker, lambda: [hub.publish("foo", b"%d" % next(next_one)) for _ in range(500)])
        hub.on_reconnect()
        for _ in range(20):
            for _ in range(1000):
                hub.publish("foo", b"%d" % next(next_one))
            turn(clock)
        turn(clock)
        assert one.events == [0, "plain gap", *range(1, 20_501)]


@pytest.mark.parametrize("way", ["ws", "sse"])
class QueuedBytesTests:
    """A connected subscriber that has missed 8 MB in an outage."""

    def serve(self, way, *, reading):
        """Start a server with a subscribed client, and simulate an outage."""
        server = MemoryServer(Settings(channel_allow=("*",), history_size=10_000))
        publish(server, 1)
        subscriber = RawSubscriber(server, way, "channel=h", "", reading=True)
        publish(server, 1, start=1)
        assert subscriber.texts() == ["1"]
        subscriber.transport.reading = reading
        lose(server.service.hub.broker, lambda: publish(server, 1000, start=2))
        server.service.hub.on_reconnect()
        return server, subscriber

    def test_a_client_that_reads_receives_everything(self, way):
        """The notice comes first, because publications without an offset may be missing."""
        _, subscriber = self.serve(way, reading=True)
        assert subscriber.read_all() == ["gap", *numbers(range(2, 1002))]

    def test_a_client_that_does_not_read_is_closed_before_much_is_queued(self, way):
        """--max-queued-bytes limits the queue, and --slow closes the connection at that limit."""
        server, subscriber = self.serve(way, reading=False)
        server.clock.advance(0)
        assert len(subscriber.transport.unread) <= HIGH_WATER + 2 * PAGE_BYTES
        if way == "ws":
            assert subscriber.transport.unread.endswith(
                b"the client reads too slowly (server option --max-queued-bytes)"
            )
        else:
            assert server.service.hub.count("h") == 0


class BufferPageTests:
    """Pages of a `PublicationBuffer`."""

    def test_a_page_is_limited_by_number_and_by_bytes(self):
        """A larger publication is a page by itself."""
        buffer = PublicationBuffer()
        for size in (1, 1, 1, 10, 1):
            buffer.add(Publication(b"x" * size))
        pages = []
        while buffer.items:
            pages.append([len(one.data) for one in buffer.take_page(2, 5)])
        assert pages == [[1, 1], [1], [10], [1]]

    def test_a_page_grows_by_what_was_added_since_the_last(self):
        """With pages of a fixed size, the buffer of a busy channel would never become empty."""
        buffer = PublicationBuffer()
        for _ in range(4):
            buffer.add(Publication(b"x"))
        assert len(buffer.take_page(2, 100)) == 2
        for _ in range(5):
            buffer.add(Publication(b"x"))
        assert len(buffer.take_page(2, 100)) == 7

    def test_drop_stream_drops_and_counts_the_publications_with_an_offset(self):
        buffer = PublicationBuffer()
        for offset in (1, 0, 2):
            buffer.add(Publication(b"xx", offset, "e" if offset else ""))
        assert buffer.drop_stream() == (2, 4)
        assert [one.offset for one in buffer.items] == [0]
