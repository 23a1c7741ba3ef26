"""The link to Redis: what comes when."""

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from wsserver.config.redis_url import parse_redis_url
from wsserver.redis.supervisor import MAX_BUFFERED, PROBE_INTERVAL, RedisLink


class Pipe:
    """A connection in memory, as far as the link goes."""

    connected, why, unanswered = True, "", 0

    def __init__(self):
        self.gone = Deferred()
        self.asked = []

    def whenDisconnected(self):
        return Deferred()

    def hang_up(self):
        self.connected = False

    def execute_command(self, *words):
        return succeed(1)

    def subscribe(self, channels):
        self.asked += channels

    def unsubscribe(self, channel):
        """Leave."""


class Link:
    """A link, and what it tells, in its order."""

    def __init__(self):
        self.events = []
        self.link = RedisLink(
            parse_redis_url("redis://127.0.0.1"),
            Clock(),
            on_message=lambda channel, data: self.events.append(data.decode()),
            on_up=lambda again: self.events.append("again" if again else "up"),
            on_down=lambda: self.events.append("down"),
            on_permission_revoked=lambda channel: self.events.append("barred"),
        )
        self.connect()

    def connect(self):
        """Make new connections; they are not known to work yet."""
        self.commands, self.subscriber = Pipe(), Pipe()
        self.link._on_connected((self.commands, self.subscriber, ("127.0.0.1", 6379), ""))
        for channel in list(self.subscriber.asked):
            self.link._on_confirmed(channel)

    def prove(self):
        """Let the probe come back."""
        self.link._on_message(self.link._probe_channel, b"")

    def tell(self, data):
        """Let a message come."""
        self.link._on_message(b"foo", data.encode())

    def lose(self):
        """Lose the connections."""
        self.link._drop("gone")


@pytest.fixture
def link():
    """Make one that is up."""
    made = Link()
    made.prove()
    made.link.subscribe(b"foo")
    made.link._on_confirmed(b"foo")
    return made


class EarlyTests:
    """Messages that come after an outage before the link is up."""

    def test_after_the_outage_is_told(self, link):
        """They come after it: whoever listens is told first that something is missing."""
        link.tell("1")
        link.lose()
        link.connect()
        link.tell("2")
        link.tell("3")
        assert link.events == ["up", "1", "down"]
        link.prove()
        link.tell("4")
        assert link.events == ["up", "1", "down", "again", "2", "3", "4"]

    def test_lost_again(self, link):
        """They are lost with the connection: more are missing than before, which is told once it is up."""
        link.lose()
        link.connect()
        link.tell("1")
        link.lose()
        link.connect()
        link.tell("2")
        link.prove()
        assert link.events == ["up", "down", "again", "2"]

    def test_too_many(self, link):
        """The oldest are dropped: they count as missing, too."""
        link.lose()
        link.connect()
        for number in range(MAX_BUFFERED + 2):
            link.tell(str(number))
        link.prove()
        assert link.events[2:4] == ["again", "2"]
        assert len(link.events) == 3 + MAX_BUFFERED


class ProbeTests:
    """The probe of a Redis whose connections are open."""

    @pytest.fixture
    def clock(self, link):
        """Start to probe; give the clock."""
        link.link._probing.start(PROBE_INTERVAL, now=False)
        return link.link._reactor

    def test_stays_up_as_long_as_every_probe_comes_back(self, link, clock):
        """For any number of intervals."""
        for _ in range(10):
            clock.advance(PROBE_INTERVAL)
            link.prove()
        assert link.events == ["up"]

    def test_goes_down_an_interval_after_a_probe_that_does_not_come_back(self, link, clock):
        """So a Redis that hangs is noticed within two intervals."""
        clock.advance(PROBE_INTERVAL)
        assert link.events == ["up"]
        clock.advance(PROBE_INTERVAL)
        assert (link.events, link.link.problem) == (["up", "down"], "no probe came back within 2 s")
