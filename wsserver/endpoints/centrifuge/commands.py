"""
Parse the commands of the Centrifuge client protocol, version 2, in its JSON form: one command per line.

Sources: `definitions/client.proto` of centrifugal/protocol, `client.go` of centrifugal/centrifuge.

Rule 1: no Twisted, no clock, no socket.
Rule 2: `parse_commands` returns a `Disconnect` for an invalid frame; it never raises.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from wsserver.centrifugecodes import (
    BAD_REQUEST,
    BAD_REQUEST_ERROR,
    Disconnect,
    Error,
)
from wsserver.hub.stream import Position
from wsserver.jsonfields import (
    Fields,
    TooDeepError,
    decode_string,
    read_object,
    read_shallow_object,
    take,
    take_text,
)
from wsserver.typing import JSONText

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
    "SubRefresh",
    "Subscribe",
    "Unsubscribe",
    "parse_commands",
]

MAX_COMMANDS: Final = 1000
"""Maximum number of commands in a frame. Centrifugo has no such limit, but limits its frames to 64 KiB."""

REJECT_UNRECOVERED: Final = 2
"""Bit of `Subscribe.flag`: the client wants an error if its position cannot be recovered."""

_MAX_UINT64: Final = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Connect:
    """Connect; must be the first command."""

    token: str = ""
    name: str = ""
    version: str = ""
    subs: Mapping[str, "Subscribe"] = dataclasses.field(default_factory=dict)
    """Channels of the client's server-side subscriptions before a reconnect -> position to recover from."""
    data: JSONText | None = None


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Subscribe to a channel."""

    channel: str = ""
    token: str = ""
    recover: bool = False
    epoch: str = ""
    offset: int = 0
    positioned: bool = False
    recoverable: bool = False
    join_leave: bool = False
    flag: int = 0
    type: int = 0
    """Kind of the subscription; 0 for a stream, the only supported kind."""
    tf: JSONText | None = None
    """Filter by tags; not supported."""
    data: JSONText | None = None


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Unsubscribe from a channel."""

    channel: str = ""


@dataclass(frozen=True, slots=True)
class Publish:
    """Publish to a channel."""

    channel: str = ""
    data: JSONText | None = None
    """JSON data; None if the command has no such field. JSON null is valid data."""


@dataclass(frozen=True, slots=True)
class Presence:
    """Request the clients that are on a channel."""

    channel: str = ""


@dataclass(frozen=True, slots=True)
class PresenceStats:
    """Request the numbers of clients and users that are on a channel."""

    channel: str = ""


@dataclass(frozen=True, slots=True)
class History:
    """Request the history of a channel."""

    channel: str = ""
    limit: int = 0
    """Maximum number of publications; 0 for the position only, negative for no limit."""
    since: Position | None = None
    reverse: bool = False


@dataclass(frozen=True, slots=True)
class Refresh:
    """Replace the connection token with a new one."""

    token: str = ""


@dataclass(frozen=True, slots=True)
class SubRefresh:
    """Replace a subscription token with a new one."""

    channel: str = ""
    token: str = ""


@dataclass(frozen=True, slots=True)
class RPC:
    """Call a procedure of the application."""

    method: str = ""


@dataclass(frozen=True, slots=True)
class Send:
    """Send a message without a reply."""


# If a command names several methods, the first one in this order counts, as in Centrifuge.
_METHODS: Final[Mapping[str, type]] = {
    "connect": Connect,
    "subscribe": Subscribe,
    "unsubscribe": Unsubscribe,
    "publish": Publish,
    "presence": Presence,
    "presence_stats": PresenceStats,
    "history": History,
    "rpc": RPC,
    "send": Send,
    "refresh": Refresh,
    "sub_refresh": SubRefresh,
}


@dataclass(frozen=True, slots=True)
class Command:
    """A command: one line of a frame."""

    id: int
    """The command's ID, which the reply repeats; 0 if the command has no reply."""
    method: str
    """The method's name, which the reply repeats; empty for a pong."""
    request: Any
    """An instance of one of the classes above; None for a pong; an `Error` if the command is refused."""
    size: int
    """Length of the line in bytes."""


class _BadCommandError(Exception):
    """The frame is invalid; the message is the detail in the close reason."""


