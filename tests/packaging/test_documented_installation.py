"""The documented installation commands work in a fresh copy of the project."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from environments import LEFT_OUT
from paths import DOCS, ROOT
from programs import environment, run, running

TUTORIALS = sorted((DOCS / "tutorials").glob("*.md"))
BLOCKS = sorted(
    {block for page in TUTORIALS for block in re.findall(r"```sh install\n(.*?)```", page.read_text(), re.DOTALL)}
)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Copy the project without a virtual environment."""
    return Path(shutil.copytree(ROOT, tmp_path / "checkout", ignore=LEFT_OUT))


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.splitlines()[-1])
def test_each_installation_block_of_the_tutorials_installs_both_programs(checkout: Path, block: str):
    command = ["bash", "-ec", block + "wsserver version; twistd wsserver --version"]
    done = subprocess.run(
        command, cwd=checkout, env=environment(), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    first, second = re.findall(r"^wsserver [0-9.]+ .*$", done.stdout, re.MULTILINE)
    assert first == second


def test_the_tutorials_install_with_and_without_redis():
    assert sorted(block.splitlines()[-1] for block in BLOCKS) == ["pip install '.[redis]'", "pip install ."]


def test_make_serve_serves_without_installing_development_tools(checkout: Path, tmp_path: Path):
    directory = tmp_path / "output"
    directory.mkdir()
    environ = {"MAKEFLAGS": "", "VENV": str(tmp_path / "venv")}
    made = run("make", "--directory", checkout, tmp_path / "venv" / "serving", directory=tmp_path, environ=environ)
    assert re.findall(r"^[12]/2 (\w+)", made.output, re.MULTILINE) == ["Creating", "Installing"]
    with running(
        "make", "--directory", str(checkout), "serve", "PORT=0", directory=directory, environ=environ
    ) as server:
        assert server.port()
        assert "Starting the server; Ctrl-C stops it." in server.output
    installed = run(tmp_path / "venv/bin/python", "-m", "pip", "list", "--format=freeze", directory=tmp_path).output
    assert "Twisted==" in installed
    assert not re.search(r"^(pytest|ruff|mypy|playwright)\b", installed, re.MULTILINE)
