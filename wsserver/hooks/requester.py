"""
Send hook requests to a backend over HTTP, one POST each, with limits on time, concurrency and size.

The limits protect the server from a slow or broken backend. A request ends after its timeout. For each event, at most
`MAX_AT_ONCE` requests are in progress, and at most `MAX_WAITING` wait. No answer may be larger than `MAX_BYTES`.
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IConsumer
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import ResponseFailed, ResponseNeverReceived
from twisted.web.http import OK
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from wsserver.config.parsers import show_duration
from wsserver.hooks.messages import TEMPORARY, HookError
from wsserver.text import quote
from wsserver.typing import Header
from wsserver.wire.connections import ConnectionSet
from wsserver.wire.counters import Histogram
from wsserver.wire.http_client import BodyCollector

__all__ = ["MAX_AT_ONCE", "MAX_BYTES", "MAX_WAITING", "HookQueue"]

# At module level, because a Twisted Logger in a class body uses the name of the class as its namespace.
_log = Logger(namespace="wsserver.hooks")

MAX_AT_ONCE = 64
"""Maximum number of requests in progress per event."""

MAX_WAITING = 1024
"""Maximum number of requests per event that wait to be sent. Further requests are answered with `TEMPORARY`."""

MAX_BYTES = 64 * 1024
"""Maximum size of an answer, in bytes; the same as for a request to the HTTP API."""

_Answer = TypeVar("_Answer")


class HookQueue:
    """
    The hook requests for one event, limited in number and time.

    Args:
        event: the event, one of `wsserver.hooks.messages.EVENTS`.
        url: the address of the hook.
        agent: sends the requests.
        timeout: maximum seconds per request, including the time that it is queued because of `MAX_AT_ONCE`.
        reactor: schedules the timeouts.
    """

    def __init__(self, event: str, url: str, agent: IAgent, timeout: float, reactor: Any) -> None:
        self.requests = 0
        """How many requests were made, including rejected ones."""
        self.failed = 0
        """How many requests failed: no answer in time, or an invalid answer."""
        self.rejected = 0
        """How many requests were rejected, because too many were waiting or the server is stopping."""
        self.durations = Histogram(0.005, 0.025, 0.1, 0.25, 1, 2.5, 10)
        """How long the requests took that were not rejected."""
        self._event = event
        self._url = url.encode("ascii")
        # Without the query, which may contain a secret.
        self._shown = url.partition("?")[0]
        self._agent = agent
        self._timeout = timeout
        self._reactor = reactor
        self._running = 0
        self._waiting: deque[Deferred[None]] = deque()
        self._open: ConnectionSet[Deferred[Any]] = ConnectionSet()
        self._stopped = False
        self._failing = False

    def configure(self, url: str, timeout: float) -> None:
        """Set the address and the timeout of further requests."""
        self._url, self._shown, self._timeout = url.encode("ascii"), url.partition("?")[0], timeout

    def request(
        self, request: bytes, headers: Iterable[Header], read: Callable[[bytes], _Answer]
    ) -> "Deferred[_Answer | HookError]":
        """
        Send a hook request.

        Args:
            request: the body.
            headers: the client's headers that are forwarded to the backend.
            read: parses the body of the response; raises ValueError if it is malformed.

        Returns:
            A Deferred that fires with the answer, or with `TEMPORARY` if there is no valid answer in time. It never
            fails.
        """
        self.requests += 1
        if self._stopped or len(self._waiting) >= MAX_WAITING:
            self.rejected += 1
            return succeed(TEMPORARY)
        done: Deferred[Any] = Deferred.fromCoroutine(self._call(request, _headers(headers)))
        self._open.add(done)
        started = self._reactor.seconds()
        done.addTimeout(self._timeout, self._reactor, onTimeoutCancel=_too_slow)
        done.addCallback(read)
        done.addCallbacks(self._on_answer, self._on_failure)

        def forget(answer: Any) -> Any:
            self._open.discard(done)
            self.durations.observe(self._reactor.seconds() - started)
            return answer

        return done.addCallback(forget)

    def stop(self) -> "Deferred[None]":
        """Reject further requests. Return a Deferred that fires when every open request has ended."""
        self._stopped = True
        return self._open.emptied()

    async def _call(self, request: bytes, headers: Headers) -> bytes:
        await self._acquire_slot()
        try:
            try:
                return await self._post(request, headers)
            except ResponseNeverReceived as error:
                # The backend may have closed the connection as idle while the request was being sent: retry once.
                if not all(reason.check(ConnectionDone, ConnectionLost) for reason in error.reasons):
                    raise
                return await self._post(request, headers)
        finally:
            if self._waiting:
                self._waiting.popleft().callback(None)
            else:
                self._running -= 1

    def _acquire_slot(self) -> "Deferred[None]":
        if self._running < MAX_AT_ONCE:
            self._running += 1
            return succeed(None)
        turn: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(turn)
        return turn

    async def _post(self, request: bytes, headers: Headers) -> bytes:
        response: IResponse = await self._agent.request(b"POST", self._url, headers, _Body(request))
        body = await _read(response)
        if response.code != OK:
            # A redirect is an error, too: hook requests must not go to another server.
            raise ValueError(f"expected status 200, got {response.code}")
        return body

    def _on_answer(self, answer: Any) -> Any:
        if self._failing:
            self._failing = False
            _log.info("hook recovered event={event}", event=self._event)
        return answer

    def _on_failure(self, failure: Failure) -> HookError:
        error = _cause(failure)
        if isinstance(error, CancelledError):
            # The caller cancelled the request.
            return TEMPORARY
        self.failed += 1
        # Logged once when the failures begin, not for every client.
        if not self._failing:
            self._failing = True
            _log.warn(
                "hook failed event={event} url={url} reason={reason}",
                event=self._event,
                url=self._shown,
                reason=quote(f"{type(error).__name__}: {error}", 200),
            )
        return TEMPORARY


def _too_slow(_: object, timeout: float) -> Failure:
    return Failure(TimeoutError(f"no answer within {show_duration(timeout)}"))


def _cause(failure: Failure) -> Any:
    error: Any = failure.value
    return error.reasons[0].value if isinstance(error, ResponseFailed) and error.reasons else error


def _headers(given: Iterable[Header]) -> Headers:
    headers = Headers({"content-type": ["application/json"]})
    for name, value in given:
        headers.addRawHeader(name.encode("ascii"), value.encode("latin-1"))
    return headers


@implementer(IBodyProducer)
class _Body:
    """A request body that is written in one call. Twisted's own producer schedules its writes on the global reactor."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.length = len(body)

    def startProducing(self, consumer: IConsumer) -> "Deferred[None]":
        """Write the body."""
        consumer.write(self._body)
        return succeed(None)

    def pauseProducing(self) -> None:
        """Do nothing: the body has been written."""

    def resumeProducing(self) -> None:
        """Do nothing: the body has been written."""

    def stopProducing(self) -> None:
        """Do nothing: the body has been written."""


def _read(response: IResponse) -> "Deferred[bytes]":
    body = BodyCollector(MAX_BYTES)
    response.deliverBody(body)
    return body.done
