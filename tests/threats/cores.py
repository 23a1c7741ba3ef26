"""
Cores: the server has one, and the clients have another.

The server and the good clients have a higher priority than other programs of the machine, if the system permits it:
the tests measure what attackers do to the server, not what a second test run does.
"""

import contextlib
import os

__all__ = ["CLIENT_CORE", "SERVER_CORE", "place"]

_CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, CLIENT_CORE = _CORES[0], _CORES[-1]
PRIORITY = -10


def place(core: int, *, prefer: bool = False, pid: int = 0) -> None:
    """
    Pin a process to a core.

    Args:
        core: the core.
        prefer: whether to prefer the process to others.
        pid: the process; 0 for this one.
    """
    os.sched_setaffinity(pid, {core})
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, pid, PRIORITY if prefer else 0)
