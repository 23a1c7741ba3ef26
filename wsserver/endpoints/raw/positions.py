"""
Stream positions of a raw subscriber: in each channel, the epoch and offset of the last publication that it received.

An event ID contains the positions in all channels. A subscriber that reconnects sends the last event ID that it
received, and the server sends the publications after these positions: the missed ones.
"""

from enum import Enum
from functools import partial
from typing import Any, Final, NamedTuple

from twisted.internet.defer import Deferred, fail, gatherResults, maybeDeferred
from twisted.python.failure import Failure

from wsserver.endpoints.raw.request import UNKNOWN_POSITION, RawSubscribeRequest
from wsserver.endpoints.refusals import refusal_for
from wsserver.errors import BrokerDown, InvalidFilter, NotEnabled
from wsserver.hub.broker import Subscriber, first_cause
from wsserver.hub.channel import BufferBudget
from wsserver.hub.hub import Hub, Joined
from wsserver.hub.publication import Publication
from wsserver.hub.recovery import MAX_BUFFERED
from wsserver.hub.stream import Position, parse_positions, write_positions
from wsserver.typing import ChannelName
from wsserver.wire.http11 import Refusal, bad_request

__all__ = ["Missed", "Notice", "StreamPositions", "refuse_subscription"]


_NOWHERE: Final = Position(0, UNKNOWN_POSITION)
"""A position from which no channel can be recovered: no stream has an epoch with a colon."""


def refuse_subscription(failure: Failure) -> Refusal:
    """
    Return the HTTP refusal for a failure of `StreamPositions.subscribe`.

    It is 400 for a rewind of a channel without a history or a filter of a channel without filters, 403 if Redis does
    not permit the channel, or 503 if the failure is temporary.
    """
    failure.trap(BrokerDown, InvalidFilter, NotEnabled)
    error = failure.value
    if isinstance(error, NotEnabled):
        return bad_request(f"rewind: {error}")
    assert isinstance(error, BrokerDown | InvalidFilter)
    return refusal_for(error)


class Notice(Enum):
    """A message about a channel that is not a publication."""

    GAP = "gap"
    """The stream no longer contains publications that the subscriber missed."""
    REWOUND = "rewound"
    """The subscriber's rewind has ended: all later publications are new."""


class Missed(NamedTuple):
    """A publication that a subscriber missed before it reconnected, or of its rewind; or a notice."""

    channel: ChannelName
    message: Publication | Notice
    event_id: str
    """The subscriber's positions after this message."""


