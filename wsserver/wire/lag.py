"""The lag of the event loop: how long the server did not react to anything, because other work kept it busy."""

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReactorTime

__all__ = ["INTERVAL", "LagMeter"]

INTERVAL = 0.1
"""Seconds between two measurements. If the event loop is blocked for longer, the lag is at least the rest of it."""


class LagMeter:
    """
    Measures by how much a timer is late.

    Args:
        reactor: the reactor whose event loop is measured.
        observe: called with the seconds by which the timer was late, `1 / INTERVAL` times per second.
    """

    def __init__(self, reactor: IReactorTime, observe: Callable[[float], object]) -> None:
        self._reactor, self._observe = reactor, observe
        self._timer: Any = None
        self._due = 0.0

    def start(self) -> None:
        """Begin to measure; do nothing if it has begun."""
        if self._timer is None:
            self._schedule()

    def stop(self) -> None:
        """Stop measuring."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _schedule(self) -> None:
        self._due = self._reactor.seconds() + INTERVAL
        self._timer = self._reactor.callLater(INTERVAL, self._measure)

    def _measure(self) -> None:
        self._observe(max(0.0, self._reactor.seconds() - self._due))
        self._schedule()
