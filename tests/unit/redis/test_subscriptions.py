"""The Redis channels that the server subscribes to."""

import pytest

from wsserver.errors import BrokerDown, NotPermitted
from wsserver.redis.subscriptions import MAX_UNANSWERED, Subscriptions

ALWAYS = b"always"


class Subscriber:
    """A connection that records subscribe and unsubscribe requests."""

    def __init__(self):
        self.unanswered = 0
        self.requests = []

    def subscribe(self, channels):
        """Record a list of channels."""
        self.requests.append(channels)

    def unsubscribe(self, channel):
        """Record a channel."""
        self.requests.append(channel)


@pytest.fixture
def connection():
    """Make a connection."""
    return Subscriber()


@pytest.fixture
def subscriptions(connection):
    """Make subscriptions with a connection that has confirmed the permanent channel."""
    subscriptions = Subscriptions(always=ALWAYS)
    subscriptions.begin(connection)
    subscriptions.confirm(ALWAYS)
    connection.requests.clear()
    return subscriptions


def outcome(done):
    """Return a list that receives the result, or the type of the error."""
    found = []
    done.addCallbacks(found.append, lambda failure: found.append(failure.type))
    return found


class SubscribeTests:
    """Subscriptions while the server is connected to Redis."""

    def test_sends_one_request_for_a_channel_and_confirms_each_subscription(self, subscriptions, connection):
        first, second = outcome(subscriptions.subscribe(b"a")), outcome(subscriptions.subscribe(b"a"))
        assert connection.requests == [[b"a"]]
        assert (first, second, subscriptions.complete) == ([], [], False)
        subscriptions.confirm(b"a")
        assert (first, second, subscriptions.complete) == ([None], [None], True)
        assert outcome(subscriptions.subscribe(b"a")) == [None]
        assert connection.requests == [[b"a"]]

    def test_unsubscribes_once_and_ignores_a_late_confirmation(self, subscriptions, connection):
        subscriptions.subscribe(b"a")
        subscriptions.unsubscribe(b"a")
        subscriptions.unsubscribe(b"a")
        subscriptions.confirm(b"a")
        assert connection.requests == [[b"a"], b"a"]
        assert subscriptions.complete

    def test_refuses_a_subscription_beyond_max_unanswered(self, subscriptions, connection):
        """The server forgets the refused channel, and does not request it later."""
        connection.unanswered = MAX_UNANSWERED
        assert outcome(subscriptions.subscribe(b"a")) == [BrokerDown]
        assert (connection.requests, subscriptions.complete) == ([], True)


class OutageTests:
    """The connection is lost and replaced."""

    def test_the_next_connection_subscribes_to_the_confirmed_channels(self, subscriptions):
        """One request contains all of these channels. A subscription during the outage fails."""
        done = outcome(subscriptions.subscribe(b"a"))
        subscriptions.confirm(b"a")
        subscriptions.end()
        assert outcome(subscriptions.subscribe(b"b")) == [BrokerDown]
        after = Subscriber()
        subscriptions.begin(after)
        assert (after.requests, done, subscriptions.complete) == ([[ALWAYS, b"a"]], [None], False)

    def test_pending_subscriptions_fail_and_are_no_longer_wanted(self, subscriptions):
        """An errback may unsubscribe from other channels."""
        done = subscriptions.subscribe(b"a")
        done.addErrback(lambda failure: subscriptions.unsubscribe(b"b") or failure)
        found, other = outcome(done), outcome(subscriptions.subscribe(b"b"))
        subscriptions.end()
        assert (found, other) == ([BrokerDown], [BrokerDown])
        after = Subscriber()
        subscriptions.begin(after)
        assert after.requests == [[ALWAYS]]

    def test_a_channel_unsubscribed_during_the_outage_is_not_requested_again(self, subscriptions):
        subscriptions.subscribe(b"a")
        subscriptions.confirm(b"a")
        subscriptions.end()
        subscriptions.unsubscribe(b"a")
        after = Subscriber()
        subscriptions.begin(after)
        assert after.requests == [[ALWAYS]]


class RefusedTests:
    """Redis refuses a subscription."""

    def test_a_pending_subscription_fails_with_not_permitted(self, subscriptions):
        done = outcome(subscriptions.subscribe(b"a"))
        assert subscriptions.refuse([b"a"], "NOPERM", alone=True) == []
        assert (done, subscriptions.complete) == ([NotPermitted], True)

    def test_a_channel_that_was_confirmed_before_is_returned_as_lost(self, subscriptions):
        """The caller must notify the subscribers of the lost channel."""
        outcome(subscriptions.subscribe(b"a"))
        subscriptions.confirm(b"a")
        subscriptions.end()
        subscriptions.begin(Subscriber())
        subscriptions.confirm(ALWAYS)
        assert subscriptions.refuse([b"a"], "NOPERM", alone=True) == [b"a"]
        assert subscriptions.complete

    def test_a_refused_request_for_many_channels_is_repeated_in_halves(self, subscriptions, connection):
        """The repeated requests omit channels that have lost their subscribers meanwhile."""
        for channel in (b"a", b"b", b"c", b"d"):
            subscriptions.subscribe(channel)
        subscriptions.unsubscribe(b"b")
        connection.requests.clear()
        assert subscriptions.refuse([b"a", b"b", b"c", b"d"], "NOPERM", alone=False) == []
        assert connection.requests == [[b"a", b"c"], [b"d"]]

    def test_a_channel_refused_together_with_others_is_requested_alone(self, subscriptions, connection):
        """The subscription is pending until Redis has answered the second request."""
        done = outcome(subscriptions.subscribe(b"a"))
        assert subscriptions.refuse([b"a"], "NOPERM", alone=False) == []
        assert connection.requests == [[b"a"], [b"a"], []]
        assert done == []
