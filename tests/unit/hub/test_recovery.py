"""
The hub loses nothing without a notice, with a broker that delivers everything late, as Redis does.

What is published gets its place in the stream at once; the news of it, and the answers to reads, come later, each in
its own order. An outage loses news that were under way; a flush loses streams.
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
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock

from wsserver.errors import BrokerDown
from wsserver.hub.channel import BufferBudget
from wsserver.hub.memory import MemoryBroker
from wsserver.hub.publication import Publication
from wsserver.hub.rules import Rule, Rules
from wsserver.hub.send_queue import OVERHEAD
from wsserver.hub.stream import Keep, Position, Stream

KEPT = 5
"""Number of publications that the stream keeps."""


class LateBroker(MemoryBroker):
    """A broker with a wire between."""

    def __init__(self, clock):
        super().__init__(clock)
        self.up = True
        self.stream, self.epochs = Stream("e0"), 0
        self.news, self.answers = deque(), deque()
        self.subscribed = False
        self.confirmed = False

    def subscribe(self, channel):
        """Subscribe; Redis confirms later."""
        if not self.up:
            return fail(BrokerDown("away"))
        done = Deferred()
        self.subscribed = True
        self.news.append(lambda: done.callback(None))
        self.refused = done
        return done

    def unsubscribe(self, channel):
        """Leave."""
        self.subscribed = False

    def deliver_to(self, listener):
        """Note who receives what arrives."""
        self.listener = listener

    def store(self, data):
        """Publish through a server."""
        publication = self.stream.append(Publication(data), Keep(KEPT, 1e9), 0)
        if self.subscribed:
            self.news.append(lambda: self.listener.on_publication("foo", publication))
        return publication

    def plain(self, data, owed):
        """Publish past all servers."""

        def arrive():
            owed(data)
            self.listener.on_publication("foo", Publication(data))

        if self.subscribed:
            self.news.append(arrive)

    def history(self, channel, keep, since, limit, *, reverse, max_bytes=None):
        """Read; the answer is on its way. A page has two publications at most."""
        if not self.up:
            return fail(BrokerDown("away"))
        limit = limit if max_bytes is None else 2
        done, page = Deferred(), self.stream.page(since, limit, reverse=reverse, now=0, max_bytes=max_bytes)
        self.answers.append((done, page))
        return done

    def flush(self):
        """Lose everything."""
        self.epochs += 1
        self.stream = Stream(f"e{self.epochs}")

    def fall(self):
        """Lose what is under way; what is published before it is back may come, as after the new SUBSCRIBE."""
        self.up = False
        self.news.clear()
        answers, self.answers = self.answers, deque()
        for done, _ in answers:
            done.errback(BrokerDown("away"))

    def rise(self):
        """Be back."""
        self.up = True
        self.listener.on_reconnect()


class Peer:
    """A client that keeps account."""

    def __init__(self, machine, since, kind):
        self.machine, self.since, self.kind = machine, since, kind
        self.open, self.got, self.told, self.joined = False, [], False, None
        self.position = None
        self.owed, self.notices = [], 0
        """Publications without an offset that arrived while it listened, and how often it was told of a gap."""
        self.behind = False

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

    def note(self, data, offset, epoch):
        assert self.open or self.joined is None
        if offset:
            if self.position is not None and not self.told and self.joined is not None:
                follows = (epoch == self.position.epoch and offset == self.position.offset + 1) or (
                    self.position.offset == 0 and offset == 1
                )
                assert follows, (self.position, offset, epoch)
            self.position = Position(offset, epoch)
            self.told = False
        self.got.append(data)

    def missed(self, channel, stream):
        self.notices += 1
        if stream:
            self.told = True
            if not self.machine.may_lose:
                self.machine.errors.append(AssertionError("a gap notice, although nothing is missing"))

    def answered(self, joined):
        self.joined, self.open, self.behind = joined, True, joined.behind
        if joined.position is None:
            return
        if joined.recovered:
            self.position = self.since
            self.told = False
            self.note_page(joined)
        self.position = joined.position

    def page_read(self, joined):
        self.behind = joined.behind
        if joined.position is None:
            return
        if not joined.recovered:
            self.told, self.position = True, joined.position
        self.note_page(joined)

    def note_page(self, joined):
        try:
            for one in joined.publications:
                self.note(one.data.decode(), one.offset, one.epoch)
            assert self.position == joined.position
        except AssertionError as error:
            self.machine.errors.append(error)


class Machine(RuleBasedStateMachine):
    """Everything that can happen, in any order."""

    def __init__(self):
        super().__init__()
        # What was held leaves in several turns.
        self.patch = mock.patch("wsserver.hub.gaps.PAGE_SIZE", 1)
        self.patch.start()
        self.clock = Clock()
        self.broker = LateBroker(self.clock)
        self.hub = make_hub(self.broker, self.clock, Rules(Rule(KEPT, 1e9)))
        self.peers = []
        self.number = 0
        self.left = []
        self.errors = []
        self.may_lose = False
        """Whether publications with an offset may be lost: by an outage, a flush, or because the stream is full."""

    def teardown(self):
        """At the end everything comes."""
        with ExitStack() as stack:
            stack.callback(self.patch.stop)
            self.check()

    def check(self):
        """Let everything come, and compare the accounts."""
        if not self.broker.up:
            self.broker.rise()
        self.settle()
        last = self.broker.store(b"last")
        self.may_lose |= last.offset > KEPT
        self.settle()
        assert self.errors == []
        for peer in self.peers:
            if peer.open:
                if not peer.notices:
                    # What has no offset has come, and everything once.
                    assert not set(peer.owed) - set(peer.got)
                    assert len(peer.got) == len(set(peer.got))
                # It stands at the top, or knows that it does not.
                assert peer.told or peer.position == Position(last.offset, last.epoch), (peer.position, last)

    def settle(self):
        """Let everything under way come."""
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

    def owe(self, data):
        """Something without an offset arrives at the hub."""
        for peer in self.peers:
            if peer.open:
                peer.owed.append(data.decode())

    def read_page(self, peer):
        """A subscriber that is behind asks for more; it leaves if that fails, as its connection would."""

        def failed(failure):
            failure.trap(BrokerDown)
            if peer in self.peers:
                self.peers.remove(peer)

        peer.behind = False
        self.hub.recover("foo", peer).addCallback(peer.page_read).addErrback(failed)

    def news(self):
        """Some news come."""
        if self.broker.news:
            self.broker.news.popleft()()

    def answer(self):
        """An answer comes."""
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
    @rule(kind=st.sampled_from(["a", "b"]), come_back=st.booleans(), positioned=st.booleans(), in_pages=st.booleans())
    def subscribe(self, kind, come_back, positioned, in_pages):
        since = self.left.pop() if come_back and self.left else None
        peer = Peer(self, since, kind)
        self.peers.append(peer)

        def refused(failure):
            failure.trap(BrokerDown)
            self.peers.remove(peer)

        # Room for two publications.
        budget = BufferBudget(2 * (OVERHEAD + 5)) if in_pages else None
        done = self.hub.subscribe("foo", peer, since=since, positioned=positioned, budget=budget)
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
        if peer.position is not None and not peer.told:
            self.left.append(peer.position)

    @rule()
    def flush(self):
        self.may_lose = True
        self.broker.flush()

    @precondition(lambda self: self.broker.up and not any(not peer.open for peer in self.peers if peer.joined is None))
    @rule()
    def fall(self):
        self.may_lose = True
        self.broker.fall()

    @precondition(lambda self: not self.broker.up)
    @rule()
    def rise(self):
        self.broker.rise()

    @invariant()
    def counted(self):
        assert self.hub.count("foo") == len(self.peers)
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
    "fall": 0.3,
    "rise": 1,
}
"""How often a random walk takes each step; every walk changes it, so that some have much under way at their end."""


class OneOf:
    """Chooses as Hypothesis's `data` does, but one of a list only."""

    def __init__(self, rng):
        self._rng = rng

    def draw(self, strategy):
        """Choose."""
        return self._rng.choice(strategy.elements)


