"""The log of a worker: a pipe to the supervisor, which writes the lines of all workers into one log."""

import os
from collections import deque
from typing import Any, Final

from twisted.internet.interfaces import IWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

__all__ = ["MAX_QUEUED", "PipeLog"]

MAX_QUEUED: Final = 1024 * 1024
"""Maximum size of the text that waits for the supervisor in bytes. Beyond it, lines are dropped, and counted."""


@implementer(IWriteDescriptor)
class PipeLog:
    """
    A file for log observers that never blocks.

    Args:
        reactor: watches the pipe while text waits.
        descriptor: the pipe.
    """

    encoding = "utf-8"

    def __init__(self, reactor: Any, descriptor: int) -> None:
        self._reactor, self._fd = reactor, descriptor
        self._queue: deque[bytes] = deque()
        self._queued = self._dropped = 0
        os.set_blocking(descriptor, False)

    def write(self, text: str) -> None:
        """Write lines, or queue them while the supervisor does not read."""
        data = text.encode("utf-8", "replace")
        if self._queued + len(data) > MAX_QUEUED:
            self._dropped += text.count("\n")
            return
        if self._dropped and not self._queue:
            data = b"log lines dropped lines=%d reason=%b\n" % (self._dropped, b'"the supervisor did not read"') + data
            self._dropped = 0
        was_empty = not self._queue
        self._queue.append(data)
        self._queued += len(data)
        if was_empty:
            self.doWrite()
            if self._queue:
                self._reactor.addWriter(self)

    def flush(self) -> None:
        """Do nothing: `write` has written what the pipe takes."""

    def close(self) -> None:
        """Write what waits, and block until it is written: the process exits."""
        self._reactor.removeWriter(self)
        os.set_blocking(self._fd, True)
        self.doWrite()

    # IWriteDescriptor: called by the reactor.

    def fileno(self) -> int:
        """Return the descriptor of the pipe."""
        return self._fd

    def logPrefix(self) -> str:
        """Return the name of the pipe in log lines."""
        return "log"

    def doWrite(self) -> None:
        """Write what the pipe takes."""
        while self._queue:
            data = self._queue.popleft()
            self._queued -= len(data)
            try:
                written = os.write(self._fd, data)
            except BlockingIOError:
                written = 0
            except OSError:
                # The supervisor has ended, and with it the log.
                self.connectionLost()
                return
            if written < len(data):
                self._queue.appendleft(data[written:])
                self._queued += len(data) - written
                return
        self._reactor.removeWriter(self)

    def connectionLost(self, reason: Failure | None = None) -> None:  # noqa: ARG002
        """Drop what waits: nobody reads the pipe any more."""
        self._queue.clear()
        self._queued = 0
        self._reactor.removeWriter(self)
