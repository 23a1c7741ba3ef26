"""
Timers: deadlines of many connections on few reactor timers, and a reactor clock that does not follow the system clock.

Connections use few distinct durations. Deadlines with the same duration expire in the order in which they were set, so
each duration has a queue, and one reactor timer for the head of that queue. Setting and cancelling a deadline take
constant time, however many there are.

Durations use the reactor's clock, `reactor.seconds()`. Dates, log times and token lifetimes use `time.time()`.
"""

import time
from collections.abc import Callable, Iterator
from types import MethodType
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

__all__ = ["Deadline", "Deadlines", "use_monotonic_clock"]

# A module-level logger: as a class attribute, Twisted would replace its namespace with the name of the class.
_log = Logger(namespace="wsserver.timers")


SLACK = 0.01
"""
Part of its delay by which a deadline may be late, so that one turn of the reactor serves many.

If every ping of 20,000 idle connections woke the reactor, each would need three times as much CPU time.
"""


class _Entry:
    """An entry of a circular list, linked in both directions."""

    __slots__ = ("next", "previous")


class Deadline(_Entry):
    """
    A scheduled call that can be cancelled. Made by `Deadlines.call_later`.

    Every idle connection has one, so its size counts: it is its own entry in the queue, and it keeps the function and
    the object of a bound method instead of the method.
    """

    __slots__ = ("_function", "_object", "due")

    def __init__(self, queue: "_Queue", due: float, function: Callable[..., object]) -> None:
        last: Any = queue.previous
        self.previous: Any = last
        self.next: Any = queue
        """The neighbours in the queue; None once the deadline is in no queue."""
        last.next = queue.previous = self
        self.due = due
        """The earliest time of the call: seconds on the reactor's clock."""
        self._object: object = None
        self._function: Callable[..., object] | None = function
        if type(function) is MethodType:
            self._object, self._function = function.__self__, function.__func__

    def cancel(self) -> None:
        """Cancel the call. Does nothing if the function was called or cancelled already."""
        previous = self.previous
        if previous is not None:
            following = self.next
            previous.next, following.previous = following, previous
            self.previous = self.next = None
            # The object that keeps a deadline is often the one whose method it calls. This breaks that reference cycle.
            self._function = self._object = None

    def call(self) -> None:
        """Remove the deadline from its queue, and call the function. The deadline must not be cancelled."""
        function, one = self._function, self._object
        self.cancel()
        assert function is not None
        function() if one is None else function(one)


class _Queue(_Entry):
    """The deadlines with the same duration, as they expire: the circular list that begins and ends with this entry."""

    __slots__ = ()

    def __init__(self) -> None:
        self.next: Any = self
        self.previous: Any = self

    def __iter__(self) -> Iterator[Deadline]:
        entry = self.next
        while entry is not self:
            yield entry
            entry = entry.next

    def __bool__(self) -> bool:
        return self.next is not self

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Deadlines:
    """
    A scheduler of deadlines, with one reactor timer for each duration.

    Args:
        reactor: provides the clock and the timers.
    """

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        self._queues: dict[float, _Queue] = {}
        self._timers: dict[float, IDelayedCall] = {}

    def call_later(self, delay: float, function: Callable[[], object]) -> Deadline:
        """
        Schedule a function to be called once, after a delay, or up to `SLACK` later.

        Args:
            delay: seconds. Use few distinct values: the queue of each value is kept forever.
            function: called without arguments; an exception that it raises is logged.

        Returns:
            The deadline, which can be cancelled.
        """
        queue = self._queues.get(delay)
        if queue is None:
            queue = self._queues[delay] = _Queue()
        deadline = Deadline(queue, self._reactor.seconds() + delay, function)
        # A timer that was started for a deadline cancelled since can be reused: it fires no later than this one is due.
        if delay not in self._timers:
            self._timers[delay] = self._reactor.callLater(delay, self._serve, delay)
        return deadline

    def stop(self) -> None:
        """Cancel all deadlines."""
        for timer in self._timers.values():
            if timer.active():
                timer.cancel()
        for queue in self._queues.values():
            for deadline in list(queue):
                deadline.cancel()
        self._timers.clear()

    def _serve(self, delay: float) -> None:
        queue = self._queues[delay]
        now = self._reactor.seconds()
        # The timer that has just fired stays in `_timers`, so that a deadline set by one of the calls starts no second.
        while queue and queue.next.due <= now:
            with _log.failuresHandled("a deadline's call failed"):
                queue.next.call()
        if queue:
            wait = max(delay * SLACK, queue.next.due - self._reactor.seconds())
            self._timers[delay] = self._reactor.callLater(wait, self._serve, delay)
        else:
            self._timers.pop(delay, None)


def use_monotonic_clock(reactor: Any) -> None:
    """
    Make a reactor measure time with `time.monotonic`, which does not change when the system clock is set.

    Twisted's reactors schedule calls with `time.time`. When the system clock is set back by an hour, every pending call
    is an hour late; when it is set forward, every pending call is due at once
    (https://github.com/twisted/twisted/issues/2424).

    Affects everything that schedules calls with this reactor, including Twisted's and Autobahn's own code. Afterwards
    `reactor.seconds()` returns seconds since an arbitrary point, not UNIX time. Calls that are already scheduled keep
    their remaining delay. Calling the function again does nothing.

    Args:
        reactor: any Twisted reactor, running or not. Call this in the reactor's thread.
    """
    if reactor.seconds is time.monotonic:
        return
    ahead = time.monotonic() - reactor.seconds()
    reactor.seconds = time.monotonic
    for call in reactor.getDelayedCalls():
        # A scheduled call has its own reference to the clock, which `reset` uses.
        call.seconds = time.monotonic
        call.delay(ahead)
