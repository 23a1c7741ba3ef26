"""
Fast path of a connection: the code that runs for every message received and sent.

The fast path parses complete, unfragmented data frames and calls the endpoint. It passes every other frame, and every
frame that violates RFC 6455, to Autobahn's state machine (`_slow`), which decides how the connection fails. Everything
that is sent while one read is processed leaves in one write.

`_speedups` contains a compiled implementation with the same behaviour. Its transport passes received bytes to it
without creating a Python object for them.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from wsserver.wire import frames
from wsserver.wire.frames import FIN_BINARY, FIN_TEXT, RSV1, Partial

__all__ = [
    "CLOSED",
    "CLOSING",
    "CONNECTING",
    "FRAMES_PER_TURN",
    "LARGE",
    "OPEN",
    "FastPath",
    "Feed",
    "Output",
    "PyFastPath",
    "PyFeed",
    "PyOutput",
    "py_sum_messages",
    "py_write_all",
    "sum_messages",
    "write_all",
]

FRAMES_PER_TURN = 256
"""Maximum number of frames of one connection that are processed in one turn of the reactor; others wait."""

LARGE = 8192
"""
Size in bytes from which a payload is written immediately, instead of being collected with later frames.

The compiled implementation does not copy such a payload to join it with its header.
"""

CLOSED, CONNECTING, CLOSING, OPEN = 0, 1, 2, 3
"""States of a connection, with Autobahn's values; a contract test checks them."""


class PyOutput:
    """
    Base class of what publications are written to: WebSocket connections and endless HTTP responses.

    The subclass sets `transport` and `_writable`, and counts the messages that `write_all` does not write.
    """

    transport: Any = None

    def __init__(self) -> None:
        self._writable = False
        """Whether publications may be written to `transport` at once; read by `write_all`."""
        self.messages_in = self.bytes_in = self.messages_out = self.bytes_out = 0
        """Number of messages received, and the size of their payloads in bytes; the same for messages sent."""


