"""How long to wait before a worker is replaced. This module does not use Twisted, a clock or processes."""

from collections import deque
from typing import Final

__all__ = ["MAX_DELAY", "MAX_EXITS", "STABLE", "WINDOW", "Backoff"]

MAX_EXITS: Final = 5
"""Number of exits within `WINDOW` from which on a worker is replaced with a delay."""

WINDOW: Final = 10.0
"""See `MAX_EXITS`, in seconds."""

STABLE: Final = 10.0
"""Seconds of service after which the earlier exits of a worker are forgotten."""

MAX_DELAY: Final = 30.0
"""Longest delay in seconds."""


class Backoff:
    """The exits of the workers with one number: 1, 2, 4 ... seconds of delay if they are frequent."""

    def __init__(self) -> None:
        self._exits: deque[float] = deque(maxlen=MAX_EXITS)
        self._delay = 0.0

    def exited(self, now: float, served: float) -> float:
        """
        Record an exit.

        Args:
            now: the time in seconds.
            served: the time in seconds for which the worker has served connections.

        Returns:
            The delay in seconds after which the worker is to be replaced; 0 for none.
        """
        if served >= STABLE:
            self._exits.clear()
            self._delay = 0.0
        self._exits.append(now)
        if self._delay:
            self._delay = min(2 * self._delay, MAX_DELAY)
        elif len(self._exits) == MAX_EXITS and now - self._exits[0] <= WINDOW:
            self._delay = 1.0
        return self._delay

    def failed(self) -> float:
        """Record that no process could be started; return the delay in seconds after which to try again."""
        self._delay = min(2 * self._delay, MAX_DELAY) if self._delay else 1.0
        return self._delay
