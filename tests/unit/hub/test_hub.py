"""The hub: its subscribers, and how publications reach them. All in memory."""

import hubs
import pytest
from hubs import DropsEverything
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from wsserver.errors import BrokerDown
from wsserver.hub.channel import MAX_BUFFER_BYTES, MAX_BUFFER_ITEMS, PublicationBuffer
from wsserver.hub.memory import MemoryBroker
from wsserver.hub.publication import Publication
from wsserver.hub.stream import Page, Position


class Subscriber:
    """A subscriber that records what is delivered."""

    def __init__(self, kind="raw"):
        self.kind = kind
        self.framed, self.received, self.gaps = [], [], []

    def frame(self, channel, publication):
        """Record and frame a publication."""
        self.framed.append(publication.data)
        return b"<%s>" % publication.data

    def deliver(self, batch):
        """Record the contents of a batch."""
        self.received.append((batch.frames, batch.count, batch.size))

    def event_frame(self, channel, event):
        """Frame a join or a leave."""
        return b"(%s%s)" % (b"+" if event.join else b"-", event.info.client.encode())

    def missed(self, channel, stream):
        """Record a gap."""
        self.gaps.append(channel)


class SlowBroker(MemoryBroker):
    """A broker whose subscriptions the test confirms."""

    def __init__(self):
        super().__init__(Clock())
        self.requests, self.unsubscribed = {}, []

    def subscribe(self, channel):
        """Return a Deferred that the test fires."""
        self.requests[channel] = Deferred()
        return self.requests[channel]

    def unsubscribe(self, channel):
        """Record a channel."""
        self.unsubscribed.append(channel)


def make_hub(clock, broker=None):
    """Make a hub."""
    return hubs.make_hub(broker or MemoryBroker(clock), clock)


class FanOutTests:
    """The delivery of a publication to its subscribers."""

    def test_a_subscriber_is_subscribed_if_the_last_other_one_leaves_in_the_same_turn(self, clock):
        """The other one leaves when it receives a publication that was pending; a listener may stop then."""
        hub, new = make_hub(clock), Subscriber()
        other = hub.listen("foo", lambda *_: other.stop())
        hub.publish("foo", b"1")
        hub.subscribe("foo", new)
        assert hub.count("foo") == 1
        hub.publish("foo", b"2")
        clock.advance(0)
        assert [frames for frames, _, _ in new.received] == [b"<2>"]

    def test_publications_of_one_turn_are_joined_into_one_batch(self, clock):
        """The batch is delivered at the end of the turn."""
        hub, one = make_hub(clock), Subscriber()
        hub.subscribe("foo", one)
        for data in (b"1", b"22", b"333"):
            hub.publish("foo", data)
        assert one.received == []
        clock.advance(0)
        assert one.received == [(b"<1><22><333>", 3, 6)]
        hub.publish("foo", b"4")
        clock.advance(0)
        assert one.received[1:] == [(b"<4>", 1, 1)]

    def test_a_publication_is_framed_once_for_each_kind(self, clock):
        """A hundred subscribers of two kinds need two frames."""
        hub = make_hub(clock)
        subscribers = [Subscriber(kind) for kind in ("raw", "json") * 50]
        for one in subscribers:
            hub.subscribe("foo", one)
        hub.publish("foo", b"x")
        clock.advance(0)
        assert sum(len(one.framed) for one in subscribers) == 2
        assert {len(one.received) for one in subscribers} == {1}

    def test_a_subscriber_receives_only_publications_after_it_subscribed(self, clock):
        """The subscriber joins between two publications of the same turn."""
        hub, early, late = make_hub(clock), Subscriber(), Subscriber()
        hub.subscribe("foo", early)
        hub.publish("foo", b"before")
        hub.subscribe("foo", late)
        hub.publish("foo", b"after")
        clock.advance(0)
        assert b"".join(frames for frames, *_ in early.received) == b"<before><after>"
        assert [frames for frames, *_ in late.received] == [b"<after>"]

    def test_the_receipt_has_the_number_of_local_subscribers(self, clock):
        hub = make_hub(clock)
        delivered = []
        hub.publish("foo", b"x").addCallback(lambda receipt: delivered.append(receipt.delivered))
        hub.subscribe("foo", Subscriber())
        hub.subscribe("foo", Subscriber("json"))
        hub.publish("foo", b"x").addCallback(lambda receipt: delivered.append(receipt.delivered))
        assert delivered == [0, 2]
        assert hub.counts() == {"foo": 2}
        clock.advance(0)

    def test_a_raising_subscriber_does_not_stop_the_others(self, clock, capsys):
        hub, bad, good = make_hub(clock), Subscriber(), Subscriber()
        bad.deliver = None
        hub.subscribe("foo", bad)
        hub.subscribe("foo", good)
        hub.publish("foo", b"x")
        clock.advance(0)
        assert good.received == [(b"<x>", 1, 1)]

    def test_a_subscriber_may_unsubscribe_itself_and_another_during_delivery(self, clock):
        hub, one, other = make_hub(clock), Subscriber(), Subscriber()
        one.deliver = lambda *_: [hub.unsubscribe("foo", subscriber) for subscriber in (one, other)]
        hub.subscribe("foo", one)
        hub.subscribe("foo", other)
        hub.publish("foo", b"x")
        clock.advance(0)
        assert hub.counts() == {}

    def test_a_subscriber_removed_during_delivery_before_its_turn_receives_nothing(self, clock):
        """The budget of one write per turn makes the hub serve each subscriber in a turn of its own."""
        hub, one, other, third = make_hub(clock), Subscriber(), Subscriber(), Subscriber()
        hub._fan_out._budget = 1
        for subscriber in (one, other, third):
            hub.subscribe("foo", subscriber)
        one.deliver = lambda *_: hub.unsubscribe("foo", other)
        hub.publish("foo", b"x")
        clock.advance(0)
        assert other.received == []
        assert third.received == [(b"<x>", 1, 1)]

    def test_a_kind_that_leaves_during_delivery_receives_nothing(self, clock):
        hub, one, other, third = make_hub(clock), Subscriber("a"), Subscriber("b"), Subscriber("c")
        for subscriber in (one, other, third):
            hub.subscribe("foo", subscriber)
        one.deliver = lambda *_: hub.unsubscribe("foo", other)
        hub.publish("foo", b"x")
        clock.advance(0)
        assert other.received == []
        assert third.received == [(b"<x>", 1, 1)]