class StreamPositions:
    """
    The stream positions of one raw subscriber.

    Args:
        request: the subscriber's channels, its last event ID, and its rewind.
    """

    __slots__ = ("_at", "_behind", "_early", "_is_rewinding", "_joined", "_resumes", "_rewind")

    def __init__(self, request: RawSubscribeRequest) -> None:
        self._resumes = bool(request.last_event_id)
        self._rewind = request.rewind
        unknown = _NOWHERE if request.last_event_id == UNKNOWN_POSITION else None
        since = parse_positions(request.last_event_id, len(request.channels)) or [unknown] * len(request.channels)
        self._at: dict[ChannelName, Position | None] = dict(zip(request.channels, since, strict=True))
        self._joined: list[Joined] = []
        self._behind: list[ChannelName] = []
        """Channels with pages of missed publications that have not been read. The last channel is read next."""
        self._is_rewinding = False
        """Whether the channel `behind` is read because of a rewind, and no new publication of it has been read yet."""
        self._early: dict[ChannelName, Position] | None = {}
        """
        Positions of publications that arrived before `begin`. The subscriber receives these publications after the
        missed ones. None after `begin`.
        """

    def subscribe(self, hub: Hub, subscriber: Subscriber, *, positioned: bool) -> "Deferred[Any]":
        """
        Subscribe to all channels.

        Args:
            hub: the hub of the channels.
            subscriber: receives the publications from now on.
            positioned: whether the subscriber tracks its positions even if it sent no event ID.

        Returns:
            A Deferred that fires when all channels are subscribed. If it fails with `BrokerDown`, no channel is. It
            also fails with `NotEnabled` if the subscriber requests a rewind of a channel without a history, and with
            `InvalidFilter` if it has a filter and filters are not enabled for a channel.
        """
        if self._rewind:
            try:
                for channel in self._at:
                    hub.rules.require_history(channel)
            except NotEnabled:
                return fail()

        def joined(found: list[Joined]) -> None:
            self._joined = found

        def failed(failure: Failure) -> Failure:
            for channel in self._at:
                hub.unsubscribe(channel, subscriber)
            return first_cause(failure)

        positioned = positioned or self._resumes
        budget = BufferBudget(MAX_BUFFERED)
        each = [
            maybeDeferred(
                partial(hub.subscribe, channel, subscriber, positioned=positioned, budget=budget),
                since=since,
                rewind=hub.rules.for_channel(channel).rewind if self._rewind is None else self._rewind,
            )
            for channel, since in list(self._at.items())
        ]
        return gatherResults(each, consumeErrors=True).addCallbacks(joined, failed)

    @property
    def behind(self) -> ChannelName | None:
        """The channel whose next page of missed publications is to be read; None if all channels are recovered."""
        return self._behind[-1] if self._behind else None

    def begin(self) -> list[Missed]:
        """
        Set the initial positions, and return a gap for each channel whose missed publications cannot be recovered.

        Must be called once, before anything is sent to the subscriber. After that, `behind` is valid.
        """
        missed = []
        for (channel, since), joined in zip(list(self._at.items()), self._joined, strict=True):
            self._at[channel] = joined.position
            if joined.behind:
                self._behind.append(channel)
            # Without a position, the channel has no history, or a rewind begins. A client without a position in the
            # channel has received nothing from it before its rewind.
            is_lost = joined.position is not None or (joined.behind and since is not None)
            if self._resumes and not joined.recovered and is_lost:
                missed.append(Missed(channel, Notice.GAP, self.write()))
        self._behind.reverse()
        early, self._early, self._joined = self._early or {}, None, []
        self._at.update(early)
        return missed

    def add_page(self, page: Joined) -> list[Missed]:
        """
        Advance the position of the channel `behind` by a page of missed publications.

        Args:
            page: the result of `Hub.recover`.

        Returns:
            The publications and notices to send to the subscriber.
        """
        channel, missed = self._behind[-1], list[Missed]()
        # Only a channel whose rewind begins has no position while it is behind.
        self._is_rewinding |= self._at[channel] is None
        for publication in page.publications:
            if self._is_rewinding and not publication.rewound:
                missed.append(self._end_rewind(channel))
            self._at[channel] = Position(publication.offset, publication.epoch)
            missed.append(Missed(channel, publication, self.write()))
        if page.position is not None or page.behind:
            self._at[channel] = page.position
            if not page.recovered:
                missed.append(Missed(channel, Notice.GAP, self.write()))
        if not page.behind:
            if self._is_rewinding and page.position is not None:
                missed.append(self._end_rewind(channel))
            self._is_rewinding = False
            self._behind.pop()
        return missed

    def _end_rewind(self, channel: ChannelName) -> Missed:
        self._is_rewinding = False
        return Missed(channel, Notice.REWOUND, self.write())

    def move(self, channel: ChannelName, publication: Publication) -> str:
        """
        Advance the position of a channel by a publication that is sent to the subscriber.

        Returns:
            The new event ID. It is empty if the position has not changed; and before `begin` if the subscriber has
            several channels, because the positions of the others are not known yet.
        """
        if not publication.offset:
            return ""
        position = Position(publication.offset, publication.epoch)
        if self._early is not None:
            self._early[channel] = position
            return str(position) if len(self._at) == 1 else ""
        self._at[channel] = position
        return self.write()

    def jump(self, channel: ChannelName, position: Position | None) -> str:
        """
        Advance the position of a channel past a gap of which the subscriber has been notified.

        Args:
            channel: the channel.
            position: the position after the gap; None if it is unknown.

        Returns:
            The new event ID; empty if the position has not changed.
        """
        if position is None or self._early is not None:
            return ""
        self._at[channel] = position
        return self.write()

    def write(self) -> str:
        """Return the current positions as an event ID; empty if no channel has a stream."""
        return write_positions(self._at.values()) if any(self._at.values()) else ""
