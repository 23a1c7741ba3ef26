"""Wait for a condition, with a limit that only a failing test reaches."""

import time
from collections.abc import Callable

__all__ = ["TIMEOUT", "wait_until"]

TIMEOUT = 30.0
"""Maximum seconds to wait for an expected event. Tests do not measure it."""


def wait_until(condition: Callable[[], object], what: str | Callable[[], str], timeout: float = TIMEOUT) -> None:
    """
    Wait until a condition is true; fail after a time.

    Args:
        condition: called repeatedly, until it returns a true value.
        what: the condition in words, for the failure message; a function if they are known only after waiting.
        timeout: maximum seconds to wait.
    """
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f"after {timeout:g} s still not: {what() if callable(what) else what}"
        time.sleep(0.01)
