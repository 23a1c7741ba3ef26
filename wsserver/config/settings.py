"""
All options: `Settings` holds their values, and `TABLE` is the option table.

Flags, environment variables, TOML keys, `genconfig`, `--help` and the options reference are derived from the table.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from wsserver.config.channel_settings import CHANNELS, MAX_REWIND, ChannelSettings
from wsserver.config.insecure import refuse_exposed_interface
from wsserver.config.loader import read_environment, read_file, read_flags
from wsserver.config.options import PREFIX, Option
from wsserver.config.parsers import SECRET, a_choice, a_flag, an_integer, show
from wsserver.errors import SettingError

__all__ = ["BY_CHANNEL", "MIN_SECRET", "TABLE", "Settings"]

MIN_SECRET = 32
"""Minimum size of a secret for signing tokens, in bytes: that of the shortest hash, SHA-256."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings(ChannelSettings):
    """
    The values of all options: durations in seconds, sizes in bytes.

    Arguments are checked like flags. They can also be texts as on the command line: `max_message_size="64KiB"`,
    `ping_interval="25s"`. Repeatable options take a tuple or a list.

    Raises:
        SettingError: an argument has an invalid value; the message names the option and says what was expected.
    """

    channel: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    """The `[[channel]]` tables of the file: pairs of a pattern and the options of its channels. No flag sets it."""

    def __post_init__(self) -> None:
        for option in TABLE.values():
            value = getattr(self, option.name)
            if value is not option.default:
                object.__setattr__(self, option.name, _check(option, option.name, value))
        refuse_exposed_interface(self)
        if self.cases and self.workers != 1:
            raise SettingError("--cases", "expected --workers 1: each process has reports of its own")
        for name in ("token_secret", "token_secret_previous"):
            # RFC 7518 section 3.2: at least as long as the hash. A shorter secret can be found from one token by
            # guessing.
            if 0 < len(getattr(self, name).encode("utf-8")) < MIN_SECRET and not self.token_secret_weak:
                raise SettingError(
                    "--" + name.replace("_", "-"), f"expected {SECRET}; --token-secret-weak permits a shorter one"
                )
        if self.channel:
            object.__setattr__(self, "channel", _check_channels(self.channel, self.history_size))

    @classmethod
    def load(
        cls,
        flags: Mapping[str, Sequence[str]] = {},
        environ: Mapping[str, str] = {},
        config: str | os.PathLike[str] | None = None,
    ) -> Self:
        """
        Load the settings from all sources: flags override environment variables, which override the file.

        Args:
            flags: option name -> the texts given on the command line, in order; `["true"]` for an option that takes no
                value.
            environ: the environment; only names that begin with `WSSERVER_` are read, and an empty value counts as
                unset.
            config: the path of the TOML file; None for the file that `WSSERVER_CONFIG` names, if it is set.

        Returns:
            The settings, complete and checked.

        Raises:
            SettingError: an option is unknown or has an invalid value, or the file is missing or is not TOML.
        """
        path = config if config is not None else environ.get(PREFIX + "CONFIG") or None
        values: dict[str, Any] = {} if path is None else read_file(os.fspath(path), TABLE, BY_CHANNEL)
        values.update(read_environment(environ, TABLE))
        values.update(read_flags(flags, TABLE))
        return cls(**values)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """
        Load the settings from `WSSERVER_...` variables, and from the file that `WSSERVER_CONFIG` names.

        Args:
            environ: the environment.

        Raises:
            SettingError: see `load`.
        """
        return cls.load(environ=environ)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Self:
        """
        Load the settings from a TOML file, as `--config` does, but without reading the environment.

        Args:
            path: path of the file.

        Raises:
            SettingError: see `load`.
        """
        return cls.load(config=path)


TABLE: Mapping[str, Option] = {
    f.name: Option(name=f.name, default=f.default, **f.metadata) for f in dataclasses.fields(Settings) if f.metadata
}
"""Option name -> option, in the order of `--help`."""

