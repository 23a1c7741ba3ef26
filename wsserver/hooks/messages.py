"""
Hook requests and answers: what the server sends to the backend about a client, and what the backend answers.

The format is that of Centrifugo's proxy. The event `disconnect`, which Centrifugo does not have, uses the same format.

Source: https://centrifugal.dev/docs/server/proxy.

This module does not use Twisted, a clock or a socket.
A refusal by the backend is a return value; a malformed answer raises a `ValueError` that names the field.
"""

import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, TypeVar

from msgspec import Meta, Raw
from msgspec.structs import force_setattr

from wsserver.centrifugecodes import INTERNAL
from wsserver.closecodes import MAX_REASON_BYTES
from wsserver.config.channel_settings import MAX_REWIND
from wsserver.errors import InvalidChannel
from wsserver.hub.channel_events import ChannelEvent
from wsserver.hub.names import parse_name
from wsserver.hub.override import Override
from wsserver.hub.parameters import Publish, decode_base64
from wsserver.hub.publication import Publication
from wsserver.jsonfields import JSONField, JSONStruct, Nullable, Seconds, decode, read_json, replace_nulls, write_object
from wsserver.typing import ChannelName, Header
from wsserver.wire.forwarded import read_node

__all__ = [
    "EVENTS",
    "FORWARDED",
    "MAX_PUBLISH",
    "TEMPORARY",
    "Answered",
    "Caller",
    "Connected",
    "HookDisconnect",
    "HookError",
    "Published",
    "Subscribed",
    "forwarded",
    "read_answered",
    "read_connected",
    "read_published",
    "read_subscribed",
    "read_taken",
    "write_channel_events",
    "write_request",
]

EVENTS: Final = ("connect", "subscribe", "publish", "rpc", "message", "disconnect", "channel")
"""The events that can be sent to the backend."""

MAX_PUBLISH: Final = 100
"""Maximum number of publications in an answer to `rpc` or `message`."""

_ZONE: Final = re.compile(r"%[^\]]*")

_ADDRESS: Final = ("x-forwarded-for", "x-real-ip")
"""Headers in which the backend gets the client's address. Those of the client's request may be forged."""

FORWARDED: Final = frozenset({"authorization", "cookie", "origin", "user-agent", "x-request-id", *_ADDRESS})
"""
Headers of hook requests, from which the backend can identify the client. They are those of the client's request,
except for the client's address.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The client that a hook request is about."""

    client: str
    """The random client ID of the connection."""
    transport: str
    """`websocket`, `http_stream`, `sse`, `uni_websocket`, `uni_http_stream` or `uni_sse`."""
    protocol: str
    """The form of the Centrifuge protocol, `json` or `protobuf`; `raw` for a subscriber of `/ws?channel=` or `/sse`."""
    user: str = ""
    """The user ID, once it is known."""
    headers: tuple[Header, ...] = field(default=(), repr=False)
    """The headers of hook requests that describe the client, see `forwarded`."""
    address: str = ""
    """The client's address, for log lines; hook requests have it in their headers."""


# Source of the ranges of the codes below: the sections "Return custom error" and "Return custom disconnect" of the page
# that the module docstring names.


class HookError(JSONStruct, frozen=True):
    """The backend refuses what the client asked for. A Centrifuge client receives this as the error of a reply."""

    code: Annotated[int, Meta(ge=400, le=1999)]
    message: Nullable[str] = ""
    temporary: Nullable[bool] = False
    """Whether the failure is temporary, so that the client should retry."""


# Centrifugo sends the same if its backend does not answer: the temporary error `ErrorInternal` of its library
# centrifuge.
TEMPORARY: Final = HookError(INTERNAL.code, "the backend is unavailable", temporary=True)
"""The answer that the server uses if the backend's answer is missing, late or malformed."""


class HookDisconnect(JSONStruct, frozen=True):
    """The backend refuses what the client asked for, and tells the server to close the client's connection."""

    code: Annotated[int, Meta(ge=4000, le=4999)]
    """The close code. 4000-4499: the client may reconnect; 4500-4999: it should not."""
    reason: Nullable[str] = ""

    def __post_init__(self) -> None:
        """Check that a Close frame can contain the reason."""
        JSONStruct.__post_init__(self)
        if len(self.reason.encode("utf-8")) > MAX_REASON_BYTES:
            raise ValueError(f"reason: expected at most {MAX_REASON_BYTES} bytes")


