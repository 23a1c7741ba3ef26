"""
Reading streams in pages, and only a few pages at the same time.

Pages have a maximum size. So other subscribers are not delayed, and the memory is not exhausted, if a subscriber missed
many publications or many subscribers return at the same time.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime

__all__ = ["MAX_READS", "PAGE_BYTES", "PAGE_SIZE", "PageReader"]

PAGE_SIZE: Final = 128
"""Maximum number of publications in a page."""

PAGE_BYTES: Final = 64 * 1024
"""Maximum size of a page's data in bytes; a publication that is larger is a page of its own."""

MAX_READS: Final = 4
"""Maximum number of pages that are being read, or were delivered in this event-loop iteration."""


class PageReader:
    """
    Reads pages, at most `MAX_READS` at the same time and at most `MAX_READS` in each event-loop iteration.

    Args:
        reactor: schedules reads in the next event-loop iteration.
    """

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        self._waiting: deque[tuple[Callable[[], Any], Deferred[Any]]] = deque()
        self._running = 0

    def read(self, start: Callable[[], "Deferred[Any]"]) -> "Deferred[Any]":
        """
        Queue the read of a page.

        Args:
            start: a function that starts the read, and returns a Deferred that fires with the page. It is called as
                soon as `MAX_READS` permits, but never before `read` has returned.

        Returns:
            A Deferred that fires with the page, at the same time as the Deferred that `start` returned.
        """
        done: Deferred[Any] = Deferred()
        self._waiting.append((start, done))
        if len(self._waiting) + self._running <= MAX_READS:
            self._reactor.callLater(0, self._start_next)
        return done

    def _start_next(self) -> None:
        while self._waiting and self._running < MAX_READS:
            start, done = self._waiting.popleft()
            self._running += 1
            maybeDeferred(start).chainDeferred(done)
            done.addBoth(self._finish)

    def _finish(self, result: Any) -> Any:
        self._reactor.callLater(0, self._free)
        return result

    def _free(self) -> None:
        self._running -= 1
        self._start_next()
