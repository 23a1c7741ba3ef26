"""A run of the conformance cases: the server, and the programs that connect to it."""

import signal
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet.defer import Deferred, DeferredSemaphore, FirstError, gatherResults, inlineCallbacks
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from wsserver.cli.conformance.certificates import Certificates, make_certificates
from wsserver.cli.conformance.programs import Ended, Programs
from wsserver.config.settings import Settings
from wsserver.endpoints.cases.reports import Report
from wsserver.endpoints.cases.results import Result
from wsserver.endpoints.cases.script import Case
from wsserver.errors import WsserverError
from wsserver.service import WebSocketService

__all__ = ["Session"]

AGENT = "client"
"""The name of the client in the URLs of cases."""

START_TIMEOUT = 20.0
"""Seconds that a program has besides its answers, to start and to end."""

END_TIMEOUT = 3.0
"""Seconds after the verdict after which a program is killed, if it has not ended."""

STALL_TIMEOUT = 60.0
"""Seconds without a verdict after which a program for all cases is killed, besides the time for an answer."""

TRUST = ("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS")
"""Environment variables with the authority's certificate: OpenSSL (and so Python), Go and curl; Node."""


class Session:
    """
    A run of cases with one client.

    Args:
        command: the program and its arguments, with `{url}`, `{server}` or `{page}`.
        cases: the cases.
        timeout: seconds that the client has for an answer.
        jobs: number of programs that run at a time.
        tls: whether the server uses TLS, with a certificate for this run; `{ca}` stands for that of its authority.
    """

    def __init__(
        self, command: Sequence[str], cases: Sequence[Case], *, timeout: float, jobs: int, tls: bool = False
    ) -> None:
        self.cases = cases
        self.report = Report(AGENT, 0.0)
        self.notes: dict[str, str] = {}
        """Id of a case that was not run -> what the program has printed. The empty id: of a program for all cases."""
        self.ended_by: signal.Signals | None = None
        """The signal that has ended the run before its end."""
        self._command = command
        self._timeout = timeout
        self._jobs = jobs
        self._tls = tls
        self._programs = Programs()
        self._certificates: Certificates | None = None
        self._problem: str | None = None
        self._reactor: Any = None
        self._stall: Any = None
        self._why_killed = ""

    def run(self) -> str | None:
        """
        Run the cases. Blocks until they are done.

        Returns:
            Why no case could be run, or None.
        """
        from twisted.internet import reactor  # noqa: PLC0415 (importing the reactor installs it)

        self._reactor = reactor
        with TemporaryDirectory(prefix="wsserver-") as directory, self._signals():
            if self._tls:
                self._certificates = make_certificates(Path(directory))
                self._programs = Programs(dict.fromkeys(TRUST, str(self._certificates.ca)))
            self._run_reactor()
        if self.ended_by is not None:
            self.notes[""] = f"the run was interrupted by {self.ended_by.name}"
        return self._problem

    def _run_reactor(self) -> None:
        pool = ThreadPool(1, self._jobs)
        # Before the reactor waits for the threads of the pool, so that these do not wait for the programs.
        self._reactor.addSystemEventTrigger("before", "shutdown", self._programs.stop)
        self._reactor.addSystemEventTrigger("during", "shutdown", pool.stop)
        self._reactor.callWhenRunning(pool.start)
        self._reactor.callWhenRunning(self._start, pool)
        self._reactor.run(installSignalHandlers=False)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Return a context manager in which SIGINT and SIGTERM end the run."""

        def handle(number: int, _: object) -> None:
            self.ended_by = signal.Signals(number)
            self._reactor.callFromThread(self._stop)

        before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self) -> None:
        if self._reactor.running:
            self._reactor.stop()

    def _start(self, pool: ThreadPool) -> None:
        self._run(pool).addErrback(self._failed).addBoth(lambda _: self._stop())

    def _failed(self, failure: Failure) -> None:
        error = failure.value
        if isinstance(error, OSError):
            self._problem = f"cannot run {self._command[0]}: {error.strerror}"
        elif isinstance(error, WsserverError):
            self._problem = str(error)
        else:
            self._problem = failure.getTraceback()

    @inlineCallbacks
    def _run(self, pool: ThreadPool) -> Generator[Any, Any, None]:
        options = {"cases": self.cases, "timeout": self._timeout, "on_result": self._add}
        files = self._certificates
        service = WebSocketService(
            Settings(
                port=0,
                cases=True,
                max_message_size=64 * 1024**2,
                tls_cert=str(files.cert) if files else "",
                tls_key=str(files.key) if files else "",
            ),
            self._reactor,
            commands=(),
            case_options=options,
        )
        service.startService()
        try:
            address: Any = service.ports[0].getHost()
            yield self._run_programs(pool, f"127.0.0.1:{address.port}")
        finally:
            yield service.stopService()

    def _run_programs(self, pool: ThreadPool, server: str) -> "Deferred[Any]":
        if not any("{url}" in word for word in self._command):
            self._stall = self._reactor.callLater(self._timeout + STALL_TIMEOUT, self._stalled)
            return self._run_program(pool, "", server, None)
        slots = DeferredSemaphore(self._jobs)
        seconds = self._timeout + START_TIMEOUT
        runs = [slots.run(self._run_program, pool, case.id, server, seconds) for case in self.cases]
        return gatherResults(runs, consumeErrors=True).addErrback(_first_error)

    def _run_program(self, pool: ThreadPool, name: str, server: str, seconds: float | None) -> "Deferred[None]":
        words = [self._fill(word, name, server) for word in self._command]
        ended = deferToThreadPool(self._reactor, pool, self._programs.run, name, words, seconds)
        return ended.addCallback(partial(self._ended, name))

    def _ended(self, name: str, ended: Ended) -> None:
        if name not in self.report.results and (name or ended.status):
            how = f"signal {-ended.status}" if ended.status < 0 else f"status {ended.status}"
            reason = self._why_killed or f"the client ended with {how}"
            self.notes[name] = reason + (f":\n{ended.output}" if ended.output else "")

    def _add(self, _: str, result: Result) -> None:
        self.report.results[result.case] = result
        self._reactor.callLater(END_TIMEOUT, self._programs.kill, result.case)
        if self._stall is not None and self._stall.active():
            is_last = len(self.report.results) == len(self.cases)
            self._stall.reset(START_TIMEOUT if is_last else self._timeout + STALL_TIMEOUT)

    def _stalled(self) -> None:
        self._why_killed = f"the client was killed: it finished no case for {self._timeout + STALL_TIMEOUT:g} seconds"
        self._programs.kill("")

    def _fill(self, word: str, name: str, server: str) -> str:
        ws, http = ("wss", "https") if self._certificates else ("ws", "http")
        word = word.replace("{url}", f"{ws}://{server}/case/{name}?agent={AGENT}")
        word = word.replace("{server}", f"{ws}://{server}").replace("{page}", f"{http}://{server}/conformance.html")
        return word.replace("{ca}", str(self._certificates.ca)) if self._certificates else word


def _first_error(failure: Failure) -> Failure:
    error = failure.value
    return error.subFailure if isinstance(error, FirstError) else failure
