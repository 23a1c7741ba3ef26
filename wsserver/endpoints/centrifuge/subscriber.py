"""A Centrifuge client's subscription to one channel."""

from collections.abc import Hashable
from typing import Any

from wsserver.auth.verifier import WallClockTimer
from wsserver.centrifugecodes import (
    INSUFFICIENT_STATE,
    LOST_STATE,
    SERVER_UNSUBSCRIBE,
)
from wsserver.endpoints.centrifuge.permissions import SubscribeGrant
from wsserver.endpoints.centrifuge.replies import obj, publication, push
from wsserver.endpoints.subscriber import Subscription
from wsserver.hub.clients import ClientInfo, write_info
from wsserver.hub.presence import PresenceEvent
from wsserver.hub.publication import Publication
from wsserver.typing import ChannelName
from wsserver.wire.frames import FIN_TEXT

__all__ = ["ChannelSubscription", "gap_message"]


def gap_message(channel: ChannelName) -> bytes:
    """
    Write a gap notice, which tells the client that publications may be missing.

    The Centrifuge protocol has no push for this, so the notice is a `message` push without a channel whose data is
    `{"event": "gap", "channel": ...}`.
    """
    return push("", "message", {"data": obj({"event": "gap", "channel": channel})})


class ChannelSubscription(Subscription):
    """
    The subscriber that the hub calls for one channel of a client.

    Args:
        channels: the client's `Channels`.
        grant: the permission for the channel.
        info: the client's info, which presence and events show to other clients.
        events: whether the client receives join and leave events.
        server_side: whether the server made the subscription, not the client.
    """

    __slots__ = (
        "_channels",
        "_events",
        "answered",
        "expiry_timer",
        "grant",
        "info",
        "kind",
        "lost",
        "positioned",
        "server_side",
    )

    def __init__(
        self, channels: Any, grant: SubscribeGrant, info: ClientInfo, *, events: bool, server_side: bool
    ) -> None:
        super().__init__(channels.connection, grant.channel)
        self._channels = channels
        self._events = events
        self.grant = grant
        self.info = info
        self.kind: Hashable = ("centrifuge", events, self.connection.window_bits)
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
        return self.connection.write_frame(FIN_TEXT, push(channel, "pub", publication(one)))

    def event_frame(self, channel: ChannelName, event: PresenceEvent) -> bytes:
        """Return the frame of a `join` or `leave` push; empty if the client does not receive these events."""
        if not self._events:
            return b""
        what = "join" if event.join else "leave"
        return self.connection.write_frame(FIN_TEXT, push(channel, what, {"info": write_info(event.info)}))

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
            self._channels.connection.send_payload(gap_message(channel))
        elif self.server_side:
            self._channels.connection.disconnect(LOST_STATE)
        else:
            self._channels.end(channel, INSUFFICIENT_STATE)

    def on_permission_revoked(self, channel: ChannelName) -> None:
        """End the subscription: Redis no longer permits the server to subscribe to the channel."""
        if self.answered:
            self._channels.end(channel, SERVER_UNSUBSCRIBE.because("Redis no longer permits the channel"))
        else:
            self.lost = True
