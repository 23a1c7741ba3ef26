"""The files of the wheel and of the sdist."""

import tarfile
import zipfile
from pathlib import Path

import pytest
from environments import Built
from paths import ROOT

MODULES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "wsserver").rglob("*.py"))
STATIC = ROOT / "static"
PAGE = sorted(
    str(path.relative_to(STATIC)) for path in STATIC.rglob("*") if path.is_file() and not path.name.startswith(".")
)
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
    def test_contains_exactly_the_package_the_page_and_the_plugin(self, wheel_names):
        """The wheel also contains the two compiled modules."""
        expected = {*MODULES, "wsserver/py.typed", PLUGIN, *(f"wsserver/static/{name}" for name in PAGE)}
        found = {name for name in wheel_names if ".dist-info/" not in name}
        compiled = {name for name in found if name.startswith(("wsserver/wire/_speedups.", "wsserver/cli/_load."))}
        assert len(compiled) == 2
        assert found - compiled == expected

    @pytest.mark.parametrize(
        "name",
        ["twisted/__init__.py", "twisted/plugins/__init__.py", "twisted/plugins/dropin.cache", "static/index.html"],
    )
    def test_contains_no_file_that_would_break_twisted_or_litter_site_packages(self, wheel_names, name):
        assert name not in wheel_names

    def test_contains_no_bytecode_extension_sources_tests_or_docs(self, wheel_names):
        remains = (".pyc", ".pyx", ".c")
        assert not [name for name in wheel_names if name.endswith(remains) or name.startswith(("tests/", "docs/"))]

    def test_contains_the_pages_files_byte_for_byte(self, built: Built):
        with zipfile.ZipFile(built.wheel) as wheel:
            for name in PAGE:
                assert wheel.read(f"wsserver/static/{name}") == (ROOT / "static" / name).read_bytes()

    def test_metadata_names_licence_python_version_dependencies_and_script(self, built: Built):
        with zipfile.ZipFile(built.wheel) as wheel:
            [metadata] = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
            [scripts] = [name for name in wheel.namelist() if name.endswith(".dist-info/entry_points.txt")]
            text = wheel.read(metadata).decode("utf-8")
            entries = wheel.read(scripts).decode("utf-8")
        assert "wsserver = wsserver.cli.main:main" in entries
        assert "[pytest11]\nwsserver = wsserver.pytest_plugin.plugin" in entries
        for line in ("License-Expression: MIT", "Requires-Python: >=3.11", "Description-Content-Type: text/markdown"):
            assert f"\n{line}\n" in text
        needs = [line for line in text.splitlines() if line.startswith("Requires-Dist: ") and "extra ==" not in line]
        assert [name for name in ("twisted", "autobahn") if not any(f": {name}[" in line for line in needs)] == []


class SdistTests:
    def test_contains_every_source_of_the_wheel(self, sdist_names):
        expected = {*MODULES, "wsserver/py.typed", PLUGIN, *(f"static/{name}" for name in PAGE)}
        expected |= {"pyproject.toml", "setup.py", "README.md", "LICENSE", "PKG-INFO"}
        expected |= {"wsserver/cli/_load.c", "benchmarks/load.c"}
        expected |= {str(path.relative_to(ROOT)) for path in (ROOT / "benchmarks" / "load").glob("*.h")}
        assert expected - set(sdist_names) == set()

    def test_contains_no_bytecode_cache_env_file_or_twisted_package(self, sdist_names):
        wrong = [name for name in sdist_names if name.endswith((".pyc", "dropin.cache")) or Path(name).name == ".env"]
        assert wrong == []
        assert "twisted/__init__.py" not in sdist_names
        assert "twisted/plugins/__init__.py" not in sdist_names
