"""
The cases of the Autobahn testsuite 0.8.2, and the portions in which they run.

This module must not use files, processes or a clock. Everything that it needs is an argument.

The list of cases is written in this module, not read from wstest, so that the run fails if wstest omits a case.

"""

from collections.abc import Iterable
from dataclasses import dataclass

GROUPS = {
    "1": "Framing",
    "2": "Pings and pongs",
    "3": "Reserved bits",
    "4": "Opcodes",
    "5": "Fragmentation",
    "6": "UTF-8 handling",
    "7": "Close handling",
    "9": "Limits and performance",
    "10": "Automatic fragmentation",
    "12": "Compression (payloads)",
    "13": "Compression (parameters)",
}

CASES_IN = (
    {"1.1": 8, "1.2": 8, "2": 11, "3": 7, "4.1": 5, "4.2": 5, "5": 20}
    | {"6.1": 3, "6.2": 4, "6.3": 2, "6.4": 4, "6.5": 5, "6.6": 11, "6.7": 4, "6.8": 2, "6.9": 4, "6.10": 3}
    | {"6.11": 5, "6.12": 8, "6.13": 5, "6.14": 10, "6.15": 1, "6.16": 3, "6.17": 5, "6.18": 5, "6.19": 5}
    | {"6.20": 7, "6.21": 8, "6.22": 34, "6.23": 7}
    | {"7.1": 6, "7.3": 6, "7.5": 1, "7.7": 13, "7.9": 9, "7.13": 2}
    | {"9.1": 6, "9.2": 6, "9.3": 9, "9.4": 9, "9.5": 6, "9.6": 6, "9.7": 6, "9.8": 6}
    | {"10.1": 1}
    | {"12.1": 18, "12.2": 18, "12.3": 18, "12.4": 18, "12.5": 18}
    | {"13.1": 18, "13.2": 18, "13.3": 18, "13.4": 18, "13.5": 18, "13.6": 18, "13.7": 18}
)
"""Number of cases in each subgroup. They are numbered from 1 without a gap; 8 and 11 do not exist."""

HEAVY = frozenset({"9", "12", "13"})
"""Groups that load the processor for minutes; a quick run leaves them out."""

LIGHT_PORTIONS = {"6": "6", "7": "7-10", "10": "7-10"}
"""
Group -> its portion; all other light groups are in the portion 1-5. Group 6 mostly waits for timers, so it runs in
parallel with the other light groups.
"""


@dataclass(frozen=True)
class Portion:
    """The cases that one wstest process runs."""

    name: str
    """Also the name of the folder that holds its report."""
    cases: tuple[str, ...]


def group_of(case: str) -> str:
    """Return the group of a case: 12 for 12.1.7."""
    return case.partition(".")[0]


def case_key(case: str) -> tuple[int, ...]:
    """Return a sort key that orders cases by number: 2.10 comes after 2.9."""
    return tuple(int(part) for part in case.split("."))


def expected_cases(quick: bool) -> tuple[str, ...]:
    """List the cases that a run must show: 517, or 247 if it is quick."""
    chosen = {sub: count for sub, count in CASES_IN.items() if not (quick and group_of(sub) in HEAVY)}
    return tuple(f"{sub}.{number}" for sub, count in chosen.items() for number in range(1, count + 1))


def portion_name(case: str) -> str:
    """Return the name of the portion that contains a case."""
    group = group_of(case)
    if group in HEAVY:
        return case.rpartition(".")[0]
    return LIGHT_PORTIONS.get(group, "1-5")


def portions(cases: Iterable[str]) -> list[Portion]:
    """Split cases into portions, the largest group of each kind first."""
    collected: dict[str, list[str]] = {}
    for case in cases:
        collected.setdefault(portion_name(case), []).append(case)
    named = [Portion(name, tuple(members)) for name, members in collected.items()]
    return sorted(named, key=lambda portion: -len(portion.cases))


def waves(cases: Iterable[str]) -> list[list[Portion]]:
    """
    Split cases into waves; a wave starts when the previous one has ended.

    The light groups measure time: 6.4 expects a close within a second, and 5.19 and 7.* wait for a second. If they ran
    in parallel with messages of 16 MiB, they would measure the scheduler. The heavy groups have timeouts from
    10 seconds to 8 minutes, so they can run in parallel with each other.
    """
    cases = list(cases)
    light = [case for case in cases if group_of(case) not in HEAVY]
    heavy = [case for case in cases if group_of(case) in HEAVY]
    return [wave for wave in (portions(light), portions(heavy)) if wave]
