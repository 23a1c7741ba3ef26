"""Programs that run as a user runs them: their output, their exit status, and their server's port."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stopping import stop
from waiting import TIMEOUT, wait_until

__all__ = ["Finished", "Program", "run", "running"]

ADDRESS = re.compile(r"the page is at https?://127\.0\.0\.1:([0-9]+)/")


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment without variables that change where Python finds modules."""
    mine = ("PYTHON", "WSSERVER_", "VIRTUAL_ENV", "COVERAGE_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(mine)}
    return kept | {"COLUMNS": "80"} | dict(more or {})


@dataclass(frozen=True)
class Finished:
    """A program that has ended."""

    status: int
    output: str
    errors: str


def run(*command: str | Path, directory: Path, environ: Mapping[str, str] | None = None) -> Finished:
    """Run a program to its end."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=directory,
        env=environment(environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


class Program:
    """A running program; its output goes to files in its directory."""

    def __init__(self, command: Sequence[str], directory: Path, environ: Mapping[str, str] | None):
        self.command = command
        self._output, self._errors = directory / "stdout.txt", directory / "stderr.txt"
        with self._output.open("wb") as output, self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                command,
                cwd=directory,
                env=environment(environ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
            )

    @property
    def output(self) -> str:
        """What the program has written to standard output."""
        return self._output.read_text("utf-8", "replace")

    @property
    def errors(self) -> str:
        """What the program has written to standard error."""
        return self._errors.read_text("utf-8", "replace")

    def describe(self) -> str:
        """Return the command and its output so far, for a failure message."""
        return f"{' '.join(self.command)}\n{self.output}\n{self.errors}"

    def wait_for(self, pattern: str | re.Pattern[str]) -> re.Match[str]:
        """Wait until the standard output matches a pattern."""
        found: list[Any] = []

        def look() -> bool:
            found[:] = [re.search(pattern, self.output)]
            assert found[0] or self.process.poll() is None, f"it has ended:\n{self.describe()}"
            return found[0] is not None

        wait_until(look, lambda: f"{pattern!r} in what it writes:\n{self.describe()}")
        match: re.Match[str] = found[0]
        return match

    def port(self) -> int:
        """Wait until the program logs the port that it listens on."""
        return int(self.wait_for(ADDRESS)[1])

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(TIMEOUT)


@contextmanager
def running(*command: str | Path, directory: Path, environ: Mapping[str, str] | None = None) -> Iterator[Program]:
    """Run a program until the block ends."""
    program = Program([str(word) for word in command], directory, environ)
    try:
        yield program
    finally:
        stop(program.process)
