"""
Channel rules: the history size, presence, permissions and slow consumer policy of each channel.

This module does not use Twisted, a clock or a socket.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final

from wsserver.config.settings import Settings
from wsserver.errors import InvalidFilter, NotEnabled
from wsserver.hub.names import Patterns
from wsserver.hub.stream import Keep
from wsserver.text import quote
from wsserver.typing import ChannelName

__all__ = ["Rule", "Rules"]


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
    """Whether clients that are subscribed to the channel, or may subscribe to it, may publish to it."""
    allow_subscribe_for_client: bool | None = None
    """Whether clients may subscribe without a token that permits it; None if no option says so: see `Access`."""
    allow_subscribe_for_anonymous: bool = True
    """Whether this is also true for anonymous clients: those without a user ID."""
    allow_publish_for_subscriber: bool = False
    """Whether subscribers may publish to the channel, but not clients that only may subscribe."""
    allow_publish_for_client: bool = False
    """Whether clients may publish that are not subscribed to the channel, and need not be permitted to subscribe."""
    allow_publish_for_anonymous: bool = True
    """Whether anonymous clients may publish that the other options permit to."""
    allow_presence_for_subscriber: bool = True
    """Whether subscribers may read the channel's presence."""
    allow_presence_for_client: bool = False
    """Whether clients may read it that are not subscribed."""
    allow_presence_for_anonymous: bool = True
    """Whether anonymous clients may read it that the other options permit to."""
    allow_history_for_subscriber: bool = True
    """Whether subscribers may read the channel's history with a command; recovery does not need it."""
    allow_history_for_client: bool = False
    """Whether clients may read it that are not subscribed."""
    allow_history_for_anonymous: bool = True
    """Whether anonymous clients may read it that the other options permit to."""
    allow_tags_filter: bool = False
    """Whether subscribers may filter the publications by their tags."""
    allow_user_limited_channels: bool = False
    """Whether a name with `#` lists the only users that may subscribe, as `dialog#42,43` does."""
    join_leave: bool = True
    """Whether subscribers receive join and leave events, if the channel has presence."""
    force_push_join_leave: bool = False
    """Whether subscribers receive join and leave events without requesting them."""
    hook_subscribe: bool = True
    """Whether the subscribe hook, if there is one, decides about subscriptions that nothing else permits."""
    hook_publish: bool = True
    """Whether the publish hook, if there is one, decides about publications that nothing else permits."""
    rewind: int = 0
    """Number of the last publications that a new subscriber receives first if it requests no other number."""
    force_recovery_mode: str = "stream"
    """
    What a Centrifuge client that recovers receives: `stream`, every publication that it missed; or `cache`, only the
    last publication. The names of the field and of its values are Centrifugo's.
    """
    delta: str = "off"
    """
    Which publications subscribers that request deltas receive as deltas: none (`off`), those whose publisher requests
    it (`requested`), or all (`always`).
    """
    slow: str = "close"
    """The slow consumer policy: `close`, `drop-oldest` or `latest`; see `wsserver.hub.send_queue`."""

    keep: Keep | None = field(init=False)
    """How much of the channel's stream the broker keeps; None if the channel has no history."""

    def __post_init__(self) -> None:
        """Set `keep`, which is read for each publication."""
        has_history = self.history_size and self.history_ttl
        object.__setattr__(self, "keep", Keep(self.history_size, self.history_ttl) if has_history else None)

    def may_publish(self, user: str, *, subscribed: bool, may_subscribe: bool) -> bool:
        """
        Return whether a client may publish to the channel.

        Args:
            user: the client's user ID; empty if the client is anonymous.
            subscribed: whether the client is subscribed.
            may_subscribe: whether the client is subscribed, or may subscribe.
        """
        permitted = (
            self.allow_publish_for_client
            or (subscribed and self.allow_publish_for_subscriber)
            or (may_subscribe and self.publish)
        )
        return permitted and bool(user or self.allow_publish_for_anonymous)

    def may_read_presence(self, user: str, *, subscribed: bool) -> bool:
        """
        Return whether a client may read the channel's presence.

        Args:
            user: the client's user ID; empty if the client is anonymous.
            subscribed: whether the client is subscribed.
        """
        permitted = self.allow_presence_for_client or (subscribed and self.allow_presence_for_subscriber)
        return permitted and bool(user or self.allow_presence_for_anonymous)

    def may_read_history(self, user: str, *, subscribed: bool) -> bool:
        """Return whether a client may read the channel's history; for the arguments see `may_read_presence`."""
        permitted = self.allow_history_for_client or (subscribed and self.allow_history_for_subscriber)
        return permitted and bool(user or self.allow_history_for_anonymous)


