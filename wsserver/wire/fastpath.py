"""
What every message touches: from the bytes of a read to the endpoint, and from the endpoint to one write.

Whole plain data frames are taken here; every other frame, and every one that breaks a rule, is left to the state
machine (`_slow`), which stays the judge of the protocol. The compiled twin does the same, and is given the bytes by
its transport without an object made of them.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from wsserver.wire import frames
from wsserver.wire.frames import FIN_BINARY, FIN_TEXT, RSV1, Partial

__all__ = [
    "CLOSED",
    "CONNECTING",
    "FRAMES_PER_TURN",
    "LARGE",
    "OPEN",
    "FastPath",
    "Feed",
    "PyFastPath",
    "PyFeed",
    "hand",
    "py_hand",
]

FRAMES_PER_TURN = 256
"""Most frames of one connection that are served in one turn of the reactor; the rest waits for the next."""

LARGE = 32768
"""From this size on a payload is not copied to stand behind its header, and leaves at once."""

CLOSED, CONNECTING, OPEN = 0, 1, 3
"""States of a connection, as Autobahn numbers them; a contract test holds them."""


class PyFastPath:
    """The hot half of a connection; the other half, a subclass, has the methods that are only declared here."""

    transport: Any = None
    maxMessagePayloadSize: int
    """The most bytes of a message; of the class, and looked at once."""

    _inflate: Callable[[bytes, int], bytes | None]
    """Inflates a whole message, given the first byte of its frame; None where the connection fails with it."""
    _deflate: Callable[[bytes], bytes]
    _slow: Callable[[bytes, int], None]
    """Takes what is not taken here, given how many frames are left of the turn's share."""
    _give_up_partial: Callable[[], None]
    """Leaves the unfinished frame to the state machine, so that it says what is wrong with it."""
    _endpoint_failed: Callable[[], None]
    """Called in an `except` clause."""
    _cancelAutoPingTimeoutCall: Callable[[], None]
    _send_in_parts: Callable[..., None]
    onMessage: Callable[[bytes, bool], Any]

    def __init__(self) -> None:
        """Set what every message touches; reading it from the class costs more than all the rest of a method call."""
        self.state = CONNECTING
        self._plain = self._compressed = False
        """Whether data frames may be taken past the state machine, and whether permessage-deflate was agreed to."""
        self._prompt = False
        """What is published to it may be written at once: its endpoint says so, and `hand` looks."""
        self._compress_from = 0
        """The least bytes of a payload that is sent compressed."""
        self._limit = self.maxMessagePayloadSize
        self._cork: list[bytes] | None = None
        """What is sent while a read is being served: it leaves in one write."""
        self._partial: Partial | None = None
        """A data frame that has not come whole, of which nothing is wrong so far."""
        self.autoPingTimeoutCall: Any = None
        self.messages_in = self.bytes_in = self.messages_out = self.bytes_out = 0
        """Messages taken and the bytes of their payloads; messages sent, and theirs."""

    def dataReceived(self, data: bytes) -> None:
        """Take bytes from the transport."""
        if self._cork:
            self._uncork()
        self._cork = []
        start, share = self._fast(data, 0, FRAMES_PER_TURN)
        if start < len(data):
            self._slow(data[start:], share)
        self._uncork()

    def _fast(self, data: bytes, start: int, share: int) -> tuple[int, int]:
        """
        Give whole messages to the endpoint, until something is for the state machine or the endpoint closes.

        Args:
            data: what was received.
            start: where to start in it.
            share: the most frames to take.

        Returns:
            Where the rest starts, and how many frames are left of the share.
        """
        handed = False
        while start < len(data) and share > 0 and self._plain:
            if self._partial is None:
                messages, start = frames.parse(data, start, self._limit, 1, self._compressed)
                if not messages:
                    header, size = frames.py_head(data, start, self._limit, self._compressed)
                    # Text that is not UTF-8 stops the parser too.
                    if header <= 0 or self._compressed or start + header + size <= len(data):
                        break
                    self._partial = Partial(data[start : start + header], size)
                    start += header
                    continue
                payload, first = messages[0]
            else:
                start = self._partial.feed(data, start)
                if not self._partial.sound:
                    self._give_up_partial()
                    break
                if not self._partial.complete:
                    continue
                payload, first = self._partial.whole(), self._partial.first
                self._partial = None
            share -= 1
            handed = self._hand(payload, first) or handed
        # As Autobahn does with each data frame: traffic is as good as a pong.
        if handed and self.autoPingTimeoutCall is not None:
            self._cancelAutoPingTimeoutCall()
        return start, share

    def _hand(self, payload: bytes, first: int) -> bool:
        """Give a message to the endpoint; returns whether there was one."""
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
        Send a message. The limit on messages taken is no limit on messages sent.

        Closing or closed already, this does nothing, as `send()` of a browser does; Autobahn would raise.

        Args:
            payload: text must be UTF-8.
            isBinary: whether it is binary.
            fragmentSize: most bytes of a frame; None for one frame.
            sync: as in Autobahn: let it leave by itself.
            doNotCompress: leave it as it is even if compression was agreed to.

        Raises:
            TypeError: the payload is not bytes.
        """
        if self.state != OPEN:
            return
        if not isinstance(payload, bytes):
            raise TypeError("a payload is bytes")
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
        """Let go what was sent meanwhile."""
        cork, self._cork = self._cork, None
        if cork:
            self.transport.write(cork[0] if len(cork) == 1 else b"".join(cork))


class PyFeed:
    """
    What stands for a connection where one object for each of them is not enough: `hand` looks through it.

    Args:
        connection: whose it is.
    """

    __slots__ = ("connection",)

    def __init__(self, connection: Any) -> None:
        self.connection = connection


def py_hand(  # noqa: PLR0917 (by place, as a compiled function takes them fastest)
    subscribers: list[Any],
    frames: bytes,
    count: int,
    size: int,
    other: Callable[[Any], None],
    failed: Callable[[Any], None],
) -> None:
    """
    Write the same to many connections: the loop of the fan-out.

    Args:
        subscribers: connections, those that stand for one, and whoever else.
        frames: what is written to a connection that is open, for which nothing waits and which is not being served.
        count: how many messages these are.
        size: bytes of their payloads.
        other: called with each subscriber to which it was not written.
        failed: called, within the `except` clause, with each whose transport has raised.
    """
    for one in subscribers:
        connection = one.connection if isinstance(one, Feed) else one
        if not (
            isinstance(connection, FastPath)
            and connection._prompt  # noqa: SLF001 (of this module)
            and connection.state == OPEN
            and connection._cork is None  # noqa: SLF001
        ):
            other(one)
            continue
        connection.messages_out += count
        connection.bytes_out += size
        try:
            connection.transport.write(frames)
        except Exception:
            failed(one)


FastPath = PyFastPath
Feed = PyFeed
hand = py_hand

if not TYPE_CHECKING and frames.COMPILED:
    FastPath, Feed, hand = frames.SPEEDUPS.FastPath, frames.SPEEDUPS.Feed, frames.SPEEDUPS.hand
