"""
The results of commands, and the pushes, of the Centrifuge client protocol, version 2, as structs.

As in Centrifuge, fields with their zero value are omitted in JSON. The fields that Centrifuge always writes have no
default here, and are therefore never omitted.

Source: `definitions/client.proto` of centrifugal/protocol.

This module does not use Twisted, a clock or a socket.
"""

from collections.abc import Mapping
from typing import ClassVar, Final

import msgspec

from wsserver.hub.publication import Publication

__all__ = [
    "NO_REPLY",
    "PUBLISHED",
    "UNSUBSCRIBED",
    "ConnectResult",
    "DisconnectPush",
    "HistoryResult",
    "Message",
    "MessagePush",
    "NoReply",
    "PresenceResult",
    "PresenceStatsResult",
    "PublishResult",
    "RPCResult",
    "RefreshResult",
    "Result",
    "SubRefreshResult",
    "SubscribeResult",
    "UnsubscribePush",
    "UnsubscribeResult",
]


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """The result of a command, or a push. A value of type `Raw` is inserted unchanged: in JSON, it is JSON text."""

    name: ClassVar[bytes]
    """The name of the field that contains the message, in a reply or push. In a reply, it is the command's method."""


class Result(Message, frozen=True):
    """The result of a command."""


class RefreshResult(Result, frozen=True):
    """When the client must send its next connection token."""

    name: ClassVar[bytes] = b"refresh"

    expires: bool = False
    ttl: int = 0
    """Seconds until the token expires."""


class SubRefreshResult(RefreshResult, frozen=True):
    """When the client must send its next subscription token."""

    name: ClassVar[bytes] = b"sub_refresh"


class SubscribeResult(Result, frozen=True):
    """A new subscription."""

    name: ClassVar[bytes] = b"subscribe"

    was_recovering: bool = False
    recovered: bool = False
    expires: bool = False
    ttl: int = 0
    data: msgspec.Raw | None = None
    recoverable: bool = False
    positioned: bool = False
    epoch: str = ""
    offset: int = 0
    publications: tuple[Publication, ...] = ()
    """The recovered publications."""
    delta: bool = False
    """Whether the client receives deltas, also in `publications`: each is written as its delta of the one before."""


class ConnectResult(Result, frozen=True):
    """A new session."""

    name: ClassVar[bytes] = b"connect"

    client: str = ""
    version: str = ""
    expires: bool = False
    ttl: int = 0
    data: msgspec.Raw | None = None
    subs: Mapping[str, SubscribeResult] | None = None
    """The server-side subscriptions: channel -> result."""
    ping: int = 0
    """Seconds between pings; 0 for none."""
    pong: bool = False
    """Whether the server expects pongs."""
    session: str = ""
    """The secret with which the client sends commands in HTTP requests of their own; empty if it does not."""
    node: str = ""
    """The id of the server process that the client must name in these requests; empty if it makes none."""


class UnsubscribeResult(Result, frozen=True):
    """The end of a subscription."""

    name: ClassVar[bytes] = b"unsubscribe"


class PublishResult(Result, frozen=True):
    """A publication that the broker has accepted."""

    name: ClassVar[bytes] = b"publish"


class PresenceResult(Result, frozen=True):
    """The clients of a channel."""

    name: ClassVar[bytes] = b"presence"

    presence: msgspec.Raw
    """Client id -> info, in the client's form of the protocol: what `Codec.clients` has written."""


class PresenceStatsResult(Result, frozen=True):
    """The numbers of a channel's clients and users."""

    name: ClassVar[bytes] = b"presence_stats"

    num_clients: int
    num_users: int


class HistoryResult(Result, frozen=True):
    """A page of a channel's history, and the position of the stream's end."""

    name: ClassVar[bytes] = b"history"

    publications: msgspec.Raw
    """The publications, in the client's form of the protocol: what `Codec.publications` has written."""
    epoch: str
    offset: int


class RPCResult(Result, frozen=True):
    """The backend's answer to a call."""

    name: ClassVar[bytes] = b"rpc"

    data: msgspec.Raw | None = None


class NoReply(Result, frozen=True):
    """The outcome of `send`, which has no reply."""


class UnsubscribePush(Message, frozen=True):
    """The end of a subscription that the client did not end itself."""

    name: ClassVar[bytes] = b"unsubscribe"

    code: int
    reason: str


class DisconnectPush(Message, frozen=True):
    """The reason why the server closes the connection, for transports without close codes."""

    name: ClassVar[bytes] = b"disconnect"

    code: int
    reason: str


class MessagePush(Message, frozen=True):
    """A message from the server that belongs to no channel."""

    name: ClassVar[bytes] = b"message"

    data: msgspec.Raw


NO_REPLY: Final = NoReply()
PUBLISHED: Final = PublishResult()
UNSUBSCRIBED: Final = UnsubscribeResult()
