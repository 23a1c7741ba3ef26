"""A server with faults in memory, and one client of it."""

from types import MappingProxyType

from wsserver.config.settings import Settings
from wsserver.testing import MemoryServer

__all__ = ["Bench", "open_and_wait"]


class Bench:
    """A server with faults, and one client."""

    def __init__(self, target, headers=MappingProxyType({}), settings=None, endpoints=None):
        self.server = MemoryServer(settings or Settings(faults=True), endpoints=endpoints)
        self.clock = self.server.clock
        self.counters = self.server.service.connections.counters
        self.client = self.server.connect()
        self.transport = self.client.transport
        self.head = self.client.open(target, headers)

    def wait(self, seconds=0.2, steps=20):
        self.clock.pump([seconds / steps] * steps)
        return self

    @property
    def sent(self):
        """Remove all bytes that the server has sent, and return them."""
        data = bytes(self.transport.written)
        self.transport.written.clear()
        return data


def open_and_wait(target, text="", **options):
    """Return what the server sends at a path, after a message and 200 ms."""
    bench = Bench(target, **options)
    if text:
        bench.client.send_text(text)
    bench.wait()
    return bench
