"""
The query of a raw subscriber: `/ws?channel=foo` and `/sse?channel=foo`.

This module does not use Twisted, a clock or a socket.
A refusal of a client's request is a return value, not an exception.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from typing import Final

from wsserver.config.channel_settings import MAX_REWIND
from wsserver.endpoints.refusals import refusal_for
from wsserver.errors import InvalidChannel, InvalidFilter
from wsserver.hub.filters import Filter, parse_conditions
from wsserver.hub.names import parse_name
from wsserver.text import quote
from wsserver.typing import ChannelName
from wsserver.wire.http11 import Refusal, bad_request

__all__ = ["UNKNOWN_POSITION", "Format", "RawSubscribeRequest", "parse_query"]


class Format(StrEnum):
    """The format in which a raw subscriber receives publications."""

    RAW = "raw"
    """The data alone; see `wsserver.hub.publication.Publication.as_bytes`."""
    JSON = "json"
    """A JSON object: `{"channel":"foo","data":...,"offset":7,"epoch":"qFhv"}`."""
    REDIS = "redis"
    """The message that Redis sends to its subscribers, as JSON: `["message","foo","hello"]`."""


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
    """The positions from which to recover, or `UNKNOWN_POSITION`; empty to receive new publications only."""
    rewind: int | None = None
    """
    Maximum number of earlier publications of each channel to receive first; None for the number in the channel's
    options. They are not sent for channels with a position from which the server can recover.
    """
    filter: Filter | None = None
    """Only publications that match this filter are sent; None for all."""


UNKNOWN_POSITION: Final = ":"
"""The `last_event_id` of a client that sent an ID in another form: the client is notified of a gap in each channel."""

_NUMBER: Final = re.compile(r"[0-9]{1,9}")
_POSITION = re.compile(r"-|[A-Za-z0-9_-]{1,64}:[0-9]{1,18}")
_PARAMETERS: Final = {"channel", "format", "binary", "filter", "last_event_id", "rewind", "token", "access_token"}
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

    The parameters are `channel=a&channel=b` or `channel=a,b`, `format=raw|json|redis`, `binary=1`, `rewind=N`,
    `filter=` as `wsserver.hub.filters.parse_conditions` describes it, and `last_event_id=`, which EventSource polyfills
    spell `lastEventId` and Mercure's clients `Last-Event-ID`. Unknown parameters are ignored unless they resemble one
    of these.

    Args:
        query: the decoded parameters.
        default: the format to use if the query has none.

    Returns:
        The request, or a refusal: 400, or 403 for a channel name that is reserved for the server.
    """
    if misspelled := _find_misspelled(query):
        return bad_request(f"unknown parameter {quote(misspelled[0])}: expected {misspelled[1]}")
    channels = _channels(query)
    if isinstance(channels, Refusal):
        return channels
    wanted = query.get("format", [default.value])
    if len(wanted) > 1 or wanted[0] not in Format.__members__.values():
        return bad_request(f"format={quote(', '.join(wanted))}: expected raw, json or redis")
    binary = query.get("binary", ["0"])
    if len(binary) > 1 or binary[0] not in ("0", "1"):
        return bad_request(f"binary={quote(', '.join(binary))}: expected 0 or 1")
    rewind = query.get("rewind", [])
    if rewind and (len(rewind) > 1 or not _NUMBER.fullmatch(rewind[0]) or int(rewind[0]) > MAX_REWIND):
        return bad_request(f"rewind={quote(', '.join(rewind))}: expected a whole number from 0 to {MAX_REWIND}")
    last_event_id = _last_event_id(query, len(channels))
    if isinstance(last_event_id, Refusal):
        return last_event_id
    try:
        found = parse_conditions(query["filter"], "filter") if "filter" in query else None
    except InvalidFilter as error:
        return refusal_for(error)
    return RawSubscribeRequest(
        channels, Format(wanted[0]), binary[0] == "1", last_event_id, int(rewind[0]) if rewind else None, found
    )


def _channels(query: Mapping[str, list[str]]) -> tuple[ChannelName, ...] | Refusal:
    """Return the channels that a query names, without duplicates."""
    names: dict[ChannelName, None] = {}
    for text in query.get("channel", []):
        for part in text.split(","):
            try:
                names[parse_name(part)] = None
            except InvalidChannel as error:
                return refusal_for(error)
    if not names:
        return bad_request("no channel in the URL: expected ?channel=NAME")
    return tuple(names)


def _last_event_id(query: Mapping[str, list[str]], channels: int) -> str | Refusal:
    """
    Return the last event ID that a reconnecting client received.

    A library that reconnects appends this ID to the URL that the page has passed to it, under the library's own
    parameter name. That parameter therefore takes precedence over `last_event_id`. If its value is not an ID in the
    form of this server, the result is `UNKNOWN_POSITION`: after a 400, the library would not connect again.

    Args:
        query: the decoded parameters.
        channels: the number of channels, and thus of positions in the ID.

    Returns:
        The ID, empty if there is none, or `UNKNOWN_POSITION`; a 400 refusal if `last_event_id` is invalid.
    """
    libraries = (name for name in query if name != "last_event_id" and _fold(name) == _LAST_EVENT_ID)
    if values := {value for name in libraries for value in query[name] if value}:
        found = values.pop()
        return found if not values and _is_position(found, channels) else UNKNOWN_POSITION
    last = query.get("last_event_id", [""])
    if len(last) > 1 or not (last[0] in ("", UNKNOWN_POSITION) or _is_position(last[0], channels)):
        return bad_request(f"last_event_id={quote(', '.join(last))}: expected EPOCH:OFFSET or a dash for each channel")
    return last[0]


def _is_position(text: str, channels: int) -> bool:
    positions = text.split(",", channels)
    return len(positions) == channels and all(map(_POSITION.fullmatch, positions))
