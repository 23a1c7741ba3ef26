"""Fuzz the HTTP API with schemathesis, against docs/reference/openapi.json."""

import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from socket_findings import KEY, Findings

__all__ = ["fuzz"]

DESCRIPTION = Path(__file__).resolve().parents[2] / "docs" / "reference" / "openapi.json"

EXCLUDED = "negative_data_rejection,positive_data_acceptance"
"""
Checks that do not fit: the server accepts null for a missing parameter as Centrifugo does, and rejects valid JSON for
reasons that a schema cannot express.
"""

OPTIONS = (
    *("--header", f"X-API-Key: {KEY}", "--exclude-checks", EXCLUDED, "--workers", "2", "--request-timeout", "10"),
    *("--continue-on-failure", "--no-shrink", "--no-color"),
)

MAX_OUTPUT = 20_000

SHORTEST = 1.0
"""Seconds below which it is not worth to start schemathesis, which takes some seconds: a short warm-up."""

LONG = 60.0
"""Seconds from which schemathesis stops at a time; loading the description takes some of it."""


def fuzz(port: int, rng: random.Random, seconds: float, findings: Findings) -> None:
    """
    Run schemathesis.

    Args:
        port: the port of the server.
        rng: makes the seed.
        seconds: how long to send.
        findings: collects what is found.
    """
    if seconds < SHORTEST:
        return
    command = [sys.executable, "-m", "schemathesis.cli", "run", str(DESCRIPTION), *OPTIONS, *_extent(seconds)]
    command += ["--url", f"http://127.0.0.1:{port}", "--seed", str(rng.randrange(2**31))]
    # It writes a cache to the working directory.
    with tempfile.TemporaryDirectory() as directory:
        done = subprocess.run(
            command,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds * 2 + 60,
            check=False,
        )
    counted = re.search(r"([0-9,]+) generated", done.stdout)
    if counted is None:
        findings.complain(f"schemathesis did not run: {done.stdout[-2000:]}{done.stderr[-2000:]}", b"")
        return
    findings.executions += int(counted[1].replace(",", ""))
    findings.outcomes["requests"] = findings.executions
    # Its own errors are no findings: some inputs make its generator fail.
    if "Failures:" in done.stdout:
        findings.complain(f"schemathesis: {done.stdout[-MAX_OUTPUT:]}", b"")


def _extent(seconds: float) -> list[str]:
    """Return the options for how much to test."""
    if seconds < LONG:
        return ["--phases", "fuzzing", "--max-examples", "3"]
    return ["--phases", "coverage,fuzzing", "--max-time", str(round(seconds))]
