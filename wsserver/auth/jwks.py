"""
The keys that an identity provider publishes: a JSON Web Key Set (RFC 7517), fetched without holding anything up.

It is fetched at the start, every ten minutes, and where a token names a key that is not known. What was fetched last
stays in use while fetching fails, so a provider that is away turns nobody away whose key is known.
"""

from collections.abc import Callable, Iterable
from http import HTTPStatus
from time import time
from typing import Any, cast

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime, ITransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import Agent, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IResponse

from wsserver.auth.jwt import Terms
from wsserver.auth.keys import Key, KeyRing, configured, parse_set
from wsserver.auth.verifier import Tokens
from wsserver.config.settings import Settings
from wsserver.wire.connection_pool import QuietConnectionPool

__all__ = ["JWKS", "make_tokens"]

# Of the module, not of a class: on a class Twisted would replace the namespace by the class's name.
_log = Logger(namespace="wsserver.tokens")

REFRESH = 600.0
"""Seconds between two fetches."""

RETRY = 15.0
"""Seconds after which a fetch that failed is tried again."""

# A client with made-up names of keys could have the set fetched as often as it connects.
COOLDOWN = 10.0
"""Least seconds from the end of a fetch to the next one for the sake of a token."""

TIMEOUT = 5.0
"""Most seconds that a fetch takes."""

MAX_DOCUMENT = 256 * 1024
"""Most bytes of a set."""


class JWKS:
    """
    A set of keys that is kept fresh.

    Args:
        url: where it is.
        take: is given the keys of each set that was fetched.
        reactor: connections and timers are made on it.
    """

    def __init__(self, url: str, take: Callable[[Iterable[Key]], None], reactor: Any) -> None:
        self._url = url
        self._take = take
        self._reactor: IReactorTime = reactor
        self._agent = Agent(reactor, connectTimeout=TIMEOUT, pool=QuietConnectionPool(reactor, persistent=False))
        self._running = False
        self._fetching: Deferred[Any] | None = None
        self._waiting: list[Deferred[bool]] = []
        self._timer: IDelayedCall | None = None
        self._good = False
        """The last fetch was."""
        self.problem: str | None = "the keys for tokens have not been fetched yet"
        """Why no set was ever fetched; None once one was, which then stays in use."""
        self._ended: float | None = None
        """The reactor's time at the end of the last fetch."""

    def start(self) -> None:
        """Begin to fetch."""
        self._running = True
        self._fetch()

    def stop(self) -> None:
        """Fetch no more; whoever waits gets an answer."""
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._fetching is not None:
            self._fetching.cancel()

    def refetch(self) -> "Deferred[bool]":
        """
        Fetch the set because of a key that is not in it, unless that was just done.

        Returns:
            Fires with whether the last fetch was good; never fails.
        """
        just_done = self._ended is not None and self._reactor.seconds() - self._ended < COOLDOWN
        if not self._running or (self._fetching is None and just_done):
            return succeed(self._good)
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
        # Redirects are not followed: the keys come from where the options say, or not at all.
        fetching: Deferred[Any] = self._agent.request(b"GET", self._url.encode("ascii"), headers)
        self._fetching = fetching
        fetching.addCallback(_read).addTimeout(TIMEOUT, self._reactor).addCallback(self._taken)
        fetching.addErrback(self._failed).addBoth(self._end)

    def _taken(self, body: bytes) -> None:
        self._take(parse_set(body))
        self._good = True
        self.problem = None

    def _failed(self, failure: Failure) -> None:
        self._good = False
        why = _words(failure)
        if self.problem is not None:
            self.problem = f"the keys for tokens cannot be fetched: {why}"
        if self._running:
            # A query may hold a secret of its own.
            where = self._url.partition("?")[0]
            _log.warn("the keys for tokens cannot be fetched from {url}: {why}", url=where, why=why)

    def _end(self, _: object) -> None:
        self._fetching = None
        self._ended = self._reactor.seconds()
        if self._running:
            self._timer = self._reactor.callLater(REFRESH if self._good else RETRY, self._fetch)
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done.callback(self._good)


def make_tokens(
    settings: Settings, reactor: Any, use: "Callable[[str, float], Deferred[bool]] | None"
) -> tuple[Tokens, JWKS | None]:
    """
    Make what checks the tokens of a server's clients.

    Args:
        settings: the options; they name a key.
        reactor: fetches run on it.
        use: uses up what can be used once; None to leave it unused.

    Returns:
        What checks them, and what fetches keys, to be started and stopped; None where there is nothing to fetch.

    Raises:
        SettingError: a key is none.
    """
    keys = KeyRing(configured(settings), fetching=bool(settings.token_jwks_url))
    terms = Terms(settings.token_audience, settings.token_issuer, settings.token_leeway)
    if not settings.token_jwks_url:
        return Tokens(keys, terms, time, use=use), None
    jwks = JWKS(settings.token_jwks_url, keys.take, reactor)
    return Tokens(keys, terms, time, jwks.refetch, use), jwks


def _words(failure: Failure) -> str:
    cause: Any = failure.value
    # The agent wraps what went wrong while a response was awaited or read.
    for inner in getattr(cause, "reasons", ()):
        cause = inner.value
    return str(cause) or type(cause).__name__


def _read(response: IResponse) -> "Deferred[bytes]":
    body = _Body()
    response.deliverBody(body)
    if response.code != HTTPStatus.OK:
        body.fail(f"the answer is {response.code}")
    return body.done


class _Body(Protocol):
    """Collects a body up to its limit; whoever sends it may send more, or never end."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._size = 0
        self.done: Deferred[bytes] = Deferred(lambda _: self._hang_up())

    def _hang_up(self) -> None:
        cast(ITransport, self.transport).loseConnection()

    def fail(self, reason: str) -> None:
        """End it from our side."""
        self._hang_up()
        if not self.done.called:
            self.done.errback(ValueError(reason))

    def dataReceived(self, data: bytes) -> None:
        """Take some of it."""
        self._size += len(data)
        self._chunks.append(data)
        if self._size > MAX_DOCUMENT and not self.done.called:
            self.fail(f"the document is over {MAX_DOCUMENT} bytes")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It has ended, as it should or not."""
        if self.done.called:
            return
        # Without a Content-Length the end of the connection is that of the body.
        if reason.check(ResponseDone, PotentialDataLoss):
            self.done.callback(b"".join(self._chunks))
        else:
            self.done.errback(reason)
