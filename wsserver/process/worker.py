"""
A worker: one of the processes that share the listeners, and its side of the channel to the supervisor.

If the supervisor ends, the worker stops like after SIGTERM: nobody would replace it, and the next supervisor must be
able to open the sockets.
"""

import json
import signal
import socket
from collections.abc import Mapping
from types import FrameType
from typing import Any, Final, NoReturn

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import LoopingCall
from twisted.logger import Logger, globalLogBeginner

from wsserver import logging
from wsserver.errors import BrokerDown, WsserverError
from wsserver.listening.inherited import InheritedSockets
from wsserver.process.allocator import collect_rarely, keep_freed
from wsserver.process.channel import Channel, Message, open_channel, write_last
from wsserver.process.collection import ANSWER_TIMEOUT
from wsserver.process.exit import die_by
from wsserver.process.group import BEAT
from wsserver.process.handover import load, load_files
from wsserver.process.log import log_settings
from wsserver.process.patience import call_when_punctual
from wsserver.process.pipelog import PipeLog
from wsserver.service import WebSocketService
from wsserver.wire.handed_files import handed
from wsserver.wire.timers import use_monotonic_clock

__all__ = ["COLLECT_TIMEOUT", "LEAVE_AFTER", "SERVE_WITHIN", "WorkerProcess", "WorkerService", "run"]

_log = Logger(namespace="wsserver.workers")

SERVE_WITHIN: Final = 2.0
"""Seconds after which a worker accepts connections even if it is not ready, for example because Redis is down."""

LEAVE_AFTER: Final = 1.0
"""
Seconds between the last accepted connection and the first closed one; more if the worker is behind with its work.

A client whose connection was just accepted has time to send its request; a stopping server would refuse it.
"""

COLLECT_TIMEOUT: Final = 2 * ANSWER_TIMEOUT
"""Seconds that a worker waits for the numbers of the others; the supervisor does not send them if it is suspended."""

_POLL: Final = 0.05


def run(first: Message, sock: socket.socket) -> None:
    """
    Run a worker.

    Args:
        first: the first message of the supervisor.
        sock: the channel to the supervisor.
    """
    from twisted.internet import reactor as installed  # noqa: PLC0415 (importing it installs it)

    reactor: Any = installed

    collect_rarely()
    keep_freed()
    use_monotonic_clock(reactor)
    try:
        settings = load(first["settings"])
    except WsserverError as error:
        # After an upgrade, the supervisor is of another version.
        _fail(sock, error)
    log = PipeLog(reactor, 1)
    # The files and the rotation are those of the supervisor.
    observer = logging.make_observer(log, log_settings(settings), reactor, first["number"])  # type: ignore[arg-type]
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
    sockets = InheritedSockets(reactor, first["descriptors"], first["number"] - 1)
    try:
        with handed(load_files(first)):
            service = WorkerService(settings, reactor, inherited=sockets)
        WorkerProcess(service, sockets, first["number"], reactor).start(sock)
    except WsserverError as error:
        _fail(sock, error)
    reactor.run(installSignalHandlers=False)
    log.close()


def _fail(sock: socket.socket, error: WsserverError) -> NoReturn:
    write_last(sock, {"type": "failed", "reason": str(error)})
    raise SystemExit(1)


class WorkerService(WebSocketService):
    """The service of a worker."""

    is_worker = True

    def announce(self) -> None:
        """Log nothing: the supervisor does."""


