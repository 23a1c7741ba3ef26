"""
Results of conformance cases by client, in memory: bounded in number, size and age.

This module does not use Twisted.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from wsserver.endpoints.cases.results import Result, Verdict
from wsserver.endpoints.cases.script import Case

__all__ = ["MAX_AGENTS", "MAX_AGENT_LENGTH", "Report", "Reports", "clean_agent"]

MAX_AGENTS = 20
"""Maximum number of clients whose results are kept; those of the client that was tested longest ago are dropped."""

MAX_AGE = 24 * 3600.0
"""Seconds after which the results of a client are dropped, counted from its last case."""

MAX_AGENT_LENGTH = 100
"""Maximum length of a client's name, in characters; the rest is cut off."""

UNNAMED = "unnamed"


def clean_agent(name: str) -> str:
    """Return the name of a client in the form that reports use: printable, and not too long."""
    printable = "".join(letter if letter.isprintable() else "?" for letter in name.strip())
    return printable[:MAX_AGENT_LENGTH] or UNNAMED


@dataclass(slots=True)
class Report:
    """The results of one client."""

    agent: str
    """The client's name."""
    updated: float
    """When the last result was added, in seconds."""
    results: dict[str, Result] = field(default_factory=dict)
    """Id of a case -> the last result."""

    def count(self) -> dict[Verdict, int]:
        """Return the number of results by verdict."""
        verdicts = [result.verdict for result in self.results.values()]
        return {verdict: verdicts.count(verdict) for verdict in Verdict}

    def describe(self, cases: Iterable[Case]) -> dict[str, Any]:
        """Return the report as JSON-serializable data, with every case."""
        shown = []
        for number, case in enumerate(cases, 1):
            result = self.results.get(case.id)
            about = {"number": number, **describe_case(case)}
            shown.append({**about, **result.describe()} if result else {**about, "case": case.id, "verdict": None})
        return {"agent": self.agent, "counts": {str(key): value for key, value in self.count().items()}, "cases": shown}


def describe_case(case: Case) -> dict[str, Any]:
    """Return a case as JSON-serializable data."""
    return {"case": case.id, "title": case.title, "section": case.reference, "must": case.demand}


class Reports:
    """
    The results of the last clients.

    Args:
        now: returns the time in seconds.
        limits: counts how often results were dropped, as `case_reports`.
    """

    def __init__(self, now: Callable[[], float], limits: dict[str, int]) -> None:
        self._now = now
        self._limits = limits
        self._reports: dict[str, Report] = {}

    def add(self, agent: str, result: Result) -> None:
        """Add a result, in place of an earlier one of the same client for the same case."""
        self._expire()
        report = self._reports.pop(agent, None) or Report(agent, 0.0)
        report.updated = self._now()
        report.results[result.case] = result
        self._reports[agent] = report
        if len(self._reports) > MAX_AGENTS:
            del self._reports[next(iter(self._reports))]
            self._limits["case_reports"] += 1

    def find(self, agent: str) -> Report | None:
        """Return the report of a client, or None if there is none."""
        self._expire()
        return self._reports.get(agent)

    @property
    def agents(self) -> Mapping[str, Report]:
        """Name of a client -> its report; the one that was tested last is the last one."""
        self._expire()
        return self._reports

    def _expire(self) -> None:
        oldest = self._now() - MAX_AGE
        for agent in [agent for agent, report in self._reports.items() if report.updated < oldest]:
            del self._reports[agent]
