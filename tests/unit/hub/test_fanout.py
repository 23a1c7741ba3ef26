"""The fan-out: the loop over subscribers, in Python and compiled, and its distribution over several turns."""

import random

import pytest
from hubs import make_hub
from twisted.internet.task import Clock

from wsserver.hub.clients import ClientInfo
from wsserver.hub.deliveries import BYTES_PER_WRITE
from wsserver.hub.delta import DeltaKind
from wsserver.hub.fanout import MAX_JOBS, FanOut
from wsserver.hub.filters import FilteredKind, parse_conditions
from wsserver.hub.memory import MemoryBroker
from wsserver.hub.presence import PresenceEvent
from wsserver.hub.publication import Publication
from wsserver.hub.rules import Rule, Rules
from wsserver.wire import fastpath, frames
from wsserver.wire.fastpath import CLOSED, CONNECTING, OPEN, Feed

WRITERS = {"python": fastpath.py_write_all}
if frames.COMPILED:
    WRITERS["compiled"] = frames.SPEEDUPS.write_all


class Connection(fastpath.FastPath):
    """A connection that is its own transport, and records what is written."""

    maxMessagePayloadSize = 1000

    def __init__(self):
        super().__init__()
        self.transport = self
        self.state, self._writable = OPEN, True
        self.written = []

    def write(self, data):
        """Record bytes."""
        self.written.append(data)


class Stream(fastpath.Output):
    """An endless HTTP response that is its own transport."""

    def __init__(self):
        super().__init__()
        self.transport, self.written = self, []

    write = Connection.write


class Subscription(Feed):
    """A subscriber whose frames are written to its connection."""

    __slots__ = ()


def broken(*_):
    """Raise an OSError."""
    raise OSError("broken")


@pytest.fixture(params=WRITERS)
def write_all(request):
    """Return the loop, in Python or compiled: it returns the subscribers not written to, and those that failed."""

    def call(*subscribers, data=b"<x>", count=2, size=10):
        failed = []
        return WRITERS[request.param](list(subscribers), data, count, size, failed.append), failed

    return call


class WriteAllTests:
    """`write_all`."""

    def test_writes_to_ready_connections_and_counts_messages_and_bytes(self, write_all):
        one, two = Connection(), Connection()
        assert write_all(one, Subscription(two)) == ([], [])
        for each in (one, two):
            assert each.written == [b"<x>"]
            assert (each.messages_out, each.bytes_out) == (2, 10)

    @pytest.mark.parametrize("state", [CLOSED, CONNECTING, 2])
    def test_returns_a_connection_that_is_not_open(self, write_all, state):
        one = Connection()
        one.state = state
        assert write_all(one) == ([one], [])
        assert one.written == []
        assert one.messages_out == 0

    def test_returns_a_connection_that_is_not_writable(self, write_all):
        """If the subscriber is a `Feed`, the feed is returned, not its connection."""
        one = Connection()
        one._writable = False
        subscription = Subscription(one)
        assert write_all(one, subscription) == ([one, subscription], [])

    def test_returns_a_connection_with_corked_answers(self, write_all):
        """If the publication were written directly, it would overtake the answers."""
        one = Connection()
        one._cork = []
        assert write_all(one) == ([one], [])

    def test_writes_to_an_http_response_only_if_it_is_writable(self, write_all):
        one, two = Stream(), Stream()
        one._writable = True
        assert write_all(one, two) == ([two], [])
        assert (one.written, two.written) == ([b"<x>"], [])

    def test_returns_a_subscriber_without_a_connection(self, write_all):
        one, two = object(), Subscription(None)
        assert write_all(one, two) == ([one, two], [])

    def test_a_raising_transport_is_reported_and_the_next_is_served(self, write_all):
        bad, good = Connection(), Connection()
        bad.write = broken
        assert write_all(bad, good) == ([], [bad])
        assert good.written == [b"<x>"]

    def test_writes_in_the_order_of_the_subscribers(self, write_all):
        order = []
        ones = [Connection() for _ in range(3)]
        for number, one in enumerate(ones):
            one.write = lambda data, number=number: order.append(number)
        ones[1]._writable = False
        assert write_all(*ones) == ([ones[1]], [])
        assert order == [0, 2]


