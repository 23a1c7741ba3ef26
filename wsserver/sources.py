"""
Read the settings from where they were written: flags, environment, TOML file; and write a file to begin with.

Rule: flags > environment > file > default. What is unknown is an error that names the nearest known name.
"""

import contextlib
import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wsserver.errors import SettingError
from wsserver.settings import BY_CHANNEL, ENVIRONMENT_ONLY, PREFIX, TABLE, Option, Settings

__all__ = ["genconfig", "load", "unknown_flag"]

_CHANNEL_EXAMPLE = """\
# What differs for some channels; the first pattern that fits counts. Of each of these as many as are needed:
#[[channel]]
#pattern = "chat:*"
#history_size = 1000
#history_ttl = "10m"
#presence = true
#publish = true
#slow = "drop-oldest"
"""

_REPLACED = {"strict_paths": "--catch-all off"}
"""Option that no longer exists -> what to write instead."""


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
    # At the end: in TOML everything after a table belongs to it.
    return "\n".join([*lines, _CHANNEL_EXAMPLE])


def _read(option: Option, where: str, texts: Sequence[str]) -> Any:
    try:
        values = tuple(option.parse(text) for text in texts)
    except ValueError as error:
        shown = "what was given" if option.secret else _quote(texts)
        raise SettingError(where, f"{error}, not {shown}") from None
    return values if option.many else values[-1]


def _quote(texts: Sequence[str]) -> str:
    return ", ".join(repr(text if len(text) <= 60 else text[:57] + "...") for text in texts)


def _nearest(name: str, known: Sequence[str]) -> str:
    replacement = _REPLACED.get(name.lower().removeprefix(PREFIX.lower()).strip("-").replace("-", "_"))
    if replacement is not None:
        return f"; it is now {replacement}"
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
            raise SettingError(name, "unknown environment variable" + _nearest(name.upper(), known))
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
        if name == "channel":
            values[name] = _channels(path, source, value)
            continue
        if name not in TABLE:
            raise SettingError(where, "unknown key" + _nearest(name, [*TABLE, "channel"]))
        values[name] = _read(TABLE[name], where, _texts(TABLE[name], where, value))
    return values


def _channels(path: str, source: str, tables: object) -> tuple[tuple[str, Mapping[str, Any]], ...]:
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise SettingError(f"{path}{_line_of('channel', source)}: channel", "expected tables: [[channel]]")
    # tomllib does not tell where a table stands.
    heads = re.compile(r"""\s*\[\[\s*["']?channel["']?\s*\]\]""")
    lines = [number for number, line in enumerate(source.split("\n"), 1) if heads.match(line)]
    found = []
    for number, table in enumerate(tables):
        place = (
            f"{path} line {lines[number]}: channel" if len(lines) == len(tables) else f"{path}: channel {number + 1}"
        )
        pattern = table.pop("pattern", None)
        if not isinstance(pattern, str):
            raise SettingError(place, 'expected pattern = "NAME", perhaps with asterisks')
        values = {}
        for name, value in table.items():
            if name not in BY_CHANNEL:
                raise SettingError(f"{place}: {name}", "unknown key" + _nearest(name, ["pattern", *BY_CHANNEL]))
            option = BY_CHANNEL[name]
            values[name] = _read(option, f"{place}: {name}", _texts(option, f"{place}: {name}", value))
        found.append((_read(TABLE["channel_allow"], f"{place}: pattern", [pattern])[0], values))
    return tuple(found)


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
    shown = "what was given" if option.secret else repr(value)
    raise SettingError(where, f"expected {'true or false' if option.is_flag else 'a string or a number'}, not {shown}")
