"""The broker of a server that stands alone: channels live in the process."""

from twisted.internet.defer import Deferred, succeed

from wsserver.hub.formats import Publication
from wsserver.hub.hub import Listener
from wsserver.typing import ChannelName

__all__ = ["MemoryBroker"]


class MemoryBroker:
    """
    Hand publications to the hub of the same process.

    `listener` must be set before anything is published.
    """

    listener: Listener
    up = True
    """Whether publications arrive."""

    def start(self) -> None:
        """Do nothing: there is nothing to connect to."""

    def stop(self) -> "Deferred[None]":
        """Do nothing."""
        return succeed(None)

    def subscribe(self, channel: ChannelName) -> "Deferred[None]":  # noqa: ARG002
        """Do nothing: what is published here arrives here."""
        return succeed(None)

    def unsubscribe(self, channel: ChannelName) -> None:
        """Do nothing."""

    def publish(self, channel: ChannelName, data: bytes) -> "Deferred[Publication]":
        """
        Publish.

        Args:
            channel: where.
            data: what.

        Returns:
            Fires with the publication.
        """
        publication = Publication(data)
        self.listener.arrived(channel, publication)
        return succeed(publication)
