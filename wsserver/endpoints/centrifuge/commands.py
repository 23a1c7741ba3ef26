"""
Parse the commands of the Centrifuge client protocol, version 2, in its JSON form: one command per line.

Sources: `definitions/client.proto` of centrifugal/protocol, `client.go` of centrifugal/centrifuge.

This module does not use Twisted, a clock or a socket.
The structs declare what is valid. An invalid command becomes a `Disconnect` or an `Error`; `parse_commands` never
raises.
"""

import re
from typing import Annotated, Any, Final

import msgspec
from msgspec.structs import force_setattr

from wsserver.centrifugecodes import BAD_REQUEST, BAD_REQUEST_ERROR, Error
from wsserver.hub.stream import Position
from wsserver.jsonfields import (
    HalfPairError,
    JSONField,
    JSONStruct,
    Nullable,
    TooDeepError,
    decode,
    decode_replacing,
    replace_nulls,
)

__all__ = [
    "MAX_COMMANDS",
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
    "parse_commands",
]

MAX_COMMANDS: Final = 1000
"""Maximum number of commands in a frame. Centrifugo does not limit this number, but the size of a frame to 64 KiB."""

REJECT_UNRECOVERED: Final = 2
"""Bit of `Subscribe.flag`: the client wants an error if its position cannot be recovered."""

# Unsigned 64-bit numbers. msgspec cannot check bounds above 2**63 - 1, so `_check_uint64` checks the upper bound.
_Unsigned = Annotated[int, msgspec.Meta(ge=0)]


def _check_uint64(name: str, value: int) -> None:
    if value >= 2**64:
        raise ValueError(f"{name}: expected an integer from 0 to {2**64 - 1}")


class Connect(JSONStruct, frozen=True):
    """Connect to the server. This must be the first command."""

    token: Nullable[str] = ""
    name: Nullable[str] = ""
    version: Nullable[str] = ""
    subs: Nullable[dict[str, Nullable["Subscribe"]]] = {}
    """After a reconnect: channel of an earlier server-side subscription -> the position from which to recover it."""
    data: JSONField = None

    def __post_init__(self) -> None:
        """Replace null subscriptions by empty ones, as Go's decoder does."""
        JSONStruct.__post_init__(self)
        if self.subs:
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
    tf: JSONField = None
    """A filter by tags, which is not supported."""
    data: JSONField = None

    def __post_init__(self) -> None:
        """Check the number that the decoder cannot check."""
        JSONStruct.__post_init__(self)
        _check_uint64("offset", self.offset)


class Unsubscribe(JSONStruct, frozen=True):
    """Unsubscribe from a channel."""

    channel: Nullable[str] = ""


# Not a `JSONStruct`, which would look at all fields once more: publications must be fast.
class Publish(msgspec.Struct, frozen=True):
    """Publish to a channel."""

    channel: str | None = None
    data: msgspec.Raw = None  # type: ignore[assignment]
    """The data as a raw value, which may be `null`; None if the command has no such field."""


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


class RPC(JSONStruct, frozen=True):
    """Call a procedure of the application. The server refuses this command, because it has no procedures."""

    method: Nullable[str] = ""


class Send(JSONStruct, frozen=True):
    """Send a message that has no reply. The server does not support this command."""


class _Line(msgspec.Struct, frozen=True):
    """A command as written: an ID and a method. Of several methods, the first one below counts, as in Centrifuge."""

    id: Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)] | None = None
    connect: Connect | None = None
    subscribe: Subscribe | None = None
    unsubscribe: Unsubscribe | None = None
    publish: Publish | None = None
    presence: Presence | None = None
    presence_stats: PresenceStats | None = None
    history: History | None = None
    rpc: RPC | None = None
    send: Send | None = None
    refresh: Refresh | None = None
    sub_refresh: SubRefresh | None = None


_METHODS: Final = _Line.__struct_fields__[1:]


class Command(msgspec.Struct, frozen=True):
    """A command: one line of a frame."""

    id: int
    """The command's ID, which the reply repeats; 0 if the command has no reply."""
    request: Any
    """
    An instance of one of the classes above; None for a pong; an `Error` if the command is refused; a `Disconnect` if it
    is invalid.
    """
    size: int
    """Length of the line in bytes."""


def parse_commands(frame: bytes) -> list[Command]:
    """
    Parse a frame of commands.

    Args:
        frame: the payload of a message, text or binary.

    Returns:
        The commands in order. The request of an invalid command is a `Disconnect`: 3501, bad request. The commands
        before it are executed, as in Centrifuge, and those after it are not.
    """
    # The last command may end with a line feed.
    lines = frame.removesuffix(b"\n").split(b"\n")
    if len(lines) > MAX_COMMANDS:
        return [_invalid(f"over {MAX_COMMANDS} commands in a frame")]
    return [_parse_command(line) for line in lines]


def _invalid(reason: str) -> Command:
    return Command(0, BAD_REQUEST.because(reason), 0)


def _parse_command(line: bytes) -> Command:
    refused: Error | None = None
    try:
        parsed = decode(_Line, line)
    except TooDeepError as error:
        if number := _find_id(line):
            return Command(number, BAD_REQUEST_ERROR.because(_describe(error)), len(line))
        return _invalid(_describe(error))
    except HalfPairError as error:
        # As in Centrifuge. But a channel is refused: an SDK drops publications to a channel with another name.
        parsed = decode_replacing(_Line, line)
        if error.field.endswith(".channel"):
            refused = BAD_REQUEST_ERROR.because(_describe(error))
    except ValueError as error:
        return _invalid(_describe(error))
    # A struct is never false, so this is the first method that the command has.
    request = (
        parsed.connect
        or parsed.subscribe
        or parsed.unsubscribe
        or parsed.publish
        or parsed.presence
        or parsed.presence_stats
        or parsed.history
        or parsed.rpc
        or parsed.send
        or parsed.refresh
        or parsed.sub_refresh
    )
    number = parsed.id or 0
    if request is None:
        if number:
            return _invalid(f"command {number}: expected one of the methods {', '.join(_METHODS)}")
        return Command(0, None, len(line))
    if not number and type(request) is not Send:
        method = next(method for method in _METHODS if getattr(parsed, method) is request)
        return _invalid(f"{method}: expected an id above 0 in the command")
    return Command(number, refused or request, len(line))


_OUTERMOST: Final = re.compile(rb"([^{]*\{[^{\[]*).*[}\]]([^}\]]*\}[^}\]]*)", re.DOTALL)
"""The start of a command up to its first inner object or array, and its end after the last one."""


def _find_id(line: bytes) -> int:
    """
    Find the ID of a command that is nested too deeply; 0 if there is none.

    SDKs write the ID before or after everything else.
    """
    found = _OUTERMOST.fullmatch(line)
    try:
        return (decode(_Line, b"%bnull%b" % found.groups()).id or 0) if found is not None else 0
    except ValueError:
        return 0


def _describe(error: ValueError) -> str:
    return str(error).replace("it is", "a command is")
