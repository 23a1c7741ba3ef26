"""
Slow path of receiving: frames for Autobahn's state machine, bytes that exceed the turn's budget, and inflating.

It overrides the state machine's callbacks for messages and frames.
"""

from collections.abc import Callable
from itertools import cycle
from operator import xor
from typing import Any, cast

from wsserver.closecodes import CloseCode
from wsserver.config.parsers import show_duration, show_size
from wsserver.wire import frames
from wsserver.wire.deflate import InflateCorrupt, InflateTooBig
from wsserver.wire.fastpath import CLOSED, CONNECTING, FRAMES_PER_TURN, OPEN, FastPath
from wsserver.wire.frames import FIN_BINARY, FIN_CLOSE, FIN_TEXT, RSV1
from wsserver.wire.metering import Meter
from wsserver.wire.stall import Stall

__all__ = ["SlowPath"]

SLOW_FRAME = 8
"""Number of frames of the turn's budget that a frame costs if the state machine processes it."""


class _WaitingBytes:
    """
    A connection in the server's `WorkQueue`, of which received bytes wait. See `wsserver.wire.limits.Worker`.

    Not the connection itself: that is in the queue with its commands, if it has any.
    """

    __slots__ = ("_connection",)

    def __init__(self, connection: "SlowPath") -> None:
        self._connection = connection

    def __hash__(self) -> int:
        return hash(self._connection)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _WaitingBytes) and other._connection is self._connection

    def serve_one(self) -> bool:
        self._connection.factory.work.charge(0)
        self._connection._process_waiting()  # noqa: SLF001 (of this module)
        return False

    def finish_turn(self) -> None:
        pass

    def work_failed(self) -> None:
        self._connection._endpoint_failed()  # noqa: SLF001


