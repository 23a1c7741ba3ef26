"""
The hub loses no publication without a notice, with a broker that delivers everything late, as Redis does.

A publication gets its offset in the stream at once. Its delivery, and the answers to reads, arrive later, each in their
own order. An outage loses deliveries that were under way; a flush loses streams.

The publications are numbers. Some subscribers have a filter: they receive the odd or the even ones.
"""

import random
from collections import deque
from contextlib import ExitStack
from unittest import mock

import pytest
from hubs import make_hub
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.internet.task import Clock

from wsserver.errors import BrokerDown
from wsserver.hub.channel import BufferBudget
from wsserver.hub.filters import FilteredKind, parse_conditions
from wsserver.hub.memory import MemoryBroker
from wsserver.hub.publication import Publication
from wsserver.hub.rules import Rule, Rules
from wsserver.hub.send_queue import OVERHEAD
from wsserver.hub.stream import Keep, Position, Stream

KEPT = 5
"""Number of publications that the stream keeps."""

ODD, EVEN = (parse_conditions([f"odd:eq:{odd}"], "filter") for odd in ("1", "0"))

KINDS = ["a", "b", FilteredKind("a", ODD), FilteredKind("a", EVEN), FilteredKind("b", ODD)]
"""The kinds of the subscribers."""


def tagged(data):
    """Return a publication with a tag that says whether its number is odd."""
    return Publication(data, tags={"odd": str(int(data) % 2) if data.isdigit() else "1"})


class LateBroker(MemoryBroker):
    """A broker whose deliveries and answers wait until a test lets them arrive."""

    def __init__(self, clock):
        super().__init__(clock)
        self.up = True
        self.stream, self.epochs = Stream("e0"), 0
        self.news, self.answers = deque(), deque()
        self.published = {}
        """Epoch and offset -> publication, for all that were ever stored."""
        self.subscribed = False
        self.confirmed = False

    def subscribe(self, channel):
        """Subscribe; the confirmation arrives later."""
        if not self.up:
            return fail(BrokerDown("away"))
        done = Deferred()
        self.subscribed = True
        self.news.append(lambda: done.callback(None))
        self.refused = done
        return done

    def unsubscribe(self, channel):
        """Unsubscribe."""
        self.subscribed = False

    def deliver_to(self, listener):
        """Set the listener, and ignore control messages."""
        self.listener = listener

    def store(self, data):
        """Publish with an offset, as through a server."""
        publication = self.stream.append(tagged(data), Keep(KEPT, 1e9), 0)
        self.published[publication.epoch, publication.offset] = publication
        if self.subscribed:
            self.news.append(lambda: self.listener.on_publication("foo", publication))
        return publication

    def plain(self, data, owed):
        """Publish without an offset, as with `redis-cli publish`."""

        def arrive():
            publication = tagged(data)
            owed(publication)
            self.listener.on_publication("foo", publication)

        if self.subscribed:
            self.news.append(arrive)

    def history(self, channel, keep, since, limit, *, reverse, max_bytes=None):
        """Read a page of at most two publications; the answer arrives later."""
        if not self.up:
            return fail(BrokerDown("away"))
        limit = limit if max_bytes is None else 2
        done, page = Deferred(), self.stream.page(since, limit, reverse=reverse, now=0, max_bytes=max_bytes)
        self.answers.append((done, page))
        return done

    def flush(self):
        """Lose the stream, as FLUSHALL does."""
        self.epochs += 1
        self.stream = Stream(f"e{self.epochs}")

    def begin_outage(self):
        """Lose what is under way; what is published during the outage may arrive, as after a new SUBSCRIBE."""
        self.up = False
        self.news.clear()
        answers, self.answers = self.answers, deque()
        for done, _ in answers:
            done.errback(BrokerDown("away"))

    def end_outage(self):
        """End the outage."""
        self.up = True
        self.listener.on_reconnect()


