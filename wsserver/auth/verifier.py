"""Verify clients' tokens, record which one-time tokens have been used, and call a function when a token expires."""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from wsserver.auth.claims import Grant, Identity
from wsserver.auth.jwt import Cause, Keys, Refused, Terms, verify, verify_any, verify_subscription
from wsserver.errors import BrokerDown

__all__ = ["Tokens", "WallClockTimer"]

MARGIN = 60.0
"""Seconds for which a used token is remembered after its expiry, because the clocks of server processes may differ."""

LONGEST_WAIT = 60.0
"""Maximum seconds after which a timer reads the system clock again, because the clock may have been set."""


class Tokens:
    """
    Verify tokens. The Deferreds that the methods return never fail; a token that is not accepted results in `Refused`.

    Args:
        keys: the server's keys.
        terms: the requirements on tokens besides a valid signature.
        now: returns UNIX time in seconds.
        refetch: fetches the key set again, unless it has just been fetched, and returns a Deferred that fires with
            whether the last fetch succeeded. None if no keys are fetched.
        consume: records the use of a one-time token, see `wsserver.hub.broker.Broker.consume`; None to accept one-time
            tokens any number of times.
    """

    def __init__(
        self,
        keys: Keys,
        terms: Terms,
        now: Callable[[], float],
        refetch: "Callable[[], Deferred[bool]] | None" = None,
        consume: "Callable[[str, float], Deferred[bool]] | None" = None,
    ) -> None:
        self.keys = keys
        self._terms = terms
        self._now = now
        self._refetch = refetch
        self._consume_key = consume

    def connection(self, token: str) -> "Deferred[Identity | Refused]":
        """Verify a connection token."""
        return self._check(verify, token)

    def subscription(self, token: str) -> "Deferred[Grant | Refused]":
        """Verify a subscription token, see `wsserver.auth.jwt.verify_subscription`."""
        return self._check(verify_subscription, token)

    def either(self, token: str) -> "Deferred[Identity | Grant | Refused]":
        """Verify a connection or subscription token, see `wsserver.auth.jwt.verify_any`."""
        return self._check(verify_any, token)

    def _check(self, verify: Callable[[str, Keys, float, Terms], Any], token: str) -> "Deferred[Any]":
        found = verify(token, self.keys, self._now(), self._terms)
        if self._refetch is None or not isinstance(found, Refused) or found.cause is not Cause.UNKNOWN_KEY:
            return self._consume(found)

        def check_again(complete: bool) -> Any:
            found = verify(token, self.keys, self._now(), self._terms)
            if not complete and isinstance(found, Refused) and found.cause is Cause.UNKNOWN_KEY:
                return Refused("the token keys cannot be fetched; retry later", Cause.UNAVAILABLE)
            return self._consume(found)

        return self._refetch().addCallback(check_again)

    def _consume(self, found: Identity | Grant | Refused) -> "Deferred[Any]":
        one_time = None if isinstance(found, Refused) else found.one_time
        if one_time is None or self._consume_key is None:
            return succeed(found)

        def decide(unused: bool) -> Any:
            return found if unused else Refused("the one-time token has already been used", Cause.EXPIRED)

        def unavailable(failure: Failure) -> Refused:
            failure.trap(BrokerDown)
            return Refused(f"cannot check whether the one-time token has been used: {failure.value}", Cause.UNAVAILABLE)

        left = one_time.until + self._terms.leeway - self._now()
        return self._consume_key(one_time.key, max(left, 0.0) + MARGIN).addCallbacks(decide, unavailable)


class WallClockTimer:
    """
    Call a function at a given time of the system clock, such as the expiry of a token.

    The timer notices if the system clock is set: the call is never early, and at most `LONGEST_WAIT` seconds late.

    Args:
        reactor: schedules the calls; its clock may be monotonic.
        now: returns UNIX time in seconds.
        when: UNIX time in seconds. If it is in the past, the function is called in the reactor's next iteration.
        function: called once, without arguments.
    """

    __slots__ = ("_call", "_function", "_now", "_reactor", "_when")

    def __init__(
        self, reactor: IReactorTime, now: Callable[[], float], when: float, function: Callable[[], object]
    ) -> None:
        self._reactor = reactor
        self._now = now
        self._when = when
        self._function = function
        self._call: IDelayedCall
        self._wait()

    def _wait(self) -> None:
        left = self._when - self._now()
        self._call = self._reactor.callLater(min(max(left, 0.0), LONGEST_WAIT), self._fire)

    def _fire(self) -> None:
        if self._now() < self._when:
            self._wait()
        else:
            self._function()

    def cancel(self) -> None:
        """Cancel the call; do nothing if it has been made or cancelled."""
        if self._call.active():
            self._call.cancel()
