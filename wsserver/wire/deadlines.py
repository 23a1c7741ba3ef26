"""
Deadlines of many connections on one timer each kind.

All connections wait for the same few times, so what is due comes in the order in which it was set: a queue for each
time, and one call of the reactor for the head of each queue. Setting and cancelling cost the same at any number.
"""

from collections import OrderedDict
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

__all__ = ["Deadline", "Deadlines"]

# Of the module, not of a class: on a class Twisted would replace the namespace by the class's name.
_log = Logger(namespace="wsserver.deadlines")


def _do_nothing() -> None:
    pass


class Deadline:
    """A call to come, until it is cancelled."""

    __slots__ = ("_function", "_queue", "due")

    def __init__(self, queue: "OrderedDict[Deadline, None]", due: float, function: Callable[[], object]) -> None:
        self._queue = queue
        self._function = function
        self.due = due
        """The reactor's time, in seconds, before which it is not called."""

    def cancel(self) -> None:
        """Call it off; once called or cancelled this does nothing."""
        self._queue.pop(self, None)
        # Whoever keeps a deadline is often the one it calls: no cycle is left for the garbage collector to find.
        self._function = _do_nothing

    def call(self) -> None:
        """Call the function."""
        function, self._function = self._function, _do_nothing
        function()


class Deadlines:
    """
    Set deadlines.

    Args:
        reactor: its clock is used.
    """

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        self._queues: dict[float, OrderedDict[Deadline, None]] = {}
        self._timers: dict[float, IDelayedCall] = {}

    def call_later(self, delay: float, function: Callable[[], object]) -> Deadline:
        """
        Call a function once, not before the delay is over.

        Args:
            delay: in seconds. One of few values: each has its own queue for good.
            function: called without arguments; what it raises is logged.

        Returns:
            The deadline, to be cancelled.
        """
        queue = self._queues.get(delay)
        if queue is None:
            queue = self._queues[delay] = OrderedDict()
        deadline = Deadline(queue, self._reactor.seconds() + delay, function)
        queue[deadline] = None
        # A timer left over from cancelled deadlines is as good: it fires no later than this one is due.
        if delay not in self._timers:
            self._timers[delay] = self._reactor.callLater(delay, self._serve, delay)
        return deadline

    def stop(self) -> None:
        """Drop all deadlines without calling them."""
        for timer in self._timers.values():
            if timer.active():
                timer.cancel()
        for queue in self._queues.values():
            queue.clear()
        self._timers.clear()

    def _serve(self, delay: float) -> None:
        queue = self._queues[delay]
        now = self._reactor.seconds()
        # The timer that has just fired stays noted meanwhile: a deadline set by one of the calls must start no other.
        while queue and (deadline := next(iter(queue))).due <= now:
            del queue[deadline]
            with _log.failuresHandled("a deadline's call failed"):
                deadline.call()
        if queue:
            wait = max(0.0, next(iter(queue)).due - self._reactor.seconds())
            self._timers[delay] = self._reactor.callLater(wait, self._serve, delay)
        else:
            self._timers.pop(delay, None)
