"""Text for people: quote what a peer sent, leave out secrets, escape control characters."""

import re

__all__ = ["escape", "quote", "redact"]

# C0, DEL, C1, the line ends of Unicode, its bidirectional controls, and halves of surrogate pairs.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# Where tokens are carried, and what begins as the JSON of a token's header does, wherever it is.
_SECRET = re.compile(r"\b((?i:(?:access_)?token=|bearer[ .]+))[^&\s,;'\"]+|\beyJ[A-Za-z0-9_-]{6,}(?:\.[A-Za-z0-9_-]*)*")


def redact(text: str) -> str:
    """Put `[secret]` in the place of every token in a text that may be logged."""
    return _SECRET.sub(lambda match: f"{match[1] or ''}[secret]", text)


def quote(text: str, limit: int = 80) -> str:
    """
    Quote what a peer sent, for a person: control characters escaped, tokens left out, shortened.

    Args:
        text: what the peer sent.
        limit: most characters to show.
    """
    text = redact(text)
    return ascii(text if len(text) <= limit else text[: limit - 3] + "...")


def escape(text: str) -> str:
    r"""Write control characters, bidirectional ones among them, as `\x1b` or `\u2028`."""
    # What is printable to Python has none of them, and is the rule.
    if text.isprintable():
        return text
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text)
