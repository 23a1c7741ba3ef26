"""
A long run of one server: very many short connections, then a mixed load; and what the server holds afterwards.

    python tests/soak/soak.py [--cycles N] [--minutes N] [--out DIR] [--write-docs]

The exit code is 1 if the server holds more at the end than at the beginning, beyond the bounds in `holdings.py`, if its
memory grew steadily, if a publication was lost silently, or if the server logged an error.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

# Under pytest, pyproject.toml adds these paths.
sys.path += [str(Path(__file__).resolve().parents[1] / folder) for folder in ("support", "chaos", "soak")]

from centrifuge_peer import CentrifugePeer
from curve import curve
from holdings import CACHED, MAX_SLOPE, Holdings, Sample, ask, compare, files, private, slope, take_quiet
from mixed import SETTINGS
from page import DOCS, write_part
from ports import free_port
from redis_server import RedisServer
from stopping import stop

HERE = Path(__file__).resolve().parent

START = 30.0
"""Seconds to wait until the server is ready."""

EVERY = 5.0
"""Seconds between two samples of the private memory."""

IN_USE_EVERY = 20.0
"""Seconds between two samples of the memory in use: before each one, the server searches for garbage."""

WARM_UP_CYCLES, WARM_UP_SECONDS = 5_000, 20
"""Before the first measurement: caches fill, and the allocator keeps memory."""

SETTLING = 0.2
"""Part of the mixed load whose samples do not count for the slope: all subscribers connect then."""

LONG = 600.0
"""Seconds of mixed load from which on its slope counts."""


@dataclass
class Run:
    """A run, and its results."""

    pid: int
    port: int
    redis_port: int
    report: Path
    """The socket on which the server reports what it holds."""
    began: float = field(default_factory=time.monotonic)
    samples: list[Sample] = field(default_factory=list)
    in_use: list[Sample] = field(default_factory=list)
    """Samples of the memory in use, during the mixed load."""
    phases: list[tuple[str, float, float]] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)
    _stopped: threading.Event = field(default_factory=threading.Event)

    def sample(self) -> None:
        """Take samples until `stop` is called."""
        while True:
            self.samples.append(Sample(self.elapsed(), private(self.pid), files(self.pid)))
            if self._stopped.wait(EVERY):
                return

    def sample_in_use(self, until: threading.Event) -> None:
        """Take samples of the memory in use until an event."""
        while not until.wait(IN_USE_EVERY):
            self.in_use.append(Sample(self.elapsed(), ask(self.report)["in_use"] // 1024, files(self.pid)))

    def stop(self) -> None:
        """Take no more samples."""
        self._stopped.set()

    def elapsed(self) -> float:
        """Return the seconds since the start of the run."""
        return time.monotonic() - self.began

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Record how long a phase lasts."""
        say(f"{time.strftime('%H:%M:%S')} {name}")
        began = self.elapsed()
        yield
        self.phases.append((name, began, self.elapsed()))

    def load(self, program: str, *arguments: object) -> dict[str, Any]:
        """Run a program of this folder in a process of its own, and return the figures that it prints."""
        command = [sys.executable, str(HERE / program), *map(str, arguments)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            self.complaints.append(f"{program}: {done.stderr.strip().splitlines()[-1:]}")
            return {}
        figures: dict[str, Any] = json.loads(done.stdout)
        return figures

    def cycle(self, count: int) -> dict[str, Any]:
        """Connect, echo and close `count` times."""
        return self.load("cycles.py", "--port", self.port, "--count", count)

    def mix(self, seconds: float) -> dict[str, Any]:
        """Run the mixed load for some seconds."""
        figures = self.load("mixed.py", self.port, self.redis_port, int(seconds))
        if figures and not figures["passed"]:
            self.complaints.append(f"the checker found faults: {figures['faults']}")
        return figures

    def settle(self, name: str, base: Holdings | None = None) -> Holdings:
        """Wait until the server has released what it can, and record what it still holds."""
        with self.phase("quiet"):
            held = take_quiet(self.pid, self.report, base)
        self.figures[name] = asdict(held)
        if base is not None:
            self.complaints += [f"{name}: {found}" for found in compare(base, held)]
        return held


def say(line: str) -> None:
    """Print a line of progress."""
    print(line, flush=True)


@contextmanager
def serving(directory: Path) -> Iterator[Run]:
    """Run a server and a Redis; yields the run."""
    (directory / "redis").mkdir()
    redis = RedisServer(directory / "redis")
    (directory / "wsserver.toml").write_text(SETTINGS)
    port, report, log = free_port(), directory / "report.sock", directory / "server.log"
    options = ["--port", str(port), "--config", str(directory / "wsserver.toml"), "--redis", redis.url]
    command = [sys.executable, str(HERE / "served.py"), str(report), "serve", *options]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("WSSERVER_")}
    redis.start()
    try:
        with log.open("wb") as output:
            process = subprocess.Popen(command, cwd=directory, env=environ, stdout=output, stderr=subprocess.STDOUT)
        try:
            _wait_until_ready(process, log)
            yield Run(process.pid, port, redis.port, report)
        finally:
            stop(process)
    finally:
        redis.kill()


