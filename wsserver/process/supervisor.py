"""
The supervisor: a service that opens the listening sockets, starts the workers, and serves no connection itself.

SIGTERM and SIGINT stop all workers, SIGHUP passes the settings on again, SIGUSR2 restarts the workers one by one.
"""

import os
import signal
import socket
import sys
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import inlineCallbacks, maybeDeferred
from twisted.internet.error import ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from wsserver.config.settings import Settings
from wsserver.listening.inherited import SocketOpener
from wsserver.listening.ports import endpoint_strings, tune
from wsserver.logging import RAW
from wsserver.process.channel import Channel, Message, open_channel
from wsserver.process.collection import Collector
from wsserver.process.group import BEAT, Group, Worker
from wsserver.process.handover import dump, dump_files
from wsserver.process.reload import reload_options
from wsserver.process.rolling import RollingRestart
from wsserver.service import WebSocketService

__all__ = ["LEAVE_MARGIN", "Supervisor", "count_workers"]

_log = Logger(namespace="wsserver.workers")

LEAVE_MARGIN: Final = 10.0
"""Seconds that a worker may take to exit, beyond the time in which it must have closed its connections."""

_MAX_LINE: Final = 64 * 1024
_CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")


def count_workers(settings: Settings) -> int:
    """Return the number of workers to start: that of the option, or one for each core that the process may use."""
    if settings.workers != "auto":
        return settings.workers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        # The CPU limit of a container, such as `200000 100000` for two cores.
        quota, period = _CPU_LIMIT.read_text("ascii").split()
        cores = min(cores, -(-int(quota) // int(period)))
    except (OSError, ValueError):
        pass
    return max(1, cores)


class _Checked(WebSocketService):
    """A service that only checks the settings and opens the listening sockets; it is never started."""

    is_worker = True


class Supervisor(Service):
    """
    The service of the supervisor.

    Args:
        settings: the settings, with the number of workers in `workers`.
        reactor: the reactor.
        reload: loads the settings again; raises `WsserverError` if they are invalid.
        on_failure: called with the reason if the workers cannot start.

    Raises:
        WsserverError: the settings are invalid; see `WebSocketService`.
    """

    name = "wsserver"

    def __init__(
        self,
        settings: Settings,
        reactor: Any,
        *,
        reload: Callable[[], Settings],
        on_failure: Callable[[str], object],
    ) -> None:
        self.settings = settings
        self._reactor, self._reload, self._on_failure = reactor, reload, on_failure
        count = count_workers(settings)
        self._opener = SocketOpener(reactor, count)
        self._checked = _Checked(settings, self._opener)
        self.group = Group(
            count,
            self._spawn,
            reactor,
            leave_timeout=settings.drain_timeout + LEAVE_MARGIN,
            on_failure=self._fail,
        )
        self.when_started = self.group.when_started
        """Fires once every worker has accepted connections."""
        self._collector = Collector(self.group)
        self._restart: RollingRestart | None = None
        self._ticks = LoopingCall(self.group.tick)

    def privilegedStartService(self) -> None:
        """
        Open the listening sockets, while the process may still have root privileges.

        Raises:
            ListenError: the server cannot listen on an address.
            SettingError: other machines can reach the server, and an option is for development only.
        """
        super().privilegedStartService()
        self._checked.privilegedStartService()
        for group, endpoint in zip(self._opener.groups, endpoint_strings(self.settings), strict=True):
            for port in group:
                tune(port, endpoint)
                # The workers accept.
                port.stopReading()  # type: ignore[attr-defined]

    def startService(self) -> None:
        """Start the workers, once the reactor runs."""
        super().startService()
        if not self._opener.groups:
            self.privilegedStartService()
        self._checked.announce()
        if not self.settings.redis:
            _log.warn(
                "channels and the HTTP API are refused: with --workers {count} they need --redis",
                count=self.group.count,
            )
        if signal.getsignal(signal.SIGUSR2) == signal.SIG_DFL:
            signal.signal(signal.SIGUSR2, lambda *_: self._reactor.callFromThread(self.restart))
        self._reactor.callWhenRunning(self._start_workers)

    def _start_workers(self) -> None:
        self.group.start()
        self._ticks.clock = self._reactor
        self._ticks.start(BEAT, now=False)

    @inlineCallbacks
    def stopService(self) -> Generator[Any, Any, None]:
        """
        Close the listening sockets, and stop the workers.

        Returns:
            A Deferred that fires when all workers have exited.
        """
        super().stopService()
        if self._restart is not None:
            self._restart.cancel()
        stopped = self.group.stop()
        for group in self._opener.groups:
            for port in group:
                yield maybeDeferred(port.stopListening)
        yield stopped
        if self._ticks.running:
            self._ticks.stop()

    def abort(self) -> None:
        """Drop all connections, and end all workers."""
        self.group.abort()

    def _fail(self, reason: str) -> None:
        if not self.group.stopping:
            self.group.stopping = True
            self._on_failure(reason)

    # Signals.

    def reload(self) -> None:
        """Read the settings again, and pass them on to the workers; if they are invalid, change nothing."""
        if reload_options(self._load, self._checked.reload):
            self.settings = self._checked.settings
            self.group.leave_timeout = self.settings.drain_timeout + LEAVE_MARGIN
            self.group.send_all({"type": "reload", "settings": dump(self.settings)})

    def _load(self) -> Settings:
        settings = self._reload()
        return replace(settings, workers=count_workers(settings))

    def restart(self) -> None:
        """Restart the workers one by one."""
        if self._restart is not None or self.group.stopping or not self.group.started:
            _log.warn("SIGUSR2 ignored: the workers are starting, restarting or stopping")
            return
        self._restart = RollingRestart(self.group, self._restarted)
        self._restart.start()

    def _restarted(self) -> None:
        self._restart = None

    # Processes.

    def _spawn(self, worker: Worker) -> "_Process":
        ours, theirs = socket.socketpair()
        with theirs, ours:
            process = _Process(self, worker)
            # Before the process starts: if this fails, there is no process without a channel.
            open_channel(self._reactor, ours, process.channel)
            try:
                descriptors = self._spawn_with(process, theirs)
            except BaseException:
                process.channel.close()
                raise
        process.transport.closeStdin()  # type: ignore[union-attr]
        process.send(
            {
                "number": worker.number,
                "settings": dump(self.settings),
                **dump_files(self._checked.certificates),
                "descriptors": descriptors,
                "reactor": type(self._reactor).__module__,
            }
        )
        return process

    def _spawn_with(self, process: "_Process", channel: socket.socket) -> list[list[int]]:
        """Start a process that inherits the channel and the sockets; return the descriptors of the sockets there."""
        descriptors: list[list[int]] = []
        inherited = {0: "w", 1: "r", 2: "r", 3: channel.fileno()}
        for group in self._opener.groups:
            first = len(inherited)
            inherited |= {first + at: port.fileno() for at, port in enumerate(group)}  # type: ignore[attr-defined]
            descriptors.append(list(range(first, first + len(group))))
        self._reactor.spawnProcess(
            process,
            sys.executable,
            [sys.executable, "-P", "-m", "wsserver.process", str(process.worker.number)],
            # Modules are found as in this process, such as the plugins in the working directory of twistd.
            {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            childFDs=inherited,
        )
        return descriptors

    def received(self, worker: Worker, message: Message) -> None:
        """Process a message of a worker."""
        match message["type"]:
            case "numbers":
                self._collector.answered(worker, message["numbers"])
            case "collect":
                self._collector.collect().addCallback(
                    lambda numbers: worker.process.send({"type": "collected", "numbers": numbers})
                )
        self.group.received(worker, message)


class _Process(ProcessProtocol):
    """The process of a worker: its channel, its output and its end."""

    def __init__(self, supervisor: Supervisor, worker: Worker) -> None:
        self._supervisor, self.worker = supervisor, worker
        self.channel = Channel(lambda message: supervisor.received(worker, message), lambda: None)
        self._output = {1: b"", 2: b""}

    def connectionMade(self) -> None:
        """Keep the process ID: Twisted forgets it when the process ends."""
        self.pid: int = self.transport.pid  # type: ignore[union-attr]

    def send(self, message: Message) -> bool:
        """Send a message."""
        return self.channel.send(message)

    def kill(self) -> None:
        """End the process with SIGKILL."""
        self.transport.signalProcess("KILL")  # type: ignore[union-attr]

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Write whole lines into the log: those of the worker's log are formatted, others are errors."""
        lines, _, rest = (self._output[childFD] + data).rpartition(b"\n")
        if len(rest) > _MAX_LINE:
            lines, rest = lines + rest, b""
        self._output[childFD] = rest
        if not lines:
            return
        text = lines.decode("utf-8", "replace")
        if childFD == 1:
            _log.info(RAW, raw=text)
            return
        for line in text.splitlines():
            _log.error("{line} worker={worker}", line=line, worker=self.worker.number)

    def processExited(self, reason: Failure) -> None:
        """Report the end of the process."""
        self._supervisor.group.exited(self.worker, _describe(reason))


def _describe(reason: Failure) -> str:
    error = reason.value
    if isinstance(error, ProcessTerminated) and error.signal is not None:
        return f"signal {signal.Signals(error.signal).name}"
    return f"exit status {getattr(error, 'exitCode', None)}"
