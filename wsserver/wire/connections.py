"""Connection sets with an "emptied" notification."""

from collections.abc import Iterator
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred

__all__ = ["ConnectionSet"]

T = TypeVar("T")


class ConnectionSet(Generic[T]):
    """A set of connections that can notify callers when it becomes empty."""

    def __init__(self) -> None:
        # A dictionary, because a large set that grows takes up to four times as much memory as it needs.
        self._all: dict[T, None] = {}
        self._waiting: list[Deferred[None]] = []

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, one: T) -> bool:
        return one in self._all

    def __iter__(self) -> Iterator[T]:
        """Iterate over a copy, so that connections can be added and removed meanwhile."""
        return iter(list(self._all))

    def add(self, one: T) -> None:
        """Add a connection."""
        self._all[one] = None

    def discard(self, one: T) -> None:
        """Remove a connection if the set contains it."""
        self._all.pop(one, None)
        if not self._all:
            self._notify()

    def replace(self, one: T, other: T) -> None:
        """Replace a connection with another one, without an "emptied" notification in between."""
        self._all[other] = None
        self._all.pop(one, None)

    def emptied(self) -> "Deferred[None]":
        """Return a Deferred that fires when the set is empty; it has fired already if the set is empty now."""
        done: Deferred[None] = Deferred()
        self._waiting.append(done)
        if not self._all:
            self._notify()
        return done

    def _notify(self) -> None:
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done.callback(None)