def _wait_until_ready(process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START
    while "connected to Redis" not in log.read_text("utf-8", "replace"):
        if process.poll() is not None or time.monotonic() > end:
            raise SystemExit(f"the server did not become ready:\n{log.read_text('utf-8', 'replace')[-2000:]}")
        time.sleep(0.1)


def run(cycles: int, seconds: float, directory: Path) -> Run:
    """
    Run everything.

    Args:
        cycles: number of short connections.
        seconds: duration of the mixed load.
        directory: an empty directory for all files.
    """
    with serving(directory) as soak:
        sampling = threading.Thread(target=soak.sample)
        sampling.start()
        try:
            _phases(soak, cycles, seconds)
        finally:
            soak.stop()
            sampling.join()
    soak.complaints += _errors(directory / "server.log")
    return soak


def _phases(soak: Run, cycles: int, seconds: float) -> None:
    with soak.phase("warm-up"):
        soak.cycle(min(cycles, WARM_UP_CYCLES))
        if seconds >= LONG:
            fill_caches(soak.port)
        soak.mix(min(seconds, WARM_UP_SECONDS))
    base = soak.settle("base")
    with soak.phase(f"{cycles:,} connections"):
        soak.figures["cycles"] = soak.cycle(cycles)
    soak.settle("after the connections", base)
    ended = threading.Event()
    sampling = threading.Thread(target=soak.sample_in_use, args=(ended,))
    with soak.phase("mixed load"):
        sampling.start()
        soak.figures["mixed load"] = soak.mix(seconds)
        ended.set()
        sampling.join()
    _, begin, end = soak.phases[-1]
    growth = slope([one for one in soak.in_use if begin + SETTLING * (end - begin) < one.at])
    soak.figures["KiB per hour"] = growth
    # In a short run, a single allocation looks like a steep slope.
    if seconds >= LONG and growth > MAX_SLOPE:
        soak.complaints.append(f"the memory grew by {growth:,.0f} KiB per hour during the mixed load")
    soak.settle("after the mixed load", base)


def fill_caches(port: int) -> None:
    """Publish as so many clients that the cache with the headers of their publications is full."""
    for _ in range(CACHED["ClientInfo"]):
        with contextlib.closing(CentrifugePeer(port)) as client:
            client.ask("publish", {"channel": "close:0", "data": {}})


def _errors(log: Path) -> list[str]:
    words = ("Traceback", "Unhandled", "#critical", "#error")
    with log.open(encoding="utf-8", errors="replace") as lines:
        return [line.strip() for line in lines if any(word in line for word in words)][:20]


def markdown(soak: Run) -> str:
    """Return the results as tables."""
    held = {name: value for name, value in soak.figures.items() if isinstance(value, dict) and "kib" in value}
    rows = [
        f"| {name} | {one['kib'] / 1024:.1f} MiB | {one['files']} | {one['timers']} | {sum(one['objects'].values())} |"
        for name, one in held.items()
    ]
    cycles, mixed = soak.figures["cycles"], soak.figures["mixed load"].get("counts", {})
    lines = [
        "| the server without clients | private memory | descriptors | timers | objects |",
        "|---|--:|--:|--:|--:|",
        *rows,
        "",
        f"- short connections: {sum(cycles.get('styles', {}).values()):,} in {cycles.get('seconds', 0):.0f} s, "
        + ", ".join(f"{style} {number:,}" for style, number in cycles.get("styles", {}).items()),
        f"- slope of the memory in use during the mixed load: {soak.figures['KiB per hour']:,.0f} KiB per hour",
        "- mixed load: " + ", ".join(f"{name} {number:,}" for name, number in sorted(mixed.items())),
        f"- passed: {'no' if soak.complaints else 'yes'}",
        *(f"  - {complaint}" for complaint in soak.complaints),
    ]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Run and return the exit code."""
    parser = argparse.ArgumentParser(description="Run a server for long, and look for what it does not release.")
    parser.add_argument("--cycles", type=int, default=1_000_000, help="number of connections (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=30, help="duration of the mixed load (default: %(default)s)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="directory for the report, the curve and the logs")
    parser.add_argument("--write-docs", action="store_true", help="rewrite the figures and the curve in the docs")
    options = parser.parse_args(arguments)
    # SystemExit runs every `finally`, which ends the processes.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        soak = run(options.cycles, options.minutes * 60, Path(folder))
    text = markdown(soak)
    picture = curve(
        "Memory of the server during the long run", soak.samples, [p for p in soak.phases if p[0] != "quiet"]
    )
    say(f"\n{text}")
    if options.out is not None:
        (options.out / "report.md").write_text(text)
        figures = soak.figures | {
            "samples": [asdict(one) for one in soak.samples],
            "in use": [asdict(one) for one in soak.in_use],
        }
        (options.out / "report.json").write_text(json.dumps(figures, indent=1) + "\n")
        (options.out / "memory.svg").write_text(picture)
    if options.write_docs:
        write_part("figures", text)
        (DOCS / "soak.svg").write_text(picture)
    return 1 if soak.complaints else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
