"""
Deliveries: encode publications and presence events as frames, and write the frames to subscribers.

Subscribers that receive deltas have their `base`: the last publication that they have received. The frames for them are
encoded once for each kind and each base. Almost always, all subscribers of a kind have the same base.

For subscribers with a filter, each filter is evaluated once for each publication. A publication that matches several
filters is still encoded only once.
"""

from collections.abc import Callable, Hashable, Sequence
from functools import cache, partial
from itertools import groupby
from operator import attrgetter
from typing import Any, Final

import msgspec
from twisted.logger import Logger

from wsserver.hub.delta import DeltaKind
from wsserver.hub.filters import FilteredKind
from wsserver.hub.publication import Publication
from wsserver.hub.send_queue import Batch
from wsserver.typing import ChannelName
from wsserver.wire.fastpath import write_all

__all__ = [
    "BYTES_PER_WRITE",
    "DeltaDelivery",
    "FilteredDelivery",
    "cost_of",
    "cost_of_filters",
    "deliver",
    "encode_frames",
    "log_failure",
    "notify_missed",
]

# At module level, because Twisted replaces the namespace of a class's logger by the class's name.
_log = Logger(namespace="wsserver.hub")

BYTES_PER_WRITE: Final = 16 * 1024
"""Number of bytes that count as one write to a subscriber; more bytes count as several writes."""


UNITS_PER_WRITE: Final = 16
"""Number of units of `Filter.cost` that count as one write to a subscriber."""

BYTES_PER_UNIT: Final = 32
"""Number of bytes for which the creation of a delta takes one unit of `Filter.cost`."""


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


class DeltaDelivery:
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
        """The id of a base -> the encoder, which keeps the base alive, and the results of `encode_frames`."""

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
        batch, whole = encode_frames(self._channel, encoder, self._publications)
        # It must not refer to this delivery, which has the batch: the garbage collector does not visit a batch.
        plain = cache(partial(_frame_without_deltas, self._channel, first, self._publications))
        return encoder, msgspec.structs.replace(batch, plain=plain), whole


class FilteredDelivery:
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
            return DeltaDelivery(self._channel, chosen)
        encoder = self._encoders.get(kind.kind)
        if encoder is None:
            encoder = self._encoders[kind.kind] = _Encoder(first)
        return partial(_deliver_framed, *encode_frames(self._channel, encoder, chosen))


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


def cost_of(publications: Sequence[Any]) -> int:
    """Return the number of writes that serving one subscriber counts as, if it receives the data of all of them."""
    return 1 + sum(len(one.data) for one in publications if isinstance(one, Publication)) // BYTES_PER_WRITE


def cost_of_filters(kinds: Sequence[FilteredKind], subscribers: int, publications: Sequence[Any]) -> int:
    """
    Return the number of writes that evaluating filters, and creating deltas for each of them, counts as.

    Args:
        kinds: the kinds of subscribers whose filters are evaluated once for each publication.
        subscribers: the number of subscribers of these kinds.
        publications: the publications and presence events.

    Returns:
        The number for each subscriber.
    """
    units = sum(one.filter.cost for one in kinds) * len(publications)
    size = sum(len(one.data) for one in publications if isinstance(one, Publication))
    units += sum(type(one.kind) is DeltaKind for one in kinds) * size // BYTES_PER_UNIT
    return units // (UNITS_PER_WRITE * subscribers)


def encode_frames(channel: ChannelName, first: Any, publications: Sequence[Any]) -> tuple[Batch, bool]:
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
    return encode_frames(channel, _DeltaEncoder(first, None, chained=False), publications)[0]


def _deliver_framed(batch: Batch, whole: bool, subscribers: list[Any]) -> None:
    if batch.count:
        deliver(batch, subscribers)
    if not whole:
        notify_missed(batch.channel, True, subscribers)


def deliver(batch: Batch, subscribers: list[Any]) -> None:
    """Write a batch to subscribers; those that cannot be written to directly receive it with their own `deliver`."""
    for one in write_all(subscribers, batch.frames, batch.count, batch.size, log_failure):
        try:
            one.deliver(batch)
        except Exception:
            log_failure(one)


def notify_missed(channel: ChannelName, stream: bool, subscribers: list[Any]) -> None:
    """Notify subscribers of a gap; for `stream`, see `wsserver.hub.broker.Subscriber.missed`."""
    for one in subscribers:
        try:
            one.missed(channel, stream)
        except Exception:
            log_failure(one)


def log_failure(_: Any) -> None:
    """Log the exception that a subscriber has raised; the delivery to the other subscribers continues."""
    _log.failure("delivering to a subscriber failed")
