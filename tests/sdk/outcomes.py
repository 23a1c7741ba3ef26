"""
The outcomes of the SDKs' tests, and the table that shows them.

This module must not use files, processes or a clock. Everything that it needs is an argument.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Case", "Outcome", "complaints", "markdown"]


@dataclass(frozen=True)
class Case:
    """One test; or one subtest, if a test runs several times, such as once with each protocol."""

    name: str
    error: str | None = None
    """Why the test failed, in one line; None if it has passed."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of one suite against one server."""

    suite: str
    """What was run."""
    sdk: str
    """The package under test, and its version."""
    server: str
    """The server's name and version."""
    cases: Sequence[Case]
    seconds: float

    @property
    def failed(self) -> list[Case]:
        """The cases that failed."""
        return [case for case in self.cases if case.error is not None]


def complaints(outcome: Outcome) -> list[str]:
    """Return what is wrong with an outcome, one line each."""
    what = f"{outcome.sdk}, {outcome.suite}, {outcome.server}"
    if not outcome.cases:
        return [f"{what}: no test ran"]
    return [f"{what}: {case.name}: {case.error}" for case in outcome.failed]


def markdown(outcomes: Iterable[Outcome]) -> str:
    """Return a table with one line for each outcome."""
    lines = ["| SDK | what was run | server | tests | passed | failed | took |", "|---|---|---|--:|--:|--:|--:|"]
    for one in outcomes:
        failed = len(one.failed)
        numbers = f"{len(one.cases)} | {len(one.cases) - failed} | {failed} | {one.seconds:.0f} s"
        lines.append(f"| {one.sdk} | {one.suite} | {one.server} | {numbers} |")
    return "\n".join(lines) + "\n"
