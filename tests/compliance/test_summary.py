"""Tests for summary.py: what a run tells people and programs."""

import json
from dataclasses import replace

from judge import Result
from plan import expected_cases
from summary import Summary, document, markdown

QUICK = expected_cases(quick=True)

PERFECT = Summary(
    url="ws://127.0.0.1:9001/echo",
    options=["--max-connections", "10"],
    quick=True,
    versions={"testsuite": {"autobahntestsuite": "0.8.2"}, "server": {"wsserver": "1.0"}},
    seconds=8.04,
    expected=QUICK,
    results=[Result(case, "OK", "OK", 1) for case in QUICK],
    descriptions={case: f"Description of {case}" for case in QUICK},
    problems=[],
)
UNCLEAN = replace(PERFECT, results=[*PERFECT.results[:-1], Result("10.1.1", "OK", "UNCLEAN", 1)])
MISSING = replace(PERFECT, results=PERFECT.results[:-1])


class SummaryTests:
    """A run passes or it doesn't."""

    def test_passed(self):
        """A perfect run passes."""
        assert PERFECT.passed()

    def test_offence(self):
        """A run with an offending case doesn't pass."""
        assert not UNCLEAN.passed()

    def test_problem(self):
        """A run in which the server died doesn't pass, even if every case was OK."""
        assert not replace(PERFECT, problems=["the server ended during the run"]).passed()

    def test_no_results(self):
        """A run that came to nothing still has a summary, and doesn't pass."""
        nothing = replace(PERFECT, results=[], descriptions={}, versions={})
        assert "FAILED: 0 of 247 cases ran, 247 offending" in markdown(nothing)


class MarkdownTests:
    """What a person reads."""

    def test_verdict(self):
        """The first line says how the run went."""
        first = markdown(PERFECT).splitlines()[0]
        assert first == "# Autobahn testsuite: PASSED: 247 of 247 cases ran, 0 offending"

    def test_table(self):
        """The table has a row for each group and one for all of them."""
        rows = [line for line in markdown(PERFECT).splitlines() if line.startswith("|")]
        assert len(rows) == 2 + 8 + 1
        assert [cell for cell in rows[-1].split() if cell != "|"][:4] == ["all", "247", "247", "247"]
        assert len({len(row) for row in rows}) == 1

    def test_offence(self):
        """An offending case is named with what it does and what was wrong."""
        assert "- 10.1.1: behavior OK, behaviorClose UNCLEAN (Description of 10.1.1)" in markdown(UNCLEAN)

    def test_missing(self):
        """A case that didn't run is named with what it would have done."""
        assert "- 10.1.1: did not run (Description of 10.1.1)" in markdown(MISSING)

    def test_problem(self):
        """What went wrong outside of the cases is in the list too."""
        assert "- the time limit is over" in markdown(replace(PERFECT, problems=["the time limit is over"]))

    def test_conditions(self):
        """The options and versions of a run are written down."""
        text = markdown(PERFECT)
        assert "--max-connections 10" in text
        assert "autobahntestsuite 0.8.2, wsserver 1.0" in text


class DocumentTests:
    """What a program reads."""

    def test_json(self):
        """The document can be written as JSON."""
        assert json.loads(json.dumps(document(UNCLEAN))) == document(UNCLEAN)

    def test_cases(self):
        """Each case has its behavior, its close and its duration in milliseconds."""
        entry = {"behavior": "OK", "behaviorClose": "UNCLEAN", "duration": 1}
        assert document(UNCLEAN)["cases"]["10.1.1"] == entry

    def test_groups(self):
        """Each group has its counts."""
        group = document(MISSING)["groups"]["10"]
        assert group == {"expected": 1, "ran": 0, "behavior": {}, "behaviorClose": {}, "duration": 0}

    def test_offences(self):
        """Each offence has a case, a reason and a description."""
        offence = {"case": "10.1.1", "reason": "did not run", "description": "Description of 10.1.1"}
        assert document(MISSING)["offences"] == [offence]
