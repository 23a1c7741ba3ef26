"""All conformance cases, in the order of their numbers."""

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Final

from wsserver.endpoints.cases import (
    closing,
    compression,
    fragmentation,
    framing,
    handshakes,
    limits,
    pings,
    text,
)
from wsserver.endpoints.cases.script import Case

__all__ = ["CASES", "TOPICS", "select_cases"]

TOPICS: Final = {
    "framing": framing.CASES,
    "fragmentation": fragmentation.CASES,
    "text": text.CASES,
    "pings": pings.CASES,
    "closing": closing.CASES,
    "limits": limits.CASES,
    "compression": compression.CASES,
    "handshake": handshakes.CASES,
}
"""Name of a topic -> its cases."""

CASES: Final = tuple(replace(case, topic=topic) for topic, cases in TOPICS.items() for case in cases)
"""Case 1, case 2 and so on."""


def select_cases(patterns: Sequence[str]) -> tuple[Case, ...]:
    """
    Return the cases that any of the patterns matches.

    Args:
        patterns: the name of a topic, or a pattern of ids such as `text.bad-*`. If it is empty, all cases.
    """
    if not patterns:
        return CASES
    return tuple(case for case in CASES if any(one == case.topic or fnmatchcase(case.id, one) for one in patterns))
