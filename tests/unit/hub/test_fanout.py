"""The fan-out: the loop over subscribers, in both twins, and how very many are served in turns."""

import random

import pytest
from hubs import make_hub
from twisted.internet.task import Clock

from wsserver.hub.clients import ClientInfo
from wsserver.hub.fanout import BYTES_PER_WRITE, MAX_JOBS, FanOut
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
    """A connection that is its own transport, and takes all that is written."""

    maxMessagePayloadSize = 1000

    def __init__(self):
        super().__init__()
        self.transport = self
        self.state, self._writable = OPEN, True
        self.written = []

    def write(self, data):
        """Take bytes."""
        self.written.append(data)


class Stand(Feed):
    """What stands for a connection on a channel."""

    __slots__ = ()


def broken(*_):
    """Fail."""
    raise OSError("broken")


@pytest.fixture(params=WRITERS)
def write_all(request):
    """Return one twin's loop: it tells who was left to others, and who has failed."""

    def call(*subscribers, data=b"<x>", count=2, size=10):
        others, failed = [], []
        WRITERS[request.param](list(subscribers), data, count, size, others.append, failed.append)
        return others, failed

    return call


class HandTests:
    """`write_all`."""

    def test_written_and_counted(self, write_all):
        """Whoever is ready is written to, and its messages and bytes are counted."""
        one, two = Connection(), Connection()
        assert write_all(one, Stand(two)) == ([], [])
        for each in (one, two):
            assert each.written == [b"<x>"]
            assert (each.messages_out, each.bytes_out) == (2, 10)

    @pytest.mark.parametrize("state", [CLOSED, CONNECTING, 2])
    def test_not_open(self, write_all, state):
        """Whoever is not open is left to others."""
        one = Connection()
        one.state = state
        assert write_all(one) == ([one], [])
        assert one.written == []
        assert one.messages_out == 0

    def test_not_prompt(self, write_all):
        """So is one for which something waits, itself and not the connection that it stands for."""
        one = Connection()
        one._writable = False
        stand = Stand(one)
        assert write_all(one, stand) == ([one, stand], [])

    def test_being_served(self, write_all):
        """So is one whose answers have not left yet: they would be overtaken."""
        one = Connection()
        one._cork = []
        assert write_all(one) == ([one], [])

    def test_something_else(self, write_all):
        """So is what is no connection at all, or stands for none."""
        one, two = object(), Stand(None)
        assert write_all(one, two) == ([one, two], [])

    def test_one_fails(self, write_all):
        """A transport that raises is told, and the next one is served."""
        bad, good = Connection(), Connection()
        bad.write = broken
        assert write_all(bad, good) == ([], [bad])
        assert good.written == [b"<x>"]

    def test_order(self, write_all):
        """Everyone is served in the order in which they stand."""
        order = []
        ones = [Connection() for _ in range(3)]
        for number, one in enumerate(ones):
            one.write = lambda data, number=number: order.append(number)
        ones[1]._writable = False
        assert write_all(*ones) == ([ones[1]], [])
        assert order == [0, 2]


class Listener:
    """A subscriber that writes down what it is given."""

    def __init__(self, kind="raw", log=None):
        self.kind, self.got = kind, [] if log is None else log
        self.bad = None

    def frame(self, channel, publication):
        """Write a publication."""
        if publication.data == self.bad:
            raise ValueError("cannot be written")
        return b"<%s>" % publication.data

    def event_frame(self, channel, event):
        """Write an event, for one kind only."""
        return b"(+)" if self.kind == "told" else b""

    def deliver(self, batch):
        """Take some."""
        self.got.append((batch.frames, batch.count, batch.size))

    def missed(self, channel, stream):
        """Take note of a gap."""
        self.got.append(("missed", channel, stream))


class Taker(Listener):
    """One that keeps the batches."""

    def deliver(self, batch):
        """Take some."""
        self.got.append(batch)


