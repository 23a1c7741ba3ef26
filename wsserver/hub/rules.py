"""
Channel rules: the history size, presence, publish permission and slow consumer policy of each channel.

This module does not use Twisted, a clock or a socket.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from wsserver.config.settings import Settings
from wsserver.errors import NotEnabled
from wsserver.hub.names import Patterns
from wsserver.hub.stream import Keep
from wsserver.text import quote
from wsserver.typing import ChannelName

__all__ = ["Rule", "Rules"]

_FOR_CLIENT = ("presence_for_client", "history_for_client")


@dataclass(frozen=True, slots=True)
class Rule:
    """The options of one channel."""

    history_size: int = 100
    """Maximum number of publications in the history. 0 for no history; publications then have no offset."""
    history_ttl: float = 60.0
    """Seconds for which the history is kept after the last publication; 0 for no history."""
    presence: bool = False
    """Whether presence (the list of subscribed clients) is tracked, and clients are sent join and leave events."""
    publish: bool = False
    """Whether clients may publish to the channel."""
    presence_for_client: bool = False
    """Whether clients that are not subscribed to the channel may read its presence."""
    history_for_client: bool = False
    """Whether clients that are not subscribed to the channel may read its history."""
    slow: str = "close"
    """The slow consumer policy: `close`, `drop-oldest` or `latest`; see `wsserver.hub.send_queue`."""

    keep: Keep | None = field(init=False)
    """How much of the channel's stream the broker keeps; None if the channel has no history."""

    def __post_init__(self) -> None:
        """Set `keep`, which is read for each publication."""
        has_history = self.history_size and self.history_ttl
        object.__setattr__(self, "keep", Keep(self.history_size, self.history_ttl) if has_history else None)


class Rules:
    """
    The rules of all channels.

    Args:
        default: the rule of all channels, except for its `publish` and `presence`, which the next arguments replace.
        publish: patterns of the channels that clients may publish to.
        presence: patterns of the channels whose presence is tracked.
        overrides: pairs of a channel pattern and the fields of the rule to change for channels that match it. If
            several patterns match, only the first pair applies.
        forced: fields of the rule of every channel, whatever the other arguments are.
    """

    def __init__(
        self,
        default: Rule = Rule(),
        publish: Iterable[str] = (),
        presence: Iterable[str] = (),
        overrides: Iterable[tuple[str, Mapping[str, Any]]] = (),
        *,
        forced: Mapping[str, Any] = {},
    ) -> None:
        self._default = default
        self._publish, self._presence = Patterns(publish), Patterns(presence)
        self._overrides = [(Patterns([pattern]), fields) for pattern, fields in overrides]
        self._forced = forced
        self.for_channel = lru_cache(maxsize=65_536)(self._find)
        """A function that returns a channel's rule; its results are cached."""

    @classmethod
    def from_settings(cls, settings: Settings) -> "Rules":
        """Return the rules that the server's options define."""
        default = Rule(settings.history_size, settings.history_ttl, slow=settings.slow)
        # A publish hook still decides.
        forced = {"publish": not settings.hook_publish, **dict.fromkeys(_FOR_CLIENT, True)} if settings.insecure else {}
        return cls(default, settings.channel_publish, settings.channel_presence, settings.channel, forced=forced)

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
                rule = replace(rule, **fields)
                break
        return replace(rule, **self._forced)
