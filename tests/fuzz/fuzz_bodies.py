"""Fuzz the HTTP API with schemathesis, against docs/reference/openapi.json."""

import random
import re
import subprocess
import sys
from pathlib import Path

from socket_findings import KEY, Findings

__all__ = ["fuzz"]

DESCRIPTION = Path(__file__).resolve().parents[2] / "docs" / "reference" / "openapi.json"

EXCLUDED = "negative_data_rejection,positive_data_acceptance"
"""
Checks that do not fit: the server accepts null for a missing parameter as Centrifugo does, and rejects valid JSON for
reasons that a schema cannot express.
"""

MAX_OUTPUT = 20_000


def fuzz(port: int, rng: random.Random, seconds: float, findings: Findings) -> None:
    """
    Run schemathesis.

    Args:
        port: the port of the server.
        rng: makes the seed.
        seconds: how long to send.
        findings: collects what is found.
    """
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", str(DESCRIPTION)]
    command += ["--url", f"http://127.0.0.1:{port}", "--header", f"X-API-Key: {KEY}", "--phases", "coverage,fuzzing"]
    command += [
        "--exclude-checks",
        EXCLUDED,
        "--max-time",
        str(max(1, round(seconds))),
        "--no-color",
        "--no-shrink",
        "--workers",
        "2",
    ]
    command += ["--continue-on-failure", "--request-timeout", "10", "--seed", str(rng.randrange(2**31))]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds * 2 + 60, check=False, stdin=subprocess.DEVNULL
    )
    counted = re.search(r"([0-9,]+) generated", done.stdout)
    if counted is None:
        findings.complain(f"schemathesis did not run: {done.stdout[-2000:]}{done.stderr[-2000:]}", b"")
        return
    findings.executions += int(counted[1].replace(",", ""))
    findings.outcomes["requests"] = findings.executions
    if done.returncode:
        findings.complain(f"schemathesis: {done.stdout[-MAX_OUTPUT:]}", b"")
