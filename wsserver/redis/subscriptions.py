"""
The Redis channels that the server subscribes to. They are subscribed to again after an outage.

This module does not use a clock or a socket: the caller passes a connection.
"""

from typing import Protocol

from twisted.internet.defer import Deferred, fail, succeed

from wsserver.errors import BrokerDown, NotPermitted
from wsserver.redis.commands import UNAVAILABLE

__all__ = ["MAX_UNANSWERED", "Subscriber", "Subscriptions"]

MAX_UNANSWERED = 10_000
"""
Maximum number of channels whose SUBSCRIBE or UNSUBSCRIBE Redis has not answered yet. Beyond it, further subscriptions
are refused.
"""


class Subscriber(Protocol):
    """The methods of `wsserver.redis.connection.SubscriberConnection` that `Subscriptions` needs."""

    unanswered: int
    """Number of channels whose SUBSCRIBE or UNSUBSCRIBE Redis has not answered yet."""

    def subscribe(self, channels: list[bytes]) -> None:
        """Send SUBSCRIBE for Redis channels."""

    def unsubscribe(self, channel: bytes) -> None:
        """Send UNSUBSCRIBE for a Redis channel."""


class Subscriptions:
    """
    The wanted Redis channels: those that the server wants to be subscribed to, and which of them Redis has confirmed.

    Args:
        always: a Redis channel that is always wanted.
    """

    def __init__(self, always: bytes) -> None:
        self._wanted: dict[bytes, list[Deferred[None]]] = {always: []}
        """Wanted Redis channel -> the Deferreds that wait until Redis confirms the channel."""
        self._confirmed: set[bytes] = set()
        self._connection: Subscriber | None = None

    @property
    def complete(self) -> bool:
        """Whether Redis has confirmed every wanted Redis channel."""
        return len(self._confirmed) == len(self._wanted)

    def begin(self, connection: Subscriber) -> None:
        """Subscribe to every wanted Redis channel on a new connection."""
        self._connection = connection
        connection.subscribe(list(self._wanted))

    def end(self) -> None:
        """
        Handle the loss of the connection.

        Channels with waiting Deferreds are no longer wanted, and the Deferreds fail with `BrokerDown`. The other
        channels stay wanted: the next connection subscribes to them again.
        """
        self._connection = None
        self._confirmed.clear()
        refused = {channel: waiting for channel, waiting in self._wanted.items() if waiting}
        for channel in refused:
            del self._wanted[channel]
        # After the loop, because the errback of a caller may call `unsubscribe`, which changes `_wanted`.
        for waiting in refused.values():
            for done in waiting:
                done.errback(BrokerDown(UNAVAILABLE))

    def subscribe(self, channel: bytes) -> "Deferred[None]":
        """
        Add a Redis channel to the wanted ones, and subscribe to it.

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
        """Remove a Redis channel from the wanted ones, and unsubscribe from it; do nothing if it is not wanted."""
        if self._wanted.pop(channel, None) is None:
            return
        self._confirmed.discard(channel)
        if self._connection is not None:
            self._connection.unsubscribe(channel)

    def confirm(self, channel: bytes) -> None:
        """Record that Redis has confirmed a channel, and fire its Deferreds; do nothing if it is no longer wanted."""
        waiting = self._wanted.get(channel)
        if waiting is None:
            return
        self._confirmed.add(channel)
        answered, waiting[:] = waiting[:], []
        for done in answered:
            done.callback(None)

    def refuse(self, channels: list[bytes], why: str, *, alone: bool) -> list[bytes]:
        """
        Handle a SUBSCRIBE command that Redis has refused, because the server's user may not subscribe to a channel.

        If the command had several channels, Redis may refuse only some of them. The command is then sent again in two
        halves. If it had one channel, the channel is no longer wanted, and its Deferreds fail with `NotPermitted`.

        Args:
            channels: the channels of the command.
            why: the error reply of Redis.
            alone: whether the command had only one channel.

        Returns:
            The channels that are no longer wanted and that Redis had confirmed earlier: Redis no longer permits them.
        """
        wanted = [channel for channel in channels if channel in self._wanted]
        if not alone and self._connection is not None:
            # Redis does not name the channels that it refuses; halving the command repeatedly finds them.
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
