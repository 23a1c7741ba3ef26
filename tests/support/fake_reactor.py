"""A reactor for tests that call the poller themselves."""

from twisted.internet.task import Clock

__all__ = ["FakeReactor"]


class FakeReactor(Clock):
    """A clock that accepts a reader but never watches it."""

    def addReader(self, reader):
        """Ignore the reader."""

    removeReader = removeWriter = addReader
