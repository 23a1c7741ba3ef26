"""
Write the replies and pushes of the Centrifuge client protocol, version 2, in its JSON form.

As in Centrifuge, fields with their zero value are omitted, and no reply contains a line feed. The fields that
Centrifuge always writes have no default here, and are therefore never omitted.

Source: `definitions/client.proto` of centrifugal/protocol.

This module does not use Twisted, a clock or a socket.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, ClassVar, Final

import msgspec

from wsserver.centrifugecodes import Error
from wsserver.hub.publication import Publication
from wsserver.jsonfields import write
from wsserver.typing import JSONText

__all__ = [
    "PING",
    "PUBLISHED",
    "UNSUBSCRIBED",
    "ConnectResult",
    "HistoryResult",
    "PresenceResult",
    "PresenceStatsResult",
    "PublishResult",
    "RefreshResult",
    "Result",
    "SubRefreshResult",
    "SubscribeResult",
    "UnsubscribeResult",
    "array",
    "encode",
    "error_reply",
    "obj",
    "on_one_line",
    "publication",
    "push",
    "reply",
]

PING: Final = b"{}"
"""A ping is an empty reply. The client's pong is an empty command."""


class Result(msgspec.Struct, frozen=True, omit_defaults=True):
    """The result of a command. A value of type `Raw` is JSON text, which is inserted unchanged."""

    method: ClassVar[bytes]
    """The command's method, which names the result in the reply."""


class RefreshResult(Result, frozen=True):
    """When the client must send its next connection token."""

    method: ClassVar[bytes] = b"refresh"

    expires: bool = False
    ttl: int = 0
    """Seconds until the token expires."""


class SubRefreshResult(RefreshResult, frozen=True):
    """When the client must send its next subscription token."""

    method: ClassVar[bytes] = b"sub_refresh"


class SubscribeResult(Result, frozen=True):
    """A new subscription."""

    method: ClassVar[bytes] = b"subscribe"

    was_recovering: bool = False
    recovered: bool = False
    expires: bool = False
    ttl: int = 0
    data: msgspec.Raw | None = None
    recoverable: bool = False
    positioned: bool = False
    epoch: str = ""
    offset: int = 0
    publications: tuple[msgspec.Raw, ...] = ()
    """The recovered publications."""


class ConnectResult(Result, frozen=True):
    """A new session."""

    method: ClassVar[bytes] = b"connect"

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


class UnsubscribeResult(Result, frozen=True):
    """The end of a subscription."""

    method: ClassVar[bytes] = b"unsubscribe"


class PublishResult(Result, frozen=True):
    """A publication that the broker has accepted."""

    method: ClassVar[bytes] = b"publish"


class PresenceResult(Result, frozen=True):
    """The clients of a channel."""

    method: ClassVar[bytes] = b"presence"

    presence: msgspec.Raw
    """Client id -> info."""


class PresenceStatsResult(Result, frozen=True):
    """The numbers of a channel's clients and users."""

    method: ClassVar[bytes] = b"presence_stats"

    num_clients: int
    num_users: int


class HistoryResult(Result, frozen=True):
    """A page of a channel's history, and the position of the stream's end."""

    method: ClassVar[bytes] = b"history"

    publications: msgspec.Raw
    """An array of publications."""
    epoch: str
    offset: int


PUBLISHED: Final = PublishResult()
UNSUBSCRIBED: Final = UnsubscribeResult()

encode: Final = msgspec.json.Encoder().encode
"""Write a result as a JSON object."""

_quote: Final = lru_cache(maxsize=4096)(write)
"""Write the name of a channel or field as a JSON string. The names of most replies are the same."""


def obj(fields: Mapping[str, Any]) -> bytes:
    """
    Write a JSON object.

    Args:
        fields: name -> value. Bytes are JSON text and are inserted unchanged; any other value is encoded. Fields whose
            value is false, such as 0, "" or None, are omitted.
    """
    return b"{%b}" % b",".join([b"%b:%b" % (_quote(name), _value(value)) for name, value in fields.items() if value])


def _value(value: Any) -> bytes:
    return value if isinstance(value, bytes) else write(value)


def array(values: Iterable[bytes]) -> bytes:
    """Join JSON texts to a JSON array."""
    return b"[%b]" % b",".join(values)


def reply(number: int, result: Result) -> bytes:
    """
    Write the reply to a command.

    Args:
        number: the command's ID.
        result: the command's result.
    """
    return b'{"id":%d,"%b":%b}' % (number, result.method, encode(result))


def error_reply(number: int, error: Error) -> bytes:
    """Write the error reply to a command."""
    return obj(
        {"id": number, "error": obj({"code": error.code, "message": error.message, "temporary": error.temporary})}
    )


def push(channel: str, kind: str, content: Mapping[str, Any] | bytes) -> bytes:
    """
    Write a push: a message that is not the reply to a command.

    Args:
        channel: the channel's name; empty if the push concerns no channel.
        kind: `pub`, `join`, `leave`, `unsubscribe`, `subscribe`, `message` or `refresh`.
        content: the push's fields (see `obj`), or its JSON text.
    """
    written = content if isinstance(content, bytes) else obj(content)
    if not channel:
        return b'{"push":{%b:%b}}' % (_quote(kind), written)
    return b'{"push":{"channel":%b,%b:%b}}' % (_quote(channel), _quote(kind), written)


def publication(publication: Publication) -> bytes:
    """
    Write a publication as a JSON object.

    JSON cannot hold bytes, so data that is not valid UTF-8 is written as base64, with the tag `encoding`.
    """
    data = publication.as_json()
    if data is not None:
        return publication.as_object(on_one_line(data))
    tags = {**(publication.tags or {}), "encoding": "base64"}
    return msgspec.structs.replace(publication, tags=tags).as_object(publication.as_base64())


def on_one_line(text: JSONText) -> JSONText:
    """
    Replace the line feeds of a JSON text by spaces, because a line feed ends a reply in a frame.

    This does not change the value: in JSON, a line feed is only allowed as white space between tokens.
    """
    return JSONText(text.replace(b"\n", b" "))
