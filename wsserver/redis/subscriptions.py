"""
The Redis channels that the server subscribes to, kept over outages.

Pure: no clock, no socket; it uses only the connection it is given.
"""

from typing import Protocol

from twisted.internet.defer import Deferred, fail, succeed

from wsserver.errors import BrokerDown, NotPermitted
from wsserver.redis.commands import UNAVAILABLE

__all__ = ["MAX_UNANSWERED", "Subscriber", "Subscriptions"]

MAX_UNANSWERED = 10_000
"""Maximum number of subscribe and unsubscribe requests unanswered by Redis; further subscriptions are refused."""


class Subscriber(Protocol):
    """The connection that sends subscribe requests; implemented by `wsserver.redis.connection.SubscriberConnection`."""

    unanswered: int

    def subscribe(self, channels: list[bytes]) -> None:
        """Send a subscribe request for these channels."""

    def unsubscribe(self, channel: bytes) -> None:
        """Send an unsubscribe request for a channel."""


class Subscriptions:
    """
    The set of wanted Redis channels, and which of them Redis has confirmed.

    Args:
        always: a channel that every connection subscribes to.
    """

    def __init__(self, always: bytes) -> None:
        self._wanted: dict[bytes, list[Deferred[None]]] = {always: []}
        """Wanted channel -> the Deferreds that wait for its confirmation."""
        self._confirmed: set[bytes] = set()
        self._connection: Subscriber | None = None

    @property
    def complete(self) -> bool:
        """Whether Redis has confirmed every wanted channel."""
        return len(self._confirmed) == len(self._wanted)

    def begin(self, connection: Subscriber) -> None:
        """Subscribe to every wanted channel on a new connection."""
        self._connection = connection
        connection.subscribe(list(self._wanted))

    def end(self) -> None:
        """
        Handle the loss of the connection.

        Subscriptions that wait for their confirmation fail with `BrokerDown` and are dropped; the confirmed ones stay
        wanted, and the next connection subscribes to them.
        """
        self._connection = None
        self._confirmed.clear()
        refused = {channel: waiting for channel, waiting in self._wanted.items() if waiting}
        for channel in refused:
            del self._wanted[channel]
        # Only now: a caller whose subscription fails may unsubscribe from other channels in its errback.
        for waiting in refused.values():
            for done in waiting:
                done.errback(BrokerDown(UNAVAILABLE))

    def subscribe(self, channel: bytes) -> "Deferred[None]":
        """
        Add a channel to the wanted ones.

        Returns:
            A Deferred that fires once Redis has confirmed the subscription. It fails with `NotPermitted` if Redis
            refuses it, and with `BrokerDown` if there is no connection, the connection is lost, or `MAX_UNANSWERED` is
            reached.
        """
        if self._connection is None:
            return fail(BrokerDown(UNAVAILABLE))
        if channel in self._confirmed:
            return succeed(None)
        done: Deferred[None] = Deferred()
        if channel in self._wanted:
            self._wanted[channel].append(done)
            return done
        if self._connection.unanswered >= MAX_UNANSWERED:
            return fail(BrokerDown("too many subscriptions are waiting for Redis"))
        self._wanted[channel] = [done]
        self._connection.subscribe([channel])
        return done

    def unsubscribe(self, channel: bytes) -> None:
        """Remove a channel from the wanted ones; do nothing if it is not wanted."""
        if self._wanted.pop(channel, None) is None:
            return
        self._confirmed.discard(channel)
        if self._connection is not None:
            self._connection.unsubscribe(channel)

    def confirm(self, channel: bytes) -> None:
        """Mark a channel as confirmed, and fire the Deferreds that wait for it; ignore an unwanted channel."""
        waiting = self._wanted.get(channel)
        if waiting is None:
            return
        self._confirmed.add(channel)
        answered, waiting[:] = waiting[:], []
        for done in answered:
            done.callback(None)

    def refuse(self, channels: list[bytes], why: str, *, alone: bool) -> list[bytes]:
        """
        Handle a subscribe request that Redis has refused.

        Args:
            channels: the channels of the request.
            why: the error reply.
            alone: whether the request named only one channel; if it named several, the permission may be missing for
                only some of them, so the request is repeated in two halves.

        Returns:
            Channels without a waiting subscription that were dropped: they were confirmed earlier, and Redis no longer
            permits them.
        """
        wanted = [channel for channel in channels if channel in self._wanted]
        if not alone and self._connection is not None:
            # Redis does not name the forbidden channel; halving the request finds it.
            middle = (len(wanted) + 1) // 2
            self._connection.subscribe(wanted[:middle])
            self._connection.subscribe(wanted[middle:])
            return []
        lost = []
        for channel in wanted:
            waiting = self._wanted.pop(channel)
            if not waiting:
                lost.append(channel)
            for done in waiting:
                done.errback(NotPermitted(f"Redis does not permit the server to subscribe to the channel: {why}"))
        return lost
