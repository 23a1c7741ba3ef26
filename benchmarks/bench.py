"""
Compare the server with other WebSocket servers, its peers: `make bench`.

    python benchmarks/bench.py [--quick] [--rows a,b] [--servers a,b] [--rounds N] [--write-docs]
    python benchmarks/bench.py --reuse --write-docs
    python benchmarks/bench.py --profile ROW
    python benchmarks/bench.py --python /usr/bin/python3

Run it with the Python that wsserver is installed in. Only figures of the same run are compared: for each row, the
rounds of all servers are interleaved.
"""

import argparse
import datetime
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from goals import Row
from peers import BY_NAME, LIMIT, PEERS, SUBJECT, Peer
from plot import Bar, chart
from processes import MeasureError, Server, cores, holding, load, open_files, serving
from report import document, middle, missed, number, tables
from rows import ROWS
from toolchain import BENCH, ROOT, ToolchainError, describe_python, prepare, subject_environment, versions

QUICK = (LIMIT, SUBJECT, "centrifugo", "fastwebsockets", "bun", "gorilla")
QUICK_WITHOUT = {"idle", "fanout-channels", "redis-channels", "echo-10000"}
PLOTTED = (
    "api-publish",
    "api-batch",
    "centrifuge-publish-64",
    "connect",
    "echo",
    "echo-1000",
    "echo-16",
    "echo-16k",
    "deflate",
    "tls",
    "handshakes",
    "memory",
    "fanout",
    "fanout-8",
    "fanout-32",
    "fanout-centrifuge-8",
)
IDLE_SECONDS = 50.0
"""Duration of the idle measurement: two ping intervals of 25 s."""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Measure the server and other servers in the same run.")
    parser.add_argument("--quick", action="store_true", help="a few servers, one short round: under two minutes")
    parser.add_argument(
        "--rows",
        type=names_of(row.name for row in ROWS if not row.shares),
        help="names of the rows to measure, separated by commas",
    )
    parser.add_argument(
        "--servers", type=names_of(BY_NAME), help="names of the servers to measure, separated by commas"
    )
    parser.add_argument("--rounds", type=int, help="number of rounds (default: 5; with --quick 1)")
    parser.add_argument("--seconds", type=float, help="duration of each round (default: 2; with --quick 0.7)")
    parser.add_argument(
        "--warmup",
        type=float,
        help="seconds of load before each round that are not measured (default: 1; with --quick 0.3)",
    )
    parser.add_argument("--out", type=Path, default=ROOT / "reports" / "bench", metavar="DIR")
    parser.add_argument("--write-docs", action="store_true", help="write docs/explanation/benchmarks.md and its plots")
    parser.add_argument("--reuse", action="store_true", help="do not measure: use the last result")
    parser.add_argument(
        "--profile", choices=[row.name for row in ROWS if row.measure == "load" and not row.shares], metavar="ROW"
    )
    parser.add_argument(
        "--python",
        type=Path,
        metavar="FILE",
        help="install wsserver for this Python below build/bench, and run with it (such as /usr/bin/python3)",
    )
    chosen = parser.parse_args(arguments)
    chosen.rows = chosen.rows or [
        row.name for row in ROWS if not (row.shares or (chosen.quick and row.name in QUICK_WITHOUT))
    ]
    chosen.servers = chosen.servers or list(QUICK if chosen.quick else BY_NAME)
    chosen.rounds = chosen.rounds or (1 if chosen.quick else 5)
    chosen.seconds = chosen.seconds or (0.7 if chosen.quick else 2.0)
    chosen.warmup = chosen.warmup or (0.3 if chosen.quick else 1.0)
    return chosen


def names_of(known: Iterator[str]) -> Any:
    """Return a parser for comma-separated lists of known names."""
    known = list(known)

    def read(text: str) -> list[str]:
        found = text.split(",")
        if unknown := [name for name in found if name not in known]:
            raise argparse.ArgumentTypeError(f"no {', '.join(unknown)} among {', '.join(known)}")
        return found

    return read


def say(line: str) -> None:
    """Print a line of progress, and flush the output."""
    print(line, flush=True)


def measure(row: Row, server: Server, options: argparse.Namespace) -> dict[str, float]:
    """Measure one server once; return a dictionary from the names of figures to values."""
    if row.measure == "memory":
        return measure_memory(server, row, options.quick)
    if row.measure == "idle":
        return measure_idle(server)
    if row.measure == "start":
        return {"seconds": server.started}
    found = load(server, row.load, options.seconds, options.warmup)
    if "without_p99_us" in found:
        found["slowdown"] = found["p99_us"] / found["without_p99_us"]
    return found


