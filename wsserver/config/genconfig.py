"""Generate a configuration file to start from (`wsserver genconfig`)."""

import textwrap

from wsserver.config.settings import TABLE

__all__ = ["genconfig"]

_CHANNEL_EXAMPLE = """\
# Options for the channels that match a pattern; the first table that matches applies. Repeat the
# table as needed.
#[[channel]]
#pattern = "chat:*"
#history_size = 1000
#history_ttl = "10m"
#presence = true
#publish = true
#slow = "drop-oldest"
"""


_HEAD = """\
# wsserver: every option at its default. Remove the # before an option to set it.
# The texts name the flags of the command line: --tls-cert is tls_cert in this file."""

_WIDTH = 100
"""Maximum length of a line of comment."""


def genconfig() -> str:
    """Return a TOML file with every option at its default, commented out and explained."""
    lines = [_HEAD, ""]
    group = ""
    for option in TABLE.values():
        if option.group != group:
            group = option.group
            lines += [f"# --- {group} " + "-" * (74 - len(group)), ""]
        lines += [*_comment(option.help), f"#{option.name} = {option.toml_default()}", ""]
    # The table comes last: in TOML every key after a table header belongs to that table.
    return "\n".join([*lines, _CHANNEL_EXAMPLE])


def _comment(text: str) -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent="# ", subsequent_indent="# ", break_long_words=False, break_on_hyphens=False
    )
