"""
Recovery in pages: a subscriber that returns is sent what it missed piece by piece, as it reads.

A page is bounded, and few are read at once: neither one subscriber that has missed much, nor many that return together,
hold up the others or fill the memory.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime

__all__ = ["MAX_BUFFERED", "MAX_READS", "PAGE_BYTES", "PAGE_SIZE", "PageReader", "ReadLimit"]

PAGE_SIZE: Final = 128
"""Most publications in a page."""

PAGE_BYTES: Final = 64 * 1024
"""Most bytes of their data; a larger publication is a page by itself."""

MAX_BUFFERED: Final = 128 * 1024
"""
Most bytes that wait for one connection while its channels are recovered: publications without an offset, and what
arrives while a page is read. What has an offset is dropped beyond that and read from the stream.
"""

MAX_READS: Final = 4
"""Most pages that are being read, or were handed to their subscriber in this turn of the reactor."""


class ReadLimit(NamedTuple):
    """How much of a stream is read at once."""

    publications: int
    """Most publications."""
    size: int
    """Most bytes of their data; a larger publication is read by itself."""

    def less(self, publications: int, size: int) -> "ReadLimit":
        """Return what is left of the limit, nothing at all if one of the two is used up."""
        left = ReadLimit(self.publications - publications, self.size - size)
        return left if min(left) > 0 else ReadLimit(0, 0)


class PageReader:
    """
    Read pages, a few in each turn of the reactor.

    Args:
        reactor: for the next turn.
    """

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        self._waiting: deque[tuple[Callable[[], Any], Deferred[Any]]] = deque()
        self._running = 0

    def read(self, start: Callable[[], "Deferred[Any]"]) -> "Deferred[Any]":
        """
        Read a page once it is its turn.

        Args:
            start: begins to read; what its result is used for is done in the same turn.

        Returns:
            Fires with the result, never before this method has returned.
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
