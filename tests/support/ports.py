"""TCP ports for server processes."""

import random
import socket

__all__ = ["free_port"]

PORTS = range(10_000, 32_768)
"""
Ports to choose from. Linux uses those from 32768 on for outgoing connections (`net.ipv4.ip_local_port_range`): a server
that stops and starts again on such a port may find it taken by a client.
"""


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that was free a moment ago, and that no outgoing connection uses."""
    # Not the global generator: a test may have seeded it, in several processes at the same time.
    for port in random.SystemRandom().sample(PORTS, 100):
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
    raise OSError("no free port found")
