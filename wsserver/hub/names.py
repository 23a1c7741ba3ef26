"""
Channel names and patterns, the channels that clients may subscribe to, and the query of a raw subscriber.

Rule 1: no Twisted, no clock, no socket.
Rule 2: a refusal of a client's request is a return value, not an exception.
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
from wsserver.wire.http11 import Refusal, bad_request, forbidden

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
"""Maximum length of a channel name, in bytes of UTF-8."""

MAX_CHANNELS: Final = 128
"""Maximum number of channels of a connection."""

PRIVATE: Final = "wsserver:"
"""Prefix of the server's own keys and channels in Redis. Channel names with this prefix are refused."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Format(StrEnum):
    """The format in which a raw subscriber receives publications."""

    RAW = "raw"
    """The data alone; see `wsserver.hub.publication.Publication.as_bytes`."""
    JSON = "json"
    """A JSON object: `{"channel":"foo","data":...,"offset":7,"epoch":"qFhv"}`."""
    REDIS = "redis"
    """The message that Redis sends to its subscribers, as JSON: `["message","foo","hello"]`."""


def parse_name(text: str) -> ChannelName | Refusal:
    """
    Check a channel name from a client or a backend.

    Args:
        text: the name.

    Returns:
        The name, or a refusal: 400 if the name is invalid, 403 if it has the prefix of the server's own names.
    """
    if not text:
        return bad_request("the name of a channel is empty")
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError:
        return bad_request("the name of a channel contains half a surrogate pair")
    if size > MAX_NAME:
        return bad_request(f"the name of a channel is over {MAX_NAME} bytes")
    if _CONTROL.search(text):
        return bad_request(f"a control character in the name of a channel: {quote(text)}")
    if text.startswith(PRIVATE):
        return Refusal(HTTPStatus.FORBIDDEN, f"names that begin with {PRIVATE} are the server's own")
    return ChannelName(text)


def check_name(channel: str) -> ChannelName:
    """
    Check a channel name from an application.

    Args:
        channel: the name.

    Returns:
        The name.

    Raises:
        TypeError: the name is not a str.
        ValueError: the name is invalid.
    """
    if not isinstance(channel, str):
        raise TypeError(f"channel must be str, not {type(channel).__name__}")
    name = parse_name(channel)
    if isinstance(name, Refusal):
        raise ValueError(name.reason)
    return name


