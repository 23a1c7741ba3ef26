"""
Cores: the server has one, and the clients have another.

The server and the good clients have a higher priority than other programs of the machine, if the system permits it:
the tests measure what attackers do to the server, not what a second test run does.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["CLIENT_CORE", "SERVER_CORE", "place", "preferred_session"]

_CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, CLIENT_CORE = _CORES[0], _CORES[-1]
PRIORITY = -20
AUTOGROUP = Path("/proc/self/autogroup")


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


@contextlib.contextmanager
def preferred_session() -> Iterator[None]:
    """
    Prefer all processes of this session to other sessions.

    Linux with `sched_autogroup_enabled` divides the CPU time among sessions first, and by priority only within each.
    """
    with contextlib.suppress(OSError):
        AUTOGROUP.write_text(f"{PRIORITY}")
    yield
    with contextlib.suppress(OSError):
        AUTOGROUP.write_text("0")
