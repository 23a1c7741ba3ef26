"""The broker of a server that stands alone: channels live in the process."""

import time
from collections.abc import Callable, Collection, Mapping
from heapq import heappop, heappush

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime

from wsserver.errors import BrokerDown
from wsserver.hub.broker import IDEMPOTENT_FOR, Listener, new_epoch
from wsserver.hub.presence import ClientInfo, PresenceEvent
from wsserver.hub.publication import Publication
from wsserver.hub.stream import Keep, Page, Position, Stream
from wsserver.typing import ChannelName

__all__ = ["MemoryBroker"]

MAX_STREAMS = 100_000
"""Most channels with a stream: with one more the one that was not published to for longest begins afresh."""

MAX_BYTES = 256 * 1024**2
"""Most bytes in all streams; with more, those that were not published to for longest begin afresh."""

MAX_KEYS = 100_000
"""Most idempotency keys that are known; with one more the oldest is forgotten."""

MAX_USED = 100_000
"""Most things used up that are known; one more cannot be used until another is forgotten."""


class MemoryBroker:
    """
    Hand publications to the hub of the same process.

    `listener` must be set before anything is published.

    Args:
        clock: measures the age of publications and idempotency keys.
        now: returns UNIX time in seconds, for the end of one-time tokens.
    """

    listener: Listener
    up = True
    """Whether publications arrive."""
    problem = None
    """Why it cannot serve: it always can."""

    def __init__(self, clock: IReactorTime, now: Callable[[], float] = time.time) -> None:
        self.node = new_epoch()
        """The name of this process."""
        self._clock = clock
        self._now = now
        self._epoch = new_epoch()
        """The epoch of streams that begin from now on, and of those that have not begun."""
        self._streams: dict[ChannelName, Stream] = {}
        """The one that was published to last stands last."""
        self._bytes = 0
        self._keys: dict[tuple[ChannelName, str], tuple[float, Position | None]] = {}
        self._members: dict[ChannelName, dict[str, ClientInfo]] = {}
        self._used: set[str] = set()
        self._forget: list[tuple[float, str]] = []
        """A heap: what was used, by when that may be forgotten."""

    def metrics(self) -> Mapping[str, float]:
        """Return nothing: there is no connection to tell of."""
        return {}

    def start(self) -> None:
        """Do nothing: there is nothing to connect to."""

    def stop(self) -> "Deferred[None]":
        """Do nothing."""
        return succeed(None)

    def subscribe(self, channel: ChannelName) -> "Deferred[None]":  # noqa: ARG002
        """Do nothing: what is published here arrives here."""
        return succeed(None)

    def unsubscribe(self, channel: ChannelName) -> None:
        """Do nothing."""

    def publish(
        self, channel: ChannelName, publication: Publication, keep: Keep | None, idempotency_key: str
    ) -> "Deferred[Position | None]":
        """Publish; see `wsserver.hub.broker.Broker`."""
        now = self._clock.seconds()
        if idempotency_key:
            self._forget_keys(now)
            known = self._keys.get((channel, idempotency_key))
            if known is not None and known[0] > now:
                return succeed(known[1])
        position = None
        if keep is not None:
            stream = self._streams.pop(channel, None) or Stream(self._epoch)
            self._bytes -= stream.size
            publication = stream.append(publication, keep, now)
            self._streams[channel] = stream
            self._bytes += stream.size
            position = Position(stream.offset, stream.epoch)
            self._shrink()
        if idempotency_key:
            # At the end, where the youngest stand.
            self._keys.pop((channel, idempotency_key), None)
            self._keys[channel, idempotency_key] = (now + IDEMPOTENT_FOR, position)
        self.listener.on_publication(channel, publication)
        return succeed(position)

    def _forget_keys(self, now: float) -> None:
        for key, (expires, _) in list(self._keys.items())[:2]:
            if expires <= now or len(self._keys) >= MAX_KEYS:
                del self._keys[key]

    def _shrink(self) -> None:
        while len(self._streams) > 1 and (len(self._streams) > MAX_STREAMS or self._bytes > MAX_BYTES):
            self._bytes -= self._streams.pop(next(iter(self._streams))).size
            # It must not begin again as what it was.
            self._epoch = new_epoch()

    def history(
        self,
        channel: ChannelName,
        keep: Keep,  # noqa: ARG002
        since: Position | None,
        limit: int,
        *,
        reverse: bool,
        max_bytes: int | None = None,
    ) -> "Deferred[Page]":
        """Read a channel's stream; see `wsserver.hub.broker.Broker`."""
        stream = self._streams.get(channel)
        if stream is None:
            return succeed(Page((), Position(0, self._epoch)))
        before = stream.size
        page = stream.page(since, limit, reverse=reverse, now=self._clock.seconds(), max_bytes=max_bytes)
        self._bytes += stream.size - before
        return succeed(page)

    def remove_history(self, channel: ChannelName) -> "Deferred[None]":
        """Forget the publications of a channel; its offset goes on."""
        stream = self._streams.get(channel)
        if stream is not None:
            self._bytes -= stream.size
            stream.clear()
        return succeed(None)

    def join(self, channel: ChannelName, info: ClientInfo) -> "Deferred[None]":
        """Put a client on a channel, and tell."""
        self._members.setdefault(channel, {})[info.client] = info
        self.listener.on_presence(channel, PresenceEvent(True, info))
        return succeed(None)

    def leave(self, channel: ChannelName, info: ClientInfo) -> "Deferred[None]":
        """Take it off, and tell."""
        members = self._members.get(channel, {})
        if members.pop(info.client, None) is not None:
            if not members:
                del self._members[channel]
            self.listener.on_presence(channel, PresenceEvent(False, info))
        return succeed(None)

    def members(self, channel: ChannelName) -> "Deferred[Mapping[str, ClientInfo]]":
        """Tell who is on a channel."""
        return succeed(dict(self._members.get(channel, {})))

    def nodes(self) -> "Deferred[Collection[str]]":
        """Tell which processes live: this one."""
        return succeed([self.node])

    def send(self, node: str, message: bytes) -> "Deferred[None]":  # noqa: ARG002
        """Send a message to this process: there is no other."""
        self.listener.asked(message)
        return succeed(None)

    def use(self, key: str, seconds: float) -> "Deferred[bool]":
        """Use up something; see `wsserver.hub.broker.Broker`."""
        # A token may be used once until it ends, and it ends by date: see `wsserver.auth.verifier`.
        now = self._now()
        while self._forget and self._forget[0][0] <= now:
            self._used.discard(heappop(self._forget)[1])
        if key in self._used:
            return succeed(False)
        # To forget one early would let it be used again.
        if len(self._used) >= MAX_USED:
            return fail(BrokerDown("too much that can be used once is in use at the moment"))
        self._used.add(key)
        heappush(self._forget, (now + seconds, key))
        return succeed(True)
