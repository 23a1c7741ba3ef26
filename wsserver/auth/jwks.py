"""
Fetch the JSON Web Key Set (RFC 7517) of an identity provider, without blocking.

The set is fetched when the server starts, every ten minutes, and when a token names an unknown key. If a fetch fails,
the last set remains in use, so that tokens signed with its keys are still accepted while the provider is unavailable.
"""

from collections.abc import Callable, Iterable
from http import HTTPStatus
from time import time
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import Agent
from twisted.web.http_headers import Headers
from twisted.web.iweb import IResponse

from wsserver.auth.jwt import Terms
from wsserver.auth.keys import Key, KeyRing, configured, parse_set
from wsserver.auth.verifier import Tokens
from wsserver.config.settings import Settings
from wsserver.text import quote
from wsserver.wire.http_client import BodyCollector, QuietConnectionPool

__all__ = ["JWKS", "make_tokens"]

# At module level, because a Twisted Logger in a class body uses the name of the class as its namespace.
_log = Logger(namespace="wsserver.tokens")

REFRESH = 600.0
"""Seconds from a successful fetch to the next one."""

RETRY = 15.0
"""Seconds after which a failed fetch is retried."""

# Without this limit, a client could trigger a fetch with every connection by inventing a key ID.
COOLDOWN = 10.0
"""Minimum seconds between the end of a fetch and the start of a fetch that a token triggers."""

TIMEOUT = 5.0
"""Maximum seconds for a fetch."""

MAX_DOCUMENT = 256 * 1024
"""Maximum size of a key set, in bytes."""


class JWKS:
    """
    Fetch a key set at intervals and on demand.

    Args:
        url: the address of the key set.
        take: called with the keys of each set that is fetched.
        reactor: makes connections and timers.
    """

    def __init__(self, url: str, take: Callable[[Iterable[Key]], None], reactor: Any) -> None:
        self.url = url
        self._take = take
        self._keys: tuple[Key, ...] | None = None
        self._reactor: IReactorTime = reactor
        self._agent = Agent(reactor, connectTimeout=TIMEOUT, pool=QuietConnectionPool(reactor, persistent=False))
        self._running = False
        self._fetching: Deferred[Any] | None = None
        self._waiting: list[Deferred[bool]] = []
        self._timer: IDelayedCall | None = None
        self._last_succeeded = False
        """Whether the last fetch succeeded."""
        self.problem: str | None = "the token keys have not been fetched yet"
        """Why no set has been fetched yet; None after the first successful fetch, because that set remains in use."""
        self._ended: float | None = None
        """The reactor's time at the end of the last fetch."""

    def pass_to(self, take: Callable[[Iterable[Key]], None]) -> None:
        """Call another function with the keys that were fetched last, and with those of each further set."""
        self._take = take
        if self._keys is not None:
            take(self._keys)

    def start(self) -> None:
        """Fetch the set now, and from then on at intervals."""
        self._running = True
        self._fetch()

    def stop(self) -> None:
        """Stop fetching, and cancel a fetch in progress. Deferreds that wait for this fetch fire with False."""
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._fetching is not None:
            self._fetching.cancel()

    def refetch(self) -> "Deferred[bool]":
        """
        Fetch the set because a token names an unknown key, unless a fetch ended within the last `COOLDOWN` seconds.

        If a fetch is in progress, the result is that of this fetch.

        Returns:
            A Deferred that fires with whether the last fetch succeeded. It never fails.
        """
        just_done = self._ended is not None and self._reactor.seconds() - self._ended < COOLDOWN
        if not self._running or (self._fetching is None and just_done):
            return succeed(self._last_succeeded)
        done: Deferred[bool] = Deferred()
        self._waiting.append(done)
        if self._fetching is None:
            self._fetch()
        return done

    def _fetch(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        headers = Headers({b"accept": [b"application/jwk-set+json, application/json"], b"user-agent": [b"wsserver"]})
        # Redirects are not followed: keys are accepted only from the configured URL.
        fetching: Deferred[Any] = self._agent.request(b"GET", self.url.encode("ascii"), headers)
        self._fetching = fetching
        fetching.addCallback(_read).addTimeout(TIMEOUT, self._reactor).addCallback(self._on_document)
        fetching.addErrback(self._on_failure).addBoth(self._on_end)

    def _on_document(self, body: bytes) -> None:
        self._keys = tuple(parse_set(body))
        self._take(self._keys)
        self._last_succeeded = True
        self.problem = None

    def _on_failure(self, failure: Failure) -> None:
        self._last_succeeded = False
        why = _describe_error(failure)
        if self.problem is not None:
            self.problem = f"the token keys cannot be fetched: {why}"
        if self._running:
            # Without the query, which may contain a secret.
            where = self.url.partition("?")[0]
            _log.warn("fetching the token keys failed url={url} reason={reason}", url=where, reason=quote(why, 200))

    def _on_end(self, _: object) -> None:
        self._fetching = None
        self._ended = self._reactor.seconds()
        if self._running:
            self._timer = self._reactor.callLater(REFRESH if self._last_succeeded else RETRY, self._fetch)
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done.callback(self._last_succeeded)


def make_tokens(
    settings: Settings,
    reactor: Any,
    consume: "Callable[[str, float], Deferred[bool]] | None",
    current: JWKS | None = None,
) -> tuple[Tokens, JWKS | None]:
    """
    Create the object that verifies tokens and, if the options name a key set, the object that fetches it.

    Args:
        settings: the server's options; they must configure a key or a key set.
        reactor: makes connections and timers.
        consume: records the use of a one-time token, see `wsserver.hub.broker.Broker.consume`; None to accept one-time
            tokens any number of times.
        current: the fetcher that a running server uses. It is returned if its URL is still the same; the caller must
            then pass its keys to the verifier, see `JWKS.pass_to`.

    Returns:
        The verifier and the fetcher. The caller must start and stop the fetcher, which is None without a key set.

    Raises:
        SettingError: a key is invalid.
    """
    keys = KeyRing(configured(settings), fetching=bool(settings.token_jwks_url))
    terms = Terms(settings.token_audience, settings.token_issuer, settings.token_leeway, settings.token_no_expiry)
    if not settings.token_jwks_url:
        return Tokens(keys, terms, time, consume=consume), None
    same = current is not None and current.url == settings.token_jwks_url
    jwks = current if current is not None and same else JWKS(settings.token_jwks_url, keys.take, reactor)
    return Tokens(keys, terms, time, jwks.refetch, consume), jwks


def _describe_error(failure: Failure) -> str:
    cause: Any = failure.value
    # The agent wraps errors that occur while it waits for a response or reads it.
    for inner in getattr(cause, "reasons", ()):
        cause = inner.value
    return str(cause) or type(cause).__name__


def _read(response: IResponse) -> "Deferred[bytes]":
    body = BodyCollector(MAX_DOCUMENT)
    response.deliverBody(body)
    if response.code != HTTPStatus.OK:
        body.fail(f"expected status 200, got {response.code}")
    return body.done
