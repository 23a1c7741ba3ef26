"""What the C library is told about memory."""

import os
import subprocess
import sys

import pytest

# The end of the heap moves back when memory is given back to the system.
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
    """Run the program in a process of its own."""
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=os.environ | environment, capture_output=True, text=True, check=True
    )
    kept, given_back = found.stdout.split()
    return kept == "True", int(given_back)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
class KeepFreedTests:
    """Freed memory stays for the next message."""

    def test_kept(self):
        """What large blocks have left is not given back."""
        assert run() == (True, 0)

    @pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"])
    def test_the_environment_is_obeyed(self, name):
        """Whoever has set one of them for the process is not overruled."""
        assert run(**{name: "1000000"})[0] is False
