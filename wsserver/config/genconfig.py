"""Generate a configuration file to start from (`wsserver genconfig`)."""

from wsserver.config.settings import TABLE

__all__ = ["genconfig"]

_CHANNEL_EXAMPLE = """\
# Options for the channels that match a pattern; the first table that matches applies. Repeat the table as needed.
#[[channel]]
#pattern = "chat:*"
#history_size = 1000
#history_ttl = "10m"
#presence = true
#publish = true
#slow = "drop-oldest"
"""


def genconfig() -> str:
    """Return a TOML file with every option at its default, commented out and explained."""
    lines = ["# wsserver: every option at its default. Remove the # before an option to set it.", ""]
    group = ""
    for option in TABLE.values():
        if option.group != group:
            group = option.group
            lines += [f"# --- {group} " + "-" * (74 - len(group)), ""]
        lines += [f"# {option.help}", f"#{option.name} = {option.toml_default()}", ""]
    # The table comes last: in TOML every key after a table header belongs to that table.
    return "\n".join([*lines, _CHANNEL_EXAMPLE])
