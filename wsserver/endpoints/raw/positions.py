"""
Stream positions of a raw subscriber: in each channel, the epoch and offset of the last publication that it received.

An event ID contains the positions in all channels. A subscriber that reconnects sends the last event ID that it
received, and the server sends the publications after these positions: the missed ones.
"""

from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.python.failure import Failure

from wsserver.endpoints.raw.request import RawSubscribeRequest
from wsserver.endpoints.refusals import refusal_for
from wsserver.errors import BrokerDown
from wsserver.hub.broker import Subscriber, first_cause
from wsserver.hub.channel import BufferBudget
from wsserver.hub.hub import Hub, Joined
from wsserver.hub.publication import Publication
from wsserver.hub.recovery import MAX_BUFFERED
from wsserver.hub.stream import Position, parse_positions, write_positions
from wsserver.typing import ChannelName
from wsserver.wire.http11 import Refusal

__all__ = ["Missed", "StreamPositions", "refuse_subscription"]


def refuse_subscription(failure: Failure) -> Refusal:
    """Return the HTTP refusal for a failure of `StreamPositions.subscribe`: 403, or 503 if the failure is temporary."""
    failure.trap(BrokerDown)
    error = failure.value
    assert isinstance(error, BrokerDown)
    return refusal_for(error)


class Missed(NamedTuple):
    """A publication that a subscriber missed before it reconnected, or a gap."""

    channel: ChannelName
    publication: Publication | None
    """None for a gap: the stream no longer contains publications that the subscriber missed."""
    event_id: str
    """The subscriber's positions after this publication or gap."""


class StreamPositions:
    """
    The stream positions of one raw subscriber.

    Args:
        request: the subscriber's channels, and its last event ID.
    """

    __slots__ = ("_at", "_behind", "_early", "_joined", "_resumes")

    def __init__(self, request: RawSubscribeRequest) -> None:
        self._resumes = bool(request.last_event_id)
        since = parse_positions(request.last_event_id, len(request.channels)) or [None] * len(request.channels)
        self._at: dict[ChannelName, Position | None] = dict(zip(request.channels, since, strict=True))
        self._joined: list[Joined] = []
        self._behind: list[ChannelName] = []
        """Channels with pages of missed publications that have not been read. The last channel is read next."""
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
            A Deferred that fires when all channels are subscribed. If it fails with `BrokerDown`, no channel is.
        """

        def joined(found: list[Joined]) -> None:
            self._joined = found

        def failed(failure: Failure) -> Failure:
            for channel in self._at:
                hub.unsubscribe(channel, subscriber)
            return first_cause(failure)

        positioned = positioned or self._resumes
        budget = BufferBudget(MAX_BUFFERED)
        each = [
            maybeDeferred(hub.subscribe, channel, subscriber, since=since, positioned=positioned, budget=budget)
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
        for channel, joined in zip(list(self._at), self._joined, strict=True):
            self._at[channel] = joined.position
            if joined.behind:
                self._behind.append(channel)
            if self._resumes and not joined.recovered and joined.position is not None:
                missed.append(Missed(channel, None, self.write()))
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
            The publications and gaps to send to the subscriber.
        """
        channel, missed = self._behind[-1], []
        for publication in page.publications:
            self._at[channel] = Position(publication.offset, publication.epoch)
            missed.append(Missed(channel, publication, self.write()))
        if page.position is not None:
            self._at[channel] = page.position
            if not page.recovered:
                missed.append(Missed(channel, None, self.write()))
        if not page.behind:
            self._behind.pop()
        return missed

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
