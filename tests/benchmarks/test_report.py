"""The report of the benchmark: whether the goals are reached, and where another server is ahead."""

import importlib
import sys
from unittest import mock

import pytest
from paths import ROOT

NAMES = ("goals", "peers", "report", "rows")


@pytest.fixture
def report():
    """Import the report. Its folder has modules with the same names as tests/support."""
    with mock.patch.dict(sys.modules), mock.patch.object(sys, "path", [str(ROOT / "benchmarks"), *sys.path]):
        for name in NAMES:
            sys.modules.pop(name, None)
        yield importlib.import_module("report")


def judge(report, goal, figures, **row):
    """
    Judge a goal.

    Args:
        report: the module.
        goal: the arguments of the goal.
        figures: name of a row -> name of a server -> its figures in one round.
        row: further arguments of the row.
    """
    result = {"rows": {name: {server: [found] for server, found in row.items()} for name, row in figures.items()}}
    return report.judged(result, report.Row("echo", "work", (), **row), report.Goal(**goal))


def rates(rate, cpu_us, busy=0.5):
    """Return the figures of one round."""
    return {"rate": rate, "cpu_us": cpu_us, "load_busy": busy}


@pytest.mark.parametrize(
    ("ours", "reached"),
    [
        (rates(100, 10), True),
        (rates(99, 10), False),
        (rates(100, 10.1), False),
        (rates(99, 10, busy=0.95), True),
        (rates(99, 10.1, busy=0.95), False),
    ],
    ids=["both", "lower rate", "more CPU time", "load generator is the bottleneck", "bottleneck and more CPU time"],
)
def test_a_goal_for_a_rate_needs_the_cpu_time_too(report, ours, reached):
    figures = {"echo": {"wsserver": ours, "gorilla": rates(100, 10)}}
    assert judge(report, {"factor": 1.0, "of": "gorilla"}, figures)[1] is reached


def test_divides_the_cpu_time_by_the_factor(report):
    figures = {"echo": {"wsserver": rates(140, 10), "gorilla": rates(100, 14)}}
    assert judge(report, {"factor": 1.4, "of": "gorilla"}, figures)[1]
    figures["echo"]["wsserver"] = rates(140, 10.1)
    assert not judge(report, {"factor": 1.4, "of": "gorilla"}, figures)[1]


def test_compares_with_the_best_other_server(report):
    figures = {"echo": {"wsserver": rates(100, 10), "gorilla": rates(90, 11), "ws": rates(101, 20)}}
    text, reached = judge(report, {"factor": 1.0}, figures)
    assert text == "1 x best other: **no** (0.99; CPU 0.50)"
    assert reached is False


def test_compares_with_another_row(report):
    figures = {"echo": {"wsserver": rates(50, 20)}, "other": {"wsserver": rates(100, 10)}}
    assert judge(report, {"factor": 0.5, "of": "other"}, figures) == ("0.5 x other: **yes** (0.50; CPU 2.00)", True)


def test_adds_a_constant_to_another_servers_figure(report):
    figures = {"echo": {"wsserver": {"p99_us": 350}, "gorilla": {"p99_us": 250}}}
    goal = {"factor": 1.0, "of": "gorilla", "plus": 100}
    row = {"figure": "p99_us", "unit": " µs", "less_is_better": True}
    assert judge(report, goal, figures, **row) == ("1 x gorilla + 100 µs: **yes** (1.40)", True)


def test_compares_a_figure_other_than_the_rows(report):
    figures = {"echo": {"wsserver": rates(100, 35)}}
    goal = {"factor": 34, "of": "fixed", "figure": "cpu_us", "unit": " µs"}
    assert judge(report, goal, figures) == ("≤ 34.0 µs: **no**", False)


def test_does_not_judge_without_the_other_figure(report):
    figures = {"echo": {"wsserver": rates(100, 10)}}
    assert judge(report, {"factor": 1.0, "of": "centrifugo"}, figures) == ("1 x centrifugo", None)


def test_marks_a_row_in_which_the_load_generator_is_the_bottleneck(report):
    result = {"rows": {"echo": {"wsserver": [rates(100, 10, busy=0.97)], "gorilla": [rates(100, 10)]}}}
    row = next(row for row in report.ROWS if row.name == "echo")
    lines = report.detail(result, row).splitlines()
    assert [line for line in lines if "97 % (bottleneck)" in line] == [line for line in lines if "wsserver" in line]


@pytest.mark.parametrize(
    ("ours", "cells"),
    [
        (rates(200, 5), ["Bun 100/s", "10.0 µs", "2.00"]),
        (rates(50, 20), ["**Bun 100/s**", "**10.0 µs**", "**0.50**"]),
        (rates(200, 20), ["Bun 100/s", "**10.0 µs**", "2.00"]),
        (rates(50, 5, busy=0.97), ["Bun 100/s", "10.0 µs", "0.50"]),
    ],
    ids=["behind", "ahead", "ahead in CPU time", "load generator is the bottleneck"],
)
def test_prints_the_figures_in_bold_in_which_the_best_other_server_is_ahead(report, ours, cells):
    result = {"rows": {"echo": {"wsserver": [ours], "bun": [rates(100, 10)], "gorilla": [rates(80, 5)]}}}
    assert report.best_cells(result, report.Row("echo", "work", ())) == cells


def test_less_memory_is_ahead(report):
    result = {"rows": {"memory": {"wsserver": [{"kilobytes": 2.5}], "bun": [{"kilobytes": 2.4}]}}}
    row = report.Row("memory", "work", (), figure="kilobytes", unit=" kB", less_is_better=True)
    assert report.best_cells(result, row) == ["**Bun 2.40 kB**", "", "**1.04**"]


def test_leaves_the_cells_empty_if_no_other_server_was_measured(report):
    result = {"rows": {"echo": {"wsserver": [rates(100, 10)]}}}
    assert report.best_cells(result, report.Row("echo", "work", ())) == ["", "", ""]


def test_each_row_compares_with_known_rows_and_servers(report):
    names = [row.name for row in report.ROWS]
    assert len(names) == len(set(names))
    goals = [goal for row in report.ROWS for goal in (*row.must, *row.aim)]
    known = {*names, *report.BY_NAME, "best", "limit", "fixed"}
    assert {goal.of for goal in goals} <= known
    for index, row in enumerate(report.ROWS):
        assert not row.shares or row.shares in names[:index], row.name
