"""Tests for wsserver/auth/verifier.py: tokens with keys to fetch, one-time tokens, and the timer for the expiry."""

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
    """Tokens with fetched keys; the test completes each fetch."""

    def __init__(self):
        self.keys = KeyRing(configured(Settings(token_secret=SECRET)), fetching=True)
        self.fetches = []
        self.tokens = Tokens(self.keys, TERMS, lambda: NOW, self.fetch)

    def fetch(self):
        self.fetches.append(Deferred())
        return self.fetches[-1]


class TokensTests:
    """Which tokens are accepted or refused immediately, and which wait until keys are fetched."""

    def test_decides_every_token_at_once_without_keys_to_fetch(self):
        tokens = Tokens(ring(token_secret=SECRET), TERMS, lambda: NOW)
        assert isinstance(result(tokens.connection(token())), Identity)
        assert isinstance(result(tokens.subscription(token(claims(channel="news")))), Grant)
        assert isinstance(result(tokens.either(token(claims(channel="news")))), Grant)
        assert isinstance(result(tokens.subscription(token())), Refused)
        assert result(tokens.connection(signed(RSA, "RS256", kid="one"))).cause is Cause.INVALID

    def test_only_a_token_with_an_unknown_key_starts_a_fetch(self):
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

    def test_a_token_with_a_new_key_is_accepted_after_the_fetch(self):
        fetcher = Fetcher()
        done = fetcher.tokens.connection(signed(RSA, "RS256", kid="one"))
        assert not done.called
        fetcher.keys.take(parse_set(key_set(jwk(RSA, kid="one"))))
        fetcher.fetches[0].callback(True)
        assert isinstance(result(done), Identity)

    @pytest.mark.parametrize(("complete", "cause"), [(True, Cause.UNKNOWN_KEY), (False, Cause.UNAVAILABLE)])
    def test_a_key_missing_after_the_fetch_is_unknown_or_unavailable(self, complete, cause):
        """
        If the fetch has failed, the keys are unavailable, and the client may retry later.

        Otherwise, the key is unknown.
        """
        fetcher = Fetcher()
        done = fetcher.tokens.connection(signed(RSA, "RS256", kid="one"))
        fetcher.fetches[0].callback(complete)
        assert result(done).cause is cause


ONCE = token(claims(once=True, jti="1"))


class OnceTests:
    """One-time tokens."""

    def test_refuses_the_second_use_of_the_same_token(self):
        """Other tokens are not affected."""
        clock = Clock()
        tokens = Tokens(ring(token_secret=SECRET), TERMS, lambda: NOW, consume=MemoryBroker(clock).consume)
        assert isinstance(result(tokens.connection(ONCE)), Identity)
        for check in (tokens.connection, tokens.either):
            refused = result(check(ONCE))
            assert (refused.cause, refused.reason) == (Cause.EXPIRED, "the one-time token has already been used")
        assert isinstance(result(tokens.connection(token(claims(once=True, jti="2")))), Identity)
        assert [type(result(tokens.connection(token()))) for _ in range(2)] == [Identity, Identity]

    def test_does_not_consume_a_refused_or_only_inspected_token(self):
        """Without `consume`, one-time tokens are only inspected."""
        used = []
        tokens = Tokens(ring(token_secret=SECRET), TERMS, lambda: NOW, consume=lambda *args: used.append(args))
        tokens.connection(token(claims(once=True, jti="1", exp=NOW - 60)))
        tokens.subscription(ONCE)
        assert used == []
        looking = Tokens(ring(token_secret=SECRET), TERMS, lambda: NOW)
        assert [type(result(looking.connection(ONCE))) for _ in range(2)] == [Identity, Identity]

    def test_refuses_the_second_use_after_its_key_was_fetched(self):
        fetcher = Fetcher()
        broker = MemoryBroker(Clock())
        tokens = Tokens(fetcher.keys, TERMS, lambda: NOW, fetcher.fetch, broker.consume)
        waiting = [tokens.connection(signed(RSA, "RS256", claims(once=True, jti="1"), kid="one")) for _ in range(2)]
        fetcher.keys.take(parse_set(key_set(jwk(RSA, kid="one"))))
        for fetch in fetcher.fetches:
            fetch.callback(True)
        assert [type(result(done)) for done in waiting] == [Identity, Refused]

    def test_is_unavailable_while_the_broker_is_down(self):
        """The server cannot check whether the token has been used."""
        tokens = Tokens(ring(token_secret=SECRET), TERMS, lambda: NOW, consume=lambda *_: fail(BrokerDown("away")))
        assert result(tokens.connection(ONCE)).cause is Cause.UNAVAILABLE

    def test_an_unexpected_error_of_the_broker_is_passed_on(self):
        """Such an error is not an outage: a client that retried would only repeat the error."""
        tokens = Tokens(ring(token_secret=SECRET), TERMS, lambda: NOW, consume=lambda *_: fail(KeyError("x")))
        caught = []
        tokens.connection(ONCE).addErrback(lambda failure: caught.append(failure.type))
        assert caught == [KeyError]

    def test_remembers_the_use_until_the_expiry_plus_leeway_and_margin(self):
        clock = Clock()
        broker = MemoryBroker(Clock(), clock.seconds)
        tokens = Tokens(ring(token_secret=SECRET), TERMS, lambda: NOW, consume=broker.consume)
        tokens.connection(ONCE)
        clock.advance(60 + TERMS.leeway + MARGIN - 1)
        assert isinstance(result(tokens.connection(ONCE)), Refused)
        clock.advance(1)
        assert result(broker.consume("other", 1)) is True
        assert len(broker._consumed) == len(broker._expiries) == 1

    def test_still_refuses_a_used_token_after_the_clock_was_set_back(self):
        """With the clock set back, the token is valid for longer, so the server must remember its use for longer."""
        clock, system = Clock(), Clock()
        system.advance(NOW)
        tokens = Tokens(
            ring(token_secret=SECRET), TERMS, system.seconds, consume=MemoryBroker(clock, system.seconds).consume
        )
        assert isinstance(result(tokens.connection(ONCE)), Identity)
        for passed in (0, 600, 86_000):
            system.rightNow = NOW - 86_400 + passed
            clock.advance(passed)
            assert isinstance(result(tokens.connection(ONCE)), Refused)

    def test_consume_fails_while_max_consumed_keys_are_remembered(self, monkeypatch):
        """If a key were forgotten instead, its token could be used twice."""
        monkeypatch.setattr(memory, "MAX_CONSUMED", 3)
        clock = Clock()
        broker = MemoryBroker(Clock(), clock.seconds)
        assert [result(broker.consume(key, 10)) for key in "abca"] == [True, True, True, False]
        caught = []
        broker.consume("d", 10).addErrback(lambda failure: caught.append(failure.trap(BrokerDown)))
        assert caught == [BrokerDown]
        clock.advance(10)
        assert [result(broker.consume(key, 10)) for key in "da"] == [True, True]


