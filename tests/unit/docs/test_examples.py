"""The Python code in the documentation works as its page says."""

import importlib
import re

import pytest
from paths import ROOT

from wsserver.config.settings import Settings
from wsserver.testing import MemoryServer


def python_blocks(page):
    """Return the Python code blocks of a page."""
    return re.findall(r"```python[^\n]*\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL)


def run(source):
    """Run code; return its global names."""
    names = {}
    exec(compile(source, "page", "exec"), names)
    return names


TESTING = run("\n".join(python_blocks("docs/how-to/test-an-application.md")))


@pytest.mark.parametrize("name", [name for name in TESTING if name.startswith("test_")])
def test_each_test_of_the_page_about_testing_passes(name):
    TESTING[name]()


def test_the_page_about_testing_has_five_tests():
    assert sum(name.startswith("test_") for name in TESTING) == 5


@pytest.mark.parametrize(
    ("opcode", "payload", "answer"),
    [(1, "Grüße", "GRÜSSE"), (1, "", ""), (2, b"Gr\xc3\xbc\xff", b"Gr\xc3\xbc\xff")],
)
def test_the_tutorials_first_endpoint_upper_cases_text_and_echoes_binary(opcode, payload, answer):
    source = python_blocks("docs/tutorials/embed-in-twisted.md")[0]
    client = MemoryServer(Settings(), endpoints={"/shout": run(source)["ShoutProtocol"]}).connect()
    client.open("/shout")
    client.send_frame(opcode, payload.encode() if isinstance(payload, str) else payload)
    assert client.messages() == [answer]


def test_the_settings_on_the_page_about_embedding_are_accepted():
    (source,) = [block for block in python_blocks("docs/how-to/embedding.md") if block.startswith("Settings(")]
    settings = eval(source, {"Settings": Settings})
    assert (settings.port, settings.ping_interval, settings.max_message_size) == (0, 5.0, 65536)


def test_the_command_and_project_file_on_the_page_about_commands_are_those_of_the_example():
    page = ROOT / "docs/how-to/add-a-command.md"
    (project,) = re.findall(r"```toml\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    dice = ROOT / "docs/examples/dice"
    assert project == (dice / "pyproject.toml").read_text("utf-8")
    (shown,) = python_blocks(page)
    example = (dice / "twisted/plugins/wsserver_dice.py").read_text("utf-8")
    without_docstrings = re.sub(r'^ *"""[^"]*"""\n\n?', "", example, flags=re.MULTILINE)
    assert shown == without_docstrings


def test_the_table_of_the_python_api_has_every_name_that_the_documentation_imports():
    """Because the page says that other names may change in any version."""
    table = (ROOT / "docs/reference/python-api.md").read_text("utf-8")
    rows = re.findall(r"^\| (`[^|]*) \| `([a-z0-9_.]+)` \|", table, re.MULTILINE)
    listed = {(module, name) for names, module in rows for name in re.findall(r"`(\w+)`", names)}
    assert all(hasattr(importlib.import_module(module), name) for module, name in listed)
    pages = [*(ROOT / "docs").rglob("*.md"), *(ROOT / "docs/examples").rglob("*.py"), ROOT / "README.md"]
    imported = {
        (module, name)
        for page in pages
        for module, names in re.findall(
            r"^ *from (wsserver[\w.]*) import ([\w, ]+)$", page.read_text("utf-8"), re.MULTILINE
        )
        for name in names.split(", ")
    }
    assert imported
    assert imported <= listed