class SubscribingTests:
    """Subscribing and unsubscribing."""

    def test_subscribers_of_a_channel_share_one_subscription_of_the_broker(self, clock):
        """All subscribers wait for the confirmation of that subscription."""
        broker = SlowBroker()
        hub, confirmed = make_hub(clock, broker), []
        for number in range(3):
            hub.subscribe("foo", Subscriber()).addCallback(lambda _, number=number: confirmed.append(number))
        assert confirmed == []
        broker.requests["foo"].callback(None)
        assert confirmed == [0, 1, 2]

    def test_the_last_subscriber_to_leave_unsubscribes_from_the_broker(self, clock):
        """Leaving twice has no effect."""
        broker = SlowBroker()
        hub, one, other = make_hub(clock, broker), Subscriber(), Subscriber("json")
        hub.subscribe("foo", one)
        hub.subscribe("foo", other)
        hub.unsubscribe("foo", one)
        assert broker.unsubscribed == []
        for _ in range(2):
            hub.unsubscribe("foo", other)
        assert broker.unsubscribed == ["foo"]

    def test_a_failed_subscription_of_the_broker_fails_for_each_subscriber(self, clock):
        """After the failure, the channel has no subscribers."""
        broker, failures = SlowBroker(), []
        hub = make_hub(clock, broker)
        for _ in range(2):
            hub.subscribe("foo", Subscriber()).addErrback(failures.append)
        broker.requests["foo"].errback(BrokerDown("away"))
        assert [failure.check(BrokerDown) for failure in failures] == [BrokerDown, BrokerDown]
        assert hub.counts() == {}

    def test_an_outage_notice_follows_the_publications_before_it(self, clock):
        hub, one = make_hub(clock), Subscriber()
        hub.subscribe("foo", one)
        hub.on_publication("foo", Publication(b"before"))
        one.missed = lambda channel, stream: one.received.append((channel, stream))
        hub.on_reconnect()
        assert one.received == [(b"<before>", 1, 6), ("foo", True)]
        clock.advance(0)


class LateReader(SlowBroker):
    """A broker whose reads of a stream the test completes."""

    def __init__(self):
        super().__init__()
        self.reads = []

    def history(self, *_, **__):
        """Return a Deferred that the test fires."""
        self.reads.append(Deferred())
        return self.reads[-1]


