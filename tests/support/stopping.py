"""End processes that a test or a long run has started."""

import subprocess
from typing import Any

__all__ = ["stop"]


def stop(process: "subprocess.Popen[Any]", seconds: float = 30.0) -> bool:
    """
    Terminate a process, and wait until it has ended.

    Args:
        process: the process; it may have ended already.
        seconds: how long to wait before it is killed.

    Returns:
        Whether SIGTERM ended it in time.
    """
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return False
    return True
