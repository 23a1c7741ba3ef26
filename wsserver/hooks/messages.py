"""
What the backend is asked about a client, and what it may answer: the shapes of Centrifugo's proxy.

Source: https://centrifugal.dev/docs/server/proxy. `disconnect`, which Centrifugo has not, has the same shape.

Rule 1: no Twisted, no clock, no socket.
Rule 2: an answer that says no is a value; one that cannot be understood is a `ValueError`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

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
from wsserver.typing import ChannelName, JSONText
from wsserver.wire.http11 import Header, Refusal, unavailable

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
"""What a backend may be asked about, or told."""

FORWARDED: Final = frozenset(
    {"authorization", "cookie", "origin", "user-agent", "x-forwarded-for", "x-real-ip", "x-request-id"}
)
"""Headers of the client's request that go with every question: by them the backend knows who it is."""

# Source: "Return custom error" and "Return custom disconnect" of the page above.
ERROR_CODES: Final = range(400, 2000)
DISCONNECT_CODES: Final = range(4000, 5000)

# From here on a client should not connect again (source: "Return custom disconnect" of the page above).
_FINAL_CODE: Final = 4500

_MAX_REASON: Final = 123
"""Most bytes of a reason in a Close frame (RFC 6455 section 5.5)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The client that a question is about."""

    client: str
    """The random id of its connection."""
    transport: str
    """`websocket` or `sse`."""
    protocol: str
    """`json` for a Centrifuge SDK, `raw` for a raw listener."""
    user: str = ""
    """Who it is, once that is known."""
    headers: tuple[Header, ...] = field(default=(), repr=False)
    """Of its request: see `forwarded`."""
    address: str = ""
    """Where it comes from, as it is shown; no question tells that: behind a proxy it would be the proxy's."""


@dataclass(frozen=True, slots=True)
class Refused:
    """No. In the Centrifuge protocol: the error of a reply."""

    code: int
    message: str
    temporary: bool = False
    """Whether the client should try again by itself."""

    @property
    def refusal(self) -> Refusal:
        """The same for a client that only speaks HTTP yet."""
        if self.temporary:
            return unavailable(self.message)
        known = 400 <= self.code < 500 and self.code in HTTPStatus.__members__.values()
        return Refusal(HTTPStatus(self.code) if known else HTTPStatus.FORBIDDEN, self.message)


# Centrifugo answers the same where its backend does not: centrifuge's ErrorInternal, a temporary one.
TEMPORARY: Final = Refused(100, "the backend does not answer at the moment", temporary=True)
"""What a client is told where the backend does not answer in time or as it should."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """No, and the connection is to be closed."""

    code: int
    """4000-4499: the client may come again; 4500-4999: it should not."""
    reason: str

    @property
    def refusal(self) -> Refusal:
        """The same for a client that only speaks HTTP yet: 503 where it may come again, else 403."""
        return unavailable(self.reason) if self.code < _FINAL_CODE else Refusal(HTTPStatus.FORBIDDEN, self.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscribed:
    """Yes: the client may listen to the channel."""

    info: object = None
    """What others see of it in this channel: JSON."""
    data: JSONText | None = None
    """For the client."""
    expire_at: int = 0
    """Unix seconds; 0 for never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected:
    """Yes: the client may connect."""

    user: str = ""
    """Who it is; empty for nobody in particular."""
    expire_at: int = 0
    """Unix seconds; 0 for never."""
    info: object = None
    """What others see of it: JSON."""
    data: JSONText | None = None
    """For the client."""
    channels: Mapping[ChannelName, Subscribed] = field(default_factory=dict)
    """What it listens to without asking."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """Yes: the client may publish."""

    data: JSONText | None = None
    """What is published instead; None for what the client gave."""
    skip_history: bool = False
    tags: Mapping[str, str] | None = None
    idempotency_key: str = ""


def forwarded(headers: Iterable[Header]) -> tuple[Header, ...]:
    """
    Take the headers of a client's request that the backend gets.

    Args:
        headers: names in lower case, values as they came.
    """
    return tuple(header for header in headers if header[0] in FORWARDED)


def write_question(caller: Caller, **more: object) -> bytes:
    """
    Write the body of a question.

    Args:
        caller: whom it is about; neither its headers nor its user are written.
        more: fields of the event; those that are None are left out, and bytes are a JSON text.

    Returns:
        JSON.
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
    Read the answer to `connect`.

    Raises:
        ValueError: it cannot be understood; the message says why.
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
    Read the answer to `subscribe`.

    Raises:
        ValueError: it cannot be understood; the message says why.
    """
    result = _read(body)
    return result if isinstance(result, Refused | Dropped) else _subscribed(result)


def read_published(body: bytes) -> Published | Refused | Dropped:
    """
    Read the answer to `publish`.

    Raises:
        ValueError: it cannot be understood; the message says why.
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
    """Read what all answers have in common: one of result, error and disconnect."""
    answer = read_object(body)
    # In this order in Centrifugo, too.
    if (disconnect := take(answer, "disconnect", dict, None)) is not None:
        code = _code(disconnect, "disconnect", DISCONNECT_CODES)
        reason = take(disconnect, "reason", str, "")
        if len(reason.encode("utf-8")) > _MAX_REASON:
            raise ValueError(f"disconnect: the reason is over {_MAX_REASON} bytes")
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
    channel = parse_name(name)
    if isinstance(channel, Refusal):
        raise ValueError(channel.reason)
    return channel
