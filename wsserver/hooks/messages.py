"""
Hook requests and answers: what the server asks the backend about a client, in the format of Centrifugo's proxy.

Source: https://centrifugal.dev/docs/server/proxy. The event `disconnect`, which Centrifugo does not have, uses the same
format.

Rule 1: no Twisted, no clock, no socket.
Rule 2: a refusal by the backend is a return value; a malformed answer raises `ValueError`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from wsserver.centrifugecodes import INTERNAL
from wsserver.closecodes import MAX_REASON_BYTES
from wsserver.hub.names import parse_name
from wsserver.jsonfields import (
    Fields,
    read_object,
    take,
    take_string_map,
    take_text,
    take_time,
    take_value,
    write_object,
)
from wsserver.typing import ChannelName, Header, JSONText

__all__ = [
    "DISCONNECT_CODES",
    "ERROR_CODES",
    "EVENTS",
    "FORWARDED",
    "TEMPORARY",
    "Caller",
    "Connected",
    "Dropped",
    "Published",
    "Refused",
    "Subscribed",
    "forwarded",
    "read_connected",
    "read_published",
    "read_subscribed",
    "write_question",
]

EVENTS: Final = ("connect", "subscribe", "publish", "disconnect")
"""The events that can be sent to the backend."""

FORWARDED: Final = frozenset(
    {"authorization", "cookie", "origin", "user-agent", "x-forwarded-for", "x-real-ip", "x-request-id"}
)
"""Headers of the client's request that are forwarded with every hook request, so that the backend can identify it."""

