"""Tests for judge.py: which runs of the Autobahn testsuite pass."""

from dataclasses import replace

from judge import INFORMATIONAL_CASES, Offence, Result, judge, tally
from plan import expected_cases

ALL = expected_cases(quick=False)
QUICK = expected_cases(quick=True)


def perfect(cases):
    """Make the results of a run in which every case passes."""
    return [perfect_result(case) for case in cases]


def perfect_result(case):
    """Make the result of a case that passes."""
    behavior = "INFORMATIONAL" if case in INFORMATIONAL_CASES else "OK"
    return Result(case, behavior, behavior, 7)


def perfect_but(case, **changes):
    """Make a perfect full run in which one case differs."""
    return [replace(result, **changes) if result.case == case else result for result in perfect(ALL)]


class JudgeTests:
    """A run passes if exactly the expected cases ran, once each, and all passed."""

    def test_a_perfect_full_run_passes(self):
        """514 cases are OK and 3 are INFORMATIONAL."""
        assert judge(perfect(ALL), ALL) == []

    def test_a_perfect_quick_run_passes(self):
        """A quick run leaves out the groups 9, 12 and 13."""
        assert judge(perfect(QUICK), QUICK) == []

    def test_the_order_of_the_cases_does_not_matter(self):
        assert judge(reversed(perfect(ALL)), ALL) == []

    def test_a_run_with_all_517_cases_ok_passes(self):
        """The three cases that are usually INFORMATIONAL may be OK."""
        assert judge([Result(case, "OK", "OK", 7) for case in ALL], ALL) == []

    def test_a_case_that_did_not_run_is_an_offence(self):
        assert judge(perfect(case for case in ALL if case != "6.4.2"), ALL) == [Offence("6.4.2", "did not run")]

    def test_every_case_of_an_empty_run_is_an_offence(self):
        assert [offence.case for offence in judge([], QUICK)] == list(QUICK)

    def test_a_quick_run_judged_as_a_full_one_has_270_offences(self):
        assert len(judge(perfect(QUICK), ALL)) == 517 - 247

    def test_a_case_that_ran_twice_is_an_offence_even_if_ok(self):
        assert judge([*perfect(ALL), perfect_result("1.1.1")], ALL) == [Offence("1.1.1", "ran 2 times")]

    def test_a_failed_case_is_an_offence_even_if_ok_the_second_time(self):
        results = [*perfect_but("1.1.1", behavior="FAILED"), perfect_result("1.1.1")]
        assert Offence("1.1.1", "behavior FAILED, behaviorClose OK") in judge(results, ALL)

    def test_a_case_that_is_not_part_of_the_run_is_an_offence(self):
        assert judge(perfect([*QUICK, "9.1.1"]), QUICK) == [Offence("9.1.1", "is not a case of this run")]

    def test_a_wrong_case_instead_of_an_expected_one_is_two_offences(self):
        """The missing case is one offence, and the unexpected case the other."""
        results = perfect([case for case in ALL if case != "2.10"] + ["2.12"])
        assert judge(results, ALL) == [Offence("2.10", "did not run"), Offence("2.12", "is not a case of this run")]

    def test_offences_are_listed_in_the_order_of_the_cases(self):
        results = [replace(result, behavior="FAILED") for result in perfect(ALL) if result.case != "2.9"]
        offences = judge(results, ALL)
        assert [offence.case for offence in offences] == list(ALL)


class BehaviorTests:
    """Only the behavior OK passes."""

    def reasons(self, case, **changes):
        return [offence.reason for offence in judge(perfect_but(case, **changes), ALL)]

    def test_a_failed_case_does_not_pass(self):
        assert self.reasons("1.1.1", behavior="FAILED") == ["behavior FAILED, behaviorClose OK"]

    def test_a_non_strict_case_does_not_pass(self):
        """The RFC allows the behavior NON-STRICT, but this project does not accept it."""
        assert self.reasons("6.4.1", behavior="NON-STRICT") == ["behavior NON-STRICT, behaviorClose OK"]

    def test_an_unimplemented_case_does_not_pass(self):
        """The testsuite reports UNIMPLEMENTED if the server refuses an extension."""
        assert self.reasons("12.1.1", behavior="UNIMPLEMENTED") == ["behavior UNIMPLEMENTED, behaviorClose OK"]

    def test_an_informational_case_other_than_the_three_does_not_pass(self):
        assert self.reasons("7.1.5", behavior="INFORMATIONAL") == ["behavior INFORMATIONAL, behaviorClose OK"]

    def test_a_case_with_an_unknown_behavior_does_not_pass(self):
        assert self.reasons("1.1.1", behavior="ok") == ["behavior ok, behaviorClose OK"]

    def test_an_ok_case_with_another_close_behavior_does_not_pass(self):
        for close in ("FAILED", "WRONG CODE", "UNCLEAN", "FAILED BY CLIENT", "NON-STRICT", "INFORMATIONAL"):
            assert self.reasons("7.7.1", behavior_close=close) == [f"behavior OK, behaviorClose {close}"]

    def test_the_three_informational_cases_may_not_fail_or_be_non_strict(self):
        for case in INFORMATIONAL_CASES:
            for changes in ({"behavior": "FAILED"}, {"behavior_close": "FAILED"}, {"behavior": "NON-STRICT"}):
                assert len(self.reasons(case, **changes)) == 1


class GroupTallyTests:
    """The table counts cases by group."""

    def test_a_perfect_run_has_the_known_number_of_cases_per_group(self):
        counts = {group: (count.ran, count.behavior["OK"]) for group, count in tally(perfect(ALL), ALL).items()}
        assert counts == {
            "1": (16, 16),
            "2": (11, 11),
            "3": (7, 7),
            "4": (10, 10),
            "5": (20, 20),
            "6": (145, 145),
            "7": (37, 34),
            "9": (54, 54),
            "10": (1, 1),
            "12": (90, 90),
            "13": (126, 126),
        }

    def test_groups_are_sorted_by_number(self):
        """10 comes after 9."""
        assert list(tally(perfect(reversed(ALL)), ALL)) == ["1", "2", "3", "4", "5", "6", "7", "9", "10", "12", "13"]

    def test_a_group_that_did_not_run_is_listed_with_0_cases(self):
        count = tally(perfect(QUICK), ALL)["12"]
        assert (count.expected, count.ran) == (90, 0)

    def test_an_unclean_close_is_counted_even_if_the_behavior_is_ok(self):
        count = tally(perfect_but("7.7.1", behavior_close="UNCLEAN"), ALL)["7"]
        assert (count.behavior["OK"], count.unclean_close) == (34, 1)

    def test_the_closes_of_informational_cases_are_not_counted_as_unclean(self):
        assert tally(perfect(ALL), ALL)["7"].unclean_close == 0

    def test_the_duration_of_a_group_is_the_sum_of_its_cases(self):
        assert tally(perfect(ALL), ALL)["2"].duration == 11 * 7