class StreamTests:
    """The positions of subscribers in a stream."""

    def test_individually_served_subscribers_of_a_kind_share_a_frame(self, clock):
        """These subscribers are served individually, because the channel has no position that they could reach."""
        broker = LateReader()
        hub, plain = make_hub(clock, broker), Subscriber()
        others = [Subscriber("json") for _ in range(5)]
        hub.subscribe("foo", plain)
        broker.requests["foo"].callback(None)
        for one in others:
            hub.subscribe("foo", one, positioned=True)
        for read in broker.reads:
            read.callback(Page((), Position(3, "e")))
        clock.advance(0)
        hub.on_publication("foo", Publication(b"x"))
        clock.advance(0)
        assert [one.received for one in (plain, *others)] == [[(b"<x>", 1, 1)]] * 6
        assert sum(len(one.framed) for one in others) == 1

    def test_a_subscriber_that_leaves_at_a_gap_receives_nothing_after_it(self, clock):
        """If it received more, the client would later recover from a position after the gap."""
        broker = LateReader()
        hub, one = make_hub(clock, broker), Subscriber()
        one.missed = lambda channel, stream: hub.unsubscribe(channel, one)
        hub.subscribe("foo", one, positioned=True)
        broker.requests["foo"].callback(None)
        broker.reads[0].callback(Page((), Position(3, "e")))
        hub.on_publication("foo", Publication(b"other", offset=1, epoch="f"))
        clock.advance(0)
        assert hub.counts() == {}
        assert one.received == []

    def test_what_was_buffered_for_former_subscribers_does_not_reach_a_new_one(self, clock):
        broker = LateReader()
        hub, old, new = make_hub(clock, broker), Subscriber(), Subscriber()
        hub.subscribe("foo", old)
        broker.requests["foo"].callback(None)
        hub.on_publication("foo", Publication(b"1", offset=1, epoch="e"))
        hub.on_publication("foo", Publication(b"3", offset=3, epoch="e"))
        hub.unsubscribe("foo", old)
        hub.subscribe("foo", new)
        broker.requests["foo"].callback(None)
        broker.reads[0].errback(BrokerDown("away"))
        clock.advance(0)
        assert (new.received, new.gaps) == ([], [])

    def test_a_late_publication_of_a_flushed_stream_is_dropped_after_one_read(self, clock):
        """The publication is older than the position at which the subscriber began."""
        broker = LateReader()
        hub, one = make_hub(clock, broker), Subscriber()
        hub.subscribe("foo", one, positioned=True)
        broker.requests["foo"].callback(None)
        broker.reads[0].callback(Page((), Position(1, "new")))
        clock.advance(0)
        hub.on_publication("foo", Publication(b"late", offset=7, epoch="old"))
        hub.on_publication("foo", Publication(b"plain"))
        broker.reads[1].callback(Page((), Position(1, "new")))
        hub.on_publication("foo", Publication(b"2", offset=2, epoch="new"))
        clock.advance(0)
        assert one.received == [(b"<plain><2>", 2, 6)]
        assert (one.gaps, len(broker.reads)) == ([], 2)

    def test_a_publication_missing_from_the_stream_is_reported_as_a_gap(self, clock):
        """Reading the stream again would not explain its offset."""
        broker = LateReader()
        hub, one = make_hub(clock, broker), Subscriber()
        hub.subscribe("foo", one, positioned=True)
        broker.requests["foo"].callback(None)
        broker.reads[0].callback(Page((), Position(1, "e")))
        clock.advance(0)
        hub.on_publication("foo", Publication(b"9", offset=9, epoch="e"))
        broker.reads[1].callback(Page((), Position(1, "e")))
        clock.advance(0)
        assert one.received == [(b"<9>", 1, 1)]
        assert (one.gaps, len(broker.reads)) == (["foo"], 2)

    def test_a_later_reader_does_not_move_the_position_of_an_earlier_one(self, clock):
        """The last subscriber without a position leaves between the two reads, before their publications arrive."""
        broker = LateReader()
        hub, plain, early, late = make_hub(clock, broker), Subscriber(), Subscriber(), Subscriber()
        hub.subscribe("foo", plain)
        broker.requests["foo"].callback(None)
        hub.subscribe("foo", early, positioned=True)
        hub.subscribe("foo", late, positioned=True)
        broker.reads[0].callback(Page((), Position(0, "e")))
        clock.advance(0)
        hub.unsubscribe("foo", plain)
        broker.reads[1].callback(Page((), Position(1, "e")))
        clock.advance(0)
        for offset in (1, 2):
            hub.on_publication("foo", Publication(b"%d" % offset, offset=offset, epoch="e"))
            clock.advance(0)
        assert [early.received, late.received] == [[(b"<1>", 1, 1), (b"<2>", 1, 1)], [(b"<2>", 1, 1)]]

    def test_a_publication_before_the_confirmation_does_not_set_the_position(self, clock):
        """Such a publication belongs to an earlier subscription of the broker."""
        broker = LateReader()
        hub, old, new, joined = make_hub(clock, broker), Subscriber(), Subscriber(), []
        hub.subscribe("foo", old)
        broker.requests["foo"].callback(None)
        hub.unsubscribe("foo", old)
        hub.subscribe("foo", new, since=Position(1, "e")).addCallback(joined.append)
        hub.on_publication("foo", Publication(b"1", offset=1, epoch="e"))
        broker.requests["foo"].callback(None)
        # It was published while there was no subscription.
        missed = Publication(b"2", offset=2, epoch="e")
        broker.reads[0].callback(Page((missed,), Position(2, "e")))
        assert joined == [(Position(2, "e"), (missed,), True, False)]
        hub.on_publication("foo", Publication(b"3", offset=3, epoch="e"))
        clock.advance(0)
        assert new.received == [(b"<3>", 1, 1)]

    def test_a_refused_subscriber_receives_nothing(self, clock):
        """A publication arrives before the refusal."""
        broker = LateReader()
        hub, one, failures = make_hub(clock, broker), Subscriber(), []
        hub.subscribe("foo", one).addErrback(failures.append)
        hub.on_publication("foo", Publication(b"x"))
        broker.requests["foo"].errback(BrokerDown("away"))
        clock.advance(0)
        assert len(failures) == 1
        assert one.received == []