# Source: sections "Return custom error" and "Return custom disconnect" of the page above.
ERROR_CODES: Final = range(400, 2000)
DISCONNECT_CODES: Final = range(4000, 5000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The client that a hook request is about."""

    client: str
    """The random client id of the connection."""
    transport: str
    """`websocket` or `sse`."""
    protocol: str
    """`json` for a client of the Centrifuge protocol, `raw` for a raw subscriber."""
    user: str = ""
    """The user id, once it is known."""
    headers: tuple[Header, ...] = field(default=(), repr=False)
    """The headers of the client's request that are forwarded, see `forwarded`."""
    address: str = ""
    """The client's address, for log lines. Hook requests do not contain it: behind a proxy it is the proxy's."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The backend refuses the request. Sent as the error of a reply in the Centrifuge protocol."""

    code: int
    message: str
    temporary: bool = False
    """Whether the failure is temporary, so that the client should retry."""


# Centrifugo sends the same if its backend does not answer: the temporary error ErrorInternal of centrifuge.
TEMPORARY: Final = Refused(INTERNAL.code, "the backend does not answer at the moment", temporary=True)
"""The answer if the backend's answer is missing, late or malformed."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """The backend refuses the request, and the server closes the client's connection."""

    code: int
    """The close code. 4000-4499: the client may reconnect; 4500-4999: it should not."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscribed:
    """The backend allows the client to subscribe to the channel."""

    info: object = None
    """A JSON value that other clients see in the channel's presence."""
    data: JSONText | None = None
    """The JSON text sent to the client with the subscription."""
    expire_at: int = 0
    """UNIX time in seconds at which the subscription expires; 0 for never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected:
    """The backend allows the client to connect."""

    user: str = ""
    """The user id; empty if the client is anonymous."""
    expire_at: int = 0
    """UNIX time in seconds at which the connection expires; 0 for never."""
    info: object = None
    """A JSON value that other clients see in presence."""
    data: JSONText | None = None
    """The JSON text sent to the client."""
    channels: Mapping[ChannelName, Subscribed] = field(default_factory=dict)
    """The channels that the server subscribes the client to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """The backend allows the client to publish."""

    data: JSONText | None = None
    """The data to publish instead of the client's; None to publish the client's."""
    skip_history: bool = False
    """Whether to leave the publication out of the channel's stream."""
    tags: Mapping[str, str] | None = None
    idempotency_key: str = ""


def forwarded(headers: Iterable[Header]) -> tuple[Header, ...]:
    """
    Return the headers of a client's request that are forwarded to the backend.

    Args:
        headers: the headers of the request, with names in lower case.
    """
    return tuple(header for header in headers if header[0] in FORWARDED)


def write_question(caller: Caller, **more: object) -> bytes:
    """
    Encode the body of a hook request.

    Args:
        caller: the client; its user, headers and address are not written.
        more: the fields of the event. Fields that are None are omitted; bytes are inserted as JSON text.

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
    return write_object(fields)


def read_connected(body: bytes) -> Connected | Refused | Dropped:
    """
    Parse the backend's answer to `connect`.

    Raises:
        ValueError: the answer is malformed; the message says why.
    """
    result = _read(body)
    if isinstance(result, Refused | Dropped):
        return result
    channels = {_channel(name): Subscribed() for name in take(result, "channels", list, [])}
    for name, options in take(result, "subs", dict, {}).items():
        channels[_check_channel(name)] = _subscribed(take({"subs": options}, "subs", dict, {}))
    return Connected(
        user=take(result, "user", str, ""),
        expire_at=take_time(result, "expire_at"),
        info=take_value(result, "info"),
        data=take_text(result, "data"),
        channels=channels,
    )


def read_subscribed(body: bytes) -> Subscribed | Refused | Dropped:
    """
    Parse the backend's answer to `subscribe`.

    Raises:
        ValueError: the answer is malformed; the message says why.
    """
    result = _read(body)
    return result if isinstance(result, Refused | Dropped) else _subscribed(result)


def read_published(body: bytes) -> Published | Refused | Dropped:
    """
    Parse the backend's answer to `publish`.

    Raises:
        ValueError: the answer is malformed; the message says why.
    """
    result = _read(body)
    if isinstance(result, Refused | Dropped):
        return result
    return Published(
        data=take_text(result, "data"),
        skip_history=take(result, "skip_history", bool, False),
        tags=take_string_map(result, "tags") or None,
        idempotency_key=take(result, "idempotency_key", str, ""),
    )


def _read(body: bytes) -> Fields | Refused | Dropped:
    """Parse the part common to all answers: one of `result`, `error` and `disconnect`."""
    answer = read_object(body)
    # If an answer has several of them, the first of disconnect, error and result counts, as in Centrifugo.
    if (disconnect := take(answer, "disconnect", dict, None)) is not None:
        code = _code(disconnect, "disconnect", DISCONNECT_CODES)
        reason = take(disconnect, "reason", str, "")
        if len(reason.encode("utf-8")) > MAX_REASON_BYTES:
            raise ValueError(f"disconnect: the reason is over {MAX_REASON_BYTES} bytes")
        return Dropped(code, reason)
    if (error := take(answer, "error", dict, None)) is not None:
        code = _code(error, "error", ERROR_CODES)
        return Refused(code, take(error, "message", str, ""), take(error, "temporary", bool, False))
    result = take(answer, "result", dict, None)
    if result is None:
        raise ValueError("it has no result, no error and no disconnect")
    found: Fields = result
    return found


def _code(fields: Fields, name: str, codes: range) -> int:
    code: int = take(fields, "code", int, 0)
    if code not in codes:
        raise ValueError(f"{name}: expected a code from {codes.start} to {codes.stop - 1}")
    return code


def _subscribed(fields: Fields) -> Subscribed:
    return Subscribed(
        info=take_value(fields, "info"), data=take_text(fields, "data"), expire_at=take_time(fields, "expire_at")
    )


def _channel(name: JSONText) -> ChannelName:
    return _check_channel(take({"channels": name}, "channels", str, ""))


def _check_channel(name: str) -> ChannelName:
    # An invalid name is a ValueError, too.
    return parse_name(name)
