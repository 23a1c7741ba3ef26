"""
Parsers for option values, and functions that write values as text again.

Each parser `a_...` takes a text and returns the value, or raises ValueError with a message that says what was expected.
`a_choice`, `a_duration`, `a_size`, `a_web_url` and `an_integer` take bounds, choices or an example and return a parser.
"""

import ipaddress
import re
from collections.abc import Callable
from datetime import tzinfo
from typing import Final, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from wsserver.config.redis_url import parse_redis_url
from wsserver.origins import EMPTY, origin_of
from wsserver.text import TOKEN_CHARACTER, join_choices

__all__ = [
    "FALSE",
    "SECRET",
    "TRUE",
    "a_channel_prefix",
    "a_choice",
    "a_close_code",
    "a_duration",
    "a_flag",
    "a_network",
    "a_pattern",
    "a_public_key",
    "a_redis_url",
    "a_secret",
    "a_size",
    "a_text",
    "a_token",
    "a_web_url",
    "a_worker_count",
    "a_zone",
    "an_address",
    "an_endpoint",
    "an_integer",
    "an_origin",
    "parse_duration",
    "show",
    "show_duration",
    "show_size",
]

SECRET: Final = "a secret of at least 32 bytes, such as `openssl rand -hex 32` makes"
"""What error messages say is expected of a secret for signing tokens."""

TRUE, FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def a_flag(text: str) -> bool:
    """Parse a boolean: one of the words in `TRUE` and `FALSE`, in upper or lower case."""
    if text.lower() in TRUE:
        return True
    if text.lower() in FALSE:
        return False
    raise ValueError("expected true or false")


def an_integer(low: int, high: int) -> Callable[[str], int]:
    """Return a parser for whole numbers from `low` to `high`."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,12}", text) or not low <= int(text) <= high:
            raise ValueError(f"expected a whole number from {low} to {high}")
        return int(text)

    return parse


def a_close_code(text: str) -> int:
    """Parse a close code with which a stopping server may close connections (RFC 6455 section 7.4)."""
    if not re.fullmatch(r"1001|1012|1013|[34][0-9]{3}", text):
        raise ValueError("expected 1001, 1012, 1013 or a number from 3000 to 4999")
    return int(text)


MAX_WORKERS: Final = 256
"""Maximum number of worker processes."""


def a_worker_count(text: str) -> int | Literal["auto"]:
    """Parse a number of processes, or `auto`: one for each core."""
    if text == "auto":
        return "auto"
    if not re.fullmatch(r"[0-9]{1,3}", text) or not 1 <= int(text) <= MAX_WORKERS:
        raise ValueError(f"expected auto or a whole number from 1 to {MAX_WORKERS}")
    return int(text)


def a_size(low: int, high: int) -> Callable[[str], int]:
    """Return a parser for sizes such as `64KiB`, from `low` to `high`; bounds and value are in bytes."""
    units = {"": 1, "B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}

    def parse(text: str) -> int:
        match = re.fullmatch(r"([0-9]{1,12}) ?(B|KiB|MiB|GiB)?", text)
        size = int(match[1]) * units[match[2] or ""] if match else -1
        if not low <= size <= high:
            raise ValueError(f"expected a size from {show_size(low)} to {show_size(high)}, such as 64KiB or 1MiB")
        return size

    return parse


def show_size(size: int) -> str:
    """Write a size in bytes as a text that `a_size` parses to the same value, such as `64KiB`."""
    for unit, factor in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return f"{size}B"


_DURATIONS: Final = {"500ms": 0.5, "25s": 25, "2m": 120}
"""Examples for messages: the text, and its value in seconds."""


def parse_duration(text: str, low: float, high: float) -> float:
    """
    Parse a duration such as `500ms`, `1.5s`, `2m` or `1h`; a number without a unit is in seconds.

    Args:
        text: the text to parse.
        low: the shortest duration allowed, in seconds.
        high: the longest duration allowed, in seconds.

    Returns:
        The duration in seconds.

    Raises:
        ValueError: the text is not a duration, or is out of bounds; the message says what was expected.
    """
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,6})?) ?(ms|s|m|h)?", text)
    seconds = float(match[1]) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[match[2] or "s"] if match else -1.0
    if not low <= seconds <= high:
        examples = [example for example, value in _DURATIONS.items() if low <= value <= high]
        such = f", such as {join_choices(examples)}" if examples else ""
        raise ValueError(f"expected a time from {show_duration(low)} to {show_duration(high)}{such}")
    return seconds


def show_duration(seconds: float) -> str:
    """Write a duration in seconds as a text that `parse_duration` parses to the same value, such as `500ms` or `2m`."""
    if 0 < seconds < 1:
        return f"{seconds * 1000:.12g}ms"
    for unit, factor in (("h", 3600), ("m", 60)):
        if seconds >= factor and seconds % factor == 0:
            return f"{seconds / factor:.12g}{unit}"
    return f"{seconds:.12g}s"


def a_duration(low: float, high: float) -> Callable[[str], float]:
    """Return a parser for durations from `low` to `high`; bounds and value are in seconds."""

    def parse(text: str) -> float:
        return parse_duration(text, low, high)

    return parse


def a_choice(*choices: str) -> Callable[[str], str]:
    """Return a parser for one of the given lower-case words; it accepts upper case, too."""

    def parse(text: str) -> str:
        if text.lower() not in choices:
            raise ValueError("expected " + join_choices(choices))
        return text.lower()

    return parse


def a_text(text: str) -> str:
    """Check a line of text: at most 1024 characters, no control characters."""
    if any(ord(c) < 0x20 or ord(c) == 0x7F or 0xD800 <= ord(c) < 0xE000 for c in text) or len(text) > 1024:
        raise ValueError("expected at most 1024 characters, none of them a control character")
    return text


def an_address(text: str) -> str:
    """Check an IP address or a host name."""
    if not re.fullmatch(r"[0-9A-Za-z.:%_-]{1,255}", text):
        raise ValueError("expected an IP address or a host name such as 127.0.0.1, :: or localhost")
    return text


def a_network(text: str) -> str:
    """Check a network, an IP address, or `unix`; the result is in its usual form."""
    if text.lower() == "unix":
        return "unix"
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        raise ValueError(
            f"expected a network such as {_meant_network(text)}, an IP address such as 192.0.2.1 or ::1, or unix"
        ) from None
    return str(network.network_address) if network.num_addresses == 1 else str(network)


def _meant_network(text: str) -> str:
    """Return the network of an address such as 10.0.0.1/8, whose bits after the prefix are not zero; or an example."""
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        return "10.0.0.0/8"


def a_channel_prefix(text: str) -> str:
    """Check the beginning of a channel name; an empty text means none."""
    try:
        return text and a_pattern(text)
    except ValueError:
        raise ValueError("expected the beginning of a channel name, such as # or user:#") from None


def a_redis_url(text: str) -> str:
    """Check the URL of a Redis server; an empty text means no Redis."""
    if text:
        parse_redis_url(text)
    return text


def a_secret(text: str) -> str:
    """
    Check a secret for signing tokens; an empty text means no secret.

    `wsserver.config.settings` checks its length, which another option may permit to be short.
    """
    try:
        return a_text(text)
    except ValueError:
        raise ValueError(f"expected {SECRET}") from None


def a_public_key(text: str) -> str:
    """Check public keys in PEM, or the path of a file with such keys; an empty text means no key."""
    expected = "expected a public key in PEM, or the path of a file with public keys"
    if "-----BEGIN" in text:
        if len(text) > 65536 or not text.isascii():
            raise ValueError(expected)
        return text
    try:
        return a_text(text)
    except ValueError:
        raise ValueError(expected) from None


def a_web_url(example: str) -> Callable[[str], str]:
    """Return a parser for http:// and https:// URLs, where an empty text means no URL; its errors quote the example."""

    def parse(text: str) -> str:
        try:
            parts = urlsplit(text)
            known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            known = False
        plain = re.fullmatch(r"[!-~]{1,2048}", text) and "#" not in text
        if text and known and "@" in parts.netloc:
            raise ValueError(f"expected a URL without a user name and password, such as {example}")
        if text and not (known and plain):
            raise ValueError(f"expected a URL such as {example}")
        return text

    return parse


