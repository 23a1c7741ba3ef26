"""Call a function once the reactor has been punctual for some time."""

from collections.abc import Callable
from typing import Any, Final

__all__ = ["MAX_FACTOR", "STEPS", "call_when_punctual"]

STEPS: Final = 10
"""Number of steps into which the time is divided."""

MAX_FACTOR: Final = 5
"""The function is called after this multiple of the time, even if the reactor never keeps up."""


def call_when_punctual(reactor: Any, seconds: float, function: Callable[[], object]) -> None:
    """
    Call a function once the reactor has kept up with its work for some time.

    If the processor is busy, or the system does not let the process run, a timer may be due before the reactor has read
    what arrived long ago. So the time is divided into steps, and begins again after each step that was late.

    Args:
        reactor: the reactor.
        seconds: the time.
        function: the function to call.
    """
    interval = seconds / STEPS
    limit = reactor.seconds() + MAX_FACTOR * seconds

    def step(punctual: int, due: float) -> None:
        now = reactor.seconds()
        punctual = punctual + 1 if now - due < interval else 0
        if punctual >= STEPS or now >= limit:
            function()
        else:
            reactor.callLater(interval, step, punctual, now + interval)

    reactor.callLater(interval, step, 0, reactor.seconds() + interval)
