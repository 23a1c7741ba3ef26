"""
The summary of a run, for people (Markdown) and for programs (JSON).

This module must not use files, processes or a clock. Everything that it needs is an argument.

"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from judge import GroupTally, Offence, Result, judge, tally
from plan import GROUPS, case_key

COLUMNS = ("OK", "INFORMATIONAL", "NON-STRICT", "FAILED")
"""The behaviors with their own column in the table; the others share one."""

HEADINGS = ("group", "", "expected", "ran", *COLUMNS, "other", "close not OK", "seconds")


@dataclass(frozen=True)
class Summary:
    """Everything known about a run."""

    url: str
    options: Sequence[str]
    quick: bool
    versions: Mapping[str, Mapping[str, str]]
    seconds: float
    expected: Sequence[str]
    results: Sequence[Result]
    descriptions: Mapping[str, str]
    problems: Sequence[str]
    """Problems outside of the cases: a process that ended, the time limit."""

    def offences(self) -> list[Offence]:
        """List the offences, each of which prevents the run from passing."""
        return judge(self.results, self.expected)

    def passed(self) -> bool:
        """Return whether the run passes."""
        return not self.offences() and not self.problems

    def verdict(self) -> str:
        """Return the outcome of the run in one line."""
        word = "PASSED" if self.passed() else "FAILED"
        wrong = len({offence.case for offence in self.offences()})
        return f"{word}: {len(self.results)} of {len(self.expected)} cases ran, {wrong} offending"

    def complaints(self) -> list[str]:
        """List everything that prevents the run from passing, one line each."""
        return [*self.problems, *(self.complaint(offence) for offence in self.offences())]

    def complaint(self, offence: Offence) -> str:
        """Describe an offence in one line."""
        described = self.descriptions.get(offence.case, "no description, since wstest wrote no report")
        return f"{offence.case}: {offence.reason} ({described})"


def row(name: str, title: str, count: GroupTally) -> list[str]:
    """Make the row of a group."""
    other = sum(number for behavior, number in count.behavior.items() if behavior not in COLUMNS)
    numbers = [count.expected, count.ran, *(count.behavior[column] for column in COLUMNS), other, count.unclean_close]
    return [name, title, *map(str, numbers), f"{count.duration / 1000:.1f}"]


def total(tallies: Sequence[GroupTally]) -> GroupTally:
    """Add up the groups."""
    return GroupTally(
        expected=sum(count.expected for count in tallies),
        ran=sum(count.ran for count in tallies),
        behavior=sum((count.behavior for count in tallies), type(tallies[0].behavior)()),
        behavior_close=sum((count.behavior_close for count in tallies), type(tallies[0].behavior)()),
        unclean_close=sum(count.unclean_close for count in tallies),
        duration=sum(count.duration for count in tallies),
    )


def table(tallies: Mapping[str, GroupTally]) -> str:
    """Return a Markdown table that is readable as plain text too."""
    rows = [list(HEADINGS)]
    rows += [row(group, GROUPS.get(group, ""), count) for group, count in tallies.items()]
    rows.append(row("all", "", total(list(tallies.values()))))
    widths = [max(len(cells[column]) for cells in rows) for column in range(len(HEADINGS))]
    lines = ["| " + " | ".join(align(cells, widths)) + " |" for cells in rows]
    rule = (
        "|"
        + "|".join("-" * (width + 2) if column < 2 else "-" * (width + 1) + ":" for column, width in enumerate(widths))
        + "|"
    )
    return "\n".join([lines[0], rule, *lines[1:]])


def align(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    """Pad the cells of a row: words to the left, numbers to the right."""
    padded = [cell.ljust(width) for cell, width in zip(cells[:2], widths[:2], strict=True)]
    return padded + [cell.rjust(width) for cell, width in zip(cells[2:], widths[2:], strict=True)]


def markdown(summary: Summary) -> str:
    """Return the summary for people."""
    parts = [f"# Autobahn testsuite: {summary.verdict()}", table(tally(summary.results, summary.expected))]
    if summary.complaints():
        parts.append("\n".join(f"- {complaint}" for complaint in summary.complaints()))
    made_of = [f"{name} {version}" for names in summary.versions.values() for name, version in names.items()]
    options = " ".join(summary.options) or "none"
    parts.append(f"{'Quick' if summary.quick else 'Full'} run against {summary.url}, further options: {options}.")
    parts.append(f"It took {summary.seconds:.0f} s. Versions: {', '.join(made_of) or 'unknown'}.")
    return "\n\n".join(parts) + "\n"


def document(summary: Summary) -> dict[str, Any]:
    """Return the summary for programs."""
    return {
        "passed": summary.passed(),
        "url": summary.url,
        "options": list(summary.options),
        "quick": summary.quick,
        "versions": summary.versions,
        "seconds": round(summary.seconds, 1),
        "expected": len(summary.expected),
        "ran": len(summary.results),
        "problems": list(summary.problems),
        "offences": [
            {
                "case": offence.case,
                "reason": offence.reason,
                "description": summary.descriptions.get(offence.case, ""),
            }
            for offence in summary.offences()
        ],
        "groups": {group: group_entry(count) for group, count in tally(summary.results, summary.expected).items()},
        "cases": {
            result.case: case_entry(result) for result in sorted(summary.results, key=lambda one: case_key(one.case))
        },
    }


def group_entry(count: GroupTally) -> dict[str, Any]:
    """Return the entry of a group."""
    return {
        "expected": count.expected,
        "ran": count.ran,
        "behavior": dict(count.behavior),
        "behaviorClose": dict(count.behavior_close),
        "duration": count.duration,
    }


def case_entry(result: Result) -> dict[str, Any]:
    """Return the entry of a case; its duration is in milliseconds."""
    return {"behavior": result.behavior, "behaviorClose": result.behavior_close, "duration": result.duration}
