"""
Find wstest 0.8.2: in a virtualenv of Python 2.7, or in a container if there is no Python 2.7.

The virtualenv is made once, and reused while it works. If neither a virtualenv nor a container is possible, the run
must fail with a text that says what to install. It must not be skipped.

"""

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SUITE = "autobahntestsuite==0.8.2"
IMAGE = "crossbario/autobahn-testsuite:0.8.2"
CONSTRAINTS = Path(__file__).with_name("constraints.txt")
WITH_ALPN = Path(__file__).with_name("wstest_alpn.py")
PIP = ("-m", "pip", "--disable-pip-version-check", "--no-input")
PIP_SECONDS = 900

SELF_TEST = "import autobahntestsuite, autobahntestsuite.wstest, wsaccel.xormask; print(autobahntestsuite.version)"
"""Imports everything that wstest needs, and wsaccel, without which it is far slower."""


class ToolchainError(Exception):
    """There is no wstest; the text says in one line how to get one."""


@dataclass(frozen=True)
class Wstest:
    """A wstest that can be started."""

    kind: str
    command: Callable[[Path, str], list[str]]
    """Returns the command line for a working folder and the name of the specification in it."""
    host: str = "127.0.0.1"
    """The name under which wstest reaches a server on this machine's loopback interface."""


def find_wstest(cache: Path, say: Callable[[str], None]) -> Wstest:
    """
    Find wstest, or install it.

    Raises:
        ToolchainError: there is no way to get one.
    """
    venv = cache / "venv"
    with lock(cache):
        if is_healthy(venv):
            return native(venv)
        pythons = list(find_pythons())
        with_pip = next((python for python in pythons if has_pip(python)), None)
        if with_pip is not None:
            say(f"making a virtualenv for {SUITE} under Python 2.7 (once)")
            make_venv(with_pip, cache)
            return native(venv)
    if docker_answers():
        say(f"no Python 2.7 with pip here; using the image {IMAGE}")
        pull_image()
        return container()
    raise ToolchainError(advice(pythons))


def advice(pythons: Sequence[Path]) -> str:
    """Return a text that says what to install."""
    if pythons:
        return f"{pythons[0]} has no pip: run '{pythons[0]} -m ensurepip', or start Docker"
    return "wstest needs Python 2.7: install it (for example with 'pyenv install 2.7.18'), or start Docker"


