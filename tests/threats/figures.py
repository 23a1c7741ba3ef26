"""Figures: what the tests measured, with the limit of each, for the table in docs/security.md."""

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Figure", "Figures"]


@dataclass(frozen=True)
class Figure:
    """A measured value, and its limit."""

    name: str
    value: float
    limit: float
    unit: str
    at_least: bool = False

    @property
    def is_good(self) -> bool:
        """Whether the value is within the limit."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def __str__(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        value = f"{self.value:,.0f}" if self.value >= 100 or self.value == int(self.value) else f"{self.value:.3g}"
        return f"{self.name}: {value}{unit} ({'at least' if self.at_least else 'limit'} {self.limit:,g})"


class Figures:
    """The figures of one test. A test fails at the first one beyond its limit."""

    def __init__(self) -> None:
        self.all: list[Figure] = []

    def at_most(self, limit: float, value: float, name: str, unit: str = "", detail: object = "") -> None:
        """Record a value, and fail if it is above the limit."""
        self._check(Figure(name, value, limit, unit), detail)

    def at_least(self, limit: float, value: float, name: str, unit: str = "", detail: object = "") -> None:
        """Record a value, and fail if it is below the limit."""
        self._check(Figure(name, value, limit, unit, at_least=True), detail)

    def _check(self, figure: Figure, detail: object) -> None:
        self.all.append(figure)
        assert figure.is_good, f"{figure}{f': {detail}' if detail else ''}"

    def as_json(self) -> list[dict[str, Any]]:
        """Return the figures for the summary."""
        return [asdict(figure) for figure in self.all]
