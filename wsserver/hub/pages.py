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

__all__ = ["MAX_READS", "PAGES_PER_TURN", "PAGE_BYTES", "PAGE_SIZE", "SECONDS_PER_TURN", "PageReader"]

PAGE_SIZE: Final = 128
"""Maximum number of publications in a page."""

PAGE_BYTES: Final = 64 * 1024
"""Maximum size of a page's data in bytes; a publication that is larger is a page of its own."""

MAX_READS: Final = 4
"""Maximum number of pages that are being read from the broker at the same time."""

PAGES_PER_TURN: Final = 64
"""Maximum number of pages that are read and delivered in one event-loop iteration."""

SECONDS_PER_TURN: Final = 0.010
"""
Seconds of reading and delivering after which no further page is read in the same event-loop iteration.

It is twice the time for new requests (`wsserver.wire.limits`): if clients reconnect as fast as the server permits, the
server finishes more recoveries than it begins. Otherwise, unfinished ones would take more and more memory.
"""


class PageReader:
    """
    Reads pages within a budget for each event-loop iteration, at most `MAX_READS` at the same time.

    Args:
        reactor: schedules reads in the next event-loop iteration. Its clock measures the time that the pages take.
    """

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        self._waiting: deque[tuple[Callable[[], Any], Deferred[Any]]] = deque()
        self._running = 0
        self._is_scheduled = False

    def read(self, start: Callable[[], "Deferred[Any]"]) -> "Deferred[Any]":
        """
        Queue the read of a page.

        Args:
            start: a function that starts the read, and returns a Deferred that fires with the page. It is called as
                soon as the budget and `MAX_READS` permit, but never before `read` has returned.

        Returns:
            A Deferred that fires with the page, at the same time as the Deferred that `start` returned.
        """
        done: Deferred[Any] = Deferred()
        self._waiting.append((start, done))
        if self._running < MAX_READS:
            self._schedule()
        return done

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._reactor.callLater(0, self._start_turn)

    def _start_turn(self) -> None:
        self._is_scheduled = False
        pages, end = PAGES_PER_TURN, self._reactor.seconds() + SECONDS_PER_TURN
        while self._waiting and self._running < MAX_READS and pages and self._reactor.seconds() < end:
            pages -= 1
            start, done = self._waiting.popleft()
            self._running += 1
            # If the page is available at once, this delivers it.
            maybeDeferred(start).chainDeferred(done)
            done.addBoth(self._finish)

    def _finish(self, result: Any) -> Any:
        self._running -= 1
        # Even if nothing waits: the receiver may request the next page in the next iteration, before this call.
        self._schedule()
        return result
