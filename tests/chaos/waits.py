"""Wait for subscribers."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from accounts import Disconnected, Log

__all__ = ["TIMEOUT", "is_away", "lacks", "wait_until"]

TIMEOUT = 30.0
"""Seconds to wait until the last publications have reached every subscriber."""


def is_away(log: Log) -> bool:
    """Return whether a subscriber is disconnected."""
    return not log.events or isinstance(log.events[-1], Disconnected)


def lacks(log: Log, markers: Sequence[int]) -> bool:
    """Return whether a subscriber has not received the last publications."""
    return not {getattr(event, "number", 0) for event in log.events[-50:]}.issuperset(markers)


async def wait_until(condition: Callable[[], bool]) -> None:
    """
    Wait for a condition, at most `TIMEOUT` seconds.

    If it is still false then, the checker finds the consequences.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(TIMEOUT):
            while not condition():  # noqa: ASYNC110 (there is no event to wait for)
                await asyncio.sleep(0.1)
