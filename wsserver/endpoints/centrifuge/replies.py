"""
What the server says in the Centrifuge protocol, version 2, as JSON: replies and pushes.

Sources: `definitions/client.proto` of centrifugal/protocol; `errors.go`, `disconnect.go` and `unsubscribe.go` of
centrifugal/centrifuge. As there, a field at its zero value is left out, and no reply has a line end in it.

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
"""An empty reply, which the client answers with an empty command."""


@dataclass(frozen=True, slots=True)
class Error:
    """A command was refused; the connection goes on."""

    code: int
    message: str
    temporary: bool = False
    """The client may try again."""

    def because(self, reason: str) -> "Error":
        """Say more. Clients go by the code; the words are for people."""
        return Error(self.code, f"{self.message}: {reason}", self.temporary)


# 100-112 of Centrifuge; 101, 102 and 110 have no case here.
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
    """The end of a connection; the code of its Close frame. Below 3500 the client connects again by itself."""

    code: int
    reason: str

    def because(self, reason: str) -> "Disconnect":
        """Say more."""
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
"""The server's own close codes, and what stands for them here. The others are Close frames as everywhere."""


@dataclass(frozen=True, slots=True)
class Unsubscription:
    """The end of a subscription, told in a push. From 2500 on the client subscribes again by itself."""

    code: int
    reason: str

    def because(self, reason: str) -> "Unsubscription":
        """Say more."""
        return Unsubscription(self.code, f"{self.reason}: {reason}")


SERVER_UNSUBSCRIBE: Final = Unsubscription(2000, "server unsubscribe")
INSUFFICIENT_STATE: Final = Unsubscription(2500, "insufficient state")
EXPIRED_SUBSCRIPTION: Final = Unsubscription(2501, "subscription expired")


def obj(fields: Mapping[str, Any]) -> bytes:
    """
    Write an object.

    Args:
        fields: bytes are JSON already and stand as they are, in a tuple as an array; of the others, what is at its
            zero value is left out.
    """
    written = [_json(name) + b":" + _value(value) for name, value in fields.items() if value]
    return b"{" + b",".join(written) + b"}"


def _value(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    return array(value) if isinstance(value, tuple) else _json(value)


def array(values: Iterable[bytes]) -> bytes:
    """Write an array of what is JSON already; empty where there is none, so that `obj` leaves it out."""
    joined = b",".join(values)
    return b"[" + joined + b"]" if joined else b""


def reply(number: int, method: str, result: Mapping[str, Any]) -> bytes:
    """
    Write the answer to a command.

    Args:
        number: the command's id.
        method: as the command names it.
        result: see `obj`.
    """
    return obj({"id": number, method: obj(result)})


def error_reply(number: int, error: Error) -> bytes:
    """Write the refusal of a command."""
    return obj(
        {"id": number, "error": obj({"code": error.code, "message": error.message, "temporary": error.temporary})}
    )


def push(channel: str, kind: str, content: Mapping[str, Any] | bytes) -> bytes:
    """
    Write what the server says by itself.

    Args:
        channel: empty where it concerns none.
        kind: `pub`, `join`, `leave`, `unsubscribe`, `subscribe`, `message`, `refresh`.
        content: see `obj`; or JSON already.
    """
    return obj({"push": obj({"channel": channel, kind: content if isinstance(content, bytes) else obj(content)})})


def publication(publication: Publication) -> bytes:
    """
    Write a publication.

    JSON has no bytes: what is no UTF-8 stands as base64, with the tag `encoding`.
    """
    data, tags = publication.as_json(), publication.tags
    if data is None:
        encoded = base64.b64encode(publication.data).decode("ascii")
        data, tags = JSONText(_json(encoded)), {**(tags or {}), "encoding": "base64"}
    info = write_info(publication.info) if publication.info is not None else b""
    return obj({"data": on_one_line(data), "info": info, "offset": publication.offset, "tags": tags})


def on_one_line(text: JSONText) -> JSONText:
    """Replace the line feeds of a JSON text, which can only be white space, by spaces: in a frame one ends a reply."""
    return JSONText(text.replace(b"\n", b" "))


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
