"""
The option table: flags, environment variables, TOML keys, `genconfig` and `--help` are all derived from it.

Rule: an option is one field of `Settings`, which alone defines its default, its parser and its help text.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Any, Self

from wsserver.config.loader import read_environment, read_file, read_flags
from wsserver.config.options import PREFIX, Option
from wsserver.config.parsers import (
    a_choice,
    a_duration,
    a_flag,
    a_pattern,
    a_public_key,
    a_redis_url,
    a_secret,
    a_size,
    a_text,
    a_token,
    a_web_url,
    a_zone,
    an_address,
    an_endpoint,
    an_integer,
    an_origin,
    show,
    show_duration,
    show_size,
)
from wsserver.errors import SettingError

__all__ = ["BY_CHANNEL", "TABLE", "Settings"]


def _option(
    group: str,
    parse: Callable[[str], Any],
    default: Any,
    help: str,  # noqa: A002 (the usual name for it in option parsers)
    *,
    metavar: str = "",
    show: Callable[[Any], str] = show,
    many: bool = False,
    secret: bool = False,
) -> Any:
    about = {
        "group": group,
        "parse": parse,
        "help": help,
        "metavar": metavar,
        "show": show,
        "many": many,
        "secret": secret,
    }
    # Secrets are left out of the repr, which may be printed or logged.
    return field(default=() if many else default, metadata=about, repr=not secret)


_LISTEN, _WHO, _LIMITS, _WIRE, _CHANNELS, _TOKENS, _ANSWERS, _LOG = (
    "Where to listen",
    "Who may connect",
    "Limits",
    "The wire",
    "Channels",
    "Tokens",
    "What the endpoints answer",
    "Logging",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """
    The values of all options: durations in seconds, sizes in bytes.

    Arguments are checked like flags. They can also be texts as on the command line: `max_message_size="64KiB"`,
    `ping_interval="25s"`. Repeatable options take a tuple or a list.

    Raises:
        SettingError: an argument has an invalid value; the message names the option and says what was expected.
    """

    port: int = _option(_LISTEN, an_integer(0, 65535), 8080, "TCP port; 0 takes a free one.", metavar="PORT")
    interface: str = _option(
        _LISTEN,
        an_address,
        "127.0.0.1",
        "Address to listen on; 0.0.0.0 or :: for every one, which makes the server reachable from outside.",
        metavar="ADDRESS",
    )
    listen: tuple[str, ...] = _option(
        _LISTEN,
        an_endpoint,
        (),
        "Twisted endpoint string (tcp:, unix:, ssl:, tls:, systemd: ...) to listen on, instead of --port and "
        "--interface.",
        metavar="ENDPOINT",
        many=True,
    )
    tls_cert: str = _option(
        _LISTEN,
        a_text,
        "",
        "PEM file with the server's TLS certificate and its chain, such as certbot's fullchain.pem. With it, --port "
        "speaks TLS: https:// and wss://.",
        metavar="FILE",
    )
    tls_key: str = _option(
        _LISTEN,
        a_text,
        "",
        "PEM file with the private key, not encrypted, such as certbot's privkey.pem; without it the key is read from "
        "the file of the certificate.",
        metavar="FILE",
    )
    origin: tuple[str, ...] = _option(
        _WHO,
        an_origin,
        (),
        "Let pages of this origin connect, besides pages of the server's own host and port and, while it listens "
        "on loopback only, pages of loopback origins. `null` allows pages opened from a file, `file://` WebViews and "
        "microcontrollers that send it, `empty` an Origin header without a value.",
        metavar="ORIGIN",
        many=True,
    )
    allow_any_origin_insecure: bool = _option(
        _WHO, a_flag, False, "Let pages of every origin connect: for a public echo server, never beside cookies."
    )
    # Precedents: websockets, Daphne and websocketd 1 MiB, Centrifugo 64 KiB, uWebSockets 16 KiB, ws 100 MiB.
    max_message_size: int = _option(
        _LIMITS,
        a_size(1, 1024**3),
        1024**2,
        "Largest message taken, also after inflating; a larger one closes with 1009.",
        metavar="SIZE",
        show=show_size,
    )
    max_connections: int = _option(
        _LIMITS,
        an_integer(1, 1_000_000),
        10_000,
        "Most connections at a time, HTTP and WebSocket; one more is refused with 503. "
        "Never more than the limit of open files allows.",
        metavar="N",
    )
    open_timeout: float = _option(
        _LIMITS,
        a_duration(0.1, 300),
        10.0,
        "Time from accepting a connection until its request head is here and answered.",
        metavar="TIME",
        show=show_duration,
    )
    close_timeout: float = _option(
        _LIMITS,
        a_duration(0.1, 300),
        5.0,
        "Time for the peer to finish a closing handshake before the connection is dropped.",
        metavar="TIME",
        show=show_duration,
    )
    # Less than the 60 s after which nginx and most load balancers drop an idle connection.
    ping_interval: float = _option(
        _LIMITS,
        a_duration(0, 3600),
        25.0,
        "Time between pings; 0 for none.",
        metavar="TIME",
        show=show_duration,
    )
    ping_timeout: float = _option(
        _LIMITS,
        a_duration(0.1, 3600),
        10.0,
        "Time for the pong to come back before the connection is closed with 1011.",
        metavar="TIME",
        show=show_duration,
    )
    subprotocol: tuple[str, ...] = _option(
        _WIRE,
        a_token,
        (),
        "Subprotocol to agree to when a client asks for it; the client's order decides.",
        metavar="NAME",
        many=True,
    )
    compression: str = _option(
        _WIRE,
        a_choice("off", "on"),
        "off",
        "Agree to permessage-deflate when a client offers it.",
        metavar="off|on",
    )
    # Precedents: gorilla, uWebSockets and coder off, websockets and ws on. Memory: docs/explanation/performance.md.
    compression_context_takeover: str = _option(
        _WIRE,
        a_choice("off", "on"),
        "off",
        "Let a compressed message refer to those before it: similar small messages become much smaller, and every "
        "connection keeps 100 to 250 KiB for it.",
        metavar="off|on",
    )
    compression_window_bits: int = _option(
        _WIRE,
        an_integer(9, 15),
        15,
        "How far back compressed data refers: 2 to the power of N bytes, 9 to 15. Also asked of clients that let the "
        "server ask.",
        metavar="N",
    )
    # Compressed by itself, a text of 64 bytes has 63 bytes, one of 128 has 108. Precedent: ws 1 KiB.
    compression_min_size: int = _option(
        _WIRE,
        a_size(0, 1024**3),
        128,
        "Smallest message that is compressed; a smaller one leaves as it is.",
        metavar="SIZE",
        show=show_size,
    )
    redis: str = _option(
        _CHANNELS,
        a_redis_url,
        "",
        "Redis whose publications are pushed, as redis://127.0.0.1:6379, rediss:// with TLS, or redis+sentinel://; "
        "without it channels live in this process.",
        metavar="URL",
        secret=True,
    )
    channel_allow: tuple[str, ...] = _option(
        _CHANNELS,
        a_pattern,
        (),
        "Channel that clients may listen to, or a pattern such as chat:*. Without any: all while the server listens on "
        "loopback only, else none.",
        metavar="PATTERN",
        many=True,
    )
    channel_format: str = _option(
        _CHANNELS,
        a_choice("raw", "json", "redis"),
        "raw",
        "How a publication is written where a client does not ask with format=.",
        metavar="raw|json|redis",
    )
    # Precedents: Centrifugo 1 MB, uWebSockets 64 KiB.
    max_queued_bytes: int = _option(
        _CHANNELS,
        a_size(1024, 1024**3),
        1024**2,
        "Most bytes of publications that wait for a client that does not read; beyond this, --slow applies.",
        metavar="SIZE",
        show=show_size,
    )
    gap: str = _option(
        _CHANNELS,
        a_choice("notice", "close"),
        "notice",
        "What a client gets whose publications may be incomplete, as after an outage of Redis: a message "
        '{"event":"gap","channel":...}, or a close with 1012.',
        metavar="notice|close",
    )
    slow: str = _option(
        _CHANNELS,
        a_choice("close", "drop-oldest", "latest"),
        "close",
        "What happens to a client for which more than --max-queued-bytes wait: it is closed with 1013, or the oldest "
        "publications are dropped. With latest only the newest of each channel ever waits. A drop is told as a gap.",
        metavar="close|drop-oldest|latest",
    )
    # Precedents: Centrifugo's examples 100 and 300s, nchan 10 messages and an hour.
    history_size: int = _option(
        _CHANNELS,
        an_integer(0, 10_000),
        100,
        "Most publications of a channel that are kept, so that a client that returns gets what it missed; 0 for none.",
        metavar="N",
    )
    history_ttl: float = _option(
        _CHANNELS,
        a_duration(1, 30 * 86_400),
        60.0,
        "How long they are kept after the last one.",
        metavar="TIME",
        show=show_duration,
    )
    channel_publish: tuple[str, ...] = _option(
        _CHANNELS,
        a_pattern,
        (),
        "Channel that clients may publish to, or a pattern; without any, only the backend publishes.",
        metavar="PATTERN",
        many=True,
    )
    channel_presence: tuple[str, ...] = _option(
        _CHANNELS,
        a_pattern,
        (),
        "Channel or pattern for which presence is tracked.",
        metavar="PATTERN",
        many=True,
    )
    api_key: str = _option(
        _CHANNELS,
        a_text,
        "",
        "Key for the HTTP API under /api/, sent as X-API-Key or as a Bearer token; without it the API is closed.",
        metavar="KEY",
        secret=True,
    )
    api_origin: tuple[str, ...] = _option(
        _CHANNELS,
        an_origin,
        (),
        "Allow pages of this origin to call the HTTP API from a browser; they need --api-key, which allows everything.",
        metavar="ORIGIN",
        many=True,
    )
    api_errors: str = _option(
        _CHANNELS,
        a_choice("status", "body"),
        "status",
        "Whether a mistake in a call of the API is told by the status too (400, 416 ...), or in the body alone, with "
        "200: Centrifugo's libraries read errors only there.",
        metavar="status|body",
    )
    hook_connect: str = _option(
        _CHANNELS,
        a_web_url("http://127.0.0.1:3000/connect"),
        "",
        "Where to ask the backend, in a POST with JSON, whether a client without a token may connect, and who it is.",
        metavar="URL",
    )
    hook_subscribe: str = _option(
        _CHANNELS,
        a_web_url("http://127.0.0.1:3000/subscribe"),
        "",
        "Where to ask whether a client may listen to a channel that neither its token nor --channel-allow names.",
        metavar="URL",
    )
    hook_publish: str = _option(
        _CHANNELS,
        a_web_url("http://127.0.0.1:3000/publish"),
        "",
        "Where to ask whether a client may publish to a channel, and what.",
        metavar="URL",
    )
    hook_disconnect: str = _option(
        _CHANNELS,
        a_web_url("http://127.0.0.1:3000/disconnect"),
        "",
        "Where to tell that a client has gone; once, whether or not the backend is there.",
        metavar="URL",
    )
    # Precedent: Centrifugo 1 s.
    hook_timeout: float = _option(
        _CHANNELS,
        a_duration(0.1, 30),
        2.0,
        "Time for the backend to answer a hook before the client is told to try again later.",
        metavar="TIME",
        show=show_duration,
    )
    token_secret: str = _option(
        _TOKENS,
        a_secret,
        "",
        "Secret that the tokens of clients (JWT) are signed with, for HS256, and from 48 and 64 bytes on for HS384 and "
        "HS512. With it, or another key, subscribing requires a token. Give it in the environment or in the "
        "file: other users of the machine see the command line.",
        metavar="SECRET",
        secret=True,
    )
    token_secret_previous: str = _option(
        _TOKENS,
        a_secret,
        "",
        "Secret that was in use before: tokens signed with it are still accepted.",
        metavar="SECRET",
        secret=True,
    )
    token_public_key: str = _option(
        _TOKENS,
        a_public_key,
        "",
        "Public key in PEM, or the path of a file with one or several, that tokens are checked with: RSA for RS256, "
        "RS384, RS512; P-256, P-384, P-521 for ES256, ES384, ES512.",
        metavar="PEM|FILE",
    )
    token_jwks_url: str = _option(
        _TOKENS,
        a_web_url("https://example.com/.well-known/jwks.json"),
        "",
        "URL of a JSON Web Key Set with public keys, fetched at the start, every ten minutes, and for a key not seen "
        "before.",
        metavar="URL",
    )
    token_audience: str = _option(
        _TOKENS,
        a_text,
        "",
        "What a token must name as its audience (aud); without it a token must name none.",
        metavar="TEXT",
    )
    token_issuer: str = _option(_TOKENS, a_text, "", "What a token must name as its issuer (iss).", metavar="TEXT")
    # The maximum is less than the 25 s (`GRACE` in wsserver.auth.jwt) after which a connection with an expired token is
    # closed: so no connection is accepted that is already due to be closed.
    token_leeway: float = _option(
        _TOKENS,
        a_duration(0, 20),
        5.0,
        "Time by which the clock of the issuer of tokens may differ.",
        metavar="TIME",
        show=show_duration,
    )
    anonymous: bool = _option(
        _TOKENS, a_flag, False, "Admit clients without a token; they may listen to what --channel-allow opens."
    )
    catch_all: str = _option(
        _ANSWERS,
        a_choice("auto", "on", "off"),
        "auto",
        "Whether unknown WebSocket paths speak commands or are refused with 404. With auto they speak commands only "
        "while the server listens on loopback alone and has no --redis, --api-key, token key or hook.",
        metavar="auto|on|off",
    )
    reply_prefix: str = _option(
        _ANSWERS, a_text, "", "Text to put before every text that the command endpoint echoes.", metavar="TEXT"
    )
    timezone: tzinfo | None = _option(_ANSWERS, a_zone, None, "Time zone of date and time.", metavar="ZONE")  # noqa: RUF009
    log_format: str = _option(
        _LOG,
        a_choice("text", "json"),
        "text",
        "One line a log event: for people, or as JSON.",
        metavar="text|json",
    )

    channel: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    """The `[[channel]]` tables of the file: pairs of a pattern and the options of its channels. No flag sets it."""

    def __post_init__(self) -> None:
        for option in TABLE.values():
            value = getattr(self, option.name)
            if value is not option.default:
                object.__setattr__(self, option.name, _check(option, option.name, value))
        if self.channel:
            object.__setattr__(self, "channel", _check_channels(self.channel))

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
            flags: option name -> the texts given on the command line, in order; `["true"]` for a flag.
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
    **{
        name: Option(name, a_flag, show, False, text, _CHANNELS, "", False)
        for name, text in (("presence", "As --channel-presence."), ("publish", "As --channel-publish."))
    },
}
"""Option name -> option, for the options that a `[[channel]]` table can set."""


def _check(option: Option, where: str, value: object) -> Any:
    try:
        return option.check(value)
    except (ValueError, LookupError) as error:
        raise SettingError(where, str(error)) from None


def _check_channels(tables: object) -> tuple[tuple[str, Mapping[str, Any]], ...]:
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
        checked.append((pattern, values))
    return tuple(checked)
