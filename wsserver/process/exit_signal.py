"""How a program of the command line ends by a signal."""

import os
import signal

__all__ = ["die_by"]


def die_by(number: signal.Signals) -> None:
    """
    End the process by a signal, without a word.

    A shell that reads 130 as a status goes on with its loop; one whose child has died by SIGINT ends it.

    Args:
        number: SIGINT, SIGTERM or SIGPIPE.
    """
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