class Patterns:
    """
    A set of channel names and patterns; `name in patterns` returns whether one of them matches.

    Args:
        patterns: names and patterns, such as `news`, `chat:*` and `*`. An asterisk matches any number of characters.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        parts = [pattern.split("*") for pattern in patterns]
        self._names = frozenset(part[0] for part in parts if len(part) == 1)
        self._patterns = [(part[0], [piece for piece in part[1:-1] if piece], part[-1]) for part in parts if part[1:]]

    def __contains__(self, name: str) -> bool:
        return name in self._names or any(_matches(name, *pattern) for pattern in self._patterns)


def _matches(name: str, start: str, pieces: list[str], end: str) -> bool:
    # Each piece is matched at its first occurrence, which leaves the longest rest for the following pieces, so there is
    # no backtracking. A regular expression would backtrack, and callers of the API choose the pattern.
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
    """The channels and options in the query of a raw subscriber."""

    channels: tuple[ChannelName, ...]
    """The channels without duplicates, in the order of the query."""
    format: Format
    """The format of the publications."""
    binary: bool
    """Whether every message is sent as binary."""
    last_event_id: str = ""
    """The positions in the channels from which to recover, or `UNKNOWN_PLACE`; empty to begin with new publications."""


UNKNOWN_PLACE: Final = ":"
"""The `last_event_id` of a client that sent an event id of another server: it is notified of a gap in every channel."""

_PLACE = re.compile(r"-|[A-Za-z0-9_-]{1,64}:[0-9]{1,18}")
_PARAMETERS: Final = {"channel", "format", "binary", "last_event_id", "token", "access_token"}
_LAST_EVENT_ID: Final = "lasteventid"
_FOLDED: Final = {name.replace("_", ""): name for name in _PARAMETERS}


def _fold(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()


def _find_misspelled(names: Iterable[str]) -> tuple[str, str] | None:
    """
    Find a query parameter that is probably a misspelled parameter of this server.

    Other unknown parameters are accepted, because libraries and proxies add some, such as `_`, `v` and `utm_source`.

    Args:
        names: the names of the parameters.

    Returns:
        The misspelled name and the parameter that it resembles; None if no parameter is misspelled.
    """
    for name in sorted(set(names) - _PARAMETERS):
        folded = _fold(name)
        if folded != _LAST_EVENT_ID and (near := get_close_matches(folded, _FOLDED, n=1, cutoff=0.8)):
            return name, _FOLDED[near[0]]
    return None


def parse_query(query: Mapping[str, list[str]], default: Format) -> RawSubscribeRequest | Refusal:
    """
    Parse the query of a raw subscriber.

    The parameters are `channel=a&channel=b` or `channel=a,b`, `format=raw|json|redis`, `binary=1`, and
    `last_event_id=`, which EventSource polyfills spell `lastEventId` and Mercure's clients `Last-Event-ID`. Unknown
    parameters are ignored unless they resemble one of these.

    Args:
        query: the decoded parameters.
        default: the format to use if the query has none.

    Returns:
        The request, or a refusal: 400, or 403 for one of the server's own names.
    """
    if misspelled := _find_misspelled(query):
        return bad_request(f"unknown parameter {quote(misspelled[0])}: expected {misspelled[1]}")
    names: dict[ChannelName, None] = {}
    for text in query.get("channel", []):
        for part in text.split(","):
            name = parse_name(part)
            if isinstance(name, Refusal):
                return name
            names[name] = None
    if not names:
        return bad_request("no channel: connect with ?channel=NAME")
    if len(names) > MAX_CHANNELS:
        return bad_request(f"{len(names)} channels; at most {MAX_CHANNELS} are taken")
    wanted = query.get("format", [default.value])
    if len(wanted) > 1 or wanted[0] not in Format.__members__.values():
        return bad_request(f"format={quote(', '.join(wanted))}: expected raw, json or redis")
    binary = query.get("binary", ["0"])
    if len(binary) > 1 or binary[0] not in ("0", "1"):
        return bad_request(f"binary={quote(', '.join(binary))}: expected 0 or 1")
    last_event_id = _last_event_id(query, len(names))
    if isinstance(last_event_id, Refusal):
        return last_event_id
    return RawSubscribeRequest(tuple(names), Format(wanted[0]), binary[0] == "1", last_event_id)


def _last_event_id(query: Mapping[str, list[str]], channels: int) -> str | Refusal:
    """
    Return the last event id of a returning client.

    A library that reconnects appends the id of the last event to the URL that the page has passed, under the library's
    own parameter name. That parameter therefore takes precedence over `last_event_id`. If it is not an id of this
    server, the client is notified of a gap; after a 400, the library would not connect again.

    Args:
        query: the decoded parameters.
        channels: the number of channels, and thus of positions in the id.

    Returns:
        The id, empty if there is none, or `UNKNOWN_PLACE`; a 400 refusal if `last_event_id` is invalid.
    """
    libraries = (name for name in query if name != "last_event_id" and _fold(name) == _LAST_EVENT_ID)
    if values := {value for name in libraries for value in query[name] if value}:
        found = values.pop()
        return found if not values and _is_position(found, channels) else UNKNOWN_PLACE
    last = query.get("last_event_id", [""])
    if len(last) > 1 or not (last[0] in ("", UNKNOWN_PLACE) or _is_position(last[0], channels)):
        return bad_request("last_event_id: expected EPOCH:OFFSET of each channel, or a dash, with commas between")
    return last[0]


def _is_position(text: str, channels: int) -> bool:
    places = text.split(",", channels)
    return len(places) == channels and all(map(_PLACE.fullmatch, places))


@dataclass(frozen=True, slots=True)
class Access:
    """The channels that clients may subscribe to without a token, by the option --channel-allow."""

    patterns: Patterns | None
    """The allowed channels; None if the option is not set."""
    loopback_only: bool
    """Whether the server can only be reached from this machine."""

    @property
    def closed(self) -> bool:
        """Whether no channel at all may be subscribed to without a token."""
        return self.patterns is None and not self.loopback_only

    def refuse(self, channel: ChannelName, host: str) -> Refusal | None:
        """
        Check whether a client may subscribe to a channel.

        If --channel-allow is not set, every channel is allowed while the server listens on loopback only and the client
        has connected to a loopback host name; otherwise none is.

        Args:
            channel: the channel's name.
            host: the Host header of the client's request.

        Returns:
            A 403 refusal, or None if the client may subscribe.
        """
        if self.patterns is not None:
            if channel in self.patterns:
                return None
            return forbidden(f"the channel {quote(channel)} is not open; the server's option --channel-allow opens one")
        if not self.loopback_only:
            return forbidden("no channel is open on a server that others can reach until --channel-allow names some")
        origin = origin_of(f"http://{host}")
        # DNS rebinding: an attacker's host name resolves to this machine. The browser then sends that name as Host.
        if origin is None or not is_loopback(origin):
            return forbidden(f"channels are open to localhost, not as {quote(host)}, until --channel-allow names some")
        return None