class PyFastPath(PyOutput):
    """
    The fast path of a connection.

    It owns the attributes that `__init__` sets, and `transport`. From the other layers of the connection it uses only
    the attributes that are declared below; a test checks this for the compiled version, too. Other layers set `_plain`,
    `_compressed`, `_writable`, `_compress_from` and `state`, and take the `_partial` frame that the fast path gives up.
    """

    transport: Any

    # Provided by the other layers.
    maxMessagePayloadSize: int
    """Maximum size of a received message in bytes. A class attribute; read once, by the constructor."""

    _inflate: Callable[[bytes, int], bytes | None]
    """Inflates a whole message, given its payload and the first byte of its frame; None if the connection fails."""
    _frames_allowed: Callable[[int], int]
    """Returns how many frames may be processed now, given the number of bytes that have arrived; see `_metered`."""
    _deflate: Callable[[bytes], bytes]
    """Compresses the payload of a message."""
    _slow: Callable[[bytes, int], None]
    """Processes the bytes that the fast path has not processed. Takes them, and the rest of the turn's frame budget."""
    _message_begun: Callable[[], None]
    """Called when the first part of a message has arrived, and the rest has not."""
    _give_up_partial: Callable[[], None]
    """Passes the incomplete, invalid frame to the state machine, which fails the connection with the right reason."""
    _endpoint_failed: Callable[[], None]
    """Handles an exception of the endpoint; called within an `except` clause."""
    _cancel_ping_timeout: Callable[[], None]
    """Stops waiting for a pong; called after a read with a data frame, if `autoPingTimeoutCall` is set."""
    _send_in_parts: Callable[..., None]
    """Sends a message in several frames, or in a write of its own; takes the arguments of `sendMessage`."""
    onMessage: Callable[[bytes, bool], Any]
    """The endpoint's callback: the message, and whether it is binary."""

    def __init__(self) -> None:
        """Set the attributes that every message uses, on the instance: reading them from the class is slower."""
        super().__init__()
        self.state = CONNECTING
        self._plain = self._compressed = False
        """Whether data frames may bypass the state machine; whether permessage-deflate was negotiated."""
        self._metered = False
        """Whether `_frames_allowed` limits the frames of a turn, because of compression or a rate."""
        self._compress_from = 0
        """Minimum size in bytes of a payload that is sent compressed."""
        self._limit = self.maxMessagePayloadSize
        self._cork: list[bytes] | None = None
        """Frames sent while a read is processed, to be sent in one write; None outside of a read."""
        self._partial: Partial | None = None
        """A data frame that has not arrived completely and is valid so far."""
        self.autoPingTimeoutCall: Any = None

    def dataReceived(self, data: bytes) -> None:
        """Process bytes from the transport, then send the frames that this has produced in one write."""
        if self._cork:
            self._uncork()
        self._cork = []
        budget = self._frames_allowed(len(data)) if self._metered else FRAMES_PER_TURN
        start, budget = self._fast(data, 0, budget)
        if start < len(data):
            self._slow(data[start:], budget)
        self._uncork()

    def _fast(self, data: bytes, start: int, budget: int) -> tuple[int, int]:
        """
        Pass whole messages to the endpoint, until a frame needs the state machine, or the connection is closed.

        Args:
            data: received bytes.
            start: index in `data` to start at.
            budget: maximum number of frames to process.

        Returns:
            The index of the first unprocessed byte, and how many frames of `budget` are left.
        """
        dispatched = False
        while start < len(data) and budget > 0 and self._plain:
            if self._partial is None:
                messages, start = frames.parse(data, start, self._limit, 1, self._compressed)
                if not messages:
                    header, size = frames.py_head(data, start, self._limit, self._compressed)
                    # The parser also stops at text that is not UTF-8; such a frame is complete.
                    if header <= 0 or self._compressed or start + header + size <= len(data):
                        break
                    self._partial = Partial(data[start : start + header], size)
                    self._message_begun()
                    start += header
                    continue
                payload, first = messages[0]
            else:
                start = self._partial.feed(data, start)
                if not self._partial.valid:
                    self._give_up_partial()
                    break
                if not self._partial.complete:
                    continue
                payload, first = self._partial.whole(), self._partial.first
                self._partial = None
            budget -= 1
            dispatched = self._dispatch(payload, first) or dispatched
            # A rate is checked once for each read: no more messages become allowed while it is processed.
            if self._metered and self._compressed:
                budget = min(budget, self._frames_allowed(0))
        # As in Autobahn, every data frame counts as a pong.
        if dispatched and self.autoPingTimeoutCall is not None:
            self._cancel_ping_timeout()
        return start, budget

    def _dispatch(self, payload: bytes, first: int) -> bool:
        """
        Inflate a message if it is compressed, and pass it to the endpoint.

        Args:
            payload: the payload of the frame.
            first: the first byte of the frame: FIN, RSV1 and the opcode.

        Returns:
            False if the message could not be inflated, else True.
        """
        try:
            if first > FIN_BINARY:
                inflated = self._inflate(payload, first)
                if inflated is None:
                    return False
                payload, first = inflated, first ^ RSV1
            self.messages_in += 1
            self.bytes_in += len(payload)
            self.onMessage(payload, first == FIN_BINARY)
        except Exception:
            self._endpoint_failed()
        return True

    def sendMessage(
        self,
        payload: bytes,
        isBinary: bool = False,
        fragmentSize: int | None = None,
        sync: bool = False,
        doNotCompress: bool = False,
    ) -> None:
        """
        Send a message. The size limit of received messages does not apply.

        Does nothing if the connection is not open, as a browser's `send()`; Autobahn would raise an exception.

        Args:
            payload: the message; text must be UTF-8.
            isBinary: whether the message is binary rather than text.
            fragmentSize: maximum payload of a frame in bytes; None sends one frame.
            sync: as in Autobahn: write the message separately, not joined with others.
            doNotCompress: send the message uncompressed even if compression was negotiated.

        Raises:
            TypeError: `payload` is not bytes.
        """
        if self.state != OPEN:
            return
        if not isinstance(payload, bytes):
            raise TypeError(f"payload must be bytes, not {type(payload).__name__}")
        if fragmentSize is not None or sync:
            self._send_in_parts(payload, isBinary, fragmentSize, sync, doNotCompress)
            return
        first = FIN_BINARY if isBinary else FIN_TEXT
        self.messages_out += 1
        self.bytes_out += len(payload)
        if self._compressed and not doNotCompress and len(payload) >= self._compress_from:
            first |= RSV1
            payload = self._deflate(payload)
        frame = frames.build(first, payload)
        cork = self._cork
        if cork is None:
            self.transport.write(frame)
            return
        cork.append(frame)
        if len(payload) >= LARGE:
            self._uncork()
            self._cork = []

    def _uncork(self) -> None:
        """Write the collected frames, and stop collecting."""
        cork, self._cork = self._cork, None
        if cork:
            self.transport.write(cork[0] if len(cork) == 1 else b"".join(cork))


