"""Output: the bytes that a fault connection sends, in order, with delays and in small pieces."""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.interfaces import IReactorTime

__all__ = ["MAX_PIECES", "MAX_QUEUED", "Output"]

MAX_QUEUED = 256 * 1024
"""Size of the queue in bytes from which the connection is not read, and series of messages wait."""

MAX_PIECES = 1024
"""Number of pieces in the queue from which it is the same: a piece takes about 200 bytes, even if it has only two."""


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
        self._frame: object = None
        """The sender of a frame that is put in several pieces; all other bytes wait for its end."""
        self._held: deque[bytes] = deque()
        self._timer: Any = None
        self._next = 0.0
        """Before this time, nothing is written."""
        self._is_blocked = False
        self.is_sealed = False
        """Whether nothing more is accepted."""
        self.size = 0
        """Number of bytes that are not written yet."""
        self._held_size = 0

    @property
    def is_full(self) -> bool:
        """Whether much is not written yet, or the peer does not read."""
        return self._is_blocked or self.size >= MAX_QUEUED or len(self._queue) + len(self._held) >= MAX_PIECES

    @property
    def is_within_piece(self) -> bool:
        """Whether a part of a frame, or of bytes that were put at once, is written."""
        return self._frame is not None or bool(self._queue and self._queue[0].start)

    def is_full_for(self, frame: object) -> bool:
        """Return the same, for the one that sends a frame in several pieces: apart from what waits for its end."""
        return (
            self.is_full if frame is not self._frame else self._is_blocked or self.size - self._held_size >= MAX_QUEUED
        )

    def put(self, data: bytes, frame: object = None) -> None:
        """
        Write bytes after those in the queue.

        Args:
            data: the bytes.
            frame: who has called `begin_frame`, if the bytes belong to that frame.
        """
        if self.is_sealed or not data:
            return
        if frame is not self._frame:
            self._held.append(data)
            self._held_size += len(data)
            self.size += len(data)
            self._changed()
            return
        wait = self._delay + (random.uniform(0, self._jitter) if self._jitter else 0)  # noqa: S311 (no secret)
        if self._queue or wait or self._chunk or self._is_blocked:
            self._append(data, wait, self._chunk, self._pause)
        else:
            self._write(data)

    def put_head(self, data: bytes, delay: float, chunk: int, pause: float) -> None:
        """
        Write the first bytes of the connection, without the delay and the chunks of the constructor.

        Args:
            data: the bytes.
            delay: seconds until then.
            chunk: maximum number of bytes to write at a time; 0 for all.
            pause: seconds between two writes, if there is a chunk.
        """
        self._append(data, delay, chunk, pause)

    def _append(self, data: bytes, wait: float, chunk: int, pause: float) -> None:
        self._queue.append(_Piece(data, self._clock.seconds() + wait, chunk or len(data), pause))
        self.size += len(data)
        self._changed()
        self._pump()

    def begin_frame(self, frame: object) -> None:
        """
        Hold back everything else until the end of a frame that is put in several pieces.

        Args:
            frame: identifies it for `put`.
        """
        self._frame = frame

    def end_frame(self) -> None:
        """Write what has waited for the end of the frame."""
        self._frame = None
        held, self._held = self._held, deque()
        self.size -= self._held_size
        self._held_size = 0
        for data in held:
            self.put(data)
        self._changed()

    def seal(self) -> None:
        """Write what is in the queue, and accept nothing more."""
        self.is_sealed = True
        self._drop_held()

    def mute(self) -> None:
        """Write nothing more."""
        self.is_sealed = True
        self._drop_held()
        self._queue.clear()
        self.size = 0
        self._cancel()

    def _drop_held(self) -> None:
        self._held.clear()
        self.size -= self._held_size
        self._held_size = 0

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
