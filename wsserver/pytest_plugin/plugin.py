"""
The module that pytest loads: the fixtures, and the report of a failed test.

pytest imports this module in every run in an environment with this package, so it imports the rest only if a test uses
the fixture.
"""

from collections.abc import Generator, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from wsserver.pytest_plugin.server import TestServer

__all__ = ["pytest_runtest_makereport", "wsserver", "wsserver_settings"]

MAX_PROCESSES = 4
"""Maximum number of server processes: one for each set of options that tests have used last."""


@pytest.fixture
def wsserver_settings() -> Mapping[str, Any]:
    """Return the options of the server by name, such as `{"compression": "on"}`; tests may override this fixture."""
    return {}


@pytest.fixture(scope="session")
def _wsserver_processes() -> "Iterator[dict[str, TestServer]]":
    processes: dict[str, TestServer] = {}
    yield processes
    for one in processes.values():
        one.stop()


@pytest.fixture
def wsserver(
    wsserver_settings: Mapping[str, Any],
    _wsserver_processes: "dict[str, TestServer]",
) -> "Iterator[TestServer]":
    """Return a running server without connections, faults and replays; the tests of a session share its process."""
    from wsserver.pytest_plugin.server import TestServer  # noqa: PLC0415 (only if a test needs it)

    key = repr(sorted(wsserver_settings.items()))
    server = _wsserver_processes.pop(key, None)
    if server is not None and not server.is_running:
        server.stop()
        server = None
    if server is None:
        while len(_wsserver_processes) >= MAX_PROCESSES:
            _wsserver_processes.pop(next(iter(_wsserver_processes))).stop()
        server = TestServer(wsserver_settings)
    _wsserver_processes[key] = server
    server.reset()
    yield server
    server.reset()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the connections and the log of the server to the report of a failed test."""
    report = yield
    server: Any = getattr(item, "funcargs", {}).get("wsserver")
    if report.failed and report.when == "call" and server is not None and hasattr(server, "describe"):
        report.sections.append(("wsserver", server.describe()))
    return report
