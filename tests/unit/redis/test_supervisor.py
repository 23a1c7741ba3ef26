"""The link to Redis: the order of its callbacks, and its probe."""

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from wsserver.config.redis_url import parse_redis_url
from wsserver.redis.supervisor import MAX_BUFFERED, PROBE_INTERVAL, RedisLink


class Pipe:
    """A connection in memory, with only the methods that the link uses."""

    connected, why, unanswered = True, "", 0
    waiting = bytes_waiting = 0

    def __init__(self):
        self.subscribed = []
        self.replies = 0

    def when_lost(self):
        return Deferred()

    def hang_up(self):
        self.connected = False

    def send(self, command, on_reply):
        self.replies += 1
        on_reply(1)

    def subscribe(self, channels):
        self.subscribed += channels

    def unsubscribe(self, channel):
        """Do nothing."""


class Link:
    """A link, and the calls of its callbacks in order."""

    def __init__(self):
        self.events = []
        self.link = RedisLink(
            parse_redis_url("redis://127.0.0.1"),
            Clock(),
            on_messages=self.on_messages,
            on_up=lambda again: self.events.append("again" if again else "up"),
            on_down=lambda: self.events.append("down"),
            on_permission_revoked=lambda channel: self.events.append("revoked"),
        )
        self.connect()

    def connect(self):
        """Open new connections; no probe has come back on them."""
        self.commands, self.subscriber = Pipe(), Pipe()
        self.link._on_connected((self.commands, self.subscriber, ("127.0.0.1", 6379), ""))
        for channel in list(self.subscriber.subscribed):
            self.link._on_confirmed(channel)

    def on_messages(self, messages):
        """Record messages; lose the connections at the message `lose`."""
        for _, channel, data in messages:
            if channel == self.link._probe_channel:
                continue
            self.events.append(data.decode())
            if data == b"lose":
                self.lose()

    def prove(self):
        """Receive the probe."""
        self.link._on_messages([[b"message", self.link._probe_channel, b""]])

    def receive(self, *data):
        """Receive messages; `probe` is the probe."""
        self.link._on_messages(
            [
                [
                    b"message",
                    self.link._probe_channel if one == "probe" else b"foo",
                    b"" if one == "probe" else one.encode(),
                ]
                for one in data
            ]
        )

    def lose(self):
        """Lose the connections."""
        self.link._drop("lost")


@pytest.fixture
def link():
    """Make a link that is up."""
    made = Link()
    made.prove()
    made.link.subscribe(b"foo")
    made.link._on_confirmed(b"foo")
    return made


class EarlyTests:
    """Messages that arrive after an outage before the link is up."""

    def test_are_delivered_after_on_up_has_reported_the_outage(self, link):
        """Subscribers must be notified of the gap first."""
        link.receive("1")
        link.lose()
        link.connect()
        link.receive("2")
        link.receive("3")
        assert link.events == ["up", "1", "down"]
        link.prove()
        link.receive("4")
        assert link.events == ["up", "1", "down", "again", "2", "3", "4"]

    def test_are_delivered_in_order_if_the_probe_arrives_between_them(self, link):
        link.lose()
        link.connect()
        link.receive("1", "probe", "2", "3")
        assert link.events == ["up", "down", "again", "1", "2", "3"]

    def test_are_dropped_with_those_behind_the_probe_if_a_callback_loses_the_connections(self, link):
        link.lose()
        link.connect()
        link.receive("lose", "1", "probe", "2")
        link.connect()
        link.prove()
        assert link.events == ["up", "down", "again", "lose", "down", "again"]

    def test_are_dropped_if_the_connection_is_lost_again(self, link):
        """The dropped messages belong to the gap that `on_up` reports."""
        link.lose()
        link.connect()
        link.receive("1")
        link.lose()
        link.connect()
        link.receive("2")
        link.prove()
        assert link.events == ["up", "down", "again", "2"]

    def test_the_rest_is_dropped_if_the_connection_is_lost_during_their_delivery(self, link):
        """The next `on_up` reports a gap, which must not be followed by messages from before it."""
        link.lose()
        link.connect()
        link.receive("lose")
        link.receive("2")
        link.prove()
        assert link.events == ["up", "down", "again", "lose", "down"]
        link.connect()
        link.prove()
        assert link.events[5:] == ["again"]

    def test_the_oldest_beyond_max_buffered_are_dropped(self, link):
        """The dropped messages belong to the gap that `on_up` reports."""
        link.lose()
        link.connect()
        for number in range(MAX_BUFFERED + 2):
            link.receive(str(number))
        link.prove()
        assert link.events[2:4] == ["again", "2"]
        assert len(link.events) == 3 + MAX_BUFFERED


class ProbeTests:
    """The probe on open connections."""

    @pytest.fixture
    def clock(self, link):
        """Start probing; return the clock."""
        link.link._probing.start(PROBE_INTERVAL, now=False)
        return link.link._reactor

    def test_stays_up_as_long_as_every_probe_comes_back(self, link, clock):
        for _ in range(10):
            clock.advance(PROBE_INTERVAL)
            link.prove()
        assert link.events == ["up"]

    def test_goes_down_an_interval_after_a_probe_that_does_not_come_back(self, link, clock):
        """A Redis that hangs is therefore noticed within two intervals."""
        clock.advance(PROBE_INTERVAL)
        assert link.events == ["up"]
        clock.advance(PROBE_INTERVAL)
        assert (link.events, link.link.problem) == (["up", "down"], "no probe came back within 2 s")