class Subscribed(JSONStruct, frozen=True, kw_only=True):
    """The backend allows the client to subscribe to the channel."""

    info: Any = None
    """A JSON value that other clients see in the channel's presence."""
    data: JSONField = None
    """The JSON text sent to the client with the subscription."""
    expire_at: Seconds = 0
    """UNIX time in seconds at which the subscription expires; 0 for never."""
    rewind: Annotated[int, Meta(ge=0, le=MAX_REWIND)] | None = None
    """
    Number of the last publications that a Centrifuge client receives first; None for the number in the channel's
    options.
    """
    cache_recover: Nullable[bool] = False
    """Centrifugo's name for a `rewind` of 1."""
    override: Override | None = None

    def __post_init__(self) -> None:
        """Set `rewind` if the answer has Centrifugo's name for it."""
        JSONStruct.__post_init__(self)
        if self.cache_recover and self.rewind is None:
            force_setattr(self, "rewind", 1)


class Connected(JSONStruct, frozen=True, kw_only=True):
    """The backend allows the client to connect."""

    user: Nullable[str] = ""
    """The user ID; empty if the client is anonymous."""
    expire_at: Seconds = 0
    """UNIX time in seconds at which the connection expires; 0 for never."""
    info: Any = None
    """A JSON value that other clients see in presence."""
    data: JSONField = None
    """The JSON text sent to the client."""
    channels: Nullable[list[ChannelName]] = []
    """The channels that the answer lists without options. `subs` contains them, too."""
    subs: Nullable[dict[ChannelName, Nullable[Subscribed]]] = {}
    """All channels to which the server subscribes the client, with the options of each subscription."""

    def __post_init__(self) -> None:
        """Check the names, and add `channels` to `subs`."""
        JSONStruct.__post_init__(self)
        subs = {_check_channel("channels", name): Subscribed() for name in self.channels}
        for name, options in replace_nulls(self.subs, Subscribed()).items():
            subs[_check_channel("subs", name)] = options
        force_setattr(self, "subs", subs)


class Published(JSONStruct, frozen=True, kw_only=True):
    """The backend allows the client to publish."""

    data: JSONField = None
    """The data to publish instead of the client's; None to publish the client's."""
    skip_history: Nullable[bool] = False
    """Whether to leave the publication out of the channel's stream."""
    tags: dict[str, Nullable[str]] | None = None
    idempotency_key: Nullable[str] = ""
    delta: Nullable[bool] = False
    """Whether subscribers may receive the publication as a delta."""

    def __post_init__(self) -> None:
        """Replace null tags by empty ones, as Go's decoder does."""
        JSONStruct.__post_init__(self)
        if self.tags:
            force_setattr(self, "tags", replace_nulls(self.tags, ""))


class Answered(JSONStruct, frozen=True, kw_only=True):
    """The backend has handled a client's call (`rpc`) or message (`message`)."""

    data: Raw = None  # type: ignore[assignment]
    """The data for the client as a raw value, which may be `null`; None if there is none."""
    b64data: Nullable[str] = ""
    publish: Nullable[list[Publish]] = []
    """The publications that the server makes before it answers the client, in order."""

    def __post_init__(self) -> None:
        """Raise a ValueError if there are too many publications, or one of them has no valid data."""
        # Not the method of `JSONStruct`, which would replace the data `null` by None.
        self.set_defaults()
        if len(self.publish) > MAX_PUBLISH:
            raise ValueError(f"publish: expected at most {MAX_PUBLISH} publications")
        self.content()
        for number, one in enumerate(self.publish):
            try:
                one.publication()
            except ValueError as error:
                raise ValueError(f"publish[{number}].{error}") from None

    def content(self) -> Publication | None:
        """
        Return the data for the client, with its type; None if there is none.

        Raises:
            ValueError: `b64data` is not base64. Not raised once the answer has been decoded.
        """
        if self.b64data:
            return Publication(decode_base64(self.b64data))
        return Publication(bytes(self.data), json=True) if self.data is not None else None


class _Answer(JSONStruct, frozen=True):
    """The fields that every answer may have. If it has several, the first in this order counts, as in Centrifugo."""

    disconnect: JSONField = None
    error: JSONField = None
    result: JSONField = None


