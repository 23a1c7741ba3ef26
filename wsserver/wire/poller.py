"""
One reader for all connections: an epoll instance of our own, itself watched by whatever reactor runs.

An epoll descriptor is readable while one of those registered in it is ready. So the reactor sees a single reader, and
its bookkeeping for an event (a logging context, a log prefix, a turn of its loop) is paid once for a batch. To a
transport the poller is its reactor: readers and writers are added to it, everything else is asked of the real one.
"""

import select
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from wsserver.wire import frames

__all__ = ["IN", "MAX_EVENTS", "OUT", "Poller", "Watched", "py_serve"]

_log = Logger(namespace="wsserver.poller")

MAX_EVENTS = 1024
"""Most events taken from the kernel in one turn of the reactor."""

# Read once: an attribute of a module is looked up by name at each use.
IN, OUT, ENDED = 1, 4, 0x18
"""EPOLLIN, EPOLLOUT, EPOLLERR | EPOLLHUP."""


class Watched(Protocol):
    """What the poller watches: Twisted's IReadWriteDescriptor with half close, and a place for the poller's mark."""

    watched: int
    """The events it waits for; 0 while it is not registered. The poller's own."""

    # As in Twisted's IReadDescriptor, IWriteDescriptor and IHalfCloseableDescriptor.
    fileno: Callable[[], int]
    doRead: Callable[[], Exception | None]
    doWrite: Callable[[], Exception | None]
    readConnectionLost: Callable[[Failure], None]
    connectionLost: Callable[[Failure], None]


def py_serve(  # noqa: PLR0917 (by place, as a compiled function takes them fastest)
    events: list[tuple[int, int]],
    watched: dict[int, Watched],
    fresh: set[int],
    other: Callable[[Watched, int], None],
    failed: Callable[[Watched], None],
    disconnect: Callable[..., None],
) -> None:
    """
    Serve a batch of events.

    Args:
        events: descriptors and what has happened there.
        watched: descriptor -> what is watched; changes while this runs.
        fresh: descriptors that were registered since the events were taken; grows while this runs.
        other: serves what is more than something to read.
        failed: told of whatever a `doRead` has raised.
        disconnect: told why a connection has ended, as `doRead` says it.
    """
    for fd, what in events:
        one = watched.get(fd)
        # Closed by the handler of another one in this batch, its number perhaps taken by a new one.
        if one is None or fd in fresh:
            continue
        if what == IN and one.watched & IN:
            try:
                why = one.doRead()
            except BaseException:
                failed(one)
            else:
                if why is not None:
                    disconnect(one, why, read=True)
        else:
            other(one, what)


serve = frames.SPEEDUPS.serve if frames.COMPILED else py_serve


@implementer(IReadDescriptor)
class Poller:
    """
    Watch connections.

    Args:
        reactor: watches the poller. With `stop` it is let go.

    Raises:
        OSError: the system has no room for another epoll instance.
        AttributeError: the system has no epoll; see `available`.
    """

    available = hasattr(select, "epoll")
    """Whether this system has epoll."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._epoll = select.epoll()
        self._watched: dict[int, Watched] = {}
        self._fresh: set[int] | None = None
        """Descriptors registered while events are served: an event of the same batch is of one that was closed."""
        reactor.addReader(self)

    def stop(self) -> None:
        """Let go of the reactor. What is still watched gets no more events."""
        self._reactor.removeReader(self)
        self._epoll.close()
        self._watched.clear()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    # What a transport asks of its reactor: IReactorFDSet.

    def addReader(self, watched: Watched) -> None:
        """Tell it when it can read."""
        self._watch(watched, watched.watched | IN)

    def addWriter(self, watched: Watched) -> None:
        """Tell it when it can write."""
        self._watch(watched, watched.watched | OUT)

    def removeReader(self, watched: Watched) -> None:
        """Do not tell it any more when it can read."""
        self._watch(watched, watched.watched & ~IN)

    def removeWriter(self, watched: Watched) -> None:
        """Do not tell it any more when it can write."""
        self._watch(watched, watched.watched & ~OUT)

    def _watch(self, watched: Watched, events: int) -> None:
        before = watched.watched
        if events == before:
            return
        fd = watched.fileno()
        if self._epoll.closed:
            watched.watched = events
            return
        if fd < 0 and before:
            # Closed behind our back: the kernel has forgotten it, and its number here is its own no more.
            for number in [number for number, other in self._watched.items() if other is watched]:
                del self._watched[number]
            watched.watched = events
            return
        if not before:
            self._epoll.register(fd, events)
            self._watched[fd] = watched
            if self._fresh is not None:
                self._fresh.add(fd)
        elif events:
            self._epoll.modify(fd, events)
        else:
            self._epoll.unregister(fd)
            del self._watched[fd]
        watched.watched = events

    # What the reactor asks of a reader: IReadDescriptor.

    def fileno(self) -> int:
        """Tell the epoll instance's descriptor; -1 once stopped."""
        return self._epoll.fileno() if not self._epoll.closed else -1

    def logPrefix(self) -> str:
        """Name it in logs."""
        return "wsserver"

    def doRead(self) -> None:
        """Serve the connections that are ready."""
        fresh = self._fresh = set()
        events = self._epoll.poll(0, MAX_EVENTS)
        serve(events, self._watched, fresh, self._serve, self._failed, self._disconnect)
        self._fresh = None

    def _serve(self, watched: Watched, events: int) -> None:
        """Serve what is more than something to read."""
        read = False
        why: Exception | None = None
        try:
            # As Twisted's reactors do: while there is something to read, an ended connection has not ended yet.
            if events & ENDED and not events & IN:
                why = CONNECTION_DONE if watched.watched & IN else CONNECTION_LOST
            elif events & IN and watched.watched & IN:
                read = True
                why = watched.doRead()
            if why is None and events & OUT and watched.watched & OUT:
                read = False
                why = watched.doWrite()
        except BaseException:
            self._failed(watched)
            return
        if why is not None:
            self._disconnect(watched, why, read=read)

    def _failed(self, watched: Watched) -> None:
        # Twisted's reactors let nothing through either: whatever it is, it concerns one connection.
        _log.failure("a connection's handler failed")
        self._disconnect(watched, CONNECTION_LOST, read=False)

    def _disconnect(self, watched: Watched, why: Exception, *, read: bool) -> None:
        self.removeReader(watched)
        try:
            if read and isinstance(why, ConnectionDone):
                watched.readConnectionLost(Failure(why))
            else:
                self.removeWriter(watched)
                watched.connectionLost(Failure(why))
        except BaseException:
            _log.failure("a connection's handler failed")

    def connectionLost(self, reason: Failure) -> None:
        """End all connections: the reactor stops, and gives up its readers."""
        for watched in list(self._watched.values()):
            watched.watched = 0
            with _log.failuresHandled("a connection's handler failed"):
                watched.connectionLost(reason)
        self._watched.clear()
        self.stop()