class Turns:
    """A reactor that leaves what is asked for in one turn for the next; Twisted's Clock does it in the same."""

    def __init__(self):
        self.calls = []

    def callLater(self, delay, function, *arguments):
        """Take note."""
        assert delay == 0
        self.calls.append((function, arguments))

    def turn(self):
        """Take a turn; returns whether there was anything to do."""
        calls, self.calls = self.calls, []
        for function, arguments in calls:
            function(*arguments)
        return bool(calls)


def kinds(*listeners):
    """Put listeners into a room."""
    found = {}
    for one in listeners:
        found.setdefault(one.kind, {})[one] = None
    return found


def publications(*texts):
    """Make publications."""
    return [Publication(text) for text in texts]


class FanOutTests:
    """`FanOut`."""

    def test_batch(self):
        """Whoever takes batches is given the newest publication by itself, too."""
        one = Taker()
        FanOut(Clock()).publish("foo", kinds(one), publications(b"1", b"22"))
        batch = one.got[0]
        assert (batch.channel, batch.frames, batch.count, batch.size) == ("foo", b"<1><22>", 2, 3)
        assert batch.newest == (b"<22>", 2)

    def test_events(self):
        """Events stand among publications; a kind that is not told of them gets nothing for them."""
        told, other = Taker("told"), Taker()
        event = PresenceEvent(True, ClientInfo("c"))
        fan_out = FanOut(Clock())
        fan_out.publish("foo", kinds(told, other), [event, *publications(b"1"), event])
        assert (told.got[0].frames, told.got[0].count) == (b"(+)<1>(+)", 3)
        assert told.got[0].newest == (b"<1>", 1)
        assert other.got[0].frames == b"<1>"
        fan_out.publish("foo", kinds(told, other), [event])
        assert told.got[1].newest is None
        assert len(other.got) == 1

    def test_cannot_be_written(self):
        """One publication that cannot be written is told as missing; the others, and other kinds, go on."""
        bad, good = Listener("bad"), Listener("good")
        bad.bad = b"2"
        FanOut(Clock()).publish("foo", kinds(bad, good), publications(b"1", b"2", b"3"))
        assert bad.got == [(b"<1><3>", 2, 2), ("missed", "foo", True)]
        assert good.got == [(b"<1><2><3>", 3, 3)]

    def test_in_turns(self):
        """Very many are served over several turns, in order, and nobody twice."""
        reactor, log = Turns(), []
        ones = [Listener(log=log) for _ in range(25)]
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

    def test_large_ones(self):
        """Large publications count for more: the others of the process wait no longer for them."""
        reactor, ones = Turns(), [Listener() for _ in range(10)]
        fan_out = FanOut(reactor, budget=8)
        fan_out.publish("foo", kinds(*ones), publications(b"x" * 3 * BYTES_PER_WRITE))
        assert [len(one.got) for one in ones] == [1, 1] + [0] * 8
        for turn in range(2, 6):
            reactor.turn()
            assert sum(len(one.got) for one in ones) == 2 * turn
        huge = publications(b"x" * 100 * BYTES_PER_WRITE)
        fan_out.publish("foo", kinds(*ones), huge)
        for _ in range(10):
            reactor.turn()
        assert {len(one.got) for one in ones} == {2}

    def test_left_meanwhile(self):
        """Whoever leaves before it was its turn gets nothing; coming back does not change that."""
        reactor = Turns()
        ones = [Listener() for _ in range(4)]
        fan_out = FanOut(reactor, budget=2)
        fan_out.publish("foo", kinds(*ones), publications(b"1"))
        fan_out.left("foo", ones[2])
        fan_out.left("bar", ones[3])
        reactor.turn()
        assert [len(one.got) for one in ones] == [1, 1, 0, 1]
        fan_out.publish("foo", kinds(*ones), publications(b"2"))
        while reactor.turn():
            pass
        assert ones[2].got == [(b"<2>", 1, 1)]

    def test_gaps_in_their_place(self):
        """What is told of a gap comes after what was published before it."""
        reactor = Turns()
        ones = [Listener() for _ in range(3)]
        fan_out = FanOut(reactor, budget=2)
        fan_out.publish("foo", kinds(*ones), publications(b"1"))
        fan_out.missed("foo", ones, stream=True)
        fan_out.publish("foo", kinds(*ones), publications(b"2"))
        for _ in range(10):
            reactor.turn()
        for one in ones:
            assert one.got == [(b"<1>", 1, 1), ("missed", "foo", True), (b"<2>", 1, 1)]

    def test_publishers_wait(self):
        """Where too many batches wait, the oldest is handed out at once: their number is bounded."""
        reactor = Turns()
        ones = [Listener() for _ in range(100)]
        fan_out = FanOut(reactor, budget=1)
        for number in range(MAX_JOBS + 10):
            fan_out.publish("foo", kinds(*ones), publications(b"%d" % number))
            assert len(fan_out._jobs) <= MAX_JOBS
        assert len(ones[-1].got) == 10

    def test_caused_by_a_subscriber(self):
        """What a subscriber causes while it is served comes to everyone after what is being handed out."""
        one, two = Listener(), Listener()
        fan_out = FanOut(Clock())
        taken = one.deliver

        def cause(*arguments):
            taken(*arguments)
            if len(one.got) == 1:
                fan_out.publish("foo", kinds(one, two), publications(b"2"))

        one.deliver = cause
        fan_out.publish("foo", kinds(one, two), publications(b"1"))
        assert one.got == two.got == [(b"<1>", 1, 1), (b"<2>", 1, 1)]

    def test_barred(self):
        """Everyone is told that the channel is not to be had any more, also where one fails."""
        bad, good = Listener(), Listener()
        bad.on_permission_revoked, good.on_permission_revoked = broken, good.got.append
        FanOut(Clock()).on_permission_revoked("foo", [bad, good])
        assert good.got == ["foo"]

    def test_a_kind_leaves(self):
        """Of a kind that has left because of what another one was given nobody is there to write for."""
        one, two = Listener("a"), Listener("b")
        room = kinds(one, two)
        one.deliver = lambda *_: room["b"].clear()
        FanOut(Clock()).publish("foo", room, publications(b"1"))
        assert two.got == []

    def test_one_fails(self):
        """Whoever fails, in whatever way, does not keep the others from being served."""
        bad, good = Listener(), Listener()
        bad.deliver = bad.missed = broken
        fan_out = FanOut(Clock())
        fan_out.publish("foo", kinds(bad, good), publications(b"1"))
        fan_out.missed("foo", [bad, good], stream=False)
        assert good.got == [(b"<1>", 1, 1), ("missed", "foo", False)]


