"""What a run has shown, for people."""

from collections import Counter
from typing import Any

from checker import percentile

__all__ = ["markdown"]

ROWS = (
    ("acked", "publications that were acknowledged"),
    ("maybe", "publications without an answer: they may be there, or not"),
    ("delivered", "delivered"),
    ("recovered", "of these, given to a subscriber that came back"),
    ("told_as_lost", "not delivered, and the subscriber was told that something is missing"),
    ("told_kept", "of these, published to a channel with a history, for a subscriber that can come back"),
    ("silently lost", "**silently lost**"),
    ("out of order", "**out of order**"),
    ("duplicates", "**duplicates**"),
    ("misplaced", "**two places for one, or one for two**"),
    ("deaf", "**subscribers that did not hear the end**"),
)


def markdown(outcome: Any) -> str:
    """Write an `Outcome`."""
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
        f"| seconds from the end of a fault to a publication made since, p50 | {percentile(waits, 0.5):.2f} |",
        f"| the same, p99 | {percentile(waits, 0.99):.2f} |",
        "",
        "Faults: " + ", ".join(f"{name} ({times})" for name, times in sorted(Counter(outcome.struck).items())) + ".",
    ]
    bad = [*verdict.faults, *outcome.complaints]
    if bad:
        lines += ["", "What was wrong:", "", *(f"- {line}" for line in bad)]
    return "\n".join(lines) + "\n"
