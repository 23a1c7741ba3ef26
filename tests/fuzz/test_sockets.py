"""The fuzzers of `make fuzz-sockets`, for a few seconds each; and what their oracle notices."""

import random
import re

import fuzz_heads
import pytest
import sockets
from fuzz_commands import json_messages, protobuf_messages
from holdings import Holdings
from socket_findings import Findings


def test_all_fuzzers_together_find_no_traceback_hang_or_leak(tmp_path):
    """In a few seconds; `make fuzz-sockets` runs each for ten minutes."""
    with sockets.serving(tmp_path) as served:
        result = sockets.fuzz(list(sockets.FUZZERS), 2.0, 1, served, warm_up=0.5)
    assert result.complaints == []
    assert result.figures["outcomes"].keys() >= {"400", "1002", "3501", "requests"}
    assert result.figures["echoes"] > 0


class InputTests:
    """The input is both accepted and refused; otherwise a fuzzer would test little."""

    def test_heads_contain_handshakes_api_calls_and_hidden_requests(self):
        rng = random.Random(1)
        inputs = [fuzz_heads.make_input(rng) for _ in range(500)]
        assert len([data for data, hides in inputs if hides]) > 50
        assert len([data for data, _ in inputs if re.match(rb"GET /\S* HTTP/1.1\r\n", data)]) > 10
        assert len({data for data, _ in inputs}) > 400

    def test_every_hidden_request_is_whole(self):
        assert all(fuzz_heads.HIDDEN in body for _, body in fuzz_heads.SHAPES)

    def test_commands_are_made_for_both_forms(self):
        rng = random.Random(1)
        assert b'"subscribe"' in b"".join(message for _ in range(50) for message in json_messages(rng))
        assert len({message for _ in range(50) for message in protobuf_messages(rng)}) > 50


class OracleTests:
    """What a fuzzer reports as found."""

    @pytest.mark.parametrize(
        ("answer", "is_whole", "hides", "complaint"),
        [
            (b"hello", True, False, "the answer is not HTTP"),
            (b"HTTP/1.1 500 Internal Server Error\r\n\r\n", True, False, "the answer is 500"),
            (b"HTTP/1.1 200 OK\r\n\r\n{}HTTP/1.1 200 OK\r\n\r\nalive\n", True, True, "the hidden request was answered"),
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", False, False, "the connection was not ended"),
            (b"", True, False, "a whole head got no answer"),
        ],
    )
    def test_complains_of_an_answer(self, answer, is_whole, hides, complaint):
        findings = Findings()
        fuzz_heads._judge(findings, b"GET / HTTP/1.1\r\n\r\n", answer, is_whole=is_whole, hides=hides)
        assert [one.startswith(complaint) for one in findings.complaints] == [True]

    def test_accepts_a_refusal(self):
        findings = Findings()
        answer = b"HTTP/1.1 400 Bad Request\r\n\r\n"
        fuzz_heads._judge(findings, b"GET / HTTP/1.1\r\n\r\n", answer, is_whole=True, hides=True)
        assert (findings.complaints, findings.outcomes) == ([], {"400": 1})

    def test_complains_of_a_traceback_and_of_a_server_that_has_ended(self, tmp_path):
        class Ended:
            returncode = -11

            def poll(self):
                return self.returncode

        log = tmp_path / "log"
        log.write_text("one\nTraceback (most recent call last):\n")
        complaints = list(sockets.Served(Ended(), 1, tmp_path, log).complain())
        assert complaints[0] == "the server ended with status -11"
        assert complaints[1].startswith("the log contains Traceback")

    @pytest.mark.parametrize(("count", "is_kept"), [(16, True), (17, False)])
    def test_objects_are_kept_in_a_limited_number(self, count, is_kept):
        base, now = Holdings(0, 0, 0, {"_Queue": 3}), Holdings(0, 0, 0, {"_Queue": count})
        assert sockets.is_kept(f"objects of _Queue: 3 -> {count}", base, now) is is_kept

    @pytest.mark.parametrize("complaint", ["descriptors: 9 -> 10", "objects of Frontend: 0 -> 3", "memory: 1 -> 2 KiB"])
    def test_anything_else_is_a_leak(self, complaint):
        assert not sockets.is_kept(complaint, Holdings(1, 9, 0, {}), Holdings(2, 10, 0, {"Frontend": 3}))
