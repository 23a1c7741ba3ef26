"""`/case/{n}`: run a conformance case with the client that connects. The client must echo every message."""

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any, ClassVar

from twisted.internet.interfaces import IDelayedCall, IReactorTime, ITCPTransport

from wsserver.endpoints.cases.catalog import CASES
from wsserver.endpoints.cases.examination import TIMEOUT, Examination
from wsserver.endpoints.cases.reports import Reports, clean_agent
from wsserver.endpoints.cases.results import Result
from wsserver.endpoints.cases.script import Case
from wsserver.text import quote
from wsserver.wire.deflate import Deflate
from wsserver.wire.fastpath import OPEN
from wsserver.wire.handshake import Accept, parse_extensions
from wsserver.wire.http11 import Refusal, unavailable
from wsserver.wire.protocol import ConnectionRequest, Denied, ServerProtocol

__all__ = ["Bench", "CaseProtocol", "find_case", "refuse_case"]

MAX_RUNNING = 100
"""Maximum number of cases that run at the same time."""

MAX_DURATION = 60.0
"""Maximum duration of a case in seconds, whatever the client sends."""

CHOP_DELAY = 0.001
"""Seconds between two pieces of a message that is sent in pieces, so that they leave in packets of their own."""


class Bench:
    """
    The cases that a server offers, and the results.

    Args:
        clock: times the cases.
        limits: counts how often a limit took effect: `case_reports` and `running_cases`.
        cases: the cases.
        timeout: seconds that a client has for an answer.
        on_result: called with the name of the client and each result.
    """

    def __init__(
        self,
        clock: IReactorTime,
        limits: dict[str, int],
        *,
        cases: Sequence[Case] = CASES,
        timeout: float = TIMEOUT,
        on_result: Callable[[str, Result], object] = lambda *_: None,
    ) -> None:
        self.clock = clock
        self.limits = limits
        self.cases = cases
        self.timeout = timeout
        self.reports = Reports(clock.seconds, limits)
        self.running = 0
        self._on_result = on_result

    def add(self, agent: str, result: Result) -> None:
        """Add a result to the report of a client."""
        self.reports.add(agent, result)
        self._on_result(agent, result)


def find_case(cases: Sequence[Case], name: str) -> Case | None:
    """
    Return a case, or None if there is none.

    Args:
        cases: the cases.
        name: the number of the case, from 1, or its id.
    """
    if name.isascii() and name.isdecimal() and len(name) < 6:
        number = int(name)
        return cases[number - 1] if 1 <= number <= len(cases) else None
    return next((case for case in cases if case.id == name), None)


def refuse_case(name: str, cases: Sequence[Case]) -> Refusal:
    """
    Return a 404 refusal for a case that does not exist.

    Args:
        name: what the client sent as the number or the id of the case.
        cases: the cases.
    """
    reason = f"no case {quote(name)}: expected a number from 1 to {len(cases)}, or an id; see /case"
    return Refusal(HTTPStatus.NOT_FOUND, reason)


