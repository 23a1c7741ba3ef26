"""The connection of a fault: an echo that misbehaves as its plan says, within limits."""

from collections import deque
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from http import HTTPStatus
from typing import Any, Final, cast

from twisted.internet.interfaces import IAddress, ISSLTransport

from wsserver.closecodes import CloseCode
from wsserver.config.parsers import show_duration, show_size
from wsserver.endpoints.faults import handmade
from wsserver.endpoints.faults.fault import Plan, Stage
from wsserver.endpoints.faults.output import Output
from wsserver.endpoints.faults.series import Series
from wsserver.wire.drain import Wait
from wsserver.wire.fastpath import CLOSED, CONNECTING, OPEN
from wsserver.wire.frames import FIN_BINARY, FIN_TEXT, RSV1, build
from wsserver.wire.handshake import Accept, find_deflate_offers
from wsserver.wire.http11 import Refusal, Request, unavailable
from wsserver.wire.linger import linger
from wsserver.wire.protocol import ConnectionRequest, Denied, ServerProtocol

__all__ = ["MAX_SENT", "FaultProtocol"]

MAX_SENT: Final = 64 * 1024**2
"""Maximum number of bytes that a fault connection sends; then the server drops it."""

LAST_WORDS: Final = 1.0
"""Seconds between the Close frame at the end of the time of a fault connection, and the end of the connection."""

POLL: Final = 0.05
"""Seconds after which the connection looks again whether the client has read everything."""

FRAMES_PER_TURN: Final = 64
"""Maximum number of received frames that the connection takes in one turn of the reactor."""


