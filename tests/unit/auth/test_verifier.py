"""Tests for wsserver/auth/verifier.py: tokens whose key is not known yet, and the end of those that are taken."""

import pytest
from deferreds import result
from tokens import NOW, RSA, SECRET, TERMS, claims, jwk, key_set, ring, signed, token
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock

from wsserver.auth.claims import Grant, Identity
from wsserver.auth.jwt import Cause, Refused
from wsserver.auth.keys import KeyRing, configured, parse_set
from wsserver.auth.verifier import LONGEST_WAIT, MARGIN, Tokens, WallClockTimer
from wsserver.config.settings import Settings
from wsserver.errors import BrokerDown
from wsserver.hub import memory
from wsserver.hub.memory import MemoryBroker


class Fetcher:
    """Keys that are fetched; says when and how a fetch ends."""

    def __init__(self):
        self.keys = KeyRing(configured(Settings(token_secret=SECRET)), fetching=True)
        self.fetches = []
        self.tokens = Tokens(self.keys, TERMS, lambda: NOW, self.fetch)

    def fetch(self):
        self.fetches.append(Deferred())
        return self.fetches[-1]


class TokensTests:
    """Which tokens are checked at once, and which wait."""

    def test_at_once(self):
        """Without keys to fetch every token is decided about at once."""
        tokens = Tokens(ring(token_secret=SECRET), TERMS, lambda: NOW)
        assert isinstance(result(tokens.connection(token())), Identity)
        assert isinstance(result(tokens.subscription(token(claims(channel="news")))), Grant)
        assert isinstance(result(tokens.either(token(claims(channel="news")))), Grant)
        assert isinstance(result(tokens.subscription(token())), Refused)
        assert result(tokens.connection(signed(RSA, "RS256", kid="one"))).cause is Cause.INVALID

    def test_nothing_to_fetch(self):
        """A good token and a bad one start no fetch; only an unknown key does."""
        fetcher = Fetcher()
        for text in (
            token(),
            token(key="x" * 64),
            token(header={"alg": "none", "kid": "new"}),
            "?",
            token(claims(exp=0)),
        ):
            fetcher.tokens.connection(text)
        assert fetcher.fetches == []
        fetcher.tokens.connection(signed(RSA, "RS256", kid="one"))
        assert len(fetcher.fetches) == 1

    def test_new_key(self):
        """A token of a new key waits for the key."""
        fetcher = Fetcher()
        done = fetcher.tokens.connection(signed(RSA, "RS256", kid="one"))
        assert not done.called
        fetcher.keys.take(parse_set(key_set(jwk(RSA, kid="one"))))
        fetcher.fetches[0].callback(True)
        assert isinstance(result(done), Identity)

    @pytest.mark.parametrize(("complete", "cause"), [(True, Cause.UNKNOWN_KEY), (False, Cause.UNAVAILABLE)])
    def test_no_such_key(self, complete, cause):
        """Where there is no such key the token is refused; where that cannot be known, it may be taken later."""
        fetcher = Fetcher()
        done = fetcher.tokens.connection(signed(RSA, "RS256", kid="one"))
        fetcher.fetches[0].callback(complete)
        assert result(done).cause is cause


ONCE = token(claims(once=True, jti="1"))


