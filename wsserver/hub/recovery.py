"""
Recovery in pages: a returning subscriber receives the publications that it missed one page at a time, as it reads.

Pages have a maximum size, and only a few are read at the same time. So neither one subscriber that has missed much nor
many that return together delay other subscribers or use up the memory.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime

__all__ = ["MAX_BUFFERED", "MAX_READS", "PAGE_BYTES", "PAGE_SIZE", "PageReader", "ReadLimit"]

PAGE_SIZE: Final = 128
"""Maximum number of publications in a page."""

PAGE_BYTES: Final = 64 * 1024
"""Maximum size of a page's data in bytes; a larger publication is a page by itself."""

MAX_BUFFERED: Final = 128 * 1024
"""
Maximum number of bytes buffered for one connection while its channels are recovered: publications without an offset,
and publications that arrive while a page is read. Beyond it the buffer is dropped: publications with an offset are then
read from the stream, and the subscriber is notified that others may be missing.
"""

MAX_READS: Final = 4
"""Maximum number of pages that are being read, or were passed to their subscriber in this turn of the reactor."""


class ReadLimit(NamedTuple):
    """The most to read from a stream at once."""

    publications: int
    """Maximum number of publications."""
    size: int
    """Maximum size of their data in bytes; a larger publication is read by itself."""

    def less(self, publications: int, size: int) -> "ReadLimit":
        """Return the rest of the limit after a read of this size; both parts are 0 if one of them is used up."""
        left = ReadLimit(self.publications - publications, self.size - size)
        return left if min(left) > 0 else ReadLimit(0, 0)


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
