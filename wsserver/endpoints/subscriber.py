"""
The base of all WebSocket endpoints with channels: send publications, and queue them while the peer does not read.

The fan-out sends a publication to all subscribers of a channel. If a subscriber reads, the fan-out writes directly to
its transport (`wsserver.wire.fastpath.write_all`). It calls the methods of this module if the subscriber does not read,
is not open yet, or collects its output until the end of the turn (one iteration of Twisted's event loop).
"""

from typing import Any

from twisted.python.failure import Failure

from wsserver.endpoints.queued_output import QueuedOutput
from wsserver.hub.send_queue import Batch
from wsserver.typing import ChannelName
from wsserver.wire import deflate
from wsserver.wire.fastpath import CONNECTING, OPEN, Feed
from wsserver.wire.frames import RSV1, build
from wsserver.wire.handshake import Accept
from wsserver.wire.protocol import ConnectionRequest, ServerProtocol

__all__ = ["SubscriberProtocol", "Subscription"]


class SubscriberProtocol(ServerProtocol, QueuedOutput):
    """
    A WebSocket connection that receives publications.

    The hub's subscriber is either the connection itself, or a `Subscription`, of which it has one per channel. An
    endpoint that subscribes before the connection is open must call `hold` before it subscribes, and `release` once the
    connection is open.
    """

    # What every connection uses, so that an idle connection needs no dictionary.
    __slots__ = ("_reading_paused", "_send_queue", "_write_blocked")

    window_bits = 0
    """
    Size of the compression window for publications (base-2 logarithm of its bytes); 0 if they are not compressed. A
    subscriber's `kind` must include it, because a publication is compressed once for all subscribers of a kind.
    """

    def __init__(self) -> None:
        super().__init__()
        self._writable, self._send_queue = True, None
        self._reading_paused = self._write_blocked = False

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
        if self.window_bits and len(payload) >= self.factory.settings.compression_min_size:
            terms = deflate.Terms(server_takeover=False, server_bits=self.window_bits)
            return build(first | RSV1, deflate.Deflate(terms).deflate(payload))
        return build(first, payload)

    # Sending; see `QueuedOutput`.

    def _send(self, frames: bytes, count: int, size: int) -> None:
        if self.state != OPEN:
            return
        self.messages_out += count
        self.bytes_out += size
        if self._cork is None:
            self.transport.write(frames)
        else:
            self._cork.append(frames)

    def _has_ended(self) -> bool:
        return self.state not in (CONNECTING, OPEN)

    # Flow control.

    def pauseProducing(self) -> None:
        """Queue outgoing publications: the peer does not read."""
        super().pauseProducing()
        self.hold()

    def resumeProducing(self) -> None:
        """Send the queued publications. Resume reading if the transport has accepted all of them."""
        self.release()
        if self._send_queue is None:
            super().resumeProducing()

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        """Drop the send queue."""
        super().connectionLost(reason)
        self._cancel_queue_deadline()
        self._writable, self._send_queue = False, None


class Subscription(Feed):
    """
    The hub's subscriber for one channel of a connection, for endpoints that keep state per channel.

    Args:
        connection: the connection. It must drop its reference to this object when the connection is closed.
        channel: the channel.
    """

    __slots__ = ("channel",)
    connection: SubscriberProtocol

    def __init__(self, connection: SubscriberProtocol, channel: ChannelName) -> None:
        super().__init__(connection)
        self.channel = channel

    def deliver(self, batch: Batch) -> None:
        """Send or queue a batch on the connection."""
        self.connection.deliver(batch)
