"""Fixtures for the tests of connections."""

from collections.abc import Iterator

import pytest
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python.failure import Failure


@pytest.fixture
def failures() -> Iterator[list[Failure]]:
    """Collect the failures logged during the test; an assertion that fails in a callback is one of them."""
    logged: list[Failure] = []

    def observe(event: LogEvent) -> None:
        # Twisted's older functions, such as `log.err`, use the second key.
        failure = event.get("log_failure") or event.get("failure")
        if failure is not None:
            logged.append(failure)

    globalLogPublisher.addObserver(observe)
    yield logged
    globalLogPublisher.removeObserver(observe)
