"""docs/security.md: each of the 36 threats has a test, and a row with what this test measured."""

import re

import pytest
from paths import DOCS, TESTS

ROWS = dict(re.findall(r"^\| (T\d+|floods) (\|.*\|)$", (DOCS / "security.md").read_text("utf-8"), re.MULTILINE))
THREATS = [*(f"T{number}" for number in range(1, 37)), "floods"]


@pytest.mark.parametrize("threat", THREATS)
def test_each_threat_has_a_test_and_a_row_with_figures(threat):
    pattern = "test_floods.py" if threat == "floods" else f"test_t{int(threat[1:]):02}_*.py"
    (module,) = (TESTS / "threats").glob(pattern)
    _, promise, test, figures, _ = (cell.strip() for cell in re.split(r"(?<!\\)\|", ROWS[threat]))
    assert promise
    assert test == f"[{module.stem}](../tests/threats/{module.name})"
    assert re.search(r"\d|^passed$", figures)
    assert "**failed**" not in figures


def test_the_table_has_no_other_rows():
    assert sorted(ROWS) == sorted(THREATS)
