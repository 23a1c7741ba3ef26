"""
Parameters of faults: their types, bounds and descriptions.

This module does not use Twisted, a clock or a socket.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from wsserver.config.parsers import (
    a_choice,
    a_duration,
    a_size,
    a_text,
    an_integer,
    parse_duration,
    show,
    show_duration,
    show_size,
)
from wsserver.errors import InvalidFault
from wsserver.text import quote

__all__ = ["Parameter", "choice", "duration", "integer", "read", "size", "text"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a fault."""

    name: str
    kind: str
    """`integer`, `duration`, `size`, `choice` or `text`."""
    default: Any
    description: str
    read: Callable[[str], Any]
    """Parse a text to a value; raises ValueError with a message that says what was expected."""
    show: Callable[[Any], str] = show
    """Write a value as a text that `read` reads back."""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()

    def describe(self, default: Any) -> dict[str, Any]:
        """
        Return a description that can be encoded as JSON.

        Args:
            default: the parameter's default for a certain fault.
        """
        about: dict[str, Any] = {
            "name": self.name,
            "type": self.kind,
            "default": default if self.kind == "integer" else self.show(default),
            "description": self.description,
        }
        if self.minimum is not None:
            bounds = (self.minimum, self.maximum)
            about["minimum"], about["maximum"] = bounds if self.kind == "integer" else map(self.show, bounds)
        return about | ({"choices": list(self.choices)} if self.choices else {})


def integer(name: str, default: int, low: int, high: int, description: str) -> Parameter:
    """
    Return a parameter for whole numbers.

    Args:
        name: its name in the query.
        default: its default.
        low: the least value.
        high: the greatest value.
        description: what it means, as a sentence.
    """
    return Parameter(name, "integer", default, description, an_integer(low, high), minimum=low, maximum=high)


def duration(name: str, default: str, low: float, high: float, description: str) -> Parameter:
    """
    Return a parameter for durations such as `500ms`.

    Args:
        name: its name in the query.
        default: its default as text.
        low: the least value in seconds.
        high: the greatest value in seconds.
        description: what it means, as a sentence.
    """
    start, read = parse_duration(default, low, high), a_duration(low, high)
    return Parameter(name, "duration", start, description, read, show_duration, low, high)


def size(name: str, default: int, low: int, high: int, description: str) -> Parameter:
    """
    Return a parameter for sizes such as `64KiB`.

    Args:
        name: its name in the query.
        default: its default in bytes.
        low: the least value in bytes.
        high: the greatest value in bytes.
        description: what it means, as a sentence.
    """
    return Parameter(name, "size", default, description, a_size(low, high), show_size, low, high)


def choice(name: str, choices: tuple[str, ...], description: str) -> Parameter:
    """Return a parameter with fixed choices; the first one is the default."""
    return Parameter(name, "choice", choices[0], description, a_choice(*choices), choices=choices)


def text(
    name: str, default: str, description: str, read: Callable[[str], str] = a_text, longest: int = 1024
) -> Parameter:
    """
    Return a parameter for a line of text.

    Args:
        name: its name in the query.
        default: its default.
        description: what it means, as a sentence.
        read: parses the text; raises ValueError with a message that says what was expected.
        longest: maximum number of characters.
    """
    return Parameter(name, "text", default, description, partial(_read_text, read, longest))


def _read_text(read: Callable[[str], str], longest: int, given: str) -> str:
    if len(given) > longest:
        raise ValueError(f"expected at most {longest} characters")
    return read(given)


def read(parameter: Parameter, name: str, given: str) -> Any:
    """
    Return the value of a parameter.

    Args:
        parameter: the parameter.
        name: its name for the error message.
        given: its text.

    Raises:
        InvalidFault: the text is not a value of the parameter.
    """
    try:
        return parameter.read(given)
    except ValueError as error:
        raise InvalidFault(f"{name}={quote(given)}: {error}", parameter=name) from None
