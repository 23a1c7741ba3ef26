"""
Run several wstest processes in parallel, each with its own cases, and read their reports.

When a wave ends, even by an exception, all of its processes must have ended. This module must not judge the results: it
reports a process that fails, and `judge.py` finds the missing cases.

"""

import json
import re
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path

from judge import Result
from plan import Portion
from toolchain import Wstest, clean_environment

AGENT = "wsserver"
HEARTBEAT_SECONDS = 15.0
STOP_SECONDS = 5.0
STARTED_CASE = re.compile(r"^Running test case ID (\S+)", re.MULTILINE)
VERSIONS = re.compile(r"Autobahn Testsuite Version (\S+) / Autobahn Version ([^\s)]+)")
DESCRIPTION = re.compile(r"<h2>Case (\S+)</h2>.*?<b>Case Description</b><br/><br/>(.*?)</p>", re.DOTALL)


@dataclass
class Running:
    """A wstest process and its cases."""

    portion: Portion
    process: subprocess.Popen[bytes]
    log: Path
    started: float = field(default_factory=time.monotonic)

    def cases_started(self) -> list[str]:
        """List the cases that it has started; the last one may still be running."""
        return STARTED_CASE.findall(self.log.read_text(errors="replace"))

    def progress(self) -> str:
        """Describe the progress in a few words."""
        return f"{self.portion.name}: {len(self.cases_started())} of {len(self.portion.cases)} cases"


@dataclass(frozen=True)
class Run:
    """The common settings of all processes of a run."""

    wstest: Wstest
    url: str
    folder: Path
    slots: int
    deadline: float
    """When the run must end, in the seconds of `time.monotonic()`."""
    say: Callable[[str], None]


def specification(url: str, portion: Portion) -> str:
    """
    Return the specification for wstest.

    It does not change wstest's timeouts, because longer ones would make the cases easier to pass.
    """
    spec = {
        "outdir": portion.name,
        "servers": [{"agent": AGENT, "url": url}],
        "cases": list(portion.cases),
        "exclude-cases": [],
        "exclude-agent-cases": {},
    }
    return json.dumps(spec, indent=1)


def start(run: Run, portion: Portion) -> Running:
    """Start wstest for a portion."""
    spec = run.folder / f"{portion.name}.json"
    spec.write_text(specification(run.url, portion))
    log = run.folder / f"{portion.name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            run.wstest.command(run.folder, spec.name),
            cwd=run.folder,
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    return Running(portion, process, log)


def stop(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    """Stop processes, by force if they do not end in time."""
    alive = [process for process in processes if process.poll() is None]
    for process in alive:
        process.terminate()
    for process in alive:
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def run_wave(run: Run, wave: Sequence[Portion]) -> list[str]:
    """
    Run the portions of a wave, no more than run.slots at a time.

    Returns:
        Problems with the processes themselves, one line each.
    """
    waiting, running, problems = deque(wave), list[Running](), list[str]()
    heartbeat = time.monotonic() + HEARTBEAT_SECONDS
    try:
        while waiting or running:
            if time.monotonic() > run.deadline:
                return [*problems, out_of_time(running)]
            while waiting and len(running) < run.slots:
                running.append(start(run, waiting.popleft()))
            time.sleep(0.1)
            for one in [one for one in running if one.process.poll() is not None]:
                running.remove(one)
                problems += ended(run, one)
                heartbeat = time.monotonic() + HEARTBEAT_SECONDS
            if time.monotonic() > heartbeat:
                run.say("running: " + "; ".join(one.progress() for one in running))
                heartbeat = time.monotonic() + HEARTBEAT_SECONDS
    finally:
        stop(one.process for one in running)
    return problems


def ended(run: Run, one: Running) -> list[str]:
    """Report that a process has ended; return its problems."""
    seconds = time.monotonic() - one.started
    run.say(f"{one.progress()} in {seconds:.0f} s")
    if one.process.returncode == 0:
        return []
    return [f"wstest for {one.portion.name} ended with exit code {one.process.returncode}; see its log {one.log.name}"]


def out_of_time(running: Iterable[Running]) -> str:
    """Describe the cases that were running at the time limit."""
    last = [f"{one.portion.name} in case {''.join(one.cases_started()[-1:]) or 'none'}" for one in running]
    return f"the time limit is over; wstest was stopped ({', '.join(last) or 'between portions'})"


def read_results(folder: Path) -> list[Result]:
    """Read the reports of all portions."""
    return [result for index in sorted(folder.glob("*/index.json")) for result in read_index(index)]


def read_index(index: Path) -> list[Result]:
    """Read the report of one portion."""
    agents = json.loads(index.read_text())
    return [
        Result(case, report["behavior"], report["behaviorClose"], report["duration"])
        for reports in agents.values()
        for case, report in reports.items()
    ]


def read_descriptions(folder: Path) -> dict[str, str]:
    """Read the description of each case. Every report of wstest describes all cases, even those that did not run."""
    page = next(iter(sorted(folder.glob("*/index.html"))), None)
    if page is None:
        return {}
    found = DESCRIPTION.findall(page.read_text(errors="replace"))
    return {case: plain(description) for case, description in found}


def plain(description: str) -> str:
    """Convert a description to one line of text."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", description)).split())


def read_versions(folder: Path) -> dict[str, str]:
    """Read the versions of the testsuite from its log."""
    for log in sorted(folder.glob("*.log")):
        found = VERSIONS.search(log.read_text(errors="replace"))
        if found is not None:
            return {"autobahntestsuite": found[1], "autobahn of the testsuite": found[2]}
    return {}
