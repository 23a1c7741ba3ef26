"""
Fuzz a whole server through its sockets: HTTP heads, frames, Centrifuge commands and bodies of API calls.

    python tests/fuzz/sockets.py [--minutes N] [--only NAMES] [--seed N] [--out FILE]

Each fuzzer runs for the given minutes against a server process of its own. Meanwhile a well-behaved client echoes every
100 ms. The exit code is 1 if the server logged a traceback or ended; if an answer was not as the protocol demands, or
was the report of an internal error; if a client waited longer than `good_client.BOUND`; or if the server holds more
memory, descriptors, timers or objects afterwards than before, beyond the bounds of `tests/soak/holdings.py`.
"""

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Under pytest, pyproject.toml adds these paths.
sys.path += [str(Path(__file__).resolve().parents[1] / folder) for folder in ("support", "soak")]

import fuzz_bodies
import fuzz_commands
import fuzz_frames
import fuzz_heads
from good_client import Probe
from holdings import QUIET, Holdings, compare, take, take_quiet
from ports import free_port
from socket_findings import KEY, Findings
from stopping import stop

from wsserver.hub.memory import MAX_KEYS, MAX_STREAMS

__all__ = ["FUZZERS", "Served", "fuzz", "main", "serving"]

SERVED = Path(__file__).resolve().parents[1] / "soak" / "served.py"

OPTIONS = (
    *("--api-key", KEY, "--compression", "on", "--max-message-size", "64KiB", "--close-timeout", "1s"),
    *("--channel-allow", "*", "--channel-publish", "*", "--channel-presence", "*", "--history-ttl", "3s"),
    *("--history-size", "10"),
)
"""Everything is permitted, so that no fuzzer stops at a refusal. The history is released soon."""

Fuzzer = Callable[[int, random.Random, float, Findings], None]
"""Sends input to a port for some seconds."""

FUZZERS: dict[str, tuple[Fuzzer, int]] = {
    "heads": (fuzz_heads.fuzz, 4),
    "frames": (fuzz_frames.fuzz, 4),
    "commands": (fuzz_commands.fuzz, 4),
    # schemathesis has workers of its own.
    "bodies": (fuzz_bodies.fuzz, 1),
}
"""Name -> fuzzer, and the number of threads in which it runs at the same time."""

START = 30.0
"""Maximum seconds until the server listens, and until it has ended."""

WARM_UP = 60.0
"""Seconds of the same input before the first measurement: caches fill, and the allocator keeps memory."""

KEPT = {"Stream": MAX_STREAMS, "Position": MAX_KEYS, "_Queue": 16}
"""
Class -> maximum number of its objects: the position of each channel's stream; that of each idempotency key, for five
minutes; and the queue of each duration.
"""

SLACK = 2
"""How many more objects of a class may exist: some are made for the first client that needs them, and kept."""

SHOWN = 500
"""Maximum length of a complaint on the terminal; the file of `--out` has all of it."""

TRACES = ("Traceback", "Unhandled", "Segmentation", "AssertionError")
"""What must not be in the log."""


@dataclass
class Served:
    """A server process."""

    process: subprocess.Popen[bytes]
    port: int
    report: Path
    """The socket on which the server reports what it holds."""
    log: Path

    def hold(self) -> Holdings:
        """Return what the server holds when it is quiet."""
        return take_quiet(self.process.pid, self.report)

    def leaks(self, base: Holdings) -> tuple[Holdings, list[str]]:
        """Wait until the server has released what it can; return what it holds, and what of it is a leak."""
        end = time.monotonic() + QUIET
        while True:
            now = take(self.process.pid, self.report)
            found = [complaint for complaint in compare(base, now) if not is_kept(complaint, base, now)]
            if not found or time.monotonic() > end:
                return now, found
            time.sleep(0.5)

    def complain(self) -> Iterator[str]:
        """Yield what is wrong with the process and its log."""
        if self.process.poll() is not None:
            yield f"the server ended with status {self.process.returncode}"
        text = self.log.read_text("utf-8", "replace")
        for trace in TRACES:
            if trace in text:
                yield f"the log contains {trace}: {text[max(0, text.index(trace) - 200) :][:1500]}"
                return


