"""
Occupancy: which channels have subscribers in any process, and the events that tell the application's backend.

A channel is occupied from its first subscriber on, and vacated `VACATE_DELAY` seconds after its last subscriber has
left, if no other has come. The store counts the processes that have subscribers, and queues the events. So the events
of a channel alternate, and one process at a time sends them, in order. An event stays in the queue until the backend
has accepted it: it is sent at least once.

The queue is limited to `MAX_EVENTS` events. While it is full, the channels keep their state: a channel that is occupied
meanwhile is queued later, and not at all if it is vacated before. No event is dropped.
"""

import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple, Protocol

from twisted.internet.interfaces import IReactorTime

from wsserver.hub.channel_events import ChannelEvent
from wsserver.hub.deferreds import MaybeDeferred
from wsserver.typing import ChannelName

__all__ = ["BATCH", "MAX_EVENTS", "VACATE_DELAY", "MemoryOccupancy", "OccupancyStore", "Tick"]

VACATE_DELAY = 5.0
"""Seconds after which a channel without subscribers is vacated; the same as in Centrifugo."""

MAX_EVENTS = 10_000
"""Maximum number of queued events."""

BATCH = 500
"""Maximum number of channels that are updated at once."""


class Tick(NamedTuple):
    """The result of `OccupancyStore.tick`."""

    known: bool
    """Whether the store knows which channels have subscribers in this process. If not, the caller has to update all."""
    events: int
    """Number of queued events."""
    more: bool = False
    """Whether more is due than was done, because one call is limited: the caller calls again without waiting."""


class OccupancyStore(Protocol):
    """
    Which channels are occupied, and the queue of events; shared by all processes.

    The methods raise `BrokerDown`, or return a Deferred that fails with it, if the broker is unavailable. They may be
    called again with the same arguments.
    """

    def update(
        self, occupied: Collection[ChannelName], left: Collection[ChannelName]
    ) -> MaybeDeferred[Collection[ChannelName]]:
        """
        Record which channels have subscribers in this process.

        Args:
            occupied: channels that have subscribers in this process.
            left: channels that have none.

        Returns:
            The channels that were not recorded, because the queue of events is full or the store does not know this
            process any longer. The caller tries again after the next `tick`.
        """

    def tick(self) -> MaybeDeferred[Tick]:
        """Queue the events of vacated channels, and remove dead processes. Called every `TICK_INTERVAL` seconds."""

    def take(self, limit: int) -> MaybeDeferred[Sequence[ChannelEvent]]:
        """Return the oldest events; none if another process is sending them."""

    def accept(self, count: int) -> MaybeDeferred[None]:
        """Remove the oldest `count` events from the queue, which `take` has returned."""

    def close(self) -> None:
        """Stop tracking: the process stops, and has no subscribers any longer."""


class MemoryOccupancy:
    """
    The occupancy of a single process, in its memory.

    Args:
        clock: measures `VACATE_DELAY`.
        now: returns UNIX time in seconds.
    """

    def __init__(self, clock: IReactorTime, now: Callable[[], float] = time.time) -> None:
        self._clock, self._now = clock, now
        self._occupied: dict[ChannelName, None] = {}
        """The channels whose last event is `occupied`, in the order of these events."""
        self._vacating: dict[ChannelName, float] = {}
        """Channel without subscribers -> when it is vacated, the earliest first."""
        self._events: deque[ChannelEvent] = deque()

    def update(self, occupied: Collection[ChannelName], left: Collection[ChannelName]) -> Collection[ChannelName]:
        """Record which channels have subscribers; see `OccupancyStore.update`."""
        refused = []
        for channel in occupied:
            if channel in self._occupied:
                self._vacating.pop(channel, None)
            elif len(self._events) >= MAX_EVENTS:
                refused.append(channel)
            else:
                self._occupied[channel] = None
                self._queue(channel, occupied=True)
        for channel in left:
            if channel in self._occupied and channel not in self._vacating:
                self._vacating[channel] = self._clock.seconds() + VACATE_DELAY
        return refused

    def _queue(self, channel: ChannelName, *, occupied: bool) -> None:
        self._events.append(ChannelEvent(channel, occupied, int(self._now() * 1000)))

    def tick(self) -> Tick:
        """Queue the events of vacated channels."""
        now = self._clock.seconds()
        while self._vacating and len(self._events) < MAX_EVENTS:
            channel = next(iter(self._vacating))
            if self._vacating[channel] > now:
                break
            del self._vacating[channel]
            del self._occupied[channel]
            self._queue(channel, occupied=False)
        return Tick(True, len(self._events))

    def take(self, limit: int) -> Sequence[ChannelEvent]:
        """Return the oldest events."""
        return [self._events[index] for index in range(min(limit, len(self._events)))]

    def accept(self, count: int) -> None:
        """Remove the oldest events."""
        for _ in range(count):
            self._events.popleft()

    def close(self) -> None:
        """Vacate all channels at once: when the process has stopped, nobody knows about them."""
        self._vacating = dict.fromkeys(self._occupied, self._clock.seconds())
        self.tick()
