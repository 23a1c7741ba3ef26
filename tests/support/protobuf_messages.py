"""Encode commands and decode replies of the Centrifuge protocol in Protobuf, with the definitions of an SDK."""

import base64
import io
from collections.abc import Iterable
from typing import Any

import centrifuge.protocol.client_pb2 as official
from google.protobuf import json_format, proto
from google.protobuf.message import Message

__all__ = ["decode_replies", "encode_commands", "show"]


def encode_commands(*commands: dict[str, Any]) -> bytes:
    """Encode a frame of commands. Values of type bytes are the content of fields of type bytes."""
    frame = io.BytesIO()
    for command in commands:
        proto.serialize_length_prefixed(json_format.ParseDict(_with_base64(command), official.Command()), frame)
    return frame.getvalue()


def decode_replies(frame: bytes) -> list[dict[str, Any]]:
    """Decode a frame of replies and pushes. Fields with their zero value are omitted."""
    source, replies = io.BytesIO(frame), []
    while (reply := proto.parse_length_prefixed(official.Reply, source)) is not None:
        replies.append(show(reply))
    return replies


def show(message: Message) -> dict[str, Any]:
    """Return the fields of a message. Fields of type bytes are bytes, and 64-bit integers are integers."""
    return {field.name: _show(field, value) for field, value in message.ListFields()}


def _show(field: Any, value: Any) -> Any:
    if field.message_type is None:
        return value
    if field.message_type.GetOptions().map_entry:
        return {key: show(one) if isinstance(one, Message) else one for key, one in value.items()}
    return [show(one) for one in value] if _is_list(value) else show(value)


def _is_list(value: Any) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, Message)


def _with_base64(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {name: _with_base64(one) for name, one in value.items()}
    return value
