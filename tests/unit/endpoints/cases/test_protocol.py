"""`/case/...` on a server without sockets."""

import json

import pytest

from wsserver.config.settings import Settings
from wsserver.endpoints.cases.catalog import CASES
from wsserver.endpoints.cases.protocol import MAX_DURATION, MAX_RUNNING
from wsserver.endpoints.cases.results import Verdict
from wsserver.errors import SettingError
from wsserver.testing import MemoryServer

DEFLATE = {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"}


@pytest.fixture
def server():
    return MemoryServer(Settings(cases=True))


def run(server, path, headers=None):
    client = server.connect()
    head = client.open(path, headers or {})
    return client, head


def find_result(server, agent, name):
    return server.service.bench.reports.find(agent).results[name]


class RunTests:
    """`/case/{n}`."""

    def test_runs_a_case_and_closes(self, server):
        client, head = run(server, "/case/framing.text-125?agent=me")
        assert head.startswith(b"HTTP/1.1 101 ")
        (message,) = client.messages()
        client.send_text(message)
        assert client.close_frame() == (1000, "")
        client.send_close(1000)
        assert client.transport.lost
        assert find_result(server, "me", "framing.text-125").verdict is Verdict.PASS
        server.clock.advance(60)
        assert server.clock.getDelayedCalls() == []

    def test_sends_a_chopped_message_in_pieces(self, server):
        client, _ = run(server, "/case/framing.chopped-bytes?agent=me")
        assert len(client.transport.written) == 1
        for _ in range(100):
            server.clock.advance(0.001)
        assert client.messages() == ["*" * 60]

    @pytest.mark.parametrize("path", ["/case/1", "/case/framing.text-0", "/case/1/", "/runCase?case=1"])
    def test_finds_a_case_by_number_and_by_id(self, server, path):
        client, _ = run(server, path, {"User-Agent": "the client"})
        client.transport.lose()
        assert find_result(server, "the client", "framing.text-0").verdict is Verdict.FAIL

    @pytest.mark.parametrize(
        "path", ["/case/0", "/case/10000", "/case/x", "/case/%C2%B2", "/runCase", "/getCaseInfo?case=0"]
    )
    def test_refuses_an_unknown_case_with_404(self, server, path):
        client, head = run(server, path)
        assert head.startswith(b"HTTP/1.1 404 ")
        assert b"expected a number from 1 to" in client.transport.written

    def test_drops_a_client_that_only_sends_pings(self, server):
        client, _ = run(server, "/case/framing.text-0?agent=me")
        for _ in range(int(MAX_DURATION) + 1):
            if not client.transport.lost:
                client.send_frame(9, b"?")
                server.clock.advance(1)
        assert client.transport.lost
        server.clock.advance(60)
        assert server.clock.getDelayedCalls() == []

    def test_refuses_more_cases_at_a_time_than_the_limit_with_503(self, server):
        clients = [run(server, "/case/1")[0] for _ in range(MAX_RUNNING)]
        assert run(server, "/case/1")[1].startswith(b"HTTP/1.1 503 ")
        assert server.service.connections.counters.limits["running_cases"] == 1
        clients[0].transport.lose()
        assert run(server, "/case/1")[1].startswith(b"HTTP/1.1 101 ")

    def test_closes_running_cases_when_the_server_stops(self, server):
        client, _ = run(server, "/case/framing.text-0?agent=me")
        server.service.connections.drain()
        server.clock.advance(10)
        assert client.transport.lost
        assert server.service.bench.reports.find("me") is None


class CompressionTests:
    """Cases of permessage-deflate, which do not need `--compression`."""

    def test_negotiates_the_parameters_of_the_case(self, server):
        client, head = run(server, "/case/compression.client-bits-9", DEFLATE)
        assert b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=9" in head
        assert client.frames()[0].rsv == 4

    @pytest.mark.parametrize(
        ("offer", "answer"),
        [
            (
                "server_no_context_takeover; client_no_context_takeover",
                b"server_no_context_takeover; client_no_context_takeover",
            ),
            ("server_max_window_bits=10; client_max_window_bits=9", b"server_max_window_bits=10"),
        ],
    )
    def test_includes_the_parameters_that_the_offer_demands(self, server, offer, answer):
        _, head = run(server, "/case/compression.text", {"Sec-WebSocket-Extensions": f"permessage-deflate; {offer}"})
        assert b"Sec-WebSocket-Extensions: permessage-deflate; " + answer + b"\r\n" in head + b"\r\n"

    @pytest.mark.parametrize(
        ("headers", "reason"),
        [
            ({}, "the client does not offer permessage-deflate"),
            ({"Sec-WebSocket-Extensions": "permessage-deflate"}, "the client does not offer client_max_window_bits"),
        ],
    )
    def test_a_client_that_does_not_offer_what_the_case_needs_is_not_tested(self, server, headers, reason):
        client, head = run(server, "/case/compression.client-bits-9?agent=me", headers)
        assert b"Sec-WebSocket-Extensions" not in head
        result = find_result(server, "me", "compression.client-bits-9")
        assert (result.verdict, result.is_tested, result.reason) == (Verdict.INFORMATIONAL, False, reason)
        assert client.close_frame() == (1000, "")
        assert client.transport.lost


class HandshakeTests:
    """Cases of the response to the opening handshake."""

    @pytest.mark.parametrize("case", [case for case in CASES if case.head], ids=lambda case: case.id)
    def test_changes_the_response(self, server, case):
        _, head = run(server, f"/case/{case.id}")
        assert case.head.new.encode().strip() in head + b"\r\n"


class WalkTests:
    """The paths for a client that runs all cases by itself."""

    @pytest.mark.parametrize("path", ["/case/count", "/getCaseCount"])
    def test_sends_the_number_of_cases(self, server, path):
        client, _ = run(server, path)
        assert client.messages() == [str(len(CASES))]

    def test_describes_a_case_and_its_verdict_as_autobahn_does(self, server):
        client, _ = run(server, "/getCaseInfo?case=3")
        (text,) = client.messages()
        assert json.loads(text)["id"] == CASES[2].id
        assert self.status(server) == "MISSING"
        run(server, "/runCase?case=1&agent=me")[0].transport.lose()
        assert self.status(server) == "FAILED"
        assert run(server, "/updateReports?agent=me")[0].close_frame() == (1000, "")

    def status(self, server):
        client, _ = run(server, "/getCaseStatus?case=1&agent=me")
        (text,) = client.messages()
        return json.loads(text)["behavior"]


class OptionTests:
    """`--cases`."""

    @pytest.mark.parametrize("path", ["/case/1", "/case", "/case/count", "/runCase?case=1", "/getCaseCount"])
    def test_without_it_the_paths_are_refused_with_404(self, path):
        client, head = run(MemoryServer(Settings(catch_all="on")), path)
        assert head.startswith(b"HTTP/1.1 404 ")
        assert b"--cases" in client.transport.written

    def test_needs_a_single_process(self):
        with pytest.raises(SettingError, match="--cases: expected --workers 1"):
            Settings(cases=True, workers=2)
