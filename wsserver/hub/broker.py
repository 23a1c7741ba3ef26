"""What the hub stands between: brokers that bring publications, and the subscribers that get them."""

import random
from collections.abc import Collection, Hashable, Mapping
from typing import Final, Protocol

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from wsserver.hub.presence import ClientInfo, PresenceEvent
from wsserver.hub.publication import Publication
from wsserver.hub.stream import Keep, Page, Position
from wsserver.typing import ChannelName

__all__ = ["IDEMPOTENT_FOR", "UNFRAMED", "Broker", "Listener", "Subscriber", "first_cause", "new_epoch"]


class Listener(Protocol):
    """What a broker tells what comes."""

    def on_publication(self, channel: ChannelName, publication: Publication) -> None:
        """Take a publication."""

    def on_presence(self, channel: ChannelName, event: PresenceEvent) -> None:
        """Take the news that a client has come to a channel, or left it."""

    def asked(self, message: bytes) -> None:
        """Take a message of a process."""

    def on_reconnect(self) -> None:
        """Take note that publications may have been missed, of every channel that was subscribed to."""

    def on_permission_revoked(self, channel: ChannelName) -> None:
        """Take note that a channel that was subscribed to may not be listened to any more."""

    def on_up(self) -> None:
        """The broker is up, for the first time or again; called after `on_reconnect`."""


class Broker(Protocol):
    """Where publications come from and go to. Whatever returns a Deferred fails with `BrokerDown` while it is down."""

    listener: Listener
    node: str
    """The name of this process: letters and digits."""

    @property
    def up(self) -> bool:
        """Whether publications arrive."""

    @property
    def problem(self) -> str | None:
        """Why it cannot deliver or accept publications, in a sentence; None if it can."""

    def metrics(self) -> Mapping[str, float]:
        """Return what `/api/info` tells of the broker: name -> value."""

    def start(self) -> None:
        """Connect."""

    def stop(self) -> "Deferred[None]":
        """Disconnect."""

    def subscribe(self, channel: ChannelName) -> "Deferred[None]":
        """Have a channel's publications sent here; fires once they are."""

    def unsubscribe(self, channel: ChannelName) -> None:
        """Have them sent here no more."""

    def publish(
        self, channel: ChannelName, publication: Publication, keep: Keep | None, idempotency_key: str
    ) -> "Deferred[Position | None]":
        """
        Publish.

        Args:
            channel: where.
            publication: what, yet without an offset.
            keep: how much of the stream is kept; None for no stream, and then the publication has no offset.
            idempotency_key: a publication with the same key within `IDEMPOTENT_FOR` is not published again, but
                answered as the first one; empty for none.

        Returns:
            Fires with its place in the stream once it is stored and published.
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
        """Read a channel's stream, see `wsserver.hub.stream.Stream.page`; the epoch of `since` is not compared."""

    def remove_history(self, channel: ChannelName) -> "Deferred[None]":
        """Forget the publications of a channel; its offset goes on."""

    def join(self, channel: ChannelName, info: ClientInfo) -> "Deferred[None]":
        """Put a client of this process on a channel, and tell."""

    def leave(self, channel: ChannelName, info: ClientInfo) -> "Deferred[None]":
        """Take it off, and tell."""

    def members(self, channel: ChannelName) -> "Deferred[Mapping[str, ClientInfo]]":
        """Tell who is on a channel, of all processes: client id -> info."""

    def nodes(self) -> "Deferred[Collection[str]]":
        """Tell which processes live, this one among them."""

    def send(self, node: str, message: bytes) -> "Deferred[None]":
        """Send a message to a process; to all, this one among them, where its name is empty."""

    def use(self, key: str, seconds: float) -> "Deferred[bool]":
        """
        Use up something that can be used once, by whichever process.

        Args:
            key: its name.
            seconds: for how long it is to be known that it was used.

        Returns:
            Fires with whether it had not been used.
        """


IDEMPOTENT_FOR = 300.0
"""Seconds for which the key of a publication is known: as long as Centrifugo does."""


def new_epoch() -> str:
    """Name a stream: 48 random bits."""
    return f"{random.getrandbits(48):012x}"


def first_cause(failure: Failure) -> Failure:
    """Take the failure of the first of several Deferreds that were gathered; any other failure is its own cause."""
    cause: Failure = getattr(failure.value, "subFailure", failure)
    return cause


UNFRAMED: Final = "unframed"
"""The `kind` of subscribers inside the process: their method `receive` gets the publications themselves."""


class Subscriber(Protocol):
    """Who gets publications: a connection, or what stands for it on a channel."""

    kind: Hashable
    """Subscribers of the same kind are written the same."""

    def frame(self, channel: ChannelName, publication: Publication) -> bytes:
        """Write a publication as this kind gets it."""

    def event_frame(self, channel: ChannelName, event: PresenceEvent) -> bytes:
        """Write that a client has come or left, as this kind gets it; empty where it is not told."""

    def deliver(self, frames: bytes, count: int, size: int) -> None:
        """
        Take some publications: their frames, how many they are, and the bytes of their data.

        Whoever can let them wait by the policy of their channel has a method `take` as well, which is called instead,
        with the `wsserver.hub.send_queue.Batch`.
        """

    def missed(self, channel: ChannelName, stream: bool) -> None:
        """
        Take note that publications are missing.

        Args:
            channel: of which.
            stream: whether some that have an offset are; else only plain ones may be, which have none.
        """

    def on_permission_revoked(self, channel: ChannelName) -> None:
        """Take note that nothing comes from a channel any more, and that this one is subscribed to it no longer."""
