"""Collect the numbers of all workers, for the metrics."""

from collections.abc import Mapping
from typing import Any, Final

from twisted.internet.defer import Deferred

from wsserver.process.group import Group, Worker

__all__ = ["ANSWER_TIMEOUT", "Collector", "Numbers"]

ANSWER_TIMEOUT: Final = 2.0
"""Seconds that the supervisor waits for the answers of the workers."""

Numbers = Mapping[str, Mapping[str, Any]]
"""Number of a worker, or `supervisor` -> its numbers."""


class Collector:
    """
    Collects the numbers of the workers of a group; it asks them once for all scrapes at the same time.

    Args:
        group: the workers.
    """

    def __init__(self, group: Group) -> None:
        self._group = group
        self._missing: set[Worker] = set()
        self._answers: dict[str, Mapping[str, Any]] = {}
        self._waiting: list[Deferred[Numbers]] = []
        self._timer: Any = None

    def collect(self) -> "Deferred[Numbers]":
        """Return a Deferred that fires with the numbers of the workers that answer in time; it never fails."""
        done: Deferred[Numbers] = Deferred()
        self._waiting.append(done)
        if len(self._waiting) == 1:
            self._ask()
        return done

    def _ask(self) -> None:
        group = self._group
        self._timer = group.clock.callLater(ANSWER_TIMEOUT, self._finish)
        group.watchers.add(self._changed)
        asked = [worker for worker in group.current.values() if worker.is_accepting()]
        self._missing = {worker for worker in asked if worker.process.send({"type": "count"})}
        if not self._missing:
            self._finish()

    def answered(self, worker: Worker, numbers: Mapping[str, Any]) -> None:
        """Process the answer of a worker."""
        if worker in self._missing:
            self._answers[str(worker.number)] = numbers
            self._note(worker)

    def _changed(self, worker: Worker) -> None:
        if worker not in self._group.running:
            self._note(worker)

    def _note(self, worker: Worker) -> None:
        self._missing.discard(worker)
        if not self._missing:
            self._finish()

    def _finish(self) -> None:
        if not self._waiting:
            return
        if self._timer.active():
            self._timer.cancel()
        self._group.watchers.discard(self._changed)
        answers, self._answers = self._answers, {}
        waiting, self._waiting = self._waiting, []
        self._missing = set()
        answers["supervisor"] = _count(self._group)
        for done in waiting:
            done.callback(answers)


def _count(group: Group) -> Mapping[str, Any]:
    """Return what the supervisor has counted."""
    return {
        "workers": group.count,
        "serving": sum(worker.is_accepting() for worker in group.current.values()),
        "exits": {str(number): count for number, count in group.exits.items()},
        "hung": group.hung,
    }
