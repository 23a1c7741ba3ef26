"""What a fuzzer has done and found."""

from collections import Counter
from dataclasses import dataclass, field

__all__ = ["KEY", "Findings"]

KEY = "fuzz-api-key"
"""The API key of the server."""

MAX_COMPLAINTS = 50


@dataclass
class Findings:
    """The number of executions, and the complaints of the oracle."""

    executions: int = 0
    complaints: list[str] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    """Status or close code -> number of executions that ended with it."""

    def count(self, outcome: object) -> None:
        """Count an execution."""
        self.executions += 1
        self.outcomes[str(outcome)] += 1

    def complain(self, what: str, data: bytes) -> None:
        """Record a fault, with the input that has caused it."""
        if len(self.complaints) < MAX_COMPLAINTS:
            self.complaints.append(f"{what}; input {data[:3000]!r}")
