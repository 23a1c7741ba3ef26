"""Tests for plan.py: which cases run, and in which portions."""

from plan import GROUPS, HEAVY, case_key, expected_cases, group_of, waves

ALL = expected_cases(quick=False)
QUICK = expected_cases(quick=True)


def portion_cases(cases):
    """List the cases of all portions."""
    return [case for wave in waves(cases) for portion in wave for case in portion.cases]


class ExpectedCasesTests:
    """The list of cases is that of the testsuite."""

    def test_a_full_run_has_517_cases(self):
        """The testsuite 0.8.2 has 517 cases for servers."""
        assert len(ALL) == len(set(ALL)) == 517

    def test_a_quick_run_has_247_cases_without_groups_9_12_and_13(self):
        assert len(QUICK) == 247
        assert set(QUICK) == {case for case in ALL if group_of(case) not in {"9", "12", "13"}}

    def test_cases_are_sorted_by_number(self):
        """2.10 comes after 2.9."""
        assert list(ALL) == sorted(ALL, key=case_key)

    def test_each_group_with_cases_has_a_name_in_the_table(self):
        assert {group_of(case) for case in ALL} == set(GROUPS)


class WavesTests:
    """How cases are split into waves and portions."""

    def test_each_case_is_in_exactly_one_portion(self):
        assert sorted(portion_cases(ALL)) == sorted(ALL)
        assert sorted(portion_cases(QUICK)) == sorted(QUICK)

    def test_no_two_portions_have_the_same_name(self):
        """Each portion writes to the folder of its name."""
        names = [portion.name for wave in waves(ALL) for portion in wave]
        assert len(names) == len(set(names))

    def test_no_wave_has_both_heavy_and_timed_cases(self):
        """Cases that load the processor would disturb those that measure time."""
        for wave in waves(ALL):
            assert len({group_of(case) in HEAVY for portion in wave for case in portion.cases}) == 1

    def test_a_quick_run_has_a_single_wave(self):
        assert len(waves(QUICK)) == 1
