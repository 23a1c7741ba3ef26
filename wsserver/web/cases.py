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
        rows = [[_link(f"/case/{case.id}", str(number)), *_case_cells(case)] for number, case in numbered]
        about = (
            f"<p>{len(rows)} cases. A client that echoes every message connects to <code>/case/1?agent=NAME</code>, "
            "<code>/case/2?agent=NAME</code> and so on; "
            f"{_link('/conformance.html', 'run them in this browser')}.</p>{_reports(self._bench.reports.agents)}"
        )
        return _page("Conformance cases", about + _table(("Number", *_CASE_HEADS), rows))

    def count(self, request: Request) -> Response:
        count = len(self._bench.cases)
        return _json({"count": count}) if _wanted(request) == "json" else _text(f"{count}\n")

    def describe(self, number: int, case: Case) -> Answer:
        def answer(request: Request) -> Response:
            if _wanted(request) == "json":
                return _json({"number": number, "topic": case.topic, **describe_case(case)})
            rows = [[str(number), *_case_cells(case)]]
            return _page(f"Case {case.id}", _table(("Number", *_CASE_HEADS), rows))

        return answer

    def report(self, request: Request) -> Response:
        agent = ((request.query or {}).get("agent") or [""])[0]
        if not agent:
            reports = self._bench.reports.agents
            if _wanted(request) == "json":
                return _json({"agents": [_summarize(one) for one in reversed(list(reports.values()))]})
            return _page("Conformance reports", _reports(reports))
        report = self._bench.reports.find(clean_agent(agent))
        if report is None:
            reason = f"no report for the agent {quote(agent)}: expected the name of one that has run a case"
            return refusal_response(Refusal(HTTPStatus.NOT_FOUND, reason))
        wanted = _wanted(request)
        if wanted == "junit":
            return _respond(write_junit(report, self._bench.cases), "application/xml; charset=utf-8")
        if wanted == "json":
            return _json(report.describe(self._bench.cases))
        return _page(f"Conformance of {report.agent}", _report_body(report, self._bench.cases))


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


# HTML: every value is escaped.

_CASE_HEADS = ("Case", "Title", "Section", "The client must")


def _page(title: str, body: str) -> Response:
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n"
        '<link rel="icon" href="/favicon.svg" type="image/svg+xml">\n'
        '<link rel="stylesheet" href="/style.css">\n<link rel="stylesheet" href="/conformance.css">\n'
        f'</head>\n<body class="conformance">\n<header><h1>{escape(title)}</h1></header>\n<main>\n{body}\n</main>\n'
        "</body>\n</html>\n"
    )
    return _respond(page.encode("utf-8", "replace"), "text/html; charset=utf-8")


def _table(heads: tuple[str, ...], rows: list[list[str]]) -> str:
    """Return a table of cells that are HTML already."""
    head = "".join(f'<th scope="col">{escape(one)}</th>' for one in heads)
    body = "\n".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def _link(path: str, text: str) -> str:
    return f'<a href="{escape(path)}">{escape(text)}</a>'


def _case_cells(case: Case) -> list[str]:
    return [f"<code>{escape(case.id)}</code>", escape(case.title), escape(case.reference), escape(case.demand)]


def _report_link(agent: str) -> str:
    return _link(f"/case/report?agent={percent_encode(agent, safe='')}", agent)


def _summarize(report: Report) -> dict[str, Any]:
    counts = {str(verdict): count for verdict, count in report.count().items()}
    return {"agent": report.agent, "counts": counts}


def _reports(reports: Mapping[str, Report]) -> str:
    if not reports:
        return "<p>No client has run a case yet.</p>"
    rows = [
        [_report_link(one.agent), *(str(count) for count in one.count().values())]
        for one in reversed(list(reports.values()))
    ]
    note = f"<p>The last {MAX_AGENTS} clients, the latest first.</p>"
    return note + _table(("Client", "Pass", "Informational", "Fail"), rows)


def _report_body(report: Report, cases: Sequence[Case]) -> str:
    counts = report.count()
    missing = sum(case.id not in report.results for case in cases)
    lines = [f'<span class="verdict {verdict}">{count} {verdict}</span>' for verdict, count in counts.items()]
    lines += [f'<span class="verdict missing">{missing} not run</span>'] if missing else []
    agent = percent_encode(report.agent, safe="")
    formats = " ".join(_link(f"/case/report?agent={agent}&format={one}", one) for one in ("json", "junit"))
    numbered = sorted(enumerate(cases, 1), key=lambda one: _urgency(report.results.get(one[1].id)))
    rows = [
        [str(number), *_case_cells(case)[:3], *_result_cells(report.results.get(case.id))] for number, case in numbered
    ]
    table = _table(("Number", "Case", "Title", "Section", "Verdict", "Reason and frames"), rows)
    return f'<p class="summary">{" ".join(lines)}</p>\n<p>As {formats}.</p>\n{table}'


def _urgency(result: Result | None) -> int:
    """Return the position of a result in a report: failed cases are the first ones."""
    if result is None:
        return 2
    return {Verdict.FAIL: 0, Verdict.INFORMATIONAL: 1, Verdict.PASS: 3}[result.verdict]


def _result_cells(result: Result | None) -> list[str]:
    if result is None:
        return ['<span class="verdict missing">not run</span>', ""]
    name = str(result.verdict) if result.is_tested else "not tested"
    frames = "\n".join(frame.show() for frame in result.frames)
    left_out = result.frame_count - len(result.frames)
    frames += f"\n{left_out} frames between them are not shown" if left_out else ""
    details = f"<details><summary>{result.frame_count} frames</summary><pre>{escape(frames)}</pre></details>"
    return [f'<span class="verdict {result.verdict}">{name}</span>', escape(result.reason) + details]
