"""The report of a run, as Markdown."""

from collections import Counter
from typing import Any

from checker import percentile

__all__ = ["markdown"]

ROWS = (
    ("acked", "acknowledged publications"),
    ("maybe", "publications with an error or no answer, which may be delivered or not"),
    ("delivered", "deliveries"),
    ("recovered", "of these, recovered after the subscriber had reconnected"),
    ("deltas", "of these, sent as deltas"),
    ("reported_missing", "not delivered, with a gap notice"),
    ("reported_recoverable", "of these, in a channel with history and for a subscriber that can recover"),
    ("silently lost", "**not delivered, without a gap notice**"),
    ("out of order", "**delivered in the wrong order**"),
    ("duplicates", "**delivered twice**"),
    ("misplaced", "**publications with two positions, or positions with two publications**"),
    ("last missing", "**subscribers that did not receive the last publication**"),
)
WAIT = "seconds from the end of a fault until a subscriber receives a new publication"


def markdown(outcome: Any) -> str:
    """Return the report of an `Outcome`."""
    verdict, shape = outcome.verdict, outcome.shape
    waits = verdict.recoveries
    title = (
        f"{shape['servers']} servers, {shape['subscribers']} subscribers, {shape['channels']} channels, "
        f"{len(outcome.struck)} faults in {outcome.seconds:.0f} s, seed {shape['seed']}: "
        f"**{'passed' if outcome.passed else 'FAILED'}**"
    )
    lines = [
        title,
        "",
        "| | |",
        "|---|--:|",
        *(f"| {words} | {verdict.counts[name]:,} |" for name, words in ROWS),
        f"| {WAIT}, median | {percentile(waits, 0.5):.2f} |",
        f"| the same, 99th percentile | {percentile(waits, 0.99):.2f} |",
        "",
        "Faults: " + ", ".join(f"{name} ({times})" for name, times in sorted(Counter(outcome.struck).items())) + ".",
    ]
    bad = [*verdict.faults, *outcome.complaints]
    if bad:
        lines += ["", "Failures:", "", *(f"- {line}" for line in bad)]
    return "\n".join(lines) + "\n"
