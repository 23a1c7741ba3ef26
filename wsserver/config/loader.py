"""
Read options from command-line flags, environment variables and a TOML file; check that they can be used.

An unknown name is an error; its message suggests the most similar known name. The functions take the option table as an
argument, because `settings`, which defines it, imports this module.
"""

import contextlib
import difflib
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsserver.config.options import ENVIRONMENT_ONLY, MAX_SHOWN_BITS, PREFIX, Option, Table, quote_values
from wsserver.config.parsers import a_pattern, an_endpoint, show
from wsserver.errors import SettingError

if TYPE_CHECKING:
    from wsserver.config.settings import Settings

__all__ = ["missing_value", "read_environment", "read_file", "read_flags", "require_libraries", "unknown_flag"]

_REPLACED = {"strict_paths": "--catch-all off"}
"""Name of a removed option -> what to write instead."""


IGNORED = frozenset({PREFIX + "VERSION"})
"""Environment variables with our prefix that are not options. Container images often set a version variable."""

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
Matches environment variables with our prefix that are not options: those of a service or container named `wsserver`.

Kubernetes sets them for every service in the namespace, Docker for linked containers, in the form `NAME=VALUE` here:
https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables,
https://docs.docker.com/engine/network/links/#environment-variables
"""

MIN_SIMILARITY = 0.6
"""Smallest similarity (`difflib` ratio, 0 to 1) at which a known name is suggested for an unknown one."""


def unknown_flag(name: str, table: Table) -> SettingError:
    """
    Return the error for an unknown flag; its message suggests the most similar known flag.

    Args:
        name: the flag as given on the command line, with its dashes.
        table: the option table.
    """
    flags = [option.flag for option in table.values()]
    return SettingError(name, "unknown option" + _nearest(name, [*flags, "--config", "--help", "--version"]))


def missing_value(name: str, table: Table) -> SettingError:
    """
    Return the error for a flag without its value; its message says what the option accepts.

    Args:
        name: the option's name, such as `max_message_size`, or `config`.
        table: the option table.
    """
    expected = table[name].expected if name in table else "the path of a TOML file"
    return SettingError("--" + name.replace("_", "-"), f"expected a value: {expected}")


def read_flags(flags: Mapping[str, Sequence[str]], table: Table) -> dict[str, Any]:
    """
    Read options from the command line.

    Args:
        flags: option name -> the texts given, in order; `["true"]` for an option without a value.
        table: the option table.

    Returns:
        Option name -> parsed value, for the options given.

    Raises:
        SettingError: an option has an invalid value.
    """
    values = {}
    for name, texts in flags.items():
        option = table[name]
        if option.many and any(_looks_like_list(option, text) for text in texts):
            raise SettingError(
                option.flag,
                f"expected one value{option.contrast(*texts)}; repeat "
                f"{option.flag} for each, and write a value with a comma in the configuration file",
            )
        values[name] = _read(option, option.flag, texts)
    return values


def read_environment(environ: Mapping[str, str], table: Table) -> dict[str, Any]:
    """
    Read options from environment variables; the values of a repeatable option are separated by white space.

    Args:
        environ: the environment; an empty value counts as unset.
        table: the option table.

    Returns:
        Option name -> parsed value, for the variables that are set.

    Raises:
        SettingError: a variable that begins with `WSSERVER_` is unknown or has an invalid value.
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
                f"expected values separated by spaces, without commas, quotes or brackets{option.contrast(text)}; "
                f'write a value with a space or a comma in the configuration file: {option.name} = ["..."]',
            )
        values[option.name] = _read(option, name, text.split() if option.many else [text])
    return values


def read_file(path: str, table: Table, by_channel: Table) -> dict[str, Any]:
    """
    Read options from a TOML file.

    Args:
        path: path of the file.
        table: the option table.
        by_channel: the options that a `[[channel]]` table may set.

    Returns:
        Option name -> parsed value, for the keys in the file; `channel` -> (pattern, values) pairs.

    Raises:
        SettingError: the file is missing or is not TOML, or a key is unknown or has an invalid value.
    """
    try:
        source = Path(path).read_text("utf-8")
        document = tomllib.loads(source)
    except OSError as error:
        raise SettingError(path, f"cannot be read: {error.strerror}") from None
    except RecursionError:
        raise SettingError(path, "cannot be read: its values are nested too deeply") from None
    except ValueError as error:
        # Not TOML, not UTF-8, or a number with more digits than Python converts.
        raise SettingError(path, f"is not TOML: {error}") from None
    values = {}
    for name, value in document.items():
        if name == "channel":
            values[name] = _read_channels(path, source, value, by_channel)
            continue
        with _located(partial(_place, path, source, name)):
            if name not in table:
                raise SettingError(name, "unknown key" + _nearest(name, [*table, "channel"]))
            values[name] = _read(table[name], name, _texts(table[name], name, value))
    return values


