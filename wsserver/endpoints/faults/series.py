"""Series: many messages or frames that a fault connection sends, fairly to the other clients of the server."""

from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["Series"]

RETRY = 0.05
"""Seconds after which a series looks again whether the client reads."""

SHORTEST = 0.01
"""Minimum number of seconds between two times that a series with a rate sends something."""


class Series:
    """
    A series, which the server's `WorkQueue` sends piece by piece; see `wsserver.wire.limits.Worker`.

    Args:
        connection: a `FaultProtocol`.
        pieces: yields what to put into its output; or empty bytes if it has put something there itself.
        rate: number of pieces per second; 0 for as many as the client reads.
        then: called after the last one.
        is_one_frame: whether the pieces are parts of one frame, so that everything else waits for the last one.
    """

    def __init__(
        self,
        connection: Any,
        pieces: Iterator[bytes],
        rate: float,
        then: Callable[[], object] | None,
        *,
        is_one_frame: bool,
    ) -> None:
        self._connection, self._pieces, self._rate, self._then = connection, pieces, rate, then
        self._frame = self if is_one_frame else None
        self._started = connection.factory.reactor.seconds()
        self._sent = 0

    def start(self) -> None:
        """Send the first piece as soon as the server has time."""
        if self._frame is not None:
            self._connection.output.begin_frame(self._frame)
        self._connection.factory.work.submit(self)

    def _go_on(self) -> None:
        self._connection.factory.work.submit(self)

    def serve_one(self) -> bool:
        """Send the next piece if it is due; return whether another one may be due now."""
        connection = self._connection
        if not connection.may_send(is_one_frame=self._frame is not None):
            return False
        if connection.output.is_full_for(self._frame):
            return self._sleep(RETRY)
        now = connection.factory.reactor.seconds()
        if self._rate and now < (due := self._started + self._sent / self._rate):
            return self._sleep(max(SHORTEST, due - now))
        before = connection.sent
        piece = next(self._pieces, None)
        if piece is None:
            self._end()
            return False
        self._sent += 1
        connection.output.put(piece, frame=self._frame)
        connection.factory.work.charge(connection.sent - before)
        return True

    def _end(self) -> None:
        if self._frame is not None:
            self._connection.output.end_frame()
        if self._then is not None:
            self._then()

    def _sleep(self, seconds: float) -> bool:
        self._connection.later(seconds, self._go_on)
        return False

    def finish_turn(self) -> None:
        """Do nothing: each piece is written at once."""

    def work_failed(self) -> None:
        """Close the connection with 1011."""
        self._connection._endpoint_failed()  # noqa: SLF001 (of this package)