class OutageTests:
    """The notices after an outage."""

    def test_sends_one_notice_and_then_the_recovered_publications(self, clock):
        broker = MemoryBroker(clock)
        hub, one = make_hub(clock, broker), Subscriber()
        hub.subscribe("foo", one)
        hub.publish("foo", b"1")
        clock.advance(0)
        listener = broker.listener
        broker.deliver_to(DropsEverything())
        hub.publish("foo", b"2")
        broker.deliver_to(listener)
        one.missed = lambda channel, stream: one.received.append((channel, stream))
        hub.on_reconnect()
        clock.advance(0)
        assert one.received == [(b"<1>", 1, 1), ("foo", False), (b"<2>", 1, 1)]

    def test_sends_one_notice_if_publications_cannot_be_recovered(self, clock):
        broker = MemoryBroker(clock)
        hub, one = make_hub(clock, broker), Subscriber()
        hub.subscribe("foo", one)
        hub.publish("foo", b"1")
        clock.advance(0)
        broker._streams.clear()
        broker._epoch = "another"
        one.missed = lambda channel, stream: one.received.append((channel, stream))
        hub.on_reconnect()
        clock.advance(0)
        assert one.received == [(b"<1>", 1, 1), ("foo", True)]
        assert hub.position("foo") == (0, "another")


class BufferTests:
    """The buffer for publications that arrive while a stream is read."""

    @pytest.mark.parametrize(("count", "size"), [(MAX_BUFFER_ITEMS, 1), (16, MAX_BUFFER_BYTES // 16)])
    def test_overflows_with_one_item_beyond_its_limits_and_drops_all(self, count, size):
        buffer = PublicationBuffer()
        for _ in range(count):
            buffer.add(Publication(b"x" * size))
        assert (len(buffer.items), buffer.overflowed) == (count, False)
        buffer.add(Publication(b"x"))
        buffer.add(Publication(b"x"))
        assert (buffer.items, buffer.overflowed) == ([], True)

    def test_an_overflow_while_a_gap_is_closed_is_reported_as_a_gap(self, clock, monkeypatch):
        """Publications after the gap are delivered."""
        monkeypatch.setattr("wsserver.hub.channel.MAX_BUFFER_ITEMS", 3)
        broker = LateReads(clock)
        hub, one = make_hub(clock, broker), Subscriber()
        hub.subscribe("foo", one)
        hub.on_publication("foo", Publication(b"1", 1, "e"))
        for offset in range(3, 8):
            hub.on_publication("foo", Publication(b"%d" % offset, offset, "e"))
        one.missed = lambda channel, stream: one.received.append((channel, stream))
        broker.reading.callback(Page((), Position(7, "e")))
        hub.on_publication("foo", Publication(b"8", 8, "e"))
        clock.advance(0)
        assert one.received == [(b"<1>", 1, 1), ("foo", True), (b"<8>", 1, 1)]


class LateReads(MemoryBroker):
    """A broker whose read of a stream the test completes."""

    def history(self, *_, **__):
        """Return a Deferred that the test fires."""
        self.reading = Deferred()
        return self.reading
