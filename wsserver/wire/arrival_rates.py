"""
Rates: how often something may happen, with a burst.

Each limit is a single number, the time at which its burst is completely available again (the "generic cell rate
algorithm"). This module does not use Twisted, a clock or a socket.
"""

__all__ = ["KeyedRates", "Rate", "Throttle"]

_ROUNDING = 1e-3
"""Part of an event that is allowed in excess, because the sum of many small times is not exact."""


class Rate:
    """
    A limit of events per second, with a burst.

    Args:
        rate: events per second in the long run; above 0.
        burst: events that are allowed at once, after a pause.
    """

    __slots__ = ("_full_at", "_spacing", "_tolerance")

    def __init__(self, rate: float, burst: float) -> None:
        self._spacing = 1 / rate
        self._tolerance = (burst - 1 + _ROUNDING) / rate
        self._full_at = float("-inf")

    def take(self, now: float) -> bool:
        """Return whether an event is allowed now, and count it if so."""
        full_at = max(self._full_at, now)
        if full_at - now > self._tolerance:
            return False
        self._full_at = full_at + self._spacing
        return True


class KeyedRates:
    """
    The same limit of events per second for each of many keys.

    A key is forgotten once its burst is available again, and the one that was used least recently if there are too
    many. All operations take constant time.

    Args:
        rate: events per second for each key; above 0.
        burst: events of a key that are allowed at once, after a pause.
        max_keys: maximum number of keys that are remembered.
    """

    __slots__ = ("_full_at", "_max_keys", "_spacing", "_tolerance")

    def __init__(self, rate: float, burst: float, max_keys: int) -> None:
        self._spacing = 1 / rate
        self._tolerance = (burst - 1 + _ROUNDING) / rate
        self._max_keys = max_keys
        self._full_at: dict[str, float] = {}
        """Key -> when its burst is completely available again; in the order in which the keys were last used."""

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, key: str, now: float) -> bool:
        """Return whether an event of a key is allowed now, and count it if so."""
        known = self._full_at
        full_at = known.pop(key, now)
        if full_at - now > self._tolerance:
            known[key] = full_at
            return False
        known[key] = max(full_at, now) + self._spacing
        self._forget(now)
        return True

    def _forget(self, now: float) -> None:
        """Forget up to two keys that no longer matter, so that more are forgotten than added."""
        known = self._full_at
        for _ in range(2):
            oldest = next(iter(known))
            if known[oldest] > now and len(known) <= self._max_keys:
                return
            del known[oldest]


class Throttle:
    """
    Lets one event through per interval, and counts the others; for log lines.

    Args:
        interval: seconds.
    """

    __slots__ = ("_interval", "_next", "_suppressed")

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._next = float("-inf")
        self._suppressed = 0

    def take(self, now: float) -> int | None:
        """Return the number of events suppressed before this one; None if this one must be suppressed, too."""
        if now < self._next:
            self._suppressed += 1
            return None
        suppressed, self._suppressed = self._suppressed, 0
        self._next = now + self._interval
        return suppressed
