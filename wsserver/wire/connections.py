"""Connection sets with an "emptied" notification."""

from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred

__all__ = ["ConnectionSet", "SocketSet"]

T = TypeVar("T")


class ConnectionSet(Generic[T]):
    """A set of connections that can notify callers when it becomes empty."""

    def __init__(self) -> None:
        # A dictionary, because a large set that grows takes up to four times as much memory as it needs.
        self._all: dict[T, Any] = {}
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


class SocketSet(ConnectionSet[Any]):
    """The connections of all listeners, each with a label, and a callback when one is removed."""

    def __init__(self) -> None:
        super().__init__()
        self.on_discard: Callable[[Any], object] | None = None
        """Called with the label of each connection that is removed; None for no callback."""

    def label(self, one: Any) -> Any:
        """Return the label of a connection; None if it has none."""
        return self._all.get(one)

    def set_label(self, one: Any, label: Any) -> None:
        """Set the label of a connection in the set; `replace` passes it on to the other connection."""
        self._all[one] = label

    def replace(self, one: Any, other: Any) -> None:
        """Replace a connection with another one, which gets its label."""
        self._all[other] = self._all.pop(one, None)

    def discard(self, one: Any) -> None:
        """Remove a connection if the set contains it, and notify `on_discard`."""
        if one not in self._all:
            return
        label = self._all.pop(one)
        if self.on_discard is not None:
            self.on_discard(label)
        if not self._all:
            self._notify()
