"""End a program of the command line: with an error message, or by a signal."""

import io
import os
import signal
import sys
from typing import NoReturn

from wsserver.text import escape

__all__ = ["complain", "die", "die_by"]


def complain(error: object) -> None:
    """Print an error message on standard error, as one line."""
    # After twistd has started logging, `sys.stderr` is an object of Twisted that writes to the log.
    terminal = sys.stderr if isinstance(sys.stderr, io.TextIOBase) else sys.__stderr__
    # With file=None, print would use standard output.
    if terminal is not None:
        print(f"wsserver: {escape(str(error))}", file=terminal)


def die(error: object) -> NoReturn:
    """Print an error message on standard error, as one line, and exit with status 1."""
    complain(error)
    raise SystemExit(1)


def die_by(number: signal.Signals) -> None:
    """
    End the process by a signal, without output.

    A shell loop continues after a command that exits with status 130, but ends if the command dies by SIGINT.

    Args:
        number: SIGINT, SIGTERM or SIGPIPE.
    """
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
