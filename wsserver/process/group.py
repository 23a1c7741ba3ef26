"""
The group of worker processes: which of them run, and what is done when one of them exits or does not answer.

Each worker has a number, from 1 to the size of the group, and the listening sockets of this number. While no process
with a number accepts connections, another worker does so in its place.

This module does not start processes. The supervisor passes a function that does, and reports messages and exits.
"""

import json
from collections.abc import Callable
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from wsserver.hub.presence import LEAVE_DELAY
from wsserver.listening.errors import describe_error
from wsserver.process.backoff import Backoff
from wsserver.process.channel import Message

__all__ = [
    "BEAT",
    "DEATH_REPORT_DELAY",
    "FINISHED",
    "HANGS_AFTER",
    "REPLACED_AFTER",
    "START_TIMEOUT",
    "Group",
    "Process",
    "Worker",
]

_log = Logger(namespace="wsserver.workers")

BEAT: Final = 1.0
"""Seconds between two heartbeats of a worker."""

REPLACED_AFTER: Final = 3
"""Heartbeats that a worker misses until another worker accepts the connections in its place."""

HANGS_AFTER: Final = 15
"""Heartbeats that a worker misses until it is killed."""

START_TIMEOUT: Final = 60
"""Seconds that a new worker may take to accept connections; then it is killed."""


DEATH_REPORT_DELAY: Final = LEAVE_DELAY
"""
Seconds after the death of a worker at which its clients leave their channels; those that reconnect before stay listed.
"""

FINISHED: Final = "exit status 0"
"""Exit of a worker that has closed its connections; its clients have already left."""

ABORT_TIMEOUT: Final = 0.8
"""Seconds that a worker may take to drop its connections; then it is killed. Less than `signals.END_WITHIN`."""


class Process(Protocol):
    """A process, as the supervisor started it."""

    pid: int

    def send(self, message: Message) -> object:
        """Send a message to the process."""

    def kill(self) -> None:
        """End the process with SIGKILL."""


class Worker:
    """A worker process."""

    __slots__ = ("failure", "killed", "leaves", "missed", "node", "number", "process", "ready", "serving_since")

    process: Process

    def __init__(self, number: int) -> None:
        self.number = number
        self.missed = 0
        """Number of heartbeats that the worker has missed."""
        self.serving_since: float | None = None
        """Since when the worker accepts connections; None if it does not yet."""
        self.ready = False
        """Whether the worker has connected to Redis and fetched the keys, as `/ready` reports."""
        self.leaves: float | None = None
        """When the worker must have exited; None if it is not to exit."""
        self.killed = False
        """Whether the supervisor has killed the process."""
        self.failure = ""
        """Why the worker could not start, as it has reported."""
        self.node = ""
        """The id of the worker among all processes that share its Redis; empty if it has not accepted connections."""

    def is_accepting(self) -> bool:
        """Return whether the worker accepts connections."""
        return self.serving_since is not None and self.leaves is None and self.missed < REPLACED_AFTER


