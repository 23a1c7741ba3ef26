"""
Translate frames between the two forms of the protocol: JSON commands to Protobuf, and Protobuf replies to JSON.

The translator uses Google's library and the definitions of an official SDK, so that it does not share a mistake with
the server.
"""

import base64
import io
import json
from typing import Any

import centrifuge.protocol.client_pb2 as official
import msgspec
from google.protobuf import json_format, proto
from google.protobuf.message import Message

__all__ = ["Untranslatable", "decode", "encode"]

_ALWAYS = {
    "HistoryResult": {"publications": "[]", "epoch": '""', "offset": "0"},
    "PresenceStatsResult": {"num_clients": "0", "num_users": "0"},
    "PresenceResult": {"presence": "{}"},
    "ClientInfo": {"user": '""', "client": '""'},
}
"""Message -> the fields that the JSON form always has, with their zero value, which Protobuf omits."""

_NUMBERS = frozenset({"id", "offset", "flag", "limit", "type"})
_MESSAGES = frozenset(
    {"", "tf", "since", *(field.name for field in official.Command.DESCRIPTOR.fields if field.message_type)}
)
"""`ParseDict` also accepts texts as numbers, and empty texts and arrays as messages."""


class Untranslatable(Exception):
    """A frame has no counterpart in Protobuf, for example because it is not valid JSON."""


def encode(text: str) -> bytes:
    """
    Translate a frame of JSON commands.

    Raises:
        Untranslatable: the frame has no counterpart.
    """
    frame = io.BytesIO()
    for line in text.split("\n"):
        try:
            fields = _fields(msgspec.Raw(line.encode("utf-8")), "")
            command = json_format.ParseDict(fields, official.Command())
        except (ValueError, RecursionError, json_format.ParseError) as error:
            raise Untranslatable(str(error)) from error
        proto.serialize_length_prefixed(command, frame)
    return frame.getvalue()


def _fields(value: msgspec.Raw, name: str) -> Any:
    """Return a value of a command for `ParseDict`, which expects the content of bytes fields as base64."""
    text = bytes(value).strip()
    if (name in _NUMBERS and not text.lstrip(b"-").isdigit()) or (name in _MESSAGES and not text.startswith(b"{")):
        raise ValueError(f"{name} is {text!r}")
    if name == "data":
        return base64.b64encode(value).decode("ascii")
    if not text.startswith(b"{"):
        return msgspec.json.decode(value)
    return {key: _fields(one, key) for key, one in msgspec.json.decode(value, type=dict[str, msgspec.Raw]).items()}


def decode(payload: bytes) -> list[str]:
    """Translate a frame of replies and pushes to JSON texts."""
    source, lines = io.BytesIO(payload), []
    while (reply := proto.parse_length_prefixed(official.Reply, source)) is not None:
        lines.append(_write(reply))
    return lines


def _write(message: Message) -> str:
    fields = dict(_ALWAYS.get(message.DESCRIPTOR.name, {}))
    for field, value in message.ListFields():
        fields[field.name] = _write_field(field, value)
    return "{" + ",".join(f'"{name}":{text}' for name, text in fields.items()) + "}"


def _write_field(field: Any, value: Any) -> str:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        entries = (f"{json.dumps(key)}:{_write_one(one)}" for key, one in value.items())
        return "{" + ",".join(entries) + "}"
    if field.is_repeated:
        return "[" + ",".join(map(_write_one, value)) + "]"
    return _write_one(value)


def _write_one(value: Any) -> str:
    if isinstance(value, Message):
        return _write(value)
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else json.dumps(value)
