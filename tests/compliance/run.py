"""
Run the Autobahn testsuite against the server: every case must be OK.

    python tests/compliance/run.py [--quick] [--out DIR] [--url URL] [server options ...]

The three cases whose outcome the RFC leaves open may be INFORMATIONAL. The exit code is 1 after any other behavior,
including NON-STRICT, and if a case did not run.

"""

import argparse
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from fuzzing import Run, read_descriptions, read_results, read_versions, run_wave
from plan import expected_cases, waves
from summary import Summary, document, markdown
from target import Target, TargetError, foreign, twistd
from toolchain import ToolchainError, Wstest, find_wstest

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"
SLOTS = min(2, os.cpu_count() or 1)
"""
A wstest and the server take turns, so one pair uses one processor, and two pairs use two.

A larger machine could run more, but cases against a server that waits for a processor would measure the machine.
"""


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Parse the command line; unknown options are passed on to the server."""
    # Abbreviations are off, so that no option of the server is taken for one of this program.
    parser = argparse.ArgumentParser(
        description="Run the Autobahn testsuite against the server.",
        epilog="Options that are not listed here are passed on to the server.",
        allow_abbrev=False,
    )
    parser.add_argument("--quick", action="store_true", help="leave out the groups that take minutes: 9, 12 and 13")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="directory for reports and logs (default: below build/)"
    )
    parser.add_argument("--url", help="test the server at this ws:// or wss:// address instead of starting one")
    parser.add_argument("--tls", action="store_true", help="start the server with a self-signed certificate")
    parser.add_argument(
        "--jobs",
        type=int,
        default=SLOTS,
        help="number of wstest processes that run at the same time (default: %(default)s)",
    )
    parser.add_argument(
        "--time-limit", type=float, metavar="SECONDS", help="maximum duration (default: 2700; with --quick 300)"
    )
    ours, servers = parser.parse_known_args(arguments)
    servers = [option for option in servers if option != "--"]
    complain_about(parser, ours, servers)
    ours.out = (ours.out or BUILD / ("compliance-quick" if ours.quick else "compliance")).resolve()
    ours.time_limit = ours.time_limit or (300.0 if ours.quick else 2700.0)
    return ours, servers


def complain_about(parser: argparse.ArgumentParser, ours: argparse.Namespace, servers: Sequence[str]) -> None:
    """Refuse options that contradict each other."""
    if ours.jobs < 1:
        parser.error("--jobs must be at least 1")
    if ours.url is not None and (servers or ours.tls):
        parser.error(f"with --url no server is started that could take {' '.join(servers) or '--tls'}")
    if ours.url is not None and urlsplit(ours.url).scheme not in {"ws", "wss"}:
        parser.error(f"--url must begin with ws:// or wss://, not {ours.url!r}")


def say(line: str) -> None:
    """Print a line of progress."""
    print(line, flush=True)


def clear(out: Path) -> Path:
    """Remove the output of an earlier run; return the directory for reports."""
    for name in ("summary.md", "summary.json", "server.log"):
        (out / name).unlink(missing_ok=True)
    reports = out / "wstest"
    shutil.rmtree(reports, ignore_errors=True)
    reports.mkdir(parents=True)
    return reports


def server(ours: argparse.Namespace, servers: Sequence[str]) -> AbstractContextManager[Target]:
    """Return a context manager that provides the server under test."""
    if ours.url is not None:
        return foreign(ours.url)
    return twistd(servers, ours.tls, ours.out / "server.log")


def seen_by(wstest: Wstest, url: str) -> str:
    """Return the URL at which wstest reaches the server."""
    parts = urlsplit(url)
    if parts.hostname not in {"127.0.0.1", "localhost"}:
        return url
    return parts._replace(netloc=f"{wstest.host}:{parts.port}" if parts.port else wstest.host).geturl()


def run(ours: argparse.Namespace, servers: Sequence[str]) -> Summary:
    """Run the cases and collect the results."""
    reports = clear(ours.out)
    wstest = find_wstest(BUILD / "wstest", say)
    expected = expected_cases(ours.quick)
    started = time.monotonic()
    problems: list[str] = []
    with server(ours, servers) as target:
        say(f"{len(expected)} cases against {target.url}")
        deadline = started + ours.time_limit
        common = Run(wstest, seen_by(wstest, target.url), reports, ours.jobs, deadline, say)
        for wave in waves(expected):
            problems += run_wave(common, wave)
        problems += target.problems()
    return Summary(
        url=target.url,
        options=[*(["--tls"] if ours.tls else []), *servers],
        quick=ours.quick,
        versions={"testsuite": read_versions(reports), "server": target.versions},
        seconds=time.monotonic() - started,
        expected=expected,
        results=read_results(reports),
        descriptions=read_descriptions(reports),
        problems=problems,
    )


def report(summary: Summary, out: Path) -> None:
    """Write the summary to files, and print it."""
    text = markdown(summary)
    (out / "summary.md").write_text(text)
    (out / "summary.json").write_text(json.dumps(document(summary), indent=1) + "\n")
    say(f"\n{text}")


def end(_signal: int, _frame: object) -> NoReturn:
    """Exit on SIGTERM; SystemExit runs every `finally`, which stops the started processes."""
    sys.exit(143)


def main(arguments: Sequence[str]) -> int:
    """Run the testsuite and return the exit code."""
    signal.signal(signal.SIGTERM, end)
    ours, servers = parse(arguments)
    try:
        summary = run(ours, servers)
    except (ToolchainError, TargetError) as failure:
        print(f"compliance: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    report(summary, ours.out)
    return 0 if summary.passed() else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