def a_pattern(text: str) -> str:
    """Check a channel name, or a pattern for channel names."""
    if not 1 <= len(text) <= 255 or any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 for c in text):
        raise ValueError("expected the name of a channel, or a pattern such as news or chat:*")
    if text.startswith("wsserver:"):
        raise ValueError("expected no name that begins with wsserver: (those are the server's own)")
    return text


def a_token(text: str) -> str:
    """Check the name of a subprotocol: a token of RFC 9110 section 5.6.2."""
    if not re.fullmatch(TOKEN_CHARACTER + "{1,256}", text):
        raise ValueError("expected a name of letters, digits and !#$%&'*+-.^_`|~")
    return text


def an_origin(text: str) -> str:
    """Check an origin. An empty text and `empty` both mean an Origin header without a value; the result is `empty`."""
    if text.lower() in ("", EMPTY, "null"):
        return text.lower() or EMPTY
    origin = origin_of(text)
    # The host of an origin may contain an asterisk, but an operator who writes one expects a pattern.
    if origin is None or "*" in text:
        raise ValueError(
            "expected an origin such as https://example.com, http://localhost:3000 or file:// (no path, no *), "
            "null, or empty"
        )
    # Another form would never match: browsers send an international host in ASCII (RFC 6454 section 6.2).
    if not text.isascii():
        raise ValueError(
            "expected an origin in ASCII, such as https://xn--bcher-kva.example for https://bücher.example"
        )
    port = origin.rpartition(":")[2]
    if port and int(port) > 65535:
        raise ValueError("expected an origin with a port up to 65535")
    return text


def an_endpoint(text: str) -> str:
    """Check that a text begins like a Twisted endpoint string: with a type and a colon."""
    if not re.match(r"[a-z0-9]+:", text):
        raise ValueError("expected a Twisted endpoint string such as tcp:8080:interface=127.0.0.1 or unix:/run/ws.sock")
    return text


def a_zone(text: str) -> tzinfo | None:
    """
    Parse a time zone.

    Returns:
        The time zone; None for `local`, the time zone of the machine.

    Raises:
        ValueError: there is no such time zone.
        LookupError: the machine has no time zone database.
    """
    if text.lower() == "local":
        return None
    try:
        return ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        if not available_timezones():
            raise LookupError(
                f"the time zone database is missing on this machine, so {text!r} is unknown: pip install tzdata"
            ) from None
        raise ValueError("expected a time zone such as Europe/Berlin or UTC, or local") from None


def show(value: object) -> str:
    """Write a value as a text that its parser reads; for options without units."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "local"
    return str(value)
