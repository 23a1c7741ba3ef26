"""
Write the replies and pushes of the Centrifuge client protocol, version 2, in its JSON form.

Fields with their zero value are omitted, and no reply contains a line feed, as in Centrifuge.

Sources: `definitions/client.proto` of centrifugal/protocol; `errors.go`, `disconnect.go` and `unsubscribe.go` of
centrifugal/centrifuge.

Rule 1: no Twisted, no clock, no socket.
"""

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from wsserver.closecodes import CloseCode
from wsserver.hub.presence import write_info
from wsserver.hub.publication import Publication
from wsserver.typing import JSONText

__all__ = [
    "ALREADY_SUBSCRIBED",
    "BAD_REQUEST",
    "BAD_REQUEST_ERROR",
    "CLOSE_CODES",
    "EXPIRED",
    "EXPIRED_SUBSCRIPTION",
    "INSUFFICIENT_STATE",
    "INTERNAL",
    "INVALID_TOKEN",
    "LIMIT_EXCEEDED",
    "METHOD_NOT_FOUND",
    "NOT_AVAILABLE",
    "NOT_AVAILABLE_ERROR",
    "NO_PONG",
    "PERMISSION_DENIED",
    "PING",
    "SERVER_UNSUBSCRIBE",
    "STALE",
    "TOKEN_EXPIRED",
    "TOO_MANY_REQUESTS",
    "UNRECOVERABLE_POSITION",
    "Disconnect",
    "Error",
    "Unsubscription",
    "array",
    "error_reply",
    "obj",
    "on_one_line",
    "publication",
    "push",
    "reply",
]

PING: Final = b"{}"
"""A ping is an empty reply. The client's pong is an empty command."""


@dataclass(frozen=True, slots=True)
class Error:
    """An error reply to a command. The connection stays open."""

    code: int
    message: str
    temporary: bool = False
    """Whether the client may retry."""

    def because(self, reason: str) -> "Error":
        """Return a copy with a reason after the message. Clients act on the code; the message is for people."""
        return Error(self.code, f"{self.message}: {reason}", self.temporary)


# Centrifuge's codes 100 to 112; this server does not use 101, 102 and 110.
INTERNAL: Final = Error(100, "internal server error", temporary=True)
PERMISSION_DENIED: Final = Error(103, "permission denied")
METHOD_NOT_FOUND: Final = Error(104, "method not found")
ALREADY_SUBSCRIBED: Final = Error(105, "already subscribed")
LIMIT_EXCEEDED: Final = Error(106, "limit exceeded")
BAD_REQUEST_ERROR: Final = Error(107, "bad request")
NOT_AVAILABLE_ERROR: Final = Error(108, "not available")
TOKEN_EXPIRED: Final = Error(109, "token expired")
TOO_MANY_REQUESTS: Final = Error(111, "too many requests", temporary=True)
UNRECOVERABLE_POSITION: Final = Error(112, "unrecoverable position")


@dataclass(frozen=True, slots=True)
class Disconnect:
    """The code and reason with which the server closes a connection. Below 3500, clients reconnect by themselves."""

    code: int
    reason: str

    def because(self, reason: str) -> "Disconnect":
        """Return a copy with a detail after the reason."""
        return Disconnect(self.code, f"{self.reason}: {reason}")


SHUTDOWN: Final = Disconnect(3001, "shutdown")
SERVER_ERROR: Final = Disconnect(3004, "internal server error")
EXPIRED: Final = Disconnect(3005, "connection expired")
EXPIRED_ELSEWHERE: Final = Disconnect(3006, "subscription expired")
SLOW: Final = Disconnect(3008, "slow")
LOST_STATE: Final = Disconnect(3010, "insufficient state")
NO_PONG: Final = Disconnect(3012, "no pong")
INVALID_TOKEN: Final = Disconnect(3500, "invalid token")
BAD_REQUEST: Final = Disconnect(3501, "bad request")
STALE: Final = Disconnect(3502, "stale")
NOT_AVAILABLE: Final = Disconnect(3508, "not available")

