"""
Poller: one epoll instance that watches all connections, and is itself watched by the reactor.

An epoll descriptor is readable while at least one of the descriptors registered in it is ready. So the reactor sees a
single reader, and does its work for an event (a logging context, a log prefix, a turn of its loop) once per batch of
events instead of once per event.

Transports use the poller as their reactor: they add and remove readers and writers in it. The poller forwards every
other attribute to the real reactor.
"""

import select
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from wsserver.wire import frames

__all__ = [
    "DONE",
    "IN",
    "LOST",
    "MAX_EVENTS",
    "OUT",
    "READ_SIZE",
    "Poller",
    "Watched",
    "py_serve",
    "py_serve_event",
    "reading",
]

_log = Logger(namespace="wsserver.poller")

MAX_EVENTS = 1024
"""Maximum number of events read from the kernel in one turn of the reactor."""

READ_SIZE = 256 * 1024
"""Maximum number of bytes read from a connection in one turn of the reactor."""

MIN_READ_SIZE = 16 * 1024
"""The same if very many connections are ready."""

BYTES_PER_BATCH = 4 * 1024 * 1024
"""
Maximum number of bytes read from all connections in one turn, unless `MIN_READ_SIZE` of each are more.

Without this limit, a turn would be the longer the more connections flood the server.
"""

SECONDS_OF_ENDINGS = 0.005
"""
Seconds of a turn in which the poller notifies protocols that their connections have ended; further ones wait.

A client may end many connections at once, e.g. when its process exits, and each of them may have many subscriptions.
"""

# Constants of this module, because reading `select.EPOLLIN` at each use would be slower.
IN, OUT, ENDED = 1, 4, 0x18
"""EPOLLIN, EPOLLOUT, EPOLLERR | EPOLLHUP."""

# Shared, as Twisted shares those of its own: making a failure for each connection takes longer than closing its socket.
DONE, LOST = Failure(CONNECTION_DONE), Failure(CONNECTION_LOST)
"""The reasons why nearly all connections end."""


class Watched(Protocol):
    """An object that the poller watches: an IReadWriteDescriptor of Twisted that supports half close."""

    watched: int
    """The events that the descriptor is registered for; 0 if it is not registered. Set by the poller."""
    connected: int
    """Whether `connectionLost` has not been called yet."""
    aborting: bool
    """Whether `abortConnection` has been called; it closes the connection with a reset."""

    # As in Twisted's IReadDescriptor, IWriteDescriptor and IHalfCloseableDescriptor.
    fileno: Callable[[], int]
    doRead: Callable[[], Exception | None]
    doWrite: Callable[[], Exception | None]
    readConnectionLost: Callable[[Failure], None]
    connectionLost: Callable[[Failure], None]