def require_libraries(settings: "Settings") -> None:
    """
    Check that the optional libraries the settings need are installed.

    Args:
        settings: the settings the server is to run with.

    Raises:
        SettingError: a library is missing; the message says how to install it.
    """
    if settings.redis and find_spec("hiredis") is None:
        raise SettingError("--redis", "needs hiredis (the extra [redis]): pip install hiredis")
    if settings.metrics == "on" and find_spec("prometheus_client") is None:
        raise SettingError("--metrics", "needs prometheus_client (the extra [metrics]): pip install prometheus_client")
    for name in ("token_secret", "token_public_key", "token_jwks_url"):
        if getattr(settings, name) and find_spec("jwt") is None:
            raise SettingError(
                "--" + name.replace("_", "-"), "needs PyJWT (the extra [auth]): pip install 'PyJWT[crypto]'"
            )


@contextlib.contextmanager
def _located(place: Callable[[], str]) -> Iterator[None]:
    """Replace the `where` of a `SettingError`: the line in the file is searched for only if there is an error."""
    try:
        yield
    except SettingError as error:
        raise SettingError(place(), error.problem) from None


def _read(option: Option, where: str, texts: Sequence[str]) -> Any:
    try:
        values = tuple(option.parse(text) for text in texts)
    except ValueError as error:
        raise SettingError(where, f"{error}{option.contrast(*texts)}") from None
    except LookupError as error:
        raise SettingError(where, str(error)) from None
    return values if option.many else values[-1]


def _looks_like_list(option: Option, text: str) -> bool:
    """Return whether a text for a repeatable option is written like a list: with commas, quotes or brackets."""
    if option.parse is an_endpoint:
        # An endpoint may have commas in its path and brackets around an IPv6 address.
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
    """Remove the prefix and the dashes that names share; with them any two names would be similar."""
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
            with _located(partial(place, name)):
                if name not in by_channel:
                    raise SettingError(name, "unknown key" + _nearest(name, ["pattern", *by_channel]))
                option = by_channel[name]
                values[name] = _read(option, name, _texts(option, name, value))
        # Checked after the other keys: if `pattern` is misspelled, the error must name the misspelled key.
        if not isinstance(pattern, str):
            expected = 'expected pattern = "NAME", in which * matches any text'
            if pattern is None:
                raise SettingError(place(), expected)
            raise SettingError(place("pattern"), f"{expected}, not {quote_values([pattern])}")
        with _located(partial(place, "pattern")):
            found.append((_read(_PATTERN, "pattern", [pattern]), values))
    return tuple(found)


_PATTERN = Option("pattern", a_pattern, show, "", "", "", "PATTERN", many=False)
"""The key of a `[[channel]]` table that selects the channels it applies to."""


def _line_in_table(name: str, number: int, source: str) -> str:
    """
    Find the line of a key in a `[[channel]]` table.

    Args:
        name: the key; empty for the header of the table.
        number: index of the table, from 0.
        source: the text of the file.

    Returns:
        ` line N`, or an empty text if the key is not found.
    """
    lines = source.split("\n")
    start = 1
    for end in range(1, len(lines) + 1):
        # The first lines up to the middle of a multi-line value are not valid TOML. So a key that is new once they are
        # valid again starts on the line after the last valid end.
        with contextlib.suppress(ValueError):
            tables = tomllib.loads("\n".join(lines[:end])).get("channel", [])
            if isinstance(tables, list) and len(tables) > number and (not name or name in tables[number]):
                return f" line {start}"
            start = end + 1
    return ""


def _place(path: str, source: str, name: str) -> str:
    return f"{path}{_line_of(name, source)}: {name}"


def _line_of(name: str, source: str) -> str:
    """Return ` line N` of a top-level key, or an empty text; tomllib does not report positions."""
    found = ""
    lines = source.split("\n")
    for number, line in enumerate(lines, 1):
        if re.match(rf"\s*(\[+\s*)?[\"']?{re.escape(name)}[\"']?\s*[=.\]]", line):
            found = f" line {number}"
        # The line may be part of a multi-line string: it counts once the lines so far define the key.
        with contextlib.suppress(ValueError):
            if found and name in tomllib.loads("\n".join(lines[:number])):
                return found
    return found


def _texts(option: Option, where: str, value: object) -> list[str]:
    """Convert a TOML value to the texts that the option's parser reads."""
    if option.many:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise SettingError(where, f'expected a list of strings such as ["a", "b"]{option.contrast(value)}')
        return value
    if isinstance(value, bool) and option.is_flag:
        return [str(value).lower()]
    if isinstance(value, str) and not option.is_flag:
        return [value]
    if isinstance(value, int | float) and not isinstance(value, bool) and not option.is_flag:
        # Python cannot print integers of thousands of digits.
        return [str(value) if isinstance(value, float) or value.bit_length() < MAX_SHOWN_BITS else "a huge number"]
    expected = "true or false" if option.is_flag else "a string or a number"
    raise SettingError(where, f"expected {expected}{option.contrast(value)}")
