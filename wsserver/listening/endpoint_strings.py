"""Parse Twisted's endpoint strings, such as `tcp:8080:interface=127.0.0.1`, without opening a port."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["BEHIND_PROXY", "EndpointString", "anchor_endpoint", "parse_endpoint"]

BEHIND_PROXY = "haproxy:"
"""Prefix of an endpoint string whose connections begin with a header of the PROXY protocol."""

_FILES: Final[Mapping[str, Mapping[str, int]]] = {
    "ssl": {"privateKey": 1, "certKey": 2, "extraCertChain": 6, "dhParameters": 7},
    "tls": {"path": 0},
}
"""Kind -> the parameters that are paths of TLS files, with their indexes among the positional arguments."""

_TOKEN = re.compile(r"(?:[^\\:]|\\.)+|:", re.DOTALL)
_OPTION = re.compile(r"((?:[^\\=]|\\.)*)=(.*)", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True)
class EndpointString:
    """The parts of an endpoint string `kind:argument:argument:name=value`."""

    kind: str
    arguments: tuple[str, ...]
    options: Mapping[str, str]

    def get(self, name: str, position: int) -> str | None:
        """
        Return a parameter that may be given by name or by position.

        Args:
            name: the parameter's name.
            position: the parameter's index among the positional arguments, from 0.

        Returns:
            The value; None if the endpoint string does not contain the parameter.
        """
        return self.options.get(name, self.arguments[position] if position < len(self.arguments) else None)


def parse_endpoint(text: str) -> EndpointString:
    """
    Parse an endpoint string as `twisted.internet.endpoints.serverFromString` does.

    Args:
        text: the endpoint string; a backslash escapes the next character, such as `:`, `=` or a backslash.
    """
    parts = [""]
    for token in _TOKEN.findall(text):
        if token == ":":
            parts.append("")
        else:
            parts[-1] = token
    kind = parts.pop(0)
    options = {}
    arguments = []
    for part in parts:
        if option := _OPTION.fullmatch(part):
            options[_unescape(option[1])] = _unescape(option[2])
        else:
            arguments.append(_unescape(part))
    return EndpointString(_unescape(kind), tuple(arguments), options)


def _unescape(text: str) -> str:
    return _ESCAPED.sub(r"\1", text)


def anchor_endpoint(text: str, directory: str) -> str:
    """
    Return an endpoint string in which the paths of TLS files are absolute.

    Args:
        text: the endpoint string.
        directory: the directory that relative paths start from.
    """
    prefix = BEHIND_PROXY if text.startswith(BEHIND_PROXY) else ""
    where = parse_endpoint(text.removeprefix(prefix))
    arguments, options = list(where.arguments), dict(where.options)
    for name, position in _FILES.get(where.kind, {}).items():
        if options.get(name):
            options[name] = os.path.join(directory, options[name])
        elif position < len(arguments) and arguments[position]:
            arguments[position] = os.path.join(directory, arguments[position])
    if (tuple(arguments), options) == (where.arguments, where.options):
        return text
    pairs = (f"{_escape(name)}={_escape(value)}" for name, value in options.items())
    return prefix + ":".join([_escape(where.kind), *map(_escape, arguments), *pairs])


def _escape(text: str) -> str:
    return re.sub(r"([\\:=])", r"\\\1", text)
