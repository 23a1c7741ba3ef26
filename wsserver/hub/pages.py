"""
Reading streams in pages.

Pages have a maximum size, and only a few are read at the same time. So neither one subscriber that has missed much nor
many that return together delay other subscribers or use up the memory.
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
"""Maximum size of a page's data in bytes; a larger publication is a page by itself."""

MAX_READS: Final = 4
"""Maximum number of pages that are being read, or were passed to their subscriber in this turn of the reactor."""


class PageReader:
    """
    Reads pages, at most `MAX_READS` at the same time and in each turn of the reactor.

    Args:
        reactor: starts reads in the next turn.
    """

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        self._waiting: deque[tuple[Callable[[], Any], Deferred[Any]]] = deque()
        self._running = 0

    def read(self, start: Callable[[], "Deferred[Any]"]) -> "Deferred[Any]":
        """
        Queue the read of a page.

        Args:
            start: starts the read, and returns a Deferred. The callbacks of the Deferred returned here run in the turn
                in which that one fires.

        Returns:
            A Deferred that fires with the result of `start`, never before this method has returned.
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
