"""What a server process holds: memory, descriptors, timers and objects; and the bounds after a long run."""

import itertools
import json
import os
import socket
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = [
    "GROWTH",
    "MAX_SLOPE",
    "MIN_GROWTH",
    "Holdings",
    "Sample",
    "ask",
    "compare",
    "private",
    "pss",
    "slope",
    "take",
    "take_quiet",
]

GROWTH, MIN_GROWTH = 0.05, 10 * 1024
"""Maximum growth of the memory: as a part of the memory before, or in KiB; the larger one holds (F8)."""

MAX_SLOPE = 1024.0
"""Maximum growth of the memory in use during the mixed load, in KiB per hour."""

QUIET = 45.0
"""Maximum seconds until everything that a load has left behind is released; the longest deadline is 30 s."""

CACHED = {"ClientInfo": 1024, "DelayedCall": 64, "ChannelNames": 256, "Traffic": 16}
"""
Class -> number of its objects that caches may keep: the headers of publications (`wsserver.hub.publication`), the
cancelled calls in Twisted's heap, the names of channels in Redis (`wsserver.redis.encoding`), and the counters of each
transport, which exist from its first connection on.
"""


@dataclass(frozen=True)
class Sample:
    """The memory of the server at a time."""

    at: float
    """Seconds since the start of the run."""
    kib: int
    """Private memory in KiB, see `private`; or memory in use."""
    files: int
    """Number of open descriptors."""


@dataclass(frozen=True)
class Holdings:
    """Everything that a server without clients holds."""

    kib: int
    files: int
    timers: int
    objects: dict[str, int]
    """Name of a class -> number of its objects."""


def pss(pid: int) -> int:
    """Return the proportional set size of a process in KiB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def private(pid: int) -> int:
    """
    Return the memory of a process that it shares with no other, in KiB.

    Unlike the proportional set size, it does not change when other programs start or end.
    """
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Clean:", "Private_Dirty:")))


def files(pid: int) -> int:
    """Return the number of open descriptors of a process."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def ask(report: Path) -> dict[str, Any]:
    """Return what a server reports; `report` is the socket of `served.py`."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(report))
        counts: dict[str, Any] = json.loads(connection.makefile().read())
    return counts


def take(pid: int, report: Path) -> Holdings:
    """Return what a server holds now; `report` is the socket of `served.py`."""
    counts = ask(report)
    # The server may not have closed the connection for the report yet.
    time.sleep(0.1)
    return Holdings(private(pid), files(pid), counts["timers"], counts["objects"])


def take_quiet(pid: int, report: Path, base: Holdings | None = None) -> Holdings:
    """Return what a server without clients holds when it has released everything, at the latest after `QUIET`."""
    end, held = time.monotonic() + QUIET, take(pid, report)
    while time.monotonic() < end:
        time.sleep(1)
        before, held = held, take(pid, report)
        if base is None and _counts(before) == _counts(held):
            break
        if base is not None and not compare(base, held):
            break
    return held


def _counts(holdings: Holdings) -> tuple[int, int, dict[str, int]]:
    return holdings.files, holdings.timers, holdings.objects


def compare(base: Holdings, now: Holdings) -> list[str]:
    """Return what has not returned to the base, within the bounds."""
    found = []
    allowed = max(base.kib * GROWTH, MIN_GROWTH)
    if now.kib - base.kib > allowed:
        found.append(f"memory: {base.kib:,} -> {now.kib:,} KiB, more than {allowed:,.0f} KiB above the base")
    for name, before, after in (("descriptors", base.files, now.files), ("timers", base.timers, now.timers)):
        if after > before:
            found.append(f"{name}: {before} -> {after}")
    for name in sorted(now.objects):
        before, after = base.objects.get(name, 0), now.objects[name]
        if after > max(before, CACHED.get(name, 0)):
            found.append(f"objects of {name}: {before} -> {after}")
    return found


def slope(samples: Sequence[Sample]) -> float:
    """
    Return the growth of the memory in KiB per hour: the median of the slopes between all pairs of samples (Theil-Sen).

    In the line that fits the samples best, a moment at which many publications are queued would count more than a leak.
    """
    pairs = itertools.combinations(samples, 2)
    slopes = [(later.kib - one.kib) / (later.at - one.at) for one, later in pairs if later.at > one.at]
    return statistics.median(slopes) * 3600 if slopes else 0.0
