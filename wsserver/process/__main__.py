"""
Entry point of a worker process: `python -m wsserver.process`, which only the supervisor runs.

It inherits the listening sockets, its end of the channel to the supervisor, and pipes for its output. The first message
on the channel contains its number, the settings and the descriptors of the sockets.
"""

import os
import signal
import socket
from importlib import import_module
from typing import Final

from wsserver.process.channel import read_first

CHANNEL: Final = 3
"""The descriptor of the channel to the supervisor."""


def main() -> None:
    """Run a worker."""
    # Ctrl-C in a terminal sends SIGINT to the process group of the terminal. It must reach the supervisor only.
    os.setsid()
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    channel = socket.socket(fileno=CHANNEL)
    try:
        first = read_first(channel)
    except EOFError:
        return
    # Before any other import of Twisted, which would install the default reactor.
    import_module(first["reactor"]).install()
    from wsserver.process.worker import run  # noqa: PLC0415

    run(first, channel)


if __name__ == "__main__":
    main()