class Peer:
    """A subscriber that checks what it receives: each publication follows the last one, or a gap notice."""

    def __init__(self, machine, since, kind, rewind=0):
        self.machine, self.since, self.kind, self.rewind = machine, since, kind, rewind
        self.open, self.got, self.notified, self.joined = False, [], False, None
        self.position = None
        self.owed, self.notices = [], 0
        """Publications without an offset that arrived while it was subscribed, and the number of gap notices."""
        self.behind = False
        self.rewound, self.first = [], None
        """The positions of the publications of its rewind, and the position of the first one after the rewind."""
        self.top = None
        """The top of the stream when it was subscribed."""

    def frame(self, channel, publication):
        return b"%s %d %s;" % (publication.data, publication.offset, publication.epoch.encode())

    def event_frame(self, channel, event):
        return b""

    def deliver(self, batch):
        for frame in batch.frames.decode().split(";")[:-1]:
            data, offset, epoch = frame.split(" ")
            try:
                self.note(data, int(offset), epoch)
            except AssertionError as error:
                self.machine.errors.append(error)

    def note(self, data, offset, epoch, rewound=False):
        assert self.open or self.joined is None
        if rewound:
            assert self.first is None
            self.rewound.append(Position(offset, epoch))
        elif offset and self.first is None:
            self.first = Position(offset, epoch)
        starts = self.rewind and self.position is None and not self.notified
        if offset and starts and self.top is not None and epoch == self.top.epoch:
            # What was published since it subscribed is not missing at the start of its rewind.
            skipped = [self.machine.broker.published[epoch, n] for n in range(self.top.offset + 1, offset)]
            assert not any(map(self.wants, skipped)), (self.top, offset)
        if offset:
            assert self.wants(self.machine.broker.published[epoch, offset])
            if self.position is not None and not self.notified and self.joined is not None:
                assert self.follows(offset, epoch), (self.position, offset, epoch)
            self.position = Position(offset, epoch)
            self.notified = False
        self.got.append(data)

    def wants(self, publication):
        """Return whether the subscriber receives a publication: it has no filter, or the filter matches."""
        return not isinstance(self.kind, FilteredKind) or self.kind.filter.matches(publication.tags)

    def follows(self, offset, epoch):
        """Return whether nothing that the subscriber wants lies between its position and a later offset."""
        if epoch == self.position.epoch:
            skipped = range(self.position.offset + 1, offset)
        elif self.position.offset == 0:
            skipped = range(1, offset)
        else:
            return False
        return offset > skipped.start - 1 and not any(
            self.wants(self.machine.broker.published[epoch, n]) for n in skipped
        )

    def missed(self, channel, stream):
        self.notices += 1
        if stream:
            self.notified = True
            if not self.machine.may_lose:
                self.machine.errors.append(AssertionError("a gap notice, although nothing is missing"))

    def answered(self, joined):
        self.joined, self.open, self.behind = joined, True, joined.behind
        self.top = self.machine.broker.stream.position
        if joined.position is None:
            return
        if joined.recovered:
            self.position = self.since
            self.notified = False
            self.note_page(joined)
        elif joined.publications:
            assert all(one.rewound for one in joined.publications)
            self.note_page(joined)
        self.position = joined.position

    def page_read(self, joined):
        self.behind = joined.behind
        if joined.position is None:
            if joined.behind:
                # The recovery failed, and a rewind begins.
                self.notified, self.position = True, None
                self.rewound, self.first = [], None
            return
        if not joined.recovered:
            self.notified, self.position = True, joined.position
        self.note_page(joined)

    def is_at(self, position):
        """Return whether the subscriber has everything that it wants up to a position of the stream."""
        return self.position == position or self.follows(position.offset + 1, position.epoch)

    def note_page(self, joined):
        if self.position is None and not joined.publications:
            # A rewind of an empty history.
            self.position = joined.position
        try:
            for one in joined.publications:
                self.note(one.data.decode(), one.offset, one.epoch, one.rewound)
            assert self.is_at(joined.position)
            self.position = joined.position
        except AssertionError as error:
            self.machine.errors.append(error)


