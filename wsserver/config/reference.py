"""
Generate the options reference, docs/reference/options.md, from the option table.

`make docs` runs this module; a test fails if the page differs from the table.
"""

import re

from wsserver.config.options import Option
from wsserver.config.settings import BY_CHANNEL, TABLE

__all__ = ["options_page"]

_HEAD = """\
# Options

<!-- Generated from wsserver/config by `make docs`; edit the option table instead. -->

You can set each option with a flag, an environment variable or a key of the configuration file. A flag overrides the
environment variable, which overrides the file. [Configuration](configuration.md) explains how to write values and lists
in each of the three. `wsserver genconfig` prints a configuration file that contains every option with its default.

On SIGHUP, a running server [reads its options again](../how-to/stop-and-reload.md#reload). The descriptions of options
that need a restart say so.

A size is a number of bytes, or a number with a unit: `500B`, `64KiB`, `1MiB`, `1GiB`. A time is a number of seconds,
or a number with a unit: `500ms`, `25s`, `2m`, `1h`.

| Option | Default |
|---|---|
"""

_CHANNEL_TABLES = """\
## Options by channel

A `[[channel]]` table of the configuration file sets these keys for the channels that match its `pattern`. If the
patterns of several tables match a channel, the first table applies.
[Channels](channels.md#options-for-some-channels) shows an example.

| Key | Description |
|---|---|
| `pattern` | Name of a channel, or a pattern such as `chat:*`. |
"""


def options_page() -> str:
    """Return the options reference in Markdown."""
    rows = [f"| [`{option.flag}`](#{_anchor(option)}) | {_default(option)} |\n" for option in TABLE.values()]
    parts = [_HEAD, *rows, "\n"]
    group = ""
    for option in TABLE.values():
        if option.group != group:
            group = option.group
            parts.append(f"## {group}\n\n")
        parts.append(_section(option))
    parts.append(_CHANNEL_TABLES)
    parts.extend(f"| `{name}` | {_channel_text(option)} |\n" for name, option in BY_CHANNEL.items())
    return "".join(parts)


def _section(option: Option) -> str:
    flag = option.flag if option.is_flag else f"{option.flag} {option.metavar}"
    default = _default(option)
    lines = [
        f"### `{option.flag}`",
        "",
        _markdown(option.help),
        "",
        f"- Flag: `{flag}`" + (" (repeatable)" if option.many else ""),
        f"- Environment variable: `{option.variable}`" + (" (values separated by spaces)" if option.many else ""),
        f"- Key in the file: `{option.name}`" + (" (a list)" if option.many else ""),
        f"- Value: {_markdown(option.expected)}",
        *([f"- Default: {default}"] if default else []),
        *(
            []
            if option.reload
            else ["- A change needs a restart: [SIGHUP](../how-to/stop-and-reload.md#reload) does not apply it."]
        ),
        "",
    ]
    return "\n".join(lines) + "\n"


def _channel_text(option: Option) -> str:
    if TABLE.get(option.name) is option:
        return f"As {_link(option)}."
    return _markdown(option.help)


def _default(option: Option) -> str:
    default = option.show_default()
    return f"`{default}`" if default else ""


def _anchor(option: Option) -> str:
    """Return the name that GitHub gives to the heading of the option's section."""
    return option.flag


def _link(option: Option) -> str:
    return f"[`{option.flag}`](#{_anchor(option)})"


def _markdown(text: str) -> str:
    """Escape a help text for Markdown, and link the options it names."""
    text = re.sub(r"([*_<>|\[\]])", r"\\\1", text)
    flags = {option.flag: option for option in TABLE.values()}
    return re.sub(r"--[a-z-]*[a-z]", lambda found: _link(flags[found[0]]) if found[0] in flags else found[0], text)


if __name__ == "__main__":
    print(options_page(), end="")
