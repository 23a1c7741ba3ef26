"""
Which channels of Redis the server listens to, through every outage.

Rule 1: no socket, no clock, no connection but the one that is given.
"""

from typing import Protocol

from twisted.internet.defer import Deferred, fail, succeed

from wsserver.errors import BrokerDown, NotPermitted
from wsserver.redis.commands import AWAY

__all__ = ["MAX_UNANSWERED", "Asking", "Subscriptions"]

MAX_UNANSWERED = 10_000
"""Most subscriptions that wait for Redis to confirm them; one more is refused."""


class Asking(Protocol):
    """What can be asked to subscribe: `Listening`."""

    unanswered: int

    def subscribe(self, channels: list[bytes]) -> None:
        """Ask for channels."""

    def unsubscribe(self, channel: bytes) -> None:
        """Leave one."""


class Subscriptions:
    """
    The channels to listen to, and which of them Redis has confirmed.

    Args:
        always: a channel that is listened to as long as there is a connection.
    """

    def __init__(self, always: bytes) -> None:
        self._wanted: dict[bytes, list[Deferred[None]]] = {always: []}
        """Each with whoever waits for its confirmation."""
        self._confirmed: set[bytes] = set()
        self._asking: Asking | None = None

    @property
    def complete(self) -> bool:
        """Whether every channel has been confirmed."""
        return len(self._confirmed) == len(self._wanted)

    def begin(self, asking: Asking) -> None:
        """Ask for every channel by a new connection."""
        self._asking = asking
        asking.subscribe(list(self._wanted))

    def end(self) -> None:
        """Take note that the connection is gone: whoever waits is refused, and its channel is not wanted any more."""
        self._asking = None
        self._confirmed.clear()
        refused = {channel: waiting for channel, waiting in self._wanted.items() if waiting}
        for channel in refused:
            del self._wanted[channel]
        # Only now: whoever is refused leaves its other channels too.
        for waiting in refused.values():
            for done in waiting:
                done.errback(BrokerDown(AWAY))

    def subscribe(self, channel: bytes) -> "Deferred[None]":
        """
        Want a channel.

        Returns:
            Fires once Redis has confirmed it; fails with `NotPermitted` where Redis refuses it, and with `BrokerDown`
            where there is no connection or too many wait.
        """
        if self._asking is None:
            return fail(BrokerDown(AWAY))
        if channel in self._confirmed:
            return succeed(None)
        done: Deferred[None] = Deferred()
        if channel in self._wanted:
            self._wanted[channel].append(done)
            return done
        if self._asking.unanswered >= MAX_UNANSWERED:
            return fail(BrokerDown("too many subscriptions wait for Redis"))
        self._wanted[channel] = [done]
        self._asking.subscribe([channel])
        return done

    def unsubscribe(self, channel: bytes) -> None:
        """Want a channel no more; one that is not wanted is no mistake."""
        if self._wanted.pop(channel, None) is None:
            return
        self._confirmed.discard(channel)
        if self._asking is not None:
            self._asking.unsubscribe(channel)

    def confirm(self, channel: bytes) -> None:
        """Take note that messages of a channel come from now on."""
        waiting = self._wanted.get(channel)
        if waiting is None:
            return
        self._confirmed.add(channel)
        answered, waiting[:] = waiting[:], []
        for done in answered:
            done.callback(None)

    def refuse(self, channels: list[bytes], why: str, *, alone: bool) -> list[bytes]:
        """
        Take note that Redis has refused some channels.

        Args:
            channels: of one question.
            why: what Redis said.
            alone: whether there was no other in the question; else it may have been another that is not permitted.

        Returns:
            Those that are not wanted any more though nobody has left them, as they were confirmed once.
        """
        wanted = [channel for channel in channels if channel in self._wanted]
        if not alone and self._asking is not None:
            # Which one it was can only be found out by asking for fewer.
            middle = (len(wanted) + 1) // 2
            self._asking.subscribe(wanted[:middle])
            self._asking.subscribe(wanted[middle:])
            return []
        lost = []
        for channel in wanted:
            waiting = self._wanted.pop(channel)
            if not waiting:
                lost.append(channel)
            for done in waiting:
                done.errback(NotPermitted(f"Redis does not permit the server to listen to it: {why}"))
        return lost
