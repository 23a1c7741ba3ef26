"""
The slow half of receiving: what the state machine must judge, what waits for the next turn, what was compressed.

Of Autobahn's names it uses those of the state machine it is mixed into: `_dataReceived`, `current_frame`,
`inside_message`, `data`, `_perMessageCompress` and the callbacks of messages and frames.
"""

from collections.abc import Callable
from typing import Any

from wsserver.closecodes import CloseCode
from wsserver.config.parsers import show_size
from wsserver.wire import frames
from wsserver.wire.deflate import InflateCorrupt, InflateTooBig
from wsserver.wire.fastpath import CLOSED, CONNECTING, OPEN, FastPath
from wsserver.wire.frames import FIN_BINARY, FIN_TEXT, RSV1

__all__ = ["SlowPath"]

SLOW_FRAME = 8
"""For how many a frame counts that goes through the state machine."""


class SlowPath(FastPath):
    """Mixed in before Autobahn's class; the whole is `wsserver.wire.protocol.ServerProtocol`."""

    # Of Autobahn.
    current_frame: Any
    current_frame_masker: Any
    data: bytes
    failedByMe: bool
    inside_message: bool
    utf8validator: Any
    _perMessageCompress: Any
    _dataReceived: Callable[[bytes], None]

    # Of `ServerProtocol`.
    factory: Any
    fail: Callable[[int, str], None]

    _waiting = b""
    """What the turn's share did not suffice for; while there is something nothing more is read."""
    _held = False
    """The peer does not read."""
    _stopped = False
    """The endpoint wants no further messages at the moment: see `stop_reading`."""

    def _slow(self, data: bytes, share: int) -> None:
        """Take what is no whole data frame, or is more than the turn's share."""
        # Reading is paused while something waits, but what TLS had decrypted before still comes.
        if self._waiting or self.state == CONNECTING:
            self._waiting += data
            return
        start = 0
        try:
            if self._partial is not None and share > 0:
                self._give_up_partial()
            while start < len(data) and share > 0 and self.state != CLOSED:
                start = self._feed_autobahn(data, start)
                share -= SLOW_FRAME
                self._plain = self._is_plain()
                start, share = self._fast(data, start, share)
        except Exception:
            self._endpoint_failed()
            start = len(data)
        if start < len(data) and self.state != CLOSED:
            self._waiting = data[start:]
            self.transport.pauseProducing()
            self._go_on_later()
        self._plain = self._is_plain()

    def _is_plain(self) -> bool:
        """
        Whether data frames may be taken past the state machine.

        Only while it would do nothing with them but hand them on: the connection is open, no frame and no fragmented
        message has begun there, and nothing that came before waits.
        """
        return (
            self.state == OPEN
            and self.current_frame is None
            and not (self.inside_message or self.data or self._waiting or self.failedByMe)
        )

    def _go_on_later(self) -> None:
        self.factory.reactor.callLater(0, self._go_on)

    def _go_on(self) -> None:
        if self._held or self._stopped or not self._waiting:
            return
        data, self._waiting = self._waiting, b""
        self._plain = self._is_plain()
        self.dataReceived(data)
        if not (self._waiting or self._held or self._stopped) and self.state != CLOSED:
            self.transport.resumeProducing()

    def stop_reading(self) -> None:
        """
        Read nothing more from the peer until `read_on`: the endpoint has enough messages to work on.

        Up to `FRAMES_PER_TURN` messages that have been read already may still come.
        """
        if not self._stopped:
            self._stopped = True
            self.transport.pauseProducing()

    def read_on(self) -> None:
        """Read from the peer again after `stop_reading`, unless it does not read itself."""
        if self._stopped:
            self._stopped = False
            if not self._held:
                self._continue()

    def _continue(self) -> None:
        """Take what waits, or else read from the transport."""
        if self._waiting:
            self._go_on_later()
        else:
            self.transport.resumeProducing()

    def _give_up_partial(self) -> None:
        partial, self._partial = self._partial, None
        assert partial is not None
        self._feed_autobahn(partial.raw(), 0)

    def _feed_autobahn(self, data: bytes, start: int) -> int:
        """Give the state machine one frame, or as much of it as has come: it copies what is left at every step."""
        if self.current_frame is not None:
            stop = start + self.current_frame.length - self.current_frame_masker.pointer()
        elif self.data:
            stop = start + frames.extent(self.data + data[start : start + 14], 0)[1] - len(self.data)
        else:
            stop = frames.extent(data, start)[1]
        stop = stop if start < stop < len(data) else len(data)
        self._dataReceived(data[start:stop])
        return stop

    def onMessageBegin(self, isBinary: bool) -> None:
        """
        Begin a message.

        Autobahn would keep its parts as a list. Here they are one buffer, so that empty and tiny parts weigh no more
        than their bytes.
        """
        self.message_is_binary = isBinary
        self.message_data = bytearray()
        self.message_data_total_length = 0

    def onMessageFrameData(self, payload: bytes) -> None:
        """Take the next bytes of a message."""
        if not self.failedByMe:
            self.message_data += payload

    def onFrameData(self, payload: bytes) -> None:
        """
        Take bytes of a frame.

        Once the connection has failed, the frames that still come are only skipped, up to the peer's Close frame.
        Autobahn would keep what a control frame of any length carries, and lose its place after a message that cannot
        be inflated.
        """
        frame: Any = self.current_frame
        if not self.failedByMe or (frame.opcode > 7 and frame.length <= 125):
            super().onFrameData(payload)  # type: ignore[misc]

    def onFrameEnd(self) -> None:
        """End a frame."""
        frame: Any = self.current_frame
        if not self.failedByMe or frame.opcode > 7:
            try:
                super().onFrameEnd()  # type: ignore[misc]
            except Exception:
                # From a callback about a control frame: Autobahn would take the frame for unfinished from here on.
                self._endpoint_failed()
                self.current_frame = None
        if self.failedByMe and frame.opcode <= 7:
            self.current_frame = None
            self.inside_message = not frame.fin

    def onMessageFrameEnd(self) -> None:
        """End a frame: its bytes are in the message already."""
        self.frame_data = None

    def onMessageEnd(self) -> None:
        """Give a whole message to the endpoint."""
        payload, self.message_data = bytes(self.message_data), bytearray()
        if self.state == OPEN and not self.failedByMe:
            self._hand(payload, FIN_BINARY if self.message_is_binary else FIN_TEXT)

    def _inflate(self, payload: bytes, first: int) -> bytes | None:
        """Inflate a whole message as the state machine would; None where the connection fails with it."""
        limit, is_text = self.maxMessagePayloadSize, first == FIN_TEXT | RSV1
        try:
            payload = self._perMessageCompress.inflate(payload, limit)
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

    def _max_message_size_exceeded(self, msg_size: int, max_msg_size: int, reason: str) -> None:  # noqa: ARG002
        """Close with 1009; Autobahn's reason has the size so far, which says nothing about the message or the limit."""
        super()._max_message_size_exceeded(msg_size, max_msg_size, self._describe_limit())  # type: ignore[misc]

    def _describe_limit(self) -> str:
        limit = show_size(self.maxMessagePayloadSize)
        return f"the message is over the limit of {limit} (server option --max-message-size)"

    def _is_alive(self) -> None:
        # As Autobahn does where a frame is right up to its end: traffic is as good as a pong.
        if self.autoPingTimeoutCall is not None:
            self._cancelAutoPingTimeoutCall()

    def _check_text(self, payload: bytes) -> tuple[bool, bool, int]:
        """Tell whether it can be UTF-8, whether it ends with a character, and where it went wrong."""
        if frames.is_utf8(payload):
            return True, True, 0
        self.utf8validator.reset()
        valid, whole, _, index = self.utf8validator.validate(payload)
        return bool(valid), bool(whole), int(index)

    # Flow control: IPushProducer.

    def pauseProducing(self) -> None:
        """Stop reading: the peer does not read what is sent to it."""
        self._held = True
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Read again, after what waits."""
        self._held = False
        if not self._stopped:
            self._continue()

    def stopProducing(self) -> None:
        """Nothing is to be produced any more: the transport is gone, as `connectionLost` tells too."""
