"""A channel that a Centrifuge client listens to."""

from collections.abc import Hashable
from typing import Any

from wsserver.auth.verifier import WallClockTimer
from wsserver.endpoints.centrifuge.permissions import Pass
from wsserver.endpoints.centrifuge.replies import (
    INSUFFICIENT_STATE,
    LOST_STATE,
    SERVER_UNSUBSCRIBE,
    obj,
    publication,
    push,
)
from wsserver.endpoints.subscriber import Subscription
from wsserver.hub.presence import ClientInfo, PresenceEvent, write_info
from wsserver.hub.publication import Publication
from wsserver.typing import ChannelName
from wsserver.wire.frames import FIN_TEXT

__all__ = ["ChannelSubscription", "gap_message"]


def gap_message(channel: ChannelName) -> bytes:
    """Write that publications without an offset may be missing: the protocol has no word for it."""
    return push("", "message", {"data": obj({"event": "gap", "channel": channel})})


class ChannelSubscription(Subscription):
    """
    The hub's subscriber for a channel of a client.

    Args:
        channels: those of the client.
        held: by what it is allowed.
        info: what others see of the client in this channel.
        events: the client wants to know who comes and leaves.
        server_side: the client did not ask for it.
    """

    __slots__ = (
        "_channels",
        "_events",
        "alarm",
        "answered",
        "held",
        "info",
        "kind",
        "lost",
        "positioned",
        "server_side",
    )

    def __init__(self, channels: Any, held: Pass, info: ClientInfo, *, events: bool, server_side: bool) -> None:
        super().__init__(channels.connection, held.channel)
        self._channels = channels
        self._events = events
        self.held = held
        self.info = info
        self.kind: Hashable = ("centrifuge", events, self.connection.window_bits)
        self.server_side = server_side
        self.alarm: WallClockTimer | None = None
        """The end of its token."""
        self.positioned = False
        """The client goes by offsets."""
        self.answered = self.lost = False
        """The client knows that it is subscribed; something was lost before that."""

    def frame(self, channel: ChannelName, one: Publication) -> bytes:
        """Write a publication."""
        return self.connection.write_frame(FIN_TEXT, push(channel, "pub", publication(one)))

    def event_frame(self, channel: ChannelName, event: PresenceEvent) -> bytes:
        """Write that a client has come or left; nothing for those that have not asked for it."""
        if not self._events:
            return b""
        what = "join" if event.join else "leave"
        return self.connection.write_frame(FIN_TEXT, push(channel, what, {"info": write_info(event.info)}))

    def missed(self, channel: ChannelName, stream: bool) -> None:
        """Tell of a gap: a client that goes by offsets subscribes again, and learns what it can have."""
        if stream and not self.answered:
            self.lost = True
        elif not stream or not self.positioned:
            self._channels.connection.say(gap_message(channel))
        elif self.server_side:
            self._channels.connection.disconnect(LOST_STATE)
        else:
            self._channels.end(channel, INSUFFICIENT_STATE)

    def on_permission_revoked(self, channel: ChannelName) -> None:
        """End: what was asked for is not to be had."""
        if self.answered:
            self._channels.end(channel, SERVER_UNSUBSCRIBE.because("Redis does not permit the channel any more"))
        else:
            self.lost = True
