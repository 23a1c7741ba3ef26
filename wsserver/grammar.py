"""Grammar rules of HTTP that several modules use, as regular expressions without anchors."""

from typing import Final

__all__ = ["TOKEN", "TOKEN_BYTES", "TOKEN_CHARACTER"]

TOKEN_CHARACTER: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
"""A character of a token: `tchar` of RFC 9110 section 5.6.2."""

TOKEN: Final = f"{TOKEN_CHARACTER}+"
"""A token: a method, a header name, a subprotocol or an extension (RFC 9110 section 5.6.2)."""

TOKEN_BYTES: Final = TOKEN.encode("ascii")
"""`TOKEN` for matching bytes."""