class Subscriber:
    """A subscriber that records what is delivered."""

    def __init__(self, kind="raw", log=None):
        self.kind, self.received = kind, [] if log is None else log
        self.bad = None

    def frame(self, channel, publication):
        """Frame a publication."""
        if publication.data == self.bad:
            raise ValueError("cannot be written")
        return b"<%s>" % publication.data

    def event_frame(self, channel, event):
        """Frame an event for the kind `watcher`; other kinds receive no events."""
        return b"(+)" if self.kind == "watcher" else b""

    def deliver(self, batch):
        """Record the contents of a batch."""
        self.received.append((batch.frames, batch.count, batch.size))

    def missed(self, channel, stream):
        """Record a gap."""
        self.received.append(("missed", channel, stream))


class BatchSubscriber(Subscriber):
    """A subscriber that records whole batches."""

    def deliver(self, batch):
        """Record a batch."""
        self.received.append(batch)


class Turns:
    """
    A reactor that runs calls in the turn after the one that scheduled them.

    Twisted's `Clock` would run them in the same turn.
    """

    def __init__(self):
        self.calls = []

    def callLater(self, delay, function, *arguments):
        """Record a call."""
        assert delay == 0
        self.calls.append((function, arguments))

    def turn(self):
        """Run a turn; return whether there were any calls."""
        calls, self.calls = self.calls, []
        for function, arguments in calls:
            function(*arguments)
        return bool(calls)


def kinds(*subscribers):
    """Return the subscribers by kind."""
    found = {}
    for one in subscribers:
        found.setdefault(one.kind, {})[one] = None
    return found


def filtered(kind, condition):
    """Return the kind of a subscriber with a filter."""
    return FilteredKind(kind, parse_conditions([condition], "filter"))


def tagged(*numbers):
    """Make publications of numbers, with the number as the tag `n`."""
    return [Publication(b"%d" % number, tags={"n": str(number)}) for number in numbers]


def publications(*texts):
    """Make publications."""
    return [Publication(text) for text in texts]


