"""
A server that reports what it holds: run like `wsserver`, with the path of a UNIX socket before the arguments.

Whoever connects to the socket gets one JSON object, after a garbage collection: the reactor's timers, the number of
objects of each class of the server, and the memory in use. This is what has been allocated and not freed. Unlike the
memory of the process, it does not depend on when the allocators return memory to the system.
"""

import ctypes
import gc
import json
import os
import re
import sys
import tempfile
from collections import Counter
from typing import ClassVar

from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol

from wsserver.cli.main import main

NAMES = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")


class MallocInfo(ctypes.Structure):
    """`struct mallinfo2` of the GNU C library, since version 2.33; see mallinfo(3)."""

    _fields_: ClassVar = [(name, ctypes.c_size_t) for name in NAMES]


OTHERS = ("Deferred", "DelayedCall", "TLSMemoryBIOProtocol")
"""Classes of Twisted that are counted, too."""


def in_use() -> int:
    """Return the memory in use in bytes: that of the C library, and that of Python's allocator of small objects."""
    read = ctypes.CDLL(None).mallinfo2
    read.restype = MallocInfo
    info = read()
    return int(info.uordblks + info.hblkhd + small_objects())


def small_objects() -> int:
    """Return the memory in use of Python's allocator of small objects, in bytes, which it prints only."""
    saved = os.dup(2)
    with tempfile.TemporaryFile() as printed:
        os.dup2(printed.fileno(), 2)
        try:
            sys._debugmallocstats()
        finally:
            os.dup2(saved, 2)
            os.close(saved)
        printed.seek(0)
        found = re.search(rb"# bytes in allocated blocks\s*=\s*([\d,]+)", printed.read())
    assert found is not None
    return int(found[1].replace(b",", b""))


def count() -> dict[str, object]:
    """Count timers and objects, and the memory in use."""
    gc.collect()
    objects = Counter(
        kind.__qualname__
        for kind in map(type, gc.get_objects())
        if kind.__module__.startswith("wsserver.") or kind.__name__ in OTHERS
    )
    return {"timers": len(reactor.getDelayedCalls()), "objects": objects, "in_use": in_use()}


class Report(Protocol):
    """Writes the counts, and closes."""

    def connectionMade(self) -> None:
        """Write the counts."""
        self.transport.write(json.dumps(count()).encode())
        self.transport.loseConnection()


if __name__ == "__main__":
    reports = Factory.forProtocol(Report)
    reports.noisy = False
    reactor.callWhenRunning(reactor.listenUNIX, sys.argv[1], reports)
    main(sys.argv[2:])
