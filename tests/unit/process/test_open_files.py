"""Tests for wsserver/process/open_files.py: the limit of open files."""

import resource

import pytest

from wsserver.process.open_files import raise_limit


class Limits:
    """Limits of a process, in the place of those of the system."""

    def __init__(self, soft, hard):
        self.now = soft, hard
        self.is_refused = False

    def get(self, kind):
        assert kind == resource.RLIMIT_NOFILE
        return self.now

    def set(self, kind, limits):
        assert kind == resource.RLIMIT_NOFILE
        if self.is_refused:
            raise ValueError("not allowed to raise maximum limit")
        self.now = limits


@pytest.fixture
def limits(monkeypatch):
    limits = Limits(1024, 524_288)
    monkeypatch.setattr(resource, "getrlimit", limits.get)
    monkeypatch.setattr(resource, "setrlimit", limits.set)
    return limits


def test_raises_the_soft_limit_to_the_hard_limit(limits, lines):
    raise_limit()
    assert limits.now == (524_288, 524_288)
    assert lines == ["limit of open files raised limit=524288 before=1024"]


def test_logs_nothing_if_the_limits_are_equal(limits, lines):
    limits.now = 1024, 1024
    raise_limit()
    assert limits.now == (1024, 1024)
    assert lines == []


def test_keeps_the_soft_limit_if_the_system_does_not_permit_the_hard_one(limits, lines):
    limits.is_refused = True
    raise_limit()
    assert limits.now == (1024, 524_288)
    assert lines == []
