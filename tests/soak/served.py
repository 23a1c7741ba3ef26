"""
A server that reports what it holds: run like `wsserver`, with the path of a UNIX socket before the arguments.

Whoever connects to the socket gets one JSON object, after a garbage collection: the reactor's timers, the number of
objects of each class of the server, and the number of memory blocks that Python's objects take.
"""

import gc
import json
import sys
from collections import Counter

from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol

from wsserver.cli.main import main

OTHERS = ("Deferred", "DelayedCall", "TLSMemoryBIOProtocol")
"""Classes of Twisted that are counted, too."""


def count() -> dict[str, object]:
    """Count timers and objects."""
    gc.collect()
    objects = Counter(
        kind.__qualname__
        for kind in map(type, gc.get_objects())
        if kind.__module__.startswith("wsserver.") or kind.__name__ in OTHERS
    )
    return {"timers": len(reactor.getDelayedCalls()), "objects": objects, "blocks": sys.getallocatedblocks()}


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