class SlowPath(FastPath):
    """Slow path of a connection: a mixin for `wsserver.wire.protocol.ServerProtocol`, before Autobahn's class."""

    # Provided by Autobahn's state machine.
    current_frame: Any
    current_frame_masker: Any
    data: bytes
    failedByMe: bool
    inside_message: bool
    utf8validator: Any
    wasNotCleanReason: str | None
    message_is_binary: bool
    message_data: bytearray
    message_data_total_length: int
    frame_data: Any
    onCloseFrame: Callable[[int | None, bytes | None], bool | None]
    _codec: Any
    _feed_state_machine: Callable[[bytes], None]

    # Provided by `ServerProtocol`.
    factory: Any
    fail: Callable[[int, str], None]

    _waiting = b""
    """Received bytes that exceeded the turn's budget. While there are any, the server reads nothing more."""
    _write_blocked = False
    """Whether reading is paused because the peer does not read."""
    _meter: Meter | None = None
    """Counts what the connection receives, if there is a rate."""
    _throttle: Any = None
    """The call that ends the delay, while the server delays messages because the client sends too fast."""
    _stall: Stall | None = None
    """Drops the connection if the peer reads nothing for too long; only while `_write_blocked`."""
    _fragments = 0
    """Number of frames of the current message that the state machine has processed."""
    _reading_paused = False
    """Whether reading is paused by the endpoint: see `pause_reading`."""
    _is_draining = False
    """Whether nothing more is read, because the server is stopping: see `_stop_receiving`."""

    # Budgets of connections with compression or a rate.

    def _start_metering(self) -> None:
        factory = self.factory
        messages, size = factory.settings.message_rate, factory.settings.byte_rate
        if messages or size:
            self._meter = Meter(messages, size, factory.reactor.seconds())
        self._metered = self._compressed or self._meter is not None

    def _frames_allowed(self, size: int) -> int:
        """
        Return how many frames may be processed now.

        Args:
            size: number of received bytes that are about to be processed; 0 if they are being processed.
        """
        if self._waiting:
            return 0
        allowed = FRAMES_PER_TURN
        if self._meter is not None:
            allowed = self._meter.allow(self.messages_in, size, allowed, self.factory.reactor.seconds())
        # Compression takes much more time than its bytes on the wire, so its budget is that of the whole server.
        return 0 if self._compressed and self.factory.work.exhausted else allowed

    def _slow(self, data: bytes, budget: int) -> None:
        """
        Process the bytes that the fast path has not processed, within the turn's budget.

        The state machine processes every frame that is not a whole data frame; the fast path processes the data frames
        between them. Once the budget is used up, the remaining bytes wait for a later turn, and the server stops
        reading until then. If earlier bytes wait, or the opening handshake is not complete, all of `data` waits.

        Args:
            data: received bytes.
            budget: number of frames left in the turn's budget.
        """
        # Reading is paused while bytes wait, but TLS may still deliver data that it decrypted before.
        if self._waiting or self.state == CONNECTING:
            self._waiting += data
            return
        start = 0
        try:
            if self._partial is not None and budget > 0:
                self._give_up_partial()
            while start < len(data) and budget > 0 and self.state != CLOSED:
                start = self._take_close(data, start) or self._feed_autobahn(data, start)
                budget -= SLOW_FRAME
                if self._metered:
                    budget = min(budget, self._frames_allowed(0))
                self._plain = self._is_plain()
                start, budget = self._fast(data, start, budget)
        except Exception:
            self._endpoint_failed()
            start = len(data)
        if start < len(data) and self.state != CLOSED:
            self._waiting = data[start:]
            if self._meter is not None:
                self._meter.keep_waiting(len(self._waiting))
            self.transport.pauseProducing()
            self._process_waiting_later()
        self._plain = self._is_plain()

    def _deflate(self, payload: bytes) -> bytes:
        return cast(bytes, self._codec.deflate(payload))

    def _is_plain(self) -> bool:
        """
        Return whether data frames may bypass the state machine.

        Data frames may bypass the state machine if it would only pass them on: the connection is open and has not
        failed, the state machine is not within a frame or a fragmented message, and no earlier bytes wait.
        """
        return (
            self.state == OPEN
            and self.current_frame is None
            and not (self.inside_message or self.data or self._waiting or self.failedByMe)
        )

    def _process_waiting_later(self) -> None:
        if self._throttle is not None:
            return
        factory, meter = self.factory, self._meter
        wait, limit = meter.wait(factory.reactor.seconds()) if meter is not None else (0.0, "")
        if wait > 0 and self.state == OPEN:
            self._over_rate(wait, limit)
        else:
            factory.work.submit_later(_WaitingBytes(self))

    def _over_rate(self, wait: float, limit: str) -> None:
        """Read nothing for some seconds, or close the connection: the client sends faster than a rate permits."""
        self.factory.counters.limits[limit] += 1
        if self.factory.settings.rate_action == "close":
            self._meter, self._metered = None, self._compressed
            self._refuse_rate(f"the client sends too fast (server option --{limit.replace('_', '-')})")
            self._process_waiting_later()
            return
        self._throttle = self.factory.reactor.callLater(wait, self._end_throttle)

    def _refuse_rate(self, reason: str) -> None:
        self.fail(CloseCode.POLICY_VIOLATION, reason)

    def _end_throttle(self) -> None:
        self._throttle = None
        self._process_waiting()

    def _process_waiting(self) -> None:
        if self._write_blocked or self._reading_paused or self._throttle is not None or not self._waiting:
            return
        data, self._waiting = self._waiting, b""
        self._plain = self._is_plain()
        self.dataReceived(data)
        if not (self._waiting or self._write_blocked or self._reading_paused) and self.state != CLOSED:
            self._read()

    def pause_reading(self) -> None:
        """
        Stop reading from the peer until `resume_reading`, because the endpoint has enough messages to process.

        `onMessage` may still be called for up to `FRAMES_PER_TURN` messages that have been read already.
        """
        if not self._reading_paused:
            self._reading_paused = True
            self.transport.pauseProducing()

    def resume_reading(self) -> None:
        """Read from the peer again after `pause_reading`, unless reading is paused because the peer does not read."""
        if self._reading_paused:
            self._reading_paused = False
            if not self._write_blocked:
                self._resume()

    def _resume(self) -> None:
        """Process the waiting bytes in the next turn; if none wait, read from the transport."""
        if self._waiting:
            self._process_waiting_later()
        else:
            self._read()

    def _read(self) -> None:
        if not self._is_draining:
            self.transport.resumeProducing()

    def _stop_receiving(self) -> None:
        """Read nothing more. The bytes that were read already are still processed."""
        if not self._is_draining:
            self._is_draining = True
            self.transport.pauseProducing()

    def _receive_close(self) -> None:
        """Read again after `_stop_receiving`: the peer answers the Close frame."""
        if self._is_draining:
            self._is_draining = False
            if not (self._write_blocked or self._reading_paused):
                self._resume()

    def _give_up_partial(self) -> None:
        partial, self._partial = self._partial, None
        assert partial is not None
        self._feed_autobahn(partial.raw(), 0)

    def _take_close(self, data: bytes, start: int) -> int:
        """
        Process a Close frame as most peers send it: whole, valid, and before the server has sent one.

        The state machine would take a quarter of the time of closing a connection to find out the same.

        Args:
            data: received bytes.
            start: index in `data` to start at.

        Returns:
            The index after the frame; 0 if the state machine must process it.
        """
        if data[start] != FIN_CLOSE or self.state != OPEN or self.failedByMe or self.data or self.current_frame:
            return 0
        size = (data[start + 1] & 0x7F) if start + 1 < len(data) and data[start + 1] & 0x80 else 1
        end = start + 6 + size
        # The payload is empty, or begins with two bytes: the close code (RFC 6455 section 5.5.1).
        if size == 1 or size > 125 or end > len(data):
            return 0
        payload = bytes(map(xor, data[start + 6 : end], cycle(data[start + 2 : start + 6])))
        code, reason = int.from_bytes(payload[:2], "big"), payload[2:]
        if size and not ((code in (1000, 1001) or 3000 <= code <= 4999) and frames.is_utf8(reason)):
            return 0
        self.onCloseFrame(code if size else None, reason or None)
        return end

    def _feed_autobahn(self, data: bytes, start: int) -> int:
        """
        Pass one frame, or the part of it that has arrived, to the state machine.

        Frames are passed one at a time, because the state machine copies the remaining bytes after every step.

        Args:
            data: received bytes.
            start: index in `data` to start at.

        Returns:
            The index of the first byte that was not passed on.
        """
        if self.current_frame is not None:
            stop = start + self.current_frame.length - self.current_frame_masker.pointer()
        elif self.data:
            stop = start + frames.extent(self.data + data[start : start + 14], 0)[1] - len(self.data)
        else:
            stop = frames.extent(data, start)[1]
        stop = stop if start < stop < len(data) else len(data)
        self._feed_state_machine(data[start:stop])
        return stop

    def onMessageBegin(self, isBinary: bool) -> None:
        """
        Begin a message.

        Autobahn would keep the parts of the message in a list. Here one buffer holds them, so that empty and tiny parts
        need no more memory than their bytes.
        """
        self.message_is_binary = isBinary
        self.message_data = bytearray()
        self.message_data_total_length = self._fragments = 0
        self._message_begun()

    def onMessageFrameData(self, payload: bytes) -> None:
        """Append bytes to the message."""
        if not self.failedByMe:
            self.message_data += payload

    def onFrameData(self, payload: bytes) -> None:
        """
        Process payload bytes of a frame.

        Once the connection has failed, frames are skipped up to the peer's Close frame. Autobahn would keep the payload
        of a control frame of any length, and would misread the frames that follow a message that cannot be inflated.
        """
        frame: Any = self.current_frame
        if not self.failedByMe or (frame.opcode > 7 and frame.length <= 125):
            super().onFrameData(payload)  # type: ignore[misc]

    def onFrameEnd(self) -> None:
        """Process the end of a frame."""
        frame: Any = self.current_frame
        if self._meter is not None and frame.opcode > 7:
            self._meter.control_frames += 1
        if not self.failedByMe or frame.opcode > 7:
            try:
                super().onFrameEnd()  # type: ignore[misc]
            except Exception:
                # A callback for a control frame raised. Autobahn would regard the frame as unfinished from now on.
                self._endpoint_failed()
                self.current_frame = None
        if self.failedByMe and frame.opcode <= 7:
            self.current_frame = None
            self.inside_message = not frame.fin

    def onMessageFrameEnd(self) -> None:
        """End a frame, and count it. Its payload has been appended to the message already."""
        self.frame_data = None
        self._fragments += 1
        most = self.factory.settings.max_fragments
        if self._fragments > most and not self.failedByMe:
            reason = f"the message has over {most} fragments (server option --max-fragments)"
            self._refuse_message("max_fragments", CloseCode.POLICY_VIOLATION, reason)

    @property
    def unread_frame(self) -> tuple[int, bytes]:
        """
        Where in the client's frames the connection is, for a tap that begins now.

        Returns:
            How many bytes of a frame have yet to arrive, and the received bytes that begin the next one or wait.
        """
        if self._partial is not None:
            raw = self._partial.raw()
            return frames.extent(raw, 0)[1] - len(raw), self._waiting
        if self.current_frame is not None:
            return self.current_frame.length - self.current_frame_masker.pointer(), self._waiting
        return 0, self.data + self._waiting

    @property
    def hides_frames(self) -> bool:
        """Whether a tap that begins now could not know where the next frame begins."""
        return False

    @property
    def compression_takeover(self) -> tuple[bool, bool] | None:
        """Whether messages received, and sent, may refer to earlier ones; None without compression."""
        terms = self._codec.terms if self._codec is not None else None
        return None if terms is None else (terms.client_takeover, terms.server_takeover)

    # Unfinished messages; see `wsserver.wire.unfinished`.

    def _message_begun(self) -> None:
        self.factory.unfinished.begin(self)

    @property
    def is_unfinished(self) -> bool:
        """Whether a message has begun and has not arrived completely."""
        return self._partial is not None or self.inside_message

    @property
    def unfinished_size(self) -> int:
        """Size in bytes of the part of an unfinished message that has arrived."""
        return self._partial.received if self._partial is not None else len(self.message_data)

    @property
    def is_throttled(self) -> bool:
        """Whether the server delays received messages, because the client sends faster than permitted."""
        return self._throttle is not None

    def message_timed_out(self) -> None:
        """Close with 1008: a message did not arrive within the timeout."""
        limit = show_duration(self.factory.settings.message_timeout)
        reason = f"the message did not arrive within {limit} (server option --message-timeout)"
        self._refuse_message("message_timeout", CloseCode.POLICY_VIOLATION, reason)

    def message_given_up(self) -> None:
        """Close with 1013: the unfinished messages of all connections are too large."""
        self._refuse_message("unfinished_messages", CloseCode.TRY_AGAIN_LATER, "too many unfinished messages; retry")

    def _refuse_message(self, limit: str, code: CloseCode, reason: str) -> None:
        """Count the limit that a message exceeds, close the connection, and drop the part that has arrived."""
        self.factory.counters.limits[limit] += 1
        self.fail(code, reason)
        self.message_data = bytearray()
        if self._partial is not None:
            self._give_up_partial()

    def onMessageEnd(self) -> None:
        """Pass the whole message to the endpoint."""
        payload, self.message_data = bytes(self.message_data), bytearray()
        if self.state == OPEN and not self.failedByMe:
            self._dispatch(payload, FIN_BINARY if self.message_is_binary else FIN_TEXT)

    def _inflate(self, payload: bytes, first: int) -> bytes | None:
        """
        Inflate a whole message and check its text, with the same result as the state machine.

        Args:
            payload: the compressed payload.
            first: the first byte of the frame: FIN, RSV1 and the opcode.

        Returns:
            The message, or None if the connection fails: too big, corrupt, or text that is not UTF-8.
        """
        limit, is_text = self.maxMessagePayloadSize, first == FIN_TEXT | RSV1
        try:
            payload = self._codec.inflate(payload, limit)
        except InflateTooBig:
            self.fail(CloseCode.MESSAGE_TOO_BIG, self._describe_limit())
            return None
        except InflateCorrupt as error:
            valid, whole, index = self._check_text(error.inflated or b"") if is_text else (True, True, 0)
            if valid:
                if error.inflated is not None:
                    self._is_alive()
                self.fail(CloseCode.INVALID_PAYLOAD, f"received WebSocket message cannot be decompressed: {error}")
                return None
        else:
            valid, whole, index = self._check_text(payload) if is_text else (True, True, 0)
        if valid and whole:
            return payload
        where = "UTF-8 text message payload ended within Unicode code point"
        if valid:
            self._is_alive()
        else:
            where = "encountered invalid UTF-8 while processing text message"
        self.fail(CloseCode.INVALID_PAYLOAD, f"{where} at payload octet index {index}")
        return None

    def _describe_limit(self) -> str:
        self.factory.counters.limits["max_message_size"] += 1
        limit = show_size(self.maxMessagePayloadSize)
        return f"the message is over the limit of {limit} (server option --max-message-size)"

    def _is_alive(self) -> None:
        # As in Autobahn, a frame that is valid up to its end counts as a pong.
        if self.autoPingTimeoutCall is not None:
            self._cancel_ping_timeout()

    def _check_text(self, payload: bytes) -> tuple[bool, bool, int]:
        """
        Check whether a payload is UTF-8.

        Returns:
            Whether it is valid so far, whether it ends with a complete character, and the index of the first error.
        """
        if frames.is_utf8(payload):
            return True, True, 0
        self.utf8validator.reset()
        valid, whole, _, index = self.utf8validator.validate(payload)
        return bool(valid), bool(whole), int(index)

    # Flow control: IPushProducer.

    def pauseProducing(self) -> None:
        """Stop reading, because the peer does not read. Called by the transport when its send buffer is full."""
        self._write_blocked = True
        self.transport.pauseProducing()
        if self._stall is None:
            factory = self.factory
            seconds = factory.settings.close_timeout
            self._stall = Stall(
                self.transport, factory.deadlines, seconds, self._drop_stalled, lambda: len(self._waiting)
            )

    def resumeProducing(self) -> None:
        """Process the waiting bytes, then read again. Called by the transport when its send buffer is empty."""
        self._write_blocked = False
        self._end_stall()
        if not self._reading_paused:
            self._resume()

    def _end_stall(self) -> None:
        if self._stall is not None:
            self._stall.stop()
            self._stall = None

    def _drop_stalled(self) -> None:
        """Drop the connection: the client sends, but reads nothing. So no Close frame would reach it."""
        self.factory.counters.limits["close_timeout"] += 1
        seconds = show_duration(self.factory.settings.close_timeout)
        self.wasNotCleanReason = f"the client sends but has read nothing for {seconds} (server option --close-timeout)"
        self.transport.abortConnection()

    def stopProducing(self) -> None:
        """Do nothing: the transport is closed, and `connectionLost` handles that."""
