"""
A row of the option table: what an option is called everywhere, and how its values are read, checked and shown.

Pure: no Twisted, no clock, no file.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from typing import Any

from wsserver.config.parsers import a_flag, a_zone, show

__all__ = ["ENVIRONMENT_ONLY", "MAX_SHOWN_BITS", "PREFIX", "Option", "Table", "quote_values"]

PREFIX = "WSSERVER_"

ENVIRONMENT_ONLY = frozenset(PREFIX + name for name in ("CONFIG", "TOKEN", "PUREPYTHON", "BUILD_EXTENSION"))
"""Variables that are no option of the table: `--config`, the token of `wsserver subscribe`, those of the extension."""

MAX_SHOWN_BITS = 1000
"""Python refuses to write out integers of thousands of digits."""


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
    secret: bool = False
    """What is given for it is shown nowhere, not even where it is wrong."""

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
        return self.parse is a_flag

    def check(self, value: object) -> Any:
        """
        Check a value that an application has passed.

        Args:
            value: a Python value of the option's type (int, float in seconds, bool, str, tzinfo), or a text as on the
                command line, such as `"64KiB"`; for a repeatable option a tuple or list of these.

        Returns:
            The value as `Settings` holds it.

        Raises:
            ValueError: the value is wrong; the message says what was expected, and quotes the value unless the option
                is secret.
            LookupError: the value cannot be checked on this machine.
        """
        if not self.many:
            return self._check_one(value)
        if not isinstance(value, tuple | list):
            raise ValueError(f"expected a tuple of strings such as ('...',), not {self.quote(value)}")
        return tuple(self._check_one(item) for item in value)

    def quote(self, value: object) -> str:
        """Quote a value for an error message; one of a secret option is not shown."""
        return "what was given" if self.secret else quote_values([value])

    def _check_one(self, value: object) -> Any:
        if self.parse is a_zone and isinstance(value, tzinfo | None):
            return value
        if self.is_flag:
            if isinstance(value, bool):
                return value
            raise ValueError(f"expected True or False, not {self.quote(value)}")
        text = _write(value)
        try:
            parsed = self.parse("" if text is None else text)
        except ValueError as error:
            raise ValueError(f"{error}, not {self.quote(value)}") from None
        if text is None or (isinstance(parsed, str) and not isinstance(value, str | os.PathLike)):
            raise ValueError(f"expected a string, not {self.quote(value)}")
        return parsed

    def show_default(self) -> str:
        """Write the default for `--help`, e.g. `1MiB`; empty where there is none."""
        if self.many or self.default == "":
            return ""
        return self.show(self.default)

    def toml_default(self) -> str:
        """Write the default as a TOML value."""
        if self.many:
            return "[]"
        if isinstance(self.default, int) and self.show is show:
            return show(self.default)
        return f'"{self.show(self.default)}"'


Table = Mapping[str, Option]
"""Option name -> option."""


def quote_values(values: Sequence[object]) -> str:
    """Quote values for an error message, long ones shortened."""
    return ", ".join(map(_quote, values))


def _quote(value: object) -> str:
    if isinstance(value, str):
        return repr(value if len(value) <= 60 else value[:57] + "...")
    if isinstance(value, int) and value.bit_length() >= MAX_SHOWN_BITS:
        return "a huge number"
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def _write(value: object) -> str | None:
    """Write a Python value as a text that parsers read; None for a value of a type that no option has."""
    if isinstance(value, str):
        return value
    if isinstance(value, os.PathLike):
        path = os.fspath(value)
        return path if isinstance(path, str) else None
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, float):
        # No exponent: parsers take digits, and microseconds are as fine as a time gets.
        return f"{value:.6f}".rstrip("0").rstrip(".")
    if isinstance(value, int):
        return str(value) if value.bit_length() < MAX_SHOWN_BITS else "a huge number"
    return None
