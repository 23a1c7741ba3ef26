"""
The one table of options: flags, environment variables, the TOML file, `genconfig` and `--help` all come from it.

Rule 1: an option is one field of `Settings`; its default, its parser and its help stand there and nowhere else.
Rule 2: flags > environment > file > default. What is unknown is an error that names the nearest known name.
"""

import contextlib
import dataclasses
import difflib
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from wsserver.errors import SettingError
from wsserver.origins import origin_of

__all__ = ["ENVIRONMENT_ONLY", "PREFIX", "TABLE", "Option", "Settings", "genconfig", "load", "unknown_flag"]

PREFIX = "WSSERVER_"

ENVIRONMENT_ONLY = frozenset({PREFIX + "CONFIG", PREFIX + "PUREPYTHON", PREFIX + "BUILD_EXTENSION"})
"""Variables that are no option of the table: the environment's spelling of `--config`, and those of the extension."""

TRUE, FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


# Parsers: each takes the text of a value and returns the value, or raises ValueError saying what was expected.


def _flag(text: str) -> bool:
    if text.lower() in TRUE:
        return True
    if text.lower() in FALSE:
        return False
    raise ValueError("expected true or false")


def _integer(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,12}", text) or not low <= int(text) <= high:
            raise ValueError(f"expected a whole number from {low} to {high}")
        return int(text)

    return parse


def _size(low: int, high: int) -> Callable[[str], int]:
    units = {"": 1, "B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}

    def parse(text: str) -> int:
        match = re.fullmatch(r"([0-9]{1,12}) ?(B|KiB|MiB|GiB)?", text)
        size = int(match[1]) * units[match[2] or ""] if match else -1
        if not low <= size <= high:
            raise ValueError(f"expected a size from {_show_size(low)} to {_show_size(high)}, such as 64KiB or 1MiB")
        return size

    return parse


def _show_size(size: int) -> str:
    for unit, factor in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return f"{size}B"


def parse_duration(text: str, low: float, high: float) -> float:
    """
    Read a time such as `500ms`, `1.5s`, `2m` or `1h`; a bare number is in seconds.

    Args:
        text: what the person wrote.
        low: the shortest time allowed, in seconds.
        high: the longest time allowed, in seconds.

    Returns:
        The time in seconds.

    Raises:
        ValueError: it is no such time, or out of bounds; the message says what was expected.
    """
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,6})?) ?(ms|s|m|h)?", text)
    seconds = float(match[1]) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[match[2] or "s"] if match else -1.0
    if not low <= seconds <= high:
        raise ValueError(
            f"expected a time from {show_duration(low)} to {show_duration(high)}, such as 500ms, 25s or 2m"
        )
    return seconds


def show_duration(seconds: float) -> str:
    """Write a time so that `parse_duration` reads the same one back: `500ms`, `25s`, `2m`."""
    if 0 < seconds < 1:
        return f"{seconds * 1000:.12g}ms"
    if seconds >= 60 and seconds % 60 == 0:
        return f"{seconds / 60:.12g}m"
    return f"{seconds:.12g}s"


