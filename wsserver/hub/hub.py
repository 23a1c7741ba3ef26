"""
Who listens to which channel here, and how a publication reaches them.

A publication is framed once for each kind of subscriber. What arrives in one turn of the reactor is joined, and each
subscriber is given it in one piece at the end of the turn.
"""

from collections.abc import Collection, Hashable, Iterable
from typing import Any, Protocol

from twisted.internet.defer import Deferred, fail, gatherResults, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from wsserver.errors import BrokerDown
from wsserver.hub.channels import Access
from wsserver.hub.formats import Publication
from wsserver.typing import ChannelName

__all__ = ["Broker", "Hub", "Listener", "Subscriber"]

# Of the module, not of a class: on a class Twisted would replace the namespace by the class's name.
_log = Logger(namespace="wsserver.hub")


class Listener(Protocol):
    """What a broker tells what comes."""

    def arrived(self, channel: ChannelName, publication: Publication) -> None:
        """Take a publication."""

    def interrupted(self) -> None:
        """Take note that publications may have been missed, of every channel that was subscribed to."""


class Broker(Protocol):
    """Where publications come from and go to."""

    listener: Listener

    @property
    def up(self) -> bool:
        """Whether publications arrive."""

    def start(self) -> None:
        """Connect."""

    def stop(self) -> "Deferred[None]":
        """Disconnect."""

    def subscribe(self, channel: ChannelName) -> "Deferred[None]":
        """Have a channel's publications sent here; fires once they are, fails with `BrokerDown`."""

    def unsubscribe(self, channel: ChannelName) -> None:
        """Have them sent here no more."""

    def publish(self, channel: ChannelName, data: bytes) -> "Deferred[Publication]":
        """Publish; fails with `BrokerDown` where it was not taken."""


class Subscriber(Protocol):
    """Who gets publications: a connection."""

    kind: Hashable
    """Subscribers of the same kind are written the same."""

    def frame(self, channel: ChannelName, publication: Publication) -> bytes:
        """Write a publication as this kind gets it."""

    def deliver(self, frames: bytes, count: int, size: int) -> None:
        """Take some publications: their frames, how many they are, and the bytes of their payloads."""

    def missed(self, channel: ChannelName) -> None:
        """Take note that publications may be missing."""


class _Room:
    """A channel that somebody here listens to."""

    __slots__ = ("channel", "kinds", "open", "pending", "waiting")

    def __init__(self, channel: ChannelName) -> None:
        self.channel = channel
        self.kinds: dict[Hashable, dict[Any, None]] = {}
        """Kind -> its subscribers, in the order they came."""
        self.pending: list[Publication] = []
        self.open = False
        """The broker sends its publications."""
        self.waiting: list[Deferred[None]] = []

    def __len__(self) -> int:
        return sum(map(len, self.kinds.values()))