def parse_commands(frame: bytes) -> list[Command] | Disconnect:
    """
    Parse a frame of commands.

    Args:
        frame: the payload of a message, text or binary.

    Returns:
        The commands in order, or, if the frame is invalid, the disconnect: 3501, bad request.
    """
    # The last command may end with a line feed.
    lines = frame.removesuffix(b"\n").split(b"\n")
    if len(lines) > MAX_COMMANDS:
        return BAD_REQUEST.because(f"over {MAX_COMMANDS} commands in a frame")
    try:
        return [_parse_command(line) for line in lines]
    except _BadCommandError as error:
        return BAD_REQUEST.because(str(error))


def _parse_command(line: bytes) -> Command:
    fields: Fields
    request: Error | None = None
    try:
        fields = read_object(line)
    except TooDeepError as error:
        fields, request = _read_too_deep(line), BAD_REQUEST_ERROR.because(str(error))
    except ValueError as error:
        raise _BadCommandError(_describe_error(error)) from None
    number = _parse_int("id", fields.get("id", _NULL), 2**32 - 1) if take_text(fields, "id") else 0
    for method, kind in _METHODS.items():
        text = take_text(fields, method)
        if text is not None:
            if not number and kind is not Send:
                raise _BadCommandError(f"{method} without an id")
            return Command(number, method, request or _parse_request(kind, method, text), len(line))
    if number:
        raise _BadCommandError("a command without a method that is known here")
    return Command(0, "", request, len(line))


def _read_too_deep(line: bytes) -> Fields:
    """Parse the top level of a command that is too deeply nested, because the error reply needs its ID."""
    try:
        return read_shallow_object(line)
    except ValueError as error:
        raise _BadCommandError(_describe_error(error)) from None


def _describe_error(error: ValueError) -> str:
    return str(error).replace("it is", "a command is").replace("a JSON object", "an object")


_NULL: Final = JSONText(b"null")


def _parse_request(kind: type, name: str, text: JSONText) -> Any:
    fields = _parse_object(name, text)
    values = {}
    for field in dataclasses.fields(kind):
        value = fields.get(field.name, _NULL)
        # As in Protobuf's JSON, null means that the field is missing, except in a publication's data.
        if value != _NULL or (kind is Publish and field.name == "data" and "data" in fields):
            values[field.name] = _PARSERS[field.type](f"{name}.{field.name}", value)
    return kind(**values)


def _parse_object(where: str, text: JSONText) -> dict[str, JSONText]:
    try:
        found: dict[str, JSONText] = take({where: text}, where, dict, {})
    except ValueError:
        raise _BadCommandError(f"{where} is not an object") from None
    return found


def _parse_text(where: str, text: JSONText) -> str:
    if text[:1] != b'"':
        raise _BadCommandError(f"{where} is not a text")
    found = decode_string(text)
    if found is None:
        raise _BadCommandError(f"{where} has half a surrogate pair in it")
    return found.decode("utf-8")


def _parse_bool(where: str, text: JSONText) -> bool:
    if text not in (b"true", b"false"):
        raise _BadCommandError(f"{where} is neither true nor false")
    return text == b"true"


def _parse_int(where: str, text: JSONText, most: int = _MAX_UINT64) -> int:
    low = -(2**31) if where == "history.limit" else 0
    try:
        value: int = take({where: text}, where, int, low - 1)
    except ValueError:
        value = low - 1
    if not low <= value <= most:
        raise _BadCommandError(f"{where} is not a whole number from {low} to {most}")
    return value


def _parse_position(where: str, text: JSONText) -> Any:
    fields = _parse_object(where, text)
    offset, epoch = take_text(fields, "offset"), take_text(fields, "epoch")
    return Position(
        _parse_int(f"{where}.offset", offset) if offset else 0, _parse_text(f"{where}.epoch", epoch) if epoch else ""
    )


def _parse_subs(where: str, text: JSONText) -> Any:
    return {
        _check_name(where, channel): _parse_request(Subscribe, where, options)
        for channel, options in _parse_object(where, text).items()
    }


def _check_name(where: str, channel: str) -> str:
    try:
        channel.encode("utf-8")
    except UnicodeEncodeError:
        raise _BadCommandError(f"{where} has half a surrogate pair in it") from None
    return channel


def _keep_json(where: str, text: JSONText) -> JSONText:  # noqa: ARG001
    return text


_PARSERS: Final[Mapping[Any, Callable[[str, JSONText], Any]]] = {
    str: _parse_text,
    bool: _parse_bool,
    int: _parse_int,
    JSONText | None: _keep_json,
    Position | None: _parse_position,
    Mapping[str, "Subscribe"]: _parse_subs,
}
"""Type of a field -> function that parses its value: (name for error messages, JSON text) -> value."""
