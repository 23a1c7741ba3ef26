"""The summary of a run of the conformance cases: the cases that did not pass, and the numbers."""

from collections.abc import Iterator, Mapping, Sequence

from wsserver.endpoints.cases.reports import Report
from wsserver.endpoints.cases.results import Result, Verdict
from wsserver.endpoints.cases.script import Case

__all__ = ["describe_notes", "summarize"]


def summarize(report: Report, cases: Sequence[Case], notes: Mapping[str, str]) -> str:
    """
    Return the summary of a run as lines for people.

    Args:
        report: the results.
        cases: the cases that should have been run.
        notes: id of a case that was not run -> why.
    """
    lines = [line for case in cases for line in _describe(case, report.results.get(case.id), notes)]
    counts = report.count()
    skipped = sum(not result.is_tested for result in report.results.values())
    numbers = {
        "passed": counts[Verdict.PASS],
        "informational": counts[Verdict.INFORMATIONAL] - skipped,
        "failed": counts[Verdict.FAIL],
        "not tested": skipped,
        "not run": len(cases) - len(report.results),
    }
    shown = ", ".join(f"{number} {name}" for name, number in numbers.items() if number or name in {"passed", "failed"})
    return "\n".join([*lines, *([""] if lines else []), f"{len(cases)} case{'' if len(cases) == 1 else 's'}: {shown}"])


def describe_notes(notes: Mapping[str, str]) -> str:
    """Return the first of the notes, to be appended to an error message; empty if there is none."""
    note = next(iter(notes.values()), "")
    return f"; {' | '.join(note.splitlines())}" if note else ""


def _describe(case: Case, result: Result | None, notes: Mapping[str, str]) -> Iterator[str]:
    if result is None:
        yield f"NOT RUN  {case.id}"
        yield from _indent(notes.get(case.id) or notes.get("") or "the client did not connect")
    elif result.verdict is Verdict.FAIL:
        yield f"FAILED   {case.id}: {result.reason}"
        yield f"         {case.title} ({case.reference}): the client must {case.demand}"
        yield from _indent("\n".join(frame.show() for frame in result.frames))
    elif result.verdict is Verdict.INFORMATIONAL and result.is_tested:
        yield f"note     {case.id}: {result.reason}"


def _indent(text: str) -> list[str]:
    return [f"         {line}" for line in text.splitlines()]
