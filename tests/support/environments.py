"""Virtual environments in which wsserver is installed."""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

__all__ = ["LEFT_OUT", "Built", "Environment", "call", "copy_environment", "make_environment"]

# Files that a build does not need, including those left by earlier runs.
LEFT_OUT = shutil.ignore_patterns(
    ".*", "build", "dist", "reports", "*.egg-info", "__pycache__", "*.pyc", "dropin.cache", "tests"
)


@dataclass(frozen=True)
class Built:
    """The results of a build."""

    wheel: Path
    sdist: Path
    tree: Path
    """A copy of the project, for an editable install."""


@dataclass(frozen=True)
class Environment:
    """A virtual environment with wsserver in it."""

    path: Path

    def bin(self, name: str) -> Path:
        """Return the path of a program installed in the environment."""
        return self.path / "bin" / name

    @property
    def site_packages(self) -> Path:
        """The directory of the environment's packages."""
        [found] = self.path.glob("lib/python3*/site-packages")
        return found


def call(*command: str | Path, directory: Path) -> None:
    """Run a program; fail the test if its exit status is not 0."""
    done = subprocess.run(
        [str(word) for word in command], cwd=directory, capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode:
        pytest.fail(f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}", pytrace=False)


def make_environment(path: Path, *what: str | Path) -> Environment:
    """Create a virtual environment and install packages with all their dependencies."""
    call(sys.executable, "-m", "venv", "--without-pip", path, directory=path.parent)
    pip = (sys.executable, "-m", "pip", "--python", path / "bin" / "python", "--disable-pip-version-check")
    call(*pip, "install", "--quiet", *what, directory=path.parent)
    return Environment(path)


def copy_environment(original: Environment, path: Path, *what: str | Path) -> Environment:
    """Create an environment with the dependencies of another environment, and install wsserver into it."""
    call(sys.executable, "-m", "venv", "--without-pip", path, directory=path.parent)
    made = Environment(path)
    ours = ("wsserver", "wsserver-*", "wsserver_plugin*", "dropin.cache")
    shutil.copytree(
        original.site_packages, made.site_packages, ignore=shutil.ignore_patterns(*ours), dirs_exist_ok=True
    )
    pip = (sys.executable, "-m", "pip", "--python", made.bin("python"), "--disable-pip-version-check")
    # Twisted's scripts contain the path of their environment, so they are copied with the new one.
    call(*pip, "install", "--quiet", *what, directory=path.parent)
    for name in ("twistd", "twist"):
        text = original.bin(name).read_text("utf-8").replace(str(original.path), str(path))
        made.bin(name).write_text(text, "utf-8")
        made.bin(name).chmod(0o755)
    return made
