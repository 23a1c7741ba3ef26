"""
Output of a subscriber's connection: send messages immediately, or queue them while the client does not read.

This module does not use a clock or a socket.
"""

from typing import Any

from wsserver.closecodes import CloseCode
from wsserver.hub.hub import Hub
from wsserver.hub.send_queue import Batch, SendQueue, SlowConsumerPolicy
from wsserver.typing import ChannelName

__all__ = ["QueuedOutput"]


class QueuedOutput:
    """
    A base class of connections that receive publications: WebSocket connections and event streams.

    After `hold`, messages are queued; `release` sends them. The subclass calls `hold` when the client stops reading,
    and `release` when the client reads again. A subclass that subscribes before it can send must call `hold` before it
    subscribes, and `release` once it can send. The subclass implements `close`, `_send` and `_has_ended`, and may
    override `dropped` and `gap_frame`.
    """

    hub: Hub
    max_queued: int
    """Maximum size of the send queue, in bytes."""

    _writable: bool
    """Whether publications may be written at once, without calling `deliver`; see `wsserver.wire.fastpath.Output`."""
    _send_queue: SendQueue | None = None
    """The queued messages; None while messages are sent immediately."""
    _overflowed = False
    """Whether the send queue has exceeded a limit: its content was dropped, and the connection must be closed."""
    _queue_deadline: Any = None
    """The deadline of the oldest message in the send queue that must not be dropped; None if there is none."""

    @property
    def queued(self) -> int:
        """Size of the send queue, in bytes; what the transport has queued is not part of it."""
        return 0 if self._send_queue is None else self._send_queue.size

    # Implemented by the subclass.

    def close(self, code: int, reason: str) -> None:
        """Close the connection. Do nothing if the connection is closing already, or is not open yet."""
        raise NotImplementedError

    def _send(self, frames: bytes, count: int, size: int) -> None:
        """Send `count` messages with `size` bytes of payload; do nothing if the connection is not open."""
        raise NotImplementedError

    def _has_ended(self) -> bool:
        """Return whether the connection is closing or closed, so that nothing needs to be queued."""
        raise NotImplementedError

    def gap_frame(self, channel: ChannelName) -> tuple[bytes, int]:  # noqa: ARG002
        """
        Return the frame of a gap notice and the size of its payload in bytes.

        The default is an empty frame, which stands for no notice.
        """
        return b"", 0

    def dropped(self, channel: ChannelName) -> None:
        """
        React to a gap: publications of a channel were dropped from the send queue.

        Called once per gap, at the first dropped publication; a gap ends when the client reads again. This
        implementation sends the notice that `gap_frame` returns as soon as the client reads, before the queued
        publications.
        """
        frame, size = self.gap_frame(channel)
        if frame and self._send_queue is not None:
            self._send_queue.set_notice(channel, frame, size)

    # Sending.

    def deliver(self, batch: Batch) -> None:
        """Send or queue publications of one channel. The channel's slow-consumer policy applies to the queue."""
        if self._send_queue is None:
            self._send(batch.frames, batch.count, batch.size)
            return
        policy = self._policy_of(batch.channel)
        if batch.plain is not None and policy is not SlowConsumerPolicy.CLOSE:
            batch = batch.plain()
        self._enqueue(self._send_queue, batch, policy)

    def may_drop(self, channel: ChannelName) -> bool:
        """Return whether messages are queued, and the publications of a channel may be dropped from the queue."""
        return self._send_queue is not None and self._policy_of(channel) is not SlowConsumerPolicy.CLOSE

    def _policy_of(self, channel: ChannelName) -> SlowConsumerPolicy:
        return SlowConsumerPolicy(self.hub.rules.for_channel(channel).slow)

    def send_in_order(self, frames: bytes, count: int, size: int) -> None:
        """
        Send messages after all publications that are already queued. The messages may be queued, but are never dropped.

        Args:
            frames: complete frames.
            count: number of messages.
            size: total size of their payloads, in bytes.
        """
        if self._send_queue is None:
            self._send(frames, count, size)
        else:
            self._enqueue(self._send_queue, Batch(ChannelName(""), frames, count, size), SlowConsumerPolicy.CLOSE)

    def forget(self, channel: ChannelName) -> None:
        """Drop the queued publications of an unsubscribed channel: a new subscription to it must not receive them."""
        if self._send_queue is not None:
            self._send_queue.drop_channel(channel)

    def _enqueue(self, queue: SendQueue, batch: Batch, policy: SlowConsumerPolicy) -> None:
        if self._overflowed or self._has_ended():
            return
        loss = queue.add(batch, policy)
        # Only messages that the policy has dropped are counted, not those that a closed connection does not receive.
        self.hub.dropped += loss.messages
        if queue.full:
            self._overflow("max_queued_bytes")
            return
        if policy is SlowConsumerPolicy.CLOSE and self._queue_deadline is None and self.hub.queue_deadline is not None:
            self._queue_deadline = self.hub.queue_deadline(self._queue_is_too_old)
        for channel in loss.channels:
            self.dropped(channel)

    def _overflow(self, limit: str) -> None:
        """Drop the queue, and close the connection: the client reads too slowly for one of the limits."""
        self.hub.limits[limit] += 1
        self._cancel_queue_deadline()
        self._send_queue, self._overflowed = SendQueue(self.max_queued), True
        self._close_slow(limit)

    def _queue_is_too_old(self) -> None:
        self._queue_deadline = None
        if self._send_queue is not None and not self._overflowed and not self._has_ended():
            self._overflow("max_queued_age")

    def _cancel_queue_deadline(self) -> None:
        if self._queue_deadline is not None:
            self._queue_deadline.cancel()
            self._queue_deadline = None

    def _close_slow(self, limit: str = "max_queued_bytes") -> None:
        option = limit.replace("_", "-")
        self.close(CloseCode.TRY_AGAIN_LATER, f"the client reads too slowly (server option --{option})")

    # Flow control.

    def hold(self) -> None:
        """Queue all further outgoing messages until `release` is called."""
        self._writable = False
        if self._send_queue is None:
            self._send_queue = SendQueue(self.max_queued)

    def release(self) -> None:
        """Send the queued messages, and stop queueing. If the queue has overflowed, close the connection with 1013."""
        queue, self._send_queue = self._send_queue, None
        self._cancel_queue_deadline()
        # Set this before the queue is sent: that may fill the transport, which then calls `hold`.
        self._writable = not self._overflowed and not self._has_ended()
        if self._overflowed:
            self._close_slow()
        elif queue is not None:
            frames, count, size = queue.take()
            if frames:
                self._send(frames, count, size)