class FaultProtocol(ServerProtocol):
    """
    Echo every message, except for what `plan` says.

    The server sends no pings, so that the plan decides what the client receives. Instead, the connection ends after
    `fault_timeout`.
    """

    plan: Plan
    """The fault and its parameters; an attribute of the class or of the instance."""

    autoPingInterval = 0

    _counted = _responded = _stops_reading = _ends = False
    _has_full_output = False
    """Whether reading is paused because the output is full."""
    sent = 0
    """Number of bytes that were written."""
    _replaced_close: bytes | None = None
    """The bytes to send instead of the next Close frame."""
    echoes = 0
    """Number of messages that were answered."""
    _rests_until = 0.0
    """Before this time, nothing is read."""
    reads_per_second = 0
    """Number of bytes of messages to read per second; 0 for no limit."""
    never_closes = False
    """Whether the connection ignores Close frames."""

    @cached_property
    def _timers(self) -> set[Any]:
        return set()

    @cached_property
    def _unanswered(self) -> deque[tuple[bytes, bool]]:
        return deque()

    @cached_property
    def output(self) -> Output:
        """What the connection sends."""
        values = self.plan.values
        return Output(
            self._write,
            self._output_changed,
            self.factory.reactor,
            **{name: values[name] for name in ("delay", "jitter", "chunk", "pause")},
        )

    # The opening handshake.

    def begin(self, request: Request, accept: Accept, rest: bytes, address: IAddress | None = None) -> None:
        """Complete the opening handshake, with the compression that the plan demands."""
        compression = self.plan.values["compression"]
        if compression != "default":
            offers = find_deflate_offers(request) if compression == "on" else ()
            accept = accept._replace(extensions=offers)
        super().begin(request, accept, rest, address)

    def onConnect(self, request: ConnectionRequest) -> Any:
        """
        Select the subprotocol, and start the connection's time.

        Raises:
            Denied: there are too many fault connections.
        """
        counters, settings = self.factory.counters, self.factory.settings
        if counters.open_faults >= settings.max_fault_connections:
            counters.limits["max_fault_connections"] += 1
            reason = "too many fault connections (server option --max-fault-connections)"
            raise Denied(unavailable(reason, cause="faults"))
        self._counted = True
        counters.open_faults += 1
        counters.faults[self.plan.fault.name] += 1
        self.later(settings.fault_timeout, self._time_is_over)
        name = self.plan.values["subprotocol"]
        return super().onConnect(request) if not name else name if name in request.protocols else None

    def succeedHandshake(self, res: Any) -> None:
        """Send the 101 response, or what the plan has in its place."""
        fault = self.plan.fault
        if fault.stage is not Stage.RESPONSE:
            super().succeedHandshake(res)
            return
        self._responded = True
        self.transport.registerProducer(self, True)
        self._refused = Refusal(
            _status(self.plan.own.get("code", 0)), f"the fault {fault.name} answers the handshake", cause="fault"
        )
        self._log_refusal()
        assert fault.run is not None
        fault.run(self, **self.plan.own)

    def _send_head(self, head: bytes) -> None:
        fault = self.plan.fault
        if fault.stage is Stage.HEAD and fault.run is not None:
            head = fault.run(self, head, **self.plan.own)
        # The delay and the chunks are those of frames.
        self._write(head)

    def failHandshake(self, reason: str, code: int = 400, responseHeaders: Any = None) -> None:
        """Refuse the handshake; if a part of a response has been sent already, drop the connection."""
        if self._responded:
            self.transport.abortConnection()
        else:
            super().failHandshake(reason, code, responseHeaders)

    def _start_metering(self) -> None:
        super()._start_metering()
        self._metered = True

    def _frames_allowed(self, size: int) -> int:
        return min(super()._frames_allowed(size), FRAMES_PER_TURN)

    def _slow(self, data: bytes, budget: int) -> None:
        # After a response that is not 101, what the client sends is dropped.
        if not self._responded:
            super()._slow(data, budget)

    # Messages.

    def onOpen(self) -> None:
        """Wait for the fault, unless it comes after messages."""
        if self._has_trigger and not self.plan.values["after"]:
            self.later(self.plan.values["wait"], self._run)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """
        Keep a message until the server's `WorkQueue` serves the connection, and read nothing meanwhile.

        An answer may take much more time than that of an ordinary connection, for example in 1,024 frames.
        """
        self._unanswered.append((payload, isBinary))
        self.pause_reading()
        self.factory.work.submit(self)

    def _echo(self, payload: bytes, isBinary: bool) -> None:
        self.sendMessage(payload, isBinary)
        self.echoes += 1
        if self.reads_per_second:
            self._rest(len(payload) / self.reads_per_second)
        if self._has_trigger and self.echoes == self.plan.values["after"]:
            self.later(self.plan.values["wait"], self._run)

    # The server's `WorkQueue`; see `wsserver.wire.limits.Worker`.

    def serve_one(self) -> bool:
        """Echo the first message, and wait for the fault if this was the last message before it."""
        if self._unanswered and self.state == OPEN:
            payload, is_binary = self._unanswered.popleft()
            self._echo(payload, is_binary)
            self.factory.work.charge(len(payload))
        return bool(self._unanswered) and self.state == OPEN

    def finish_turn(self) -> None:
        """Read again once all messages are answered."""
        self._read_again()

    def work_failed(self) -> None:
        """Close with 1011."""
        self._endpoint_failed()

    def is_answering(self) -> bool:
        """Return False: a stopping server does not wait for answers that are slow on purpose."""
        return False

    @property
    def _has_trigger(self) -> bool:
        return self.plan.fault.stage is Stage.OPEN and self.plan.fault.run is not None

    def _run(self) -> None:
        if self.state == OPEN and self.plan.fault.run is not None:
            self.plan.fault.run(self, **self.plan.own)

    def onPing(self, payload: bytes) -> None:
        """Answer a ping, or not, or with another payload."""
        pong = self.plan.values["pong"]
        if pong == "right":
            super().onPing(payload)
        elif pong == "wrong":
            self.put(build(0x8A, b"wrong" + payload[:120]))

    def onCloseFrame(self, code: int | None, reasonRaw: bytes | None) -> bool | None:
        """Answer the client's Close frame, unless the plan is to ignore it."""
        return None if self.never_closes else super().onCloseFrame(code, reasonRaw)

    # What faults do.

    def later(self, seconds: float, function: Callable[[], object]) -> None:
        """Call a function after some seconds, unless the connection is closed by then."""

        def call() -> None:
            self._timers.discard(timer)
            function()

        timer = self.factory.reactor.callLater(seconds, call)
        self._timers.add(timer)

    def put(self, data: bytes) -> None:
        """Send bytes, without checking them."""
        self.output.put(data)

    def play(self, pieces: Iterator[bytes], rate: float = 0, then: Callable[[], object] | None = None) -> None:
        """
        Send a series of bytes.

        Args:
            pieces: what to send.
            rate: number of pieces per second; 0 for as many as the client reads.
            then: called after the last one.
        """
        Series(self, pieces, rate, then).start()

    def close_by_hand(self, payload: bytes, frame: bytes | None = None) -> None:
        """
        Start the closing handshake with a payload that may be invalid.

        Args:
            payload: the payload of the Close frame.
            frame: the whole frame, if it is invalid.
        """
        self._replaced_close = frame or build(0x88, payload)
        code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else CloseCode.NO_STATUS_RECEIVED
        self.sendCloseFrame(code, b"")

    def drop(self, *, reset: bool) -> None:
        """Drop the TCP connection without a Close frame, and with TLS without an alert: end it, or reset it."""
        self._end_without_close("the fault drops the connection")
        transport: Any = self.transport
        # A TLS transport would send the alert close_notify first.
        tcp: Any = cast(Any, transport).transport if ISSLTransport.providedBy(transport) else transport
        if reset:
            tcp.abortConnection()
        elif tcp is transport:
            super().dropConnection()
        else:
            transport.unregisterProducer()
            self.later(LAST_WORDS, tcp.abortConnection)
            tcp.loseConnection()

    def stop_writing(self) -> None:
        """Send nothing more."""
        self.output.mute()

    def stop_reading(self) -> None:
        """Read nothing more."""
        self._stops_reading = True
        self.pause_reading()

    def _rest(self, seconds: float) -> None:
        """Read nothing for some seconds, after those of earlier calls."""
        now = self.factory.reactor.seconds()
        self._rests_until = max(now, self._rests_until) + seconds
        self.pause_reading()
        self.later(self._rests_until - now, self._read_again)

    def _read_again(self) -> None:
        rests = self.factory.reactor.seconds() < self._rests_until
        if not (self._stops_reading or self._has_full_output or rests or self._unanswered):
            self.resume_reading()

    def finish_response(self) -> None:
        """Close the TCP connection once the response to the handshake has been written."""
        if self.output.size:
            self.later(POLL, self.finish_response)
            return
        self._ends = True
        self.transport.unregisterProducer()
        self._drop_deadline = linger(self.transport, self.factory.deadlines)

    @property
    def may_send(self) -> bool:
        """Whether the connection is not closing."""
        return not self._ends and (self._responded or self.state == OPEN)

    # Sending.

    def sendMessage(
        self,
        payload: bytes,
        isBinary: bool = False,
        fragmentSize: int | None = None,
        sync: bool = False,  # noqa: ARG002 (as in Autobahn)
        doNotCompress: bool = False,
    ) -> None:
        """Send a message, in fragments if the plan says so."""
        if self.state != OPEN:
            return
        self.messages_out += 1
        self.bytes_out += len(payload)
        first = FIN_BINARY if isBinary else FIN_TEXT
        if self._compressed and not doNotCompress and len(payload) >= self._compress_from:
            first, payload = first | RSV1, self._deflate(payload)
        most = fragmentSize or self.plan.values["fragment"]
        self.put(handmade.fragment(first, payload, most) if most else build(first, payload))

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:  # noqa: ARG002
        """Send a frame that Autobahn has built, after those in the output."""
        if self._replaced_close is not None:
            data, self._replaced_close = self._replaced_close, None
        self.put(data)

    def _write(self, data: bytes) -> None:
        if self._ends or not data:
            return
        self.sent += len(data)
        if self.sent > MAX_SENT:
            self.factory.counters.limits["fault_size"] += 1
            self._end_without_close(f"the fault has sent {show_size(MAX_SENT)}")
            self.transport.abortConnection()
            return
        self.transport.write(data)

    def _output_changed(self) -> None:
        is_full = self.output.is_full
        if is_full and not self._has_full_output:
            self._has_full_output = True
            self.pause_reading()
        elif self._has_full_output and not is_full:
            self._has_full_output = False
            self._read_again()

    def pauseProducing(self) -> None:
        """Write nothing and read nothing: the client does not read."""
        self.output.block()
        if self.state != CONNECTING:
            super().pauseProducing()

    def resumeProducing(self) -> None:
        """Write and read again."""
        if self.state != CONNECTING:
            super().resumeProducing()
        self.output.unblock()

    # The end.

    def _end_without_close(self, reason: str) -> None:
        self.wasNotCleanReason = reason
        self.output.mute()
        self._ends = True

    def _time_is_over(self) -> None:
        limit = show_duration(self.factory.settings.fault_timeout)
        self.factory.counters.limits["fault_timeout"] += 1
        if self.state == OPEN:
            self.fail(CloseCode.POLICY_VIOLATION, f"a fault lasts {limit} (server option --fault-timeout)")
        self.later(LAST_WORDS, self.transport.abortConnection)

    def dropConnection(self, abort: bool = False) -> None:
        """Close the TCP connection after the frames in the output."""
        # Autobahn aborts after a clean closing handshake, too.
        is_hurried = abort and not self.wasClean
        if self.output.size and not (is_hurried or self._ends) and self.state != CLOSED:
            self.later(POLL, partial(self.dropConnection, abort))
            return
        super().dropConnection(abort)

    def drain(self, code: int, reason: str, wait: Wait) -> bool:
        """Close the connection, at once if the client could not take part."""
        if self._stops_reading or self.never_closes or self.output.is_mute:
            self.drop(reset=False)
            return True
        return super().drain(code, reason, wait)

    def connectionLost(self, *arguments: Any) -> None:
        """Cancel the timers."""
        self._end_without_close(self.wasNotCleanReason or "")
        self._unanswered.clear()
        self.factory.work.discard(self)
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        if self._counted:
            self.factory.counters.open_faults -= 1
        super().connectionLost(*arguments)


def _status(code: int) -> HTTPStatus:
    """Return the status for the log: that of the response if it is a known one, else 400."""
    return HTTPStatus(code) if code in HTTPStatus.__members__.values() else HTTPStatus.BAD_REQUEST
