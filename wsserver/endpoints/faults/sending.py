"""Send the bytes of a fault connection, within limits, and end it without a Close frame."""

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, Final, cast

from twisted.internet.interfaces import ISSLTransport

from wsserver.closecodes import CloseCode
from wsserver.config.parsers import show_size
from wsserver.endpoints.faults import handmade
from wsserver.endpoints.faults.output import Output
from wsserver.endpoints.faults.plan import Plan
from wsserver.endpoints.faults.series import Series
from wsserver.wire.fastpath import CLOSED, CONNECTING, OPEN
from wsserver.wire.frames import FIN_BINARY, FIN_TEXT, RSV1, build
from wsserver.wire.protocol import ServerProtocol

__all__ = ["LAST_WORDS", "MAX_SENT", "FaultSender"]

MAX_SENT: Final = 64 * 1024**2
"""Maximum number of bytes that a fault connection sends; then the server drops it."""

LAST_WORDS: Final = 1.0
"""Seconds between the Close frame at the end of the time of a fault connection, and the end of the connection."""

POLL: Final = 0.05
"""Seconds after which the connection looks again whether the client has read everything."""


class FaultSender(ServerProtocol):
    """A connection that sends anything, late and in pieces if its plan says so. `FaultProtocol` does the rest."""

    plan: Plan
    """The faults and their parameters; an attribute of the class or of the instance."""

    sent = 0
    """Number of bytes that were written."""
    _ends = False
    """Whether nothing is written any more."""
    _responded = False
    """Whether the response to the handshake is not that of a WebSocket."""
    _has_full_output = False
    """Whether reading is paused because the output is full."""
    _replaced_close: bytes | None = None
    """The bytes to send instead of the next Close frame."""

    def _read_again(self) -> None:
        """Read if nothing forbids it."""
        raise NotImplementedError

    @cached_property
    def _timers(self) -> set[Any]:
        return set()

    @cached_property
    def output(self) -> Output:
        """The queue of the bytes to send."""
        values = self.plan.values
        return Output(
            self._write,
            self._output_changed,
            self.factory.reactor,
            **{name: values[name] for name in ("delay", "jitter", "chunk", "pause")},
        )

    # What faults do.

    def later(self, seconds: float, function: Callable[[], object]) -> None:
        """Call a function after some seconds, unless the connection is closed by then."""

        def call() -> None:
            self._timers.discard(timer)
            function()

        timer = self.factory.reactor.callLater(seconds, call)
        self._timers.add(timer)

    def when_written(self, function: Callable[[], object]) -> None:
        """Call a function once the output is empty, unless the connection is closed by then."""
        if self.output.size:
            self.later(POLL, lambda: self.when_written(function))
        else:
            function()

    def put(self, data: bytes) -> None:
        """Send bytes, without checking them."""
        self.output.put(data)

    def play(
        self,
        pieces: Iterator[bytes],
        rate: float = 0,
        then: Callable[[], object] | None = None,
        *,
        is_one_frame: bool = False,
    ) -> None:
        """
        Send a series of bytes.

        Args:
            pieces: what to send.
            rate: number of pieces per second; 0 for as many as the client reads.
            then: called after the last one.
            is_one_frame: whether the pieces are parts of one frame, so that everything else waits for the last one.
        """
        Series(self, pieces, rate, then, is_one_frame=is_one_frame).start()

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
        """Send nothing more than what is in the output."""
        self.output.seal()

    def may_send(self, *, is_one_frame: bool = False) -> bool:
        """
        Return whether a series goes on.

        Args:
            is_one_frame: whether the series is one frame, which is finished although the connection is closing.
        """
        return not self._ends and (self._responded or self.state == OPEN or (is_one_frame and self.state != CLOSED))

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

    def dropConnection(self, abort: bool = False) -> None:
        """Close the TCP connection after the frames in the output."""
        # Autobahn aborts after a clean closing handshake, too.
        is_hurried = abort and not self.wasClean
        if self.output.size and not (is_hurried or self._ends) and self.state != CLOSED:
            self.when_written(lambda: self.dropConnection(abort))
            return
        super().dropConnection(abort)

    def connectionLost(self, *arguments: Any) -> None:
        """Cancel the timers."""
        self._end_without_close(self.wasNotCleanReason or "")
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        super().connectionLost(*arguments)
