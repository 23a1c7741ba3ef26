"""Tests for wsserver/process/supervisor.py: how many workers it starts."""

import os

import pytest

from wsserver.config.settings import Settings
from wsserver.errors import SettingError
from wsserver.process import supervisor
from wsserver.process.supervisor import count_workers
from wsserver.service import WebSocketService


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Return a function that sets the cores and the CPU limit of the container."""

    def machine(cores, limit=None):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
        monkeypatch.setattr(supervisor, "_CPU_LIMIT", tmp_path / "cpu.max")
        if limit is not None:
            (tmp_path / "cpu.max").write_text(limit + "\n")

    return machine


def test_starts_as_many_workers_as_the_option_says(machine):
    machine(8)
    assert count_workers(Settings(workers=3)) == 3


@pytest.mark.parametrize(
    ("cores", "limit", "count"),
    [(8, None, 8), (8, "max 100000", 8), (8, "200000 100000", 2), (8, "150000 100000", 2), (2, "50000 100000", 1)],
)
def test_auto_is_one_worker_for_each_core_that_the_process_may_use(machine, cores, limit, count):
    machine(cores, limit)
    assert count_workers(Settings(workers="auto")) == count


def test_an_application_that_embeds_the_server_cannot_start_workers(machine):
    with pytest.raises(SettingError, match="--workers: expected 1: only twistd wsserver and wsserver serve"):
        WebSocketService(Settings(workers=2), None)
