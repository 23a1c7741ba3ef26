"""What is in the wheel and in the sdist, and what is not."""

import tarfile
import zipfile
from pathlib import Path

import pytest
from environments import Built
from paths import ROOT

MODULES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "wsserver").rglob("*.py"))
PAGE = sorted(path.name for path in (ROOT / "static").iterdir() if not path.name.startswith("."))
PLUGIN = "twisted/plugins/wsserver_plugin.py"


@pytest.fixture(scope="module")
def wheel_names(built: Built) -> list[str]:
    """List the files of the wheel."""
    with zipfile.ZipFile(built.wheel) as wheel:
        return [name for name in wheel.namelist() if not name.endswith("/")]


@pytest.fixture(scope="module")
def sdist_names(built: Built) -> list[str]:
    """List the files of the sdist, without its top directory."""
    with tarfile.open(built.sdist) as sdist:
        return [member.name.partition("/")[2] for member in sdist.getmembers() if member.isfile()]


class WheelTests:
    """The wheel."""

    def test_has_the_package_the_page_and_the_plugin_and_nothing_else(self, wheel_names):
        """Every file of the wheel is one of ours, and none of ours is missing."""
        expected = {*MODULES, "wsserver/py.typed", PLUGIN, *(f"wsserver/static/{name}" for name in PAGE)}
        found = {name for name in wheel_names if ".dist-info/" not in name}
        compiled = {name for name in found if name.startswith("wsserver/wire/_speedups.")}
        assert len(compiled) == 1
        assert found - compiled == expected

    @pytest.mark.parametrize(
        "name",
        ["twisted/__init__.py", "twisted/plugins/__init__.py", "twisted/plugins/dropin.cache", "static/index.html"],
    )
    def test_has_nothing_that_would_harm_twisted(self, wheel_names, name):
        """A file of this name would hide or break a part of Twisted, or lie around in site-packages."""
        assert name not in wheel_names

    def test_has_no_remains(self, wheel_names):
        """Neither bytecode nor sources of the extension nor tests nor documentation are in it."""
        remains = (".pyc", ".pyx", ".c")
        assert not [name for name in wheel_names if name.endswith(remains) or name.startswith(("tests/", "docs/"))]

    def test_has_the_page_as_it_is(self, built: Built):
        """The page's files are copied byte for byte."""
        with zipfile.ZipFile(built.wheel) as wheel:
            for name in PAGE:
                assert wheel.read(f"wsserver/static/{name}") == (ROOT / "static" / name).read_bytes()

    def test_says_what_it_needs(self, built: Built):
        """The metadata has the licence, the Python version, both dependencies and the script."""
        with zipfile.ZipFile(built.wheel) as wheel:
            [metadata] = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
            [scripts] = [name for name in wheel.namelist() if name.endswith(".dist-info/entry_points.txt")]
            text = wheel.read(metadata).decode("utf-8")
            assert "wsserver = wsserver.cli.main:main" in wheel.read(scripts).decode("utf-8")
        for line in ("License-Expression: MIT", "Requires-Python: >=3.11", "Description-Content-Type: text/markdown"):
            assert f"\n{line}\n" in text
        needs = [line for line in text.splitlines() if line.startswith("Requires-Dist: ") and "extra ==" not in line]
        assert [name for name in ("twisted", "autobahn") if not any(f": {name}[" in line for line in needs)] == []


class SdistTests:
    """The sdist."""

    def test_has_all_that_the_wheel_is_made_of(self, sdist_names):
        """Package, page, plugin and what builds them are there."""
        expected = {*MODULES, "wsserver/py.typed", PLUGIN, *(f"static/{name}" for name in PAGE)}
        expected |= {"pyproject.toml", "setup.py", "README.md", "LICENSE", "PKG-INFO"}
        assert expected - set(sdist_names) == set()

    def test_has_no_remains(self, sdist_names):
        """No compiled module, no cache, no twisted package of its own."""
        wrong = [name for name in sdist_names if name.endswith((".pyc", "dropin.cache")) or Path(name).name == ".env"]
        assert wrong == []
        assert "twisted/__init__.py" not in sdist_names
        assert "twisted/plugins/__init__.py" not in sdist_names