@contextmanager
def lock(cache: Path) -> Iterator[None]:
    """Lock the cache, so that only one run at a time makes the virtualenv."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


# Python 2.7


def find_pythons() -> Iterator[Path]:
    """Find interpreters of Python 2.7: those of pyenv, the newest first, then the one on PATH."""
    roots = [Path(root) for root in (os.environ.get("PYENV_ROOT"),) if root] + [Path.home() / ".pyenv"]
    for root in roots:
        found = root.glob("versions/2.7.*/bin/python2.7")
        yield from sorted((path for path in found if runs_27(path)), key=patch_level, reverse=True)
    on_path = shutil.which("python2.7")
    # A shim of pyenv is on PATH even if pyenv refuses to run it.
    if on_path is not None and runs_27(Path(on_path)):
        yield Path(on_path)


def patch_level(python: Path) -> int:
    """Return 18 for .../versions/2.7.18/bin/python2.7."""
    patch = python.parts[-3].split(".")[-1]
    return int(patch) if patch.isdigit() else -1


def quiet_run(command: Sequence[str | Path], seconds: float = 60) -> str | None:
    """Run a command and return what it prints, or None if it fails."""
    try:
        done = subprocess.run(
            list(map(str, command)),
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def clean_environment() -> dict[str, str]:
    """Copy the environment without variables that would make one Python load the modules of another."""
    leaks = {"PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONWARNINGS", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__"}
    return {name: value for name, value in os.environ.items() if name not in leaks}


def runs_27(python: Path) -> bool:
    """Return whether an interpreter starts and is 2.7."""
    return quiet_run([python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]) == "2.7"


def has_pip(python: Path) -> bool:
    """Return whether an interpreter has pip."""
    return quiet_run([python, *PIP, "--version"]) is not None


# The virtualenv


def native(venv: Path) -> Wstest:
    """Return the wstest of the virtualenv."""
    start = [str(venv / "bin" / "python"), "-u", str(WITH_ALPN)]
    return Wstest("virtualenv", lambda _folder, spec: [*start, "-m", "fuzzingclient", "-s", spec])


def stamp() -> str:
    """Return a digest of what the virtualenv is made from."""
    return hashlib.sha256(SUITE.encode() + CONSTRAINTS.read_bytes()).hexdigest()


def is_healthy(venv: Path) -> bool:
    """Return whether the virtualenv is complete, made from the present constraints, and works."""
    written = venv / "stamp"
    if not written.is_file() or written.read_text() != stamp():
        return False
    answer = quiet_run([venv / "bin" / "python", "-c", SELF_TEST])
    return answer == SUITE.partition("==")[2]


def make_venv(python: Path, cache: Path) -> None:
    """Make a new virtualenv."""
    venv, boot, log = cache / "venv", cache / "boot", cache / "build.log"
    for folder in (venv, boot):
        shutil.rmtree(folder, ignore_errors=True)
    log.write_bytes(b"")
    # Python 2.7 has no venv module, and its site-packages must not change:
    # virtualenv is installed into a folder that only the next line uses.
    logged_run([python, *PIP, "install", "--target", boot, "-c", CONSTRAINTS, "virtualenv"], log)
    logged_run([python, "-m", "virtualenv", venv], log, PYTHONPATH=str(boot))
    logged_run([venv / "bin" / "python", *PIP, "install", "-c", CONSTRAINTS, SUITE], log)
    (venv / "stamp").write_text(stamp())
    if not is_healthy(venv):
        raise ToolchainError(f"the virtualenv for {SUITE} was made but doesn't work; see {log}")


def logged_run(command: Sequence[str | Path], log: Path, **environment: str) -> None:
    """
    Run one step of the installation.

    Raises:
        ToolchainError: the step failed; the text has the last line of its log.
    """
    with log.open("ab") as output:
        try:
            subprocess.run(
                list(map(str, command)),
                env=clean_environment() | environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=PIP_SECONDS,
                check=True,
            )
        except (OSError, subprocess.SubprocessError) as failure:
            raise ToolchainError(f"can't make the virtualenv, see {log}: {complaint(log)}") from failure


def complaint(log: Path) -> str:
    """Return the line of a log that shows the error."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["it's empty"])[-1]


# The container


def docker_answers() -> bool:
    """Return whether a Docker daemon is running and may be used."""
    return quiet_run(["docker", "info"]) is not None


def pull_image() -> None:
    """Pull the image if it is missing."""
    if quiet_run(["docker", "image", "inspect", IMAGE]) is None and quiet_run(["docker", "pull", IMAGE], 900) is None:
        raise ToolchainError(f"'docker pull {IMAGE}' failed")


def container() -> Wstest:
    """Return the wstest of the image."""
    # Docker's host network reaches this machine's loopback interface on Linux only;
    # elsewhere containers run in a virtual machine that has a name for this one.
    host = "127.0.0.1" if on_linux() else "host.docker.internal"
    return Wstest("container", container_command, host)


def on_linux() -> bool:
    """Return whether containers share this machine's kernel, and so can share its network."""
    return platform.system() == "Linux"


def container_command(folder: Path, spec: str) -> list[str]:
    """Return the command line that runs wstest in a container."""
    # Without --init wstest would be process 1, which a signal does not end.
    options = ["--rm", "--init", "-e", "PYTHONUNBUFFERED=1", "-v", f"{folder.resolve()}:/reports", "-w", "/reports"]
    # Otherwise the reports would belong to root.
    options += ["--user", f"{os.getuid()}:{os.getgid()}"]
    if on_linux():
        options += ["--network", "host"]
    return ["docker", "run", *options, IMAGE, "wstest", "-m", "fuzzingclient", "-s", spec]
