"""Who listens, and how a publication reaches them. All in memory."""

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


class Listener:
    """A subscriber that writes down what it is given."""

    def __init__(self, kind="raw"):
        self.kind = kind
        self.framed, self.got, self.gaps = [], [], []

    def frame(self, channel, publication):
        """Write a publication."""
        self.framed.append(publication.data)
        return b"<%s>" % publication.data

    def deliver(self, batch):
        """Take some."""
        self.got.append((batch.frames, batch.count, batch.size))

    def event_frame(self, channel, event):
        """Write that somebody came or left."""
        return b"(%s%s)" % (b"+" if event.join else b"-", event.info.client.encode())

    def missed(self, channel, stream):
        """Take note of a gap."""
        self.gaps.append(channel)


class SlowBroker(MemoryBroker):
    """A broker that confirms when it is told to."""

    def __init__(self):
        super().__init__(Clock())
        self.asked, self.left = {}, []

    def subscribe(self, channel):
        """Wait."""
        self.asked[channel] = Deferred()
        return self.asked[channel]

    def unsubscribe(self, channel):
        """Take note."""
        self.left.append(channel)


def make_hub(clock, broker=None):
    """Make a hub."""
    return hubs.make_hub(broker or MemoryBroker(clock), clock)


class FanOutTests:
    """From a publication to its listeners."""

    def test_one_write_a_turn(self, clock):
        """What is published in one turn is joined, and comes at its end, in order."""
        hub, one = make_hub(clock), Listener()
        hub.subscribe("foo", one)
        for data in (b"1", b"22", b"333"):
            hub.publish("foo", data)
        assert one.got == []
        clock.advance(0)
        assert one.got == [(b"<1><22><333>", 3, 6)]
        hub.publish("foo", b"4")
        clock.advance(0)
        assert one.got[1:] == [(b"<4>", 1, 1)]

    def test_framed_once_a_kind(self, clock):
        """A hundred listeners of two kinds: each publication is written twice."""
        hub = make_hub(clock)
        listeners = [Listener(kind) for kind in ("raw", "json") * 50]
        for one in listeners:
            hub.subscribe("foo", one)
        hub.publish("foo", b"x")
        clock.advance(0)
        assert sum(len(one.framed) for one in listeners) == 2
        assert {len(one.got) for one in listeners} == {1}

    def test_only_what_follows(self, clock):
        """Whoever comes gets what is published from then on, also within a turn."""
        hub, early, late = make_hub(clock), Listener(), Listener()
        hub.subscribe("foo", early)
        hub.publish("foo", b"before")
        hub.subscribe("foo", late)
        hub.publish("foo", b"after")
        clock.advance(0)
        assert b"".join(frames for frames, *_ in early.got) == b"<before><after>"
        assert [frames for frames, *_ in late.got] == [b"<after>"]

    def test_delivered(self, clock):
        """The publisher is told to how many it went here."""
        hub = make_hub(clock)
        told = []
        hub.publish("foo", b"x").addCallback(lambda receipt: told.append(receipt.delivered))
        hub.subscribe("foo", Listener())
        hub.subscribe("foo", Listener("json"))
        hub.publish("foo", b"x").addCallback(lambda receipt: told.append(receipt.delivered))
        assert told == [0, 2]
        assert hub.counts() == {"foo": 2}
        clock.advance(0)

    def test_one_fails(self, clock, capsys):
        """A listener that fails does not stop the others."""
        hub, bad, good = make_hub(clock), Listener(), Listener()
        bad.deliver = None
        hub.subscribe("foo", bad)
        hub.subscribe("foo", good)
        hub.publish("foo", b"x")
        clock.advance(0)
        assert good.got == [(b"<x>", 1, 1)]

    def test_one_leaves_meanwhile(self, clock):
        """A listener may leave, and take another one with it, while it is given something."""
        hub, one, other = make_hub(clock), Listener(), Listener()
        one.deliver = lambda *_: [hub.unsubscribe("foo", listener) for listener in (one, other)]
        hub.subscribe("foo", one)
        hub.subscribe("foo", other)
        hub.publish("foo", b"x")
        clock.advance(0)
        assert hub.counts() == {}

    def test_a_whole_kind_leaves_meanwhile(self, clock):
        """So may all listeners of another kind."""
        hub, one, other, third = make_hub(clock), Listener("a"), Listener("b"), Listener("c")
        for listener in (one, other, third):
            hub.subscribe("foo", listener)
        one.deliver = lambda *_: hub.unsubscribe("foo", other)
        hub.publish("foo", b"x")
        clock.advance(0)
        assert other.got == []
        assert third.got == [(b"<x>", 1, 1)]


