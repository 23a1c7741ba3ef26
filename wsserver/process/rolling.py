"""Restart the workers of a group one by one, without refusing a connection."""

import json
from collections.abc import Callable
from typing import Any, Final

from twisted.logger import Logger

from wsserver.listening.errors import describe_error
from wsserver.process.group import Group, Worker

__all__ = ["READY_TIMEOUT", "RollingRestart"]

_log = Logger(namespace="wsserver.workers")

READY_TIMEOUT: Final = 30.0
"""Seconds that a new worker may take to be ready; then the restart ends, and the old workers stay."""


class RollingRestart:
    """
    A restart of all workers of a group.

    For each number, a new worker starts. Once it is ready, the old one stops accepting connections, closes its own, and
    exits. Then it is the turn of the next number.

    Args:
        group: the workers.
        on_end: called when the restart has ended.
    """

    def __init__(self, group: Group, on_end: Callable[[], object]) -> None:
        self._group, self._on_end = group, on_end
        self._numbers = list(group.numbers())
        self._old: Worker | None = None
        self._new: Worker | None = None
        self._timer: Any = None

    def start(self) -> None:
        """Start the restart."""
        _log.info("restarting the workers one by one workers={count}", count=self._group.count)
        self._group.watchers.add(self._changed)
        self._next()

    def _next(self) -> None:
        if not self._numbers:
            self._end()
            _log.info("all workers are restarted workers={count}", count=self._group.count)
            return
        number = self._numbers.pop(0)
        self._old = self._group.current.get(number)
        if self._old is None:
            # It has just exited, so that its successor is new anyway.
            self._next()
            return
        try:
            self._new = self._group.new_worker(number)
        except OSError as error:
            self._give_up(number, f"cannot be started: {describe_error(error)}")
            return
        self._timer = self._group.clock.callLater(READY_TIMEOUT, self._give_up_waiting, self._new)

    def _changed(self, worker: Worker) -> None:
        has_exited = worker not in self._group.running
        if worker is self._new:
            if has_exited:
                self._give_up(worker.number, "has exited")
            elif worker.ready and self._timer is not None:
                self._take_over(worker)
        elif worker is self._old and has_exited and self._timer is None:
            self._next()

    def _take_over(self, worker: Worker) -> None:
        self._timer.cancel()
        self._timer = self._new = None
        # If the old worker has exited in the meantime, this is another one.
        self._old = self._group.take_over(worker)
        if self._old is not None:
            self._group.leave(self._old)
        else:
            self._next()

    def _give_up_waiting(self, new: Worker) -> None:
        self._timer = None
        self._give_up(new.number, "is not ready in time")
        self._group.leave(new)

    def _give_up(self, number: int, why: str) -> None:
        self._end()
        reason = json.dumps(f"the new worker {why}")
        _log.error("the restart is cancelled worker={worker} reason={reason}", worker=number, reason=reason)

    def _end(self) -> None:
        self.cancel()
        self._on_end()

    def cancel(self) -> None:
        """Start no further worker: the server stops."""
        self._group.watchers.discard(self._changed)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._new = None
