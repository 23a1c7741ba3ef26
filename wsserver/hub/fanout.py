"""
Fan-out: deliver the publications that a channel received in one event-loop iteration to all its subscribers.

The publications are encoded as frames once for each kind of subscriber. The frames are joined, and one compiled loop
writes them to every subscriber. If there are very many subscribers, the loop is spread over several iterations of the
event loop; each subscriber still receives a channel's publications in order.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from twisted.internet.interfaces import IReactorTime

from wsserver.hub.broker import UNFRAMED
from wsserver.hub.deliveries import (
    BYTES_PER_WRITE,
    DeltaDelivery,
    FilteredDelivery,
    cost_of,
    cost_of_filters,
    deliver,
    encode_frames,
    log_failure,
    notify_missed,
)
from wsserver.hub.delta import DeltaKind
from wsserver.hub.filters import FilteredKind
from wsserver.typing import ChannelName

__all__ = ["MAX_JOBS", "MAX_WRITES", "FanOut"]

# A write takes the kernel a few microseconds, so 2000 writes take about ten milliseconds.
MAX_WRITES: Final = 2000
"""Maximum number of writes in one event-loop iteration; the remaining subscribers follow in the next iterations."""

MAX_JOBS: Final = 64
"""
Maximum number of queued jobs: deliveries that have not reached all their subscribers. Beyond it, the oldest jobs are
finished immediately, regardless of `MAX_WRITES`. This blocks the event loop, so that publishers have to wait.
"""

Kinds = Mapping[Hashable, Mapping[Any, None]]
"""`Subscriber.kind` -> the subscribers of that kind, in the order of subscription."""


class _Job:
    """A delivery to the subscribers of a channel. The function `act` delivers to several subscribers at a time."""

    __slots__ = ("act", "channel", "cost", "done", "gone", "started", "subscribers")

    def __init__(
        self,
        channel: ChannelName,
        subscribers: list[Any],
        act: Callable[[list[Any]], None],
        cost: int,
        started: float,
    ) -> None:
        self.channel = channel
        self.subscribers = subscribers
        self.act = act
        self.cost = cost
        """Number of writes that serving one subscriber counts as."""
        self.started = started
        """When the delivery was requested, on the reactor's clock."""
        self.done = 0
        """Number of subscribers that have been served."""
        self.gone: set[Any] = set()
        """Subscribers that have unsubscribed from the channel since the job was queued."""

    def step(self, most: int) -> int:
        """Serve the next subscribers, with at most `most` writes but at least one subscriber; return the writes."""
        some, most = self.subscribers, max(most // self.cost, 1)
        if self.done or len(some) > most:
            some = some[self.done : self.done + most]
        self.done += len(some)
        self.act(some if not self.gone else [one for one in some if one not in self.gone])
        return len(some) * self.cost


class FanOut:
    """
    Delivers publications, presence events and notices to subscribers.

    Args:
        reactor: schedules the continuation of a delivery in the next event-loop iteration.
        budget: maximum number of writes in one event-loop iteration.
    """

    def __init__(self, reactor: IReactorTime, budget: int = MAX_WRITES) -> None:
        self._reactor = reactor
        self._budget = self._left = budget
        self._jobs: deque[_Job] = deque()
        self._busy = self._scheduled = False
        self.observe: Callable[[float], object] | None = None
        """Called with the duration of each delivery in seconds; None if nobody wants to know."""

    def publish(self, channel: ChannelName, kinds: Kinds, publications: Sequence[Any]) -> None:
        """
        Deliver publications and presence events to a channel's subscribers.

        Args:
            channel: the channel's name.
            kinds: the subscribers to deliver to.
            publications: the publications and presence events, in order.
        """
        filtered: list[Any] = []
        filters: list[FilteredKind] = []
        for kind, alike in list(kinds.items()):
            subscribers = list(alike)
            if not subscribers:
                # They have left as a result of the delivery to another kind.
                continue
            if type(kind) is FilteredKind:
                filtered += subscribers
                filters.append(kind)
                continue
            if kind is UNFRAMED:
                self._start(channel, subscribers, partial(_receive, channel, tuple(publications)), len(publications))
                continue
            if type(kind) is DeltaKind:
                delivery = DeltaDelivery(channel, tuple(publications))
                self._start(channel, subscribers, delivery, cost_of(publications))
                continue
            batch, whole = encode_frames(channel, subscribers[0], publications)
            if batch.count:
                self._start(channel, subscribers, partial(deliver, batch), 1 + len(batch.frames) // BYTES_PER_WRITE)
            if not whole:
                self._start(channel, list(alike), partial(notify_missed, channel, True))
        if filtered:
            cost = cost_of(publications) + cost_of_filters(filters, len(filtered), publications)
            self._start(channel, filtered, FilteredDelivery(channel, tuple(publications)), cost)

    def missed(self, channel: ChannelName, subscribers: Iterable[Any], *, stream: bool) -> None:
        """
        Notify subscribers of a gap: publications may be missing. Earlier deliveries to them are completed first.

        Args:
            channel: the channel's name.
            subscribers: the subscribers to notify.
            stream: True if publications with an offset may be missing; False if only those without an offset may be.
        """
        self._start(channel, list(subscribers), partial(notify_missed, channel, stream))

    def on_permission_revoked(self, channel: ChannelName, subscribers: Iterable[Any]) -> None:
        """Notify former subscribers of a channel that Redis no longer permits the server to read the channel."""
        self._start(channel, list(subscribers), partial(_notify_revoked, channel))

    def left(self, channel: ChannelName, subscriber: Any) -> None:
        """Cancel the queued deliveries of a channel's publications to a subscriber that has unsubscribed from it."""
        for job in self._jobs:
            if job.channel == channel:
                job.gone.add(subscriber)

    def refill(self) -> None:
        """Reset the number of writes left, and continue with the queued jobs; called once per event-loop iteration."""
        self._left = self._budget
        if self._jobs:
            self._run()

    def _start(
        self, channel: ChannelName, subscribers: list[Any], act: Callable[[list[Any]], None], cost: int = 1
    ) -> None:
        """Deliver at once if there are enough writes left, and no earlier delivery is still in progress."""
        writes = len(subscribers) * cost
        started = self._reactor.seconds() if self.observe is not None else 0.0
        # A subscriber may cause another delivery while it is served. The new delivery starts after the current one.
        if self._busy or self._jobs or writes > self._left:
            self._jobs.append(_Job(channel, subscribers, act, cost, started))
        else:
            self._left -= writes
            self._busy = True
            try:
                act(subscribers)
            finally:
                self._busy = False
            if self.observe is not None:
                self.observe(self._reactor.seconds() - started)
        if self._jobs and not self._busy:
            self._run()

    def _run(self) -> None:
        self._busy = True
        try:
            while self._jobs and (self._left > 0 or len(self._jobs) > MAX_JOBS):
                job = self._jobs[0]
                self._left -= job.step(self._left)
                if job.done == len(job.subscribers):
                    self._jobs.popleft()
                    if self.observe is not None:
                        self.observe(self._reactor.seconds() - job.started)
        finally:
            self._busy = False
        if self._jobs and not self._scheduled:
            self._scheduled = True
            self._reactor.callLater(0, self._continue)

    def _continue(self) -> None:
        self._scheduled = False
        self.refill()


def _receive(channel: ChannelName, publications: Sequence[Any], subscribers: list[Any]) -> None:
    for one in subscribers:
        one.receive(channel, publications)


def _notify_revoked(channel: ChannelName, subscribers: list[Any]) -> None:
    for one in subscribers:
        try:
            one.on_permission_revoked(channel)
        except Exception:
            log_failure(one)