class SubscribingTests:
    """Coming and going."""

    def test_asked_once(self, clock):
        """The broker is asked once a channel, and everyone waits for its answer."""
        broker = SlowBroker()
        hub, told = make_hub(clock, broker), []
        for number in range(3):
            hub.subscribe("foo", Listener()).addCallback(lambda _, number=number: told.append(number))
        assert told == []
        broker.asked["foo"].callback(None)
        assert told == [0, 1, 2]

    def test_the_last_one_leaves(self, clock):
        """The broker is told when nobody listens any more; leaving twice is no mistake."""
        broker = SlowBroker()
        hub, one, other = make_hub(clock, broker), Listener(), Listener("json")
        hub.subscribe("foo", one)
        hub.subscribe("foo", other)
        hub.unsubscribe("foo", one)
        assert broker.left == []
        for _ in range(2):
            hub.unsubscribe("foo", other)
        assert broker.left == ["foo"]

    def test_refused(self, clock):
        """Where the broker cannot, everyone who waits is told, and nothing is left."""
        broker, failures = SlowBroker(), []
        hub = make_hub(clock, broker)
        for _ in range(2):
            hub.subscribe("foo", Listener()).addErrback(failures.append)
        broker.asked["foo"].errback(BrokerDown("away"))
        assert [failure.check(BrokerDown) for failure in failures] == [BrokerDown, BrokerDown]
        assert hub.counts() == {}

    def test_interrupted(self, clock):
        """After an outage every listener is told, after what came before it."""
        hub, one = make_hub(clock), Listener()
        hub.subscribe("foo", one)
        hub.on_publication("foo", Publication(b"before"))
        one.missed = lambda channel, stream: one.got.append((channel, stream))
        hub.on_reconnect()
        assert one.got == [(b"<before>", 1, 6), ("foo", True)]
        clock.advance(0)


class LateReader(SlowBroker):
    """A broker whose streams are read when it is told to."""

    def __init__(self):
        super().__init__()
        self.reads = []

    def history(self, *_, **__):
        """Wait."""
        self.reads.append(Deferred())
        return self.reads[-1]


