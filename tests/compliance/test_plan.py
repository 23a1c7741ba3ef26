"""Tests for plan.py: which cases run, and in which portions."""

from plan import GROUPS, HEAVY, case_key, expected_cases, group_of, waves

ALL = expected_cases(quick=False)
QUICK = expected_cases(quick=True)


def portion_cases(cases):
    """List the cases of all portions."""
    return [case for wave in waves(cases) for portion in wave for case in portion.cases]


class ExpectedCasesTests:
    """The list of cases is that of the testsuite."""

    def test_full(self):
        """A full run has the 517 cases of the testsuite 0.8.2."""
        assert len(ALL) == len(set(ALL)) == 517

    def test_quick(self):
        """A quick run has 247 cases: all but those of the groups 9, 12 and 13."""
        assert len(QUICK) == 247
        assert set(QUICK) == {case for case in ALL if group_of(case) not in {"9", "12", "13"}}

    def test_order(self):
        """Cases are listed by number: 2.10 comes after 2.9."""
        assert list(ALL) == sorted(ALL, key=case_key)

    def test_groups(self):
        """Each group that has cases has a name in the table."""
        assert {group_of(case) for case in ALL} == set(GROUPS)


class WavesTests:
    """Splitting the cases loses none and changes no outcome."""

    def test_complete(self):
        """Each case is in exactly one portion, so that none runs twice or never."""
        assert sorted(portion_cases(ALL)) == sorted(ALL)
        assert sorted(portion_cases(QUICK)) == sorted(QUICK)

    def test_names(self):
        """No two portions write to the same folder."""
        names = [portion.name for wave in waves(ALL) for portion in wave]
        assert len(names) == len(set(names))

    def test_apart(self):
        """Cases that measure time never run beside cases that load the processor."""
        for wave in waves(ALL):
            assert len({group_of(case) in HEAVY for portion in wave for case in portion.cases}) == 1

    def test_quick(self):
        """A quick run has a single wave."""
        assert len(waves(QUICK)) == 1
