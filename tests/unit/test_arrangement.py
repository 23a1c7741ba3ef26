"""The arrangement of the tests: they mirror the packages, and share code through conftest.py and tests/support."""

import ast
import subprocess
import tomllib

import pytest
from paths import ROOT, TESTS

PACKAGES = {str(path.parent.relative_to(ROOT / "wsserver")) for path in (ROOT / "wsserver").rglob("__init__.py")}
"""The packages of wsserver, the top one as `.`."""


@pytest.mark.parametrize("suite", ["unit", "integration"])
def test_each_test_directory_has_the_name_of_a_package(suite):
    """`docs` is the exception: it tests the documentation."""
    folders = {str(path.parent.relative_to(TESTS / suite)) for path in (TESTS / suite).rglob("test_*.py")}
    assert folders - PACKAGES - {"docs"} == set()


def test_no_test_file_imports_another_one_or_a_conftest():
    wrong = []
    for path in TESTS.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            wrong += [f"{path.relative_to(ROOT)}: {name}" for name in names if name.startswith(("test_", "conftest"))]
    assert wrong == []


def test_no_symbolic_link_is_committed():
    """A test that listens on a relative UNIX path leaves Twisted's lock, a broken link, in the working directory."""
    listed = subprocess.run(["git", "ls-files", "--stage"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    paths = {line.partition("\t")[2]: line[:6] for line in listed.splitlines()}
    assert "pyproject.toml" in paths
    assert [path for path, mode in paths.items() if mode == "120000"] == []


def test_every_package_is_installed():
    """The list in pyproject.toml is complete; tests run from the checkout would not notice."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        installed = tomllib.load(file)["tool"]["setuptools"]["packages"]
    found = {"wsserver" if name == "." else f"wsserver.{name.replace('/', '.')}" for name in PACKAGES}
    assert set(installed) == found | {"twisted.plugins"}


def test_the_package_has_at_most_11_modules_outside_of_its_subpackages():
    """A package is a layer. A new module belongs into one, if it is not used by all of them."""
    assert len([*(ROOT / "wsserver").glob("*.py")]) - len(["__init__.py"]) <= 11
