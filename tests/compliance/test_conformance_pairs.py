"""The record of the clients' verdicts, and the page that explains where Autobahn's fuzzing server disagrees."""

import json
import re

from conformance import CLIENTS, RECORD
from conformance_pairs import AUTOBAHN_CASES, PAIRS, find_disagreements
from paths import DOCS

from wsserver.endpoints.cases.catalog import CASES

PAGE = (DOCS / "reference" / "conformance.md").read_text("utf-8")
DATA = json.loads(RECORD.read_text("utf-8"))


def rows(heading):
    """Return the cells of a table of the page, without its head."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    table = re.findall(r"^\| (.*) \|$", section, re.MULTILINE)
    return [row.split(" | ") for row in table[1:] if not row.startswith("---")]


def test_each_pair_names_a_case_once():
    ids = {case.id for case in CASES}
    assert set(PAIRS) <= ids
    assert len(set(AUTOBAHN_CASES)) == len(AUTOBAHN_CASES)
    assert f"\n{len(PAIRS)} of the cases send the same" in PAGE


def test_the_record_names_existing_cases_and_verdicts():
    assert tuple(DATA) == CLIENTS
    ids = {case.id for case in CASES}
    for verdicts in DATA.values():
        assert set(verdicts["own"]) <= ids
        assert set(verdicts["autobahn"]) <= set(AUTOBAHN_CASES)
        assert {*verdicts["own"].values(), *verdicts["autobahn"].values()} <= {"informational", "fail", "not tested"}


def test_the_page_shows_the_numbers_of_the_record():
    shown = {row[0]: row[1:] for row in rows("Real clients")}
    expected = {}
    for name, verdicts in DATA.items():
        counts = [list(verdicts["own"].values()).count(verdict) for verdict in ("informational", "fail", "not tested")]
        expected[name] = [verdicts["version"], str(len(CASES) - sum(counts)), *map(str, counts)]
    assert {name: cells[:5] for name, cells in shown.items()} == expected


def test_the_page_explains_each_disagreement_and_no_other():
    """Several cases with the same explanation share a row."""
    shown = set()
    for ours, theirs, clients, *_ in rows("Compared with Autobahn's fuzzing server"):
        pairs = zip(re.findall(r"`(.*?)`", ours), theirs.split(", "), strict=True)
        shown |= {(case, other, client) for case, other in pairs for client in clients.split(", ")}
    found = find_disagreements(DATA)
    assert shown == {(case, other, name) for (case, other), names in found.items() for name in names}
    assert all(len(row[-1]) > 40 for row in rows("Compared with Autobahn's fuzzing server"))
