"""
Look for messages that are lost silently: servers, subscribers and publishers, during one fault after another.

    python tests/chaos/run.py [--faults N] [--deliveries N] [--seconds N] [--seed N] [--out DIR]

The run ends when all faults are over and enough publications have been delivered. The exit code is 1 if that takes
longer than `--seconds`, if a publication was lost silently, came twice or out of order, or if a server logged an
error.
"""

import argparse
import asyncio
import contextlib
import json
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

# Under pytest, pyproject.toml adds this path.
sys.path.append(str(Path(__file__).resolve().parents[1] / "support"))

from accounts import Accounts
from checker import Verdict, check
from nemesis import Nemesis
from publishers import Publishers
from report import markdown
from stage import KEY, NotReadyError, Stage, running
from subscribers import KINDS, Centrifuge, RawFormat, Subscriber
from waits import TIMEOUT, is_away, lacks, wait_until


@dataclass
class Outcome:
    """The outcome of a run."""

    verdict: Verdict
    struck: list[str]
    seconds: float
    shape: dict[str, int]
    complaints: list[str] = field(default_factory=list)
    """Errors in the log of a server, and problems with the run itself."""

    @property
    def passed(self) -> bool:
        """Whether the checker found no fault and there were no other problems."""
        return self.verdict.passed and not self.complaints


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description="Cause faults, and look for publications that are lost without a gap notice."
    )
    parser.add_argument("--faults", type=int, default=20, metavar="N", help="number of faults (default: %(default)s)")
    parser.add_argument(
        "--only",
        action="append",
        metavar="FAULT",
        help="cause this fault; may be repeated: the faults are then caused in this order, in a loop",
    )
    parser.add_argument(
        "--deliveries",
        type=int,
        default=1_000_000,
        metavar="N",
        help="minimum number of deliveries (default: %(default)s)",
    )
    parser.add_argument(
        "--seconds", type=float, default=900, metavar="N", help="maximum duration (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, metavar="N", help="seed of the random choice of faults (default: a new one for each run)"
    )
    parser.add_argument("--calm", type=float, default=3, metavar="N", help="seconds between faults (default: 3)")
    parser.add_argument(
        "--servers", type=int, default=2, metavar="N", help="number of server processes (default: %(default)s)"
    )
    parser.add_argument(
        "--channels", type=int, default=20, metavar="N", help="number of channels (default: %(default)s)"
    )
    parser.add_argument(
        "--subscribers", type=int, default=200, metavar="N", help="number of subscribers (default: %(default)s)"
    )
    parser.add_argument(
        "--rate", type=float, default=25, metavar="N", help="publications per second and channel (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="directory for the report and the servers' logs")
    return parser.parse_args(arguments)


def say(line: str) -> None:
    """Print a line of progress."""
    print(line, flush=True)


def name_channels(count: int) -> list[str]:
    """
    Name channels by the rules of their prefix; see the settings in `stage.py`.

    `close:` channels keep 300 publications, and disconnect slow subscribers. `short:` channels keep only 5
    publications, and `off:` channels none. `drop:` and `latest:` channels do not disconnect slow subscribers: they drop
    the oldest publications, or all but the latest.
    """
    rules = ("close", "short", "drop", "close", "latest", "off")
    return [f"{rules[number % len(rules)]}:{number}" for number in range(count)]


def make_subscribers(count: int, channels: Sequence[str], ports: Sequence[int], rng: random.Random) -> list[Subscriber]:
    """
    Make subscribers of all kinds.

    Each subscribes to one or two channels, so that all channels have about as many.
    """
    made: list[Subscriber] = []
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        first = number // len(KINDS) % len(channels)
        wanted = [channels[first]]
        if kind is not RawFormat and number // len(KINDS) % 2:
            wanted.append(channels[(first + 1) % len(channels)])
        made.append(kind(f"{kind.kind}-{number}", wanted, ports, random.Random(rng.random())))
    return made


async def drill(options: argparse.Namespace, stage: Stage, rng: random.Random) -> tuple[Accounts, list[str], list[str]]:
    """Run everything; return the records, the injected faults, and the problems with the run itself."""
    accounts, problems, struck = Accounts(), list[str](), list[str]()
    channels = name_channels(options.channels)
    subscribers = make_subscribers(options.subscribers, channels, stage.ports, rng)
    accounts.logs = [log for subscriber in subscribers for log in subscriber.logs.values()]
    clients = [subscriber for subscriber in subscribers if isinstance(subscriber, Centrifuge)]
    publishers = Publishers(accounts, stage.ports, stage.redis.port, KEY, clients, rng)
    nemesis = Nemesis(stage, accounts, subscribers, publishers, rng)
    plan = nemesis.plan(options.faults, options.only)
    for server in stage.servers:
        await server.cable.lay(server.cable_port)
    await nemesis.all_ready()
    listening = [asyncio.create_task(subscriber.run()) for subscriber in subscribers]
    publishing = asyncio.create_task(publishers.run(channels, options.rate))
    end = time.monotonic() + options.seconds
    try:
        for name in plan:
            await asyncio.sleep(options.calm)
            if time.monotonic() > end:
                break
            say(f"{time.strftime('%H:%M:%S')} {name}; {delivered(accounts):,} delivered")
            await nemesis.strike(name)
            struck.append(name)
        # There is no event for the number of deliveries, so it is polled.
        while delivered(accounts) < options.deliveries and time.monotonic() < end and not publishing.done():  # noqa: ASYNC110
            await asyncio.sleep(1)
        await asyncio.sleep(options.calm)
        if publishing.done():
            publishing.result()
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)
        # A subscriber that is disconnected now might be notified that the last publication is missing.
        await wait_until(lambda: not any(map(is_away, accounts.logs)))
        async with asyncio.timeout(TIMEOUT):
            await publishers.mark(channels)
        await wait_until(lambda: not any(lacks(log, accounts.markers[log.channel]) for log in accounts.logs))
        problems += [f"{task.exception()!r}" for task in listening if task.done()]
    finally:
        for task in (*listening, publishing):
            task.cancel()
        await asyncio.gather(*listening, publishing, return_exceptions=True)
        for server in stage.servers:
            await server.cable.take_up()
    if len(struck) < len(plan) or delivered(accounts) < options.deliveries:
        problems.append(f"after {options.seconds:g} s only {len(struck)} faults and {delivered(accounts):,} deliveries")
    return accounts, struck, problems


