"""
Fan-out: deliver the publications that a channel received in one event-loop iteration to all its subscribers.

The publications are encoded as frames once for each kind of subscriber. The frames are joined, and one compiled loop
writes them to every subscriber. If there are very many subscribers, the loop is spread over several iterations of the
event loop; each subscriber still receives a channel's publications in order.

Subscribers that receive deltas have their `base`: the last publication that they have received. The frames for them are
encoded once for each kind and each base. Almost always, all subscribers of a kind have the same base.

For subscribers with a filter, each filter is evaluated once for each publication. A publication that matches several
filters is still encoded only once.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import cache, partial
from itertools import groupby
from operator import attrgetter
from typing import Any, Final

import msgspec
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from wsserver.hub.broker import UNFRAMED
from wsserver.hub.delta import DeltaKind
from wsserver.hub.filters import FilteredKind
from wsserver.hub.publication import Publication
from wsserver.hub.send_queue import Batch
from wsserver.typing import ChannelName
from wsserver.wire.fastpath import write_all

__all__ = ["BYTES_PER_WRITE", "MAX_JOBS", "MAX_WRITES", "FanOut"]

# At module level, because Twisted replaces the namespace of a class's logger by the class's name.
_log = Logger(namespace="wsserver.hub")

# A write takes the kernel a few microseconds, so 2000 writes take about ten milliseconds.
MAX_WRITES: Final = 2000
"""Maximum number of writes in one event-loop iteration; the remaining subscribers follow in the next iterations."""

BYTES_PER_WRITE: Final = 16 * 1024
"""Number of bytes that count as one write to a subscriber; more bytes count as several writes."""

MAX_JOBS: Final = 64
"""
Maximum number of queued jobs: deliveries that have not reached all their subscribers. Beyond it, the oldest jobs are
finished immediately, regardless of `MAX_WRITES`. This blocks the event loop, so that publishers have to wait.
"""

Kinds = Mapping[Hashable, Mapping[Any, None]]
"""`Subscriber.kind` -> the subscribers of that kind, in the order of subscription."""


class _Job:
    """A delivery to the subscribers of a channel. The function `act` delivers to several subscribers at a time."""

    __slots__ = ("act", "channel", "cost", "done", "gone", "subscribers")

    def __init__(
        self, channel: ChannelName, subscribers: list[Any], act: Callable[[list[Any]], None], cost: int
    ) -> None:
        self.channel = channel
        self.subscribers = subscribers
        self.act = act
        self.cost = cost
        """Number of writes that serving one subscriber counts as."""
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

    def publish(self, channel: ChannelName, kinds: Kinds, publications: Sequence[Any]) -> None:
        """
        Deliver publications and presence events to a channel's subscribers.

        Args:
            channel: the channel's name.
            kinds: the subscribers to deliver to.
            publications: the publications and presence events, in order.
        """
        filtered: list[Any] = []
        for kind, alike in list(kinds.items()):
            subscribers = list(alike)
            if not subscribers:
                # They have left as a result of the delivery to another kind.
                continue
            if type(kind) is FilteredKind:
                filtered += subscribers
                continue
            if kind is UNFRAMED:
                self._start(channel, subscribers, partial(_receive, channel, tuple(publications)), len(publications))
                continue
            if type(kind) is DeltaKind:
                delivery = _DeltaDelivery(channel, tuple(publications))
                self._start(channel, subscribers, delivery, _cost(publications))
                continue
            batch, whole = _frame(channel, subscribers[0], publications)
            if batch.count:
                self._start(channel, subscribers, partial(_deliver, batch), 1 + len(batch.frames) // BYTES_PER_WRITE)
            if not whole:
                self._start(channel, list(alike), partial(_notify_missed, channel, True))
        if filtered:
            self._start(channel, filtered, _FilteredDelivery(channel, tuple(publications)), _cost(publications))

    def missed(self, channel: ChannelName, subscribers: Iterable[Any], *, stream: bool) -> None:
        """
        Notify subscribers of a gap: publications may be missing. Earlier deliveries to them are completed first.

        Args:
            channel: the channel's name.
            subscribers: the subscribers to notify.
            stream: True if publications with an offset may be missing; False if only those without an offset may be.
        """
        self._start(channel, list(subscribers), partial(_notify_missed, channel, stream))

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
        # A subscriber may cause another delivery while it is served. The new delivery starts after the current one.
        if self._busy or self._jobs or writes > self._left:
            self._jobs.append(_Job(channel, subscribers, act, cost))
        else:
            self._left -= writes
            self._busy = True
            try:
                act(subscribers)
            finally:
                self._busy = False
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
        finally:
            self._busy = False
        if self._jobs and not self._scheduled:
            self._scheduled = True
            self._reactor.callLater(0, self._continue)

    def _continue(self) -> None:
        self._scheduled = False
        self.refill()


class _DeltaEncoder:
    """
    Encodes successive publications for subscribers that have the same base.

    Args:
        first: any of the subscribers; its methods encode the frames.
        base: the publication that the subscribers have received last; None if there is none.
        chained: whether each publication is the base of the next one. If not, all are encoded without a delta.
    """

    def __init__(self, first: Any, base: Publication | None, *, chained: bool) -> None:
        self.event_frame = first.event_frame
        self._delta_frame = first.delta_frame
        self._chained = chained
        self._base = self.last = base
        """`_base` keeps the base alive. `last` is the publication that was encoded last."""

    def frame(self, channel: ChannelName, publication: Publication) -> bytes:
        """Return a publication encoded for these subscribers."""
        frame: bytes = self._delta_frame(channel, publication, self.last if self._chained else None)
        self.last = publication
        return frame


class _DeltaDelivery:
    """
    Delivers publications and presence events to subscribers of one `DeltaKind`: the function `act` of a job.

    The frames are encoded when the job reaches the first subscriber with a base. So the base is what the subscriber has
    really received by then, or what is in its send queue and will not be dropped.

    Args:
        channel: the channel's name.
        publications: the publications and presence events, in order.
    """

    def __init__(self, channel: ChannelName, publications: Sequence[Any]) -> None:
        self._channel = channel
        self._publications = publications
        self._encoded: dict[int, tuple[_DeltaEncoder, Batch, bool]] = {}
        """The id of a base -> the encoder, which keeps the base alive, and the results of `_frame`."""

    def __call__(self, subscribers: list[Any]) -> None:
        """Serve several subscribers."""
        groups: dict[int, list[Any]] = {}
        for one in subscribers:
            groups.setdefault(id(one.base), []).append(one)
        for base, group in groups.items():
            if base not in self._encoded:
                self._encoded[base] = self._encode(group[0])
            encoder, batch, whole = self._encoded[base]
            for one in group:
                one.base = encoder.last
            _deliver_framed(batch, whole, group)

    def _encode(self, first: Any) -> tuple[_DeltaEncoder, Batch, bool]:
        encoder = _DeltaEncoder(first, first.base, chained=True)
        batch, whole = _frame(self._channel, encoder, self._publications)
        # It must not refer to this delivery, which has the batch: the garbage collector does not visit a batch.
        plain = cache(partial(_frame_without_deltas, self._channel, first, self._publications))
        return encoder, msgspec.structs.replace(batch, plain=plain), whole


class _FilteredDelivery:
    """
    Delivers publications and presence events to the subscribers with filters: the function `act` of a job.

    There may be as many filters as subscribers. Therefore all kinds are served by one job, which evaluates a filter
    when it reaches the filter's first subscriber.

    Args:
        channel: the channel's name.
        publications: the publications and presence events, in order.
    """

    def __init__(self, channel: ChannelName, publications: Sequence[Any]) -> None:
        self._channel = channel
        self._publications = publications
        self._encoders: dict[Hashable, _Encoder] = {}
        """The kind of a subscriber, without its filter -> its frames."""
        self._kind: FilteredKind | None = None
        """The kind that was served last."""
        self._act: Callable[[list[Any]], None] = _skip
        """Serves several subscribers of that kind."""

    def __call__(self, subscribers: list[Any]) -> None:
        """Serve several subscribers; those of a kind are next to each other."""
        for kind, group in groupby(subscribers, attrgetter("kind")):
            alike = list(group)
            if kind != self._kind:
                self._kind, self._act = kind, self._prepare(kind, alike[0])
            self._act(alike)

    def _prepare(self, kind: FilteredKind, first: Any) -> Callable[[list[Any]], None]:
        """Evaluate a filter; return a function that delivers the publications that match."""
        matches = kind.filter.matches
        chosen = [one for one in self._publications if not isinstance(one, Publication) or matches(one.tags)]
        if not chosen:
            return _skip
        if type(kind.kind) is DeltaKind:
            return _DeltaDelivery(self._channel, chosen)
        encoder = self._encoders.get(kind.kind)
        if encoder is None:
            encoder = self._encoders[kind.kind] = _Encoder(first)
        return partial(_deliver_framed, *_frame(self._channel, encoder, chosen))


class _Encoder:
    """
    Encodes each publication once for all kinds that differ only in their filters.

    Args:
        first: any subscriber of one of the kinds.
    """

    def __init__(self, first: Any) -> None:
        self.event_frame = first.event_frame
        self._frame = first.frame
        self._frames: dict[int, bytes] = {}

    def frame(self, channel: ChannelName, publication: Publication) -> bytes:
        """Return a publication encoded for these kinds."""
        # The publications live as long as the delivery, so their ids are unique.
        frame = self._frames.get(id(publication))
        if frame is None:
            frame = self._frames[id(publication)] = self._frame(channel, publication)
        return frame


def _skip(_: list[Any]) -> None:
    """Deliver nothing."""


def _cost(publications: Sequence[Any]) -> int:
    """Return the number of writes that serving one subscriber counts as, if it receives the data of all of them."""
    return 1 + sum(len(one.data) for one in publications if isinstance(one, Publication)) // BYTES_PER_WRITE


def _frame(channel: ChannelName, first: Any, publications: Sequence[Any]) -> tuple[Batch, bool]:
    """
    Encode publications and presence events as frames for one kind of subscriber.

    Args:
        channel: the channel's name.
        first: any subscriber of that kind, an `_Encoder` or a `_DeltaEncoder`; its methods encode the frames.
        publications: the publications and presence events, in order.

    Returns:
        The frames, and whether all publications and events could be encoded.
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


def _frame_without_deltas(channel: ChannelName, first: Any, publications: Sequence[Any]) -> Batch:
    return _frame(channel, _DeltaEncoder(first, None, chained=False), publications)[0]


def _deliver_framed(batch: Batch, whole: bool, subscribers: list[Any]) -> None:
    if batch.count:
        _deliver(batch, subscribers)
    if not whole:
        _notify_missed(batch.channel, True, subscribers)


def _deliver(batch: Batch, subscribers: list[Any]) -> None:
    for one in write_all(subscribers, batch.frames, batch.count, batch.size, _log_failure):
        try:
            one.deliver(batch)
        except Exception:
            _log_failure(one)


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
    """Log the exception that a subscriber has raised; the delivery to the other subscribers continues."""
    _log.failure("delivering to a subscriber failed")
