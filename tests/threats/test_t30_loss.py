"""T30: publications that are lost, reordered or doubled while faults happen."""

from report import markdown
from run import parse, run

WORDS = ["--calm", "0.5", "--seed", "30"]
QUICK = ["--faults", "2", "--deliveries", "1", "--seconds", "60", "--rate", "10", "--subscribers", "40"]
FULL = ["--faults", "12", "--deliveries", "300000", "--seconds", "110", "--subscribers", "150"]


def test_t30_nothing_is_lost_silently(figures, full, tmp_path):
    """
    Through faults of Redis, servers and subscribers, no publication is lost without notice, reordered or doubled.

    `make chaos` runs 20 faults and a million deliveries; this test runs the same program for two minutes.
    """
    chosen = () if full else ("--only", "Redis killed and started", "--only", "server killed", "--channels", "5")
    options = parse([*WORDS, *(FULL if full else QUICK), *chosen])
    outcome = run(options, tmp_path)
    counts = outcome.verdict.counts
    # The run ends at an approximate number, which includes events that are no publications.
    figures.at_least(max(1, options.deliveries * 0.95), counts["delivered"], "deliveries")
    figures.at_most(0, counts["silently lost"], "silently lost", "", markdown(outcome))
    figures.at_most(0, counts["out of order"], "out of order")
    figures.at_most(0, counts["duplicates"], "delivered twice")
    assert outcome.passed, markdown(outcome)
