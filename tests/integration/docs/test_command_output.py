"""Commands that examine and measure a server print what their pages show, apart from numbers."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from code_blocks import read_code_blocks
from paths import DOCS
from programs import environment
from server_process import Process


@pytest.fixture(scope="module")
def port():
    """Start a server without options; yields its port."""
    process = Process()
    yield process.port
    process.close()


def shape(text: str) -> str:
    """Replace what differs in each run: numbers, units, the width of columns, and a hint if the machine is busy."""
    text = re.sub(r"\d[\d,.:]*( [µm]?s\b)?", "N", text)
    return re.sub(r"(?<=of a core).*|(?<= ) +", "", text)


@pytest.mark.parametrize("page", ["diagnose-a-connection", "measure-a-server"])
def test_the_first_command_of_the_page_prints_what_it_shows(tmp_path, port, page):
    shown = next(block.text for block in read_code_blocks(DOCS / "how-to" / f"{page}.md") if block.kind == "console")
    command, _, expected = shown.removeprefix("$ ").partition("\n")
    done = subprocess.run(
        ["bash", "-c", command.replace("8080", str(port))],
        cwd=tmp_path,
        env=environment({"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert shape(done.stdout) == shape(expected)
