"""Fixtures for unit tests."""

from collections.abc import Iterator

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent, globalLogPublisher


@pytest.fixture
def clock() -> Clock:
    """Make a reactor whose time the test advances, from 0."""
    return Clock()


@pytest.fixture
def logged() -> Iterator[list[LogEvent]]:
    """Collect the log events of the test."""
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)


@pytest.fixture
def lines() -> Iterator[list[str | None]]:
    """Collect the texts of the test's log events as they are logged."""
    found: list[str | None] = []

    def observe(event: LogEvent) -> None:
        found.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield found
    globalLogPublisher.removeObserver(observe)
