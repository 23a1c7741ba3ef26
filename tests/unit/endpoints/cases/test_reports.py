"""The results of the last clients, and JUnit XML."""

from collections import defaultdict
from xml.etree import ElementTree as ET

import pytest
from junitparser import Error, Failure, JUnitXml, Skipped
from twisted.internet.task import Clock

from wsserver.endpoints.cases.catalog import CASES, TOPICS, select_cases
from wsserver.endpoints.cases.frames import Frame
from wsserver.endpoints.cases.junit import write_junit
from wsserver.endpoints.cases.reports import MAX_AGE, MAX_AGENTS, Reports, clean_agent
from wsserver.endpoints.cases.results import Result, SeenFrames, Verdict

PINGS = select_cases(["pings"])


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def limits():
    return defaultdict(int)


@pytest.fixture
def reports(clock, limits):
    return Reports(clock.seconds, limits)


def result(name="pings.empty", verdict=Verdict.PASS, reason="as expected", **more):
    return Result(name, verdict, reason, **more)


class ReportsTests:
    """`Reports` is bounded."""

    def test_keeps_the_last_result_of_a_case(self, reports):
        reports.add("a", result())
        reports.add("a", result(verdict=Verdict.FAIL))
        assert reports.find("a").count() == {Verdict.PASS: 0, Verdict.INFORMATIONAL: 0, Verdict.FAIL: 1}
        assert reports.find("b") is None

    def test_drops_the_client_that_was_tested_longest_ago(self, reports, limits):
        for number in range(MAX_AGENTS):
            reports.add(str(number), result())
        reports.add("0", result("pings.text"))
        reports.add("new", result())
        assert list(reports.agents) == [*map(str, range(2, MAX_AGENTS)), "0", "new"]
        assert limits == {"case_reports": 1}

    def test_drops_results_after_a_day(self, reports, clock):
        reports.add("a", result())
        clock.advance(MAX_AGE + 1)
        reports.add("b", result())
        assert list(reports.agents) == ["b"]

    def test_the_name_of_a_client_is_printable_and_short(self):
        assert clean_agent(" my\tclient\0 ") == "my?client?"
        assert clean_agent("x" * 1000) == "x" * 100
        assert clean_agent("") == "unnamed"


def test_a_result_keeps_the_first_and_the_last_frames():
    seen = SeenFrames()
    for number in range(1000):
        seen.add(Frame(1, b"%d" % number + b"." * 1000), by_client=True, seconds=0.5)
    assert seen.count == 1000
    kept = seen.kept()
    assert len(kept) == 24
    assert kept[0].show() == f"   0.500 s  client: text, 1001 bytes {b'0' + b'.' * 31!r}..."
    assert [frame.start[:3] for frame in kept[-2:]] == [b"998", b"999"]
    assert len(kept[0].start) == 32


class JUnitTests:
    """`write_junit`."""

    def test_counts_failures_skipped_cases_and_missing_ones(self, reports):
        reports.add("my client", result("pings.empty"))
        reports.add("my client", result("pings.text", Verdict.FAIL, "no <pong>\0"))
        reports.add("my client", result("pings.binary", Verdict.INFORMATIONAL, "not offered", is_tested=False))
        reports.add("my client", result("pings.ten", Verdict.INFORMATIONAL, "another code"))
        root = ET.fromstring(write_junit(reports.find("my client"), PINGS))
        (suite,) = root
        assert suite.get("name") == "pings"
        counts = {name: int(suite.get(name)) for name in ("tests", "failures", "errors", "skipped")}
        assert counts == {"tests": len(PINGS), "failures": 1, "errors": len(PINGS) - 4, "skipped": 1}
        by_name = {test.get("name"): test for test in suite}
        assert by_name["pings.text"].find("failure").get("message") == "no <pong>?"
        assert by_name["pings.ten"].find("system-out").text == "informational: another code"
        assert by_name["pings.text"].get("classname") == "my client"

    def test_a_parser_of_ci_systems_reads_the_same(self, reports):
        """junitparser is what tools that merge, show and upload reports use."""
        reports.add("my client", result("pings.empty"))
        reports.add("my client", result("pings.text", Verdict.FAIL, "no <pong>\0"))
        reports.add("my client", result("pings.binary", Verdict.INFORMATIONAL, "not offered", is_tested=False))
        read = JUnitXml.fromstring(write_junit(reports.find("my client"), CASES))
        written = (read.tests, read.failures, read.errors, read.skipped)
        assert written == (len(CASES), 1, len(CASES) - 3, 1)
        # Counted from the test cases, instead of what the report says.
        read.update_statistics()
        assert (read.tests, read.failures, read.errors, read.skipped) == written
        assert [suite.name for suite in read] == list(TOPICS)
        found = {case.name: case for suite in read for case in suite}
        assert [type(one) for one in found["pings.text"].result] == [Failure]
        assert found["pings.text"].result[0].message == "no <pong>?"
        assert [type(one) for one in found["pings.binary"].result] == [Skipped]
        assert [type(one) for one in found["pings.ten"].result] == [Error]
        assert found["pings.empty"].is_passed
