"""A short run: real processes and a few faults. `make chaos` runs for longer."""

import pytest
from nemesis import FAULTS, Nemesis
from report import markdown
from run import main, parse, run
from stage import NotReadyError

CHOSEN = (
    "Redis killed and started",
    "server killed",
    "cable of a server pulled",
    "sockets of subscribers cut",
    "an empty Redis in its place",
    "Redis set back",
)


def test_six_faults_cause_no_silent_loss_duplicate_or_disorder(tmp_path):
    """The servers log no errors either."""
    words = ["--faults", "6", "--calm", "0.5", "--deliveries", "1", "--seconds", "120", "--seed", "4"]
    words += [
        "--rate",
        "10",
        "--subscribers",
        "40",
        "--channels",
        "5",
        *(word for name in CHOSEN for word in ("--only", name)),
    ]
    outcome = run(parse(words), tmp_path)
    assert outcome.passed, markdown(outcome)
    assert outcome.struck == list(CHOSEN)
    for count in ("acked", "delivered", "recovered", "deltas", "reported_missing"):
        assert outcome.verdict.counts[count], count


def test_a_run_with_too_few_faults_and_deliveries_does_not_pass(tmp_path):
    words = ["--faults", "1", "--deliveries", "1000000000", "--seconds", "0", "--subscribers", "4", "--channels", "1"]
    outcome = run(parse(words), tmp_path)
    assert not outcome.passed
    assert "only 0 faults" in outcome.complaints[0]


SHORT = ["--faults", "0", "--deliveries", "0", "--calm", "0.1", "--subscribers", "4", "--channels", "1"]


def test_writes_its_report_to_a_relative_directory(tmp_path, monkeypatch):
    """`make chaos` names its output directory relative to the checkout; the servers run elsewhere."""
    monkeypatch.chdir(tmp_path)
    assert main([*SHORT, "--out", "reports/chaos"]) == 0
    assert (tmp_path / "reports" / "chaos" / "report.md").is_file()


def test_shows_the_last_log_lines_of_servers_that_do_not_start(tmp_path, monkeypatch):
    """The error of a server that cannot read its configuration file is in its log."""
    monkeypatch.setattr("stage.SETTINGS", 'no_such_option = "{redis}{key}"\n')
    with pytest.raises(NotReadyError, match=r"ended with exit code 1.*\n.*no_such_option"):
        run(parse(SHORT), tmp_path)


@pytest.fixture
def nemesis():
    """Return a nemesis without targets."""
    from random import Random

    return Nemesis(None, None, (), None, Random(1))


class FaultPlanTests:
    """The order of the faults."""

    def test_each_fault_comes_once_before_any_is_repeated(self, nemesis):
        """Halfway, between the rounds, Redis is replaced."""
        plan = nemesis.plan(2 * len(FAULTS))
        assert plan[len(FAULTS)] not in FAULTS
        assert set(plan[: len(FAULTS)]) == set(FAULTS)

    def test_chosen_faults_come_in_their_order_repeatedly(self, nemesis):
        assert nemesis.plan(3, ["slow readers", "scripts flushed"]) == [
            "slow readers",
            "scripts flushed",
            "slow readers",
        ]
