"""
The commands of the Centrifuge client protocol, version 2, as structs, which declare what is valid.

Source: `definitions/client.proto` of centrifugal/protocol.

This module does not use Twisted, a clock or a socket.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from msgspec.structs import force_setattr

from wsserver.centrifugecodes import BAD_REQUEST
from wsserver.hub.filters import FilterNode, read_filter
from wsserver.hub.stream import Position
from wsserver.jsonfields import (
    JSONField,
    JSONStruct,
    Nullable,
    replace_nulls,
)

__all__ = [
    "FOSSIL",
    "MAX_COMMANDS",
    "MAX_SUBS",
    "METHODS",
    "REJECT_UNRECOVERED",
    "RPC",
    "Command",
    "Connect",
    "History",
    "Presence",
    "PresenceStats",
    "Publish",
    "Refresh",
    "Send",
    "Since",
    "SubRefresh",
    "Subscribe",
    "Unsubscribe",
    "check_subs",
    "invalid_command",
    "make_command",
]

MAX_COMMANDS: Final = 1000
"""Maximum number of commands in a frame. Centrifugo does not limit this number, but the size of a frame to 64 KiB."""

MAX_SUBS: Final = 1000
"""
Maximum number of channels in `Connect.subs`. No client has as many subscriptions here, but one that was connected to
another server may.
"""

FOSSIL: Final = "fossil"
"""The only format of deltas, `Subscribe.delta`."""

REJECT_UNRECOVERED: Final = 2
"""Bit of `Subscribe.flag`: the client wants an error if its position cannot be recovered."""

if TYPE_CHECKING:
    _Filter = FilterNode | None
else:
    # `Subscribe` decodes the filter itself, because its size must be checked before.
    _Filter = msgspec.Raw

# Unsigned 64-bit numbers. msgspec cannot check bounds above 2**63 - 1, so `_check_uint64` checks the upper bound.
_Unsigned = Annotated[int, msgspec.Meta(ge=0)]


def _check_uint64(name: str, value: int) -> None:
    if value >= 2**64:
        raise ValueError(f"{name}: expected an integer from 0 to {2**64 - 1}")


def check_subs(number: int) -> None:
    """
    Check the number of channels in `Connect.subs`.

    Raises:
        ValueError: there are more than `MAX_SUBS`.
    """
    if number > MAX_SUBS:
        raise ValueError(f"subs: {number} channels, expected at most {MAX_SUBS}")


class Connect(JSONStruct, frozen=True):
    """Connect to the server. This must be the first command."""

    token: Nullable[str] = ""
    name: Nullable[str] = ""
    version: Nullable[str] = ""
    subs: Nullable[dict[str, Nullable["Subscribe"]]] = {}
    """After a reconnect: channel of an earlier server-side subscription -> the position from which to recover it."""
    data: JSONField = None

    def __post_init__(self) -> None:
        """Check the number of subscriptions, and replace null ones by empty ones, as Go's decoder does."""
        JSONStruct.__post_init__(self)
        if self.subs:
            check_subs(len(self.subs))
            force_setattr(self, "subs", replace_nulls(self.subs, Subscribe()))


class Subscribe(JSONStruct, frozen=True):
    """Subscribe to a channel."""

    channel: Nullable[str] = ""
    token: Nullable[str] = ""
    recover: Nullable[bool] = False
    epoch: Nullable[str] = ""
    offset: Nullable[_Unsigned] = 0
    positioned: Nullable[bool] = False
    recoverable: Nullable[bool] = False
    join_leave: Nullable[bool] = False
    flag: Nullable[Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]] = 0
    type: Nullable[Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]] = 0
    """Kind of the subscription; 0 for a stream, the only supported kind."""
    tf: _Filter = None
    """A filter by tags; None for no filter. It is ignored in a subscription that the server makes."""
    data: JSONField = None
    delta: Nullable[str] = ""
    """The format of the deltas that the client wants to receive: `fossil`, or empty for no deltas."""

    def __post_init__(self) -> None:
        """Check the number that the decoder cannot check, and decode the filter."""
        JSONStruct.__post_init__(self)
        _check_uint64("offset", self.offset)
        text: Any = self.tf
        if text is not None:
            force_setattr(self, "tf", read_filter(text, "tf"))


