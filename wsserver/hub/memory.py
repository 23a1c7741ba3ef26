"""The broker for a single server process: it keeps channels, histories and presence in the process's memory."""

import time
from collections.abc import Callable, Collection, Mapping
from heapq import heappop, heappush
from itertools import islice
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime

from wsserver.errors import BrokerDown
from wsserver.hub.broker import IDEMPOTENT_FOR, Listener, ignore_control, new_epoch
from wsserver.hub.clients import ClientInfo
from wsserver.hub.occupancy import MemoryOccupancy
from wsserver.hub.presence import PresenceEvent
from wsserver.hub.publication import Publication
from wsserver.hub.stream import Keep, Page, Position, Stream
from wsserver.typing import ChannelName

__all__ = ["MemoryBroker"]

MAX_STREAMS = 100_000
"""Maximum number of streams. Beyond it, the stream that has been without a new publication the longest is deleted."""

MAX_BYTES = 256 * 1024**2
"""
Maximum total size of all streams in bytes. Beyond it, the streams that have been without a new publication the longest
are deleted. The stream of the newest publication is never deleted.
"""

CHECKED = 1000
"""Number of streams that are checked at once for expired publications."""

CHECK_INTERVAL = 1.0
"""Seconds between two checks for expired publications."""

MAX_KEYS = 100_000
"""Maximum number of remembered idempotency keys. Beyond it, the oldest key is forgotten."""

MAX_CONSUMED = 100_000
"""Maximum number of remembered keys of one-time tokens. Beyond it, `consume` fails until one of them expires."""


