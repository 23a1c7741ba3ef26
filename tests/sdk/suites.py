"""
The SDKs' own test suites, unmodified, as their packages contain them.

Each test runs in a process of its own, so that a test that hangs does not stop the others. Tests that need no server
are left out.
"""

import json
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

from outcomes import Case
from targets import BUILD, HERE, PORT, SDKError

__all__ = ["CentrifugeGo", "CentrifugePython", "run"]

ADDRESS = f"localhost:{PORT}"
TIMEOUT = 30.0
"""Seconds for one test. The slowest takes 5 s."""

SECONDS_TO_INSTALL = 600.0


def run(*command: str | Path, cwd: Path, timeout: float = SECONDS_TO_INSTALL) -> str:
    """
    Run a command that prepares a suite, and return its output.

    Raises:
        SDKError: the command is missing, failed or took too long.
    """
    words = [str(part) for part in command]
    try:
        done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False)
    except (OSError, subprocess.TimeoutExpired) as failure:
        raise SDKError(str(failure)) from failure
    if done.returncode:
        raise SDKError(f"{' '.join(words)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout.strip()


class CentrifugeGo:
    """
    The tests of centrifuge-go: a Go module contains its tests.

    Each test uses JSON or Protobuf, and TestHandlePublishFossil both.
    """

    name = "centrifuge-go"
    title = "its own tests that need a server"
    package = "github.com/centrifugal/centrifuge-go"
    module = HERE / "go"
    """The module that requires centrifuge-go; its go.sum has the checksums."""

    program = BUILD / "centrifuge-go.test"

    def __init__(self) -> None:
        self._source = Path()

    def install(self) -> None:
        """
        Compile the tests.

        Raises:
            SDKError: Go is not installed, or cannot compile them.
        """
        if shutil.which("go") is None:
            raise SDKError("go is not installed; benchmarks/install_system_packages.sh installs it on Debian")
        run("go", "test", "-mod=readonly", "-c", "-o", self.program, self.package, cwd=self.module)
        self._source = Path(run("go", "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", self.package, cwd=self.module))

    @property
    def version(self) -> str:
        """The name and the version of the SDK."""
        return f"{self.name} {self._source.name.rpartition('@v')[2]} (Go)"

    def names(self) -> list[str]:
        """Return the names of the tests that connect to the server, directly or by a helper function."""
        texts = [path.read_text("utf-8") for path in sorted(self._source.glob("*_test.go"))]
        bodies = [
            found for text in texts for found in re.findall(r"^func (\w+)\((.*?)^}", text, re.DOTALL | re.MULTILINE)
        ]
        helpers = [f"{name}(" for name, body in bodies if not name.startswith("Test") and ADDRESS in body]
        return [
            name
            for name, body in bodies
            if name.startswith("Test") and any(text in body for text in (ADDRESS, *helpers))
        ]

    def run_one(self, name: str) -> list[Case]:
        """Run a test."""
        command = [str(self.program), "-test.v", "-test.run", f"^{name}$"]
        try:
            done = subprocess.run(
                command, cwd=self._source, capture_output=True, text=True, timeout=TIMEOUT, check=False
            )
        except subprocess.TimeoutExpired as expired:
            return [Case(name, f"hangs: {last_line(text_of(expired.stdout))}")]
        passed = done.returncode == 0 and f"--- PASS: {name} " in done.stdout
        return [Case(name, None if passed else last_line(done.stdout))]


class CentrifugePython:
    """The tests of centrifuge-python: its source distribution contains them. Many run once with each protocol."""

    name = "centrifuge-python"
    title = "its own tests that need a server"
    number = "0.7.0"
    module = "tests.test_client"
    """The other modules use a server of their own."""

    needs_no_server = (
        "TestChannelCompaction.",
        "TestClientConstruction.",
        "TestClientTokenUnauthorized.",
        "TestConnectionLeak.test_multiple_schedule_reconnect_timer_leak",
        "TestConnectionLeak.test_subscription_resubscribe_timer_leak",
        "TestProcessDisconnectReconnectFlag.",
        "TestSubscriptionManagement.test_duplicate_subscription_raises",
        "TestSubscriptionManagement.test_get_subscription",
        "TestSubscriptionManagement.test_remove_subscription",
    )
    """Tests that pass while a server on the port answers every request with 404."""

    source = BUILD / f"centrifuge_python-{number}"
    script = HERE / "unittest_case.py"

    def install(self) -> None:
        """Download the source distribution. Its dependencies are those of this environment."""
        if not self.source.exists():
            package = f"centrifuge-python=={self.number}"
            pip = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", package)
            run(*pip, "--dest", BUILD, cwd=BUILD)
            with tarfile.open(BUILD / f"{self.source.name}.tar.gz") as archive:
                archive.extractall(BUILD, filter="data")

    @property
    def version(self) -> str:
        """The name and the version of the SDK."""
        return f"{self.name} {self.number}"

    def names(self) -> list[str]:
        """Return the names of the tests that need a server."""
        listed = run(sys.executable, self.script, "--list", self.module, cwd=self.source).splitlines()
        short = [name.removeprefix(f"{self.module}.") for name in listed]
        return [name for name in short if not name.startswith(self.needs_no_server)]

    def run_one(self, name: str) -> list[Case]:
        """Run a test, with each protocol that it uses."""
        command = [sys.executable, str(self.script), f"{self.module}.{name}"]
        try:
            done = subprocess.run(
                command, cwd=self.source, capture_output=True, text=True, timeout=TIMEOUT, check=False
            )
        except subprocess.TimeoutExpired as expired:
            return [*self._cases(name, text_of(expired.stdout)), Case(name, "hangs")]
        cases = list(self._cases(name, done.stdout))
        return cases or [Case(name, last_line(done.stderr))]

    def _cases(self, name: str, output: str) -> Iterator[Case]:
        for line in output.splitlines():
            outcome = json.loads(line)
            protocol = "Protobuf" if outcome["case"].pop("use_protobuf", False) else "JSON"
            more = "".join(f", {key} {value}" for key, value in outcome["case"].items() if value is not None)
            yield Case(f"{name} ({protocol}{more})", outcome["error"])


def text_of(output: bytes | str | None) -> str:
    """Return the output of a process that was stopped; subprocess returns it as bytes."""
    return output.decode(errors="replace") if isinstance(output, bytes) else output or ""


def last_line(output: str) -> str:
    """Return the last line of an output that says something: no summary of Go's."""
    lines = [
        line.strip()
        for line in output.splitlines()
        if line.strip() and not re.match(r"\s*(---|===|FAIL|PASS|exit)", line)
    ]
    return lines[-1] if lines else "no output"