def at_half_rate(row: Row, peers: Sequence[Peer], options: argparse.Namespace) -> Row:
    """
    Return the row as a load with a fixed rate: half of the highest rate of the slowest server.

    At a fixed rate, the load generator does not wait for replies: each message has a time at which it is due, and its
    latency counts from then. So a server that stops for a moment does not delay, and thus hide, the next messages.
    """
    rates = [attempt(replace(row, measure="load"), peer, options).get("rate", 0.0) for peer in peers]
    rate = min(filter(None, rates), default=0.0) / 2
    say(f"{row.name:<10} {rate:.0f} messages per second")
    return replace(row, measure="load", load=("latency", *row.load[1:], "--rate", str(max(rate, 1.0))))


def measure_memory(server: Server, row: Row, quick: bool) -> dict[str, float]:
    """Measure memory per connection: its growth from few to many connections, without the process's own memory."""
    few = 500 if quick else 1_000
    many = min(8_000, open_files() - 1_000 - few)
    many = min(many, 1_500) if quick else many
    with holding(server, few, row.load):
        time.sleep(1)
        before = server.kilobytes()
        with holding(server, many, row.load):
            time.sleep(1 if quick else 3)
            after = server.kilobytes()
    return {"kilobytes": (after - before) / many, "connections": few + many}


def measure_idle(server: Server) -> dict[str, float]:
    """Measure the CPU usage in percent while idle connections exchange only pings."""
    connections = min(10_000, open_files() - 1_000)
    with holding(server, connections) as figures:
        time.sleep(5)
        before, began = server.cpu(), time.monotonic()
        time.sleep(IDLE_SECONDS)
        percent = 100 * (server.cpu() - before) / (time.monotonic() - began)
    if figures["pings"] < connections:
        raise MeasureError(f"{connections} connections got only {figures['pings']} pings")
    return {"percent": percent, "connections": connections, "pings": figures["pings"]}


def attempt(row: Row, peer: Peer, options: argparse.Namespace) -> dict[str, Any]:
    """Start a server and measure it once; a failure is returned as `error`."""
    try:
        with serving(peer, row.needs, row.options if peer.name == SUBJECT else ()) as server:
            return measure(row, server, options)
    except (MeasureError, OSError) as failure:
        return {"error": str(failure)}


def measure_row(row: Row, peers: list[Peer], options: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """
    Measure all servers in interleaved rounds.

    The idle row has at most two rounds, because it takes a minute per server.
    """
    rounds = min(2, options.rounds) if row.measure == "idle" else options.rounds
    if row.measure == "latency":
        row = at_half_rate(row, peers, options)
    results: dict[str, list[dict[str, Any]]] = {peer.name: [] for peer in peers}
    for each in range(rounds):
        for peer in peers:
            found = attempt(row, peer, options)
            results[peer.name].append(found)
            figure = found.get("error") or number(found[row.figure], row.unit)
            cpu = number(found["cpu_us"], " µs") if "cpu_us" in found and row.unit == "/s" else ""
            say(f"{row.name:<10} round {each + 1}/{rounds}  {peer.name:<17} {figure:>12}  {cpu:>8}")
    return results


def describe_machine() -> dict[str, Any]:
    """Return a description of the machine."""
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": model[0].partition(":")[2].strip() if model else platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": describe_python(),
        "load_average": os.getloadavg()[0],
    }


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure the chosen rows and servers. The result is saved after each row."""
    missing = prepare(options.servers)
    for name, reason in missing.items():
        say(f"without {name}: {reason}")
    peers = [peer for peer in PEERS if peer.name in options.servers and peer.name not in missing]
    open_files()
    result = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": " ".join(["benchmarks/bench.py", *sys.argv[1:]]),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "warmup": options.warmup,
        "machine": describe_machine(),
        "versions": versions([peer.name for peer in peers]),
        "missing": missing,
        "rows": {},
    }
    if result["machine"]["load_average"] > 0.5:
        say(f"this machine isn't idle (load average {result['machine']['load_average']:.1f}): figures will be low")
    for row in ROWS:
        if row.shares in result["rows"]:
            result["rows"][row.name] = result["rows"][row.shares]
        elif row.name in options.rows and not row.shares:
            result["rows"][row.name] = measure_row(row, [peer for peer in peers if row.takes(peer)], options)
            save(result, options.out)
    return result


def save(result: dict[str, Any], out: Path) -> None:
    """Write the result as JSON, as Markdown tables and as plots."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "result.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    (out / "table.md").write_text(tables(result) + "\n")
    for name, picture in plots(result).items():
        (out / name).write_text(picture)


