"""
Signals of a server process: each one stops the server gracefully, reloads its options, rotates its log, or is ignored.

The first SIGINT or SIGTERM drains the server. The second one ends it: it drops the remaining connections, and the
process ends by that signal, as after the first one, at the latest `END_WITHIN` seconds later. A third one ends the
process immediately. A signal less than `SAME` seconds after the first one counts as the same: Ctrl-C reaches the server
from the terminal, and often a second time from the program that started it.
"""

import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from twisted.logger import Logger

from wsserver.process.exit import die_by

__all__ = ["END_WITHIN", "SAME", "handle_signals"]

_log = Logger(namespace="wsserver")

END_WITHIN = 1.0
"""Seconds after the second signal at which the process ends, even if a part of the server has not stopped."""

SAME = 0.25
"""Seconds after the first signal within which further ones are ignored."""

Handler = Callable[[int, FrameType | None], Any]

_STOPPING = (signal.SIGINT, signal.SIGTERM)

_IGNORED = {
    signal.SIGUSR1: "there is no log file to rotate",
    signal.SIGUSR2: "the server does not use it",
}
"""Signals that would end the process without closing its connections -> why the server ignores them."""


def handle_signals(reactor: Any, abort: Callable[[], object], reload: Callable[[], object]) -> None:
    """
    Prevent all signals except SIGKILL and SIGQUIT from ending the process with open connections or a traceback.

    Handlers that are already set are kept, such as twistd's for SIGUSR1 with a log file, or `nohup`'s for SIGHUP.

    Args:
        reactor: the reactor, not running yet. When it starts it sets its own handlers, which this function then wraps.
        abort: drops the connections of a server that is stopping.
        reload: reads the options again; called for SIGHUP.
    """

    def ignore(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 (the signature of signal handlers)
        name, reason = signal.Signals(number).name, _IGNORED[signal.Signals(number)]
        reactor.callFromThread(_log.info, "{name} ignored: {reason}", name=name, reason=reason)

    if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
        signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(reload))
    for number in _IGNORED:
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, ignore)
    reactor.callWhenRunning(_stop_once, reactor, abort)


def _stop_once(reactor: Any, abort: Callable[[], object]) -> None:
    """Wrap the reactor's handlers so that only the first signal stops it: a second stop would log a traceback."""
    received: list[float] = []

    def end_now(number: int) -> None:
        _log.info("{name} ends the server at once", name=signal.Signals(number).name)
        reactor.callLater(END_WITHIN, die_by, signal.Signals(number))
        abort()

    def stop_once(original: Handler) -> Handler:
        def handle(number: int, frame: FrameType | None) -> None:
            now = time.monotonic()
            if received and now - received[0] < SAME:
                return
            received.append(now)
            if len(received) == 1:
                original(number, frame)
            elif len(received) == 2:
                reactor.callFromThread(end_now, number)
            else:
                die_by(signal.Signals(number))

        return handle

    for number in _STOPPING:
        original = signal.getsignal(number)
        if callable(original) and original is not signal.default_int_handler:
            signal.signal(number, stop_once(original))
