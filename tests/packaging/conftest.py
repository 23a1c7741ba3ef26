"""The distributions built from this project, and clean environments with them installed."""

import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from environments import LEFT_OUT, Built, Environment, call, copy_environment, make_environment
from paths import ROOT


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory for builds and installations."""
    return tmp_path_factory.mktemp("workshop")


@pytest.fixture(scope="session")
def built(workshop: Path) -> Built:
    """Build a wheel and an sdist, each from its own copy of the project."""
    trees = [workshop / "tree-wheel", workshop / "tree-sdist", workshop / "tree"]
    for tree in trees:
        shutil.copytree(ROOT, tree, ignore=LEFT_OUT)
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
    """Return an environment with the wheel installed, and the dependencies that pip resolved for it."""
    return make_environment(workshop / "from-wheel", built.wheel)


@pytest.fixture(scope="session")
def from_sdist(workshop: Path, built: Built, from_wheel: Environment) -> Environment:
    """Return an environment with the sdist installed."""
    return copy_environment(from_wheel, workshop / "from-sdist", built.sdist)


@pytest.fixture(scope="session")
def editable(workshop: Path, built: Built, from_wheel: Environment) -> Environment:
    """Return an environment with an editable installation."""
    return copy_environment(from_wheel, workshop / "editable", "--editable", built.tree)


@pytest.fixture(params=["from_wheel", "from_sdist", "editable"])
def installed(request: pytest.FixtureRequest) -> Environment:
    """Return each kind of installation in turn."""
    environment: Environment = request.getfixturevalue(request.param)
    return environment
