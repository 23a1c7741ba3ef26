"""The programs under test: start them, wait for them, and end those that do not end by themselves."""

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from wsserver.text import escape

__all__ = ["Ended", "Programs"]

MAX_OUTPUT = 2000
"""Number of bytes at the end of a program's output that are kept."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A program that has ended."""

    status: int
    """Its exit status; negative if a signal has ended it."""
    output: str
    """The end of what it printed."""


class Programs:
    """Programs that run, each in a session of its own, so that its children end with it."""

    def __init__(self) -> None:
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
        with tempfile.TemporaryFile() as output:
            with self._lock:
                if self._is_stopped:
                    return Ended(-signal.SIGKILL, "")
                process = subprocess.Popen(  # noqa: S603 (the user's own command)
                    words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
                )
                self._running[name] = process
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.kill(name)
                process.wait()
            with self._lock:
                del self._running[name]
            size = output.seek(0, os.SEEK_END)
            output.seek(max(0, size - MAX_OUTPUT))
            text = output.read().decode("utf-8", "replace")
        return Ended(process.returncode, "\n".join(map(escape, text.splitlines())))

    def kill(self, name: str) -> None:
        """Kill a program with its children; does nothing if it has ended."""
        with self._lock:
            process = self._running.get(name)
            if process is not None and process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)

    def stop(self) -> None:
        """Kill all programs, and start no further ones."""
        with self._lock:
            self._is_stopped = True
            names = list(self._running)
        for name in names:
            self.kill(name)
