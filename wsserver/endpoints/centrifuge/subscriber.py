"""A Centrifuge client's subscription to one channel."""

from typing import Any

import msgspec

from wsserver.auth.verifier import WallClockTimer
from wsserver.centrifugecodes import (
    INSUFFICIENT_STATE,
    LOST_STATE,
    SERVER_UNSUBSCRIBE,
)
from wsserver.endpoints.centrifuge.codec import Codec
from wsserver.endpoints.centrifuge.permissions import SubscribeGrant
from wsserver.endpoints.centrifuge.replies import MessagePush
from wsserver.endpoints.subscriber import Subscription
from wsserver.hub.clients import ClientInfo
from wsserver.hub.delta import DeltaKind
from wsserver.hub.filters import Filter, with_filter
from wsserver.hub.presence import PresenceEvent
from wsserver.hub.publication import Publication
from wsserver.hub.send_queue import Batch
from wsserver.jsonfields import write
from wsserver.typing import ChannelName

__all__ = ["ChannelSubscription", "gap_message"]


def gap_message(codec: Codec, channel: ChannelName) -> bytes:
    """
    Write a gap notice, which tells the client that publications may be missing.

    The Centrifuge protocol has no push for this, so the notice is a `message` push without a channel whose data is
    `{"event": "gap", "channel": ...}`.
    """
    return codec.push("", MessagePush(msgspec.Raw(write({"event": "gap", "channel": channel}))))


class ChannelSubscription(Subscription):
    """
    The subscriber that the hub calls for one channel of a client.

    Args:
        channels: the client's `Channels`.
        grant: the permission for the channel.
        info: the client's info, which presence and events show to other clients.
        events: whether the client receives join and leave events.
        server_side: whether the server made the subscription, not the client.
        delta: which publications the client receives as deltas: a value of `Rule.delta`; `off` if the client has not
            requested deltas.
        filter_: the client receives only publications that match this filter; None for all.
    """

    __slots__ = (
        "_channels",
        "_events",
        "answered",
        "base",
        "delta",
        "expiry_timer",
        "grant",
        "info",
        "kind",
        "lost",
        "positioned",
        "server_side",
    )

    def __init__(
        self,
        channels: Any,
        grant: SubscribeGrant,
        info: ClientInfo,
        *,
        events: bool,
        server_side: bool,
        delta: str = "off",
        filter_: Filter | None = None,
    ) -> None:
        super().__init__(channels.connection, grant.channel)
        self._channels = channels
        self._events = events
        self.grant = grant
        self.info = info
        kind = "centrifuge", events, self.connection.form
        self.kind = with_filter(DeltaKind(kind) if delta != "off" else kind, filter_)
        self.delta = delta
        """Which publications the client receives as deltas: `off`, `requested` or `always`."""
        self.base: Publication | None = None
        """If the client receives deltas: the last publication that it has received, or will certainly receive."""
        self.server_side = server_side
        self.expiry_timer: WallClockTimer | None = None
        """The timer that ends the subscription when it expires; None if it does not expire."""
        self.positioned = False
        """Whether the client tracks offsets."""
        self.answered = self.lost = False
        """
        `answered`: the client has been told that it is subscribed. `lost`: before that, publications were lost or the
        subscription was ended.
        """

    def frame(self, channel: ChannelName, one: Publication) -> bytes:
        """Return the frame of a `pub` push."""
        frame: bytes = self.connection.write_message(self.connection.codec.publication(channel, one))
        return frame

    def delta_frame(self, channel: ChannelName, one: Publication, base: Publication | None) -> bytes:
        """Return the frame of a `pub` push for a client that receives deltas, and has received `base` before."""
        if not (one.delta or self.delta == "always"):
            base = None
        frame: bytes = self.connection.write_message(self.connection.codec.delta_publication(channel, one, base))
        return frame

    def deliver(self, batch: Batch) -> None:
        """Send or queue a batch on the connection."""
        super().deliver(batch)
        if self.base is not None and self.connection.may_drop(self.channel):
            self.base = None

    def event_frame(self, channel: ChannelName, event: PresenceEvent) -> bytes:
        """Return the frame of a `join` or `leave` push; empty if the client does not receive these events."""
        if not self._events:
            return b""
        push = self.connection.codec.presence_event(channel, event.info, join=event.join)
        frame: bytes = self.connection.write_message(push)
        return frame

    def missed(self, channel: ChannelName, stream: bool) -> None:
        """
        Notify the client that publications may be missing.

        A client that tracks offsets is unsubscribed with 2500, so that it subscribes again and recovers. If its
        subscription is server-side, it is disconnected with 3010 instead, so that it reconnects and recovers. Any other
        client receives a gap notice.

        Args:
            channel: the channel.
            stream: whether publications with an offset are missing.
        """
        if stream and not self.answered:
            self.lost = True
        elif not stream or not self.positioned:
            self.connection.send_payload(gap_message(self.connection.codec, channel))
        elif self.server_side:
            self.connection.disconnect(LOST_STATE)
        else:
            self._channels.end(channel, INSUFFICIENT_STATE)

    def on_permission_revoked(self, channel: ChannelName) -> None:
        """End the subscription: Redis no longer permits the server to subscribe to the channel."""
        if self.answered:
            self._channels.end(channel, SERVER_UNSUBSCRIBE.because("Redis no longer permits the channel"))
        else:
            self.lost = True
