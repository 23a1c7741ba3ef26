"""
Stalled clients: send something, but have stopped reading, so that what the server has queued for them stays.

While a client does not read, the server does not read from it either. So the server sees neither the client's Close
frame nor its pongs, and without this module only the missing pong would end the connection.
"""

from collections.abc import Callable
from typing import Any

from wsserver.wire.timers import Deadline, Deadlines

__all__ = ["Stall"]

CHECKS = 2
"""Number of checks within the time for which a client may accept nothing."""


class Stall:
    """
    Watches a connection that the server does not read from, because the client does not read.

    The connection is dropped if the client has accepted nothing for some time although it has sent something itself,
    such as a Close frame. A client that has sent nothing may only be slow: it is not dropped.

    Args:
        transport: the connection's transport. Nothing is watched if it does not tell how much data waits.
        deadlines: schedules the checks.
        seconds: how long the client may accept nothing.
        drop: drops the connection.
        waiting: returns how many bytes have been read, but wait until the client reads.
    """

    __slots__ = ("_checks_left", "_deadline", "_deadlines", "_drop", "_interval", "_transport", "_unsent", "_waiting")

    def __init__(
        self,
        transport: Any,
        deadlines: Deadlines,
        seconds: float,
        drop: Callable[[], object],
        waiting: Callable[[], int],
    ) -> None:
        self._waiting = waiting
        self._transport, self._deadlines, self._drop = transport, deadlines, drop
        self._interval = seconds / CHECKS
        self._checks_left = CHECKS
        self._unsent = 0
        self._deadline: Deadline | None = None
        if getattr(transport, "unsent", None) is not None:
            self._watch()

    def _watch(self) -> None:
        self._unsent = self._transport.unsent
        self._deadline = self._deadlines.call_later(self._interval, self._check)

    def _check(self) -> None:
        self._deadline = None
        has_sent = self._transport.unread > 0 or self._waiting() > 0
        is_stalled = self._transport.unsent >= self._unsent and has_sent
        self._checks_left = self._checks_left - 1 if is_stalled else CHECKS
        if self._checks_left:
            self._watch()
        else:
            self._drop()

    def stop(self) -> None:
        """End the watch: the client reads again, or the connection is closed."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
