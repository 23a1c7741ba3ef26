"""
Read the bytes of a client in a conformance case as messages and control frames, and check them against the RFCs.

This module does not use Twisted or a clock. Section numbers in this module are those of RFC 6455.
"""

from collections.abc import Iterator

from wsserver.endpoints.cases.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, RSV1, Frame, FrameReader, Violation
from wsserver.endpoints.cases.script import Close, Event, Message, Ping, Pong
from wsserver.wire.deflate import Deflate, InflateCorrupt, InflateTooBig
from wsserver.wire.frames import is_utf8

__all__ = ["ClientStream"]

_UNSENDABLE = frozenset({1005, 1006, 1015})
"""Close codes that a Close frame must not contain (section 7.4.1)."""


class ClientStream:
    """
    Checks and assembles the frames of one client.

    Args:
        codec: the decompressor; None if permessage-deflate was not negotiated.
        max_size: maximum size of a message, in bytes.
    """

    def __init__(self, codec: Deflate | None, max_size: int) -> None:
        self._codec = codec
        self._max_size = max_size
        self._reader = FrameReader(max_size, allows_rsv1=codec is not None)
        self._message: bytearray | None = None
        self._opcode = 0
        self._is_compressed = False
        self._is_closed = False

    def feed(self, data: bytes) -> Iterator[tuple[Frame, Event | None]]:
        """
        Append received bytes.

        Yields:
            Each complete frame, with the message or the control frame that it completes.

        Raises:
            Violation: the client violates one of the RFCs.
        """
        for frame in self._reader.feed(data):
            if self._is_closed:
                raise Violation(f"the client sent a {frame.name} frame after its Close frame (section 5.5.1)")
            yield frame, self._read_control(frame) if frame.opcode >= CLOSE else self._read_data(frame)

    @property
    def is_within_frame(self) -> bool:
        """Whether a frame is incomplete."""
        return self._reader.unread > 0

    def _read_control(self, frame: Frame) -> Event:
        if frame.opcode == PING:
            return Ping(frame.payload)
        if frame.opcode == PONG:
            return Pong(frame.payload)
        self._is_closed = True
        return _read_close(frame.payload)

    def _read_data(self, frame: Frame) -> Message | None:
        if frame.opcode == CONTINUATION:
            if self._message is None:
                raise Violation("the client sent a continuation frame without a message to continue (section 5.4)")
        elif self._message is not None:
            raise Violation("the client began a message within another one (section 5.4)")
        else:
            self._message, self._opcode, self._is_compressed = bytearray(), frame.opcode, bool(frame.rsv & RSV1)
        self._message += frame.payload
        if len(self._message) > self._max_size:
            raise Violation(f"the client sent a message of over {self._max_size} bytes, more than this case allows")
        return self._end_message() if frame.fin else None

    def _end_message(self) -> Message:
        assert self._message is not None
        payload, self._message = bytes(self._message), None
        if self._is_compressed:
            payload = self._inflate(payload)
        is_binary = self._opcode == BINARY
        if not is_binary and not is_utf8(payload):
            raise Violation("the client sent a text message that is not UTF-8 (section 5.6)")
        return Message(payload, is_binary)

    def _inflate(self, payload: bytes) -> bytes:
        assert self._codec is not None
        try:
            return self._codec.inflate(payload, self._max_size)
        except InflateCorrupt as error:
            raise Violation(
                f"the client sent a message that cannot be inflated with the negotiated parameters: {error} "
                "(RFC 7692 section 7.2)"
            ) from None
        except InflateTooBig:
            raise Violation("the client sent a message that inflates to more than this case allows") from None


def _read_close(payload: bytes) -> Close:
    if not payload:
        return Close(None)
    if len(payload) == 1:
        raise Violation("the client sent a Close frame of one byte (section 5.5.1)")
    code, reason = int.from_bytes(payload[:2], "big"), payload[2:]
    if code < 1000 or code in _UNSENDABLE:
        raise Violation(f"the client sent a Close frame with the code {code} (section 7.4)")
    if not is_utf8(reason):
        raise Violation("the client sent a Close frame whose reason is not UTF-8 (section 5.5.1)")
    return Close(code, reason)
