"""
Fixtures for the tests of the threats T1 to T36, one module for each.

The quick set takes a few seconds a row. `THREATS=full` runs all tests with their full load. The figures are written to
`summary.json` in the directory THREATS_OUT, if it is set.
"""

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cores import CLIENT_CORE, place, preferred_session
from figures import Figures
from threat_server import ThreatServer

FULL = os.environ.get("THREATS") == "full"
_rows: dict[str, list[dict[str, Any]]] = {}


def pytest_configure(config: pytest.Config) -> None:
    """Run this process, and with it the attackers, on the core of the clients."""
    config.addinivalue_line("markers", "full: a test that only `make threats` runs")
    config.addinivalue_line("markers", "waits: a test that mostly waits; `make threats-quick` runs it beside others")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests that only `make threats` runs."""
    if FULL:
        return
    left_out = [item for item in items if item.get_closest_marker("full")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session", autouse=True)
def session() -> Iterator[None]:
    """Prefer these tests to the other programs of the machine, if the system permits it."""
    with preferred_session():
        yield


@pytest.fixture(autouse=True)
def clients_core() -> Iterator[None]:
    """Run this process, and with it the attackers, on the core of the clients."""
    before = os.sched_getaffinity(0)
    place(CLIENT_CORE)
    yield
    os.sched_setaffinity(0, before)


@pytest.fixture(scope="session")
def full() -> bool:
    """Whether the full load is wanted."""
    return FULL


@pytest.fixture
def figures() -> Figures:
    """Return the record of this test's figures."""
    return Figures()


def _starter(directory: Path) -> Iterator[Callable[..., ThreatServer]]:
    servers: list[ThreatServer] = []

    def start(*options: str, **more: Any) -> ThreatServer:
        place = directory / f"server-{len(servers)}"
        place.mkdir()
        servers.append(ThreatServer(place, *options, **more))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
    for server in servers:
        assert "Traceback" not in server.log(), server.log()[-3000:]


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., ThreatServer]]:
    """Return a function that starts servers with given options; they are killed after the test."""
    yield from _starter(tmp_path)


@pytest.fixture(scope="module")
def start_module_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., ThreatServer]]:
    """Return a function that starts servers with given options; they are killed after the module."""
    yield from _starter(tmp_path_factory.mktemp("servers"))


@pytest.fixture
def server(start_server: Callable[..., ThreatServer]) -> ThreatServer:
    """Start a server with a message limit of 64 KiB; its other options are the defaults."""
    return start_server()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Keep the result of each test for the summary."""
    outcome = yield
    report = outcome.get_result()
    if report.when != "call" and not report.failed:
        return
    row = re.match(r"test_t(\d+)_", item.path.name)
    figures = item.funcargs.get("figures")
    _rows.setdefault(f"T{int(row[1])}" if row else "all", []).append(
        {
            "test": item.nodeid,
            "promise": (item.function.__doc__ or "").strip().partition("\n")[0],
            "passed": report.passed,
            "seconds": round(report.duration, 1),
            "figures": figures.as_json() if figures else [],
        }
    )


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the summary."""
    out = os.environ.get("THREATS_OUT")
    if not out:
        return
    path = Path(out) / "summary.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = dict(sorted(_rows.items(), key=lambda row: int(row[0].removeprefix("T")) if row[0] != "all" else 99))
    document = {"full": FULL, "time": time.strftime("%Y-%m-%d"), "rows": rows}
    path.write_text(json.dumps(document, indent=1) + "\n")
