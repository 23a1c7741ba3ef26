"""Configure the memory allocator of the C library, for processes that only run the server."""

import ctypes
import os

__all__ = ["keep_freed"]

# Constants of glibc's <malloc.h>; musl, macOS and others have no mallopt.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_BLOCK = 32 * 1024 * 1024
_VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
KEPT = 64 * 1024 * 1024
"""Maximum size of the free memory that the process keeps at the end of the heap, in bytes."""


def keep_freed() -> bool:
    """
    Keep freed memory in the process for the next large message.

    By default glibc returns it to the system at once, and has to request it again, page by page, for the next message:
    echoing 1 MiB takes twice the CPU time. If an environment variable configures the allocator
    (`MALLOC_TRIM_THRESHOLD_`, `MALLOC_MMAP_THRESHOLD_`, see mallopt(3), or `GLIBC_TUNABLES`), this function changes
    nothing.

    Returns:
        Whether the allocator accepted both settings.
    """
    if any(name in os.environ for name in _VARIABLES):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_M_TRIM_THRESHOLD, KEPT)) and bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST_BLOCK))
