"""
What holds for a channel: how much of it is kept, who is told of whom, who may publish.

Rule 1: no Twisted, no clock, no socket.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from wsserver.config.settings import Settings
from wsserver.hub.names import Patterns
from wsserver.hub.stream import Keep
from wsserver.typing import ChannelName

__all__ = ["Rule", "Rules"]


@dataclass(frozen=True, slots=True)
class Rule:
    """What holds for a channel."""

    history_size: int = 100
    """Most publications that are kept; 0 for none, and then they have no offset."""
    history_ttl: float = 60.0
    """Seconds that they are kept after the last one."""
    presence: bool = False
    """Who is on it is known, and told."""
    publish: bool = False
    """Clients may publish to it."""
    slow: str = "close"
    """What happens to a subscriber that does not read: `close`, `drop-oldest` or `latest`."""

    @property
    def keep(self) -> Keep | None:
        """How much is kept; None for nothing."""
        return Keep(self.history_size, self.history_ttl) if self.history_size and self.history_ttl else None


class Rules:
    """
    The rule of each channel.

    Args:
        default: for channels that no pattern fits.
        publish: patterns of the channels that clients may publish to.
        presence: patterns of the channels whose presence is kept.
        more: pattern -> the parts of the rule that differ; the first one that fits counts.
    """

    def __init__(
        self,
        default: Rule = Rule(),
        publish: Iterable[str] = (),
        presence: Iterable[str] = (),
        more: Iterable[tuple[str, Mapping[str, Any]]] = (),
    ) -> None:
        self._default = default
        self._publish, self._presence = Patterns(publish), Patterns(presence)
        self._more = [(Patterns([pattern]), parts) for pattern, parts in more]
        self.for_channel = lru_cache(maxsize=65_536)(self._find)
        """Channel -> its rule."""

    @classmethod
    def from_settings(cls, settings: Settings) -> "Rules":
        """Take them from the server's options."""
        default = Rule(settings.history_size, settings.history_ttl, slow=settings.slow)
        return cls(default, settings.channel_publish, settings.channel_presence, settings.channel)

    def _find(self, channel: ChannelName) -> Rule:
        rule = replace(self._default, publish=channel in self._publish, presence=channel in self._presence)
        for patterns, parts in self._more:
            if channel in patterns:
                return replace(rule, **parts)
        return rule
