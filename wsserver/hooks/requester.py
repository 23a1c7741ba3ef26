"""
Questions to a backend over HTTP: a POST each, so many at once, so many waiting, an answer of so many bytes.

What a backend does wrong harms nobody but its own clients: a question takes no longer than the time allowed, of each
kind no more than `MAX_AT_ONCE` are under way and `MAX_WAITING` wait, and no answer is read beyond `MAX_BYTES`.
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IConsumer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone, ResponseFailed, ResponseNeverReceived
from twisted.web.http import OK, PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from wsserver.config.parsers import show_duration
from wsserver.hooks.messages import TEMPORARY, Refused
from wsserver.text import quote
from wsserver.wire.connections import ConnectionSet
from wsserver.wire.http11 import Header

__all__ = ["MAX_AT_ONCE", "MAX_BYTES", "MAX_WAITING", "Line"]

# Of the module, not of a class: on a class Twisted would replace the namespace by the class's name.
_log = Logger(namespace="wsserver.hooks")

MAX_AT_ONCE = 64
"""Most questions of a kind that are under way."""

MAX_WAITING = 1024
"""Most questions of a kind that wait for one of those to end; one more is answered with `TEMPORARY`."""

MAX_BYTES = 64 * 1024
"""Most bytes of an answer: what an API request may have, too."""

_Answer = TypeVar("_Answer")


class Line:
    """
    The questions of one kind: so many at once, so many waiting.

    Args:
        event: which kind.
        url: where they go.
        agent: sends them.
        timeout: seconds for each, waiting included.
        reactor: for deadlines.
    """

    def __init__(self, event: str, url: str, agent: IAgent, timeout: float, reactor: Any) -> None:
        self.asked = 0
        """How many questions there were."""
        self.failed = 0
        """How many of them found no answer."""
        self.crowded_out = 0
        """How many of them were one too many."""
        self._event = event
        self._url = url.encode("ascii")
        # A query may have a secret in it.
        self._shown = url.partition("?")[0]
        self._agent = agent
        self._timeout = timeout
        self._reactor = reactor
        self._running = 0
        self._waiting: deque[Deferred[None]] = deque()
        self._open: ConnectionSet[Deferred[Any]] = ConnectionSet()
        self._stopped = False
        self._failing = False

    def ask(
        self, question: bytes, headers: Iterable[Header], read: Callable[[bytes], _Answer]
    ) -> "Deferred[_Answer | Refused]":
        """
        Ask.

        Args:
            question: the body.
            headers: of the client, for the backend.
            read: makes an answer of the response's body, or raises ValueError.

        Returns:
            Fires with the answer, with `TEMPORARY` where there is none; never fails.
        """
        self.asked += 1
        if self._stopped or len(self._waiting) >= MAX_WAITING:
            self.crowded_out += 1
            return succeed(TEMPORARY)
        done: Deferred[Any] = Deferred.fromCoroutine(self._call(question, _headers(headers)))
        self._open.add(done)
        done.addTimeout(self._timeout, self._reactor, onTimeoutCancel=_too_slow)
        done.addCallback(read)
        done.addCallbacks(self._works, self._fails)

        def forget(answer: Any) -> Any:
            self._open.discard(done)
            return answer

        return done.addCallback(forget)

    def stop(self) -> "Deferred[None]":
        """Ask nothing more; fires when every question is answered or given up."""
        self._stopped = True
        return self._open.emptied()

    async def _call(self, question: bytes, headers: Headers) -> bytes:
        await self._turn()
        try:
            try:
                return await self._post(question, headers)
            except ResponseNeverReceived as error:
                # The backend may have closed the connection as idle while the question was on its way.
                if not all(reason.check(ConnectionDone, ConnectionLost) for reason in error.reasons):
                    raise
                return await self._post(question, headers)
        finally:
            if self._waiting:
                self._waiting.popleft().callback(None)
            else:
                self._running -= 1

    def _turn(self) -> "Deferred[None]":
        if self._running < MAX_AT_ONCE:
            self._running += 1
            return succeed(None)
        turn: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(turn)
        return turn

    async def _post(self, question: bytes, headers: Headers) -> bytes:
        response: IResponse = await self._agent.request(b"POST", self._url, headers, _Body(question))
        body = await _read(response)
        if response.code != OK:
            # A redirect, too: what a backend is asked is nobody else's business.
            raise ValueError(f"the status is {response.code}")
        return body

    def _works(self, answer: Any) -> Any:
        if self._failing:
            self._failing = False
            _log.info("the backend answers {event} again", event=self._event)
        return answer

    def _fails(self, failure: Failure) -> Refused:
        error = _cause(failure)
        if isinstance(error, CancelledError):
            # Nobody waits for it any more.
            return TEMPORARY
        self.failed += 1
        # One line when it begins, not one for each client.
        if not self._failing:
            self._failing = True
            _log.warn(
                "the backend does not answer {event} at {url}: {reason}",
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
    """A body that is written at once. Twisted's own producer takes its time from the global reactor."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.length = len(body)

    def startProducing(self, consumer: IConsumer) -> "Deferred[None]":
        """Write it."""
        consumer.write(self._body)
        return succeed(None)

    def pauseProducing(self) -> None:
        """Do nothing: it is written already."""

    def resumeProducing(self) -> None:
        """Do nothing."""

    def stopProducing(self) -> None:
        """Do nothing."""


def _read(response: IResponse) -> "Deferred[bytes]":
    collector = _Collector()
    response.deliverBody(collector)
    return collector.done


class _Collector(Protocol):
    """Read a response's body, up to `MAX_BYTES`."""

    transport: Any

    def __init__(self) -> None:
        self.done: Deferred[bytes] = Deferred(lambda _: self._leave())
        self._body = bytearray()

    def dataReceived(self, data: bytes) -> None:
        """Take a piece."""
        self._body += data
        if len(self._body) > MAX_BYTES and not self.done.called:
            self._leave()
            self.done.errback(ValueError(f"it is over {MAX_BYTES} bytes"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Take note of its end."""
        if self.done.called:
            return
        # Without a length the end of the connection is its end; half a JSON is none.
        if reason.check(ResponseDone, PotentialDataLoss):
            self.done.callback(bytes(self._body))
        else:
            self.done.errback(reason)

    def _leave(self) -> None:
        self.transport.stopProducing()
