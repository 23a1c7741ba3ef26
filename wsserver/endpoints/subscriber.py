"""
The base of all WebSocket endpoints with channels: send publications, and queue them while the peer does not read.

To a subscriber that reads, the fan-out writes publications directly (`wsserver.wire.fastpath.write_all`). It calls the
methods here if the subscriber does not read, is not open yet, or is in the middle of a turn.
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
    A connection that receives publications.

    It is either the hub's subscriber itself, or has one `Subscription` per channel. An endpoint that subscribes before
    the connection is open must call `hold` first, and `release` once it is open. Publications are queued in between,
    and also while the peer does not read.
    """

    hub: ClassVar[Hub]
    max_queued: ClassVar[int]
    """Maximum bytes of the send queue."""

    window_bits = 0
    """
    Size of the compression window for publications (base-2 logarithm of its bytes); 0 if they are not compressed. A
    subscriber's `kind` must include it, because a publication is compressed once for all subscribers of a kind.
    """

    _backlog: SendQueue | None = None
    """The send queue; None while publications are sent at once."""
    _overflowed = False
    """Whether the send queue has exceeded `max_queued`: its content was dropped, and the connection is to be closed."""

    def __init__(self) -> None:
        super().__init__()
        self._writable = True

    # Compression, shared by all subscribers of a kind.

    def onConnect(self, request: ConnectionRequest) -> Any:
        """Store the window size of the compression that the server is about to accept."""
        if self._accept is not None and self._accept.extensions:
            self.window_bits = self._compression_terms(self._accept).server_bits
        return super().onConnect(request)

    def _compression_terms(self, accept: Accept) -> deflate.Terms:
        # RFC 7692 section 7.1.1.1: the server may accept any offer with server_no_context_takeover. Then no message
        # refers to an earlier one: one compressed message suits all subscribers, and no connection keeps a compressor.
        return deflate.agree(accept.extensions[0][1], self.factory.settings, takeover=False)

    def write_frame(self, first: int, payload: bytes) -> bytes:
        """
        Return the frame of a message for all connections with the same `window_bits`.

        The payload is compressed if the connection negotiated it and the payload has at least `compression_min_size`
        bytes.

        Args:
            first: the first byte of the frame, without RSV1.
            payload: the message.
        """
        settings = self.factory.settings
        if self.window_bits and len(payload) >= settings.compression_min_size:
            terms = deflate.Terms(server_takeover=False, server_bits=self.window_bits)
            return build(first | RSV1, deflate.Deflate(terms).deflate(payload))
        return build(first, payload)

    # Sending.

    def take(self, batch: Batch) -> None:
        """Send a channel's batch, or queue it; the channel's slow-consumer policy decides what may be dropped."""
        if self._backlog is None:
            self._send(batch.frames, batch.count, batch.size)
        else:
            self._wait(batch, SlowConsumerPolicy(self.hub.rules.for_channel(batch.channel).slow))

    def deliver(self, frames: bytes, count: int, size: int) -> None:
        """
        Send messages in order with the publications. They may be queued, but are never dropped.

        Args:
            frames: complete frames.
            count: number of messages.
            size: bytes of their payloads.
        """
        if self._backlog is None:
            self._send(frames, count, size)
        else:
            self._wait(Batch(ChannelName(""), frames, count, size), SlowConsumerPolicy.CLOSE)

    def dropped(self, channel: ChannelName) -> None:
        """
        Handle that publications of a channel were dropped from the send queue. Endpoints may override this.

        Called once per gap; a gap ends when the peer reads again. This implementation then sends the notice that
        `gap_frame` returns, before the publications that are still queued.
        """
        frame, size = self.gap_frame(channel)
        if frame and self._backlog is not None:
            self._backlog.tell(channel, frame, size)

    def gap_frame(self, channel: ChannelName) -> tuple[bytes, int]:  # noqa: ARG002
        """Return the frame of a gap notice and the bytes of its payload; an empty frame for no notice, the default."""
        return b"", 0

    def forget(self, channel: ChannelName) -> None:
        """Drop the queued publications of a channel after an unsubscribe: a new subscription must not receive them."""
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
        """Queue outgoing publications."""
        self._writable = False
        if self._backlog is None:
            self._backlog = SendQueue(self.max_queued)

    def release(self) -> None:
        """Send the queued publications, and further ones at once; if the queue has overflowed, close with 1013."""
        backlog, self._backlog = self._backlog, None
        if self._overflowed:
            self.close(CloseCode.TRY_AGAIN_LATER, "reads too slowly")
        elif backlog is not None:
            # Set first: the write below may fill the transport, which then calls `pauseProducing`.
            self._writable = True
            frames, count, size = backlog.take()
            if frames:
                self._send(frames, count, size)

    def pauseProducing(self) -> None:
        """Queue outgoing publications: the peer does not read."""
        super().pauseProducing()
        self.hold()

    def resumeProducing(self) -> None:
        """Send the queued publications; resume reading if the transport has taken them all."""
        self.release()
        if self._backlog is None:
            super().resumeProducing()

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        """Drop the send queue."""
        super().connectionLost(reason)
        self._writable, self._backlog = False, None


class Subscription(Feed):
    """
    The hub's subscriber for one channel of a connection, for endpoints that keep state per channel.

    Args:
        connection: the connection. It must drop its reference to the subscription when it is closed.
        channel: the channel.
    """

    __slots__ = ("channel",)
    connection: SubscriberProtocol

    def __init__(self, connection: SubscriberProtocol, channel: ChannelName) -> None:
        super().__init__(connection)
        self.channel = channel

    def take(self, batch: Batch) -> None:
        """Send or queue a batch on the connection."""
        self.connection.take(batch)

    def deliver(self, frames: bytes, count: int, size: int) -> None:
        """Send messages in order with the publications; see `SubscriberProtocol.deliver`."""
        self.connection.deliver(frames, count, size)
