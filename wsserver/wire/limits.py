"""
Budgets: limit the work that the server does in one turn of the reactor for clients that send many requests at once.

A client can put thousands of HTTP requests or commands into one write. If the server answered all of them before it
served the next connection, that client would block all others. So each connection submits itself to the `WorkQueue`,
which serves one request per connection, round-robin, until the budget of the reactor's turn is used up.
"""

from collections import OrderedDict
from typing import Any, Protocol

from twisted.internet.interfaces import IReactorTime

__all__ = ["BYTES_PER_TURN", "MAX_UNSERVED", "PIECES_PER_TURN", "SECONDS_PER_TURN", "WorkQueue", "Worker"]

PIECES_PER_TURN = 64
"""Maximum number of requests and commands, of all connections together, served in one turn of the reactor."""

BYTES_PER_TURN = 1024 * 1024
"""Bytes of responses after which no further request or command is served in the same turn."""

SECONDS_PER_TURN = 0.005
"""Seconds of work after which no further request or command is served in the same turn."""

MAX_UNSERVED = 16 * 1024
"""Bytes of unserved requests above which the server stops reading from a connection."""


class Worker(Protocol):
    """A connection with requests or commands to serve."""

    def serve_one(self) -> bool:
        """
        Serve one request or command, and call `WorkQueue.charge` for its response.

        Returns:
            Whether there may be another one to serve now.
        """

    def finish_turn(self) -> None:
        """Send the responses of this turn. Called once after the last `serve_one` of a turn."""

    def work_failed(self) -> None:
        """Close the connection: `serve_one` or `finish_turn` raised an exception. Called within the `except` clause."""


class WorkQueue:
    """
    A queue of connections that are served round-robin, within a budget for each turn of the reactor.

    Args:
        reactor: schedules the next turn. Its clock measures the time that the work takes.
    """

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        self._waiting: OrderedDict[Worker, None] = OrderedDict()
        self._serving = False
        self._next_turn: Any = None
        self._renew()

    def __len__(self) -> int:
        """Return the number of connections that wait to be served."""
        return len(self._waiting)

    def __contains__(self, worker: Worker) -> bool:
        """Return whether a connection waits to be served."""
        return worker in self._waiting

    def submit(self, worker: Worker) -> None:
        """
        Serve a connection: now if the budget allows it, else in a later turn of the reactor.

        Args:
            worker: the connection. If it waits already, it keeps its place in the queue.
        """
        self._waiting[worker] = None
        if not self._serving and self._next_turn is None:
            self._serve()

    def submit_later(self, worker: Worker) -> None:
        """Serve a connection like `submit`, but in the next turn of the reactor."""
        self._waiting[worker] = None
        if not self._serving and self._next_turn is None:
            self._next_turn = self._reactor.callLater(0, self._start_turn)

    def discard(self, worker: Worker) -> None:
        """Remove a connection from the queue, because it is closed or another worker continues its work."""
        self._waiting.pop(worker, None)

    def charge(self, size: int) -> None:
        """
        Count an answered request or command against the budget of this turn.

        Args:
            size: size of the response, in bytes.
        """
        self._pieces -= 1
        self._bytes -= size

    @property
    def exhausted(self) -> bool:
        """Whether the budget of this turn is used up."""
        return self._pieces <= 0 or self._bytes <= 0 or self._seconds <= 0

    def spend(self, size: int) -> None:
        """
        Count the compression of data against the budget of this turn.

        Args:
            size: size of the uncompressed data, in bytes.
        """
        self._bytes -= size // 2

    # The budget is renewed only in turns that the queue has scheduled, so no turn can use more than one budget.

    def _renew(self) -> None:
        self._pieces, self._bytes, self._seconds = PIECES_PER_TURN, BYTES_PER_TURN, SECONDS_PER_TURN

    def _start_turn(self) -> None:
        self._next_turn = None
        self._renew()
        self._serve()

    def _serve(self) -> None:
        waiting, seconds = self._waiting, self._reactor.seconds
        served: dict[Worker, None] = {}
        self._serving, last = True, seconds()
        while waiting and self._pieces > 0 and self._bytes > 0 and self._seconds > 0:
            worker, _ = waiting.popitem(last=False)
            served[worker] = None
            try:
                if worker.serve_one():
                    waiting[worker] = None
            except Exception:
                worker.work_failed()
            now = seconds()
            self._seconds -= now - last
            last = now
        for worker in served:
            try:
                worker.finish_turn()
            except Exception:
                worker.work_failed()
        self._serving = False
        if waiting:
            self._next_turn = self._reactor.callLater(0, self._start_turn)
