"""
Names of channels, who may use them, and what a subscriber asks for in a query.

Rule 1: no Twisted, no clock, no socket.
Rule 2: a refusal is a value, not an exception.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from http import HTTPStatus
from typing import Final

from wsserver.origins import is_loopback, origin_of
from wsserver.text import quote
from wsserver.typing import ChannelName
from wsserver.wire.http11 import Refusal

__all__ = [
    "MAX_CHANNELS",
    "MAX_NAME",
    "PRIVATE",
    "UNKNOWN_PLACE",
    "Access",
    "Format",
    "Patterns",
    "RawSubscribeRequest",
    "check_name",
    "parse_name",
    "parse_query",
]

# Precedents: Centrifugo 255, nchan 512, soketi 200.
MAX_NAME: Final = 255
"""Most bytes of a channel's name in UTF-8."""

MAX_CHANNELS: Final = 128
"""Most channels of a connection."""

PRIVATE: Final = "wsserver:"
"""What the server's own keys and channels in Redis begin with: no client reaches them."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Format(StrEnum):
    """How a publication is written to a raw subscriber."""

    RAW = "raw"
    """As it was published, byte for byte."""
    JSON = "json"
    """`{"channel":"foo","data":...,"offset":7,"epoch":"qFhv"}`."""
    REDIS = "redis"
    """`["message","foo","hello"]`, what Redis tells its subscribers, as JSON."""


def parse_name(text: str) -> ChannelName | Refusal:
    """
    Check a channel's name.

    Args:
        text: what a client or a backend calls it.

    Returns:
        The name, or why it is none: 400.
    """
    if not text:
        return _bad("the name of a channel is empty")
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError:
        return _bad("the name of a channel contains half a surrogate pair")
    if size > MAX_NAME:
        return _bad(f"the name of a channel is over {MAX_NAME} bytes")
    if _CONTROL.search(text):
        return _bad(f"a control character in the name of a channel: {quote(text)}")
    if text.startswith(PRIVATE):
        return Refusal(HTTPStatus.FORBIDDEN, f"names that begin with {PRIVATE} are the server's own")
    return ChannelName(text)


def check_name(channel: str) -> ChannelName:
    """
    Check the name of a channel that an application has passed.

    Args:
        channel: the name.

    Returns:
        The name.

    Raises:
        TypeError: the name is not a str.
        ValueError: no channel can have this name.
    """
    if not isinstance(channel, str):
        raise TypeError(f"channel must be str, not {type(channel).__name__}")
    name = parse_name(channel)
    if isinstance(name, Refusal):
        raise ValueError(name.reason)
    return name


class Patterns:
    """
    A list of names and patterns, in which an asterisk stands for any characters.

    Args:
        patterns: `news`, `chat:*`, `*`.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        parts = [pattern.split("*") for pattern in patterns]
        self._names = frozenset(part[0] for part in parts if len(part) == 1)
        self._patterns = [(part[0], [piece for piece in part[1:-1] if piece], part[-1]) for part in parts if part[1:]]

    def __contains__(self, name: str) -> bool:
        return name in self._names or any(_matches(name, *pattern) for pattern in self._patterns)


def _matches(name: str, start: str, pieces: list[str], end: str) -> bool:
    # Each piece is taken where it comes first, which leaves the most for those after it. So nothing is tried twice, as
    # a regular expression would: whoever calls the API gives the pattern.
    if len(name) < len(start) + len(end) or not name.startswith(start) or not name.endswith(end):
        return False
    at, last = len(start), len(name) - len(end)
    for piece in pieces:
        found = name.find(piece, at, last)
        if found < 0:
            return False
        at = found + len(piece)
    return True


@dataclass(frozen=True, slots=True)
class RawSubscribeRequest:
    """What a raw subscriber wants."""

    channels: tuple[ChannelName, ...]
    """Each once, in the order of the query."""
    format: Format
    binary: bool
    """Every message is to be binary."""
    last_event_id: str = ""
    """Where the client stood when it was last here; empty where it begins afresh."""


UNKNOWN_PLACE: Final = ":"
"""Where a client stands whose last event was none of ours: nowhere, and it is told that something is missing."""

_PLACE = re.compile(r"-|[A-Za-z0-9_-]{1,64}:[0-9]{1,18}")
_PARAMETERS: Final = {"channel", "format", "binary", "last_event_id", "token", "access_token"}
_LAST_EVENT_ID: Final = "lasteventid"
_FOLDED: Final = {name.replace("_", ""): name for name in _PARAMETERS}