class Machine(RuleBasedStateMachine):
    """Publishes, deliveries, answers, subscribers, outages and flushes, in any order."""

    def __init__(self):
        super().__init__()
        # The buffer of a gap is delivered in several turns.
        self.patch = mock.patch("wsserver.hub.gaps.PAGE_SIZE", 1)
        self.patch.start()
        self.clock = Clock()
        self.broker = LateBroker(self.clock)
        self.hub = make_hub(self.broker, self.clock, Rules(Rule(KEPT, 1e9, allow_tags_filter=True)))
        self.peers = []
        self.number = 0
        self.left = []
        self.errors = []
        self.may_lose = False
        """Whether publications with an offset may be lost: by an outage, a flush, or because the stream is full."""

    def teardown(self):
        """Let everything arrive, and check the end of the run."""
        with ExitStack() as stack:
            stack.callback(self.patch.stop)
            self.check()

    def check(self):
        """Let everything arrive, and check that each subscriber has everything or was notified."""
        if not self.broker.up:
            self.broker.end_outage()
        self.settle()
        last = self.broker.store(b"last")
        self.may_lose |= last.offset > KEPT
        self.settle()
        assert self.errors == []
        for peer in self.peers:
            if peer.open:
                if not peer.notices:
                    # Publications without an offset have arrived, and each publication once.
                    assert not set(peer.owed) - set(peer.got)
                    assert len(peer.got) == len(set(peer.got))
                self.check_rewind(peer)
                # It has reached the top of the stream, or was notified of a gap.
                top = Position(last.offset, last.epoch)
                unknown = peer.position is None and not peer.wants(last)
                assert peer.notified or unknown or peer.is_at(top), (peer.position, last)

    def check_rewind(self, peer):
        """Check that a rewind delivered the last publications before the first new one, and not too many of them."""
        assert len(peer.rewound) <= peer.rewind
        if not self.may_lose and peer.rewind and peer.since is None:
            # Nothing was trimmed, so the stream still has all publications.
            kept = [one.offset for one in self.broker.stream._kept if peer.wants(one)]
            before = [offset for offset in kept if peer.first is None or offset < peer.first.offset]
            assert [position.offset for position in peer.rewound] == before[-peer.rewind :]

    def settle(self):
        """Let all pending deliveries and answers arrive."""
        for _ in range(1000):
            for peer in list(self.peers):
                if peer.behind:
                    self.read_page(peer)
            self.clock.advance(0)
            if not self.broker.news and not self.broker.answers and not any(peer.behind for peer in self.peers):
                break
            self.news()
            self.answer()
        self.clock.advance(0)

    def owe(self, publication):
        """Record a publication without an offset that arrives at the hub."""
        for peer in self.peers:
            if peer.open and peer.wants(publication):
                peer.owed.append(publication.data.decode())

    def read_page(self, peer):
        """Request the next page for a subscriber; remove it if that fails, as the end of its connection would."""

        def failed(failure):
            failure.trap(BrokerDown)
            if peer in self.peers:
                self.peers.remove(peer)

        peer.behind = False
        self.hub.recover("foo", peer).addCallback(peer.page_read).addErrback(failed)

    def news(self):
        """Let the next delivery arrive."""
        if self.broker.news:
            self.broker.news.popleft()()

    def answer(self):
        """Let the next answer arrive."""
        if self.broker.answers:
            done, page = self.broker.answers.popleft()
            done.callback(page)

    @rule()
    def publish(self):
        self.number += 1
        if self.broker.store(b"%d" % self.number).offset > KEPT:
            self.may_lose = True

    @rule()
    def publish_plain(self):
        self.number += 1
        self.broker.plain(b"%d" % self.number, self.owe)

    @rule()
    def some_news(self):
        self.news()

    @rule()
    def some_answer(self):
        self.answer()

    @rule()
    def turn(self):
        self.clock.advance(0)

    @precondition(lambda self: self.broker.up and len(self.peers) < 6)
    @rule(
        kind=st.sampled_from(KINDS),
        resume=st.booleans(),
        positioned=st.booleans(),
        in_pages=st.booleans(),
        rewind=st.sampled_from([0, 0, 1, 3, KEPT + 1]),
    )
    def subscribe(self, kind, resume, positioned, in_pages, rewind=0):
        since = self.left.pop() if resume and self.left else None
        peer = Peer(self, since, kind, rewind)
        self.peers.append(peer)

        def refused(failure):
            failure.trap(BrokerDown)
            self.peers.remove(peer)

        # The budget fits two publications.
        budget = BufferBudget(2 * (OVERHEAD + 5)) if in_pages else None
        done = maybeDeferred(
            self.hub.subscribe, "foo", peer, since=since, positioned=positioned, budget=budget, rewind=rewind
        )
        done.addCallback(peer.answered).addErrback(refused)

    @precondition(lambda self: any(peer.behind for peer in self.peers))
    @rule(data=st.data())
    def recover(self, data):
        self.read_page(data.draw(st.sampled_from([peer for peer in self.peers if peer.behind])))

    @precondition(lambda self: any(peer.open for peer in self.peers))
    @rule(data=st.data())
    def leave(self, data):
        peer = data.draw(st.sampled_from([peer for peer in self.peers if peer.open]))
        self.peers.remove(peer)
        self.hub.unsubscribe("foo", peer)
        if peer.position is not None and not peer.notified:
            self.left.append(peer.position)

    @rule()
    def flush(self):
        self.may_lose = True
        self.broker.flush()

    @precondition(lambda self: self.broker.up and not any(not peer.open for peer in self.peers if peer.joined is None))
    @rule()
    def begin_outage(self):
        self.may_lose = True
        self.broker.begin_outage()

    @precondition(lambda self: not self.broker.up)
    @rule()
    def end_outage(self):
        self.broker.end_outage()

    @invariant()
    def counted(self):
        assert self.hub.count("foo") == self.hub.subscriptions == len(self.peers)
        assert self.errors == []


