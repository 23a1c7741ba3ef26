"""Where a raw listener stands in its channels: what it brings when it comes back, and takes along when it goes."""

from http import HTTPStatus
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from wsserver.errors import BrokerDown, NotPermitted, ServerNotPermitted
from wsserver.hub.broker import Subscriber
from wsserver.hub.hub import Hub, Joined
from wsserver.hub.names import RawSubscribeRequest
from wsserver.hub.publication import Publication
from wsserver.hub.stream import Position, parse_positions, write_positions
from wsserver.typing import ChannelName
from wsserver.wire.http11 import Refusal, unavailable

__all__ = ["Missed", "StreamPositions", "refuse_listener"]


def refuse_listener(failure: Failure) -> Refusal:
    """Return why `StreamPositions.subscribe` failed as an HTTP refusal: 403, or 503 if the failure is temporary."""
    failure.trap(BrokerDown)
    if failure.check(NotPermitted) and not failure.check(ServerNotPermitted):
        return Refusal(HTTPStatus.FORBIDDEN, str(failure.value))
    return unavailable(str(failure.value))


class Missed(NamedTuple):
    """Something that a returning listener has missed."""

    channel: ChannelName
    publication: Publication | None
    """None for what cannot be had any more."""
    place: str
    """Where the listener stands once it has that."""


class StreamPositions:
    """
    The places of one listener.

    Args:
        ask: its channels, and where it says that it stands.
    """

    __slots__ = ("_at", "_behind", "_early", "_joined", "_resumes")

    def __init__(self, ask: RawSubscribeRequest) -> None:
        self._resumes = bool(ask.last_event_id)
        since = parse_positions(ask.last_event_id, len(ask.channels)) or [None] * len(ask.channels)
        self._at: dict[ChannelName, Position | None] = dict(zip(ask.channels, since, strict=True))
        self._joined: list[Joined] = []
        self._behind: list[ChannelName] = []
        """Channels with pages yet to be read, the next one last."""
        self._early: dict[ChannelName, Position] | None = {}
        """Where it gets to by what comes before `begin`, which it gets after what it missed; None from then on."""

    def subscribe(self, hub: Hub, subscriber: Subscriber, *, positioned: bool) -> "Deferred[Any]":
        """
        Subscribe to all channels.

        Args:
            hub: has them.
            subscriber: gets what is published from now on.
            positioned: it wants to know where it stands, though it does not come back.

        Returns:
            Fires when the publications of all arrive; fails with `BrokerDown`, and then it is subscribed to none.
        """

        def joined(found: list[Joined]) -> None:
            self._joined = found

        positioned = positioned or self._resumes
        return hub.listen_since(dict(self._at), subscriber, positioned=positioned).addCallback(joined)

    @property
    def behind(self) -> ChannelName | None:
        """The channel of which the next page is to be read; None if everything has been recovered."""
        return self._behind[-1] if self._behind else None

    def begin(self) -> list[Missed]:
        """
        Return the channels that cannot be recovered.

        To be called once, before the listener is given anything. From then on `behind` says what can be recovered.
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
        Take note of a page of the channel `behind`.

        Args:
            page: what `Hub.recover` has returned.

        Returns:
            What the listener is to be given.
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
        Take note of a publication that the listener gets.

        Returns:
            Where it stands then; nothing where that has not changed, or cannot be told before `begin`.
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
        """Take note that the listener knows of a gap before a position; returns where it stands then, or nothing."""
        if position is None or self._early is not None:
            return ""
        self._at[channel] = position
        return self.write()

    def write(self) -> str:
        """Write where it stands, as the id of an event; nothing where no channel has a stream."""
        return write_positions(self._at.values()) if any(self._at.values()) else ""
