"""
Option: a row of the option table. It holds the option's names and how its values are parsed, checked and shown.

This module does not use Twisted, a clock or files.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Any

from wsserver.config.parsers import a_flag, a_zone, show

__all__ = ["ENVIRONMENT_ONLY", "MAX_SHOWN_BITS", "PREFIX", "Option", "Table", "option", "quote_values"]

PREFIX = "WSSERVER_"
"""Prefix of the names of all environment variables of this package."""

ENVIRONMENT_ONLY = frozenset(PREFIX + name for name in ("CONFIG", "TOKEN", "PUREPYTHON", "BUILD_EXTENSION"))
"""
Environment variables that are not in the option table.

`CONFIG` is the path of the configuration file, `TOKEN` the token of `wsserver subscribe`; `PUREPYTHON` and
`BUILD_EXTENSION` control the compiled extension.
"""

MAX_SHOWN_BITS = 1000
"""Integers of at least this many bits are shown as "a huge number": Python cannot print thousands of digits."""

_INVALID = "\0"
"""A text that no parser accepts: its error says what the parser expects."""


def option(
    group: str,
    parse: Callable[[str], Any],
    default: Any,
    help: str,  # noqa: A002 (the usual name for it in option parsers)
    *,
    metavar: str = "",
    show: Callable[[Any], str] = show,
    many: bool = False,
    secret: bool = False,
    reload: bool = False,
) -> Any:
    """Return a field of `Settings` for an option. The arguments are attributes of `Option`, which describes them."""
    about = {
        "group": group,
        "parse": parse,
        "help": help,
        "metavar": metavar,
        "show": show,
        "many": many,
        "secret": secret,
        "reload": reload,
    }
    # Secrets are left out of the repr, which may be printed or logged.
    return field(default=() if many else default, metadata=about, repr=not secret)


@dataclass(frozen=True, slots=True)
class Option:
    """A row of the option table."""

    name: str
    """Name in Python and in TOML: `max_message_size`."""
    parse: Callable[[str], Any]
    """Parse a text to a value; raises ValueError or LookupError with a message that says what was expected."""
    show: Callable[[Any], str]
    """Write a value as a text that `parse` reads back."""
    default: Any
    help: str
    """Description for `--help`, `genconfig` and the options reference, in plain text."""
    group: str
    """Heading under which the option is listed."""
    metavar: str
    """Placeholder for the value in `--help`; empty for a flag, which takes no value."""
    many: bool
    """Whether the option is repeatable; its value is then a tuple."""
    secret: bool = False
    """Whether the value is secret: it is never shown, not even in the error message for an invalid value."""
    reload: bool = False
    """Whether a running server can change the option: see `wsserver.service.WebSocketService.reload`."""

    @property
    def flag(self) -> str:
        """Name on the command line: `--max-message-size`."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """Name of the environment variable: `WSSERVER_MAX_MESSAGE_SIZE`."""
        return PREFIX + self.name.upper()

    @property
    def is_flag(self) -> bool:
        """Whether the option takes no value on the command line."""
        return self.parse is a_flag

    @property
    def expected(self) -> str:
        """A description of the values that the option accepts, such as `a whole number from 0 to 65535`."""
        try:
            self.parse(_INVALID)
        except ValueError as error:
            return str(error).removeprefix("expected ")
        raise AssertionError(f"the parser of {self.name} accepts {_INVALID!r}")

    def check(self, value: object) -> Any:
        """
        Check a value that was passed to `Settings` from Python.

        Args:
            value: a Python value of the option's type (int, float in seconds, bool, str, path, tzinfo), or a text as on
                the command line, such as `"64KiB"`; for a repeatable option a tuple or list of such values.

        Returns:
            The value as `Settings` holds it.

        Raises:
            ValueError: the value is invalid; the message says what was expected, and quotes the value unless the
                option is secret.
            LookupError: the value cannot be checked on this machine: the machine has no time zone database.
        """
        if not self.many:
            return self._check_one(value)
        if not isinstance(value, tuple | list):
            raise ValueError(f"expected a tuple of strings such as ('...',){self.contrast(value)}")
        return tuple(self._check_one(item) for item in value)

    def contrast(self, *values: object) -> str:
        """Return the end of an error message: `, not` and the values, quoted; a secret option's value is not shown."""
        if self.secret:
            return " (the value is not shown: it may contain a password)"
        return f", not {quote_values(values)}"

    def _check_one(self, value: object) -> Any:
        if self.parse is a_zone and isinstance(value, tzinfo | None):
            return value
        if self.is_flag:
            if isinstance(value, bool):
                return value
            raise ValueError(f"expected True or False{self.contrast(value)}")
        text = _write(value)
        try:
            parsed = self.parse("" if text is None else text)
        except ValueError as error:
            raise ValueError(f"{error}{self.contrast(value)}") from None
        if text is None or (isinstance(parsed, str) and not isinstance(value, str | os.PathLike)):
            raise ValueError(f"expected a string{self.contrast(value)}")
        return parsed

    def show_default(self) -> str:
        """Return the default for `--help`, such as `1MiB`; empty if there is none."""
        if self.many or self.default == "":
            return ""
        return self.show(self.default)

    def toml_default(self) -> str:
        """Return the default as a TOML value."""
        if self.many:
            return "[]"
        if isinstance(self.default, int) and self.show is show:
            return show(self.default)
        return f'"{self.show(self.default)}"'


Table = Mapping[str, Option]
"""Option name -> option."""


def quote_values(values: Sequence[object]) -> str:
    """Quote values for an error message; long ones are shortened to 60 characters."""
    return ", ".join(map(_quote, values))


def _quote(value: object) -> str:
    if isinstance(value, str):
        return repr(value if len(value) <= 60 else value[:57] + "...")
    if isinstance(value, int) and value.bit_length() >= MAX_SHOWN_BITS:
        return "a huge number"
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def _write(value: object) -> str | None:
    """Convert a Python value to a text for the parsers; None if no option has values of that type."""
    if isinstance(value, str):
        return value
    if isinstance(value, os.PathLike):
        path = os.fspath(value)
        return path if isinstance(path, str) else None
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, float):
        # Without an exponent, which the parsers do not read; durations have at most six decimals (microseconds).
        return f"{value:.6f}".rstrip("0").rstrip(".")
    if isinstance(value, int):
        return str(value) if value.bit_length() < MAX_SHOWN_BITS else "a huge number"
    return None
