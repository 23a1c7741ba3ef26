"""
The interfaces on both sides of the hub: the broker, which delivers publications to the hub, and the subscribers.

A broker carries publications between server processes: `wsserver.hub.memory.MemoryBroker` serves a single process,
`wsserver.redis.broker.RedisBroker` several. Each process has one hub (`wsserver.hub.hub.Hub`), which passes each
publication to the channel's subscribers in the same process.
"""

import random
from collections.abc import Callable, Collection, Hashable, Mapping
from typing import Final, Protocol

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from wsserver.hub.clients import ClientInfo
from wsserver.hub.deferreds import MaybeDeferred
from wsserver.hub.occupancy import OccupancyStore
from wsserver.hub.presence import PresenceEvent
from wsserver.hub.publication import Publication
from wsserver.hub.send_queue import Batch
from wsserver.hub.stream import Keep, Page, Position
from wsserver.typing import ChannelName

__all__ = [
    "IDEMPOTENT_FOR",
    "UNFRAMED",
    "Broker",
    "DeltaSubscriber",
    "Listener",
    "Subscriber",
    "first_cause",
    "ignore_control",
    "new_epoch",
]


class Listener(Protocol):
    """The object to which the broker delivers publications and presence events: the hub."""

    def on_publication(self, channel: ChannelName, publication: Publication) -> None:
        """Receive a publication to a channel."""

    def on_presence(self, channel: ChannelName, event: PresenceEvent) -> None:
        """Receive a presence event: a client has joined or left a channel."""

    def on_reconnect(self) -> None:
        """Handle the end of a broker outage: the process may have missed publications of every channel."""

    def on_permission_revoked(self, channel: ChannelName) -> None:
        """Handle the end of the process's subscription to a channel: Redis no longer permits the server to read it."""

    def on_up(self) -> None:
        """Handle that the broker is up, for the first time or after an outage; called after `on_reconnect`."""


def ignore_control(message: bytes) -> None:
    """Ignore a control message: a message from one server process to another."""


class Broker(Protocol):
    """
    Carries publications, presence and control messages between processes, and stores histories.

    While the broker is down, every Deferred that its methods return fails with `BrokerDown`.
    """

    node: str
    """The id of this server process: letters and digits."""

    def deliver_to(self, listener: Listener, on_control: Callable[[bytes], None] = ignore_control) -> None:
        """
        Set the objects that receive the broker's deliveries; must be called before `publish` and `start`.

        Args:
            listener: receives the publications and presence events: the hub.
            on_control: called with each message that a server process sends to this one with `send`.
        """

    @property
    def up(self) -> bool:
        """Whether the broker currently delivers publications."""

    @property
    def problem(self) -> str | None:
        """Why the broker cannot deliver or accept publications, as a sentence; None if it can."""

    def metrics(self) -> Mapping[str, float]:
        """Return the broker's metrics for `/api/info`: metric name -> value."""

    def start(self) -> None:
        """Connect to Redis in the background, if this broker uses Redis."""

    def stop(self) -> "Deferred[None]":
        """Disconnect from Redis, if connected; return a Deferred that fires once this is done."""

    def subscribe(self, channel: ChannelName) -> "MaybeDeferred[None]":
        """
        Subscribe this process to a channel.

        Returns:
            None if the channel's publications are delivered from now on; else a Deferred that fires once they are.
        """

    def unsubscribe(self, channel: ChannelName) -> None:
        """Unsubscribe this process from a channel."""

    def publish(
        self, channel: ChannelName, publication: Publication, keep: Keep | None, idempotency_key: str
    ) -> "MaybeDeferred[Position | None]":
        """
        Publish to a channel, after appending the publication to the channel's stream.

        Args:
            channel: the channel's name.
            publication: the publication, without an offset.
            keep: how much of the stream to keep. None to store nothing; the publication then has no offset.
            idempotency_key: any text that identifies the publication; empty for none. If the channel received a
                publication with the same key within the last `IDEMPOTENT_FOR` seconds, nothing is published, and the
                result is the position of that earlier publication.

        Returns:
            The publication's position in the stream, or None if the publication is not stored. A Deferred of it if
            storing and publishing take a while.
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
    ) -> "MaybeDeferred[Page]":
        """
        Read a page of a channel's stream; for the arguments see `wsserver.hub.stream.Stream.page`.

        The caller has to compare the epoch of `since` with the epoch of the returned page.
        """

    def remove_history(self, channel: ChannelName) -> "Deferred[None]":
        """Delete the publications of a channel's stream; the next publication continues the numbering."""

    def join(self, channel: ChannelName, info: ClientInfo) -> "Deferred[None]":
        """Add a client of this process to a channel's presence, and publish a join event."""

    def leave(self, channel: ChannelName, info: ClientInfo) -> "Deferred[None]":
        """Remove a client of this process from a channel's presence, and publish a leave event."""

    def members(self, channel: ChannelName) -> "Deferred[Mapping[str, ClientInfo]]":
        """Return the clients that are present on a channel, in all processes: client id -> info."""

    def track_occupancy(self, lease: float) -> OccupancyStore:
        """
        Return a new store of the channels that have subscribers in any process; must be called before `start`.

        Args:
            lease: seconds for which a process alone sends the events after it has taken them from the store.
        """

    def nodes(self) -> "Deferred[Collection[str]]":
        """Return the ids of the running server processes, including this one."""

    def remove_process(self, node: str) -> None:
        """
        Remove the clients of a process that has died from presence, and its channels from the occupancy.

        Without this call, the other processes find after some seconds that the process is dead, but its clients then
        leave without events.

        Args:
            node: the id of the dead process; the id of this process is ignored.
        """

    def send(self, node: str, message: bytes) -> "Deferred[None]":
        """Send a message to the process with the id `node`; if empty, to all processes, including this one."""

    def consume(self, key: str, seconds: float) -> "Deferred[bool]":
        """
        Mark a one-time token as used, and check whether any process has marked it before.

        Args:
            key: identifies the token.
            seconds: time in seconds for which the broker remembers that the token was used.

        Returns:
            A Deferred that fires with True on the first use of the token, and with False on every later use.
        """


