"""
Metering: how fast a client may send, as token buckets.

This module does not use Twisted, a clock or a socket: the time is an argument.
"""

from typing import Final

__all__ = ["BURST", "Allowance", "Meter"]

BURST: Final = 2
"""Seconds for which a client may save up its rate: so much it may send at once."""


class Allowance:
    """
    A token bucket.

    Args:
        rate: number of units per second; positive.
        now: the current time in seconds, by any clock that does not go backwards.
        most: maximum number of units that may be used at once; None for those of `BURST`.
    """

    __slots__ = ("_left", "_most", "_rate", "_updated")

    def __init__(self, rate: float, now: float, most: float | None = None) -> None:
        self._rate = rate
        self._most = self._left = rate * BURST if most is None else most
        self._updated = now

    def wait(self, now: float) -> float:
        """Return the seconds until a unit may be used; 0 if one may be used now."""
        self._left = min(self._left + (now - self._updated) * self._rate, self._most)
        self._updated = now
        return max(0.0, (1 - self._left) / self._rate)

    @property
    def left(self) -> int:
        """Number of units that may be used now, as of the last call of `wait`."""
        return max(0, int(self._left))

    def use(self, count: float) -> None:
        """Use units. If there are not enough, later units are used in advance."""
        self._left -= count

    def use_and_renew(self, count: float, now: float) -> int:
        """Do what `use`, `wait` and `left` do, in half of the time."""
        left = self._left - count + (now - self._updated) * self._rate
        self._left = left = min(left, self._most)
        self._updated = now
        return int(left) if left > 0 else 0


class Meter:
    """
    What one connection has received, and when it may receive more.

    Args:
        message_rate: maximum number of messages and control frames per second; 0 for no limit.
        byte_rate: maximum number of bytes per second; 0 for no limit.
        now: the current time in seconds.
    """

    __slots__ = ("_bytes", "_counted", "_messages", "_uncounted", "control_frames", "waiting")

    def __init__(self, message_rate: int, byte_rate: int, now: float) -> None:
        self._messages = Allowance(message_rate, now) if message_rate else None
        self._bytes = Allowance(byte_rate, now) if byte_rate else None
        self._counted = 0
        self.control_frames = 0
        """Number of control frames received."""
        self._uncounted = True
        self.waiting = 0
        """Number of bytes that wait and have been counted."""

    def allow(self, messages: int, size: int, most: int, now: float) -> int:
        """
        Count what has arrived, and return how many messages may be processed now.

        Args:
            messages: number of messages that the connection has received since it was opened.
            size: number of bytes that are about to be processed, `waiting` of which have been counted before.
            most: maximum number to return.
            now: the current time in seconds.
        """
        if self._bytes is not None and size:
            self._bytes.wait(now)
            self._uncounted = self._bytes.left <= 0
            if self._uncounted:
                most = 0
            else:
                self._bytes.use(max(0, size - self.waiting))
                self.waiting = 0
        if self._messages is not None:
            messages += self.control_frames
            left = self._messages.use_and_renew(messages - self._counted, now)
            self._counted = messages
            if left < most:
                return left
        return most

    def keep_waiting(self, size: int) -> None:
        """Note that this number of the bytes that were passed to `allow` wait."""
        if not self._uncounted:
            self.waiting = size

    def wait(self, now: float) -> tuple[float, str]:
        """Return the seconds until more may be processed, and the name of the option with the limit that causes it."""
        waits = [
            (rate.wait(now), name)
            for rate, name in ((self._messages, "message_rate"), (self._bytes, "byte_rate"))
            if rate is not None
        ]
        return max(waits)
