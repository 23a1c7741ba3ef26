"""
Very many connections: what an idle one costs, and what happens when all connect at once.

    python tests/soak/connections.py [--connections N] [--minutes N] [--out DIR] [--write-docs]

The server is pinned to one core and the load to the other. The exit code is 1 if a figure is worse than its goal (F6,
F7 and F15 of the goals that the project has set itself).
"""

import argparse
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

# Under pytest, pyproject.toml adds the first of these paths.
sys.path += [str(Path(__file__).resolve().parents[1] / folder) for folder in ("support", "soak", "../benchmarks")]

from holdings import pss
from page import write_part
from pki import make_authority
from ports import free_port
from stalls import echo

HERE = Path(__file__).resolve().parent

PLAIN, TLS, DEFLATED = "plain", "TLS", "after one compressed message each way"
TAKEOVER = f"{DEFLATED}, with context takeover"

GOALS = {PLAIN: 14.0, TLS: 45.0, DEFLATED: 50.0, TAKEOVER: 50.0}
"""Kind of connection -> maximum memory of an idle one in KiB."""

GOAL_CPU = 20.0
"""Maximum CPU time of an idle connection, in microseconds per second."""

GOAL_OPEN, GOAL_P99, GOAL_LIVE = 10.0, 5.0, 0.050
"""Maximum seconds until all connections of a storm are open, of 99 % of their handshakes, and of 99 % of the echoes."""

LIVE = 15.0
"""Seconds for which other clients receive echoes, before, during and after the storm."""

LATE = 0.25
"""Maximum seconds by which each ping follows the last one later than after 25 s (`wsserver.wire.timers.SLACK`)."""

PART = 0.1
"""Part of the connections from which the memory per connection is measured; those before fill caches."""

MINIMUM = 3000
"""Number of TLS connections: their handshakes take long."""


@dataclass
class Results:
    """The figures and what is worse than its goal."""

    rows: list[tuple[str, str, str]] = field(default_factory=list)
    """Figure, measured value, goal."""
    complaints: list[str] = field(default_factory=list)

    def add(self, name: str, value: float, goal: float, unit: str) -> None:
        """Add a figure whose goal is a maximum."""
        self.rows.append((name, f"{value:,.1f} {unit}".strip(), f"<= {goal:g} {unit}".strip()))
        if value > goal:
            self.complaints.append(f"{name}: {value:,.1f} {unit}, more than {goal:g} {unit}")
        print(f"{time.strftime('%H:%M:%S')} {name}: {value:,.1f} {unit} (goal: {goal:g})", flush=True)


@contextmanager
def serving(*options: str) -> Iterator[tuple[int, int]]:
    """Run a server on the first core; yields its port and its PID."""
    port, core = free_port(), min(os.sched_getaffinity(0))
    command = [str(Path(sys.executable).with_name("wsserver")), "serve", "--port", str(port), *options]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("WSSERVER_")}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, env=environ, stdout=log, stderr=log)
        try:
            os.sched_setaffinity(process.pid, {core})
            end = time.monotonic() + 30
            while b"the page is at" not in os.pread(log.fileno(), 100_000, 0):
                if process.poll() is not None or time.monotonic() > end:
                    raise SystemExit(f"the server did not start: {os.pread(log.fileno(), 100_000, 0).decode()}")
                time.sleep(0.1)
            yield port, process.pid
        finally:
            process.kill()
            process.wait()


@dataclass
class Group:
    """A load process that holds connections."""

    process: subprocess.Popen[str]
    times: list[float]
    """Seconds of each opening handshake, in ascending order."""

    def leave(self) -> int:
        """Close all connections; return how many pings they have answered."""
        output, _ = self.process.communicate("\n", timeout=60)
        if self.process.returncode:
            raise SystemExit(f"a connection was lost: exit code {self.process.returncode}")
        pings: int = json.loads(output)["pings"]
        return pings


@contextmanager
def crowd(port: int, count: int, *options: str) -> Iterator[Group]:
    """Hold connections in a process of its own."""
    command = [sys.executable, str(HERE / "crowd.py"), "--port", str(port), "--connections", str(count), *options]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        os.sched_setaffinity(process.pid, {max(os.sched_getaffinity(0))})
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise SystemExit(f"the connections could not be opened: exit code {process.wait(10)}")
        yield Group(process, json.loads(line))
    finally:
        process.kill()
        process.wait()


