"""Tests for wsserver/process/exit.py: error messages of programs of the command line."""

import io
import sys

import pytest

from wsserver.process.exit import complain, die


def test_an_error_is_one_line_without_control_characters(capsys):
    complain("a\nb\x1b[31m")
    assert capsys.readouterr() == ("", "wsserver: a\\nb\\x1b[31m\n")


def test_die_prints_the_error_and_exits_with_1(capsys):
    with pytest.raises(SystemExit) as caught:
        die("wrong")
    assert caught.value.code == 1
    assert capsys.readouterr() == ("", "wsserver: wrong\n")


def test_an_error_goes_to_the_terminal_if_standard_error_is_a_log(capsys, monkeypatch):
    terminal = io.StringIO()
    monkeypatch.setattr(sys, "stderr", object())
    monkeypatch.setattr(sys, "__stderr__", terminal)
    complain("wrong")
    assert terminal.getvalue() == "wsserver: wrong\n"


def test_an_error_never_goes_to_standard_output(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.setattr(sys, "__stderr__", None)
    complain("wrong")
    assert capsys.readouterr().out == ""
