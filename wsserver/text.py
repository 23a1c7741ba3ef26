"""
Text: quote data from peers, remove secrets and escape control characters in logs and messages; the token rule of HTTP.

The token rule is written as regular expressions without anchors.
"""

import re
from collections.abc import Sequence
from typing import Final

__all__ = ["TOKEN", "TOKEN_BYTES", "TOKEN_CHARACTER", "escape", "join_choices", "quote", "redact", "redact_header"]

TOKEN_CHARACTER: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
"""A character of a token: `tchar` of RFC 9110 section 5.6.2."""

TOKEN: Final = f"{TOKEN_CHARACTER}+"
"""A token: a method, a header name, a subprotocol or an extension (RFC 9110 section 5.6.2)."""

TOKEN_BYTES: Final = TOKEN.encode("ascii")
"""`TOKEN` for matching bytes."""

# C0, DEL and C1 controls; Unicode's line separators and bidirectional controls; halves of surrogate pairs.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# Values of token parameters and of the Bearer scheme, but not the word TOKEN in messages; any text that begins like a
# JWT: `eyJ` is `{"` in base64; and the user name and the password in a URL.
_SECRET = re.compile(
    r"(?:\b|(?<=%[0-9A-Fa-f]{2}))((?i:(?:(?:access_)?token|tap)(?:=|%3D)|bearer[ .]+))(?!TOKEN(?:[\s,;]|$))[^&\s,;'\"]+"
    r"|\beyJ[A-Za-z0-9_-]{6,}(?:\.[A-Za-z0-9_-]*)*"
    # A user and a password in a URL, also percent-encoded. Possessive, or a long run of colons would take seconds.
    r"|(?<=//)(?:[^/?#\s@'\":%]|%(?!3[Aa]|40))*+(?::|%3[Aa])(?:[^/?#\s@'\"%]|%(?!40))*+(?=@|%40)"
)

# Proxies add some of these: whoever sends a request must not learn them from a description of it.
_SECRET_HEADER = re.compile(r"(?:^|[-_])(?:api-?key|token|secret|password|jwt|session|credentials?)(?:[-_]|$)")


def redact(text: str) -> str:
    """Replace every token in a text with `[secret]`, so that the text can be logged."""
    return _SECRET.sub(lambda match: f"{match[1] or ''}[secret]", text)


def redact_header(name: str, value: str) -> str:
    """
    Replace the secrets in the value of a request header with `[secret]`.

    Args:
        name: the header's name, in lower case.
        value: its value.
    """
    if name == "cookie":
        return ";".join(map(_redact_cookie, value.split(";")))
    if name in ("authorization", "proxy-authorization"):
        scheme, space, _ = value.partition(" ")
        return f"{scheme} [secret]" if space else "[secret]"
    return "[secret]" if name == "set-cookie" or _SECRET_HEADER.search(name) else redact(value)


def _redact_cookie(pair: str) -> str:
    name, separator, _ = pair.partition("=")
    if separator:
        return f"{name}=[secret]"
    # Browsers send a cookie without a name as its value.
    value = pair.lstrip()
    return f"{pair.removesuffix(value)}[secret]" if value else pair


def quote(text: str, limit: int = 80) -> str:
    """
    Quote a text that a peer sent: tokens removed, shortened, and all but printable ASCII escaped.

    Args:
        text: the text.
        limit: maximum number of characters, before quoting and escaping.
    """
    text = redact(text)
    return ascii(text if len(text) <= limit else text[: limit - 3] + "...")


def escape(text: str) -> str:
    r"""Escape the control characters in a text, including bidirectional ones, as `\x1b` or `\u2028`."""
    # The usual case: printable text contains none of them.
    if text.isprintable():
        return text
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text)


def join_choices(choices: Sequence[str]) -> str:
    """List alternatives, at least one, as in a sentence: `a`, `a or b`, or `a, b or c`."""
    *others, last = choices
    return f"{', '.join(others)} or {last}" if others else last