class WorkerProcess:
    """
    A worker's side of the channel.

    Args:
        service: the worker's service.
        sockets: the sockets of the service.
        number: the number of the worker.
        reactor: the reactor.
    """

    def __init__(self, service: WorkerService, sockets: InheritedSockets, number: int, reactor: Any) -> None:
        self.number = number
        self._service, self._sockets, self._reactor = service, sockets, reactor
        self._channel = Channel(self._received, self._supervisor_ended)
        self._substituted: dict[int, list[IListeningPort]] = {}
        """Number of another worker -> the ports on its sockets."""
        self._collecting: list[Deferred[Mapping[str, Mapping[str, Any]]]] = []
        self._deadline: Any = None
        """The timer that ends the waiting for the numbers."""
        self._is_leaving = self._is_stopping = False
        service.group = self

    def start(self, sock: socket.socket) -> None:
        """
        Start the service, and the channel on a connected socket.

        Raises:
            WsserverError: the service cannot start.
        """
        service = self._service
        service.privilegedStartService()
        # Accept connections only once they can be served.
        for port in service.ports:
            port.stopReading()  # type: ignore[attr-defined]
        service.startService()
        self._reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
        open_channel(self._reactor, sock, self._channel)
        beats = LoopingCall(self._channel.send, {"type": "beat"})
        beats.clock = self._reactor
        beats.start(BEAT, now=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        self._reactor.callWhenRunning(self._wait_until_ready, self._reactor.seconds() + SERVE_WITHIN, False)

    def _wait_until_ready(self, until: float, is_serving: bool) -> None:
        is_ready = self._service.problem() is None
        if not is_serving and (is_ready or self._reactor.seconds() >= until) and not self._is_leaving:
            is_serving = True
            for port in self._service.ports:
                port.startReading()  # type: ignore[attr-defined]
            self._channel.send({"type": "serving", "node": self._service.hub.broker.node})
        if is_ready:
            self._channel.send({"type": "ready"})
        else:
            self._reactor.callLater(_POLL, self._wait_until_ready, until, is_serving)

    # Messages of the supervisor.

    def _received(self, message: Message) -> None:
        match message["type"]:
            case "stop":
                self._stop()
            case "abort":
                self._service.abort()
            case "leave":
                self._leave()
            case "reload":
                self._reload(message["settings"])
            case "substitute":
                self._substitute(message["number"])
            case "stop_substituting":
                self._stop_substituting(message["number"])
            case "died":
                # If Redis is down now, the dead process is found some seconds after it is back.
                self._service.management.remove_process(message["node"]).addErrback(lambda why: why.trap(BrokerDown))
            case _:
                self._received_of_metrics(message)

    def _received_of_metrics(self, message: Message) -> None:
        match message["type"]:
            case "count":
                self._channel.send({"type": "numbers", "numbers": self._service.numbers()})
            case "collected":
                self._fire_collecting(message["numbers"])

    def _reload(self, options: Mapping[str, Any]) -> None:
        try:
            self._service.reload(load(options))
        except (WsserverError, OSError) as error:
            # The supervisor could use the files that the options name, for example a certificate.
            _log.error("options not reloaded reason={reason}", reason=json.dumps(str(error)))

    def _supervisor_ended(self) -> None:
        if not self._is_stopping:
            _log.error("the supervisor has ended; this worker stops")
            self._fire_collecting()
            self._leave()

    def _substitute(self, number: int) -> None:
        if self._is_leaving or number in self._substituted:
            return
        ports = self._substituted[number] = []
        sockets = self._sockets
        own, sockets.slot = sockets.slot, number - 1
        try:
            for index in range(len(sockets)):
                if not sockets.is_shared(index):
                    ports.append(self._service.open_again(index))  # noqa: PERF401 (a failure leaves the first ones)
        except (WsserverError, OSError) as error:
            self._stop_substituting(number)
            reason = json.dumps(str(error))
            _log.error("worker not substituted number={number} reason={reason}", number=number, reason=reason)
        finally:
            sockets.slot = own

    def _stop_substituting(self, number: int) -> None:
        for port in self._substituted.pop(number, ()):
            port.stopListening()

    # The end.

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 (the signature of signal handlers)
        if self._is_stopping:
            die_by(signal.Signals(number))
        self._reactor.callFromThread(self._leave_alone)

    def _leave_alone(self) -> None:
        """Leave, although the supervisor did not ask for it: it starts another worker at once."""
        self._channel.send({"type": "leaving"})
        self._leave()

    def _leave(self) -> None:
        if self._is_leaving:
            return
        self._is_leaving = True
        for number in list(self._substituted):
            self._stop_substituting(number)
        self._service.stop_accepting()
        self._sockets.close()
        call_when_punctual(self._reactor, LEAVE_AFTER, self._stop)

    def _stop(self) -> None:
        if not self._is_stopping:
            self._is_leaving = self._is_stopping = True
            for number in list(self._substituted):
                self._stop_substituting(number)
            self._sockets.close()
            self._reactor.stop()

    # The group, for the metrics.

    def collect(self) -> "Deferred[Mapping[str, Mapping[str, Any]]]":
        """Return what each worker has counted; see `wsserver.service.Group`."""
        done: Deferred[Mapping[str, Mapping[str, Any]]] = Deferred()
        self._collecting.append(done)
        if len(self._collecting) == 1:
            self._deadline = self._reactor.callLater(COLLECT_TIMEOUT, self._fire_collecting)
            if not self._channel.send({"type": "collect"}):
                self._fire_collecting()
        return done

    def _fire_collecting(self, numbers: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        """Answer with the numbers of all workers; if the supervisor does not send them, with those of this worker."""
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        collecting, self._collecting = self._collecting, []
        for done in collecting:
            done.callback({str(self.number): self._service.numbers()} if numbers is None else numbers)
