"""The tables of differences from Centrifugo name the differences that the differential test intends."""

import tomllib

import pytest
from paths import DOCS, TESTS

LIST = TESTS / "differential" / "differences.toml"
DIFFERENCES = tomllib.loads(LIST.read_text("utf-8"))["difference"]
ADVICE = "list each row in tests/differential/differences.toml, in the same order"


def table_of(page):
    """Return the rows of the table of differences in a page of the reference."""
    text = (DOCS / "reference" / page).read_text("utf-8").partition("## Differences from Centrifugo")[2]
    rows = [line.strip("|").split(" | ") for line in text.split("\n") if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def test_the_page_about_the_protocol_lists_the_intended_differences_with_their_reasons():
    listed = [(row[0], row[-1]) for row in table_of("centrifuge.md")]
    assert listed == [(one["feature"], one["reason"]) for one in DIFFERENCES if one["page"] == "centrifuge.md"], ADVICE


@pytest.mark.parametrize("page", ["http-api.md", "tokens.md"])
def test_the_other_pages_list_those_that_the_sequences_show(page):
    listed = {row[0] for row in table_of(page)}
    assert {one["feature"] for one in DIFFERENCES if one["page"] == page} <= listed
