"""The pages of the conformance cases."""

import json
from xml.etree import ElementTree as ET

import pytest

from wsserver.config.settings import Settings
from wsserver.endpoints.cases.catalog import CASES
from wsserver.testing import MemoryServer

HTML = {"Accept": "text/html,*/*"}
EVIL = "<script>alert(1)</script>"


@pytest.fixture
def server():
    return MemoryServer(Settings(cases=True))


def fetch(server, target, headers=None, method="GET"):
    client = server.connect()
    lines = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    client.send(f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n".encode())
    head = client.response().decode()
    return int(head.split()[1]), head, client.transport.written.decode()


def fail_a_case(server, agent):
    client = server.connect()
    client.open("/case/1", {"User-Agent": agent})
    client.transport.lose()


class ListTests:
    """`/case`, `/case/count` and `/case/{n}`."""

    def test_lists_the_cases_as_json(self, server):
        status, head, body = fetch(server, "/case")
        assert status == 200
        assert "application/json" in head
        document = json.loads(body)
        assert document["count"] == len(document["cases"]) == len(CASES)
        assert document["cases"][0] == {
            "number": 1,
            "topic": "framing",
            "case": "framing.text-0",
            "title": "A text message of 0 bytes",
            "section": "RFC 6455 section 5.2",
            "must": "echo the message",
        }

    def test_lists_the_cases_as_a_page_for_browsers(self, server):
        status, head, body = fetch(server, "/case", HTML)
        assert status == 200
        assert "Content-Security-Policy" in head
        assert body.count("<tr>") == len(CASES) + 1

    def test_counts_the_cases(self, server):
        assert json.loads(fetch(server, "/case/count")[2]) == {"count": len(CASES)}
        assert fetch(server, "/case/count", HTML)[2] == f"{len(CASES)}\n"

    @pytest.mark.parametrize("path", ["/case/1", "/case/framing.text-0"])
    def test_describes_a_case(self, server, path):
        assert json.loads(fetch(server, path)[2])["case"] == "framing.text-0"
        assert "framing.text-0" in fetch(server, path, HTML)[2]

    def test_answers_get_and_head_only(self, server):
        assert fetch(server, "/case", method="HEAD")[2] == ""
        assert fetch(server, "/case", {"Content-Length": "0"}, method="POST")[0] == 405


class ReportTests:
    """`/case/report`."""

    def test_lists_the_clients(self, server):
        assert json.loads(fetch(server, "/case/report")[2]) == {"agents": []}
        assert "No client" in fetch(server, "/case/report", HTML)[2]
        fail_a_case(server, "one")
        (agent,) = json.loads(fetch(server, "/case/report")[2])["agents"]
        assert agent == {"agent": "one", "counts": {"pass": 0, "informational": 0, "fail": 1}}

    def test_returns_all_cases_with_their_verdicts_as_json(self, server):
        fail_a_case(server, "one")
        document = json.loads(fetch(server, "/case/report?agent=one")[2])
        first, second, *_ = document["cases"]
        assert first["verdict"] == "fail"
        assert [frame["frame"] for frame in first["frames"]] == ["text"]
        assert second["verdict"] is None
        assert len(document["cases"]) == len(CASES)

    def test_returns_junit_xml(self, server):
        fail_a_case(server, "one")
        _, head, body = fetch(server, "/case/report?agent=one&format=junit")
        assert "application/xml" in head
        assert sum(int(suite.get("tests")) for suite in ET.fromstring(body)) == len(CASES)

    @pytest.mark.parametrize(
        "target", ["/case/report", "/case/report?agent=%3Cscript%3Ealert(1)%3C/script%3E", "/case"]
    )
    def test_escapes_the_name_of_a_client(self, server, target):
        fail_a_case(server, EVIL)
        status, _, body = fetch(server, target, HTML)
        assert status == 200
        assert EVIL not in body
        assert "&lt;script&gt;" in body

    def test_the_page_of_a_report_begins_with_the_failed_cases(self, server):
        client = server.connect()
        client.open("/case/text.nul?agent=one")
        client.transport.lose()
        body = fetch(server, "/case/report?agent=one", HTML)[2]
        assert "text.nul" in body.partition("<tbody>")[2].partition("</tr>")[0]

    def test_an_unknown_client_is_404(self, server):
        assert fetch(server, "/case/report?agent=nobody")[0] == 404


@pytest.mark.parametrize("path", ["/case", "/case/count", "/case/report"])
def test_without_the_option_the_pages_are_404_and_name_it(path):
    status, _, body = fetch(MemoryServer(), path)
    assert status == 404
    assert "--cases" in body
