"""The pages of the conformance cases: `/case`, `/case/count`, `/case/{n}` and `/case/report`."""

from collections.abc import Mapping, Sequence
from html import escape
from http import HTTPStatus
from typing import Any
from urllib.parse import quote as percent_encode

import msgspec

from wsserver.endpoints.cases.junit import write_junit
from wsserver.endpoints.cases.protocol import Bench
from wsserver.endpoints.cases.reports import MAX_AGENTS, Report, clean_agent, describe_case
from wsserver.endpoints.cases.results import Result, Verdict
from wsserver.endpoints.cases.script import Case
from wsserver.text import quote
from wsserver.web.case_paths import Answer, handle_get
from wsserver.web.centrifuge_http import Handler
from wsserver.web.documents import document_response, link, say, table
from wsserver.web.responses import Response, refusal_response, write_lines
from wsserver.wire.http11 import Refusal, Request

__all__ = ["case_pages"]


def case_pages(bench: Bench) -> dict[str, Handler]:
    """
    Return the pages of the cases.

    Args:
        bench: the cases and the results.
    """
    pages = _Pages(bench)
    answers: dict[str, Answer] = {"/case": pages.list_cases, "/case/count": pages.count, "/case/report": pages.report}
    for number, case in enumerate(bench.cases, 1):
        answers[f"/case/{number}"] = answers[f"/case/{case.id}"] = pages.describe(number, case)
    return {path: handle_get(answer) for path, answer in answers.items()}


class _Pages:
    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def list_cases(self, request: Request) -> Response:
        numbered = list(enumerate(self._bench.cases, 1))
        if _wanted(request) == "json":
            cases = [{"number": number, "topic": case.topic, **describe_case(case)} for number, case in numbered]
            return _json({"count": len(cases), "cases": cases, "agents": list(self._bench.reports.agents)})
        rows = [[_case_link(str(number), case), *_case_cells(case)] for number, case in numbered]
        about = (
            say(f"{len(rows)} cases. A client that echoes every message connects to these paths in turn:", "p")
            + "<p><code>/case/1?agent=NAME</code>, <code>/case/2?agent=NAME</code>, …</p>\n"
            f"<p>{link('conformance.html', 'Run them in this browser')}</p>\n"
            + _reports(request, self._bench.reports.agents)
            + say("Cases", "h2")
        )
        return _page(request, "Conformance cases", about + table(("Number", *_CASE_HEADS), rows))

    def count(self, request: Request) -> Response:
        count = len(self._bench.cases)
        return _json({"count": count}) if _wanted(request) == "json" else _text(f"{count}\n")

    def describe(self, number: int, case: Case) -> Answer:
        def answer(request: Request) -> Response:
            if _wanted(request) == "json":
                return _json({"number": number, "topic": case.topic, **describe_case(case)})
            rows = [[str(number), *_case_cells(case)]]
            return _page(request, "Conformance case", table(("Number", *_CASE_HEADS), rows), about=case.id)

        return answer

    def report(self, request: Request) -> Response:
        agent = ((request.query or {}).get("agent") or [""])[0]
        if not agent:
            reports = self._bench.reports.agents
            if _wanted(request) == "json":
                return _json({"agents": [_summarize(one) for one in reversed(list(reports.values()))]})
            return _page(request, "Conformance reports", _reports(request, reports))
        report = self._bench.reports.find(clean_agent(agent))
        if report is None:
            reason = f"no report for the agent {quote(agent)}: expected the name of one that has run a case"
            return refusal_response(Refusal(HTTPStatus.NOT_FOUND, reason))
        wanted = _wanted(request)
        if wanted == "junit":
            return _respond(write_junit(report, self._bench.cases), "application/xml; charset=utf-8")
        if wanted == "json":
            return _json(report.describe(self._bench.cases))
        return _page(request, "Conformance report", _report_body(report, self._bench.cases), about=report.agent)


# Formats.


def _wanted(request: Request) -> str:
    """Return the format that the request asks for: `html`, `json` or `junit`."""
    chosen = ((request.query or {}).get("format") or [""])[0]
    if chosen in {"html", "json", "junit"}:
        return chosen
    return "html" if any("text/html" in one for one in request.all("accept")) else "json"