class FilterTests:
    """Subscribers with a filter."""

    def test_receives_only_publications_that_match_and_all_events(self):
        """`newest` is the newest publication that matches. Without one, there is no batch at all."""
        event = PresenceEvent(True, ClientInfo("c"))
        one, two = (BatchSubscriber(filtered("watcher", f"n:eq:{n}")) for n in "13")
        one.event_frame = two.event_frame = lambda channel, event: b"(+)"
        fan_out = FanOut(Clock())
        fan_out.publish("foo", kinds(one, two), [*tagged(1, 2), event, *tagged(1, 2)])
        assert [(each.frames, each.count, each.size) for each in one.received] == [(b"<1>(+)<1>", 3, 5)]
        assert one.received[0].newest == (b"<1>", 1)
        assert [(each.frames, each.count) for each in two.received] == [(b"(+)", 1)]
        fan_out.publish("foo", kinds(one, two), tagged(2))
        assert [len(one.received), len(two.received)] == [1, 1]

    def test_a_publication_without_tags_matches_no_value(self):
        one, two = Subscriber(filtered("raw", "n:eq:1")), Subscriber(filtered("raw", "n:neq:1"))
        FanOut(Clock()).publish("foo", kinds(one, two), publications(b"x"))
        assert (one.received, two.received) == ([], [(b"<x>", 1, 1)])

    def test_evaluates_each_filter_once_and_encodes_each_publication_once_for_all_of_them(self):
        """Subscribers of another kind have frames of their own."""
        encoded, evaluated = [], []

        class Counting(Subscriber):
            def frame(self, channel, publication):
                encoded.append((self.kind.kind, publication.data))
                return super().frame(channel, publication)

        class Tags(dict):
            def get(self, *arguments):
                evaluated.append(arguments)
                return super().get(*arguments)

        ones = [Counting(filtered(kind, f"n:gt:{n}")) for kind in "ab" for n in range(3) for _ in range(4)]
        wanted = [Publication(b"%d" % n, tags=Tags(n=str(n))) for n in (1, 2, 3)]
        FanOut(Clock()).publish("foo", kinds(*ones), wanted)
        assert sorted(encoded) == [(kind, b"%d" % n) for kind in "ab" for n in (1, 2, 3)]
        assert len(evaluated) == 2 * 3 * 3
        assert [one.received for one in ones[::4]] == 2 * [
            [(b"<1><2><3>", 3, 3)],
            [(b"<2><3>", 2, 2)],
            [(b"<3>", 1, 1)],
        ]

    def test_a_publication_that_cannot_be_encoded_is_missing_only_where_it_matches(self):
        one, two, other = (Subscriber(filtered("raw", f"n:{rest}")) for rest in ("eq:2", "ex", "eq:1"))
        for each in (one, two, other):
            each.bad = b"2"
        FanOut(Clock()).publish("foo", kinds(one, two, other), tagged(1, 2))
        assert one.received == [("missed", "foo", True)]
        assert two.received == [(b"<1>", 1, 1), ("missed", "foo", True)]
        assert other.received == [(b"<1>", 1, 1)]

    def test_many_filters_are_evaluated_over_several_turns_in_order(self):
        """Also if the turn ends between two subscribers with the same filter."""
        reactor, log = Turns(), []
        ones = [Subscriber(filtered("raw", f"n:nin:{n // 3}")) for n in range(24)]
        for number, one in enumerate(ones):
            one.deliver = lambda batch, number=number: log.append((batch.frames, number))
        fan_out = FanOut(reactor, budget=10)
        for number in (1, 2):
            fan_out.publish("foo", kinds(*ones), tagged(number))
        assert len(log) <= 10
        before = len(log)
        while reactor.turn():
            assert len(log) - before <= 10
            before = len(log)
        assert log == [(b"<%d>" % n, place) for n in (1, 2) for place in range(24) if place // 3 != n]

    @pytest.mark.parametrize(("values", "turns"), [(1, 7), (1000, 100)])
    def test_a_turn_has_fewer_subscribers_if_there_is_more_to_evaluate(self, values, turns):
        """100 publications, and filters with few or many values."""
        reactor = Turns()
        text = ",".join(map(str, range(10, 10 + values)))
        ones = [Subscriber(filtered("raw", f"n:in:{n},{text}")) for n in range(1000, 1100)]
        FanOut(reactor, budget=100).publish("foo", kinds(*ones), tagged(*range(1000, 1100)))
        passed = 0
        while reactor.turn():
            passed += 1
        assert passed == turns - 1
        assert [len(one.received) for one in ones] == [1] * 100

    def test_a_turn_has_fewer_subscribers_if_each_filter_needs_deltas_of_its_own(self):
        """With different filters, the bases are different."""
        reactor = Turns()
        ones = [DeltaSubscriber() for _ in range(10)]
        for number, one in enumerate(ones):
            one.kind = filtered(one.kind, f"n:nin:{number}")
        large = Publication(b"x" * 10_000)
        FanOut(reactor, budget=100).publish("foo", kinds(*ones), [large])
        passed = 0
        while reactor.turn():
            passed += 1
        assert passed == 1
        assert [len(one.received) for one in ones] == [1] * 10

    def test_a_subscriber_that_leaves_between_two_turns_receives_nothing_more(self):
        reactor = Turns()
        ones = [Subscriber(filtered("raw", f"n:nin:{n}")) for n in range(3)]
        fan_out = FanOut(reactor, budget=1)
        fan_out.publish("foo", kinds(*ones), tagged(7))
        fan_out.left("foo", ones[1])
        while reactor.turn():
            pass
        assert [len(one.received) for one in ones] == [1, 0, 1]

    def test_subscribers_without_a_filter_are_served_as_before(self):
        one, two = Subscriber(), Subscriber(filtered("raw", "n:eq:2"))
        FanOut(Clock()).publish("foo", kinds(one, two), tagged(1, 2))
        assert (one.received, two.received) == ([(b"<1><2>", 2, 2)], [(b"<2>", 1, 1)])


class DeltaSubscriber(Subscriber):
    """A subscriber that receives deltas. A frame is the data, and the data of the base."""

    encoded: list[bytes] = []

    def __init__(self, kind="delta"):
        super().__init__(DeltaKind(kind))
        self.base = None

    def delta_frame(self, channel, publication, base):
        """Frame a publication."""
        frame = self.frame(channel, publication)[:-1] + b"-%b>" % (base.data if base is not None else b"")
        self.encoded.append(frame)
        return frame

    def frames(self):
        """Return what was received, joined."""
        return b"".join(one[0] for one in self.received)


class DeltaTests:
    """Subscribers that receive deltas."""

    @pytest.fixture(autouse=True)
    def _count_from_zero(self):
        DeltaSubscriber.encoded.clear()

    def test_each_publication_is_encoded_once_for_all_that_have_the_same_base(self):
        fan_out, ones = FanOut(Clock()), [DeltaSubscriber() for _ in range(20)]
        fan_out.publish("foo", kinds(*ones[:10]), publications(b"1"))
        for number in (2, 3):
            fan_out.publish("foo", kinds(*ones), publications(b"%d" % number))
        assert {one.frames() for one in ones[:10]} == {b"<1-><2-1><3-2>"}
        assert {one.frames() for one in ones[10:]} == {b"<2-><3-2>"}
        assert DeltaSubscriber.encoded == [b"<1->", b"<2-1>", b"<2->", b"<3-2>"]

    def test_publications_of_one_turn_are_a_chain_and_have_complete_frames_too(self):
        one = DeltaSubscriber()
        batches = []
        one.deliver = batches.append
        FanOut(Clock()).publish("foo", kinds(one), publications(b"1", b"2"))
        assert batches[0].frames == b"<1-><2-1>"
        plain = batches[0].plain()
        assert (plain.frames, plain.newest, plain.count, plain.plain) == (b"<1-><2->", (b"<2->", 1), 2, None)
        assert batches[0].plain() is plain

    def test_a_publication_that_cannot_be_encoded_is_no_base(self):
        one = DeltaSubscriber()
        one.bad = b"2"
        FanOut(Clock()).publish("foo", kinds(one), publications(b"1", b"2", b"3"))
        assert one.received == [(b"<1-><3-1>", 2, 2), ("missed", "foo", True)]

    def test_only_the_publications_that_match_a_filter_are_bases(self):
        one = DeltaSubscriber()
        one.kind = FilteredKind(one.kind, parse_conditions(["n:neq:2"], "filter"))
        fan_out = FanOut(Clock())
        for number in (1, 2, 3):
            fan_out.publish("foo", kinds(one), tagged(number))
        assert one.frames() == b"<1-><3-1>"

    def test_events_change_no_base(self):
        one = DeltaSubscriber()
        fan_out = FanOut(Clock())
        for items in (publications(b"1"), [PresenceEvent(True, ClientInfo("c"))], publications(b"2")):
            fan_out.publish("foo", kinds(one), items)
        assert one.frames() == b"<1-><2-1>"

    def test_the_base_is_what_was_received_also_if_deliveries_wait(self):
        """Subscribers come and lose what they had while deliveries are spread over several turns."""
        rng = random.Random(1)
        reactor, ones = Turns(), []
        fan_out = FanOut(reactor, budget=3)
        for number in range(1, 60):
            ones += [DeltaSubscriber()] * (rng.random() < 0.3)
            fan_out.publish("foo", kinds(*ones), publications(b"%d" % number))
            if rng.random() < 0.7:
                reactor.turn()
            if ones and rng.random() < 0.3:
                lost = rng.choice(ones)
                lost.base = None
                lost.received.append((b"<->", 0, 0))
        while reactor.turn():
            pass
        for one in ones:
            before = b""
            for frame, *_ in one.received:
                text, base = frame[1:-1].split(b"-")
                assert base == (before if text else b"")
                before = text


class FanOutTests:
    """`FanOut`."""

    def test_a_batch_has_its_newest_publication_separately_too(self):
        one = BatchSubscriber()
        FanOut(Clock()).publish("foo", kinds(one), publications(b"1", b"22"))
        batch = one.received[0]
        assert (batch.channel, batch.frames, batch.count, batch.size) == ("foo", b"<1><22>", 2, 3)
        assert batch.newest == (b"<22>", 2)

    def test_a_kind_without_event_frames_receives_only_publications(self):
        """For the kind `watcher`, events keep their place among the publications. `newest` is never an event."""
        watcher, other = BatchSubscriber("watcher"), BatchSubscriber()
        event = PresenceEvent(True, ClientInfo("c"))
        fan_out = FanOut(Clock())
        fan_out.publish("foo", kinds(watcher, other), [event, *publications(b"1"), event])
        assert (watcher.received[0].frames, watcher.received[0].count) == (b"(+)<1>(+)", 3)
        assert watcher.received[0].newest == (b"<1>", 1)
        assert other.received[0].frames == b"<1>"
        fan_out.publish("foo", kinds(watcher, other), [event])
        assert watcher.received[1].newest is None
        assert len(other.received) == 1

    def test_a_publication_that_cannot_be_framed_is_reported_as_missing(self):
        """The other publications, and subscribers of other kinds, are not affected."""
        bad, good = Subscriber("bad"), Subscriber("good")
        bad.bad = b"2"
        FanOut(Clock()).publish("foo", kinds(bad, good), publications(b"1", b"2", b"3"))
        assert bad.received == [(b"<1><3>", 2, 2), ("missed", "foo", True)]
        assert good.received == [(b"<1><2><3>", 3, 3)]

    def test_many_subscribers_are_served_over_several_turns_in_order(self):
        """No subscriber is served twice."""
        reactor, log = Turns(), []
        ones = [Subscriber(log=log) for _ in range(25)]
        for number, one in enumerate(ones):
            one.deliver = lambda batch, number=number: log.append((batch.frames, number))
        fan_out = FanOut(reactor, budget=10)
        fan_out.publish("foo", kinds(*ones), publications(b"1"))
        assert len(log) == 10
        fan_out.publish("foo", kinds(*ones), publications(b"2"))
        assert len(log) == 10
        before = 10
        while reactor.turn():
            assert len(log) - before <= 10
            before = len(log)
        assert log == [(b"<1>", n) for n in range(25)] + [(b"<2>", n) for n in range(25)]

    def test_large_publications_use_up_the_budget_of_a_turn_sooner(self):
        """If large publications counted like small ones, they would delay all other connections of the process."""
        reactor, ones = Turns(), [Subscriber() for _ in range(10)]
        fan_out = FanOut(reactor, budget=8)
        fan_out.publish("foo", kinds(*ones), publications(b"x" * 3 * BYTES_PER_WRITE))
        assert [len(one.received) for one in ones] == [1, 1] + [0] * 8
        for turn in range(2, 6):
            reactor.turn()
            assert sum(len(one.received) for one in ones) == 2 * turn
        huge = publications(b"x" * 100 * BYTES_PER_WRITE)
        fan_out.publish("foo", kinds(*ones), huge)
        for _ in range(10):
            reactor.turn()
        assert {len(one.received) for one in ones} == {2}

    def test_a_subscriber_that_leaves_before_its_turn_receives_nothing(self):
        """The subscriber receives publications only after subscribing again. Leaving another channel has no effect."""
        reactor = Turns()
        ones = [Subscriber() for _ in range(4)]
        fan_out = FanOut(reactor, budget=2)
        fan_out.publish("foo", kinds(*ones), publications(b"1"))
        fan_out.left("foo", ones[2])
        fan_out.left("bar", ones[3])
        reactor.turn()
        assert [len(one.received) for one in ones] == [1, 1, 0, 1]
        fan_out.publish("foo", kinds(*ones), publications(b"2"))
        while reactor.turn():
            pass
        assert ones[2].received == [(b"<2>", 1, 1)]

    def test_a_gap_notice_keeps_its_place_between_publications(self):
        reactor = Turns()
        ones = [Subscriber() for _ in range(3)]
        fan_out = FanOut(reactor, budget=2)
        fan_out.publish("foo", kinds(*ones), publications(b"1"))
        fan_out.missed("foo", ones, stream=True)
        fan_out.publish("foo", kinds(*ones), publications(b"2"))
        for _ in range(10):
            reactor.turn()
        for one in ones:
            assert one.received == [(b"<1>", 1, 1), ("missed", "foo", True), (b"<2>", 1, 1)]

    def test_beyond_max_jobs_the_oldest_job_is_finished_at_once(self):
        """The number of queued jobs is therefore limited."""
        reactor = Turns()
        ones = [Subscriber() for _ in range(100)]
        fan_out = FanOut(reactor, budget=1)
        for number in range(MAX_JOBS + 10):
            fan_out.publish("foo", kinds(*ones), publications(b"%d" % number))
            assert len(fan_out._jobs) <= MAX_JOBS
        assert len(ones[-1].received) == 10

    def test_a_publication_by_a_subscriber_reaches_all_after_the_current_one(self):
        one, two = Subscriber(), Subscriber()
        fan_out = FanOut(Clock())
        taken = one.deliver

        def cause(*arguments):
            taken(*arguments)
            if len(one.received) == 1:
                fan_out.publish("foo", kinds(one, two), publications(b"2"))

        one.deliver = cause
        fan_out.publish("foo", kinds(one, two), publications(b"1"))
        assert one.received == two.received == [(b"<1>", 1, 1), (b"<2>", 1, 1)]

    def test_a_revoked_permission_reaches_the_others_if_one_subscriber_raises(self):
        bad, good = Subscriber(), Subscriber()
        bad.on_permission_revoked, good.on_permission_revoked = broken, good.received.append
        FanOut(Clock()).on_permission_revoked("foo", [bad, good])
        assert good.received == ["foo"]

    def test_a_kind_whose_last_subscriber_has_left_is_skipped(self):
        """The subscriber leaves during the delivery to another kind."""
        one, two = Subscriber("a"), Subscriber("b")
        by_kind = kinds(one, two)
        one.deliver = lambda *_: by_kind["b"].clear()
        FanOut(Clock()).publish("foo", by_kind, publications(b"1"))
        assert two.received == []

    def test_a_raising_subscriber_does_not_stop_the_others(self):
        """The other subscribers receive their publications and gap notices."""
        bad, good = Subscriber(), Subscriber()
        bad.deliver = bad.missed = broken
        fan_out = FanOut(Clock())
        fan_out.publish("foo", kinds(bad, good), publications(b"1"))
        fan_out.missed("foo", [bad, good], stream=False)
        assert good.received == [(b"<1>", 1, 1), ("missed", "foo", False)]


class Reader:
    """A subscriber that records what it has received since it last subscribed."""

    kind = "raw"

    def __init__(self):
        self.received = []

    def frame(self, channel, publication):
        """Frame a publication."""
        return publication.data + b";"

    def deliver(self, batch):
        """Record the publications of a batch."""
        self.received += batch.frames.split(b";")[:-1]


class HubTests:
    """The hub with a budget so small that batches are nearly always queued."""

    @pytest.mark.parametrize("seed", range(30))
    def test_a_subscriber_receives_each_publication_since_it_subscribed_once_in_order(self, seed):
        """Subscribers join and leave at random."""
        rng, reactor = random.Random(seed), Turns()
        hub = make_hub(MemoryBroker(Clock()), reactor, Rules(Rule(history_size=0)))
        hub._fan_out._budget = rng.choice([1, 3, 10])
        published = 0
        present, absent = {}, [Reader() for _ in range(12)]
        for _ in range(400):
            action = rng.random()
            if action < 0.3 and absent:
                one = absent.pop(rng.randrange(len(absent)))
                one.received = []
                present[one] = published
                hub.subscribe("foo", one)
            elif action < 0.4 and present:
                one = rng.choice(list(present))
                hub.unsubscribe("foo", one)
                expected = [b"%d" % number for number in range(present.pop(one), published)]
                assert one.received == expected[: len(one.received)]
                received_before = list(one.received)
                absent.append(one)
                reactor.turn()
                assert one.received == received_before
            elif action < 0.7:
                reactor.turn()
            else:
                hub.publish("foo", b"%d" % published)
                published += 1
        while reactor.turn():
            pass
        for one, since in present.items():
            assert one.received == [b"%d" % number for number in range(since, published)]