class CaseProtocol(ServerProtocol):
    """
    A connection that runs one case, and closes.

    Received bytes bypass the parser and the state machine of other endpoints: the examination sees every bit.
    """

    bench: ClassVar[Bench]

    _examination: Examination | None = None
    _case_codec: Deflate | None = None
    _missing: str = ""
    """The part of a case's needs that the client does not offer."""
    _timer: IDelayedCall | None = None
    _deadline: IDelayedCall | None = None
    _chopping: IDelayedCall | None = None
    _counted = False

    def onConnect(self, request: ConnectionRequest) -> Any:
        """
        Find the case.

        Raises:
            Denied: 404, there is no such case; 503, too many cases are running.
        """
        bench, query = self.bench, self.request.query or {}
        path = request.path.rstrip("/")
        # Clients of Autobahn's fuzzing server use the other form.
        name = query.get("case", [""])[0] if path == "/runCase" else path.removeprefix("/case/")
        case = find_case(bench.cases, name)
        if case is None:
            raise Denied(refuse_case(name, bench.cases))
        if bench.running >= MAX_RUNNING:
            bench.limits["running_cases"] += 1
            raise Denied(unavailable(f"{MAX_RUNNING} cases are running; retry", cause="cases"))
        self._case = case
        self._agent = clean_agent((query.get("agent") or self.request.all("user-agent") or [""])[0])
        self._queue: list[tuple[bytes, int]] = []
        bench.running += 1
        self._counted = True
        return super().onConnect(request)

    def _agree_on_compression(self, accept: Accept) -> str | None:  # noqa: ARG002 (extensions may be disabled there)
        answer = self._case.answer
        if answer is None:
            return None
        offers = parse_extensions(", ".join(self.request.all("sec-websocket-extensions"))) or []
        offer = next((parameters for name, parameters in offers if name == "permessage-deflate"), None)
        if offer is None:
            self._missing = "the client does not offer permessage-deflate"
            return None
        if answer.client_max_window_bits is not None and "client_max_window_bits" not in offer:
            self._missing = "the client does not offer client_max_window_bits"
            return None
        answer = answer.agree(offer)
        self._case_codec = Deflate(answer.terms(), spend=self.factory.work.spend)
        return answer.header()

    def _send_head(self, head: bytes) -> None:
        change = self._case.head
        super()._send_head(head if change is None else change.apply(head))

    def onOpen(self) -> None:
        """Begin the case."""
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
        clock = self.bench.clock
        self._started = clock.seconds()
        self._examination = Examination(self._case, self._case_codec, self, self.bench.timeout)
        self._deadline = clock.callLater(MAX_DURATION, self._drop)
        if self._missing:
            self._examination.skip(self._missing)
        else:
            self._examination.begin()

    def dataReceived(self, data: bytes) -> None:
        """Pass received bytes to the examination."""
        if self._examination is not None:
            self._examination.receive(data)
        else:
            self._waiting += data

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection without a result, because the server stops."""
        if self.state == OPEN and self._examination is not None:
            self._examination.abandon()
            super().close(code, reason)
            self.dropConnection()

    def connectionLost(self, reason: Any = None) -> None:
        """End the case: the client has closed the TCP connection."""
        if self._counted:
            self._counted = False
            self.bench.running -= 1
        if self._examination is not None:
            self._examination.lost()
        self._stop()
        super().connectionLost(reason)

    @property
    def hides_frames(self) -> bool:
        """As in `SlowPath`: the examination has read a part of a frame, or a part of a message is written."""
        return bool(self._queue) or (self._examination is not None and self._examination.is_within_frame)

    @property
    def compression_takeover(self) -> tuple[bool, bool] | None:
        """As in `SlowPath`, of the case's own codec; for a tap."""
        terms = self._case_codec.terms if self._case_codec is not None else None
        return None if terms is None else (terms.client_takeover, terms.server_takeover)

    # Called by the examination.

    def send(self, data: bytes, chop: int) -> None:
        """Send bytes, in pieces if `chop` is not 0."""
        if self._chopping is None and not chop:
            self.transport.write(data)
            return
        self._queue.append((data, chop or len(data)))
        if self._chopping is None:
            self._send_piece()

    def wait(self, seconds: float, then: Callable[[], None]) -> None:
        """Call `then` later, instead of what was waited for before."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = self.bench.clock.callLater(seconds, then)

    def seconds(self) -> float:
        """Return the time since the case began."""
        return self.bench.clock.seconds() - self._started

    def finished(self, result: Result) -> None:
        """Store the result, and close the connection."""
        self.bench.add(self._agent, result)
        self._stop()
        self.dropConnection()

    def _send_piece(self) -> None:
        self._chopping = None
        if not self._queue:
            return
        data, size = self._queue.pop(0)
        self.transport.write(data[:size])
        if len(data) > size:
            self._queue.insert(0, (data[size:], size))
        if self._queue:
            self._chopping = self.bench.clock.callLater(CHOP_DELAY, self._send_piece)

    def _drop(self) -> None:
        self.transport.abortConnection()

    def _stop(self) -> None:
        for call in (self._timer, self._deadline, self._chopping):
            if call is not None and call.active():
                call.cancel()
