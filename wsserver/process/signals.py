"""Signals of a server process: each one stops the server gracefully, rotates its log, or is ignored and logged."""

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

from twisted.logger import Logger

__all__ = ["handle_signals"]

_log = Logger(namespace="wsserver")

Handler = Callable[[int, FrameType | None], Any]

_STOPPING = (signal.SIGINT, signal.SIGTERM)

_IGNORED = {
    signal.SIGHUP: "options are read at the start only; restart the server to change them",
    signal.SIGUSR1: "there is no log file to rotate",
    signal.SIGUSR2: "the server does not use it",
}
"""Signals that would end the process without closing its connections -> why the server ignores them."""


def handle_signals(reactor: Any, is_stopping: Callable[[], bool]) -> None:
    """
    Prevent all signals except SIGKILL and SIGQUIT from ending the process with open connections or a traceback.

    Handlers that are already set are kept, such as twistd's for SIGUSR1 with a log file, or `nohup`'s for SIGHUP.

    Args:
        reactor: the reactor, not running yet. When it starts it sets its own handlers, which this function then wraps.
        is_stopping: returns whether the server is already stopping, in which case SIGINT and SIGTERM are ignored.
    """

    def ignore(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 (the signature of signal handlers)
        name, reason = signal.Signals(number).name, _IGNORED[signal.Signals(number)]
        reactor.callFromThread(_log.info, "{name} ignored: {reason}", name=name, reason=reason)

    for number in _IGNORED:
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, ignore)
    reactor.callWhenRunning(_stop_once, reactor, is_stopping)


def _stop_once(reactor: Any, is_stopping: Callable[[], bool]) -> None:
    """Wrap the reactor's handlers so that only the first signal stops it: a second stop would log a traceback."""
    received: list[int] = []

    def stop_once(original: Handler) -> Handler:
        def handle(number: int, frame: FrameType | None) -> None:
            if received or is_stopping():
                name = signal.Signals(number).name
                reactor.callFromThread(_log.info, "{name} ignored: the server is already stopping", name=name)
            else:
                received.append(number)
                original(number, frame)

        return handle

    for number in _STOPPING:
        original = signal.getsignal(number)
        if callable(original) and original is not signal.default_int_handler:
            signal.signal(number, stop_once(original))
