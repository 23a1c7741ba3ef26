"""The programs under test: start them, wait for them, and end them with everything that they have started."""

import contextlib
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from wsserver.text import escape

__all__ = ["Ended", "Programs"]

MAX_OUTPUT: Final = 2000
"""Number of bytes at the end of a program's output that are kept; the rest is dropped."""

POLL: Final = 0.01
"""Seconds between two checks whether a program has ended."""

READ: Final = 64 * 1024
"""Number of bytes of a program's output that are read at a time."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A program that has ended."""

    status: int
    """Its exit status; negative if a signal has ended it."""
    output: str
    """The end of what it printed."""


class Programs:
    """
    Programs that run, each in a session of its own. The other processes of the session end when the program ends.

    Args:
        environment: variables to set for the programs.
    """

    def __init__(self, environment: Mapping[str, str] = {}) -> None:
        self._environment = {**os.environ, **environment}
        self._lock = threading.Lock()
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._is_stopped = False

    def run(self, name: str, words: Sequence[str], seconds: float | None) -> Ended:
        """
        Run a program. Blocks until it has ended.

        Args:
            name: the name of the program for `kill`.
            words: the program and its arguments.
            seconds: when to kill it; None for never.

        Raises:
            OSError: the program cannot be started.
        """
        with self._lock:
            if self._is_stopped:
                return Ended(-signal.SIGKILL, "")
            process = subprocess.Popen(  # noqa: S603 (the user's own command)
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
            )
            self._running[name] = process
        assert process.stdout is not None
        with process.stdout:
            output = self._wait(name, process, process.stdout.fileno(), seconds)
        return Ended(process.returncode, "\n".join(map(escape, output.decode("utf-8", "replace").splitlines())))

    def _wait(self, name: str, process: "subprocess.Popen[bytes]", pipe: int, seconds: float | None) -> bytes:
        """Wait until a program has ended, and return the end of its output."""
        os.set_blocking(pipe, False)
        deadline = None if seconds is None else time.monotonic() + seconds
        output = b""
        # The status is left to the system meanwhile: until it is read, no other process can get the same number.
        while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            select.select([pipe], [], [], POLL)
            data = _read(pipe)
            output = (output + data)[-MAX_OUTPUT:]
            if not data:
                # The program may have closed its output, which `select` takes for readable.
                time.sleep(POLL)
            if deadline is not None and time.monotonic() >= deadline:
                self.kill(name)
                deadline = None
        with self._lock:
            _kill_session(process.pid)
            process.wait()
            del self._running[name]
        return (output + _read(pipe))[-MAX_OUTPUT:]

    def kill(self, name: str) -> None:
        """Kill a program with its children; does nothing if it has ended."""
        with self._lock:
            process = self._running.get(name)
            if process is not None:
                _kill_session(process.pid)

    def stop(self) -> None:
        """Kill all programs, and start no further ones."""
        with self._lock:
            self._is_stopped = True
            names = list(self._running)
        for name in names:
            self.kill(name)


def _kill_session(number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(number, signal.SIGKILL)


def _read(pipe: int) -> bytes:
    """Return what is in a pipe that does not block; empty if there is nothing, or never will be."""
    try:
        return os.read(pipe, READ)
    except BlockingIOError:
        return b""
