"""
What a client says in the Centrifuge protocol, version 2, as JSON: commands, one a line.

Sources: `definitions/client.proto` of centrifugal/protocol, `client.go` of centrifugal/centrifuge.

Rule 1: no Twisted, no clock, no socket.
Rule 2: a frame that cannot be read is a `Disconnect`, never an exception.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from wsserver.endpoints.centrifuge_replies import BAD_REQUEST, Disconnect
from wsserver.hub.history import Position
from wsserver.jsonfields import too_deep

__all__ = [
    "MOST_COMMANDS",
    "REJECT_UNRECOVERED",
    "RPC",
    "Command",
    "Connect",
    "History",
    "Payload",
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

MOST_COMMANDS: Final = 1000
"""Most commands in a frame. Centrifugo has no such limit; its frames are of 64 KiB at most."""

REJECT_UNRECOVERED: Final = 2
"""The bit of `Subscribe.flag` that asks for an error where nothing can be recovered."""

_MOST: Final = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Payload:
    """What a client publishes."""

    data: bytes
    """The bytes of a text, or any other value as compact JSON."""
    json: bool
    """Whether it is the latter."""

    @classmethod
    def of(cls, value: object) -> "Payload":
        """
        Make it of a JSON value.

        Raises:
            ValueError: it cannot be written as JSON, or not in UTF-8.
            RecursionError: it is nested too deeply.
        """
        if isinstance(value, str):
            return cls(value.encode("utf-8"), json=False)
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return cls(text.encode("utf-8"), json=True)

    @property
    def value(self) -> Any:
        """The value."""
        return json.loads(self.data) if self.json else self.data.decode("utf-8")


@dataclass(frozen=True, slots=True)
class Connect:
    """Begin; must be the first."""

    token: str = ""
    name: str = ""
    version: str = ""
    subs: Mapping[str, "Subscribe"] = dataclasses.field(default_factory=dict)
    """Channels that were subscribed to by the server before, and from where to go on."""
    data: object = None


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Listen to a channel."""

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
    """Other kinds of subscription than to a stream; 0 is that."""
    tf: object = None
    """A filter by tags."""
    data: object = None


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Listen to a channel no more."""

    channel: str = ""


@dataclass(frozen=True, slots=True)
class Publish:
    """Publish to a channel."""

    channel: str = ""
    data: Payload | None = None


@dataclass(frozen=True, slots=True)
class Presence:
    """Ask who is on a channel."""

    channel: str = ""


@dataclass(frozen=True, slots=True)
class PresenceStats:
    """Ask how many are on a channel."""

    channel: str = ""


@dataclass(frozen=True, slots=True)
class History:
    """Ask for what was published to a channel."""

    channel: str = ""
    limit: int = 0
    """Most publications; 0 for the position alone, negative for all there are."""
    since: Position | None = None
    reverse: bool = False


@dataclass(frozen=True, slots=True)
class Refresh:
    """Bring a new connection token."""

    token: str = ""


@dataclass(frozen=True, slots=True)
class SubRefresh:
    """Bring a new subscription token."""

    channel: str = ""
    token: str = ""


@dataclass(frozen=True, slots=True)
class RPC:
    """Call a procedure of the application."""

    method: str = ""


@dataclass(frozen=True, slots=True)
class Send:
    """Say something that is not answered."""


# The first one that a command names counts, in the order in which Centrifuge looks for them.
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
    """One line of a frame."""

    id: int
    """Stands in the reply; 0 where none is wanted."""
    method: str
    """Its name, which stands in the reply too."""
    request: Any
    """One of the classes above; None for a pong."""
    size: int
    """Bytes of the line."""


class _BadCommandError(Exception):
    """Carries the words for whoever debugs the client."""


def parse_commands(frame: bytes) -> list[Command] | Disconnect:
    """
    Read a frame.

    Args:
        frame: the payload of a message, text or binary.

    Returns:
        The commands in their order, or how the connection ends for it: 3501.
    """
    # A line end after the last command is no further command.
    lines = frame.removesuffix(b"\n").split(b"\n")
    if len(lines) > MOST_COMMANDS:
        return BAD_REQUEST.because(f"over {MOST_COMMANDS} commands in a frame")
    try:
        return [_command(line) for line in lines]
    except _BadCommandError as error:
        return BAD_REQUEST.because(str(error))


def _command(line: bytes) -> Command:
    try:
        value = json.loads(line, parse_constant=_no_constant)
    except RecursionError:
        raise _BadCommandError("a command is nested too deeply") from None
    except ValueError:
        raise _BadCommandError("a command is not JSON") from None
    if not isinstance(value, dict):
        raise _BadCommandError("a command is not an object")
    if too_deep(line, value):
        raise _BadCommandError("a command is nested too deeply")
    number = _number("id", value.get("id", 0), 2**32 - 1)
    for method, kind in _METHODS.items():
        fields = value.get(method)
        if fields is not None:
            if not number and kind is not Send:
                raise _BadCommandError(f"{method} without an id")
            return Command(number, method, _request(kind, method, fields), len(line))
    if number:
        raise _BadCommandError("a command without a method that is known here")
    return Command(0, "", None, len(line))


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _request(kind: type, name: str, fields: object) -> Any:
    if not isinstance(fields, dict):
        raise _BadCommandError(f"{name} is not an object")
    values = {}
    for field in dataclasses.fields(kind):
        value = fields.get(field.name)
        # As in Protobuf's JSON, null is as good as nothing; only what is published may be null.
        if value is not None or (field.type == Payload | None and field.name in fields):
            values[field.name] = _READ[field.type](f"{name}.{field.name}", value)
    return kind(**values)


def _text(where: str, value: object) -> str:
    if not isinstance(value, str):
        raise _BadCommandError(f"{where} is not a text")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise _BadCommandError(f"{where} has half a surrogate pair in it") from None
    return value


def _flag(where: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise _BadCommandError(f"{where} is neither true nor false")
    return value


def _number(where: str, value: object, most: int = _MOST) -> int:
    low = -(2**31) if where == "history.limit" else 0
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= most:
        raise _BadCommandError(f"{where} is not a whole number from {low} to {most}")
    return value


def _since(where: str, value: object) -> Any:
    if not isinstance(value, dict):
        raise _BadCommandError(f"{where} is not an object")
    return Position(
        _number(f"{where}.offset", value.get("offset") or 0), _text(f"{where}.epoch", value.get("epoch") or "")
    )


def _subs(where: str, value: object) -> Any:
    if not isinstance(value, dict):
        raise _BadCommandError(f"{where} is not an object")
    return {_text(where, channel): _request(Subscribe, where, fields) for channel, fields in value.items()}


def _payload(where: str, value: object) -> Payload:
    try:
        return Payload.of(value)
    except (ValueError, RecursionError):
        raise _BadCommandError(f"{where} cannot be written as JSON again") from None


def _anything(where: str, value: object) -> object:
    # Numbers beyond all are read, and are no JSON when the backend is asked.
    _payload(where, value)
    return value


_READ: Final[Mapping[Any, Callable[[str, object], Any]]] = {
    str: _text,
    bool: _flag,
    int: _number,
    object: _anything,
    Payload | None: _payload,
    Position | None: _since,
    Mapping[str, "Subscribe"]: _subs,
}
"""Type of a field -> what reads it."""