class SystemClock:
    """A reactor's clock, and a system clock that can be set."""

    def __init__(self):
        self.clock = Clock()
        self.ahead = float(NOW)
        self.fired = []

    def now(self):
        return self.clock.seconds() + self.ahead

    def timer(self, after):
        return WallClockTimer(self.clock, self.now, NOW + after, lambda: self.fired.append(self.now() - NOW))


class WallClockTimerTests:
    """A call at a time of the system clock."""

    @pytest.mark.parametrize("after", [0, 0.5, 60, LONGEST_WAIT, 3 * LONGEST_WAIT + 1, 30 * 86400])
    def test_calls_the_function_once_at_its_time(self, after):
        system = SystemClock()
        system.timer(after)
        if after:
            system.clock.pump([LONGEST_WAIT] * int((after - 0.001) // LONGEST_WAIT))
            system.clock.advance(max(0.0, after - system.clock.seconds() - 0.001))
            assert system.fired == []
        system.clock.advance(0.001)
        assert system.fired == [pytest.approx(after, abs=0.002)]
        assert system.clock.getDelayedCalls() == []

    def test_calls_in_the_next_turn_if_the_time_has_passed(self):
        """The timer does not call immediately, because its caller has not finished yet."""
        system = SystemClock()
        system.timer(-100)
        assert system.fired == []
        system.clock.advance(0)
        assert system.fired == [0]

    def test_waits_at_most_longest_wait_between_readings_of_the_clock(self):
        """A token may expire in the year 9999, and a reactor cannot wait that long in one poll."""
        system = SystemClock()
        system.timer(253_402_300_799 - NOW)
        assert system.clock.getDelayedCalls()[0].getTime() == LONGEST_WAIT

    def test_notices_within_a_minute_that_the_clock_was_set_forward(self):
        """A token may have expired because of the change."""
        system = SystemClock()
        system.timer(7200)
        system.clock.advance(10)
        system.ahead += 86_400
        system.clock.pump([1] * 60)
        assert len(system.fired) == 1

    def test_waits_longer_after_the_clock_was_set_back(self):
        system = SystemClock()
        system.timer(10)
        system.clock.advance(5)
        system.ahead -= 100
        system.clock.advance(5)
        assert system.fired == []
        system.clock.advance(100)
        assert system.fired == [10]

    def test_is_not_called_once_cancelled_and_cancel_may_be_repeated(self):
        """Cancelling after the call has no effect."""
        system = SystemClock()
        timer, fired = system.timer(10), system.timer(1)
        timer.cancel()
        timer.cancel()
        system.clock.advance(20)
        assert len(system.fired) == 1
        fired.cancel()
        assert system.clock.getDelayedCalls() == []
