"""
Read options from where a person wrote them: flags, environment variables, a TOML file.

Unknown names are errors that name the nearest known one. The table of options, an argument, is that of `settings`.
"""

import contextlib
import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wsserver.config.options import ENVIRONMENT_ONLY, MAX_SHOWN_BITS, PREFIX, Option, Table, quote_values
from wsserver.config.parsers import a_pattern, an_endpoint, show
from wsserver.errors import SettingError

__all__ = ["read_environment", "read_file", "read_flags", "unknown_flag"]

_REPLACED = {"strict_paths": "--catch-all off"}
"""Option that no longer exists -> what to write instead."""


IGNORED = frozenset({PREFIX + "VERSION"})
"""Variables that are neither options nor mistakes: builders of container images set the version."""

_SERVICE_LINKS = re.compile(
    r"""
    WSSERVER(_[A-Z0-9_]+)?_(
        SERVICE_HOST=[0-9a-fA-F.:]+ | SERVICE_PORT(_[A-Z0-9_]+)?=[0-9]+ | PORT=(tcp|udp|sctp)://.* |
        PORT_[0-9]+_(TCP|UDP|SCTP)(=.*://.*|_PROTO=(tcp|udp|sctp)|_PORT=[0-9]+|_ADDR=.*) |
        NAME=/.*/.* | ENV_.*=.*
    )
    """,
    re.VERBOSE | re.DOTALL,
)
"""
Variables by which Kubernetes tells a container of the services in its namespace, and Docker of linked containers.

https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables,
https://docs.docker.com/engine/network/links/#environment-variables
"""

MIN_SIMILARITY = 0.6
"""From which ratio of `difflib` on a known name is suggested for an unknown one."""


def unknown_flag(name: str, table: Table) -> SettingError:
    """
    Report an unknown flag, and name the nearest one.

    Args:
        name: the flag as the person wrote it, with its dashes.
        table: the options.
    """
    flags = [option.flag for option in table.values()]
    return SettingError(name, "unknown option" + _nearest(name, [*flags, "--config", "--help", "--version"]))


def read_flags(flags: Mapping[str, Sequence[str]], table: Table) -> dict[str, Any]:
    """
    Read options from the command line.

    Args:
        flags: option name -> the texts given, in order; `["true"]` for a flag.
        table: the options.

    Raises:
        SettingError: an option has a bad value.
    """
    values = {}
    for name, texts in flags.items():
        option = table[name]
        if option.many and any(_looks_like_list(option, text) for text in texts):
            raise SettingError(
                option.flag,
                f"expected one value, not {option.quote(texts[0]) if len(texts) == 1 else quote_values(texts)}; repeat "
                f"{option.flag} for each, and write a value with a comma in the configuration file",
            )
        values[name] = _read(option, option.flag, texts)
    return values


def read_environment(environ: Mapping[str, str], table: Table) -> dict[str, Any]:
    """
    Read options from environment variables; values of a list are separated by white space.

    Args:
        environ: the environment; an empty value counts as unset.
        table: the options.

    Raises:
        SettingError: a variable of ours is unknown or has a bad value.
    """
    variables = {option.variable: option for option in table.values()}
    others = ENVIRONMENT_ONLY | IGNORED
    values = {}
    for name, text in environ.items():
        if not name.startswith(PREFIX) or text == "" or name in others or _SERVICE_LINKS.fullmatch(f"{name}={text}"):
            continue
        if name not in variables:
            known = [*variables, *ENVIRONMENT_ONLY]
            raise SettingError(name, "unknown environment variable" + _nearest(name.upper(), known))
        option = variables[name]
        if option.many and _looks_like_list(option, text):
            raise SettingError(
                name,
                f"expected values separated by spaces, without commas, quotes or brackets, not {option.quote(text)}; "
                f'write a value with a space or a comma in the configuration file: {option.name} = ["..."]',
            )
        values[option.name] = _read(option, name, text.split() if option.many else [text])
    return values


def read_file(path: str, table: Table, by_channel: Table) -> dict[str, Any]:
    """
    Read options from a TOML file.

    Args:
        path: of the file.
        table: the options.
        by_channel: the options that a table `[[channel]]` may have.

    Raises:
        SettingError: the file is missing or is not TOML, or a key is unknown or has a bad value.
    """
    try:
        source = Path(path).read_text("utf-8")
        document = tomllib.loads(source)
    except OSError as error:
        raise SettingError(path, f"cannot be read: {error.strerror}") from None
    except RecursionError:
        raise SettingError(path, "cannot be read: its values are nested too deeply") from None
    except ValueError as error:
        # Not TOML, not UTF-8, or a number with more digits than Python reads.
        raise SettingError(path, f"is not TOML: {error}") from None
    values = {}
    for name, value in document.items():
        where = f"{path}{_line_of(name, source)}: {name}"
        if name == "channel":
            values[name] = _read_channels(path, source, value, by_channel)
            continue
        if name not in table:
            raise SettingError(where, "unknown key" + _nearest(name, [*table, "channel"]))
        values[name] = _read(table[name], where, _texts(table[name], where, value))
    return values


