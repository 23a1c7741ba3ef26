"""The settings of the C library's memory allocator, and of the garbage collector."""

import os
import subprocess
import sys

import pytest

# The end of the heap moves when the heap grows, and moves back when memory is returned to the system. Blocks outside of
# the heap (`mmap`) do not move it.
PROGRAM = """
import ctypes
from wsserver.process.allocator import keep_freed
kept = keep_freed()
brk = ctypes.CDLL(None).sbrk
brk.restype, brk.argtypes = ctypes.c_void_p, [ctypes.c_ssize_t]
start = brk(0)
blocks = [b"x" * 1_000_000 for _ in range(20)]
top = brk(0)
del blocks
print(kept, top - start, top - brk(0))
"""


def run(**environment):
    """Run the program; return the result of `keep_freed`, by how many bytes the heap grew, and how many it returned."""
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=os.environ | environment, capture_output=True, text=True, check=True
    )
    kept, grown, returned = found.stdout.split()
    return kept == "True", int(grown), int(returned)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
class KeepFreedTests:
    """`keep_freed`."""

    def test_freed_blocks_are_not_returned_to_the_system(self):
        kept, grown, returned = run()
        assert (kept, returned) == (True, 0)
        assert grown > 15_000_000

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("MALLOC_TRIM_THRESHOLD_", "1000000"),
            ("MALLOC_MMAP_THRESHOLD_", "1000000"),
            ("GLIBC_TUNABLES", "glibc.malloc.trim_threshold=1000000"),
        ],
    )
    def test_returns_false_if_the_environment_configures_the_allocator(self, name, value):
        assert run(**{name: value})[0] is False


COLLECTOR = """
import gc
from wsserver.process.allocator import THRESHOLDS, collect_rarely
gc.disable()
collect_rarely()
print(gc.isenabled(), gc.get_freeze_count() > 1000, gc.get_threshold() == THRESHOLDS)
cycles = [[] for _ in range(30_000)]
for one in cycles:
    one.append(one)
del one
cycles.clear()
others = [[] for _ in range(11_000)]
print(gc.collect() < 30_000)
"""


def test_collect_rarely_keeps_the_collector_on_and_leaves_out_existing_objects():
    """Cyclic garbage is still found."""
    done = subprocess.run([sys.executable, "-c", COLLECTOR], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["True True True", "True"]