class Group:
    """
    The workers, and the rules by which they are replaced.

    Args:
        count: the number of workers.
        spawn: starts a process for a worker.
        clock: schedules replacements.
        leave_timeout: maximum seconds that a worker may take to close its connections and exit.
        on_failure: called with the reason if a worker cannot start when the group starts.
    """

    def __init__(
        self,
        count: int,
        spawn: Callable[[Worker], Process],
        clock: IReactorTime,
        *,
        leave_timeout: float,
        on_failure: Callable[[str], object],
    ) -> None:
        self.count = count
        self.leave_timeout = leave_timeout
        self.clock = clock
        self._spawn, self._on_failure = spawn, on_failure
        self.current: dict[int, Worker] = {}
        """Number -> the worker with this number that accepts connections, or will once it has started."""
        self.running: set[Worker] = set()
        """All workers that have not exited."""
        self.started = False
        """Whether every worker has accepted connections once."""
        self.when_started: Deferred[None] = Deferred()
        """Fires once every worker has accepted connections."""
        self.stopping = False
        self.exits: dict[int, int] = dict.fromkeys(self.numbers(), 0)
        """Number -> how often a worker with this number has exited without being asked to."""
        self.hung = 0
        """How many workers were killed because they did not answer."""
        self._backoffs = {number: Backoff() for number in self.numbers()}
        self._delayed: dict[int, Any] = {}
        """Number -> the timer that starts the next worker with this number."""
        self._substitutes: dict[int, Worker] = {}
        """Number without a worker that accepts connections -> the worker that accepts them in its place."""
        self._stopped: Deferred[None] | None = None
        self._death_reports: dict[str, Any] = {}
        """`Worker.node` of a dead worker -> the timer that reports its death."""
        self._dead_nodes: list[str] = []
        """The `Worker.node` of the workers whose death has not been reported, because no worker accepts connections."""
        self.watchers: set[Callable[[Worker], object]] = set()
        """Called with each worker that has changed: it is ready, or has exited."""

    def numbers(self) -> range:
        """Return the numbers of the workers."""
        return range(1, self.count + 1)

    def start(self) -> None:
        """Start the workers."""
        for number in self.numbers():
            self._start(number)

    def _start(self, number: int) -> None:
        self._cancel_start(number)
        try:
            self.current[number] = self.new_worker(number)
        except OSError as error:
            self.current.pop(number, None)
            delay = self._backoffs[number].failed()
            _log.error(
                "worker not started worker={worker} reason={reason}; the next attempt is in {delay:g} s",
                worker=number,
                reason=json.dumps(describe_error(error)),
                delay=delay,
            )
            self._start_later(number, delay)

    def _start_later(self, number: int, delay: float) -> None:
        self._delayed[number] = self.clock.callLater(delay, self._start, number)

    def _cancel_start(self, number: int) -> None:
        timer = self._delayed.pop(number, None)
        if timer is not None and timer.active():
            timer.cancel()

    def new_worker(self, number: int) -> Worker:
        """
        Start a process for a worker.

        Raises:
            OSError: the system has too few descriptors, processes or memory for another process.
        """
        worker = Worker(number)
        worker.process = self._spawn(worker)
        self.running.add(worker)
        _log.info("worker started worker={worker} pid={pid}", worker=number, pid=worker.process.pid)
        return worker

    def take_over(self, worker: Worker) -> Worker | None:
        """Let a new worker accept the connections of its number; return the worker that did until now, if one does."""
        self._cancel_start(worker.number)
        old = self.current.get(worker.number)
        self.current[worker.number] = worker
        return old

    # What the supervisor reports.

    def received(self, worker: Worker, message: Message) -> None:
        """Process a message of a worker. Every message counts as a heartbeat."""
        worker.missed = 0
        match message["type"]:
            case "serving":
                worker.serving_since = self.clock.seconds()
                worker.node = message.get("node", "")
                pid = worker.process.pid
                _log.info("worker accepts connections worker={worker} pid={pid}", worker=worker.number, pid=pid)
                self._note_start()
                self._report_deaths()
            case "ready":
                worker.ready = True
                self._changed(worker)
            case "leaving":
                self._replace_leaving(worker)
            case "failed":
                worker.failure = message["reason"]
        self.update_substitutes()

    def _note_start(self) -> None:
        if not self.started and all(worker.serving_since is not None for worker in self.current.values()):
            self.started = True
            _log.info("all workers accept connections workers={count}", count=self.count)
            self.when_started.callback(None)

    def _replace_leaving(self, worker: Worker) -> None:
        """Replace a worker that someone has sent a signal."""
        if worker.leaves is not None:
            return
        worker.leaves = self.clock.seconds() + self.leave_timeout
        if self.current.get(worker.number) is worker and not self.stopping:
            self._start(worker.number)

    def exited(self, worker: Worker, how: str) -> None:
        """
        Record that a worker has exited, and start another one.

        Args:
            worker: the worker.
            how: how it has ended, such as `signal SIGKILL`.
        """
        self.running.discard(worker)
        asked = worker.leaves is not None
        if not asked:
            self.exits[worker.number] += 1
        if self.current.get(worker.number) is worker:
            del self.current[worker.number]
        if not self.stopping:
            self._replace(worker, how)
            if worker.node and how != FINISHED:
                self._report_later(worker.node)
        self._changed(worker)
        self.update_substitutes()
        if self._stopped is not None and not self.running:
            self._stopped.callback(None)
            self._stopped = None

    def _report_later(self, node: str) -> None:
        self._death_reports[node] = self.clock.callLater(DEATH_REPORT_DELAY, self._report_death, node)

    def _report_death(self, node: str) -> None:
        del self._death_reports[node]
        self._dead_nodes.append(node)
        self._report_deaths()

    def _report_deaths(self) -> None:
        """Let one of the workers tell all processes that share its Redis that a worker is dead."""
        able = [worker for worker in self.current.values() if worker.is_accepting()]
        while able and self._dead_nodes:
            able[0].process.send({"type": "died", "node": self._dead_nodes.pop()})

    def _replace(self, worker: Worker, how: str) -> None:
        if worker.failure and not self.started:
            self._on_failure(worker.failure)
            return
        if worker.leaves is None:
            reason = json.dumps(worker.failure or how)
            _log.error(
                "worker exited worker={worker} pid={pid} reason={reason}",
                worker=worker.number,
                pid=worker.process.pid,
                reason=reason,
            )
        if worker.number in self.current or worker.number in self._delayed:
            return
        now = self.clock.seconds()
        since = worker.serving_since
        delay = self._backoffs[worker.number].exited(now, now - since if since is not None else 0.0)
        if not delay:
            self._start(worker.number)
            return
        _log.error(
            "worker exits repeatedly worker={worker}; the next one starts in {delay:g} s",
            worker=worker.number,
            delay=delay,
        )
        self._start_later(worker.number, delay)

    def _changed(self, worker: Worker) -> None:
        for watcher in list(self.watchers):
            watcher(worker)

    # Called every `BEAT` seconds.

    def tick(self) -> None:
        """
        Count a missed heartbeat of each worker, until its next message, and kill those that missed too many.

        Heartbeats are counted, not measured: if the machine or the supervisor stood still, no worker is at fault.
        """
        for worker in list(self.running):
            worker.missed += 1
            if not worker.killed:
                self._check(worker)
        self.update_substitutes()

    def _check(self, worker: Worker) -> None:
        now = self.clock.seconds()
        if worker.leaves is not None:
            why = "has not exited in time" if now >= worker.leaves else ""
        elif worker.serving_since is None:
            why = "does not start" if worker.missed >= START_TIMEOUT else ""
        else:
            why = "does not answer" if worker.missed >= HANGS_AFTER else ""
        if why:
            self.hung += 1
            worker.killed = True
            _log.error(
                "worker killed worker={worker} pid={pid} reason={why}",
                worker=worker.number,
                pid=worker.process.pid,
                why=json.dumps(why),
            )
            worker.process.kill()

    def update_substitutes(self) -> None:
        """Choose a worker to accept connections in the place of each one that does not."""
        for number in self.numbers():
            worker, substitute = self.current.get(number), self._substitutes.get(number)
            is_needed = self.started and not self.stopping and not (worker is not None and worker.is_accepting())
            if substitute is not None and not (is_needed and substitute in self.running and substitute.is_accepting()):
                del self._substitutes[number]
                substitute.process.send({"type": "stop_substituting", "number": number})
                substitute = None
            if is_needed and substitute is None:
                self._substitute(number)

    def _substitute(self, number: int) -> None:
        able = [worker for worker in self.current.values() if worker.is_accepting()]
        if able:
            busy = list(self._substitutes.values())
            chosen = min(able, key=busy.count)
            self._substitutes[number] = chosen
            chosen.process.send({"type": "substitute", "number": number})

    # What an operator asks for.

    def leave(self, worker: Worker) -> None:
        """Ask a worker to stop accepting, then to close its connections, and to exit."""
        worker.leaves = self.clock.seconds() + self.leave_timeout
        worker.process.send({"type": "leave"})

    def send_all(self, message: Message) -> None:
        """Send a message to all workers."""
        for worker in self.running:
            worker.process.send(message)

    def stop(self) -> "Deferred[None]":
        """Ask all workers to close their connections, and to exit; return a Deferred that fires when all have."""
        self.stopping = True
        for timers in (self._delayed, self._death_reports):
            for timer in timers.values():
                timer.cancel()
            timers.clear()
        limit = self.clock.seconds() + self.leave_timeout
        for worker in self.running:
            worker.leaves = limit
            worker.process.send({"type": "stop"})
        if not self.running:
            return succeed(None)
        self._stopped = Deferred()
        return self._stopped

    def abort(self) -> None:
        """Drop the connections of workers that are stopping, and kill those that do not exit in time."""
        self.send_all({"type": "abort"})
        self.clock.callLater(ABORT_TIMEOUT, self._kill)

    def _kill(self) -> None:
        for worker in self.running:
            worker.process.kill()
