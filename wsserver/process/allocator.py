"""What the C library is told about memory. For a process that is a server and nothing else."""

import ctypes
import os

__all__ = ["keep_freed"]

# <malloc.h> of glibc; musl, macOS and others have no mallopt.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_BLOCK = 32 * 1024 * 1024
_ASKED = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
KEPT = 64 * 1024 * 1024
"""Most bytes of freed memory at the end of the heap that the process keeps."""


def keep_freed() -> bool:
    """
    Keep freed memory for the next large message.

    By default glibc gives it back to the system at once, page by page, and fetches it again for the next one: an echo
    of 1 MiB takes twice the CPU time. Environment variables that set the same (`MALLOC_TRIM_THRESHOLD_` and
    `MALLOC_MMAP_THRESHOLD_`, mallopt(3)) or tune it otherwise (`GLIBC_TUNABLES`) are left alone.

    Returns:
        Whether it was told so.
    """
    if any(name in os.environ for name in _ASKED):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_M_TRIM_THRESHOLD, KEPT)) and bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST_BLOCK))
