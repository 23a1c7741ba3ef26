"""Run `twistd` in the foreground, and find the port that it logs."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from stopping import stop
from waiting import wait_until

__all__ = ["find_port", "twistd"]

TWISTD = Path(sys.executable).with_name("twistd")


@contextmanager
def twistd(directory: Path, *words: str | Path, **environ: str) -> Iterator[Path]:
    """Run twistd in the foreground until the block ends; yield the path of its output."""
    output = directory / "output.txt"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [TWISTD, "--pidfile=", *words],
            cwd=directory,
            env=os.environ | environ,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        yield output
    finally:
        if not stop(process):
            pytest.fail("SIGTERM did not end it")
    assert "Traceback" not in output.read_text()


def find_port(output: Path, pattern: str) -> int:
    """Wait until the output matches a pattern; return the port in its first group."""
    wait_until(lambda: re.search(pattern, output.read_text()), lambda: f"{pattern} in {output.read_text()}")
    return int(re.search(pattern, output.read_text())[1])