IDEMPOTENT_FOR = 300.0
"""Seconds for which the broker remembers a publication's idempotency key; the same as in Centrifugo."""


def new_epoch() -> str:
    """Return a random epoch, the identifier of a new stream: 48 bits, as 12 hexadecimal digits."""
    return f"{random.getrandbits(48):012x}"


def first_cause(failure: Failure) -> Failure:
    """Return the failure that the `FirstError` of Twisted's `gatherResults` contains; return others unchanged."""
    cause: Failure = getattr(failure.value, "subFailure", failure)
    return cause


UNFRAMED: Final = "unframed"
"""
The `kind` of subscribers that get `Publication` objects instead of encoded frames, such as the application's callbacks.
The fan-out calls their method `receive`.
"""


class Subscriber(Protocol):
    """A receiver of a channel's publications: a client connection, or its subscription to one channel."""

    kind: Hashable
    """
    Subscribers with an equal `kind` receive identical frames, so the frames are encoded once for all of them. A
    `DeltaSubscriber` has a `wsserver.hub.delta.DeltaKind`. A subscriber that receives only the publications that match
    a filter has a `wsserver.hub.filters.FilteredKind`, which contains the other kind.
    """

    def frame(self, channel: ChannelName, publication: Publication) -> bytes:
        """Return a publication encoded for subscribers of this kind: as a WebSocket frame or as an SSE event."""

    def event_frame(self, channel: ChannelName, event: PresenceEvent) -> bytes:
        """Return a presence event encoded for subscribers of this kind; b"" if they receive no presence events."""

    def deliver(self, batch: Batch) -> None:
        """Send a batch of encoded publications and events to the client, or queue it while the client does not read."""

    def missed(self, channel: ChannelName, stream: bool) -> None:
        """
        Handle a gap: publications may be missing between the last delivered one and the next one.

        Args:
            channel: the channel's name.
            stream: True if publications with an offset may be missing; False if only those without an offset may be.
        """

    def on_permission_revoked(self, channel: ChannelName) -> None:
        """Handle the end of the subscription: Redis no longer permits the server to read the channel."""


class DeltaSubscriber(Subscriber, Protocol):
    """
    A subscriber that receives a publication as a delta if possible: as its differences from the publication before.

    Of the subscribers of one kind, those with the same `base` receive identical frames.
    """

    base: Publication | None
    """The last publication that the subscriber has received, for certain; None if there is none."""

    def delta_frame(self, channel: ChannelName, publication: Publication, base: Publication | None) -> bytes:
        """Return a publication encoded for subscribers of this kind that have received `base` immediately before."""
