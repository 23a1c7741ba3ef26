"""
Judge a run of the Autobahn testsuite: does it pass?

This module must not use files, processes or a clock. Everything that it needs is an argument.
A case that did not run must count as a failure.

"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from plan import case_key, group_of

INFORMATIONAL_CASES = frozenset({"7.1.6", "7.13.1", "7.13.2"})
"""
Cases whose outcome RFC 6455 leaves open.

7.1.6 sends a large message and a close back to back; 7.13.* send close codes
above 4999. The testsuite marks them INFORMATIONAL whatever the server does.
"""


@dataclass(frozen=True)
class Result:
    """The result of one case, as wstest reports it."""

    case: str
    behavior: str
    behavior_close: str
    duration: int
    """In milliseconds."""


@dataclass(frozen=True)
class Offence:
    """A reason why a run does not pass."""

    case: str
    reason: str


def is_accepted(case: str, behavior: str) -> bool:
    """Return whether a case may show a behavior. NON-STRICT is not accepted, although it conforms to the RFC."""
    return behavior == "OK" or (behavior == "INFORMATIONAL" and case in INFORMATIONAL_CASES)


def is_clean(result: Result) -> bool:
    """Return whether both the server's answer and its close are accepted."""
    return is_accepted(result.case, result.behavior) and is_accepted(result.case, result.behavior_close)


def judge(results: Iterable[Result], expected: Sequence[str]) -> list[Offence]:
    """
    Compare a run with the expected cases.

    Returns:
        The offences; empty if exactly the expected cases ran, each once, and each was clean.
    """
    results = list(results)
    times = Counter(result.case for result in results)
    offences = [Offence(case, "did not run") for case in expected if case not in times]
    offences += [Offence(case, f"ran {count} times") for case, count in times.items() if count > 1]
    offences += [Offence(case, "is not a case of this run") for case in times.keys() - set(expected)]
    offences += [
        Offence(result.case, f"behavior {result.behavior}, behaviorClose {result.behavior_close}")
        for result in results
        if not is_clean(result)
    ]
    return sorted(offences, key=lambda offence: (case_key(offence.case), offence.reason))


@dataclass(frozen=True)
class GroupTally:
    """The counts of one group of cases."""

    expected: int
    ran: int
    behavior: Counter[str]
    behavior_close: Counter[str]
    unclean_close: int
    """The number of cases whose close alone would be an offence."""
    duration: int


def tally_group(results: Sequence[Result], expected: int) -> GroupTally:
    """Count the results of one group."""
    return GroupTally(
        expected=expected,
        ran=len(results),
        behavior=Counter(result.behavior for result in results),
        behavior_close=Counter(result.behavior_close for result in results),
        unclean_close=sum(not is_accepted(result.case, result.behavior_close) for result in results),
        duration=sum(result.duration for result in results),
    )


def tally(results: Iterable[Result], expected: Sequence[str]) -> dict[str, GroupTally]:
    """Count results by group, in the order of the groups; includes groups that should have run and did not."""
    members: dict[str, list[Result]] = {group_of(case): [] for case in expected}
    for result in results:
        members.setdefault(group_of(result.case), []).append(result)
    due = Counter(group_of(case) for case in expected)
    return {group: tally_group(members[group], due[group]) for group in sorted(members, key=int)}