CLOSE_CODES: Final[Mapping[int, Disconnect]] = {
    CloseCode.GOING_AWAY: SHUTDOWN,
    CloseCode.INTERNAL_ERROR: SERVER_ERROR,
    CloseCode.TRY_AGAIN_LATER: SLOW,
}
"""Close code of the server -> the code and reason that Centrifuge uses for it. Other codes are sent unchanged."""


@dataclass(frozen=True, slots=True)
class Unsubscription:
    """Code and reason of an `unsubscribe` push. From 2500 on, clients subscribe again by themselves."""

    code: int
    reason: str

    def because(self, reason: str) -> "Unsubscription":
        """Return a copy with a detail after the reason."""
        return Unsubscription(self.code, f"{self.reason}: {reason}")


SERVER_UNSUBSCRIBE: Final = Unsubscription(2000, "server unsubscribe")
INSUFFICIENT_STATE: Final = Unsubscription(2500, "insufficient state")
EXPIRED_SUBSCRIPTION: Final = Unsubscription(2501, "subscription expired")


def obj(fields: Mapping[str, Any]) -> bytes:
    """
    Write a JSON object.

    Args:
        fields: name -> value. Bytes are JSON text and are inserted unchanged; a tuple of bytes is written as an array;
            any other value is encoded. Fields whose value is false, such as 0, "" or None, are omitted.
    """
    written = [_json(name) + b":" + _value(value) for name, value in fields.items() if value]
    return b"{" + b",".join(written) + b"}"


def _value(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    return array(value) if isinstance(value, tuple) else _json(value)


def array(values: Iterable[bytes]) -> bytes:
    """Join JSON texts to a JSON array. Without any, return empty bytes, so that `obj` omits the field."""
    joined = b",".join(values)
    return b"[" + joined + b"]" if joined else b""


def reply(number: int, method: str, result: Mapping[str, Any]) -> bytes:
    """
    Write the reply to a command.

    Args:
        number: the command's ID.
        method: the command's method, which names the result field.
        result: the fields of the result; see `obj`.
    """
    return obj({"id": number, method: obj(result)})


def error_reply(number: int, error: Error) -> bytes:
    """Write the error reply to a command."""
    return obj(
        {"id": number, "error": obj({"code": error.code, "message": error.message, "temporary": error.temporary})}
    )


def push(channel: str, kind: str, content: Mapping[str, Any] | bytes) -> bytes:
    """
    Write a push: a message that the server sends without a command.

    Args:
        channel: the channel's name; empty if the push concerns no channel.
        kind: `pub`, `join`, `leave`, `unsubscribe`, `subscribe`, `message` or `refresh`.
        content: the push's fields (see `obj`), or its JSON text.
    """
    return obj({"push": obj({"channel": channel, kind: content if isinstance(content, bytes) else obj(content)})})


def publication(publication: Publication) -> bytes:
    """
    Write a publication as a JSON object.

    JSON cannot hold bytes, so data that is not valid UTF-8 is written as base64, with the tag `encoding`.
    """
    data, tags = publication.as_json(), publication.tags
    if data is None:
        encoded = base64.b64encode(publication.data).decode("ascii")
        data, tags = JSONText(_json(encoded)), {**(tags or {}), "encoding": "base64"}
    info = write_info(publication.info) if publication.info is not None else b""
    return obj({"data": on_one_line(data), "info": info, "offset": publication.offset, "tags": tags})


def on_one_line(text: JSONText) -> JSONText:
    """
    Replace the line feeds of a JSON text by spaces, because a line feed ends a reply in a frame.

    This does not change the value: in JSON, a line feed is only allowed as white space between tokens.
    """
    return JSONText(text.replace(b"\n", b" "))


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
