"""Tests for summary.py: the summary of a run for people and programs."""

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
    """Whether a run passes."""

    def test_a_perfect_run_passes(self):
        assert PERFECT.passed()

    def test_a_run_with_an_offending_case_does_not_pass(self):
        assert not UNCLEAN.passed()

    def test_a_run_in_which_the_server_ended_does_not_pass(self):
        """The run does not pass even if every case was OK."""
        assert not replace(PERFECT, problems=["the server ended during the run"]).passed()

    def test_a_run_without_results_is_summarized_as_failed(self):
        nothing = replace(PERFECT, results=[], descriptions={}, versions={})
        assert "FAILED: 0 of 247 cases ran, 247 offending" in markdown(nothing)


class MarkdownTests:
    """The summary in Markdown."""

    def test_the_first_line_is_the_verdict(self):
        first = markdown(PERFECT).splitlines()[0]
        assert first == "# Autobahn testsuite: PASSED: 247 of 247 cases ran, 0 offending"

    def test_the_table_has_a_row_per_group_and_a_total(self):
        rows = [line for line in markdown(PERFECT).splitlines() if line.startswith("|")]
        assert len(rows) == 2 + 8 + 1
        assert [cell for cell in rows[-1].split() if cell != "|"][:4] == ["all", "247", "247", "247"]
        assert len({len(row) for row in rows}) == 1

    def test_an_offending_case_is_named_with_its_behavior_and_description(self):
        assert "- 10.1.1: behavior OK, behaviorClose UNCLEAN (Description of 10.1.1)" in markdown(UNCLEAN)

    def test_a_case_that_did_not_run_is_named_with_its_description(self):
        assert "- 10.1.1: did not run (Description of 10.1.1)" in markdown(MISSING)

    def test_a_problem_outside_of_the_cases_is_listed(self):
        assert "- the time limit is over" in markdown(replace(PERFECT, problems=["the time limit is over"]))

    def test_the_options_and_versions_of_the_run_are_named(self):
        text = markdown(PERFECT)
        assert "--max-connections 10" in text
        assert "autobahntestsuite 0.8.2, wsserver 1.0" in text


class DocumentTests:
    """The summary as a JSON document."""

    def test_the_document_can_be_written_as_json(self):
        assert json.loads(json.dumps(document(UNCLEAN))) == document(UNCLEAN)

    def test_each_case_has_behavior_close_and_duration_in_milliseconds(self):
        entry = {"behavior": "OK", "behaviorClose": "UNCLEAN", "duration": 1}
        assert document(UNCLEAN)["cases"]["10.1.1"] == entry

    def test_each_group_has_its_counts(self):
        group = document(MISSING)["groups"]["10"]
        assert group == {"expected": 1, "ran": 0, "behavior": {}, "behaviorClose": {}, "duration": 0}

    def test_each_offence_has_case_reason_and_description(self):
        offence = {"case": "10.1.1", "reason": "did not run", "description": "Description of 10.1.1"}
        assert document(MISSING)["offences"] == [offence]
