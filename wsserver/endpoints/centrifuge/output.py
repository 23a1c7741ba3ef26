"""
The output of a Centrifuge client's connection: replies and pushes, in order, and queued while the client does not read.

A turn is one iteration of Twisted's event loop.
"""

from collections.abc import Callable, Hashable

from wsserver.centrifugecodes import Disconnect
from wsserver.endpoints.centrifuge.client import Session
from wsserver.endpoints.centrifuge.codec import Codec
from wsserver.endpoints.centrifuge.json_codec import JSON
from wsserver.endpoints.centrifuge.subscriber import gap_message
from wsserver.endpoints.queued_output import QueuedOutput
from wsserver.hub.send_queue import Batch
from wsserver.typing import ChannelName

__all__ = ["MAX_JOINED_BYTES", "CentrifugeOutput"]

MAX_JOINED_BYTES = 65_536
"""Replies are joined into one message until the message has this size in bytes. Centrifugo joins replies as well."""


class CentrifugeOutput(QueuedOutput):
    """
    Sends replies and pushes to one client. The replies of a turn are sent as one message.

    The subclass is the connection. It provides what is declared below, and the methods that `QueuedOutput` names.
    """

    __slots__ = ()

    _write_collected: Callable[[], None]
    """Writes what the transport collects in this turn, so that it can report that the peer does not read."""
    fail: Callable[[int, str], None]
    """Closes the connection with a code and a reason, and ignores everything that the peer still sends."""
    _write_blocked: bool
    """Whether the peer does not read what the server sends."""

    def __init__(self) -> None:
        super().__init__()
        self.codec: Codec = JSON
        """The client's form of the protocol."""
        self.session: Session | None = None
        self._connect_replied = False
        """Whether the reply to `connect` has been sent. Until then, publications to the client are queued."""
        self._replies: list[bytes] | None = None
        """Replies and pushes of this turn, which are sent as one message; None if none are collected."""
        self._replies_size = 0
        """Size of the replies and pushes in `_replies`, in bytes."""

    # Implemented by the subclass.

    @property
    def form(self) -> Hashable:
        """What determines the bytes of a push on the wire: equal values mean equal bytes."""
        raise NotImplementedError

    def write_message(self, payload: bytes) -> bytes:
        """Return the bytes on the wire of a push; the same for all connections with the same `form`."""
        raise NotImplementedError

    def write_reply(self, payload: bytes) -> bytes:
        """Return the bytes on the wire of replies and pushes to this client only, joined by the codec's separator."""
        raise NotImplementedError

    # Sending.

    def send_payload(self, payload: bytes) -> None:
        """
        Send a reply or a push.

        It is sent after all messages that are queued for the client; but before the reply to `connect`, immediately.

        Args:
            payload: one reply or push, in the client's form of the protocol.
        """
        if self._replies is None:
            say = self.send_in_order if self._connect_replied else self._send
            say(self.write_reply(payload), 1, len(payload))
            return
        self._replies.append(payload)
        self._replies_size += len(payload)
        if self._replies_size >= MAX_JOINED_BYTES:
            self._send_replies()
            self._collect_replies()
            self._write_collected()

    def _collect_replies(self) -> None:
        """Collect the replies and pushes of this turn. Meanwhile, publications are passed to `deliver`."""
        self._replies = []
        self._writable = False

    def deliver(self, batch: Batch) -> None:
        """Send or queue publications of one channel, after the replies that have been collected in this turn."""
        if self._replies:
            self._send_replies()
            self._collect_replies()
        super().deliver(batch)

    def _send_replies(self) -> None:
        replies, self._replies, self._replies_size = self._replies, None, 0
        if replies:
            self.send_payload(self.codec.separator.join(replies))

    def disconnect(self, how: Disconnect) -> None:
        """Send the pending replies, then close the connection. Commands that the client still sends are ignored."""
        serving = self._replies is not None
        self._send_replies()
        self.fail(how.code, how.reason)
        if serving:
            self._collect_replies()

    # Queueing.

    def release(self) -> None:
        """Send the queued publications, and stop queueing. Do nothing before the reply to `connect`."""
        if self._connect_replied:
            super().release()

    def dropped(self, channel: ChannelName) -> None:
        """
        Notify the client that publications of a channel were dropped from its send queue.

        A client that tracks offsets is unsubscribed, so that it subscribes again and recovers. Any other client
        receives a gap notice.
        """
        subscription = self.session.subscription(channel) if self.session is not None else None
        if subscription is not None and subscription.positioned:
            subscription.missed(channel, stream=True)
        else:
            super().dropped(channel)

    def gap_frame(self, channel: ChannelName) -> tuple[bytes, int]:
        """Return the frame of a gap notice, and the size of its payload in bytes."""
        notice = gap_message(self.codec, channel)
        return self.write_reply(notice), len(notice)