def forwarded(headers: Iterable[Header], address: str) -> tuple[Header, ...]:
    """
    Return the headers of hook requests that describe a client: some of its own, and its address.

    The client's own headers with an address are left out, because a client can put anything into them. Where a trusted
    proxy has set them, `address` has been found there.

    Args:
        headers: the headers of the client's request, with names in lower case.
        address: the client's address, with or without a port; without an IP address for a peer on a UNIX socket.
    """
    kept = [header for header in headers if header[0] in FORWARDED and header[0] not in _ADDRESS]
    # Without the zone of a link-local address, which has no meaning on another machine.
    node = read_node(_ZONE.sub("", address))
    return (*kept, *((name, node.host) for name in _ADDRESS)) if node is not None else tuple(kept)


def write_request(caller: Caller, *, data: bytes | None = None, **more: object) -> bytes:
    """
    Encode the body of a hook request.

    Args:
        caller: the client; its user, headers and address are not written.
        data: the client's data. Data of a Protobuf client that is not JSON text is written in base64, as `b64data`.
        more: the other fields of the event. Fields that are None are omitted.

    Returns:
        A JSON object.
    """
    fields = {
        "client": caller.client,
        "transport": caller.transport,
        "protocol": caller.protocol,
        "encoding": "json" if caller.protocol == "json" else "binary",
        **{name: value for name, value in more.items() if value is not None},
    }
    if data is not None and caller.protocol == "protobuf":
        try:
            data = read_json(data)
        except ValueError:
            fields["b64data"], data = base64.b64encode(data).decode("ascii"), None
    if data is not None:
        fields |= {"encoding": "json", "data": data}
    return write_object(fields)


def write_channel_events(events: Iterable[ChannelEvent]) -> bytes:
    """
    Encode the body of a request with channel events.

    Source: `NotifyChannelStateRequest` in `internal/proxyproto/proxy.proto` of centrifugal/centrifugo.

    Args:
        events: the events, the oldest first.

    Returns:
        A JSON object.
    """
    shown = [
        {"channel": channel, "type": "occupied" if occupied else "vacated", "time_ms": time_ms}
        for channel, occupied, time_ms in events
    ]
    return write_object({"events": shown})


def read_connected(body: bytes) -> Connected | HookError | HookDisconnect:
    """
    Parse the backend's answer to `connect`.

    Raises:
        ValueError: the answer is malformed; the message says why.
    """
    return _read(Connected, body)


def read_subscribed(body: bytes) -> Subscribed | HookError | HookDisconnect:
    """
    Parse the backend's answer to `subscribe`.

    Raises:
        ValueError: the answer is malformed; the message says why.
    """
    return _read(Subscribed, body)


def read_published(body: bytes) -> Published | HookError | HookDisconnect:
    """
    Parse the backend's answer to `publish`.

    Raises:
        ValueError: the answer is malformed; the message says why.
    """
    return _read(Published, body)


def read_answered(body: bytes) -> Answered | HookError | HookDisconnect:
    """
    Parse the backend's answer to `rpc` or `message`.

    Raises:
        ValueError: the answer is malformed; the message says why.
    """
    return _read(Answered, body)


def read_taken(body: bytes) -> bool:
    """
    Parse the backend's answer to channel events, which may be an empty object.

    Returns:
        Whether the events are done with. False if the answer is a temporary error, so that they are sent again.

    Raises:
        ValueError: the answer is malformed; the message says why.
    """
    answer = decode(_Answer, body)
    return answer.error is None or not decode(HookError, answer.error, "error").temporary


_Result = TypeVar("_Result", Connected, Subscribed, Published, Answered)


def _read(kind: type[_Result], body: bytes) -> _Result | HookError | HookDisconnect:
    answer = decode(_Answer, body)
    if answer.disconnect is not None:
        return decode(HookDisconnect, answer.disconnect, "disconnect")
    if answer.error is not None:
        return decode(HookError, answer.error, "error")
    if answer.result is None:
        raise ValueError("the answer has no result, no error and no disconnect")
    return decode(kind, answer.result, "result")


def _check_channel(field: str, name: str) -> ChannelName:
    try:
        return parse_name(name)
    except InvalidChannel as error:
        raise ValueError(f"{field}: {error}") from None