class StreamTests:
    """Where subscribers stand in a stream."""

    def test_framed_once_for_those_on_their_own(self, clock):
        """What has no offset is written once a kind for those, too, who cannot stand where the others do."""
        broker = LateReader()
        hub, plain = make_hub(clock, broker), Listener()
        others = [Listener("json") for _ in range(5)]
        hub.subscribe("foo", plain)
        broker.asked["foo"].callback(None)
        for one in others:
            hub.subscribe("foo", one, positioned=True)
        for read in broker.reads:
            read.callback(Page((), Position(3, "e")))
        clock.advance(0)
        hub.on_publication("foo", Publication(b"x"))
        clock.advance(0)
        assert [one.got for one in (plain, *others)] == [[(b"<x>", 1, 1)]] * 6
        assert sum(len(one.framed) for one in others) == 1

    def test_leaves_at_a_gap(self, clock):
        """Whoever leaves because of a gap is not given what comes after it: it would count on from there."""
        broker = LateReader()
        hub, one = make_hub(clock, broker), Listener()
        one.missed = lambda channel, stream: hub.unsubscribe(channel, one)
        hub.subscribe("foo", one, positioned=True)
        broker.asked["foo"].callback(None)
        broker.reads[0].callback(Page((), Position(3, "e")))
        hub.on_publication("foo", Publication(b"other", offset=1, epoch="f"))
        clock.advance(0)
        assert hub.counts() == {}
        assert one.got == []

    def test_gap_of_those_before(self, clock):
        """What was held for those who have left meanwhile is not given to who has come."""
        broker = LateReader()
        hub, old, new = make_hub(clock, broker), Listener(), Listener()
        hub.subscribe("foo", old)
        broker.asked["foo"].callback(None)
        hub.on_publication("foo", Publication(b"1", offset=1, epoch="e"))
        hub.on_publication("foo", Publication(b"3", offset=3, epoch="e"))
        hub.unsubscribe("foo", old)
        hub.subscribe("foo", new)
        broker.asked["foo"].callback(None)
        broker.reads[0].errback(BrokerDown("away"))
        clock.advance(0)
        assert (new.got, new.gaps) == ([], [])

    def test_a_late_publication_of_a_flushed_stream_holds_up_nothing(self, clock):
        """It was published before the position at which the subscriber began: it is dropped after a single read."""
        broker = LateReader()
        hub, one = make_hub(clock, broker), Listener()
        hub.subscribe("foo", one, positioned=True)
        broker.asked["foo"].callback(None)
        broker.reads[0].callback(Page((), Position(1, "new")))
        clock.advance(0)
        hub.on_publication("foo", Publication(b"late", offset=7, epoch="old"))
        hub.on_publication("foo", Publication(b"plain"))
        broker.reads[1].callback(Page((), Position(1, "new")))
        hub.on_publication("foo", Publication(b"2", offset=2, epoch="new"))
        clock.advance(0)
        assert one.got == [(b"<plain><2>", 2, 6)]
        assert (one.gaps, len(broker.reads)) == ([], 2)

    def test_a_publication_that_the_stream_never_contained_is_told_as_a_gap(self, clock):
        """Nothing explains its offset, and reading again would not either."""
        broker = LateReader()
        hub, one = make_hub(clock, broker), Listener()
        hub.subscribe("foo", one, positioned=True)
        broker.asked["foo"].callback(None)
        broker.reads[0].callback(Page((), Position(1, "e")))
        clock.advance(0)
        hub.on_publication("foo", Publication(b"9", offset=9, epoch="e"))
        broker.reads[1].callback(Page((), Position(1, "e")))
        clock.advance(0)
        assert one.got == [(b"<9>", 1, 1)]
        assert (one.gaps, len(broker.reads)) == (["foo"], 2)

    def test_a_later_reader_does_not_move_the_position_of_an_earlier_one(self, clock):
        """The last subscriber without a position leaves between their reads, and a publication is still on its way."""
        broker = LateReader()
        hub, plain, early, late = make_hub(clock, broker), Listener(), Listener(), Listener()
        hub.subscribe("foo", plain)
        broker.asked["foo"].callback(None)
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
        assert [early.got, late.got] == [[(b"<1>", 1, 1), (b"<2>", 1, 1)], [(b"<2>", 1, 1)]]

    def test_comes_late(self, clock):
        """What was still on its way from a subscription that was given up says nothing about where the next begins."""
        broker = LateReader()
        hub, old, new, joined = make_hub(clock, broker), Listener(), Listener(), []
        hub.subscribe("foo", old)
        broker.asked["foo"].callback(None)
        hub.unsubscribe("foo", old)
        hub.subscribe("foo", new, since=Position(1, "e")).addCallback(joined.append)
        hub.on_publication("foo", Publication(b"1", offset=1, epoch="e"))
        broker.asked["foo"].callback(None)
        # The second was published while nobody was subscribed.
        missed = Publication(b"2", offset=2, epoch="e")
        broker.reads[0].callback(Page((missed,), Position(2, "e")))
        assert joined == [(Position(2, "e"), (missed,), True, False)]
        hub.on_publication("foo", Publication(b"3", offset=3, epoch="e"))
        clock.advance(0)
        assert new.got == [(b"<3>", 1, 1)]

    def test_comes_too_early(self, clock):
        """Whoever is refused is given nothing, though something came before that."""
        broker = LateReader()
        hub, one, failures = make_hub(clock, broker), Listener(), []
        hub.subscribe("foo", one).addErrback(failures.append)
        hub.on_publication("foo", Publication(b"x"))
        broker.asked["foo"].errback(BrokerDown("away"))
        clock.advance(0)
        assert len(failures) == 1
        assert one.got == []


