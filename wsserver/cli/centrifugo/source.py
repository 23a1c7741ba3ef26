"""
The source of a conversion: the options of a Centrifugo configuration that are set and have not been converted yet.

Source of the options and their defaults: https://centrifugal.dev/docs/server/configuration, and the output of
`centrifugo defaultconfig` (version 6.9.1).
"""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from wsserver.cli.centrifugo.defaults import SECTIONS
from wsserver.errors import SettingError
from wsserver.text import quote

__all__ = ["Note", "Source", "is_default", "parse_go_duration", "read_document"]

_NO_SECTIONS: Final = frozenset({"proxies", "consumers", "pid_file", "enable_unreleased_features"})
"""The names at the top level that are options."""

_OLD: Final = re.compile(
    r"(token|api|admin|redis|nats|proxy|allow|history|presence|client|websocket|uni|sse|http|grpc|tls|internal|rpc|"
    r"channel|namespace|user|join|force|allowed|address|port|engine|log|health|prometheus|publish|subscribe)(_.*|s?$)"
)
"""Names at the top level of a configuration of Centrifugo 5, which had no sections."""

_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(h|ms|m|s|us|µs|ns)")
_UNITS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Note:
    """Something that the user must know about an option: it has no counterpart, or its meaning is different."""

    option: str
    """The option's name in Centrifugo, such as `client.token.issuer_regex`."""
    reason: str


def read_document(path: str) -> Mapping[str, Any]:
    """
    Read a configuration file of Centrifugo 6.

    Args:
        path: path of the file: JSON, or TOML if the name ends with `.toml`.

    Returns:
        The sections, by name.

    Raises:
        SettingError: the file cannot be read or parsed, is YAML, or is a configuration of Centrifugo 5 or older.
    """
    suffix = Path(path).suffix.lower()
    if suffix in (".yaml", ".yml"):
        raise SettingError(path, "expected JSON or TOML; convert YAML to JSON first, as `yq -o json` does")
    try:
        text = Path(path).read_text("utf-8")
        document = tomllib.loads(text) if suffix == ".toml" else json.loads(text)
    except OSError as error:
        raise SettingError(path, f"cannot be read: {error.strerror}") from None
    except RecursionError:
        raise SettingError(path, "cannot be read: its values are nested too deeply") from None
    except ValueError as error:
        raise SettingError(path, f"is not {'TOML' if suffix == '.toml' else 'JSON'}: {error}") from None
    if not isinstance(document, dict):
        raise SettingError(path, "expected an object with the sections of a configuration of Centrifugo 6")
    old = [name for name in document if name not in SECTIONS and _OLD.fullmatch(name)]
    # Such as `"engine": "redis"` and `"admin": true`.
    old += [
        name
        for name, value in document.items()
        if name in SECTIONS - _NO_SECTIONS and not isinstance(value, dict | None)
    ]
    if old:
        raise SettingError(
            path,
            f"is a configuration of Centrifugo 5 or older: {quote(old[0])} has no section; convert it to version 6 "
            f"first, see https://centrifugal.dev/docs/getting-started/migration_v6",
        )
    return document


def parse_go_duration(value: object) -> float | None:
    """Parse a duration of Go such as `1m30s`; return the seconds, or None if it is not one."""
    if not isinstance(value, str):
        return None
    if value in ("0", ""):
        return 0.0
    parts = _DURATION.findall(value)
    if "".join(number + unit for number, unit in parts) != value:
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def is_default(value: object, default: object) -> bool:
    """
    Return whether a value is an option's default in Centrifugo.

    Args:
        value: the value in the file.
        default: the default; None for an option whose default is false, zero or empty.
    """
    if default is None:
        return not value or (isinstance(value, str) and parse_go_duration(value) == 0)
    if value == default:
        return True
    seconds = parse_go_duration(value)
    return seconds is not None and seconds == parse_go_duration(default)


class Source:
    """
    Options that are set and have not been converted yet.

    A conversion removes the options that it converts with `take_...`; what remains has no counterpart.

    Args:
        options: sections and options, nested as in the file.
        defaults: name -> default in Centrifugo, for options whose default is not false, zero or empty. Options at
            their default are dropped.
        prefix: the beginning of the names in notes.
        notes: receives the notes.
    """

    def __init__(
        self, options: Mapping[str, Any], defaults: Mapping[str, Any], notes: list[Note], *, prefix: str = ""
    ) -> None:
        self._prefix = prefix
        self._notes = notes
        self._left = {name: value for name, value in _flatten(options) if not is_default(value, defaults.get(name))}

    def __iter__(self) -> Iterator[str]:
        """Return the names of the options that have not been converted."""
        return iter(list(self._left))

    def full_name(self, name: str) -> str:
        """Return the name of an option with the section, for notes."""
        return self._prefix + name

    def section(self, name: str, defaults: Mapping[str, Any] = {}) -> "Source":
        """
        Remove a section; return its options as a source of their own.

        Args:
            name: the name of the section.
            defaults: the defaults of its options, by their names without the section.
        """
        start = name + "."
        options = {each.removeprefix(start): self._left.pop(each) for each in self if each.startswith(start)}
        return Source(options, defaults, self._notes, prefix=self._prefix + start)

    def note(self, name: str, reason: str) -> None:
        """Add a note about an option."""
        self._notes.append(Note(self._prefix + name, reason))

    def drop(self, name: str) -> None:
        """Drop an option, or all options of a section, without a note."""
        for each in self:
            if each == name or each.startswith(name + "."):
                del self._left[each]

    def take_text(self, name: str) -> str:
        """Remove an option that is a text; return it, or an empty text if it is not set."""
        return self._take(name, str, "a text") or ""

    def take_flag(self, name: str) -> bool:
        """Remove an option that is true or false; return it, or False if it is not set."""
        return self._take(name, bool, "true or false") or False

    def take_number(self, name: str) -> int | None:
        """Remove an option that is a whole number; return it, or None if it is not set or has its default."""
        value = self._left.get(name)
        # As Centrifugo does.
        if isinstance(value, str) and re.fullmatch("[0-9]{1,18}", value):
            self._left[name] = int(value)
        return self._take(name, int, "a whole number")

    def take_seconds(self, name: str) -> float | None:
        """Remove an option that is a duration; return the seconds, or None if it is not set or has its default."""
        value = self._left.pop(name, None)
        seconds = parse_go_duration(value)
        if value is not None and seconds is None:
            self.note(name, "not converted: expected a duration such as 25s")
        return seconds

    def take_texts(self, name: str) -> list[str]:
        """Remove an option that is a list of texts; return it."""
        value = self._left.get(name)
        if isinstance(value, str):
            self._left[name] = [value]
        found = self._take(name, list, "a list of texts") or []
        return [str(item) for item in found]

    def take_tables(self, name: str) -> list[Mapping[str, Any]]:
        """Remove an option that is a list of objects; return it."""
        found = self._take(name, list, "a list of objects") or []
        return [item for item in found if isinstance(item, dict)]

    def _take(self, name: str, kind: type[T], expected: str) -> T | None:
        value = self._left.pop(name, None)
        if value is None or (isinstance(value, kind) and not (kind is int and isinstance(value, bool))):
            return value
        self.note(name, f"not converted: expected {expected}")
        return None


def _flatten(options: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in options.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
