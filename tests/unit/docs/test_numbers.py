"""The numbers of faults and of conformance cases that pages name are the real ones."""

import re

import pytest
from paths import ROOT

from wsserver.endpoints.cases.catalog import CASES
from wsserver.endpoints.faults.table import TABLE


@pytest.mark.parametrize(
    ("page", "pattern", "number"),
    [
        ("CHANGELOG.md", r"(\d+) faults of messages", len(TABLE)),
        ("CHANGELOG.md", r"serves (\d+) conformance cases", len(CASES)),
        ("docs/README.md", r"(\d+) cases, in CI", len(CASES)),
        ("docs/how-to/conformance.md", r"(\d+) cases: \d+ passed", len(CASES)),
    ],
)
def test_a_page_names_the_real_number(page, pattern, number):
    text = " ".join((ROOT / page).read_text("utf-8").split())
    assert [int(found) for found in re.findall(pattern, text)] == [number]