def delivered(accounts: Accounts) -> int:
    """Return the approximate number of deliveries: a few of the counted events are not publications."""
    return sum(len(log.events) for log in accounts.logs)


def run(options: argparse.Namespace, directory: Path) -> Outcome:
    """Run everything, and check it."""
    rng = random.Random(options.seed)
    started = time.monotonic()
    with running(directory, options.servers, persistent=True) as stage:
        accounts, struck, problems = asyncio.run(drill(options, stage, rng))
        seconds = time.monotonic() - started
        problems += [line for server in stage.servers for line in server.complaints()]
    say("checking")
    shape = {name: getattr(options, name) for name in ("servers", "channels", "subscribers", "seed")}
    return Outcome(check(accounts), struck, seconds, shape, problems)


def main(arguments: Sequence[str]) -> int:
    """Run and return the exit code."""
    # SystemExit runs every `finally`, which ends the processes.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = parse(arguments)
    if options.seed is None:
        options.seed = random.randrange(10**6)
    say(f"seed {options.seed}")
    with contextlib.ExitStack() as stack:
        if options.out is None:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        else:
            options.out.mkdir(parents=True, exist_ok=True)
            directory = Path(tempfile.mkdtemp(prefix="run-", dir=options.out))
        try:
            outcome = run(options, directory)
        except NotReadyError as error:
            print(f"the servers did not become ready:\n{error}", file=sys.stderr)
            return 1
    text = markdown(outcome)
    say(f"\n{text}")
    if options.out is not None:
        (options.out / "report.md").write_text(text)
        document = {"counts": outcome.verdict.counts, "passed": outcome.passed, "seed": options.seed}
        (options.out / "report.json").write_text(json.dumps(document, indent=1) + "\n")
    return 0 if outcome.passed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
