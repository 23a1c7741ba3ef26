"""Which channels of Redis the server listens to."""

import pytest

from wsserver.errors import BrokerDown, NotPermitted
from wsserver.redis.subscriptions import MAX_UNANSWERED, Subscriptions

ALWAYS = b"always"


class Subscriber:
    """A connection that writes down what it is asked."""

    def __init__(self):
        self.unanswered = 0
        self.asked = []

    def subscribe(self, channels):
        """Take channels."""
        self.asked.append(channels)

    def unsubscribe(self, channel):
        """Take one that is left."""
        self.asked.append(channel)


@pytest.fixture
def asking():
    """Make a connection."""
    return Subscriber()


@pytest.fixture
def subscriptions(asking):
    """Make them, with a connection where the one channel is confirmed."""
    subscriptions = Subscriptions(always=ALWAYS)
    subscriptions.begin(asking)
    subscriptions.confirm(ALWAYS)
    asking.asked.clear()
    return subscriptions


def outcome(done):
    """Collect what comes of a Deferred: nothing yet, None, or the kind of its error."""
    found = []
    done.addCallbacks(found.append, lambda failure: found.append(failure.type))
    return found


class SubscribeTests:
    """While there is a connection."""

    def test_once(self, subscriptions, asking):
        """A channel is asked for once, however many want it; all are answered."""
        first, second = outcome(subscriptions.subscribe(b"a")), outcome(subscriptions.subscribe(b"a"))
        assert asking.asked == [[b"a"]]
        assert (first, second, subscriptions.complete) == ([], [], False)
        subscriptions.confirm(b"a")
        assert (first, second, subscriptions.complete) == ([None], [None], True)
        assert outcome(subscriptions.subscribe(b"a")) == [None]
        assert asking.asked == [[b"a"]]

    def test_left(self, subscriptions, asking):
        """A channel that is left is left once; a late confirmation is nothing."""
        subscriptions.subscribe(b"a")
        subscriptions.unsubscribe(b"a")
        subscriptions.unsubscribe(b"a")
        subscriptions.confirm(b"a")
        assert asking.asked == [[b"a"], b"a"]
        assert subscriptions.complete

    def test_too_many(self, subscriptions, asking):
        """Beyond a limit one more is refused, and is not wanted."""
        asking.unanswered = MAX_UNANSWERED
        assert outcome(subscriptions.subscribe(b"a")) == [BrokerDown]
        assert (asking.asked, subscriptions.complete) == ([], True)


class OutageTests:
    """Connections come and go."""

    def test_wanted_again(self, subscriptions):
        """What was confirmed is asked for by the next connection, all at once."""
        done = outcome(subscriptions.subscribe(b"a"))
        subscriptions.confirm(b"a")
        subscriptions.end()
        assert outcome(subscriptions.subscribe(b"b")) == [BrokerDown]
        after = Subscriber()
        subscriptions.begin(after)
        assert (after.asked, done, subscriptions.complete) == ([[ALWAYS, b"a"]], [None], False)

    def test_whoever_waits(self, subscriptions):
        """Whoever waits is refused, leaves its other channels meanwhile, and is wanted no more."""
        done = subscriptions.subscribe(b"a")
        done.addErrback(lambda failure: subscriptions.unsubscribe(b"b") or failure)
        found, other = outcome(done), outcome(subscriptions.subscribe(b"b"))
        subscriptions.end()
        assert (found, other) == ([BrokerDown], [BrokerDown])
        after = Subscriber()
        subscriptions.begin(after)
        assert after.asked == [[ALWAYS]]

    def test_left_meanwhile(self, subscriptions):
        """What is left while there is no connection is not asked for by the next."""
        subscriptions.subscribe(b"a")
        subscriptions.confirm(b"a")
        subscriptions.end()
        subscriptions.unsubscribe(b"a")
        after = Subscriber()
        subscriptions.begin(after)
        assert after.asked == [[ALWAYS]]


class RefusedTests:
    """Redis refuses."""

    def test_who_waits(self, subscriptions):
        """Whoever waits is told, and nothing else is lost."""
        done = outcome(subscriptions.subscribe(b"a"))
        assert subscriptions.refuse([b"a"], "NOPERM", alone=True) == []
        assert (done, subscriptions.complete) == ([NotPermitted], True)

    def test_who_was_there(self, subscriptions):
        """A channel that was confirmed once is lost: who listens to it must be told."""
        outcome(subscriptions.subscribe(b"a"))
        subscriptions.confirm(b"a")
        subscriptions.end()
        subscriptions.begin(Subscriber())
        subscriptions.confirm(ALWAYS)
        assert subscriptions.refuse([b"a"], "NOPERM", alone=True) == [b"a"]
        assert subscriptions.complete

    def test_one_of_many(self, subscriptions, asking):
        """Of many, those that are still wanted are asked for again by halves."""
        for channel in (b"a", b"b", b"c", b"d"):
            subscriptions.subscribe(channel)
        subscriptions.unsubscribe(b"b")
        asking.asked.clear()
        assert subscriptions.refuse([b"a", b"b", b"c", b"d"], "NOPERM", alone=False) == []
        assert asking.asked == [[b"a", b"c"], [b"d"]]

    def test_perhaps_another(self, subscriptions, asking):
        """One that was refused together with others is asked for by itself before it counts as refused."""
        done = outcome(subscriptions.subscribe(b"a"))
        assert subscriptions.refuse([b"a"], "NOPERM", alone=False) == []
        assert asking.asked == [[b"a"], [b"a"], []]
        assert done == []
