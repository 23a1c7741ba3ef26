"""Tests for wsserver/cli/conformance: the command line and the summary."""

import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from waiting import TIMEOUT, wait_until

from wsserver.cli.conformance.programs import Ended, Programs
from wsserver.cli.conformance.summary import describe_notes, summarize
from wsserver.cli.main import main
from wsserver.endpoints.cases.catalog import select_cases
from wsserver.endpoints.cases.reports import Report
from wsserver.endpoints.cases.results import Result, Verdict


class CommandLineTests:
    """The arguments of `wsserver conformance`."""

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--", "node", "client.js"], "expected a command with {url}, {server} or {page}"),
            (["--", "x", "{url}", "{ca}"], "{ca} needs --tls"),
            ([], "expected a command with {url}, {server} or {page}"),
            (["--cases", "nothing", "--", "x", "{url}"], "no case matches nothing: expected a topic (framing, "),
            (["--timeout", "0", "--", "x", "{url}"], "expected a number from 0.1 to 300, not '0'"),
            (["--jobs", "x", "--", "x", "{url}"], "expected a number from 1 to 32, not 'x'"),
        ],
    )
    def test_a_wrong_command_line_is_status_2(self, words, message, capsys):
        with pytest.raises(SystemExit) as stopped:
            main(["conformance", *words])
        assert stopped.value.code == 2
        assert message in capsys.readouterr().err

    def test_lists_the_cases(self, capsys):
        main(["conformance", "--list", "--cases", "pings"])
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 11
        shown = "1 pings.empty RFC 6455 section 5.5.2 A ping without a payload: answer the ping with its payload"
        assert " ".join(lines[0].split()) == shown


class ProgramsTests:
    """The clients that are started."""

    def test_the_end_of_the_output_is_kept_without_control_characters(self):
        code = "print('x' * 5000 + '\\x1b[1mlast'); raise SystemExit(3)"
        ended = Programs().run("name", [sys.executable, "-c", code], 30)
        assert ended.status == 3
        assert len(ended.output) < 2100
        assert ended.output.endswith("x\\x1b[1mlast")

    def test_after_the_stop_none_is_started(self, tmp_path):
        programs, file = Programs(), tmp_path / "started"
        programs.stop()
        assert programs.run("name", ["touch", str(file)], 30) == Ended(-signal.SIGKILL, "")
        assert not file.exists()

    def test_a_program_is_killed_with_its_children(self, tmp_path):
        programs, file = Programs(), tmp_path / "child"
        command = ["sh", "-c", f"sleep 600 & echo $! > {file}.new; mv {file}.new {file}; wait"]
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(programs.run, "name", command, 600)
            wait_until(file.exists, "the child")
            programs.kill("name")
            assert running.result(TIMEOUT).status == -signal.SIGKILL
        wait_until(lambda: not is_running(int(file.read_text())), "the end of the child")

    def test_a_program_that_takes_too_long_is_killed(self):
        assert Programs().run("name", ["sleep", "600"], 0.1).status == -signal.SIGKILL


def is_running(pid):
    """Return whether a process runs; one that has ended, and for which nothing has waited, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_the_summary_shows_what_has_not_passed_and_counts():
    cases = select_cases(["pings"])
    report = Report("client", 0.0)
    for result in (
        Result("pings.empty", Verdict.PASS, "as expected"),
        Result("pings.text", Verdict.FAIL, "the client did not answer"),
        Result("pings.binary", Verdict.INFORMATIONAL, "the client closed with 1000; expected 1002"),
        Result("pings.ten", Verdict.INFORMATIONAL, "the client does not offer it", is_tested=False),
    ):
        report.results[result.case] = result
    lines = summarize(report, cases, {"pings.same": "the client ended with status 3:\noh"}).splitlines()
    assert lines[:3] == [
        "FAILED   pings.text: the client did not answer",
        "         A ping with a payload (RFC 6455 section 5.5.2): the client must answer the ping with its payload",
        "note     pings.binary: the client closed with 1000; expected 1002",
    ]
    assert lines[-1] == "11 cases: 1 passed, 1 informational, 1 failed, 1 not tested, 7 not run"
    at = lines.index("NOT RUN  pings.same")
    assert lines[at + 1 : at + 3] == ["         the client ended with status 3:", "         oh"]


def test_notes_become_one_line():
    assert describe_notes({}) == ""
    assert describe_notes({"": "a:\nb"}) == "; a: | b"