BY_CHANNEL: Mapping[str, Option] = {
    **{name: TABLE[name] for name in ("history_size", "history_ttl", "slow")},
    "rewind": Option(
        "rewind",
        an_integer(0, MAX_REWIND),
        show,
        0,
        "Number of the last publications that a new subscriber receives first. Default: 0.",
        CHANNELS,
        "N",
        False,
    ),
    "force_recovery_mode": Option(
        "force_recovery_mode",
        a_choice("stream", "cache"),
        show,
        "stream",
        "What a Centrifuge client that recovers receives: all publications that it missed (stream), or the last one "
        "(cache). Default: stream.",
        CHANNELS,
        "stream|cache",
        False,
    ),
    "delta": Option(
        "delta",
        a_choice("off", "requested", "always"),
        show,
        "off",
        "Which publications Centrifuge clients that request deltas receive as deltas: none (off), those that are "
        "published with delta (requested), or all (always). Default: off.",
        CHANNELS,
        "off|requested|always",
        False,
    ),
    **{
        name: Option(name, a_flag, show, False, text, CHANNELS, "", False)
        for name, text in (
            ("presence", "Whether the server keeps presence, as with --channel-presence."),
            ("publish", "Whether Centrifuge clients may publish, as with --channel-publish."),
            ("allow_subscribe_for_client", "Whether clients may subscribe, as with --channel-allow."),
            ("allow_publish_for_subscriber", "Whether subscribers may publish, but no other clients."),
            (
                "allow_publish_for_client",
                "Whether clients may publish, even if they are not and may not be subscribed.",
            ),
            ("allow_presence_for_client", "Whether clients may read the presence without being subscribed."),
            ("allow_history_for_client", "Whether clients may read the history without being subscribed."),
            ("allow_tags_filter", "Whether subscribers may filter the publications by their tags."),
            (
                "allow_user_limited_channels",
                "Whether a name with #, such as dialog#42,43, lists the only users that may subscribe, and permits it.",
            ),
            ("force_push_join_leave", "Whether subscribers receive join and leave events without requesting them."),
        )
    },
    **{
        name: Option(name, a_flag, show, True, text + " Default: true.", CHANNELS, "", False)
        for name, text in (
            ("allow_presence_for_subscriber", "Whether subscribers may read the presence, and request its events."),
            ("allow_history_for_subscriber", "Whether subscribers may read the history; recovery does not need it."),
            *(
                (f"allow_{verb}_for_anonymous", f"Whether clients without a user ID may {what} if others may.")
                for verb, what in (
                    ("subscribe", "subscribe"),
                    ("publish", "publish"),
                    ("presence", "read the presence"),
                    ("history", "read the history"),
                )
            ),
            ("join_leave", "Whether subscribers receive join and leave events, if the channel has presence."),
            ("hook_subscribe", "Whether the server may ask the hook of --hook-subscribe about the channel."),
            ("hook_publish", "Whether the server may ask the hook of --hook-publish about the channel."),
        )
    },
}
"""Option name -> option, for the options that a `[[channel]]` table can set."""


def _check(option: Option, where: str, value: object) -> Any:
    try:
        return option.check(value)
    except (ValueError, LookupError) as error:
        raise SettingError(where, str(error)) from None


def _check_channels(tables: object, history_size: int) -> tuple[tuple[str, Mapping[str, Any]], ...]:
    if not isinstance(tables, tuple | list):
        raise SettingError("channel", f"expected a tuple of (pattern, options) pairs, not {tables!r}")
    checked = []
    for table in tables:
        if not isinstance(table, tuple | list) or len(table) != 2 or not isinstance(table[1], Mapping):
            raise SettingError("channel", f"expected a pair of a pattern and a mapping of options, not {table!r}")
        (pattern,) = _check(TABLE["channel_allow"], "channel", (table[0],))
        unknown = [name for name in table[1] if name not in BY_CHANNEL]
        if unknown:
            raise SettingError("channel", f"unknown option {unknown[0]!r}; expected {', '.join(BY_CHANNEL)}")
        values = {name: _check(BY_CHANNEL[name], f"channel: {name}", value) for name, value in table[1].items()}
        for name in ("rewind", "force_recovery_mode"):
            default = BY_CHANNEL[name].default
            if values.get(name, default) != default and not values.get("history_size", history_size):
                raise SettingError(f"channel: {name}", "the channel has no history: expected a history_size above 0")
        checked.append((pattern, values))
    return tuple(checked)