def _respond(body: bytes, kind: str) -> Response:
    headers = (("Content-Type", kind), ("Cache-Control", "no-store"))
    return Response(HTTPStatus.OK, write_lines(headers), body)


def _json(document: object) -> Response:
    return _respond(msgspec.json.encode(document), "application/json")


def _text(text: str) -> Response:
    return _respond(text.encode(), "text/plain; charset=utf-8")


# HTML: `say`, `link` and `table` escape what they are given; the rest is escaped here.

_WORDS = {Verdict.PASS: "passed", Verdict.INFORMATIONAL: "informational", Verdict.FAIL: "failed"}
_FORMATS = {"json": "JSON", "junit": "JUnit XML"}
_CASE_HEADS = ("Case", "Title", "Section", "The client must")


def _page(request: Request, title: str, main: str, *, about: str = "") -> Response:
    return document_response(request.raw_path, "zh-cases.json", title, main, about=about)


def _case_link(text: str, case: Case) -> str:
    return f'<a href="case/{escape(case.id)}">{escape(text)}</a>'


def _case_cells(case: Case) -> list[str]:
    return [f"<code>{escape(case.id)}</code>", say(case.title), _whole(case.reference), say(case.demand)]


def _whole(text: str) -> str:
    """Return an element with a text that stays in one line."""
    return say(text, 'span class="whole"')


def _summarize(report: Report) -> dict[str, Any]:
    counts = {str(verdict): count for verdict, count in report.count().items()}
    return {"agent": report.agent, "counts": counts}


def _reports(request: Request, reports: Mapping[str, Report]) -> str:
    if not reports:
        return say("No client has run a case yet.", "p")
    here = "" if request.raw_path == "/case/report" else "case/"
    rows = [
        [
            f'<a href="{here}report?agent={percent_encode(one.agent, safe="")}"><bdi>{escape(one.agent)}</bdi></a>',
            _counts(one),
        ]
        for one in reversed(list(reports.values()))
    ]
    return say(f"The last {MAX_AGENTS} clients, the latest first:", "p") + table(("Client", "Verdicts"), rows)


def _counts(report: Report) -> str:
    counts = report.count().items()
    return " ".join(say(f"{count} {_WORDS[one]}", f'span class="verdict {one}"') for one, count in counts)


def _report_body(report: Report, cases: Sequence[Case]) -> str:
    missing = sum(case.id not in report.results for case in cases)
    more = say(f"{missing} not run", 'span class="verdict missing"') if missing else ""
    agent = percent_encode(report.agent, safe="")
    formats = " · ".join(f'<a href="?agent={agent}&amp;format={one}">{name}</a>' for one, name in _FORMATS.items())
    numbered = sorted(enumerate(cases, 1), key=lambda one: _urgency(report.results.get(one[1].id)))
    rows = [
        [str(number), *_case_cells(case)[:3], *_result_cells(report.results.get(case.id))] for number, case in numbered
    ]
    cells = table(("Number", "Case", "Title", "Section", "Verdict", "Reason and frames"), rows)
    return f'<p class="summary">{_counts(report)} {more}</p>\n<p>{formats}</p>\n{cells}'


def _urgency(result: Result | None) -> int:
    """Return the position of a result in a report: failed cases are the first ones."""
    if result is None:
        return 2
    return {Verdict.FAIL: 0, Verdict.INFORMATIONAL: 1, Verdict.PASS: 3}[result.verdict]


def _result_cells(result: Result | None) -> list[str]:
    if result is None:
        return [say("not run", 'span class="verdict missing"'), ""]
    name = _WORDS[result.verdict] if result.is_tested else "not tested"
    frames = "\n".join(frame.show() for frame in result.frames)
    left_out = result.frame_count - len(result.frames)
    frames += f"\n{left_out} frames between them are not shown" if left_out else ""
    frame_words = "1 frame" if result.frame_count == 1 else f"{result.frame_count} frames"
    details = f"<details>{say(frame_words, 'summary')}<pre>{escape(frames)}</pre></details>"
    return [say(name, f'span class="verdict {result.verdict}"'), escape(result.reason) + details]