def cpu(pid: int) -> float:
    """Return the CPU time that a process has used, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def listen_drops() -> int:
    """Return how many connections the kernel has dropped because a listener's backlog was full."""
    names, values = (
        line.split() for line in Path("/proc/net/netstat").read_text().splitlines() if line.startswith("TcpExt:")
    )
    return int(dict(zip(names, values, strict=True))["ListenDrops"])


def measure_memory(results: Results, kind: str, count: int, server: Sequence[str], load: Sequence[str]) -> None:
    """Measure the memory of an idle connection: the growth from a part of the connections to all of them."""
    first = int(count * PART)
    with serving(*server) as (port, pid), crowd(port, first, *load):
        before = pss(pid)
        with crowd(port, count - first, *load):
            time.sleep(1)
            results.add(
                f"memory of an idle connection, {kind}", (pss(pid) - before) / (count - first), GOALS[kind], "KiB"
            )


def measure_idle(results: Results, count: int, seconds: float) -> None:
    """Measure the CPU time of idle connections with pings, and that none is lost."""
    with serving("--max-connections", str(count + 100)) as (port, pid), crowd(port, count) as group:
        time.sleep(2)
        before, began = cpu(pid), time.monotonic()
        time.sleep(seconds)
        used = (cpu(pid) - before) / (time.monotonic() - began) / count * 1e6
        pings = group.leave()
    results.add(f"CPU time of an idle connection ({count:,}, pings every 25 s, {seconds:g} s)", used, GOAL_CPU, "us/s")
    expected = count * int(seconds / (25 + LATE))
    results.rows.append(("pings answered", f"{pings:,}", f">= {expected:,}"))
    if pings < expected:
        results.complaints.append(f"only {pings:,} pings instead of {expected:,}")


def measure_storm(results: Results, count: int) -> None:
    """Measure a connect storm: all connect at once, while other clients receive echoes."""
    processes = multiprocessing.get_context("spawn")
    with serving("--max-connections", str(count + 200)) as (port, _):
        ours, theirs = processes.Pipe()
        live = processes.Process(target=echo, args=(port, LIVE, theirs), daemon=True)
        live.start()
        ours.recv()
        time.sleep(2)
        drops, began = listen_drops(), time.monotonic()
        with crowd(port, count, "--at-once", str(count)) as group:
            seconds = time.monotonic() - began
            dropped = listen_drops() - drops
            echoes = sorted(ours.recv())
        live.join(5)
        live.kill()
    results.add(f"storm: until {count:,} connections were open", seconds, GOAL_OPEN, "s")
    results.add("storm: 99 % of the opening handshakes", group.times[int(0.99 * (count - 1))], GOAL_P99, "s")
    results.add(
        "storm: 99 % of the echoes of other clients", 1000 * echoes[int(0.99 * len(echoes))], 1000 * GOAL_LIVE, "ms"
    )
    results.add("storm: connections that the kernel dropped", dropped, 0, "")


def measure(count: int, seconds: float) -> Results:
    """Measure everything."""
    results = Results()
    few = min(count, MINIMUM)
    measure_memory(results, PLAIN, count, ["--max-connections", str(count + 100)], [])
    with tempfile.TemporaryDirectory() as folder:
        issued = make_authority(Path(folder)).issue(Path(folder))
        tls = ["--tls-cert", str(issued.fullchain), "--tls-key", str(issued.privkey)]
        measure_memory(results, TLS, few, tls, ["--tls"])
    compression = ["--compression", "on"]
    measure_memory(results, DEFLATED, few, compression, ["--deflate"])
    measure_memory(results, TAKEOVER, few, [*compression, "--compression-context-takeover", "on"], ["--deflate"])
    measure_idle(results, count, seconds)
    measure_storm(results, count)
    return results


def markdown(results: Results) -> str:
    """Return the figures as a table."""
    rows = [f"| {name} | {value} | {goal} |" for name, value, goal in results.rows]
    return "\n".join(["| figure | measured | goal |", "|---|--:|--:|", *rows, ""])


def main(arguments: Sequence[str]) -> int:
    """Run and return the exit code."""
    parser = argparse.ArgumentParser(description="Measure very many idle connections, and a connect storm.")
    parser.add_argument("--connections", type=int, default=10_000, help="number of connections (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=5, help="duration of the idle phase (default: %(default)s)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="directory for the report")
    parser.add_argument("--write-docs", action="store_true", help="rewrite the figures in the docs")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    results = measure(options.connections, options.minutes * 60)
    text = markdown(results)
    print(f"\n{text}", flush=True)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "connections.md").write_text(text)
    if options.write_docs:
        write_part("connections", text)
    for complaint in results.complaints:
        print(f"worse than its goal: {complaint}")
    return 1 if results.complaints else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
