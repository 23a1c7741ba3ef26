"""Output: the bytes that a fault connection sends, in order, with delays and in small pieces."""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.interfaces import IReactorTime

__all__ = ["MAX_QUEUED", "Output"]

MAX_QUEUED = 256 * 1024
"""Size of the queue in bytes from which the connection is not read, and series of messages wait."""


@dataclass(slots=True)
class _Piece:
    data: bytes
    due: float
    chunk: int
    pause: float
    start: int = 0


class Output:
    """
    A queue of bytes, each piece with the time from which it may be written.

    Args:
        write: writes bytes to the connection.
        changed: called when the queue has changed.
        clock: the reactor.
        delay: seconds from `put` until the bytes are written.
        jitter: maximum number of seconds, chosen at random, that are added to the delay.
        chunk: maximum number of bytes to write at a time; 0 for all.
        pause: seconds between two writes.
    """

    def __init__(
        self,
        write: Callable[[bytes], object],
        changed: Callable[[], object],
        clock: IReactorTime,
        *,
        delay: float = 0,
        jitter: float = 0,
        chunk: int = 0,
        pause: float = 0,
    ) -> None:
        self._write, self._changed, self._clock = write, changed, clock
        self._delay, self._jitter, self._chunk, self._pause = delay, jitter, chunk, pause
        self._queue: deque[_Piece] = deque()
        self._timer: Any = None
        self._next = 0.0
        """Before this time, nothing is written."""
        self._is_blocked = False
        self.is_mute = False
        """Whether nothing more is written."""
        self.size = 0
        """Number of bytes in the queue."""

    @property
    def is_full(self) -> bool:
        """Whether the queue is long, or the peer does not read."""
        return self._is_blocked or self.size >= MAX_QUEUED

    def put(self, data: bytes, chunk: int = 0, pause: float = 0) -> None:
        """
        Write bytes after those in the queue.

        Args:
            data: the bytes.
            chunk: maximum number of bytes to write at a time; 0 for that of the constructor.
            pause: seconds between two writes, if there is a chunk.
        """
        if self.is_mute or not data:
            return
        wait = self._delay + (random.uniform(0, self._jitter) if self._jitter else 0)  # noqa: S311 (no secret)
        if not chunk:
            chunk, pause = self._chunk, self._pause
        if not (self._queue or wait or chunk or self._is_blocked):
            self._write(data)
            return
        self._queue.append(_Piece(data, self._clock.seconds() + wait, chunk or len(data), pause))
        self.size += len(data)
        self._changed()
        self._pump()

    def mute(self) -> None:
        """Drop the queue, and everything that is put from now on."""
        self.is_mute = True
        self._queue.clear()
        self.size = 0
        self._cancel()

    def block(self) -> None:
        """Write nothing until `unblock`: the peer does not read."""
        self._is_blocked = True

    def unblock(self) -> None:
        """Write again."""
        self._is_blocked = False
        self._pump()

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake(self) -> None:
        self._timer = None
        self._pump()

    def _pump(self) -> None:
        now = self._clock.seconds()
        while self._queue and not self._is_blocked and self._timer is None:
            piece = self._queue[0]
            due = max(piece.due, self._next)
            if due > now:
                self._timer = self._clock.callLater(due - now, self._wake)
                return
            self._write_part(piece, now)
            self._changed()

    def _write_part(self, piece: _Piece, now: float) -> None:
        part = piece.data[piece.start : piece.start + piece.chunk]
        piece.start += len(part)
        self.size -= len(part)
        self._next = now + piece.pause
        if piece.start >= len(piece.data):
            self._queue.popleft()
            # A pause between this piece and the next one is only that of the constructor.
            self._next = now + self._pause if self._chunk else now
        self._write(part)
