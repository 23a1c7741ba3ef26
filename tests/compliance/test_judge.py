"""Tests for judge.py: which runs of the Autobahn testsuite pass."""

from dataclasses import replace

from judge import INFORMATIONAL_CASES, Offence, Result, judge, tally
from plan import expected_cases

ALL = expected_cases(quick=False)
QUICK = expected_cases(quick=True)


def perfect(cases):
    """Make the results of a run in which everything is as it must be."""
    return [perfect_result(case) for case in cases]


def perfect_result(case):
    """Make the result of a case that is as it must be."""
    behavior = "INFORMATIONAL" if case in INFORMATIONAL_CASES else "OK"
    return Result(case, behavior, behavior, 7)


def perfect_but(case, **changes):
    """Make a perfect full run in which one case is different."""
    return [replace(result, **changes) if result.case == case else result for result in perfect(ALL)]


class JudgeTests:
    """Exactly the expected cases must have run, each of them clean."""

    def test_full_run(self):
        """A full run with 514 OK and 3 INFORMATIONAL cases passes."""
        assert judge(perfect(ALL), ALL) == []

    def test_quick_run(self):
        """A quick run passes without the groups that it leaves out."""
        assert judge(perfect(QUICK), QUICK) == []

    def test_order(self):
        """The order in which cases ran doesn't matter."""
        assert judge(reversed(perfect(ALL)), ALL) == []

    def test_informational_ok(self):
        """A case whose outcome is left open may be OK."""
        assert judge([Result(case, "OK", "OK", 7) for case in ALL], ALL) == []

    def test_missing(self):
        """A case that didn't run is an offence."""
        assert judge(perfect(case for case in ALL if case != "6.4.2"), ALL) == [Offence("6.4.2", "did not run")]

    def test_nothing_ran(self):
        """A run without any case doesn't pass: each of its cases is missing."""
        assert [offence.case for offence in judge([], QUICK)] == list(QUICK)

    def test_quick_is_not_full(self):
        """The results of a quick run don't pass for a full one."""
        assert len(judge(perfect(QUICK), ALL)) == 517 - 247

    def test_twice(self):
        """A case that ran twice is an offence, although it was OK both times."""
        assert judge([*perfect(ALL), perfect_result("1.1.1")], ALL) == [Offence("1.1.1", "ran 2 times")]

    def test_second_try(self):
        """A case that failed isn't forgiven when it's OK the second time."""
        results = [*perfect_but("1.1.1", behavior="FAILED"), perfect_result("1.1.1")]
        assert Offence("1.1.1", "behavior FAILED, behaviorClose OK") in judge(results, ALL)

    def test_unexpected(self):
        """A case that isn't part of the run is an offence."""
        assert judge(perfect([*QUICK, "9.1.1"]), QUICK) == [Offence("9.1.1", "isn't a case of this run")]

    def test_exchanged(self):
        """The number of cases alone doesn't pass: they must be the right ones."""
        results = perfect([case for case in ALL if case != "2.10"] + ["2.12"])
        assert judge(results, ALL) == [Offence("2.10", "did not run"), Offence("2.12", "isn't a case of this run")]

    def test_several_offences(self):
        """All offences are named, in the order of the cases."""
        results = [replace(result, behavior="FAILED") for result in perfect(ALL) if result.case != "2.9"]
        offences = judge(results, ALL)
        assert [offence.case for offence in offences] == list(ALL)


class BehaviorTests:
    """Only OK is good enough."""

    def reasons(self, case, **changes):
        return [offence.reason for offence in judge(perfect_but(case, **changes), ALL)]

    def test_failed(self):
        """A FAILED case doesn't pass."""
        assert self.reasons("1.1.1", behavior="FAILED") == ["behavior FAILED, behaviorClose OK"]

    def test_non_strict(self):
        """A NON-STRICT case doesn't pass, although the RFC allows it."""
        assert self.reasons("6.4.1", behavior="NON-STRICT") == ["behavior NON-STRICT, behaviorClose OK"]

    def test_unimplemented(self):
        """A case of an extension that the server refuses doesn't pass."""
        assert self.reasons("12.1.1", behavior="UNIMPLEMENTED") == ["behavior UNIMPLEMENTED, behaviorClose OK"]

    def test_informational(self):
        """A case that is INFORMATIONAL doesn't pass unless it's one of the three."""
        assert self.reasons("7.1.5", behavior="INFORMATIONAL") == ["behavior INFORMATIONAL, behaviorClose OK"]

    def test_unknown(self):
        """A behavior that nobody has heard of doesn't pass."""
        assert self.reasons("1.1.1", behavior="ok") == ["behavior ok, behaviorClose OK"]

    def test_close_failed(self):
        """A case that is OK but closes in the wrong way doesn't pass."""
        for close in ("FAILED", "WRONG CODE", "UNCLEAN", "FAILED BY CLIENT", "NON-STRICT", "INFORMATIONAL"):
            assert self.reasons("7.7.1", behavior_close=close) == [f"behavior OK, behaviorClose {close}"]

    def test_informational_failed(self):
        """The three cases may be INFORMATIONAL but nothing worse."""
        for case in INFORMATIONAL_CASES:
            for changes in ({"behavior": "FAILED"}, {"behavior_close": "FAILED"}, {"behavior": "NON-STRICT"}):
                assert len(self.reasons(case, **changes)) == 1


class TallyTests:
    """The table counts by group."""

    def test_perfect(self):
        """The table of a perfect run shows each group with the number of cases it's known for."""
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

    def test_order(self):
        """Groups are listed by number: 10 comes after 9."""
        assert list(tally(perfect(reversed(ALL)), ALL)) == ["1", "2", "3", "4", "5", "6", "7", "9", "10", "12", "13"]

    def test_group_missing(self):
        """A group that should have run and didn't is in the table."""
        count = tally(perfect(QUICK), ALL)["12"]
        assert (count.expected, count.ran) == (90, 0)

    def test_close(self):
        """A close that isn't OK is counted even where the behavior is."""
        count = tally(perfect_but("7.7.1", behavior_close="UNCLEAN"), ALL)["7"]
        assert (count.behavior["OK"], count.unclean_close) == (34, 1)

    def test_informational_close(self):
        """The closes of the three INFORMATIONAL cases aren't counted as offending."""
        assert tally(perfect(ALL), ALL)["7"].unclean_close == 0

    def test_duration(self):
        """The durations of the cases of a group add up."""
        assert tally(perfect(ALL), ALL)["2"].duration == 11 * 7
