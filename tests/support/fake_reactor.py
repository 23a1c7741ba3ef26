"""A reactor for tests that call the poller themselves."""

from twisted.internet.task import Clock

__all__ = ["FakeReactor"]


class FakeReactor(Clock):
    """A clock that takes a reader and watches nothing: the tests call the poller themselves."""

    def addReader(self, reader):
        """Take note of nothing."""

    removeReader = addReader