class OutageTests:
    """What is told after an outage, and how often."""

    def test_once(self, clock):
        """One notice, when it is known what is missing; what is not comes after it."""
        broker = MemoryBroker(clock)
        hub, one = make_hub(clock, broker), Listener()
        hub.subscribe("foo", one)
        hub.publish("foo", b"1")
        clock.advance(0)
        listener = broker.listener
        broker.deliver_to(DropsEverything())
        hub.publish("foo", b"2")
        broker.deliver_to(listener)
        one.missed = lambda channel, stream: one.got.append((channel, stream))
        hub.on_reconnect()
        clock.advance(0)
        assert one.got == [(b"<1>", 1, 1), ("foo", False), (b"<2>", 1, 1)]

    def test_lost(self, clock):
        """What is not to be had is told by the same one notice."""
        broker = MemoryBroker(clock)
        hub, one = make_hub(clock, broker), Listener()
        hub.subscribe("foo", one)
        hub.publish("foo", b"1")
        clock.advance(0)
        broker._streams.clear()
        broker._epoch = "another"
        one.missed = lambda channel, stream: one.got.append((channel, stream))
        hub.on_reconnect()
        clock.advance(0)
        assert one.got == [(b"<1>", 1, 1), ("foo", True)]
        assert hub.position("foo") == (0, "another")


class HeldTests:
    """What waits while a stream is read has a bound."""

    @pytest.mark.parametrize(("count", "size"), [(MAX_BUFFER_ITEMS, 1), (16, MAX_BUFFER_BYTES // 16)])
    def test_bounded(self, count, size):
        """In number and in bytes; with one more nothing is kept, and that is known."""
        buffer = PublicationBuffer()
        for _ in range(count):
            buffer.add(Publication(b"x" * size))
        assert (len(buffer.items), buffer.overflowed) == (count, False)
        buffer.add(Publication(b"x"))
        buffer.add(Publication(b"x"))
        assert (buffer.items, buffer.overflowed) == ([], True)

    def test_told(self, clock, monkeypatch):
        """Too much while a gap is closed: it is told as lost, and what follows is given."""
        monkeypatch.setattr("wsserver.hub.channel.MAX_BUFFER_ITEMS", 3)
        broker = LateReads(clock)
        hub, one = make_hub(clock, broker), Listener()
        hub.subscribe("foo", one)
        hub.on_publication("foo", Publication(b"1", 1, "e"))
        for offset in range(3, 8):
            hub.on_publication("foo", Publication(b"%d" % offset, offset, "e"))
        one.missed = lambda channel, stream: one.got.append((channel, stream))
        broker.reading.callback(Page((), Position(7, "e")))
        hub.on_publication("foo", Publication(b"8", 8, "e"))
        clock.advance(0)
        assert one.got == [(b"<1>", 1, 1), ("foo", True), (b"<8>", 1, 1)]


class LateReads(MemoryBroker):
    """A broker that reads when it is told to."""

    def history(self, *_, **__):
        """Wait."""
        self.reading = Deferred()
        return self.reading