class MemoryBroker:
    """
    A broker in memory: it delivers every publication to the hub of the same process.

    Args:
        clock: measures the age of publications and idempotency keys.
        now: returns the UNIX time in seconds. It determines when one-time tokens expire.
    """

    up = True
    """Always True, because a memory broker has no outages."""
    problem = None
    """Always None, because a memory broker has no outages."""

    def __init__(self, clock: IReactorTime, now: Callable[[], float] = time.time) -> None:
        self.node = new_epoch()
        """The id of this server process."""
        self._clock = clock
        self._now = now
        self._epoch = new_epoch()
        """The epoch of new streams, and the one that `history` returns for channels without a stream."""
        self._streams: dict[ChannelName, Stream] = {}
        """Channel -> its stream, ordered by the time of the last publication, oldest first."""
        self._bytes = 0
        self._evicted = 0
        """Number of streams that were deleted because of `MAX_BYTES` or `MAX_STREAMS`."""
        self._checked = 0
        """Number of streams that have been checked for expired publications in this round."""
        self._expiry: Any = None
        self._is_running = False
        self._idempotency_keys: dict[tuple[ChannelName, str], tuple[float, Position | None]] = {}
        self._members: dict[ChannelName, dict[str, ClientInfo]] = {}
        self._consumed: set[str] = set()
        self._expiries: list[tuple[float, str]] = []
        """A heap of pairs: the UNIX time from which a consumed key may be forgotten, and the key."""

    def deliver_to(self, listener: Listener, on_control: Callable[[bytes], None] = ignore_control) -> None:
        """Set the objects that receive publications and messages; see `wsserver.hub.broker.Broker.deliver_to`."""
        self.listener, self._on_control = listener, on_control

    def metrics(self) -> Mapping[str, float]:
        """Return the number of histories that were deleted early; a memory broker has no connection to describe."""
        return {"history_evictions_total": float(self._evicted)}

    def start(self) -> None:
        """Begin to free expired publications."""
        self._is_running = True
        if self._bytes:
            self._expire_later()

    def stop(self) -> "Deferred[None]":
        """Stop freeing expired publications."""
        self._is_running = False
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        return succeed(None)

    def subscribe(self, channel: ChannelName) -> None:
        """Do nothing: `publish` passes the publications of every channel to the hub."""

    def unsubscribe(self, channel: ChannelName) -> None:
        """Do nothing: the hub ignores the publications of channels without subscribers."""

    def publish(
        self, channel: ChannelName, publication: Publication, keep: Keep | None, idempotency_key: str
    ) -> Position | None:
        """Publish to a channel; see `wsserver.hub.broker.Broker.publish`."""
        now = self._clock.seconds()
        if idempotency_key:
            self._drop_old_keys(now)
            known = self._idempotency_keys.get((channel, idempotency_key))
            if known is not None and known[0] > now:
                return known[1]
        position = None
        if keep is not None:
            stream = self._streams.pop(channel, None) or Stream(self._epoch)
            size = stream.size
            publication = stream.append(publication, keep, now)
            self._streams[channel] = stream
            self._bytes += stream.size - size
            position = stream.position
            if self._is_running:
                self._expire_later()
            if self._bytes > MAX_BYTES or len(self._streams) > MAX_STREAMS:
                self._shrink()
        if idempotency_key:
            # Removed first, so that the key moves to the end of the dict, which is ordered by age.
            self._idempotency_keys.pop((channel, idempotency_key), None)
            self._idempotency_keys[channel, idempotency_key] = (now + IDEMPOTENT_FOR, position)
        self.listener.on_publication(channel, publication)
        return position

    def _expire_streams(self) -> None:
        """
        Free expired publications, whether or not their channel is used again.

        Each call checks `CHECKED` streams, so that it never takes long, however many there are.
        """
        now = self._clock.seconds()
        for channel in list(islice(self._streams, self._checked, self._checked + CHECKED)):
            stream = self._streams[channel]
            size = stream.size
            stream.expire(now)
            self._bytes += stream.size - size
        self._checked = self._checked + CHECKED if self._checked + CHECKED < len(self._streams) else 0
        self._expiry = None
        if self._bytes:
            self._expire_later()

    def _expire_later(self) -> None:
        if self._expiry is None:
            self._expiry = self._clock.callLater(CHECK_INTERVAL, self._expire_streams)

    def _drop_old_keys(self, now: float) -> None:
        for key, (expires, _) in list(self._idempotency_keys.items())[:2]:
            if expires <= now or len(self._idempotency_keys) >= MAX_KEYS:
                del self._idempotency_keys[key]

    def _shrink(self) -> None:
        while len(self._streams) > 1 and (len(self._streams) > MAX_STREAMS or self._bytes > MAX_BYTES):
            self._bytes -= self._streams.pop(next(iter(self._streams))).size
            self._evicted += 1
            # If the channel of the deleted stream gets a stream again, that stream must have another epoch.
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
    ) -> Page:
        """Read a page of a channel's stream; see `wsserver.hub.broker.Broker.history`."""
        stream = self._streams.get(channel)
        if stream is None:
            return Page((), Position(0, self._epoch))
        before = stream.size
        page = stream.page(since, limit, reverse=reverse, now=self._clock.seconds(), max_bytes=max_bytes)
        self._bytes += stream.size - before
        return page

    def remove_history(self, channel: ChannelName) -> "Deferred[None]":
        """Delete the publications of a channel's stream; the next publication continues the numbering."""
        stream = self._streams.get(channel)
        if stream is not None:
            self._bytes -= stream.size
            stream.clear()
        return succeed(None)

    def join(self, channel: ChannelName, info: ClientInfo) -> "Deferred[None]":
        """Add a client to a channel's presence, and publish a join event."""
        self._members.setdefault(channel, {})[info.client] = info
        self.listener.on_presence(channel, PresenceEvent(True, info))
        return succeed(None)

    def leave(self, channel: ChannelName, info: ClientInfo) -> "Deferred[None]":
        """Remove a client from a channel's presence, and publish a leave event if it was present."""
        members = self._members.get(channel, {})
        if members.pop(info.client, None) is not None:
            if not members:
                del self._members[channel]
            self.listener.on_presence(channel, PresenceEvent(False, info))
        return succeed(None)

    def members(self, channel: ChannelName) -> "Deferred[Mapping[str, ClientInfo]]":
        """Return the clients that are present on a channel: client id -> info."""
        return succeed(dict(self._members.get(channel, {})))

    def track_occupancy(self, lease: float) -> MemoryOccupancy:  # noqa: ARG002
        """Return a new store of the occupied channels of this process."""
        return MemoryOccupancy(self._clock, self._now)

    def nodes(self) -> "Deferred[Collection[str]]":
        """Return the id of this process: there are no others."""
        return succeed([self.node])

    def remove_process(self, node: str) -> None:
        """Do nothing: there are no other processes."""

    def send(self, node: str, message: bytes) -> "Deferred[None]":  # noqa: ARG002
        """Deliver a control message to this process: there are no others."""
        self._on_control(message)
        return succeed(None)

    def consume(self, key: str, seconds: float) -> "Deferred[bool]":
        """
        Mark a one-time token as used; see `wsserver.hub.broker.Broker.consume`.

        Returns:
            A Deferred that fires with True on the first use of the token, and with False on every later use. It fails
            with `BrokerDown` if `MAX_CONSUMED` tokens are remembered.
        """
        # In UNIX time, like the expiry of the tokens that the keys identify; see `wsserver.auth.verifier`.
        now = self._now()
        while self._expiries and self._expiries[0][0] <= now:
            self._consumed.discard(heappop(self._expiries)[1])
        if key in self._consumed:
            return succeed(False)
        # Forgetting a key before it expires would allow its token to be used a second time.
        if len(self._consumed) >= MAX_CONSUMED:
            reason = f"{MAX_CONSUMED} used one-time tokens are remembered, the maximum; retry once some have expired"
            return fail(BrokerDown(reason))
        self._consumed.add(key)
        heappush(self._expiries, (now + seconds, key))
        return succeed(True)