class Hub:
    """
    The channels of a process.

    Args:
        broker: brings publications.
        access: which channels clients may name.
        reactor: for the end of a turn.
    """

    def __init__(self, broker: Broker, access: Access, reactor: IReactorTime) -> None:
        self.access = access
        """Which channels clients may name; replaced when the server listens."""
        self.broker = broker
        broker.listener = self
        self._reactor = reactor
        self._rooms: dict[ChannelName, _Room] = {}
        self._dirty: list[_Room] = []

    # Subscribers.

    def subscribe(self, channel: ChannelName, subscriber: Subscriber) -> "Deferred[None]":
        """
        Let a subscriber have what is published from now on.

        Args:
            channel: of which.
            subscriber: who is not subscribed to it.

        Returns:
            Fires when publications arrive; fails with `BrokerDown`, and then it is not subscribed.
        """
        room = self._rooms.get(channel)
        if room is not None and room.open and not self.broker.up:
            return fail(BrokerDown("publications do not arrive at the moment"))
        if room is not None and room.pending:
            # They came before it did.
            self._flush(room)
        new = room is None
        if room is None:
            room = self._rooms[channel] = _Room(channel)
        room.kinds.setdefault(subscriber.kind, {})[subscriber] = None
        if room.open:
            return succeed(None)
        done: Deferred[None] = Deferred()
        room.waiting.append(done)
        if new:
            # It may answer at once.
            opening = self.broker.subscribe(channel)
            opening.addCallbacks(self._opened, self._not_opened, callbackArgs=(room,), errbackArgs=(room,))
        return done

    def listen(self, channels: Collection[ChannelName], subscriber: Subscriber) -> "Deferred[Any]":
        """
        Let a subscriber have what is published to some channels from now on.

        Returns:
            Fires when the publications of all arrive; fails with `BrokerDown`, and then it is subscribed to none.
        """

        def leave(failure: Failure) -> Failure:
            self.leave(channels, subscriber)
            # Of several channels the first one that failed is told.
            cause: Failure = getattr(failure.value, "subFailure", failure)
            return cause

        done = gatherResults([self.subscribe(channel, subscriber) for channel in channels], consumeErrors=True)
        return done.addErrback(leave)

    def leave(self, channels: Iterable[ChannelName], subscriber: Subscriber) -> None:
        """Take a subscriber out of some channels."""
        for channel in channels:
            self.unsubscribe(channel, subscriber)

    def unsubscribe(self, channel: ChannelName, subscriber: Subscriber) -> None:
        """Take a subscriber out; one that is not there is no mistake."""
        room = self._rooms.get(channel)
        if room is None or subscriber not in room.kinds.get(subscriber.kind, {}):
            return
        del room.kinds[subscriber.kind][subscriber]
        if not room.kinds[subscriber.kind]:
            del room.kinds[subscriber.kind]
        if not room.kinds:
            del self._rooms[channel]
            self.broker.unsubscribe(channel)

    def count(self, channel: ChannelName) -> int:
        """Tell how many subscribers a channel has here."""
        room = self._rooms.get(channel)
        return len(room) if room is not None else 0

    def counts(self) -> dict[ChannelName, int]:
        """Tell the channels that somebody here listens to, and how many do."""
        return {channel: len(room) for channel, room in self._rooms.items()}

    def _opened(self, _: None, room: _Room) -> None:
        room.open = True
        self._answer(room, None)

    def _not_opened(self, failure: Failure, room: _Room) -> None:
        if self._rooms.get(room.channel) is room:
            del self._rooms[room.channel]
        self._answer(room, failure)

    def _answer(self, room: _Room, result: Any) -> None:
        waiting, room.waiting = room.waiting, []
        for done in waiting:
            done.callback(result) if result is None else done.errback(result)

    # Publications.

    def publish(self, channel: ChannelName, data: bytes) -> "Deferred[int]":
        """
        Publish.

        Args:
            channel: where.
            data: what.

        Returns:
            Fires with the number of subscribers here; fails with `BrokerDown` where it was not taken.
        """
        return self.broker.publish(channel, data).addCallback(lambda _: self.count(channel))

    def arrived(self, channel: ChannelName, publication: Publication) -> None:
        """Take a publication from the broker: it goes out at the end of this turn."""
        room = self._rooms.get(channel)
        if room is None:
            return
        if not room.pending:
            if not self._dirty:
                self._reactor.callLater(0, self._flush_all)
            self._dirty.append(room)
        room.pending.append(publication)

    def interrupted(self) -> None:
        """Tell every subscriber that something may be missing."""
        for room in list(self._rooms.values()):
            if room.open:
                self._flush(room)
                for subscribers in list(room.kinds.values()):
                    _each(subscribers, "missed", room.channel)

    def _flush_all(self) -> None:
        dirty, self._dirty = self._dirty, []
        for room in dirty:
            self._flush(room)

    def _flush(self, room: _Room) -> None:
        publications, room.pending = room.pending, []
        if not publications:
            return
        count, size = len(publications), sum(len(one.data) for one in publications)
        for subscribers in list(room.kinds.values()):
            # Those of one kind may have left because of what another kind was given.
            first = next(iter(subscribers), None)
            if first is None:
                continue
            frames = b"".join([first.frame(room.channel, one) for one in publications])
            _each(subscribers, "deliver", frames, count, size)


def _each(subscribers: Iterable[Any], method: str, *arguments: Any) -> None:
    for one in list(subscribers):
        try:
            getattr(one, method)(*arguments)
        except Exception:
            _log.failure("a subscriber failed")