def _read(option: Option, where: str, texts: Sequence[str]) -> Any:
    try:
        values = tuple(option.parse(text) for text in texts)
    except ValueError as error:
        shown = option.quote("") if option.secret else quote_values(texts)
        raise SettingError(where, f"{error}, not {shown}") from None
    except LookupError as error:
        raise SettingError(where, str(error)) from None
    return values if option.many else values[-1]


def _looks_like_list(option: Option, text: str) -> bool:
    """Whether a text has commas, quotes or brackets where one value was expected, or several between white space."""
    if option.parse is an_endpoint:
        # Commas may stand in the path of an endpoint, brackets around an IPv6 address.
        return re.search(r""",\s*[a-z0-9]+:|^["']""", text) is not None
    return "," in text or re.search(r"""(^|\s)["'\[]|["'](\s|$)""", text) is not None


def _nearest(name: str, known: Sequence[str]) -> str:
    bare = {_bare(each): each for each in known}
    replacement = _REPLACED.get(_bare(name))
    if replacement is not None:
        return f"; it is now {replacement}"
    near = difflib.get_close_matches(_bare(name), bare, n=1, cutoff=MIN_SIMILARITY)
    return f"; did you mean {bare[near[0]]}?" if near else ""


def _bare(name: str) -> str:
    """Strip what all names have in common: it would make every two of them similar."""
    return name.lower().removeprefix(PREFIX.lower()).strip("-").replace("-", "_")


def _read_channels(
    path: str, source: str, tables: object, by_channel: Table
) -> tuple[tuple[str, Mapping[str, Any]], ...]:
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise SettingError(f"{path}{_line_of('channel', source)}: channel", "expected tables: [[channel]]")
    found = []
    for number, table in enumerate(tables):

        def place(name: str = "", number: int = number) -> str:
            line = _line_in_table(name, number, source)
            return f"{path}{line or f' table {number + 1}'}: channel{': ' if name else ''}{name}"

        pattern = table.pop("pattern", None)
        values = {}
        for name, value in table.items():
            if name not in by_channel:
                raise SettingError(place(name), "unknown key" + _nearest(name, ["pattern", *by_channel]))
            option = by_channel[name]
            values[name] = _read(option, place(name), _texts(option, place(name), value))
        # After the other keys: a misspelled one is what is missing here.
        if not isinstance(pattern, str):
            expected = 'expected pattern = "NAME", perhaps with asterisks'
            if pattern is None:
                raise SettingError(place(), expected)
            raise SettingError(place("pattern"), f"{expected}, not {quote_values([pattern])}")
        found.append((_read(_PATTERN, place("pattern"), [pattern]), values))
    return tuple(found)


_PATTERN = Option("pattern", a_pattern, show, "", "", "", "PATTERN", many=False)
"""The key of a table `[[channel]]` that says for which channels it is."""


def _line_in_table(name: str, number: int, source: str) -> str:
    """Find the line of a key in a `[[channel]]` table, or of the table's head if the name is empty."""
    lines = source.split("\n")
    start = 1
    for end in range(1, len(lines) + 1):
        # A part of the file that ends within a value of several lines is not TOML: the value starts after the last
        # part that is.
        with contextlib.suppress(ValueError):
            tables = tomllib.loads("\n".join(lines[:end])).get("channel", [])
            if isinstance(tables, list) and len(tables) > number and (not name or name in tables[number]):
                return f" line {start}"
            start = end + 1
    return ""


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
            raise SettingError(where, f'expected a list of strings such as ["a", "b"], not {option.quote(value)}')
        return value
    if isinstance(value, bool) and option.is_flag:
        return [str(value).lower()]
    if isinstance(value, str) and not option.is_flag:
        return [value]
    if isinstance(value, int | float) and not isinstance(value, bool) and not option.is_flag:
        # Python does not write out integers of thousands of digits.
        return [str(value) if isinstance(value, float) or value.bit_length() < MAX_SHOWN_BITS else "a huge number"]
    expected = "true or false" if option.is_flag else "a string or a number"
    raise SettingError(where, f"expected {expected}, not {option.quote(value)}")