MachineTests = Machine.TestCase
MachineTests.settings = settings(max_examples=300, stateful_step_count=30, deadline=None)


WEIGHTS = {
    "publish": 4,
    "publish_plain": 4,
    "some_news": 5,
    "some_answer": 5,
    "turn": 5,
    "subscribe": 4,
    "recover": 3,
    "leave": 1,
    "flush": 1,
    "begin_outage": 0.3,
    "end_outage": 1,
}
"""Relative frequency of each step; every walk varies it, so that some end with much under way."""


class OneOf:
    """Replaces Hypothesis's `data`: chooses an element of a list."""

    def __init__(self, rng):
        self._rng = rng

    def draw(self, strategy):
        """Choose an element."""
        return self._rng.choice(strategy.elements)


def walk(seed):
    """Take random steps. Hypothesis takes the same steps, but its runs rarely end with as much under way."""
    rng, machine = random.Random(seed), Machine()
    weights = [weight * rng.choice([0.3, 1, 3]) for weight in WEIGHTS.values()]
    for step in rng.choices(list(WEIGHTS), weights, k=rng.randrange(5, 80)):
        peers = machine.peers
        waiting = any(not peer.open for peer in peers if peer.joined is None)
        possible = {
            "subscribe": machine.broker.up and len(peers) < 6,
            "recover": any(peer.behind for peer in peers),
            "leave": any(peer.open for peer in peers),
            "begin_outage": machine.broker.up and not waiting,
            "end_outage": not machine.broker.up,
        }
        arguments = {
            "subscribe": {
                "kind": rng.choice(KINDS),
                "resume": rng.random() < 0.5,
                "positioned": rng.random() < 0.6,
                "in_pages": rng.random() < 0.5,
                "rewind": rng.choice([0, 0, 1, 3, KEPT + 1]),
            },
            "recover": {"data": OneOf(rng)},
            "leave": {"data": OneOf(rng)},
        }
        if possible.get(step, True):
            getattr(machine, step)(**arguments.get(step, {}))
            machine.counted()
    machine.teardown()


def test_a_subscriber_that_joins_while_a_gap_is_closed_begins_at_the_top_of_the_stream():
    """The new subscriber does not receive the publications that earlier subscribers have missed."""
    machine = Machine()
    with ExitStack() as stack:
        stack.callback(machine.patch.stop)
        machine.subscribe("a", resume=False, positioned=True, in_pages=False)
        machine.settle()
        machine.publish()
        machine.broker.news.clear()
        machine.publish()
        machine.news()
        machine.subscribe("a", resume=False, positioned=True, in_pages=False)
        machine.settle()
        earlier, later = machine.peers
        assert (earlier.got, later.got) == (["1", "2"], [])
        assert earlier.position == later.position == Position(2, "e0")


def test_a_subscriber_whose_buffer_overflows_is_notified_of_a_gap():
    """A subscriber without a budget does not read pages, so it cannot recover what its buffer has dropped."""
    machine = Machine()
    machine.may_lose = True
    with ExitStack() as stack:
        stack.callback(machine.patch.stop)
        stack.enter_context(mock.patch("wsserver.hub.channel.MAX_BUFFER_ITEMS", 2))
        machine.subscribe("a", resume=False, positioned=True, in_pages=False)
        machine.news()
        for _ in range(3):
            machine.publish()
            machine.news()
        machine.settle()
        (peer,) = machine.peers
        assert (peer.got, peer.notices, peer.notified) == ([], 1, True)


def test_a_subscriber_that_reads_pages_is_notified_that_an_outage_may_have_lost_plain_publications():
    """The subscriber reads the publications with an offset from the stream, so those are not reported as missing."""
    machine = Machine()
    with ExitStack() as stack:
        stack.callback(machine.patch.stop)
        machine.subscribe("a", resume=False, positioned=True, in_pages=False)
        machine.settle()
        machine.publish()
        machine.settle()
        machine.left.append(Position(0, "e0"))
        machine.subscribe("a", resume=True, positioned=True, in_pages=True)
        _, paged = machine.peers
        assert paged.behind
        machine.broker.begin_outage()
        machine.broker.end_outage()
        machine.answer()
        machine.clock.advance(0)
        assert (paged.notices, paged.notified) == (1, False)
        machine.settle()
        assert paged.got == ["1"]


@pytest.mark.parametrize("first", range(0, 3000, 500))
def test_random_walks_lose_no_publication_without_a_notice(first):
    """The traceback of a failure shows the seed."""
    for seed in range(first, first + 500):
        walk(seed)