class OnceTests:
    """Tokens that can be used once."""

    def test_used(self):
        """The second time it is refused, whatever it is for; others are not concerned."""
        clock = Clock()
        tokens = Tokens(ring(token_secret=SECRET), TERMS, lambda: NOW, consume=MemoryBroker(clock).consume)
        assert isinstance(result(tokens.connection(ONCE)), Identity)
        for check in (tokens.connection, tokens.either):
            refused = result(check(ONCE))
            assert (refused.cause, refused.reason) == (Cause.INVALID, "the one-time token has already been used")
        assert isinstance(result(tokens.connection(token(claims(once=True, jti="2")))), Identity)
        assert [type(result(tokens.connection(token()))) for _ in range(2)] == [Identity, Identity]

    def test_not_used_up(self):
        """A token that is refused for something else, or only looked at, is not used."""
        used = []
        tokens = Tokens(ring(token_secret=SECRET), TERMS, lambda: NOW, consume=lambda *args: used.append(args))
        tokens.connection(token(claims(once=True, jti="1", exp=NOW - 60)))
        tokens.subscription(ONCE)
        assert used == []
        looking = Tokens(ring(token_secret=SECRET), TERMS, lambda: NOW)
        assert [type(result(looking.connection(ONCE))) for _ in range(2)] == [Identity, Identity]

    def test_new_key(self):
        """So it is where its key had to be fetched."""
        fetcher = Fetcher()
        broker = MemoryBroker(Clock())
        tokens = Tokens(fetcher.keys, TERMS, lambda: NOW, fetcher.fetch, broker.consume)
        waiting = [tokens.connection(signed(RSA, "RS256", claims(once=True, jti="1"), kid="one")) for _ in range(2)]
        fetcher.keys.take(parse_set(key_set(jwk(RSA, kid="one"))))
        for fetch in fetcher.fetches:
            fetch.callback(True)
        assert [type(result(done)) for done in waiting] == [Identity, Refused]

    def test_broker_down(self):
        """Where that cannot be known, it may be taken later."""
        tokens = Tokens(ring(token_secret=SECRET), TERMS, lambda: NOW, consume=lambda *_: fail(BrokerDown("away")))
        assert result(tokens.connection(ONCE)).cause is Cause.UNAVAILABLE

    def test_forgotten(self):
        """What was used is known for as long as the token would be taken, and a margin; then it is forgotten."""
        clock = Clock()
        broker = MemoryBroker(Clock(), clock.seconds)
        tokens = Tokens(ring(token_secret=SECRET), TERMS, lambda: NOW, consume=broker.consume)
        tokens.connection(ONCE)
        clock.advance(60 + TERMS.leeway + MARGIN - 1)
        assert isinstance(result(tokens.connection(ONCE)), Refused)
        clock.advance(1)
        assert result(broker.consume("other", 1)) is True
        assert len(broker._consumed) == len(broker._expiries) == 1

    def test_is_refused_twice_while_the_clock_is_set_back(self):
        """A token lives longer when the system clock is set back, and so does the memory of its use."""
        clock, wall = Clock(), Clock()
        wall.advance(NOW)
        tokens = Tokens(
            ring(token_secret=SECRET), TERMS, wall.seconds, consume=MemoryBroker(clock, wall.seconds).consume
        )
        assert isinstance(result(tokens.connection(ONCE)), Identity)
        for passed in (0, 600, 86_000):
            wall.rightNow = NOW - 86_400 + passed
            clock.advance(passed)
            assert isinstance(result(tokens.connection(ONCE)), Refused)

    def test_full(self, monkeypatch):
        """With too many of them in use no more is taken, rather than one twice."""
        monkeypatch.setattr(memory, "MAX_CONSUMED", 3)
        clock = Clock()
        broker = MemoryBroker(Clock(), clock.seconds)
        assert [result(broker.consume(key, 10)) for key in "abca"] == [True, True, True, False]
        caught = []
        broker.consume("d", 10).addErrback(lambda failure: caught.append(failure.trap(BrokerDown)))
        assert caught == [BrokerDown]
        clock.advance(10)
        assert [result(broker.consume(key, 10)) for key in "da"] == [True, True]


class Wall:
    """A reactor's clock, and one on the wall that can be set."""

    def __init__(self):
        self.clock = Clock()
        self.ahead = float(NOW)
        self.rung = []

    def now(self):
        return self.clock.seconds() + self.ahead

    def alarm(self, after):
        return WallClockTimer(self.clock, self.now, NOW + after, lambda: self.rung.append(self.now() - NOW))


class AlarmTests:
    """A call at a time of the wall's clock."""

    @pytest.mark.parametrize("after", [0, 0.5, 60, LONGEST_WAIT, 3 * LONGEST_WAIT + 1, 30 * 86400])
    def test_rings(self, after):
        """It comes once, at its time."""
        wall = Wall()
        wall.alarm(after)
        if after:
            wall.clock.pump([LONGEST_WAIT] * int((after - 0.001) // LONGEST_WAIT))
            wall.clock.advance(max(0.0, after - wall.clock.seconds() - 0.001))
            assert wall.rung == []
        wall.clock.advance(0.001)
        assert wall.rung == [pytest.approx(after, abs=0.002)]
        assert wall.clock.getDelayedCalls() == []

    def test_past(self):
        """What is past comes in the next turn, not at once: whoever sets it is still busy."""
        wall = Wall()
        wall.alarm(-100)
        assert wall.rung == []
        wall.clock.advance(0)
        assert wall.rung == [0]

    def test_far(self):
        """The end of the year 9999 is no time that a poll can wait."""
        wall = Wall()
        wall.alarm(253_402_300_799 - NOW)
        assert wall.clock.getDelayedCalls()[0].getTime() == LONGEST_WAIT

    def test_clock_set_forward(self):
        """A token that has ended because the system clock was set forward is noticed within a minute."""
        wall = Wall()
        wall.alarm(7200)
        wall.clock.advance(10)
        wall.ahead += 86_400
        wall.clock.pump([1] * 60)
        assert len(wall.rung) == 1

    def test_clock_set_back(self):
        """Where the wall's clock was set back, the call waits for it."""
        wall = Wall()
        wall.alarm(10)
        wall.clock.advance(5)
        wall.ahead -= 100
        wall.clock.advance(5)
        assert wall.rung == []
        wall.clock.advance(100)
        assert wall.rung == [10]

    def test_cancel(self):
        """Cancelled, it does not come; cancelling twice, or afterwards, does nothing."""
        wall = Wall()
        alarm, rung = wall.alarm(10), wall.alarm(1)
        alarm.cancel()
        alarm.cancel()
        wall.clock.advance(20)
        assert len(wall.rung) == 1
        rung.cancel()
        assert wall.clock.getDelayedCalls() == []