def _fold(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()


def _find_misspelled(names: Iterable[str]) -> tuple[str, str] | None:
    """
    Find a parameter of a query that is probably one of ours, misspelled.

    Other names are not ours to judge: libraries and proxies add parameters such as `_`, `v` and `utm_source`.

    Args:
        names: of the parameters.

    Returns:
        The name and the parameter that it resembles; None if there is none.
    """
    for name in sorted(set(names) - _PARAMETERS):
        folded = _fold(name)
        if folded != _LAST_EVENT_ID and (near := get_close_matches(folded, _FOLDED, n=1, cutoff=0.8)):
            return name, _FOLDED[near[0]]
    return None


def parse_query(query: Mapping[str, list[str]], default: Format) -> RawSubscribeRequest | Refusal:
    """
    Parse the query of a raw subscriber.

    `channel=a&channel=b` or `channel=a,b`, `format=raw|json|redis`, `binary=1`, and `last_event_id=`, which EventSource
    polyfills spell `lastEventId` and Mercure's clients `Last-Event-ID`. Unknown parameters are ignored.

    Args:
        query: the parameters, decoded.
        default: the server's format.

    Returns:
        The request, or a 400 refusal.
    """
    if misspelled := _find_misspelled(query):
        return _bad(f"unknown parameter {quote(misspelled[0])}: expected {misspelled[1]}")
    names: dict[ChannelName, None] = {}
    for text in query.get("channel", []):
        for part in text.split(","):
            name = parse_name(part)
            if isinstance(name, Refusal):
                return name
            names[name] = None
    if not names:
        return _bad("no channel: connect with ?channel=NAME")
    if len(names) > MAX_CHANNELS:
        return _bad(f"{len(names)} channels; at most {MAX_CHANNELS} are taken")
    wanted = query.get("format", [default.value])
    if len(wanted) > 1 or wanted[0] not in Format.__members__.values():
        return _bad(f"format={quote(', '.join(wanted))}: expected raw, json or redis")
    binary = query.get("binary", ["0"])
    if len(binary) > 1 or binary[0] not in ("0", "1"):
        return _bad(f"binary={quote(', '.join(binary))}: expected 0 or 1")
    last_event_id = _last_event_id(query, len(names))
    if isinstance(last_event_id, Refusal):
        return last_event_id
    return RawSubscribeRequest(tuple(names), Format(wanted[0]), binary[0] == "1", last_event_id)


def _last_event_id(query: Mapping[str, list[str]], channels: int) -> str | Refusal:
    """
    Find the position of a client that returns.

    A library that connects again appends the id of the last event under its own name to the page's URL, so that one
    goes before `last_event_id`. If it is not an id of ours, the client is told of a gap: a 400 would stop it for good.
    """
    libraries = (name for name in query if name != "last_event_id" and _fold(name) == _LAST_EVENT_ID)
    if values := {value for name in libraries for value in query[name] if value}:
        found = values.pop()
        return found if not values and _is_position(found, channels) else UNKNOWN_PLACE
    last = query.get("last_event_id", [""])
    if len(last) > 1 or not (last[0] in ("", UNKNOWN_PLACE) or _is_position(last[0], channels)):
        return _bad("last_event_id: expected EPOCH:OFFSET of each channel, or a dash, with commas between")
    return last[0]


def _is_position(text: str, channels: int) -> bool:
    places = text.split(",", channels)
    return len(places) == channels and all(map(_PLACE.fullmatch, places))


@dataclass(frozen=True, slots=True)
class Access:
    """Which channels clients may name."""

    patterns: Patterns | None
    """None where the server's options name none."""
    loopback_only: bool
    """The server can be reached from this machine only."""

    @property
    def closed(self) -> bool:
        """Whether nobody may listen to anything without a token."""
        return self.patterns is None and not self.loopback_only

    def refuse(self, channel: ChannelName, host: str) -> Refusal | None:
        """
        Say why a client may not listen to a channel.

        Args:
            channel: which.
            host: the Host header of its request.

        Returns:
            None where it may, else 403.
        """
        if self.patterns is not None:
            if channel in self.patterns:
                return None
            return _forbidden(
                f"the channel {quote(channel)} is not open; the server's option --channel-allow opens one"
            )
        if not self.loopback_only:
            return _forbidden("no channel is open on a server that others can reach until --channel-allow names some")
        origin = origin_of(f"http://{host}")
        # A page whose name was made to point to this machine (DNS rebinding) comes with its own name.
        if origin is None or not is_loopback(origin):
            return _forbidden(f"channels are open to localhost, not as {quote(host)}, until --channel-allow names some")
        return None


def _forbidden(reason: str) -> Refusal:
    return Refusal(HTTPStatus.FORBIDDEN, reason)


def _bad(reason: str) -> Refusal:
    return Refusal(HTTPStatus.BAD_REQUEST, reason)