def _duration(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        return parse_duration(text, low, high)

    return parse


def _choice(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in choices:
            raise ValueError("expected " + " or ".join(choices))
        return text.lower()

    return parse


def _text(text: str) -> str:
    if any(ord(c) < 0x20 or ord(c) == 0x7F or 0xD800 <= ord(c) < 0xE000 for c in text) or len(text) > 1024:
        raise ValueError("expected at most 1024 characters, none of them a control character")
    return text


def _address(text: str) -> str:
    if not re.fullmatch(r"[0-9A-Za-z.:%_-]{1,255}", text):
        raise ValueError("expected an IP address or a host name such as 127.0.0.1, :: or localhost")
    return text


# RFC 9110 section 5.6.2: what a subprotocol's name may be made of.
def _token(text: str) -> str:
    if not re.fullmatch(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,256}", text):
        raise ValueError("expected a name of letters, digits and !#$%&'*+-.^_`|~")
    return text


def _origin(text: str) -> str:
    if text.lower() == "null":
        return "null"
    # A page's host may have an asterisk in it, but whoever writes one here means a pattern.
    if origin_of(text) is None or "*" in text:
        raise ValueError(
            "expected an origin such as https://example.com or http://localhost:3000 (no path, no *) or null"
        )
    return text


def _endpoint(text: str) -> str:
    if not re.match(r"[a-z0-9]+:", text):
        raise ValueError("expected a Twisted endpoint string such as tcp:8080:interface=127.0.0.1 or unix:/run/ws.sock")
    return text


def _zone(text: str) -> tzinfo | None:
    if text.lower() == "local":
        return None
    try:
        return ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("expected a time zone such as Europe/Berlin or UTC, or local") from None


def _show(value: object) -> str:
    """Write a value as its parser would read it."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "local"
    return str(value)


@dataclass(frozen=True, slots=True)
class Option:
    """A row of the table."""

    name: str
    """As in Python and in TOML: `max_message_size`."""
    parse: Callable[[str], Any]
    """Text -> value; raises ValueError saying what was expected."""
    show: Callable[[Any], str]
    """Value -> text that `parse` reads back."""
    default: Any
    help: str
    group: str
    metavar: str
    """What stands for the value in `--help`; empty for a flag, which takes none."""
    many: bool
    """It may be given more than once: its value is a tuple."""

    @property
    def flag(self) -> str:
        """As on the command line: `--max-message-size`."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """As in the environment: `WSSERVER_MAX_MESSAGE_SIZE`."""
        return PREFIX + self.name.upper()

    @property
    def is_flag(self) -> bool:
        """Whether it is given without a value on the command line."""
        return self.parse is _flag

    def show_default(self) -> str:
        """Write the default for `--help`, e.g. `1MiB`; empty where there is none."""
        if self.many or self.default == "":
            return ""
        return self.show(self.default)

    def toml_default(self) -> str:
        """Write the default as a TOML value."""
        if self.many:
            return "[]"
        if isinstance(self.default, int) and self.show is _show:
            return _show(self.default)
        return f'"{self.show(self.default)}"'


def _option(
    group: str,
    parse: Callable[[str], Any],
    default: Any,
    help: str,  # noqa: A002 (the word of every option parser)
    *,
    metavar: str = "",
    show: Callable[[Any], str] = _show,
    many: bool = False,
) -> Any:
    about = {"group": group, "parse": parse, "help": help, "metavar": metavar, "show": show, "many": many}
    return field(default=() if many else default, metadata=about)


_LISTEN, _WHO, _LIMITS, _WIRE, _ANSWERS, _LOG = (
    "Where to listen",
    "Who may connect",
    "Limits",
    "The wire",
    "What the endpoints answer",
    "Logging",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """All options with their values: times in seconds, sizes in bytes. `load` makes one from all sources."""

    port: int = _option(_LISTEN, _integer(0, 65535), 8080, "TCP port; 0 takes a free one.", metavar="PORT")
    interface: str = _option(
        _LISTEN,
        _address,
        "127.0.0.1",
        "Address to listen on; 0.0.0.0 or :: for every one, which makes the server reachable from outside.",
        metavar="ADDRESS",
    )
    listen: tuple[str, ...] = _option(
        _LISTEN,
        _endpoint,
        (),
        "Twisted endpoint string (tcp:, unix:, ssl:, systemd: ...) to listen on, instead of --port and --interface.",
        metavar="ENDPOINT",
        many=True,
    )
    origin: tuple[str, ...] = _option(
        _WHO,
        _origin,
        (),
        "Let pages of this origin connect, besides pages of the server's own host and port and, while it listens "
        "on loopback only, pages of loopback origins. `null` lets in pages opened from a file.",
        metavar="ORIGIN",
        many=True,
    )
    allow_any_origin_insecure: bool = _option(
        _WHO, _flag, False, "Let pages of every origin connect: for a public echo server, never beside cookies."
    )
    # Precedents: websockets, Daphne and websocketd 1 MiB, Centrifugo 64 KiB, uWebSockets 16 KiB, ws 100 MiB.
    max_message_size: int = _option(
        _LIMITS,
        _size(1, 1024**3),
        1024**2,
        "Largest message taken, also after inflating; a larger one closes with 1009.",
        metavar="SIZE",
        show=_show_size,
    )
    max_connections: int = _option(
        _LIMITS,
        _integer(1, 1_000_000),
        10_000,
        "Most connections at a time, HTTP and WebSocket; one more is refused with 503. "
        "Never more than the limit of open files allows.",
        metavar="N",
    )
    open_timeout: float = _option(
        _LIMITS,
        _duration(0.1, 300),
        10.0,
        "Time from accepting a connection until its request head is here and answered.",
        metavar="TIME",
        show=show_duration,
    )
    close_timeout: float = _option(
        _LIMITS,
        _duration(0.1, 300),
        5.0,
        "Time for the peer to finish a closing handshake before the connection is dropped.",
        metavar="TIME",
        show=show_duration,
    )
    # Under the 60 s after which nginx and most load balancers drop an idle connection.
    ping_interval: float = _option(
        _LIMITS, _duration(0, 3600), 25.0, "Time between pings; 0 for none.", metavar="TIME", show=show_duration
    )
    ping_timeout: float = _option(
        _LIMITS,
        _duration(0.1, 3600),
        10.0,
        "Time for the pong to come back before the connection is closed with 1011.",
        metavar="TIME",
        show=show_duration,
    )
    subprotocol: tuple[str, ...] = _option(
        _WIRE,
        _token,
        (),
        "Subprotocol to agree to when a client asks for it; the client's order decides.",
        metavar="NAME",
        many=True,
    )
    compression: str = _option(
        _WIRE, _choice("off", "on"), "off", "Agree to permessage-deflate when a client offers it.", metavar="off|on"
    )
    # Precedents: gorilla, uWebSockets and coder off, websockets and ws on. Memory a connection: docs/wire.md.
    compression_context_takeover: str = _option(
        _WIRE,
        _choice("off", "on"),
        "off",
        "Let a compressed message refer to those before it: similar small messages become much smaller, and every "
        "connection keeps some 100 KiB for it.",
        metavar="off|on",
    )
    compression_window_bits: int = _option(
        _WIRE,
        _integer(9, 15),
        15,
        "How far back compressed data refers: 2 to the power of N bytes, 9 to 15. Also asked of clients that let the "
        "server ask.",
        metavar="N",
    )
    # A text of 64 bytes compressed by itself has 63, one of 128 has 108 (docs/wire.md). Precedents: ws 1 KiB.
    compression_min_size: int = _option(
        _WIRE,
        _size(0, 1024**3),
        128,
        "Smallest message that is compressed; a smaller one leaves as it is.",
        metavar="SIZE",
        show=_show_size,
    )
    strict_paths: bool = _option(
        _ANSWERS, _flag, False, "Refuse unknown WebSocket paths with 404 instead of serving commands there."
    )
    reply_prefix: str = _option(
        _ANSWERS, _text, "", "Text to put before every text that the command endpoint echoes.", metavar="TEXT"
    )
    timezone: tzinfo | None = _option(_ANSWERS, _zone, None, "Time zone of date and time.", metavar="ZONE")  # noqa: RUF009
    log_format: str = _option(
        _LOG, _choice("text", "json"), "text", "One line a log event: for people, or as JSON.", metavar="text|json"
    )


TABLE: Mapping[str, Option] = {
    f.name: Option(name=f.name, default=f.default, **f.metadata) for f in dataclasses.fields(Settings)
}
"""Every option by its name, in the order of `--help`."""


def unknown_flag(name: str) -> SettingError:
    """
    Say that there is no such flag, and name the nearest one.

    Args:
        name: the flag as the person wrote it, with its dashes.
    """
    flags = [option.flag for option in TABLE.values()]
    return SettingError(name, "unknown option" + _nearest(name, [*flags, "--config", "--help", "--version"]))


def load(
    flags: Mapping[str, Sequence[str]] = {},
    environ: Mapping[str, str] = {},
    config: str | None = None,
) -> Settings:
    """
    Read all sources: flags > environment > file > default.

    Args:
        flags: option name -> the texts given on the command line, in order; `["true"]` for a flag.
        environ: the environment; only names with `WSSERVER_` count, an empty value counts as unset.
        config: the path of the TOML file; None for none (or for `WSSERVER_CONFIG`).

    Returns:
        The settings, complete and checked.

    Raises:
        SettingError: an option is unknown or has a bad value; the file is missing or is not TOML.
    """
    if config is None:
        config = environ.get(PREFIX + "CONFIG") or None
    values: dict[str, Any] = {} if config is None else _from_file(config)
    values.update(_from_environment(environ))
    values.update({name: _read(TABLE[name], TABLE[name].flag, texts) for name, texts in flags.items()})
    return Settings(**values)


def genconfig() -> str:
    """Write a TOML file with every option at its default, commented out and explained."""
    lines = ["# wsserver: every option at its default. Remove the # before one to set it.", ""]
    group = ""
    for option in TABLE.values():
        if option.group != group:
            group = option.group
            lines += [f"# --- {group} " + "-" * (74 - len(group)), ""]
        lines += [f"# {option.help}", f"#{option.name} = {option.toml_default()}", ""]
    return "\n".join(lines)


def _read(option: Option, where: str, texts: Sequence[str]) -> Any:
    try:
        values = tuple(option.parse(text) for text in texts)
    except ValueError as error:
        raise SettingError(where, f"{error}, not {_quote(texts)}") from None
    return values if option.many else values[-1]


def _quote(texts: Sequence[str]) -> str:
    return ", ".join(repr(text if len(text) <= 60 else text[:57] + "...") for text in texts)


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    variables = {option.variable: option for option in TABLE.values()}
    values = {}
    for name, text in environ.items():
        if not name.startswith(PREFIX) or text == "" or name in ENVIRONMENT_ONLY or _is_service_link(name, text):
            continue
        if name not in variables:
            known = [*variables, *ENVIRONMENT_ONLY]
            raise SettingError(name, "unknown environment variable" + _nearest(name, known))
        option = variables[name]
        values[option.name] = _read(option, name, text.split() if option.many else [text])
    return values


def _is_service_link(name: str, text: str) -> bool:
    # A Kubernetes service of this name puts such variables into every container beside it.
    return bool(re.match(r"WSSERVER_(SERVICE|PORT_[0-9]+)_", name)) or (
        name == "WSSERVER_PORT" and re.match(r"(tcp|udp)://", text) is not None
    )


def _from_file(path: str) -> dict[str, Any]:
    try:
        source = Path(path).read_text("utf-8")
        table = tomllib.loads(source)
    except OSError as error:
        raise SettingError(path, f"cannot be read: {error.strerror}") from None
    except RecursionError:
        raise SettingError(path, "is not TOML of ours: its values are nested too deeply") from None
    except ValueError as error:
        # Not TOML, not UTF-8, or a number with more digits than Python reads.
        raise SettingError(path, f"is not TOML: {error}") from None
    values = {}
    for name, value in table.items():
        where = f"{path}{_line_of(name, source)}: {name}"
        if name not in TABLE:
            raise SettingError(where, "unknown key" + _nearest(name, list(TABLE)))
        values[name] = _read(TABLE[name], where, _texts(TABLE[name], where, value))
    return values


def _line_of(name: str, source: str) -> str:
    """Find the line of a top-level key: tomllib does not tell it."""
    found = ""
    lines = source.split("\n")
    for number, line in enumerate(lines, 1):
        if re.match(rf"\s*(\[+\s*)?[\"']?{re.escape(name)}[\"']?\s*[=.\]]", line):
            found = f" line {number}"
        # What looks like the key may stand inside a text of several lines: it counts once the key is there.
        with contextlib.suppress(ValueError):
            if found and name in tomllib.loads("\n".join(lines[:number])):
                return found
    return found


def _texts(option: Option, where: str, value: object) -> list[str]:
    """Turn a TOML value into the texts its parser takes."""
    if option.many:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise SettingError(where, f"expected a list of strings, not {value!r}")
        return value
    if isinstance(value, bool) and option.is_flag:
        return [str(value).lower()]
    if isinstance(value, str) and not option.is_flag:
        return [value]
    if isinstance(value, int | float) and not isinstance(value, bool) and not option.is_flag:
        # Python writes out no number of thousands of digits.
        return [str(value) if not isinstance(value, int) or value.bit_length() < 1000 else "a huge number"]
    raise SettingError(
        where, f"expected {'true or false' if option.is_flag else 'a string or a number'}, not {value!r}"
    )
