"""What is built from this project, and clean environments that it is installed in."""

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]

# What a checkout has and what other runs have left lying in it.
LEFT_OUT = shutil.ignore_patterns(
    ".*", "build", "dist", "reports", "*.egg-info", "__pycache__", "*.pyc", "dropin.cache", "tests"
)


@dataclass(frozen=True)
class Built:
    """What was built."""

    wheel: Path
    sdist: Path
    tree: Path
    """A copy of the project, for an editable install."""


@dataclass(frozen=True)
class Environment:
    """A virtual environment with wsserver in it."""

    path: Path

    def bin(self, name: str) -> Path:
        """Return the path of a program."""
        return self.path / "bin" / name

    @property
    def site_packages(self) -> Path:
        """Where its packages are."""
        [found] = self.path.glob("lib/python3*/site-packages")
        return found


def call(*command: str | Path, directory: Path) -> None:
    """Run a program that must do well."""
    done = subprocess.run(
        [str(word) for word in command], cwd=directory, capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode:
        pytest.fail(f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}", pytrace=False)


def make_environment(path: Path, *what: str | Path) -> Environment:
    """Make a virtual environment and install into it with pip, dependencies and all."""
    call(sys.executable, "-m", "venv", "--without-pip", path, directory=path.parent)
    pip = (sys.executable, "-m", "pip", "--python", path / "bin" / "python", "--disable-pip-version-check")
    call(*pip, "install", "--quiet", *what, directory=path.parent)
    return Environment(path)


def copy_environment(original: Environment, path: Path, *what: str | Path) -> Environment:
    """Make an environment with the dependencies of another one, and install wsserver anew in it."""
    call(sys.executable, "-m", "venv", "--without-pip", path, directory=path.parent)
    made = Environment(path)
    ours = ("wsserver", "wsserver-*", "wsserver_plugin*", "dropin.cache")
    shutil.copytree(
        original.site_packages, made.site_packages, ignore=shutil.ignore_patterns(*ours), dirs_exist_ok=True
    )
    pip = (sys.executable, "-m", "pip", "--python", made.bin("python"), "--disable-pip-version-check")
    # Twisted's own programs are reinstalled with their new path by asking for them by name.
    call(*pip, "install", "--quiet", *what, directory=path.parent)
    for name in ("twistd", "twist"):
        text = original.bin(name).read_text("utf-8").replace(str(original.path), str(path))
        made.bin(name).write_text(text, "utf-8")
        made.bin(name).chmod(0o755)
    return made


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a directory to build and to install in."""
    return tmp_path_factory.mktemp("workshop")


@pytest.fixture(scope="session")
def built(workshop: Path) -> Built:
    """Build a wheel and an sdist, each straight from a copy of the project."""
    trees = [workshop / "tree-wheel", workshop / "tree-sdist", workshop / "tree"]
    for tree in trees:
        shutil.copytree(PROJECT, tree, ignore=LEFT_OUT)
    build = (sys.executable, "-m", "build", "--no-isolation", "--outdir", workshop / "dist")
    with ThreadPoolExecutor() as threads:
        list(
            threads.map(
                lambda job: call(*build, job[0], ".", directory=job[1]), [("--wheel", trees[0]), ("--sdist", trees[1])]
            )
        )
    [wheel] = (workshop / "dist").glob("*.whl")
    [sdist] = (workshop / "dist").glob("*.tar.gz")
    return Built(wheel, sdist, trees[2])


@pytest.fixture(scope="session")
def from_wheel(workshop: Path, built: Built) -> Environment:
    """Give an environment that the wheel was installed in, with the dependencies that pip found for it."""
    return make_environment(workshop / "from-wheel", built.wheel)


@pytest.fixture(scope="session")
def from_sdist(workshop: Path, built: Built, from_wheel: Environment) -> Environment:
    """Give an environment that the sdist was installed in."""
    return copy_environment(from_wheel, workshop / "from-sdist", built.sdist)


@pytest.fixture(scope="session")
def editable(workshop: Path, built: Built, from_wheel: Environment) -> Environment:
    """Give an environment with an editable install."""
    return copy_environment(from_wheel, workshop / "editable", "--editable", built.tree)


@pytest.fixture(params=["from_wheel", "from_sdist", "editable"])
def installed(request: pytest.FixtureRequest) -> Environment:
    """Give each kind of installation in turn."""
    environment: Environment = request.getfixturevalue(request.param)
    return environment
