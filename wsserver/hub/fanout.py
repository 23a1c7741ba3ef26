"""
The fan-out: what one turn has brought to a channel, to everyone who listens to it.

It is written once for each kind of subscriber, joined, and handed out by one compiled loop. Where there are very many
subscribers, the loop lets go of the reactor in between; the order within each channel stays.
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
from wsserver.wire.fastpath import hand

__all__ = ["MAX_JOBS", "SHARE", "WRITE", "FanOut"]

# Of the module, not of a class: on a class Twisted would replace the namespace by the class's name.
_log = Logger(namespace="wsserver.hub")

# A write takes the kernel some microseconds, so this is about ten milliseconds.
SHARE: Final = 2000
"""Most writes in one turn of the reactor; the other subscribers wait for the next."""

WRITE: Final = 16 * 1024
"""Bytes that count as one write; more count as several."""

MAX_JOBS: Final = 64
"""Most batches that wait for their turn; with more, publishers wait instead: the oldest is handed out at once."""

Kinds = Mapping[Hashable, Mapping[Any, None]]
"""Kind -> the subscribers of that kind, in the order they came."""


class _Job:
    """Something to do with some subscribers of a channel."""

    __slots__ = ("act", "channel", "cost", "done", "gone", "subscribers")

    def __init__(
        self, channel: ChannelName, subscribers: list[Any], act: Callable[[list[Any]], None], cost: int
    ) -> None:
        self.channel = channel
        self.subscribers = subscribers
        self.act = act
        self.cost = cost
        """How many writes one subscriber counts for."""
        self.done = 0
        self.gone: set[Any] = set()
        """Those who have left the channel meanwhile."""

    def step(self, most: int) -> int:
        """Serve some more subscribers, by so many writes or one subscriber; returns how many writes it took."""
        some, most = self.subscribers, max(most // self.cost, 1)
        if self.done or len(some) > most:
            some = some[self.done : self.done + most]
        self.done += len(some)
        self.act(some if not self.gone else [one for one in some if one not in self.gone])
        return len(some) * self.cost


class FanOut:
    """
    Hand out what is published.

    Args:
        reactor: for the next turn.
        share: most writes in one turn.
    """

    def __init__(self, reactor: IReactorTime, share: int = SHARE) -> None:
        self._reactor = reactor
        self._share = self._left = share
        self._jobs: deque[_Job] = deque()
        self._busy = self._scheduled = False

    def publish(self, channel: ChannelName, kinds: Kinds, publications: Sequence[Any]) -> None:
        """
        Hand out publications, and events of presence among them.

        Args:
            channel: where they were published.
            kinds: who listens there at this moment.
            publications: in their order.
        """
        for kind in list(kinds):
            # Those of one kind may have left because of what another kind was given.
            first: Any = next(iter(kinds.get(kind, ())), None)
            if first is None:
                continue
            if kind == UNFRAMED:
                self._start(channel, kinds[kind], partial(_receive, channel, tuple(publications)), len(publications))
                continue
            batch, whole = _write(channel, first, publications)
            if batch.count:
                self._start(channel, kinds[kind], partial(_hand, batch), 1 + len(batch.frames) // WRITE)
            if not whole:
                self._start(channel, kinds.get(kind, ()), partial(_tell, channel, True))

    def missed(self, channel: ChannelName, subscribers: Iterable[Any], *, stream: bool) -> None:
        """
        Tell subscribers that publications may be missing, after what came before.

        Args:
            channel: of which.
            subscribers: who listens there.
            stream: among them some that have an offset.
        """
        self._start(channel, subscribers, partial(_tell, channel, stream))

    def on_permission_revoked(self, channel: ChannelName, subscribers: Iterable[Any]) -> None:
        """Tell those who listened to a channel that the server may not listen to it any more."""
        self._start(channel, subscribers, partial(_bar, channel))

    def left(self, channel: ChannelName, subscriber: Any) -> None:
        """Hand nothing more of a channel to somebody who has left it."""
        for job in self._jobs:
            if job.channel == channel:
                job.gone.add(subscriber)

    def refill(self) -> None:
        """Begin a turn: there may be as many writes again."""
        self._left = self._share
        if self._jobs:
            self._run()

    def _start(
        self, channel: ChannelName, subscribers: Iterable[Any], act: Callable[[list[Any]], None], cost: int = 1
    ) -> None:
        self._jobs.append(_Job(channel, list(subscribers), act, cost))
        # What a subscriber causes while it is served comes after what is being handed out.
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
            self._reactor.callLater(0, self._go_on)

    def _go_on(self) -> None:
        self._scheduled = False
        self.refill()


def _write(channel: ChannelName, first: Any, publications: Sequence[Any]) -> tuple[Batch, bool]:
    """Write publications as one of its kind does; tells, too, whether all could be written."""
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
            _log.failure("a publication to {channel} could not be written", channel=channel)
            whole = False
            continue
        if frame:
            frames.append(frame)
            size += length
    return Batch(channel, frames[0] if len(frames) == 1 else b"".join(frames), len(frames), size, newest), whole


def _hand(batch: Batch, subscribers: list[Any]) -> None:
    def other(one: Any) -> None:
        try:
            # Whoever can let a batch wait is given it as it is.
            take = getattr(one, "take", None)
            if take is not None:
                take(batch)
            else:
                one.deliver(batch.frames, batch.count, batch.size)
        except Exception:
            _failed(one)

    hand(subscribers, batch.frames, batch.count, batch.size, other, _failed)


def _receive(channel: ChannelName, publications: Sequence[Any], subscribers: list[Any]) -> None:
    for one in subscribers:
        one.receive(channel, publications)


def _tell(channel: ChannelName, stream: bool, subscribers: list[Any]) -> None:
    for one in subscribers:
        try:
            one.missed(channel, stream)
        except Exception:
            _failed(one)


def _bar(channel: ChannelName, subscribers: list[Any]) -> None:
    for one in subscribers:
        try:
            one.on_permission_revoked(channel)
        except Exception:
            _failed(one)


def _failed(_: Any) -> None:
    """Called in an `except` clause: it concerns one subscriber, and nobody else."""
    _log.failure("a subscriber failed")
