"""
Write the table of threats into docs/security.md, from the summary of a run.

    python tests/threats/threat_table.py reports/threats/summary.json

Each row has the threat, what the server promises, the test, and the figures that the test measured last.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from figures import Figure

__all__ = ["BEGIN", "END", "main", "table"]

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
BEGIN = "<!-- The table of threats: written by `make threats`. -->"
END = "<!-- The end of the table of threats. -->"


def worst(figures: Sequence[Mapping[str, Any]]) -> list[Figure]:
    """Return one figure for each name, the worst, in the order of their first appearance."""
    found: dict[str, Figure] = {}
    for entry in figures:
        figure = Figure(**entry)
        known = found.get(figure.name)
        if known is None or (figure.value < known.value if figure.at_least else figure.value > known.value):
            found[figure.name] = figure
    return list(found.values())


def row(name: str, tests: Sequence[Mapping[str, Any]]) -> str:
    """Return a row of the table."""
    file = tests[0]["test"].partition("::")[0]
    promises = list(dict.fromkeys(test["promise"] for test in tests if test["promise"]))
    figures = worst([figure for test in tests for figure in test["figures"]])
    result = "; ".join(map(str, figures)) or "passed"
    if not all(test["passed"] for test in tests):
        result = f"**failed**: {result}"
    name = "floods" if name == "all" else name
    return f"| {name} | {' '.join(promises)} | [{Path(file).stem}](../{file}) | {result} |"


def table(summary: Mapping[str, Any]) -> str:
    """Return the table of a summary."""
    lines = ["| | what is promised | test | last figures |", "|---|---|---|---|"]
    lines += [row(name, tests) for name, tests in summary["rows"].items()]
    return "\n".join(lines)


def main(path: str) -> None:
    """Write the table into the page."""
    page = PAGE.read_text("utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{table(json.loads(Path(path).read_text('utf-8')))}\n\n{END}{after}", "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
