"""The connection of a fault: an echo that misbehaves as its plan says, within limits."""

from collections import deque
from functools import cached_property, partial
from http import HTTPStatus
from typing import Any

from twisted.internet.interfaces import IAddress

from wsserver.closecodes import CloseCode
from wsserver.config.parsers import show_duration
from wsserver.endpoints.faults.plan import PlannedFault
from wsserver.endpoints.faults.sending import LAST_WORDS, FaultSender
from wsserver.wire.drain import Wait
from wsserver.wire.fastpath import OPEN
from wsserver.wire.frames import build
from wsserver.wire.handshake import Accept, find_deflate_offers
from wsserver.wire.http11 import Refusal, Request, unavailable
from wsserver.wire.linger import linger
from wsserver.wire.protocol import ConnectionRequest, Denied

__all__ = ["FaultProtocol"]


class FaultProtocol(FaultSender):
    """
    Echo every message, except for what `plan` says.

    The server sends no pings, so that the plan decides what the client receives. Instead, the connection ends after
    `fault_timeout`.
    """

    _counted = _stops_reading = False
    head_delay = 0.0
    """Seconds until the 101 response is sent."""
    head_pieces = 0, 0.0
    """Number of bytes of the 101 response that are written at a time, 0 for all; and seconds between two of them."""
    echoes = 0
    """Number of messages that were answered."""
    _rests_until = 0.0
    """Before this time, nothing is read."""
    reads_per_second = 0
    """Number of bytes of messages to read per second; 0 for no limit."""
    never_closes = False
    """Whether the connection ignores Close frames."""

    def __init__(self) -> None:
        super().__init__()
        # On the instance, because `bind` sets the server's options on the class.
        self.autoPingInterval = 0

    @cached_property
    def _unanswered(self) -> deque[tuple[bytes, bool]]:
        return deque()

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
        for name in self.plan.names:
            counters.faults[name] += 1
        self.later(settings.fault_timeout, self._time_is_over)
        name = self.plan.values["subprotocol"]
        return super().onConnect(request) if not name else name if name in request.protocols else None

    def succeedHandshake(self, res: Any) -> None:
        """Send the 101 response, or what the plan has in its place."""
        response = self.plan.response
        if response is None:
            super().succeedHandshake(res)
            return
        self._responded = True
        self.transport.registerProducer(self, True)
        self._refused = Refusal(
            _status(response.own.get("code", 0)),
            f"the fault {response.fault.name} answers the handshake",
            cause="fault",
        )
        self._log_refusal()
        response.fault.call(self, **response.own)

    def _send_head(self, head: bytes) -> None:
        for one in self.plan.heads:
            head = one.fault.call(self, head, **one.own)
        # The delay and the chunks of the plan are those of frames.
        if self.head_delay or self.head_pieces[0]:
            self.output.put_head(head, self.head_delay, *self.head_pieces)
        else:
            self._write(head)

    def failHandshake(self, reason: str, code: int = 400, responseHeaders: Any = None) -> None:
        """Refuse the handshake; if a part of a response has been sent already, drop the connection."""
        if self._responded:
            self.transport.abortConnection()
        else:
            super().failHandshake(reason, code, responseHeaders)

    def _slow(self, data: bytes, budget: int) -> None:
        # After a response that is not 101, what the client sends is dropped.
        if not self._responded:
            super()._slow(data, budget)

    # Messages.

    def onOpen(self) -> None:
        """Wait for the faults that do not come after messages, from the end of the handshake on."""
        self.when_written(lambda: self._start_faults(0))

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
        self._start_faults(self.echoes)

    def _start_faults(self, answered: int) -> None:
        for one in self.plan.timed:
            if one.after == answered:
                self.later(one.wait, partial(self._run, one))

    def _run(self, planned: PlannedFault) -> None:
        if self.state == OPEN:
            planned.fault.call(self, **planned.own)

    # The server's `WorkQueue`; see `wsserver.wire.limits.Worker`.

    def serve_one(self) -> bool:
        """Echo the first message, and wait for the faults that come after it."""
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

    @property
    def hides_frames(self) -> bool:
        """As in `SlowPath`: part of what was put at once is written."""
        return self.output.is_within_piece

    def is_answering(self) -> bool:
        """Return False: a stopping server does not wait for answers that are slow on purpose."""
        return False

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

    def sendCloseFrame(self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False) -> None:
        """Send a Close frame, and wait forever for the answer if the plan is to ignore it."""
        super().sendCloseFrame(code, reasonUtf8, isReply)
        if self.never_closes and self.closeHandshakeTimeoutCall is not None:
            self.closeHandshakeTimeoutCall.cancel()
            self.closeHandshakeTimeoutCall = None

    # What faults do.

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
        self.when_written(self._finish_response)

    def _finish_response(self) -> None:
        self._ends = True
        self.transport.unregisterProducer()
        self._drop_deadline = linger(self.transport, self.factory.deadlines)

    # The end.

    def _time_is_over(self) -> None:
        limit = show_duration(self.factory.settings.fault_timeout)
        self.factory.counters.limits["fault_timeout"] += 1
        if self.state == OPEN:
            self.fail(CloseCode.POLICY_VIOLATION, f"a fault lasts {limit} (server option --fault-timeout)")
        self.later(LAST_WORDS, self.transport.abortConnection)

    def drain(self, code: int, reason: str, wait: Wait) -> bool:
        """Close the connection, at once if the client could not take part."""
        if self._stops_reading or self.never_closes or self.output.is_sealed:
            self.drop(reset=False)
            return True
        return super().drain(code, reason, wait)

    def connectionLost(self, *arguments: Any) -> None:
        """Forget the unanswered messages."""
        self._unanswered.clear()
        self.factory.work.discard(self)
        if self._counted:
            self.factory.counters.open_faults -= 1
        super().connectionLost(*arguments)


def _status(code: int) -> HTTPStatus:
    """Return the status for the log: that of the response if it is a known one, else 400."""
    return HTTPStatus(code) if code in HTTPStatus.__members__.values() else HTTPStatus.BAD_REQUEST