@contextlib.contextmanager
def serving(directory: Path) -> Iterator[Served]:
    """Run a server in an empty directory until the block ends."""
    served, log = directory / "report.sock", directory / "server.log"
    port = free_port()
    command = [sys.executable, str(SERVED), str(served), "serve", "--port", str(port), *OPTIONS]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("WSSERVER_")}
    environ |= {name: value for name, value in os.environ.items() if name == "WSSERVER_PUREPYTHON"}
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=directory, env=environ, stdout=output, stderr=subprocess.STDOUT)
    try:
        end = time.monotonic() + START
        while "the page is at" not in log.read_text("utf-8", "replace"):
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"the server did not start:\n{log.read_text('utf-8', 'replace')[-2000:]}")
            time.sleep(0.05)
        yield Served(process, port, served, log)
    finally:
        stop(process)


def is_kept(complaint: str, base: Holdings, now: Holdings) -> bool:
    """Return whether a complaint is about objects that the server keeps in a limited number."""
    name = complaint.removeprefix("objects of ").partition(":")[0]
    return now.objects.get(name, MAX_STREAMS + 1) <= max(KEPT.get(name, 0), base.objects.get(name, 0) + SLACK)


@dataclass
class Result:
    """The result of one fuzzer."""

    name: str
    seed: int
    seconds: float
    executions: int = 0
    complaints: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)


def fuzz(names: Sequence[str], seconds: float, seed: int, served: Served, warm_up: float = WARM_UP) -> Result:
    """
    Run fuzzers at the same time, and look at the server during and after it.

    Args:
        names: keys of `FUZZERS`.
        seconds: how long to send input.
        seed: the seed of the random choices.
        served: the server.
        warm_up: seconds of input before the first measurement.
    """
    _run(names, served.port, warm_up, seed + 1)
    base = served.hold()
    with Probe(served.port) as probe:
        findings = _run(names, served.port, seconds, seed)
    result = Result(", ".join(names), seed, seconds, findings.executions, [*findings.complaints, *probe.complaints])
    result.complaints += served.complain()
    if served.process.poll() is None:
        now, leaks = served.leaks(base)
        result.complaints += leaks
        result.figures |= {"kib_before": base.kib, "kib_after": now.kib}
    result.figures |= {"outcomes": dict(findings.outcomes.most_common()), **probe.figures()}
    return result


def _run(names: Sequence[str], port: int, seconds: float, seed: int) -> Findings:
    fuzzers = [FUZZERS[name][0] for name in names for _ in range(FUZZERS[name][1])]
    findings = [Findings() for _ in fuzzers]

    def run(number: int) -> None:
        try:
            fuzzers[number](port, random.Random(f"{seed} {number}"), seconds, findings[number])
        except (OSError, AssertionError) as error:
            findings[number].complain(f"a client failed: {error!r}", b"")

    with ThreadPoolExecutor(len(fuzzers)) as pool:
        list(pool.map(run, range(len(fuzzers))))
    return Findings(
        sum(one.executions for one in findings),
        [complaint for one in findings for complaint in one.complaints],
        sum((one.outcomes for one in findings), Counter()),
    )


def main() -> int:
    """Run the fuzzers, print the results, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--minutes", type=float, default=10, help="for each fuzzer [%(default)s]")
    parser.add_argument("--only", default=",".join(FUZZERS), help="names of fuzzers, separated by commas [%(default)s]")
    parser.add_argument("--seed", type=int, default=0, help="seed of the choices (default: a new one for each run)")
    parser.add_argument("--out", type=Path, help="write the results to this file as JSON")
    options = parser.parse_args()
    seed = options.seed or random.SystemRandom().randrange(1, 2**31)
    results = []
    for name in options.only.split(","):
        with tempfile.TemporaryDirectory() as directory, serving(Path(directory)) as served:
            results.append(fuzz([name], options.minutes * 60, seed, served))
            print(describe(results[-1]), flush=True)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps([vars(one) for one in results], indent=2))
    return int(any(one.complaints for one in results))


def describe(result: Result) -> str:
    """Describe a result in some lines."""
    figures = result.figures
    lines = [
        f"{result.name}: {result.executions:,} executions in {result.seconds:.0f} s, seed {result.seed}",
        f"  outcomes: {figures['outcomes']}",
        f"  good client: {figures['echoes']:,} echoes, p99 {figures['p99_ms']} ms, longest {figures['longest_ms']} ms",
        f"  memory: {figures.get('kib_before', 0):,} -> {figures.get('kib_after', 0):,} KiB",
        *(f"  FOUND: {complaint[:SHOWN]}" for complaint in result.complaints[:20]),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
