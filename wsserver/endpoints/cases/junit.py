"""A report of conformance cases as JUnit XML, which CI systems read."""

from collections import Counter
from collections.abc import Mapping, Sequence
from xml.etree import ElementTree as ET

from wsserver.endpoints.cases.reports import Report
from wsserver.endpoints.cases.results import Result, Verdict
from wsserver.endpoints.cases.script import Case

__all__ = ["write_junit"]


def write_junit(report: Report, cases: Sequence[Case]) -> bytes:
    """
    Return a report as JUnit XML: a test suite for each topic, a test case for each conformance case.

    A case that does not apply to the client is skipped, and a case without a result is an error. An informational
    verdict is a passed test with a note.

    Args:
        report: the results of a client.
        cases: all cases that the client should have run.
    """
    suites = ET.Element("testsuites", name="wsserver conformance")
    totals = Counter[str]()
    total_seconds = 0.0
    for topic in dict.fromkeys(case.topic for case in cases):
        suite = ET.SubElement(suites, "testsuite", name=topic)
        counts = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
        seconds = 0.0
        for case in cases:
            if case.topic == topic:
                result = report.results.get(case.id)
                seconds += result.seconds if result is not None else 0
                counts["tests"] += 1
                _add(suite, report.agent, case, result, counts)
        _set_counts(suite, counts, seconds)
        totals.update(counts)
        total_seconds += seconds
    _set_counts(suites, totals, total_seconds)
    ET.indent(suites)
    text = ET.tostring(suites, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'.encode()


def _set_counts(element: ET.Element, counts: Mapping[str, int], seconds: float) -> None:
    element.attrib.update({name: str(count) for name, count in counts.items()}, time=f"{seconds:.3f}")


def _add(suite: ET.Element, agent: str, case: Case, result: Result | None, counts: dict[str, int]) -> None:
    seconds = result.seconds if result is not None else 0
    test = ET.SubElement(suite, "testcase", name=case.id, classname=_clean(agent), time=f"{seconds:.3f}")
    if result is None:
        counts["errors"] += 1
        ET.SubElement(test, "error", message="the client did not run this case")
        return
    details = "\n".join([f"{case.title} ({case.reference}): the client must {case.demand}"])
    frames = "\n".join(frame.show() for frame in result.frames)
    if result.verdict is Verdict.FAIL:
        counts["failures"] += 1
        ET.SubElement(test, "failure", message=_clean(result.reason)).text = _clean(f"{details}\n{frames}")
    elif not result.is_tested:
        counts["skipped"] += 1
        ET.SubElement(test, "skipped", message=_clean(result.reason))
    else:
        ET.SubElement(test, "system-out").text = _clean(f"{result.verdict}: {result.reason}")


def _clean(text: str) -> str:
    """Return a text without the characters that XML 1.0 does not permit."""
    return "".join(letter if letter in "\n\t" or letter.isprintable() else "?" for letter in text)
