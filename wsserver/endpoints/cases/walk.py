"""Serve the number of cases, their descriptions and verdicts over WebSocket, for clients that run all cases."""

import json
from typing import Any, ClassVar

from wsserver.endpoints.application import Routes
from wsserver.endpoints.cases.protocol import Bench, CaseProtocol, find_case, refuse_case
from wsserver.endpoints.cases.reports import clean_agent
from wsserver.endpoints.cases.results import Verdict
from wsserver.wire.protocol import ConnectionRequest, Denied, ServerFactory, ServerProtocol, bind

__all__ = ["WalkProtocol", "bind_cases"]

BEHAVIORS = {Verdict.PASS: "OK", Verdict.INFORMATIONAL: "INFORMATIONAL", Verdict.FAIL: "FAILED"}
"""Verdict -> the word of Autobahn's fuzzing server."""


class WalkProtocol(ServerProtocol):
    """Send one message, and close: see `bind_cases` for the paths."""

    bench: ClassVar[Bench]
    path: ClassVar[str]
    _answer = ""

    def onConnect(self, request: ConnectionRequest) -> Any:
        """
        Prepare the message.

        Raises:
            Denied: 404, there is no such case.
        """
        if self.path in ("/case/count", "/getCaseCount"):
            self._answer = str(len(self.bench.cases))
        elif self.path != "/updateReports":
            self._answer = json.dumps(self._describe(self.request.query or {}))
        return super().onConnect(request)

    def _describe(self, query: dict[str, list[str]]) -> dict[str, str]:
        name = query.get("case", [""])[0]
        case = find_case(self.bench.cases, name)
        if case is None:
            raise Denied(refuse_case(name, self.bench.cases))
        if self.path == "/getCaseInfo":
            return {"id": case.id, "description": f"{case.title} ({case.reference})"}
        report = self.bench.reports.find(clean_agent(query.get("agent", [""])[0]))
        result = report.results.get(case.id) if report is not None else None
        return {"behavior": "MISSING" if result is None else BEHAVIORS[result.verdict]}

    def onOpen(self) -> None:
        """Send the message, and close."""
        if self._answer:
            self.sendMessage(self._answer.encode())
        self.close(1000)


def bind_cases(bench: Bench, factory: ServerFactory) -> Routes:
    """
    Return the WebSocket endpoints of the cases.

    Args:
        bench: the cases and the results.
        factory: the server's factory.
    """
    case = bind(CaseProtocol, factory, bench=bench, autoPingInterval=0)
    paths = ("/case/count", "/getCaseCount", "/getCaseInfo", "/getCaseStatus", "/updateReports")
    exact: dict[str, Any] = {path: bind(WalkProtocol, factory, bench=bench, path=path) for path in paths}
    return Routes({**exact, "/runCase": case}, {"/case/": case})
