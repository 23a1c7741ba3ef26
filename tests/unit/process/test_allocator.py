"""The settings of the C library's memory allocator."""

import os
import subprocess
import sys

import pytest

# The end of the heap moves back when memory is returned to the system.
PROGRAM = """
import ctypes
from wsserver.process.allocator import keep_freed
kept = keep_freed()
brk = ctypes.CDLL(None).sbrk
brk.restype, brk.argtypes = ctypes.c_void_p, [ctypes.c_ssize_t]
blocks = [b"x" * 1_000_000 for _ in range(20)]
top = brk(0)
del blocks
print(kept, top - brk(0))
"""


def run(**environment):
    """Run the program; return the result of `keep_freed`, and how many bytes went back to the system."""
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=os.environ | environment, capture_output=True, text=True, check=True
    )
    kept, returned = found.stdout.split()
    return kept == "True", int(returned)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
class KeepFreedTests:
    """`keep_freed`."""

    def test_freed_blocks_are_not_returned_to_the_system(self):
        assert run() == (True, 0)

    @pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"])
    def test_returns_false_if_the_environment_configures_the_allocator(self, name):
        assert run(**{name: "1000000"})[0] is False
