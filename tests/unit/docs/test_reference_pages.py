"""The pages of the reference list every option of every command, and every limit that is counted."""

import re

import pytest
from paths import DOCS, ROOT

from wsserver.cli import main

COMMAND_LINE, LIMITS = ((DOCS / "reference" / f"{name}.md").read_text("utf-8") for name in ("command-line", "limits"))
SOURCE = "\n".join(path.read_text("utf-8") for path in (ROOT / "wsserver").rglob("*.py"))


@pytest.mark.parametrize("command", sorted(main._COMMANDS.keys() - {"serve"}))
def test_the_section_of_a_command_names_every_option(command):
    """Those of `serve` are on a page of their own, which is generated."""
    sections = COMMAND_LINE.split("\n## ")
    about = "\n".join(one for one in sections if command in one.partition("\n")[0]) or COMMAND_LINE
    assert f"wsserver {command}" in about
    options = {name for action in main._parser(command)._actions for name in action.option_strings}
    named = {"--help", "--version", *re.findall("--[a-z-]+", about)}
    assert {name for name in options if name.startswith("--")} - named == set()


def test_every_limit_that_is_counted_is_listed_with_its_option_or_its_counter():
    counted = set(re.findall(r'limits\["([a-z_]+)"\] \+= 1', SOURCE))
    assert len(counted) > 20
    listed = set(re.findall(r"`([a-z_]+)`", LIMITS))
    listed |= {flag.replace("-", "_") for flag in re.findall(r"`--([a-z-]+)`", LIMITS)}
    assert counted - listed == set()


def test_every_counter_that_is_listed_is_counted():
    counters = set(re.findall(r"(?:counter(?: is)?|counted as) `([a-z_]+)`", LIMITS))
    assert {"tap_readers", "fault_size", "queued_commands"} <= counters
    assert [name for name in counters if f'"{name}"' not in SOURCE] == []
