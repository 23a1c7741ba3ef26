"""
Notify the service manager, such as systemd: the server is ready, reloads, stops, or is still alive.

Source: sd_notify(3). Each notification is one datagram of `NAME=VALUE` lines, sent to the UNIX socket that the variable
`NOTIFY_SOCKET` names.
"""

import os
import socket
import time
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

from twisted.logger import Logger

__all__ = ["Notifier"]

_log = Logger(namespace="wsserver")

_TIMEOUT = 0.1
"""Seconds to wait for the service manager to read its queue of notifications, which is short."""

_RETRY_DELAY = 1.0
"""Seconds between two attempts to send a notification."""


class Notifier:
    """
    Sends notifications to the service manager; without one, its methods do nothing.

    The keep-alive of the watchdog is sent by the reactor, so it ends if the reactor hangs.

    Args:
        reactor: the reactor, for the keep-alive and for further attempts.
        environ: the environment variables. Those of the service manager are removed, so that child processes do not
            notify it.
    """

    def __init__(self, reactor: Any, environ: MutableMapping[str, str] = os.environ) -> None:
        self._reactor = reactor
        self._address = _parse_address(environ.pop("NOTIFY_SOCKET", ""))
        self._interval = _read_interval(environ)
        self._is_ready = False
        self._is_failing = False
        self._attempt: Any = None

    def ready(self) -> None:
        """Notify that the server accepts connections, and begin to send keep-alives."""
        self._is_ready = True
        self._send_state("READY=1", "STATUS=serving")
        if self._interval is not None:
            self._keep_alive(self._interval)

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """
        Notify that the server reads its options again, and, when the block ends, that it is ready.

        A server that is starting or stopping does not notify, because it would seem to be ready.
        """
        if not self._is_ready:
            yield
            return
        microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send_state("RELOADING=1", f"MONOTONIC_USEC={microseconds}", "STATUS=reading the options")
        try:
            yield
        finally:
            self._send_state("READY=1", "STATUS=serving")

    def stopping(self) -> None:
        """Notify that the server has begun to stop."""
        self._is_ready = False
        self._send_state("STOPPING=1", "STATUS=closing connections")

    def _keep_alive(self, interval: float) -> None:
        self._reactor.callLater(interval, self._keep_alive, interval)
        self._try_to_send("WATCHDOG=1")

    def _send_state(self, *lines: str) -> None:
        """Send a state, until the service manager receives it or the server has another state."""
        if self._attempt is not None and self._attempt.active():
            self._attempt.cancel()
        if not self._try_to_send(*lines):
            self._attempt = self._reactor.callLater(_RETRY_DELAY, self._send_state, *lines)

    def _try_to_send(self, *lines: str) -> bool:
        if self._address is None:
            return True
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.settimeout(_TIMEOUT)
                sock.sendto("\n".join(lines).encode("utf-8"), self._address)
        except OSError as error:
            self._report(error)
            return False
        self._is_failing = False
        return True

    def _report(self, error: OSError) -> None:
        """Log the first of several failures in a row."""
        if not self._is_failing:
            self._is_failing = True
            _log.warn("cannot notify the service manager error={error}", error=error.strerror or type(error).__name__)


def _parse_address(text: str) -> bytes | None:
    """Return the address of the notification socket; None if the variable is empty or names another kind of socket."""
    if text.startswith("@"):
        # Linux's abstract socket addresses begin with a null byte.
        return b"\0" + os.fsencode(text[1:])
    return os.fsencode(text) if text.startswith("/") else None


def _read_interval(environ: MutableMapping[str, str]) -> float | None:
    """Return half of the time after which the watchdog ends the process; None if this process has no watchdog."""
    microseconds, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
    if not microseconds.isdecimal() or int(microseconds) == 0 or pid not in {"", str(os.getpid())}:
        return None
    return int(microseconds) / 1e6 / 2
