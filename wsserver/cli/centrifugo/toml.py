"""Write the result of a conversion as a configuration file of this server, which is TOML."""

import re
import textwrap
from collections.abc import Mapping
from typing import Any, Final

from wsserver.cli.centrifugo.options import Converted

__all__ = ["write_configuration"]

_HEAD: Final = "Converted from a configuration of Centrifugo by `wsserver import-centrifugo`."
_REMARKS: Final = {
    "interface": ("0.0.0.0", "Centrifugo also listens on IPv6; :: listens on all addresses of both kinds."),  # noqa: S104
    "token_no_expiry": (True, "Remove this if all your tokens have exp."),
    "token_secret_weak": (True, "Replace the secret by one of at least 32 bytes, then remove this."),
    "api_errors": ("body", "Errors have the status 200, as the libraries of Centrifugo expect."),
    "allow_any_origin_insecure": (True, "Name the origins of your pages with origin instead, if you can."),
}
"""Option -> a value, and a comment on it if the option has this value."""

_WIDTH = 100
"""Maximum length of a line of comment."""

_ESCAPED = re.compile(r'[\x00-\x1f\x7f"\\]')
_SHORT = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def write_configuration(converted: Converted) -> str:
    """
    Write the configuration file.

    Args:
        converted: the result of the conversion.

    Returns:
        TOML. The notes are comments at the top.
    """
    lines = _write_comment(_HEAD)
    if converted.notes:
        lines += ["#", "# Options that have no counterpart, or another meaning:"]
        lines += [line for note in converted.notes for line in _write_comment(f"- {note.option}: {note.reason}")]
    lines.append("")
    for name, value in converted.options.items():
        remarked, remark = _REMARKS.get(name, (None, ""))
        lines += [*(_write_comment(remark) if value == remarked else []), *_write_keys({name: value})]
    for pattern, keys in converted.tables:
        lines += ["", "[[channel]]", *_write_keys({"pattern": pattern, **keys})]
    return "\n".join(lines) + "\n"


def _write_value(value: Any) -> str:
    """Write a value: a text, a boolean, a whole number or a list of these."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_write_value, value))}]"
    return '"' + _ESCAPED.sub(lambda found: _SHORT.get(found[0]) or f"\\u{ord(found[0]):04x}", value) + '"'


def _write_keys(values: Mapping[str, Any]) -> list[str]:
    """Return a line for each key and its value."""
    return [f"{name} = {_write_value(value)}" for name, value in values.items()]


def _write_comment(text: str) -> list[str]:
    """Return the lines of a comment, wrapped."""
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    # A control character is invalid in a comment.
    clean = _ESCAPED.sub(lambda found: found[0] if found[0] in '"\\' else " ", text)
    return textwrap.wrap(
        clean, _WIDTH, initial_indent="# ", subsequent_indent="# ", break_long_words=False, break_on_hyphens=False
    )