class Unsubscribe(JSONStruct, frozen=True):
    """Unsubscribe from a channel."""

    channel: Nullable[str] = ""


# Not a `JSONStruct`, which would look at all fields once more: publications must be fast.
class Publish(msgspec.Struct, frozen=True):
    """Publish to a channel."""

    channel: str | None = None
    data: msgspec.Raw = None  # type: ignore[assignment]
    """The data as a raw value, which may be `null`; None if the command has no such field."""
    type: Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)] | None = 0
    """Kind of the channel; 0 for a stream, the only supported kind."""


class Presence(JSONStruct, frozen=True):
    """Request the clients that are on a channel."""

    channel: Nullable[str] = ""


class PresenceStats(JSONStruct, frozen=True):
    """Request the numbers of clients and users that are on a channel."""

    channel: Nullable[str] = ""


class Since(JSONStruct, frozen=True):
    """The position in a stream after which the requested history begins."""

    offset: Nullable[_Unsigned] = 0
    epoch: Nullable[str] = ""

    def __post_init__(self) -> None:
        """Check the number that the decoder cannot check."""
        JSONStruct.__post_init__(self)
        _check_uint64("offset", self.offset)

    def position(self) -> Position:
        """Return the position in the channel's stream."""
        return Position(self.offset, self.epoch)


class History(JSONStruct, frozen=True):
    """Request the history of a channel."""

    channel: Nullable[str] = ""
    limit: Nullable[Annotated[int, msgspec.Meta(ge=-(2**31), le=2**63 - 1)]] = 0
    """Maximum number of publications; 0 for the position only, negative for the maximum of a reply (`pages.py`)."""
    since: Since | None = None
    reverse: Nullable[bool] = False


class Refresh(JSONStruct, frozen=True):
    """Replace the connection token with a new one."""

    token: Nullable[str] = ""


class SubRefresh(JSONStruct, frozen=True):
    """Replace a subscription token with a new one."""

    channel: Nullable[str] = ""
    token: Nullable[str] = ""


# Not `JSONStruct`s, which would replace the data `null` by None.
class RPC(msgspec.Struct, frozen=True):
    """Call a method of the application's backend."""

    method: str | None = None
    data: msgspec.Raw = None  # type: ignore[assignment]
    """The data as a raw value, which may be `null`; None if the command has no such field."""


class Send(msgspec.Struct, frozen=True):
    """Send a message, which has no reply, to the application's backend."""

    data: msgspec.Raw = None  # type: ignore[assignment]
    """As for `RPC`."""


class Command(msgspec.Struct, frozen=True):
    """A command of a client."""

    id: int
    """The command's ID, which the reply repeats; 0 if the command has no reply."""
    request: Any
    """
    An instance of one of the classes above; None for a pong; an `Error` if the command is refused; a `Disconnect` if it
    is invalid.
    """
    size: int
    """Length of the command in bytes."""


METHODS: Final[Mapping[type, str]] = {
    Connect: "connect",
    Subscribe: "subscribe",
    Unsubscribe: "unsubscribe",
    Publish: "publish",
    Presence: "presence",
    PresenceStats: "presence_stats",
    History: "history",
    RPC: "rpc",
    Send: "send",
    Refresh: "refresh",
    SubRefresh: "sub_refresh",
}
"""Class of a request -> its method. Of several methods in a command, the first one counts, as in Centrifuge."""


def invalid_command(reason: str) -> Command:
    """Return an invalid command, which closes the connection with 3501, bad request."""
    return Command(0, BAD_REQUEST.because(reason), 0)


def make_command(number: int, request: Any, size: int) -> Command:
    """
    Make a command, which is invalid without a method, or without an ID if its method has a reply.

    Args:
        number: the command's ID; 0 if it has none.
        request: an instance of one of the classes above; None if the command has no method.
        size: length of the command in bytes.
    """
    if request is None and number:
        return invalid_command(f"command {number}: expected one of the methods {', '.join(METHODS.values())}")
    if not number and request is not None and type(request) is not Send:
        return invalid_command(f"{METHODS[type(request)]}: expected an id above 0 in the command")
    return Command(number, request, size)
