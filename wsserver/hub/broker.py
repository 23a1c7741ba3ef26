"""
The interfaces on both sides of the hub: the broker, which delivers publications to it, and the subscribers.

A broker is `wsserver.hub.memory.MemoryBroker` or the Redis broker. It reports to a `Listener`, the hub.
"""

import random
from collections.abc import Callable, Collection, Hashable, Mapping
from typing import Final, Protocol

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from wsserver.hub.clients import ClientInfo
from wsserver.hub.presence import PresenceEvent
from wsserver.hub.publication import Publication
from wsserver.hub.send_queue import Batch
from wsserver.hub.stream import Keep, Page, Position
from wsserver.typing import ChannelName

__all__ = [
    "IDEMPOTENT_FOR",
    "UNFRAMED",
    "Broker",
    "Listener",
    "Subscriber",
    "first_cause",
    "ignore_control",
    "new_epoch",
]


class Listener(Protocol):
    """Receives what the broker delivers: the hub."""

    def on_publication(self, channel: ChannelName, publication: Publication) -> None:
        """Receive a publication."""

    def on_presence(self, channel: ChannelName, event: PresenceEvent) -> None:
        """Receive a presence event: a client has joined or left a channel."""

    def on_reconnect(self) -> None:
        """Handle the end of an outage: publications of every subscribed channel may have been missed."""

    def on_permission_revoked(self, channel: ChannelName) -> None:
        """Handle the end of a subscription: the broker no longer permits the server to read the channel."""

    def on_up(self) -> None:
        """Handle that the broker is up, for the first time or again; called after `on_reconnect`."""


def ignore_control(message: bytes) -> None:
    """Ignore a message from a server process."""


class Broker(Protocol):
    """
    Carries publications, presence and control messages between processes, and stores histories.

    While the broker is down, every Deferred that its methods return fails with `BrokerDown`.
    """

    node: str
    """The id of this process: letters and digits."""

    def deliver_to(self, listener: Listener, on_control: Callable[[bytes], None] = ignore_control) -> None:
        """
        Set who receives what the broker delivers; must be called before anything is published, and before `start`.

        Args:
            listener: the hub.
            on_control: called with each message that a process has sent with `send`.
        """

    @property
    def up(self) -> bool:
        """Whether the broker currently delivers publications."""

    @property
    def problem(self) -> str | None:
        """Why the broker cannot deliver or accept publications, as a sentence; None if it can."""

    def metrics(self) -> Mapping[str, float]:
        """Return the broker's metrics for `/api/info`: name -> value."""

    def start(self) -> None:
        """Connect."""

    def stop(self) -> "Deferred[None]":
        """Disconnect."""

    def subscribe(self, channel: ChannelName) -> "Deferred[None]":
        """Subscribe this process to a channel; the Deferred fires once the channel's publications are delivered."""

    def unsubscribe(self, channel: ChannelName) -> None:
        """Unsubscribe this process from a channel."""

    def publish(
        self, channel: ChannelName, publication: Publication, keep: Keep | None, idempotency_key: str
    ) -> "Deferred[Position | None]":
        """
        Publish to a channel.

        Args:
            channel: the channel's name.
            publication: the publication, without an offset.
            keep: how much of the channel's stream to keep; None to keep no stream, and then the publication gets no
                offset.
            idempotency_key: if a publication with the same key was published to the channel within the last
                `IDEMPOTENT_FOR` seconds, this one is not published, and the first one's position is returned; empty
                for no key.

        Returns:
            A Deferred that fires with the publication's position in the stream (None without a stream) once it is
            stored and published.
        """

    def history(
        self,
        channel: ChannelName,
        keep: Keep,
        since: Position | None,
        limit: int,
        *,
        reverse: bool,
        max_bytes: int | None = None,
    ) -> "Deferred[Page]":
        """
        Read a page of a channel's stream; for the arguments see `wsserver.hub.stream.Stream.page`.

        The epoch of `since` is not compared with the stream's: the caller does that.
        """

    def remove_history(self, channel: ChannelName) -> "Deferred[None]":
        """Delete the publications of a channel's stream; its offset continues to count."""

    def join(self, channel: ChannelName, info: ClientInfo) -> "Deferred[None]":
        """Add a client of this process to a channel's presence, and publish a join event."""

    def leave(self, channel: ChannelName, info: ClientInfo) -> "Deferred[None]":
        """Remove a client of this process from a channel's presence, and publish a leave event."""

    def members(self, channel: ChannelName) -> "Deferred[Mapping[str, ClientInfo]]":
        """Return a channel's presence in all processes: client id -> info."""

    def nodes(self) -> "Deferred[Collection[str]]":
        """Return the ids of the running processes, including this one."""

    def send(self, node: str, message: bytes) -> "Deferred[None]":
        """Send a message to one process; if `node` is empty, to all processes, including this one."""

    def consume(self, key: str, seconds: float) -> "Deferred[bool]":
        """
        Consume something that all processes together may use only once, such as a one-time token.

        Args:
            key: identifies it.
            seconds: how long to remember that it was used.

        Returns:
            A Deferred that fires with True on the first use of the key, and with False on every later one.
        """


IDEMPOTENT_FOR = 300.0
"""Seconds for which a publication's idempotency key is remembered; the same as in Centrifugo."""


def new_epoch() -> str:
    """Return a random epoch: 48 bits, as 12 hexadecimal digits."""
    return f"{random.getrandbits(48):012x}"


def first_cause(failure: Failure) -> Failure:
    """Return the failure inside the FirstError of `gatherResults`; return any other failure unchanged."""
    cause: Failure = getattr(failure.value, "subFailure", failure)
    return cause


UNFRAMED: Final = "unframed"
"""The `kind` of subscribers inside the process: their method `receive` is called with `Publication` objects."""


class Subscriber(Protocol):
    """Receives a channel's publications: a connection, or an object that represents it on one channel."""

    kind: Hashable
    """Subscribers of the same kind receive identical frames."""

    def frame(self, channel: ChannelName, publication: Publication) -> bytes:
        """Return a publication's frame for subscribers of this kind."""

    def event_frame(self, channel: ChannelName, event: PresenceEvent) -> bytes:
        """Return a presence event's frame for subscribers of this kind; empty if they receive no such events."""

    def deliver(self, batch: Batch) -> None:
        """Send a channel's publications and presence events to the client, or queue them while it does not read."""

    def missed(self, channel: ChannelName, stream: bool) -> None:
        """
        Handle a gap: publications may be missing before the next ones.

        Args:
            channel: the channel's name.
            stream: whether publications with an offset may be missing; if False, only ones without an offset may be.
        """

    def on_permission_revoked(self, channel: ChannelName) -> None:
        """Handle the end of the subscription: the broker no longer permits the server to read the channel."""