class Reader:
    """A subscriber of one channel at a time, that remembers what it was given since it came last."""

    kind = "raw"

    def __init__(self):
        self.got = []

    def frame(self, channel, publication):
        """Write a publication."""
        return publication.data + b";"

    def deliver(self, batch):
        """Take some."""
        self.got += batch.frames.split(b";")[:-1]


class HubTests:
    """With the hub above it, and a budget so small that batches wait nearly always."""

    @pytest.mark.parametrize("seed", range(30))
    def test_whoever_comes_and_leaves(self, seed):
        """Everyone gets what is published from its coming on, in order and once, and nothing of what was before."""
        dice, reactor = random.Random(seed), Turns()
        hub = make_hub(MemoryBroker(Clock()), reactor, Rules(Rule(history_size=0)))
        hub._fan_out._budget = dice.choice([1, 3, 10])
        published = 0
        present, absent = {}, [Reader() for _ in range(12)]
        for _ in range(400):
            what = dice.random()
            if what < 0.3 and absent:
                one = absent.pop(dice.randrange(len(absent)))
                one.got = []
                present[one] = published
                hub.subscribe("foo", one)
            elif what < 0.4 and present:
                one = dice.choice(list(present))
                hub.unsubscribe("foo", one)
                wanted = [b"%d" % number for number in range(present.pop(one), published)]
                assert one.got == wanted[: len(one.got)]
                left_with = list(one.got)
                absent.append(one)
                reactor.turn()
                assert one.got == left_with
            elif what < 0.7:
                reactor.turn()
            else:
                hub.publish("foo", b"%d" % published)
                published += 1
        while reactor.turn():
            pass
        for one, since in present.items():
            assert one.got == [b"%d" % number for number in range(since, published)]
