"""The wheels: those that cibuildwheel builds, and the one without compiled modules."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from environments import LEFT_OUT, Built, Environment, call, copy_environment
from paths import ROOT
from programs import environment, run

CHECK = ROOT / "packaging" / "check_wheel.py"


@pytest.fixture(scope="module")
def pure(workshop: Path) -> Path:
    """Build the wheel without compiled modules."""
    tree = shutil.copytree(ROOT, workshop / "tree-pure", ignore=LEFT_OUT)
    command = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", workshop / "pure", "."]
    variables = environment({"WSSERVER_BUILD_EXTENSION": "0"})
    subprocess.run(list(map(str, command)), cwd=tree, env=variables, capture_output=True, check=True, timeout=300)
    [wheel] = (workshop / "pure").iterdir()
    return wheel


def list_extensions(**variables: str) -> str:
    """Return the names of the compiled modules that setup.py builds."""
    program = "from distutils.core import run_setup; print(*(e.name for e in run_setup('setup.py').ext_modules or ()))"
    command = ["-c", f"import setuptools, sys; sys.argv = ['setup.py', '--quiet', '--name']; {program}"]
    return run(sys.executable, *command, directory=ROOT, environ=variables).output.splitlines()[-1]


class CibuildwheelTests:
    """The configuration of cibuildwheel, which builds in containers that are not available here."""

    def test_builds_for_each_supported_python_and_both_c_libraries_and_processors(self):
        command = [Path(sys.executable).with_name("cibuildwheel"), "--platform", "linux", "--print-build-identifiers"]
        printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout
        expected = {
            f"cp3{minor}-{libc}linux_{processor}"
            for minor in (11, 12, 13, 14)
            for libc in ("many", "musl")
            for processor in ("x86_64", "aarch64")
        }
        assert set(printed.split()) == expected

    def test_its_check_passes_for_a_wheel_with_compiled_modules(self, from_wheel: Environment, tmp_path: Path):
        assert self.check(from_wheel, tmp_path) == (0, "the fast path is compiled and the server works\n")

    def test_its_check_fails_for_a_wheel_without_them(self, from_wheel: Environment, pure: Path, tmp_path: Path):
        made = copy_environment(from_wheel, tmp_path / "environment", pure)
        assert self.check(made, tmp_path) == (1, "")
        working = self.check(made, tmp_path, WSSERVER_BUILD_EXTENSION="0")
        assert working == (0, "the fast path is in Python and the server works\n")

    def test_its_variables_leave_out_the_load_generator_only(self):
        with (ROOT / "pyproject.toml").open("rb") as file:
            variables = tomllib.load(file)["tool"]["cibuildwheel"]["linux"]["environment"]
        assert list_extensions(**variables) == "wsserver.wire._speedups"
        assert list_extensions() == "wsserver.wire._speedups wsserver.cli._load"

    def check(self, environment: Environment, folder: Path, **variables: str) -> tuple[int, str]:
        """Run the check in an environment, and return its status and output."""
        done = run(environment.bin("python"), CHECK, directory=folder, environ=variables)
        return done.status, done.output


def test_the_wheel_without_compiled_modules_is_for_every_system(pure: Path):
    assert pure.name.endswith("-py3-none-any.whl")


def test_the_sdist_can_be_installed_without_cython_and_without_a_compiler(
    from_wheel: Environment, built: Built, workshop: Path, monkeypatch: pytest.MonkeyPatch
):
    """The result is the package without compiled modules. Normally, pip installs Cython for the build."""
    monkeypatch.setenv("CC", "false")
    made = copy_environment(from_wheel, workshop / "no-cython", "setuptools>=77", "wheel")
    pip = (sys.executable, "-m", "pip", "--python", made.bin("python"), "--disable-pip-version-check")
    call(*pip, "install", "--quiet", "--no-build-isolation", "--no-deps", built.sdist, directory=workshop)
    printed = run(made.bin("wsserver"), "version", directory=workshop).output
    assert "(frames: Python," in printed
