"""Tests for wsserver/cli/doctor/report.py: what is printed."""

import json

from wsserver.cli.doctor.report import MAX_TEXT, Report, failed, passed, skipped, warned


def lines_of(*steps, secret=""):
    lines = []
    report = Report("ws://h/", secret, lines.append)
    for step in steps:
        report.add(step)
    return lines


def test_a_step_is_one_line_and_its_repair_another():
    assert lines_of(passed("tcp", "open"), warned("tls", "old", "renew it")) == [
        "ok    tcp          open",
        "warn  tls          old",
        "                   do: renew it",
    ]


def test_a_secret_and_any_token_are_hidden():
    [line, fix] = lines_of(failed("token", "hush is wrong", "remove ?token=abc from hush"), secret="hush")
    assert line == "fail  token        [secret] is wrong"
    assert fix.strip() == "do: remove ?token=[secret] from [secret]"
    assert "abc" not in Report("ws://h/ws?token=abc").to_json()


def test_what_the_server_sent_is_printed_as_one_line_without_control_characters():
    [line] = lines_of(skipped("sse", "a\r\nb\x1b[31m" + "x" * 2000))
    assert "a b\\x1b[31mxx" in line
    assert len(line) <= MAX_TEXT + 19


def test_only_a_failure_makes_the_report_fail():
    report = Report("ws://h/")
    for step in (passed("tcp", "a"), warned("tls", "b", "c"), skipped("sse", "d")):
        report.add(step)
    assert json.loads(report.to_json())["ok"] is True
    report.add(failed("idle", "e", "f"))
    assert report.has_failed_at("idle")
    found = json.loads(report.to_json())
    assert (found["ok"], found["server"], len(found["steps"])) == (False, None, 4)
    assert found["steps"][3] == {"step": "idle", "status": "fail", "finding": "e", "fix": "f"}
