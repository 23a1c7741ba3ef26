"""
Channel events: what the application's backend is told about the occupancy of channels.

This module does not use Twisted, a clock or a socket.
"""

from typing import NamedTuple

from wsserver.typing import ChannelName

__all__ = ["ChannelEvent"]


class ChannelEvent(NamedTuple):
    """The event that a channel has been occupied or vacated."""

    channel: ChannelName
    occupied: bool
    """True for `occupied`, False for `vacated`."""
    time_ms: int
    """UNIX time in milliseconds."""