class Reading:
    """How much may be read from a connection. The compiled loop has a copy of its own."""

    def __init__(self) -> None:
        self.size = READ_SIZE
        """Maximum number of bytes to read from a connection, in the batch that is being served."""

    def divide(self, ready: int) -> None:
        """Divide the bytes of a batch among the connections that are ready, or whose bytes wait."""
        self.size = max(MIN_READ_SIZE, min(READ_SIZE, BYTES_PER_BATCH // max(ready, 1)))


reading = Reading()


def py_serve_event(  # noqa: PLR0917 (positional: fastest for the compiled version)
    fd: int,
    what: int,
    watched: dict[int, Watched],
    fresh: set[int],
    other: Callable[[Watched, int], None],
    failed: Callable[[Watched], None],
    disconnect: Callable[..., None],
) -> None:
    """
    Process the events of one descriptor.

    Args:
        fd: the file descriptor.
        what: its epoll events.
        watched: as for `py_serve`.
        fresh: as for `py_serve`.
        other: as for `py_serve`.
        failed: as for `py_serve`.
        disconnect: as for `py_serve`.
    """
    one = watched.get(fd)
    # A handler in this batch has closed this connection; a new connection may already use its descriptor.
    if one is None or fd in fresh:
        return
    if what != IN or not one.watched & IN:
        other(one, what)
        return
    try:
        why = one.doRead()
    except BaseException:
        failed(one)
    else:
        if why is not None:
            disconnect(one, why, read=True)


def py_serve(  # noqa: PLR0917 (positional: fastest for the compiled version)
    epoll: "select.epoll",
    most: int,
    watched: dict[int, Watched],
    fresh: set[int],
    other: Callable[[Watched, int], None],
    failed: Callable[[Watched], None],
    disconnect: Callable[..., None],
    waiting: int,
) -> None:
    """
    Read events from the kernel, without waiting, and process them.

    Args:
        epoll: the epoll instance.
        most: maximum number of events to read; at most `MAX_EVENTS`.
        watched: file descriptor -> watched object; changes while this function runs.
        fresh: descriptors registered since the events were read; grows while this function runs.
        other: called with a watched object and its events if there are events other than `IN`, or if the object is not
            watched for reading.
        failed: called within the `except` clause, with a watched object whose `doRead` raised an exception.
        disconnect: called with a watched object and the reason that its `doRead` returned.
        waiting: number of connections with received bytes that wait; they have a share of the bytes of a batch, too.

    Raises:
        OSError: the events cannot be read.
    """
    events = epoll.poll(0, most)
    reading.divide(len(events) + waiting)
    for fd, what in events:
        py_serve_event(fd, what, watched, fresh, other, failed, disconnect)


serve = frames.SPEEDUPS.serve if frames.COMPILED else py_serve


@implementer(IReadDescriptor)
class Poller:
    """
    An epoll instance that watches connections.

    Args:
        reactor: watches the poller until `stop` is called.
        count_waiting: returns the number of connections with received bytes that wait for a later turn.

    Raises:
        OSError: the system cannot create another epoll instance.
        AttributeError: the system has no epoll; see `available`.
    """

    available = hasattr(select, "epoll")
    """Whether this system has epoll."""

    def __init__(self, reactor: Any, count_waiting: Callable[[], int] = int) -> None:
        self._reactor = reactor
        self._count_waiting = count_waiting
        self._epoll = select.epoll()
        self._watched: dict[int, Watched] = {}
        self._fresh: set[int] | None = None
        """
        Descriptors registered while a batch is processed; None at other times.

        An event in that batch for such a descriptor belongs to a closed connection that had the same number.
        """
        self._closing: list[Watched] = []
        """Connections to close at the end of the batch, or in the next turn of the reactor."""
        self._ended: deque[tuple[Watched, Failure, bool, bool]] = deque()
        """Connections that have ended, and whose protocols are notified in the next turns: arguments of `_notify`."""
        self._seconds = SECONDS_OF_ENDINGS
        """The rest of the seconds of this turn."""
        reactor.addReader(self)

    def stop(self) -> None:
        """Stop watching, and remove the poller from the reactor. Connections get no more events."""
        self._reactor.removeReader(self)
        self._epoll.close()
        self._watched.clear()

    def sum_queued(self) -> int:
        """Return how many bytes are queued for all peers, because the kernel has not accepted them."""
        # Only connections with a queue are watched for writing. Not everything that is watched is a connection.
        return sum(getattr(one, "queued", 0) for one in self._watched.values() if one.watched & OUT)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    # IReactorFDSet: called by transports.

    def addReader(self, watched: Watched) -> None:
        """Call `doRead` when the descriptor is readable."""
        self._watch(watched, watched.watched | IN)

    def addWriter(self, watched: Watched) -> None:
        """Call `doWrite` when the descriptor is writable."""
        self._watch(watched, watched.watched | OUT)

    def removeReader(self, watched: Watched) -> None:
        """Stop calling `doRead`."""
        self._watch(watched, watched.watched & ~IN)

    def removeWriter(self, watched: Watched) -> None:
        """Stop calling `doWrite`."""
        self._watch(watched, watched.watched & ~OUT)

    def close_later(self, watched: Watched) -> None:
        """
        Stop watching a descriptor now, and call `connectionLost` at the end of the batch, or in the next turn.

        In the meantime the descriptor may be added as a writer. Then `doWrite` closes it, once all data has been sent.
        A connection that is aborted in the meantime is not closed here.
        """
        self._watch(watched, 0)
        self._closing.append(watched)
        if self._fresh is None and len(self._closing) == 1:
            self._reactor.callLater(0, self._close)

    def _close(self) -> None:
        closing, self._closing = self._closing, []
        for watched in closing:
            if watched.connected and not watched.watched & OUT and not watched.aborting:
                self._lose(watched, DONE)

    def _watch(self, watched: Watched, events: int) -> None:
        before = watched.watched
        if events == before:
            return
        fd = watched.fileno()
        if self._epoll.closed:
            watched.watched = events
            return
        if fd < 0 and before:
            # The descriptor was closed without being removed. The kernel has unregistered it, and may reuse its number.
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

    # IReadDescriptor: called by the reactor.

    def fileno(self) -> int:
        """Return the descriptor of the epoll instance; -1 after `stop`."""
        return self._epoll.fileno() if not self._epoll.closed else -1

    def logPrefix(self) -> str:
        """Return the name of the poller in log lines."""
        return "wsserver"

    def doRead(self) -> None:
        """Process the events of the connections that are ready."""
        fresh = self._fresh = set()
        waiting = self._count_waiting()
        serve(self._epoll, MAX_EVENTS, self._watched, fresh, self._serve, self._failed, self._disconnect, waiting)
        self._fresh = None
        if self._closing:
            self._close()
        if not self._ended:
            self._seconds = SECONDS_OF_ENDINGS

    def _serve(self, watched: Watched, events: int) -> None:
        """Process those events of a connection that `serve` does not process."""
        read = False
        why: Exception | None = None
        try:
            # As in Twisted's reactors, a connection that has ended is read to its end first.
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
        # As in Twisted's reactors, any exception of a handler closes its own connection and no other.
        _log.failure("a connection's handler failed")
        self._watch(watched, 0)
        self._lose(watched, LOST, is_alive=True)

    def _disconnect(self, watched: Watched, why: Exception, *, read: bool) -> None:
        if read and isinstance(why, ConnectionDone):
            self.removeReader(watched)
            self._lose(watched, DONE, read=True)
        else:
            self._watch(watched, 0)
            self._lose(watched, LOST if why is CONNECTION_LOST else Failure(why))

    def _lose(self, watched: Watched, reason: Failure, *, read: bool = False, is_alive: bool = False) -> None:
        if self._ended or self._seconds <= 0:
            self._ended.append((watched, reason, read, read or is_alive))
            if len(self._ended) == 1:
                self._reactor.callLater(0, self._notify_next)
        else:
            self._notify(watched, reason, read)

    def _notify_next(self) -> None:
        self._seconds, ended = SECONDS_OF_ENDINGS, self._ended
        while ended and self._seconds > 0:
            watched, reason, read, is_alive = ended[0]
            # It may have been closed meanwhile. If a dead one has something to send, `doWrite` closes it.
            if watched.connected and not watched.aborting and (is_alive or not watched.watched & OUT):
                self._notify(watched, reason, read)
            ended.popleft()
        if ended:
            self._reactor.callLater(0, self._notify_next)

    def _notify(self, watched: Watched, reason: Failure, read: bool) -> None:
        began = self._reactor.seconds()
        try:
            (watched.readConnectionLost if read else watched.connectionLost)(reason)
        except BaseException:
            _log.failure("a connection's handler failed")
        self._seconds -= self._reactor.seconds() - began

    def connectionLost(self, reason: Failure) -> None:
        """Notify all connections that they are lost. Called by the reactor when it stops and removes its readers."""
        self._close()
        for watched in [*(one for one, *_ in self._ended), *self._watched.values()]:
            watched.watched = 0
            with _log.failuresHandled("a connection's handler failed"):
                watched.connectionLost(reason)
        self._watched.clear()
        self.stop()
