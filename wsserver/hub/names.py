"""
Channel names and patterns, and the channels that clients may subscribe to without a token.

This module does not use Twisted, a clock or a socket.
It knows neither HTTP nor a client protocol: the endpoints and the API convert its errors.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from wsserver.errors import InvalidChannel, ReservedChannel
from wsserver.origins import is_loopback, origin_of
from wsserver.text import quote
from wsserver.typing import ChannelName

__all__ = ["MAX_CHANNELS", "MAX_NAME", "PRIVATE", "Access", "NotAllowed", "Patterns", "check_name", "parse_name"]

# Precedents: Centrifugo 255, nchan 512, soketi 200.
MAX_NAME: Final = 255
"""Maximum length of a channel name, in bytes of UTF-8."""

MAX_CHANNELS: Final = 128
"""Maximum number of channels of a connection."""

PRIVATE: Final = "wsserver:"
"""Prefix of the server's own keys and channels in Redis. Channel names with this prefix are refused."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def parse_name(text: str) -> ChannelName:
    """
    Check a channel name from a client or a backend.

    Args:
        text: the name.

    Returns:
        The name.

    Raises:
        ReservedChannel: the name has the prefix of the server's own names.
        InvalidChannel: the name is invalid.
    """
    if not text:
        raise InvalidChannel("channel name is empty")
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError:
        raise InvalidChannel(f"channel name {quote(text)} contains half of a surrogate pair") from None
    if size > MAX_NAME:
        raise InvalidChannel(f"channel name {quote(text)} is {size} bytes long; expected at most {MAX_NAME}")
    if _CONTROL.search(text):
        raise InvalidChannel(f"channel name {quote(text)} contains a control character")
    if text.startswith(PRIVATE):
        raise ReservedChannel(f"channel name {quote(text)} is reserved: names that begin with {PRIVATE} are internal")
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
        InvalidChannel: the name is invalid or reserved. It is a ValueError.
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
class NotAllowed:
    """The result for a channel that a client may not subscribe to."""

    reason: str
    """The reason, for the developer of the client."""


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

    def refuse(self, channel: ChannelName, host: str) -> NotAllowed | None:
        """
        Check whether a client may subscribe to a channel.

        If --channel-allow is not set, every channel is allowed while the server listens on loopback only and the client
        has connected to a loopback host name; otherwise none is.

        Args:
            channel: the channel's name.
            host: the Host header of the client's request.

        Returns:
            Why the client may not subscribe; None if it may.
        """
        if self.patterns is not None:
            if channel in self.patterns:
                return None
            return NotAllowed(f"channel {quote(channel)} is not allowed; see --channel-allow")
        if not self.loopback_only:
            return NotAllowed(
                f"channel {quote(channel)} is not allowed: the server listens beyond loopback and --channel-allow is "
                f"not set"
            )
        origin = origin_of(f"http://{host}")
        # DNS rebinding: an attacker's host name resolves to this machine. The browser then sends that name as Host.
        if origin is None or not is_loopback(origin):
            return NotAllowed(
                f"channel {quote(channel)} is not allowed for host {quote(host)}; connect to localhost, or set "
                f"--channel-allow"
            )
        return None
