"""Configure the allocator of the C library and the garbage collector, for processes that only run the server."""

import ctypes
import gc
import os

__all__ = ["collect_rarely", "keep_freed"]

# Constants of glibc's <malloc.h>; musl, macOS and others have no mallopt.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_BLOCK = 32 * 1024 * 1024
_VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
KEPT = 64 * 1024 * 1024
"""Maximum size of the free memory that the process keeps at the end of the heap, in bytes."""

THRESHOLDS = 10_000, 2, 200
"""
When the garbage collector collects: the youngest objects after 10,000 new ones, those that survive this after 2 such
collections, and all objects after 200 of the latter.
"""


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


def collect_rarely() -> None:
    """
    Search for garbage less often, and not among the objects that exist already.

    A connection consists of many objects that live as long as it does, and its garbage is almost never cyclic:
    reference counts free it. With Python's default, a search after 700 new objects, a tenth of the time to accept
    connections is spent on searching their objects again and again.

    A search blocks the server, so it must not be too rare either: searching 30,000 objects takes up to 20 ms.
    """
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    gc.enable()
