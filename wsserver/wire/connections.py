"""Who is there: sets of connections that tell when they are empty."""

from collections.abc import Iterator
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred

__all__ = ["ConnectionSet"]

T = TypeVar("T")


class ConnectionSet(Generic[T]):
    """A set of connections."""

    def __init__(self) -> None:
        self._all: set[T] = set()
        self._waiting: list[Deferred[None]] = []

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, one: T) -> bool:
        return one in self._all

    def __iter__(self) -> Iterator[T]:
        """Go over those that are there now; they may leave meanwhile."""
        return iter(list(self._all))

    def add(self, one: T) -> None:
        """Take one in."""
        self._all.add(one)

    def discard(self, one: T) -> None:
        """Take one out, if it is there."""
        self._all.discard(one)
        if not self._all:
            self._tell()

    def replace(self, one: T, other: T) -> None:
        """Take one out and another in, in one step."""
        self._all.add(other)
        self._all.discard(one)

    def emptied(self) -> "Deferred[None]":
        """Return what fires when none is there any more, at once where none is."""
        done: Deferred[None] = Deferred()
        self._waiting.append(done)
        if not self._all:
            self._tell()
        return done

    def _tell(self) -> None:
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done.callback(None)
