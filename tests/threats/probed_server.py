"""
The program `wsserver`, with a probe that measures how long each turn of its event loop takes.

    python probed_server.py LAGS serve --port 8080

Every 5 ms, the probe appends two float32 to the file LAGS: by how many seconds it was called too late, and how many
seconds of CPU time the process has used since its last call. The second one does not depend on the other programs of
the machine.
"""

import os
import struct
import sys
import threading
import time

from wsserver.cli.main import main

INTERVAL = 0.005


class Probe:
    """
    Calls itself every 5 ms, and writes how late it was.

    Args:
        reactor: the running reactor.
        path: the file to append to.
    """

    def __init__(self, reactor, path):
        self._reactor = reactor
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._due = self._cpu = 0.0

    def start(self):
        """Schedule the next call."""
        self._due, self._cpu = time.monotonic() + INTERVAL, time.process_time()
        self._reactor.callLater(INTERVAL, self.measure)

    def measure(self):
        """Write the delay of this call, and the CPU time since the last one."""
        os.write(self._file, struct.pack("ff", time.monotonic() - self._due, time.process_time() - self._cpu))
        self.start()


def attach(path):
    """Wait until the program runs a reactor, and start the probe in it."""
    # `time.sleep` fails under libfaketime.
    pause = threading.Event()
    while True:
        pause.wait(0.02)
        reactor = getattr(sys.modules.get("twisted.internet"), "reactor", None)
        if reactor is not None and getattr(reactor, "running", False):
            break
    reactor.callFromThread(Probe(reactor, path).start)


if __name__ == "__main__":
    threading.Thread(target=attach, args=(sys.argv.pop(1),), daemon=True).start()
    sys.argv[0] = "wsserver"
    main(sys.argv[1:])
