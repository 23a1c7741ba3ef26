"""End a command-line program by a signal."""

import os
import signal

__all__ = ["die_by"]


def die_by(number: signal.Signals) -> None:
    """
    End the process by a signal, without output.

    A shell loop continues after a command that exits with status 130, but ends if the command dies by SIGINT.

    Args:
        number: SIGINT, SIGTERM or SIGPIPE.
    """
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
