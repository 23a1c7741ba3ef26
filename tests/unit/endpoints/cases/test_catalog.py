"""The tables of the conformance cases."""

import re

from wsserver.endpoints.cases.catalog import CASES, TOPICS, select_cases
from wsserver.endpoints.cases.script import Fails, Rejects
from wsserver.wire.deflate import Deflate

SECTIONS = {
    6455: r"4\.1|5\.[1-6](\.[1-3])?|7\.1\.1|7\.4|8\.1|10\.4",
    7692: r"[56](\.[12])?|7\.[12](\.[1-3](\.[1-6])?)?",
}


def test_there_are_at_least_100_cases_in_all_topics():
    assert len(CASES) >= 100
    assert {topic: len(cases) >= 9 for topic, cases in TOPICS.items()} == dict.fromkeys(TOPICS, True)


def test_each_id_is_unique_and_fits_into_a_url():
    ids = [case.id for case in CASES]
    assert len(set(ids)) == len(ids)
    assert [one for one in ids if not re.fullmatch(r"[a-z]+\.[a-z0-9-]+", one)] == []


def test_each_case_cites_a_section_and_says_what_the_client_must_do():
    for case in CASES:
        assert re.fullmatch(SECTIONS[case.rfc], case.section), case.id
        assert case.reference == f"RFC {case.rfc} section {case.section}"
        assert re.match(r"[A-Z0-9]", case.title), case.title
        assert re.match(r"[a-z]+ ", case.demand), case.demand
        assert not case.title.endswith(".")
        assert not case.demand.endswith(".")


def test_each_case_sends_at_most_4_mib():
    for case in CASES:
        codec = Deflate(case.answer.terms()) if case.answer else None
        frames = [frame for step in case.script.steps for one in step.sends for frame in one.frames(codec)]
        assert sum(len(frame.encode()) for frame in frames) <= 4 * 1024**2, case.id


def test_each_case_with_bad_in_its_name_demands_a_failed_connection():
    bad = [case for case in CASES if case.name.startswith("bad-")]
    assert len(bad) > 30
    assert [case.id for case in bad if not isinstance(case.script.ending, Fails | Rejects)] == []


def test_select_cases_accepts_topics_and_patterns():
    assert select_cases([]) == CASES
    assert {case.topic for case in select_cases(["text", "pings.t*"])} == {"text", "pings"}
    assert [case.id for case in select_cases(["pings.t*"])] == ["pings.text", "pings.ten"]
    assert select_cases(["nothing"]) == ()
