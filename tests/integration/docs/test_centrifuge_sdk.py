"""The commands and the program of docs/tutorials/centrifuge-sdk.md work as the page says."""

import re

from node import install_node_packages
from paths import DOCS

PAGE = DOCS / "tutorials" / "centrifuge-sdk.md"


def test_the_program_prints_the_output_that_the_page_shows(shell, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "node_modules").symlink_to(install_node_packages() / "node_modules")
    output, shown = "", 0
    for kind, text in re.findall(r"```(\w+)\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL):
        if kind == "js":
            name = text.splitlines()[0].removeprefix("// ")
            shell(f"cat > {name} <<'END'\n{text}END\n")
        elif kind == "sh":
            output = shell(text)
        else:
            assert sorted(output.splitlines()) == sorted(text.splitlines())
            shown += 1
    assert shown == 1
