"""
Run the test suites of Centrifugo's SDKs, and our tests with these SDKs, against this server.

    python tests/sdk/run.py [--out DIR] [--suite NAME ...] [--centrifugo]

The exit code is 1 if a test failed. Port 8000 must be free: the SDKs' own tests use no other one.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from outcomes import Outcome, complaints, markdown
from own import Browser, Processes
from suites import CentrifugeGo, CentrifugePython
from targets import BUILD, SDKError, running, version_of

OTHERS = {"centrifuge-go": CentrifugeGo, "centrifuge-python": CentrifugePython}
OURS = {"processes": Processes, "browser": Browser}


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Run the test suites of Centrifugo's SDKs against this server.")
    parser.add_argument("--out", type=Path, default=BUILD / "reports", metavar="DIR", help="directory for the results")
    parser.add_argument(
        "--suite", action="append", choices=[*OTHERS, *OURS], help="run only this suite; may be repeated"
    )
    parser.add_argument(
        "--centrifugo", action="store_true", help="run the SDKs' own tests against Centrifugo, too, for comparison"
    )
    return parser.parse_args(arguments)


def say(line: str) -> None:
    """Print a line of progress."""
    print(line, flush=True)


def run_theirs(name: str, server: str, out: Path) -> Outcome:
    """Run an SDK's own tests against a server."""
    suite = OTHERS[name]()
    suite.install()
    names = suite.names()
    say(f"{name}: {len(names)} tests against {server}")
    started = time.monotonic()
    cases = []
    with running(server, name, out):
        for one in names:
            ran = suite.run_one(one)
            for case in ran:
                if case.error is not None:
                    say(f"  failed: {case.name}: {case.error}")
            cases += ran
    seconds = time.monotonic() - started
    return Outcome(suite.title, suite.version, version_of(server), cases, seconds)


def main(arguments: Sequence[str]) -> int:
    """Run the suites and return the exit code."""
    ours = parse(arguments)
    out = ours.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    BUILD.mkdir(parents=True, exist_ok=True)
    outcomes: list[Outcome] = []
    try:
        for name in ours.suite or [*OTHERS, *OURS]:
            if name in OURS:
                outcomes += OURS[name](out).run(say)
            else:
                servers = ["wsserver", "centrifugo"] if ours.centrifugo else ["wsserver"]
                outcomes += [run_theirs(name, server, out) for server in servers]
    except SDKError as failure:
        print(f"sdk: {failure}", file=sys.stderr)
        return 1
    wrong = [line for outcome in outcomes for line in complaints(outcome)]
    text = markdown(outcomes) + "".join(f"\n- {line}" for line in wrong)
    (out / "summary.md").write_text(text)
    say(f"\n{text}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
