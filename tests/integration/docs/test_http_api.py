"""The commands of docs/reference/http-api.md print what the page shows."""

import json
import re

from paths import DOCS

PAGE = DOCS / "reference" / "http-api.md"

FREE = {"epoch", "uid", "name", "version", "uptime", "sockets", "max_sockets", "process_cpu_seconds_total"}
FREE |= {"process_resident_memory_bytes", "event_loop_lag_seconds_sum", "event_loop_lag_seconds_count"}
"""Fields whose values differ in each run."""


def blocks():
    """Yield the page's commands, each with the output shown below it."""
    found = re.findall(r"```(sh|json|python)\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    rest = iter([*found, ("", "")])
    kind, text = next(rest)
    while kind:
        next_kind, next_text = next(rest)
        shown = next_text if next_kind == "json" else None
        if kind != "json":
            yield kind, text, shown
        kind, text = next_kind, next_text


def values(text):
    """Parse consecutive JSON values."""
    decoder, found = json.JSONDecoder(), []
    while text := text.strip():
        value, end = decoder.raw_decode(text)
        found.append(value)
        text = text[end:]
    return found


def alike(value):
    """Replace each value that differs in each run with its type."""
    if isinstance(value, dict):
        return {name: type(one) if name in FREE else alike(one) for name, one in value.items()}
    return [alike(one) for one in value] if isinstance(value, list) else value


def test_each_command_prints_the_output_below_it(shell, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tried = 0
    for kind, text, shown in blocks():
        output = shell(text, kind)
        if shown is not None:
            assert alike(values(output)) == alike(values(shown)), text
            tried += 1
        elif kind == "python":
            assert output == "3\n"
    assert tried == 8
