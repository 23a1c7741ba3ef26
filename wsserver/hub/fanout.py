"""
Fan-out: deliver the publications that a channel has received in one turn of the reactor to all its subscribers.

The publications are framed once for each kind of subscriber, joined, and written by one compiled loop. If there are
very many subscribers, the loop is spread over several turns; the order within each channel is kept.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from wsserver.hub.broker import UNFRAMED
from wsserver.hub.publication import Publication
from wsserver.hub.send_queue import Batch
from wsserver.typing import ChannelName
from wsserver.wire.fastpath import write_all

__all__ = ["BYTES_PER_WRITE", "MAX_JOBS", "MAX_WRITES", "FanOut"]

# At module level, because Twisted replaces the namespace of a class's logger by the class's name.
_log = Logger(namespace="wsserver.hub")

# A write takes the kernel some microseconds, so this is about ten milliseconds.
MAX_WRITES: Final = 2000
"""Maximum number of writes in one turn of the reactor; the remaining subscribers are served in the next turns."""

BYTES_PER_WRITE: Final = 16 * 1024
"""Number of bytes that count as one write; larger frames count as several."""

MAX_JOBS: Final = 64
"""
Maximum number of jobs in the queue. Beyond it, the oldest jobs are finished at once, regardless of the number of
writes, so that publishers have to wait.
"""

Kinds = Mapping[Hashable, Mapping[Any, None]]
"""Kind -> the subscribers of that kind, in the order of subscription."""


class _Job:
    """A function to call with subscribers of a channel, and the subscribers that it has not been called with yet."""

    __slots__ = ("act", "channel", "cost", "done", "gone", "subscribers")

    def __init__(
        self, channel: ChannelName, subscribers: list[Any], act: Callable[[list[Any]], None], cost: int
    ) -> None:
        self.channel = channel
        self.subscribers = subscribers
        self.act = act
        self.cost = cost
        """Number of writes that one subscriber counts as."""
        self.done = 0
        """Number of subscribers that have been served."""
        self.gone: set[Any] = set()
        """Subscribers that have left the channel since the job was queued."""

    def step(self, most: int) -> int:
        """Serve the next subscribers, at least one, with at most `most` writes; return the number of writes."""
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
        reactor: continues the delivery in the next turn.
        budget: maximum number of writes in one turn.
    """

    def __init__(self, reactor: IReactorTime, budget: int = MAX_WRITES) -> None:
        self._reactor = reactor
        self._budget = self._left = budget
        self._jobs: deque[_Job] = deque()
        self._busy = self._scheduled = False

    def publish(self, channel: ChannelName, kinds: Kinds, publications: Sequence[Any]) -> None:
        """
        Deliver publications and presence events.

        Args:
            channel: the channel's name.
            kinds: the channel's subscribers at this moment.
            publications: the publications and presence events, in order.
        """
        for kind in list(kinds):
            # Subscribers of this kind may have left as a result of the delivery to another kind.
            first: Any = next(iter(kinds.get(kind, ())), None)
            if first is None:
                continue
            if kind == UNFRAMED:
                self._start(channel, kinds[kind], partial(_receive, channel, tuple(publications)), len(publications))
                continue
            batch, whole = _frame(channel, first, publications)
            if batch.count:
                self._start(channel, kinds[kind], partial(_deliver, batch), 1 + len(batch.frames) // BYTES_PER_WRITE)
            if not whole:
                self._start(channel, kinds.get(kind, ()), partial(_notify_missed, channel, True))

    def missed(self, channel: ChannelName, subscribers: Iterable[Any], *, stream: bool) -> None:
        """
        Notify subscribers of a gap, after everything that was queued for them before.

        Args:
            channel: the channel's name.
            subscribers: the subscribers to notify.
            stream: whether publications with an offset may be missing; if False, only ones without an offset may be.
        """
        self._start(channel, subscribers, partial(_notify_missed, channel, stream))

    def on_permission_revoked(self, channel: ChannelName, subscribers: Iterable[Any]) -> None:
        """Notify former subscribers that the broker no longer permits the server to read the channel."""
        self._start(channel, subscribers, partial(_notify_revoked, channel))

    def left(self, channel: ChannelName, subscriber: Any) -> None:
        """Stop the queued deliveries of a channel to a subscriber that has left it."""
        for job in self._jobs:
            if job.channel == channel:
                job.gone.add(subscriber)

    def refill(self) -> None:
        """Begin a turn of the reactor: reset the budget of writes, and continue with the queued jobs."""
        self._left = self._budget
        if self._jobs:
            self._run()

    def _start(
        self, channel: ChannelName, subscribers: Iterable[Any], act: Callable[[list[Any]], None], cost: int = 1
    ) -> None:
        self._jobs.append(_Job(channel, list(subscribers), act, cost))
        # A subscriber may cause another delivery while it is served. That one starts after the current one.
        if not self._busy:
            self._run()

    def _run(self) -> None:
        self._busy = True
        try:
            while self._jobs and (self._left > 0 or len(self._jobs) > MAX_JOBS):
                job = self._jobs[0]
                self._left -= job.step(self._left)
                if job.done == len(job.subscribers):
                    self._jobs.popleft()
        finally:
            self._busy = False
        if self._jobs and not self._scheduled:
            self._scheduled = True
            self._reactor.callLater(0, self._continue)

    def _continue(self) -> None:
        self._scheduled = False
        self.refill()


def _frame(channel: ChannelName, first: Any, publications: Sequence[Any]) -> tuple[Batch, bool]:
    """
    Frame publications and presence events for one kind of subscriber.

    Args:
        channel: the channel's name.
        first: any subscriber of that kind; its methods make the frames.
        publications: the publications and presence events, in order.

    Returns:
        The frames, and whether all items could be framed.
    """
    frames: list[bytes] = []
    size, newest, whole = 0, None, True
    for one in publications:
        try:
            if isinstance(one, Publication):
                frame, length = first.frame(channel, one), len(one.data)
                newest = frame, length
            else:
                frame = first.event_frame(channel, one)
                length = len(frame)
        except Exception:
            _log.failure("framing a publication failed channel={channel}", channel=channel)
            whole = False
            continue
        if frame:
            frames.append(frame)
            size += length
    return Batch(channel, frames[0] if len(frames) == 1 else b"".join(frames), len(frames), size, newest), whole


def _deliver(batch: Batch, subscribers: list[Any]) -> None:
    def deliver_one(one: Any) -> None:
        try:
            one.deliver(batch)
        except Exception:
            _log_failure(one)

    write_all(subscribers, batch.frames, batch.count, batch.size, deliver_one, _log_failure)


def _receive(channel: ChannelName, publications: Sequence[Any], subscribers: list[Any]) -> None:
    for one in subscribers:
        one.receive(channel, publications)


def _notify_missed(channel: ChannelName, stream: bool, subscribers: list[Any]) -> None:
    for one in subscribers:
        try:
            one.missed(channel, stream)
        except Exception:
            _log_failure(one)


def _notify_revoked(channel: ChannelName, subscribers: list[Any]) -> None:
    for one in subscribers:
        try:
            one.on_permission_revoked(channel)
        except Exception:
            _log_failure(one)


def _log_failure(_: Any) -> None:
    """Log the current exception of one subscriber; the delivery to the others continues."""
    _log.failure("delivering to a subscriber failed")
