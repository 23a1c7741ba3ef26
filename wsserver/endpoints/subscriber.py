"""
A connection that is sent what is published: what every endpoint with channels has in common.

What may leave at once is written by the fan-out itself (`wsserver.wire.fastpath.hand`), past the methods here. They are
called for a subscriber that does not read, is not open yet, or is being served.
"""

from typing import Any, ClassVar

from twisted.python.failure import Failure

from wsserver.closecodes import CloseCode
from wsserver.hub.hub import Hub
from wsserver.hub.send_queue import Batch, SendQueue, SlowConsumerPolicy
from wsserver.typing import ChannelName
from wsserver.wire import deflate
from wsserver.wire.fastpath import CONNECTING, OPEN, Feed
from wsserver.wire.frames import RSV1, build
from wsserver.wire.handshake import Accept
from wsserver.wire.protocol import ConnectionRequest, ServerProtocol

__all__ = ["SubscriberProtocol", "Subscription"]


class SubscriberProtocol(ServerProtocol):
    """
    A connection that is sent what is published.

    It is its own subscriber, or has one `Subscription` for each of its channels. An endpoint that subscribes before it
    is open calls `hold` first, and `release` when it is. What comes in between waits, and what comes while the peer
    does not read.
    """

    hub: ClassVar[Hub]
    max_queued: ClassVar[int]
    """Most bytes that wait for a peer that does not read."""

    window_bits = 0
    """
    Of the window with which publications are compressed for this connection; 0 where they are not. It belongs into the
    `kind`: those who have it in common share one compression.
    """

    _backlog: SendQueue | None = None
    _overflowed = False
    """Too much has waited: something was dropped, and the connection is closed for it."""

    def __init__(self) -> None:
        super().__init__()
        self._prompt = True

    # Compression, shared by all whose publications are written the same.

    def onConnect(self, request: ConnectionRequest) -> Any:
        """Take note of what is going to be agreed to."""
        if self._accept is not None and self._accept.extensions:
            self.window_bits = self._compression_terms(self._accept).server_bits
        return super().onConnect(request)

    def _compression_terms(self, accept: Accept) -> deflate.Terms:
        # RFC 7692 section 7.1.1.1: the server may answer server_no_context_takeover to any offer. No message refers to
        # one before it then, so one compression does for everybody, and no connection keeps a compressor.
        return deflate.agree(accept.extensions[0][1], self.factory.settings, takeover=False)

    def write_frame(self, first: int, payload: bytes) -> bytes:
        """
        Write a message for everyone with the same `window_bits`, compressed where that is agreed to and worth it.

        Args:
            first: the first byte of its frame, without RSV1.
            payload: the message.
        """
        settings = self.factory.settings
        if self.window_bits and len(payload) >= settings.compression_min_size:
            terms = deflate.Terms(server_takeover=False, server_bits=self.window_bits)
            return build(first | RSV1, deflate.Deflate(terms).deflate(payload))
        return build(first, payload)

    # What comes.

    def take(self, batch: Batch) -> None:
        """Send what the hub has for a channel, or let it wait; what is given up then, the channel's policy says."""
        if self._backlog is None:
            self._send(batch.frames, batch.count, batch.size)
        else:
            self._wait(batch, SlowConsumerPolicy(self.hub.rules.for_channel(batch.channel).slow))

    def deliver(self, frames: bytes, count: int, size: int) -> None:
        """
        Send something in its order among the publications; it is never given up.

        Args:
            frames: complete frames.
            count: how many messages they are.
            size: bytes of their payloads.
        """
        if self._backlog is None:
            self._send(frames, count, size)
        else:
            self._wait(Batch(ChannelName(""), frames, count, size), SlowConsumerPolicy.CLOSE)

    def dropped(self, channel: ChannelName) -> None:
        """
        Some of a channel's publications were given up for this connection; an endpoint may override it.

        It is called once for each gap, which ends when the peer reads again. As it stands, `gap_frame` is sent then,
        before what follows of the channel.
        """
        frame, size = self.gap_frame(channel)
        if frame and self._backlog is not None:
            self._backlog.tell(channel, frame, size)

    def gap_frame(self, channel: ChannelName) -> tuple[bytes, int]:  # noqa: ARG002
        """Write that publications of a channel are missing: a frame, and the bytes of its payload."""
        return b"", 0

    def forget(self, channel: ChannelName) -> None:
        """Drop what waits of a channel that was left: a client that comes back must not get it then."""
        if self._backlog is not None:
            self._backlog.forget(channel)

    def _send(self, frames: bytes, count: int, size: int) -> None:
        if self.state != OPEN:
            return
        self.messages_out += count
        self.bytes_out += size
        if self._cork is None:
            self.transport.write(frames)
        else:
            self._cork.append(frames)

    def _wait(self, batch: Batch, slow: SlowConsumerPolicy) -> None:
        assert self._backlog is not None
        if self._overflowed or self.state not in (CONNECTING, OPEN):
            return
        loss = self._backlog.add(batch, slow)
        if self._backlog.full:
            self._backlog, self._overflowed = SendQueue(self.max_queued), True
            self.close(CloseCode.TRY_AGAIN_LATER, "reads too slowly")
            return
        self.hub.dropped += loss.messages
        for channel in loss.channels:
            self.dropped(channel)

    # Flow control.

    def hold(self) -> None:
        """Let what comes wait."""
        self._prompt = False
        if self._backlog is None:
            self._backlog = SendQueue(self.max_queued)

    def release(self) -> None:
        """Send what waits, and from now on what comes; where too much has waited meanwhile, close."""
        backlog, self._backlog = self._backlog, None
        if self._overflowed:
            self.close(CloseCode.TRY_AGAIN_LATER, "reads too slowly")
        elif backlog is not None:
            # The transport may say in between that it is full again.
            self._prompt = True
            frames, count, size = backlog.take()
            if frames:
                self._send(frames, count, size)

    def pauseProducing(self) -> None:
        """Let what comes wait: the peer does not read."""
        super().pauseProducing()
        self.hold()

    def resumeProducing(self) -> None:
        """Send what waits, then read again."""
        self.release()
        if self._backlog is None:
            super().resumeProducing()

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        """Let go of what waits."""
        super().connectionLost(reason)
        self._prompt, self._backlog = False, None


class Subscription(Feed):
    """
    A connection's place in one channel, as the hub knows it, for endpoints that keep something about each.

    Args:
        connection: whose it is. It must let go of the subscription when it is closed.
        channel: which.
    """

    __slots__ = ("channel",)
    connection: SubscriberProtocol

    def __init__(self, connection: SubscriberProtocol, channel: ChannelName) -> None:
        super().__init__(connection)
        self.channel = channel

    def take(self, batch: Batch) -> None:
        """Hand what the hub has to the connection."""
        self.connection.take(batch)

    def deliver(self, frames: bytes, count: int, size: int) -> None:
        """Send something in its order among the publications; it is never given up."""
        self.connection.deliver(frames, count, size)