def walk(seed):
    """Take random steps; Hypothesis takes the same ones, but rarely ends with as much under way."""
    rng, machine = random.Random(seed), Machine()
    weights = [weight * rng.choice([0.3, 1, 3]) for weight in WEIGHTS.values()]
    for step in rng.choices(list(WEIGHTS), weights, k=rng.randrange(5, 80)):
        peers = machine.peers
        waiting = any(not peer.open for peer in peers if peer.joined is None)
        possible = {
            "subscribe": machine.broker.up and len(peers) < 6,
            "recover": any(peer.behind for peer in peers),
            "leave": any(peer.open for peer in peers),
            "fall": machine.broker.up and not waiting,
            "rise": not machine.broker.up,
        }
        arguments = {
            "subscribe": {
                "kind": rng.choice("ab"),
                "come_back": rng.random() < 0.5,
                "positioned": rng.random() < 0.6,
                "in_pages": rng.random() < 0.5,
            },
            "recover": {"data": OneOf(rng)},
            "leave": {"data": OneOf(rng)},
        }
        if possible.get(step, True):
            getattr(machine, step)(**arguments.get(step, {}))
            machine.counted()
    machine.teardown()


@pytest.mark.parametrize("first", range(0, 3000, 500))
def test_random_walks_lose_no_publication_without_a_notice(first):
    """The seed of a walk that fails stands in the traceback."""
    for seed in range(first, first + 500):
        walk(seed)
