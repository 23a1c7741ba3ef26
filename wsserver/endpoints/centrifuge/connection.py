"""What a session knows of its connection, and the outcome of a command."""

from collections.abc import Hashable
from typing import ClassVar, Protocol

from wsserver.centrifugecodes import Disconnect, Error
from wsserver.endpoints.centrifuge.codec import Codec
from wsserver.endpoints.centrifuge.permissions import ClientContext, Permissions
from wsserver.endpoints.centrifuge.replies import Result
from wsserver.hub.hub import Hub
from wsserver.typing import ChannelName

__all__ = ["Answer", "Connection"]

Answer = Result | Error | Disconnect
"""The outcome of a command: its result, an error reply, or a disconnect."""


class Connection(Protocol):
    """The interface of the connection that its session uses: `SubscriberProtocol` and the following members."""

    permissions: ClassVar[Permissions]
    hub: Hub
    codec: Codec
    """The form of the protocol that the client speaks."""
    context: ClientContext
    """The client, as known from its opening handshake."""
    token: str
    """The token in the opening handshake; empty if there was none."""
    ping_interval: ClassVar[int]
    """Seconds between pings; 0 for none."""

    is_one_way: ClassVar[bool]
    """Whether the client only receives: it sends neither commands nor pongs after it has connected."""
    session_id: str
    """The secret with which the client sends commands in HTTP requests of their own; empty if it does not."""
    node: str
    """The id of this server process, if the client sends such requests; else empty."""

    @property
    def form(self) -> Hashable:
        """What determines the bytes of a push on the wire: equal values mean equal bytes."""

    def write_message(self, payload: bytes) -> bytes:
        """Return the bytes on the wire of a push; the same for all connections with the same `form`."""

    def send_payload(self, payload: bytes) -> None:
        """Send a reply or a push."""

    def hold(self) -> None:
        """Queue the publications to the client until the reply to `connect` has been sent."""

    def forget(self, channel: ChannelName) -> None:
        """Drop a channel's publications from the send queue."""

    def disconnect(self, how: Disconnect) -> None:
        """Close the connection."""
