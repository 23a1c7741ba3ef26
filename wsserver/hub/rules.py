"""
Channel rules: history size, presence, publish permission and slow consumer policy of each channel.

This module does not use Twisted, a clock or a socket.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from wsserver.config.settings import Settings
from wsserver.errors import NotEnabled
from wsserver.hub.names import Patterns
from wsserver.hub.stream import Keep
from wsserver.text import quote
from wsserver.typing import ChannelName

__all__ = ["Rule", "Rules"]


@dataclass(frozen=True, slots=True)
class Rule:
    """The options of a channel."""

    history_size: int = 100
    """Maximum number of publications in the history; 0 for no history, and then publications have no offset."""
    history_ttl: float = 60.0
    """Seconds that the history is kept after the last publication; 0 for no history."""
    presence: bool = False
    """Whether presence is tracked, and join and leave events are sent."""
    publish: bool = False
    """Whether clients may publish to the channel."""
    slow: str = "close"
    """The slow consumer policy: `close`, `drop-oldest` or `latest`; see `wsserver.hub.send_queue`."""

    @property
    def keep(self) -> Keep | None:
        """How much of the stream to keep; None if the channel has no history."""
        return Keep(self.history_size, self.history_ttl) if self.history_size and self.history_ttl else None


class Rules:
    """
    The rules of all channels.

    Args:
        default: the rule of channels that no pattern matches; its `publish` and `presence` are ignored.
        publish: patterns of the channels that clients may publish to.
        presence: patterns of the channels whose presence is tracked.
        overrides: pairs of a pattern and the fields of the rule that differ; only the first matching pattern applies.
    """

    def __init__(
        self,
        default: Rule = Rule(),
        publish: Iterable[str] = (),
        presence: Iterable[str] = (),
        overrides: Iterable[tuple[str, Mapping[str, Any]]] = (),
    ) -> None:
        self._default = default
        self._publish, self._presence = Patterns(publish), Patterns(presence)
        self._overrides = [(Patterns([pattern]), fields) for pattern, fields in overrides]
        self.for_channel = lru_cache(maxsize=65_536)(self._find)
        """Return a channel's rule; the results are cached."""

    @classmethod
    def from_settings(cls, settings: Settings) -> "Rules":
        """Build the rules from the server's options."""
        default = Rule(settings.history_size, settings.history_ttl, slow=settings.slow)
        return cls(default, settings.channel_publish, settings.channel_presence, settings.channel)

    def require_presence(self, channel: ChannelName) -> None:
        """Raise `NotEnabled` if the channel's presence is not tracked."""
        if not self.for_channel(channel).presence:
            raise NotEnabled(f"presence is not enabled for channel {quote(channel)}; see --channel-presence")

    def require_history(self, channel: ChannelName) -> None:
        """Raise `NotEnabled` if the channel keeps no history."""
        if self.for_channel(channel).keep is None:
            raise NotEnabled(f"history is not enabled for channel {quote(channel)}; see --history-size")

    def _find(self, channel: ChannelName) -> Rule:
        rule = replace(self._default, publish=channel in self._publish, presence=channel in self._presence)
        for patterns, fields in self._overrides:
            if channel in patterns:
                return replace(rule, **fields)
        return rule
