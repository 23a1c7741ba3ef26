"""The documented installation commands work in a fresh copy of the project."""

import os
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
TIMED = (DOCS / "tutorials" / "first-five-minutes.md").read_text()
"""A page whose installation tests/browser/test_first_five_minutes.py runs."""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Copy the project without a virtual environment."""
    return Path(shutil.copytree(ROOT, tmp_path / "checkout", ignore=LEFT_OUT))


@pytest.mark.parametrize(
    "block", [block for block in BLOCKS if block not in TIMED], ids=lambda block: block.splitlines()[-1]
)
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


@pytest.mark.parametrize(
    ("target", "marker", "clears"),
    [
        ("serving", None, False),
        ("serving", "serving", False),
        ("installed", None, False),
        ("installed", "serving", False),
        ("installed", "installed", True),
    ],
)
def test_make_clears_only_an_outdated_environment_that_it_created_itself(checkout, tmp_path, target, marker, clears):
    """An environment without a marker may be that of a tutorial."""
    venv = tmp_path / "venv"
    venv.mkdir()
    if marker is not None:
        (venv / marker).touch()
        os.utime(venv / marker, (0, 0))
    command = ("make", "--dry-run", "--directory", checkout, venv / target)
    made = run(*command, directory=tmp_path, environ={"MAKEFLAGS": "", "VENV": str(venv)})
    assert f"{venv}\n" in made.output
    assert "-m venv" in made.output
    assert ("--clear" in made.output) == clears


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
