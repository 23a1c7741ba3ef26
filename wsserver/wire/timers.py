"""
Timers that do not follow the system clock.

Twisted's reactors schedule calls with `time.time`. When the system clock is set back by an hour, every pending call is
an hour late; when it is set forward, every pending call is due at once (https://github.com/twisted/twisted/issues/2424).

Durations use the reactor's clock, `reactor.seconds()`. Dates, log times and token lifetimes use `time.time()`.
"""

import time
from typing import Any

__all__ = ["use_monotonic_clock"]


def use_monotonic_clock(reactor: Any) -> None:
    """
    Make a reactor measure time with `time.monotonic`, which does not change when the system clock is set.

    Affects everything that schedules calls with this reactor, including Twisted's and Autobahn's own code. Afterwards
    `reactor.seconds()` returns seconds since an arbitrary point, not UNIX time. Calls that are already scheduled keep
    their remaining delay. Calling the function again does nothing.

    Args:
        reactor: any reactor of Twisted's, running or not. Call this in the reactor's thread.
    """
    if reactor.seconds is time.monotonic:
        return
    ahead = time.monotonic() - reactor.seconds()
    reactor.seconds = time.monotonic
    for call in reactor.getDelayedCalls():
        # A scheduled call has its own reference to the clock, which `reset` uses.
        call.seconds = time.monotonic
        call.delay(ahead)