def plots(result: dict[str, Any]) -> dict[str, str]:
    """Draw the plots; return a dictionary from file names to SVG texts."""
    return {f"benchmarks-{row.name}.svg": draw(result, row) for row in plotted(result)}


def plotted(result: dict[str, Any]) -> list[Row]:
    """Return the rows to draw: those of `PLOTTED` in which at least two servers were measured."""
    return [row for row in ROWS if row.name in PLOTTED and len(bars(result, row)) > 1]


def bars(result: dict[str, Any], row: Row) -> list[Bar]:
    """Return the bars of a row, best first."""
    kinds = {SUBJECT: "own", LIMIT: "limit"}
    found = []
    for name in result["rows"].get(row.name, {}):
        value = middle(result, row.name, name, row.figure)
        if value is not None:
            title = BY_NAME[name].title.strip("*")
            found.append(Bar(title, value, number(value, row.unit), kinds.get(name, "peer")))
    return sorted(found, key=lambda bar: bar.value, reverse=not row.less_is_better)


def draw(result: dict[str, Any], row: Row) -> str:
    """Return the plot of one row as SVG."""
    title = row.work
    note = f"one core for the server; {'less' if row.less_is_better else 'more'} is better"
    return chart(title[0].upper() + title[1:], note, bars(result, row))


def write_docs(result: dict[str, Any]) -> None:
    """Write docs/explanation/benchmarks.md and its plots."""
    docs = ROOT / "docs" / "explanation"
    titles = {f"benchmarks-{row.name}.svg": row.work for row in plotted(result)}
    for name, picture in plots(result).items():
        (docs / name).write_text(picture)
    (docs / "benchmarks.md").write_text(document(result, titles))


def profile(row: Row, out: Path) -> None:
    """Profile the server with perf during the load of one row."""
    if shutil.which("perf") is None:
        raise ToolchainError("no perf here")
    prepare([SUBJECT])
    open_files()
    data, text = BENCH / "perf.data", out / f"profile-{row.name}.txt"
    out.mkdir(parents=True, exist_ok=True)
    with serving(BY_NAME[SUBJECT], row.needs, row.options) as server:
        watch = ["perf", "record", "-q", "-F", "997", "-o", str(data), "-p", str(server.process.pid), "sleep", "4"]
        with subprocess.Popen(watch, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as recorder:  # noqa: S603
            found = load(server, row.load, 5, 0.2)
            recorder.wait(30)
    shown = ["perf", "report", "-i", str(data), "--stdio", "--no-children", "--percent-limit", "0.5"]
    done = subprocess.run(shown, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    text.write_text(done.stdout)
    lines = [line for line in done.stdout.splitlines() if line.strip() and not line.startswith("#")]
    say("\n".join([*lines[:30], f"{number(found['rate'])}/s, {found['cpu_us']:.2f} µs a message; all of it: {text}"]))


def restart_with(python: Path) -> None:
    """Execute this program again, with another Python that wsserver is installed for, unless that Python runs it."""
    folder = subject_environment(python)
    if Path(sys.prefix) != folder:
        program = folder / "bin" / "python"
        os.execv(program, [str(program), *sys.argv])  # noqa: S606


def main() -> None:
    """Run the benchmark and print which goals are missed. Exits with an error if a measurement failed."""
    options = parse(sys.argv[1:])
    # On SIGTERM, exit with an exception, so that running servers are stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        cores()
        if options.python:
            restart_with(options.python)
        if options.profile:
            profile(next(row for row in ROWS if row.name == options.profile), options.out)
            return
        result = json.loads((options.out / "result.json").read_text()) if options.reuse else run(options)
    except (MeasureError, ToolchainError, FileNotFoundError) as failure:
        sys.exit(f"bench: {failure}")
    save(result, options.out)
    if options.write_docs:
        write_docs(result)
    say(f"\n{tables(result)}\n")
    failed = sorted(
        {name for row in result["rows"].values() for name in row if any("error" in each for each in row[name])}
    )
    say(f"required goals not reached: {', '.join(missed(result)) or 'none'}")
    if failed:
        sys.exit(f"bench: failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
