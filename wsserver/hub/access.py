"""
Access: the check which channels clients may subscribe to without a token that permits the channel.

This module does not use Twisted, a clock or a socket.
"""

from dataclasses import dataclass
from typing import Final

from wsserver.hub.names import NotAllowed
from wsserver.hub.rules import Rules
from wsserver.origins import describe_host, is_loopback_host
from wsserver.text import quote
from wsserver.typing import ChannelName

__all__ = ["Access", "is_user_limited"]

# The defaults of Centrifugo's options channel.user_boundary and channel.user_separator.
_USER_BOUNDARY: Final = "#"
_USER_SEPARATOR: Final = ","


def is_user_limited(rules: Rules, channel: ChannelName) -> bool:
    """
    Return whether the name of a channel lists its users, as `dialog#42,43` does.

    Args:
        rules: the rules of the channels; only some channels may be user-limited.
        channel: the channel's name.
    """
    return _USER_BOUNDARY in channel and rules.for_channel(channel).allow_user_limited_channels


@dataclass(frozen=True, slots=True)
class Access:
    """Decides which channels clients may subscribe to without a token that permits the channel."""

    rules: Rules
    """The rules of the channels, which --channel-allow and `[[channel]]` tables define."""
    loopback_only: bool
    """Whether only this machine can reach the server: it listens on loopback only, and has no trusted proxy."""

    @property
    def closed(self) -> bool:
        """Whether every subscription needs a token or the backend's permission."""
        return not self.rules.opens_channels and not self.loopback_only

    def refuse(self, channel: ChannelName, user: str, host: str, *, has_hook: bool = False) -> NotAllowed | None:
        """
        Check whether a client may subscribe to a channel.

        If no option opens or closes the channel, there are two cases. If only this machine can reach the server, the
        client used a loopback host name, such as localhost, without a proxy, and there is no subscribe hook, the
        channel is allowed. Otherwise, it is not.

        Args:
            channel: the channel's name.
            user: the client's user ID; empty if the client is anonymous.
            host: the Host header of the client's request; empty if a proxy has forwarded it.
            has_hook: whether there is a subscribe hook. Loopback then opens no channels.

        Returns:
            The reason why the client may not subscribe; None if it may.
        """
        rule = self.rules.for_channel(channel)
        if is_user_limited(self.rules, channel):
            if user and user in channel.rpartition(_USER_BOUNDARY)[2].split(_USER_SEPARATOR):
                return None
            return NotAllowed(f"channel {quote(channel)} is not allowed: its name does not list the client's user")
        if not (user or rule.allow_subscribe_for_anonymous):
            return NotAllowed(f"channel {quote(channel)} is not allowed for clients without a user")
        if rule.allow_subscribe_for_client is not None:
            if rule.allow_subscribe_for_client:
                return None
            return NotAllowed(f"channel {quote(channel)} is not allowed; see --channel-allow")
        if has_hook:
            return NotAllowed(f"channel {quote(channel)} is not allowed by the backend (--hook-subscribe)")
        if not self.loopback_only:
            return NotAllowed(
                f"channel {quote(channel)} is not allowed: other machines can reach the server, and "
                f"--channel-allow is not set"
            )
        # Against DNS rebinding: a website whose host name resolves to 127.0.0.1 could connect to this server from a
        # browser on this machine. The browser would then send the website's host name in the Host header.
        if not is_loopback_host(host):
            return NotAllowed(
                f"channel {quote(channel)} is not allowed {describe_host(host)}; connect to localhost, or set "
                f"--channel-allow"
            )
        return None