class PyFeed:
    """
    Base class of subscribers that are not connections themselves, but write to a connection.

    Needed if a connection has several subscriptions. `write_all` writes to `connection` directly.

    Args:
        connection: the connection that the subscriber writes to.
    """

    __slots__ = ("connection",)

    def __init__(self, connection: Any) -> None:
        self.connection = connection


def py_write_all(
    subscribers: list[Any],
    frames: bytes,
    count: int,
    size: int,
    failed: Callable[[Any], None],
) -> list[Any]:
    """
    Write the same frames to many connections: the inner loop of the fan-out.

    The frames are written directly to a connection that is open and `_writable`, and is not processing a read, and to
    any other `Output` that is `_writable`.

    Args:
        subscribers: connections and other `Output` objects, `Feed` objects, and subscribers of any other type.
        frames: the frames to write.
        count: number of messages in `frames`.
        size: total size of the payloads of these messages, in bytes.
        failed: called, within the `except` clause, with each subscriber whose transport raised an exception.

    Returns:
        The subscribers that the frames were not written to, because they are not such a connection.
    """
    others = []
    for one in subscribers:
        connection = one.connection if isinstance(one, Feed) else one
        if not isinstance(connection, Output) or not connection._writable:  # noqa: SLF001 (of this module)
            others.append(one)
            continue
        if isinstance(connection, FastPath) and (
            connection.state != OPEN or connection._cork is not None  # noqa: SLF001
        ):
            others.append(one)
            continue
        connection.messages_out += count
        connection.bytes_out += size
        try:
            connection.transport.write(frames)
        except Exception:
            failed(one)
    return others


def py_sum_messages(connections: list[Any]) -> tuple[int, int, int, int]:
    """
    Return the number and size of the messages of many connections, for the metrics.

    Args:
        connections: open connections; those that are not WebSockets are skipped.

    Returns:
        Messages and bytes received, then messages and bytes sent.
    """
    messages_in = bytes_in = messages_out = bytes_out = 0
    for one in connections:
        if isinstance(one, FastPath):
            messages_in += one.messages_in
            bytes_in += one.bytes_in
            messages_out += one.messages_out
            bytes_out += one.bytes_out
    return messages_in, bytes_in, messages_out, bytes_out


Output = PyOutput
FastPath = PyFastPath
Feed = PyFeed
write_all = py_write_all
sum_messages = py_sum_messages

if not TYPE_CHECKING and frames.COMPILED:
    FastPath, Feed, write_all = frames.SPEEDUPS.FastPath, frames.SPEEDUPS.Feed, frames.SPEEDUPS.write_all
    Output, sum_messages = frames.SPEEDUPS.Output, frames.SPEEDUPS.sum_messages
