"""
Channel names and patterns.

This module does not use Twisted, a clock or a socket. It does not depend on HTTP or on a client protocol, either: the
endpoints and the API convert the exceptions of this module into their own errors.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from wsserver.errors import InvalidChannel, ReservedChannel
from wsserver.text import quote
from wsserver.typing import ChannelName

__all__ = ["MAX_CHANNELS", "MAX_NAME", "PRIVATE", "NotAllowed", "Patterns", "check_name", "parse_name"]

# Other servers: Centrifugo 255, nchan 512, soketi 200.
MAX_NAME: Final = 255
"""Maximum length of a channel name, in bytes of its UTF-8 encoding."""

MAX_CHANNELS: Final = 128
"""Maximum number of channels that one connection may subscribe to."""

PRIVATE: Final = "wsserver:"
"""Prefix of the keys and channels that the server itself uses in Redis. Channel names with this prefix are refused."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def parse_name(text: str) -> ChannelName:
    """
    Check a channel name from a client or a backend.

    Args:
        text: the name.

    Returns:
        The name.

    Raises:
        ReservedChannel: the name begins with `PRIVATE`.
        InvalidChannel: the name is empty, too long, not encodable as UTF-8, or contains a control character.
    """
    if not text:
        raise InvalidChannel("channel name is empty")
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError:
        raise InvalidChannel(f"channel name {quote(text)} contains half of a surrogate pair") from None
    if size > MAX_NAME:
        raise InvalidChannel(f"channel name {quote(text)} is {size} bytes long; expected at most {MAX_NAME}")
    # Most names are printable: checking this is much faster than the search.
    if not text.isprintable() and _CONTROL.search(text):
        raise InvalidChannel(f"channel name {quote(text)} contains a control character")
    if text.startswith(PRIVATE):
        raise ReservedChannel(f"channel name {quote(text)} is reserved: names that begin with {PRIVATE} are internal")
    return ChannelName(text)


def check_name(channel: str) -> ChannelName:
    """
    Check a channel name that an embedding application has passed.

    Args:
        channel: the name.

    Returns:
        The name.

    Raises:
        TypeError: the name is not a str.
        InvalidChannel: the name is invalid or reserved. The exception is also a ValueError.
    """
    if not isinstance(channel, str):
        raise TypeError(f"channel must be str, not {type(channel).__name__}")
    return parse_name(channel)


class Patterns:
    """
    A set of channel names and patterns; `name in patterns` returns whether one of them matches.

    Args:
        patterns: names and patterns, such as `news`, `chat:*` and `*`. An asterisk matches any number of characters.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        parts = [pattern.split("*") for pattern in patterns]
        self._everything = ["", ""] in parts
        self._names = frozenset(part[0] for part in parts if len(part) == 1)
        self._patterns = [(part[0], [piece for piece in part[1:-1] if piece], part[-1]) for part in parts if part[1:]]

    def __contains__(self, name: str) -> bool:
        return self._everything or name in self._names or any(_matches(name, *pattern) for pattern in self._patterns)


def _matches(name: str, start: str, pieces: list[str], end: str) -> bool:
    # Each piece is matched at its first occurrence, which leaves the longest rest for the following pieces. So there is
    # no backtracking. A regular expression would backtrack, and a caller of the API could choose a slow pattern.
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
class NotAllowed:
    """The result of `wsserver.hub.access.Access.refuse` for a channel that the client may not subscribe to."""

    reason: str
    """The reason, written for the developer of the client."""
