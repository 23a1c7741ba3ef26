"""Tests for wsserver/listening/ports.py: the system's limit of the backlog. The rest is tested with real sockets."""

import pytest
from twisted.logger import formatEvent

from wsserver.listening import ports


@pytest.fixture
def check(tmp_path, monkeypatch, logged):
    """Return a function that checks the backlog with a system limit, and returns the log lines."""

    def check(text):
        (tmp_path / "somaxconn").write_text(text)
        monkeypatch.setattr(ports, "_SOMAXCONN", tmp_path / "somaxconn")
        ports._check_system_limit.cache_clear()
        ports._check_system_limit()
        ports._check_system_limit()
        return [formatEvent(event) for event in logged]

    yield check
    ports._check_system_limit.cache_clear()


def test_warns_once_if_the_system_reduces_the_backlog(check):
    assert check("128\n") == ["backlog reduced limit=128 wanted=4096; see sysctl net.core.somaxconn"]


@pytest.mark.parametrize("text", ["4096\n", "65535\n", "nonsense"])
def test_does_not_warn_otherwise(check, text):
    assert check(text) == []


def test_does_not_warn_on_systems_without_the_limit(check, tmp_path, monkeypatch):
    monkeypatch.setattr(ports, "_SOMAXCONN", tmp_path / "missing")
    ports._check_system_limit.cache_clear()
    ports._check_system_limit()