_INSECURE: Final[Mapping[str, Any]] = {
    **{name: True for name in Rule.__dataclass_fields__ if re.fullmatch("allow_.*_for_.*", name)},
    "allow_subscribe_for_client": None,
    "allow_user_limited_channels": False,
}
"""The fields of every rule with --insecure: clients may do everything, if they connect to a loopback host name."""


class Rules:
    """
    The rules of all channels.

    Args:
        default: the rule of all channels, except for the fields that the next arguments replace.
        publish: patterns of the channels that clients may publish to.
        presence: patterns of the channels whose presence is tracked.
        allow: patterns of the channels that clients may subscribe to without a token; None if no option names any.
        overrides: pairs of a channel pattern and the fields of the rule to change for channels that match it. If
            several patterns match, only the first pair applies.
        forced: fields of the rule of every channel, whatever the other arguments are.
    """

    def __init__(
        self,
        default: Rule = Rule(),
        publish: Iterable[str] = (),
        presence: Iterable[str] = (),
        overrides: Sequence[tuple[str, Mapping[str, Any]]] = (),
        *,
        allow: Iterable[str] | None = None,
        forced: Mapping[str, Any] = {},
    ) -> None:
        self._default = default
        self._publish, self._presence = Patterns(publish), Patterns(presence)
        self._allow = Patterns(allow) if allow is not None else None
        self._overrides = [(Patterns([pattern]), fields) for pattern, fields in overrides]
        self._forced = forced
        opening = ("allow_subscribe_for_client", "allow_user_limited_channels")
        self.opens_channels = allow is not None or any(fields.get(name) for _, fields in overrides for name in opening)
        """Whether an option opens channels to clients without a token that permits the channel."""
        # Channels share their rules: one takes 18 us to make, and 240 bytes.
        self._make = lru_cache(maxsize=4096)(self._make_rule)
        self.for_channel = lru_cache(maxsize=65_536)(self._find)
        """A function that returns a channel's rule; its results are cached."""

    @classmethod
    def from_settings(cls, settings: Settings) -> "Rules":
        """Return the rules that the server's options define."""
        default = Rule(settings.history_size, settings.history_ttl, slow=settings.slow)
        return cls(
            default,
            settings.channel_publish,
            settings.channel_presence,
            settings.channel,
            allow=settings.channel_allow or None,
            # A publish hook still decides.
            forced={**_INSECURE, "allow_publish_for_client": not settings.hook_publish} if settings.insecure else {},
        )

    def become(self, other: "Rules") -> None:
        """Replace the rules of all channels with those of another object, which must not be used afterwards."""
        self.__dict__.update(other.__dict__)

    def require_presence(self, channel: ChannelName) -> None:
        """Raise `NotEnabled` if the channel's presence is not tracked."""
        if not self.for_channel(channel).presence:
            raise NotEnabled(f"presence is not enabled for channel {quote(channel)}; see --channel-presence")

    def require_history(self, channel: ChannelName) -> None:
        """Raise `NotEnabled` if the channel keeps no history."""
        if self.for_channel(channel).keep is None:
            raise NotEnabled(f"history is not enabled for channel {quote(channel)}; see --history-size")

    def require_filter(self, channel: ChannelName) -> None:
        """Raise `InvalidFilter` if the channel's subscribers may not filter by tags."""
        if not self.for_channel(channel).allow_tags_filter:
            raise InvalidFilter(f"filters are not enabled for channel {quote(channel)}; set allow_tags_filter")

    def _find(self, channel: ChannelName) -> Rule:
        return self._make(
            channel in self._publish,
            channel in self._presence,
            None if self._allow is None else channel in self._allow,
            next((number for number, (patterns, _) in enumerate(self._overrides) if channel in patterns), None),
        )

    def _make_rule(self, publish: bool, presence: bool, allow: bool | None, override: int | None) -> Rule:
        rule = replace(self._default, publish=publish, presence=presence, allow_subscribe_for_client=allow)
        fields = {} if override is None else self._overrides[override][1]
        return replace(rule, **{**fields, **self._forced})
