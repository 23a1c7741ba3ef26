"""
The broker for several server processes that share one Redis.

If another program sends the command `PUBLISH foo hello`, the message is delivered to the subscribers of channel `foo`,
unchanged and without an offset. A publication that is made through a server is appended to the Redis stream of the
channel. It is then sent to all servers, together with its offset, over a Redis channel that only servers use.

While the connection to Redis (`RedisLink`) is down, publications and new subscriptions fail with `BrokerDown`. When it
is up again, the hub reads the publications that it missed from the streams.

`wsserver.redis.encoding` lists the keys and the Redis channels that the server uses.
"""

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from wsserver.config.redis_url import RedisURL
from wsserver.errors import BrokerDown
from wsserver.hub.broker import IDEMPOTENT_FOR, Listener, first_cause, ignore_control, new_epoch
from wsserver.hub.clients import ClientInfo, read_info, write_info
from wsserver.hub.names import PRIVATE
from wsserver.hub.publication import Publication, pack
from wsserver.hub.stream import Keep, Page, Position
from wsserver.redis import scripts
from wsserver.redis.connection import pack_arguments
from wsserver.redis.encoding import (
    CONTROL,
    MALFORMED,
    PUB,
    channel_of,
    first_entry,
    key_of,
    milliseconds,
    names_of,
    parse_message,
    parse_page,
    redis_channels,
    tag_of,
    write_message,
)
from wsserver.redis.health import WriteCheck
from wsserver.redis.occupancy import RedisOccupancy
from wsserver.redis.presence import BATCH, PRESENCE_REFRESH, RedisPresence
from wsserver.redis.supervisor import RedisLink
from wsserver.typing import ChannelName

__all__ = ["RedisBroker"]

# At module level, because Twisted replaces the namespace of a class's logger by the class's name.
_log = Logger(namespace="wsserver.redis")

META_TTL = 30 * 86_400.0
"""Seconds for which Redis keeps a channel's epoch and offset after its last publication; the same as in Centrifugo."""

NEW_META_TTL = 300.0
"""The same as `META_TTL`, but for a channel without publications. Clients can create many of them by subscribing."""

HEARTBEAT_INTERVAL = 2.5
"""Seconds between two heartbeats, with which a process reports to Redis that it is running."""

DEAD_AFTER = 8.0
"""Seconds without a heartbeat after which a process counts as dead, and its clients as no longer present."""

LEAVE_TIMEOUT = 1.0
"""Maximum seconds that a stopping process waits until Redis has removed it from the list of processes."""

CHECK_TTL = 10.0
"""Seconds for which Redis keeps the keys that the write check (`wsserver.redis.health`) creates."""

_PRIVATE = PRIVATE.encode()

_NODES = f"{PRIVATE}nodes".encode()

_IDEMPOTENT_FOR = milliseconds(IDEMPOTENT_FOR)

MAX_ENTRIES = 2**31
"""Maximum number of publications in one read. Larger limits are reduced to it: Redis rejects numbers over 2**63."""


class RedisBroker:
    """
    A broker that uses Redis; implements `wsserver.hub.broker.Broker`.

    Args:
        url: the address of Redis, or of the sentinels that know the address.
        reactor: opens connections and schedules calls.
    """

    def __init__(self, url: RedisURL, reactor: Any) -> None:
        self._reactor = reactor
        self._link = RedisLink(
            url,
            reactor,
            on_messages=self._on_messages,
            on_up=self._on_up,
            on_down=self._on_down,
            on_permission_revoked=self._on_permission_revoked,
        )
        self._publish, self._read, self._heartbeat = (
            self._link.script(text)
            for text in (
                scripts.PUBLISH,
                scripts.READ,
                scripts.HEARTBEAT,
            )
        )
        self.node = f"{random.getrandbits(64):016x}"
        """The id of this server process: 16 random hexadecimal digits."""
        self._node = self.node.encode("ascii")
        self._control_channels = [CONTROL, CONTROL + b":" + self._node]
        """The Redis channels on which this process receives control messages: the one of all processes, and its own."""
        self._control_subscribed = False
        self._presence = RedisPresence(self._link)
        self._occupancy: RedisOccupancy | None = None
        self._heartbeats, self._presence_refreshes = (
            LoopingCall(self._send_heartbeat),
            LoopingCall(self._presence.refresh),
        )
        self._heartbeats.clock = self._presence_refreshes.clock = reactor
        self._write_check = WriteCheck(self._write, reactor)

    @property
    def up(self) -> bool:
        """Whether the connection to Redis is up, so that the process receives publications."""
        return self._link.up

    @property
    def problem(self) -> str | None:
        """Why the broker cannot deliver or accept publications, as a sentence; None if it can."""
        return self._write_check.problem if self.up else f"Redis is unavailable: {self._link.problem}"

    def metrics(self) -> "Mapping[str, float]":
        """Return the broker's metrics for `/api/info`: metric name -> value."""
        return {
            "redis_subscriber_up": float(self.up),
            "redis_reconnects_total": float(self._link.reconnects),
            "redis_oversized_messages_total": float(self._link.oversized),
        }

    def deliver_to(self, listener: Listener, on_control: Callable[[bytes], None] = ignore_control) -> None:
        """Set the objects that receive the broker's deliveries; see `wsserver.hub.broker.Broker.deliver_to`."""
        self._listener, self._on_control = listener, on_control

    def start(self) -> None:
        """Connect to Redis in the background, retrying until it is available; send heartbeats and refresh presence."""
        self._link.start()
        self._heartbeats.start(HEARTBEAT_INTERVAL, now=False)
        self._presence_refreshes.start(PRESENCE_REFRESH, now=False)

    def stop(self) -> "Deferred[Any]":
        """
        Remove this process from the list of running processes, so that surveys no longer wait for it, and disconnect.

        Returns:
            A Deferred that fires once the connections to Redis are closed.
        """
        self._write_check.end()
        for call in (self._heartbeats, self._presence_refreshes):
            if call.running:
                call.stop()
        # With 0 as the time of this process's last heartbeat, other processes delete its entry. ZREM would require that
        # the server's Redis user has another permission.
        left = self._link.command("ZADD", _NODES, 0, self._node).addTimeout(LEAVE_TIMEOUT, self._reactor)
        # Disconnect even if this has failed: `DEAD_AFTER` seconds later, the process counts as dead.
        return left.addBoth(lambda _: self._link.stop())

    # Publications.

    def subscribe(self, channel: ChannelName) -> "Deferred[Any]":
        """
        Subscribe to a channel's two Redis channels (`wsserver.redis.encoding.redis_channels`).

        Returns:
            A Deferred that fires with None once Redis has confirmed both subscriptions. It fails with `NotPermitted` or
            `BrokerDown`, for the reasons that `RedisLink.subscribe` lists.
        """
        keys = redis_channels(channel)

        def undo(failure: Failure) -> Failure:
            for key in keys:
                self._link.unsubscribe(key)
            return first_cause(failure)

        done = gatherResults([self._link.subscribe(key) for key in keys], consumeErrors=True)
        return done.addCallbacks(lambda _: None, undo)

    def unsubscribe(self, channel: ChannelName) -> None:
        """Unsubscribe from a channel's two Redis channels."""
        for key in redis_channels(channel):
            self._link.unsubscribe(key)

    def publish(
        self, channel: ChannelName, publication: Publication, keep: Keep | None, idempotency_key: str
    ) -> "Deferred[Position | None]":
        """Publish to a channel; see `wsserver.hub.broker.Broker.publish`."""
        names = names_of(channel)
        if keep is None and not idempotency_key:
            # The script would store nothing, and takes Redis and the server several times as long.
            message = write_message(publication)
            return self._link.command("PUBLISH", names.pub, message).addCallback(_no_position)
        count, begin = 11, names.packed
        if idempotency_key:
            # Hashed, so that two different pairs of channel and idempotency key never have the same Redis key.
            digest = sha256(idempotency_key.encode("utf-8")).hexdigest().encode("ascii")
            once = b"%b:%b" % (key_of("once", tag_of(channel)), digest)
            count, begin = 12, pack_arguments(3, names.meta, names.history, once, names.pub)
        data, epoch = pack(publication), new_epoch().encode("ascii")
        # Encoded here, because most of the arguments are those of the publication before.
        packed = b"%b$%d\r\n%b\r\n$%d\r\n%b\r\n%b" % (
            *(begin, len(data), data, len(epoch), epoch),
            _pack_options(self._link.dataset_id, keep),
        )
        return self._publish.call_packed(count, packed, _read_position)

    def _write(self) -> "Deferred[Any]":
        """
        Check that Redis accepts writes, by publishing to a channel that no client can subscribe to.

        See `wsserver.redis.health`. The channel's stream and metadata expire after `CHECK_TTL`.
        """
        tag = tag_of(ChannelName(f"{PRIVATE}check:{self.node}"))
        ttl = milliseconds(CHECK_TTL)
        arguments = (PUB + tag, b"", new_epoch(), self._link.dataset_id, 1, ttl, ttl, 0)
        return self._publish.call([key_of("meta", tag), key_of("history", tag)], arguments)

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
        """Read a channel's stream; see `wsserver.hub.broker.Broker.history`."""
        tag = tag_of(channel)
        first = first_entry(since, reverse=reverse)
        limit = min(limit, MAX_ENTRIES)
        arguments = (
            *(new_epoch(), self._link.dataset_id, milliseconds(NEW_META_TTL), first, limit, "1" if reverse else ""),
            "" if max_bytes is None else max_bytes,
        )
        return self._read.call([key_of("meta", tag), key_of("history", tag)], arguments).addCallback(parse_page)

    def remove_history(self, channel: ChannelName) -> "Deferred[None]":
        """Delete the publications of a channel's stream; the next publication continues the numbering."""
        return self._link.command("DEL", key_of("history", tag_of(channel))).addCallback(lambda _: None)

    def _on_messages(self, messages: list[list[bytes]]) -> None:
        for _, key, data in messages:
            if not key.startswith(_PRIVATE):
                self._listener.on_publication(ChannelName(key.decode("utf-8")), Publication(data))
            elif key.startswith(PUB):
                self._on_server_message(channel_of(key), data)
            elif key in self._control_channels:
                self._on_control(data)

    def _on_server_message(self, channel: ChannelName, data: bytes) -> None:
        try:
            message = parse_message(data)
        except MALFORMED:
            _log.warn("ignoring a malformed message channel={channel!r}", channel=channel)
            return
        if isinstance(message, Publication):
            self._listener.on_publication(channel, message)
        else:
            self._listener.on_presence(channel, message)

    # Presence.

    def join(self, channel: ChannelName, info: ClientInfo) -> "Deferred[Any]":
        """Add a client of this process to a channel's presence, and publish a join event."""
        return gatherResults(
            [
                self._presence.add(channel, info.client, self._node + b" " + write_info(info)),
                self._publish_event(channel, b"j", info),
            ],
            consumeErrors=True,
        ).addErrback(first_cause)

    def leave(self, channel: ChannelName, info: ClientInfo) -> "Deferred[Any]":
        """Remove a client of this process from a channel's presence, and publish a leave event."""
        removed = self._presence.remove(channel, info.client)
        if removed is None:
            return succeed(None)
        return gatherResults([removed, self._publish_event(channel, b"l", info)], consumeErrors=True).addErrback(
            first_cause
        )

    def _publish_event(self, channel: ChannelName, kind: bytes, info: ClientInfo) -> "Deferred[Any]":
        return self._link.command("PUBLISH", PUB + tag_of(channel), kind + b":" + write_info(info))

    def members(self, channel: ChannelName) -> "Deferred[Mapping[str, ClientInfo]]":
        """
        Return the clients that are present on a channel, in all running processes: client id -> info.

        If the presence in Redis contains clients of dead processes, they are left out, and at most `BATCH` of them are
        deleted from Redis.
        """
        key = key_of("presence", tag_of(channel))

        def read(found: Sequence[Any]) -> Mapping[str, ClientInfo]:
            alive = {self._node, *found[0]}
            members, dead = {}, []
            for client, packed in zip(found[1][::2], found[1][1::2], strict=True):
                node, _, info = packed.partition(b" ")
                if node in alive:
                    members[client.decode("utf-8")] = read_info(info)
                else:
                    dead.append(client)
            if dead:
                self._presence.delete(channel, dead[:BATCH]).addErrback(_ignore)
            return members

        both = [self._exchange_heartbeat(b""), self._link.command("HGETALL", key)]
        return gatherResults(both, consumeErrors=True).addCallbacks(read, first_cause)

    def track_occupancy(self, lease: float) -> RedisOccupancy:
        """Return a new store of the occupied channels; see `wsserver.hub.broker.Broker.track_occupancy`."""
        self._occupancy = RedisOccupancy(self._link, self.node, dead_after=DEAD_AFTER, lease=lease)
        return self._occupancy

    def _exchange_heartbeat(self, node: bytes) -> "Deferred[Any]":
        return self._heartbeat.call([_NODES], (node, milliseconds(DEAD_AFTER)))

    def _send_heartbeat(self) -> None:
        if self.up:
            self._exchange_heartbeat(self._node).addErrback(_ignore)

    # Processes.

    def nodes(self) -> "Deferred[Collection[str]]":
        """Return the ids of the running server processes, including this one."""
        return self._exchange_heartbeat(self._node).addCallback(lambda found: [node.decode("ascii") for node in found])

    def remove_process(self, node: str) -> None:
        """Remove a dead process, its clients and its channels; see `wsserver.hub.broker.Broker.remove_process`."""
        if node == self.node:
            return
        # With 0 as the time of its last heartbeat, the next reader deletes its entry.
        removed = [self._link.command("ZADD", _NODES, 0, node), self._presence.remove_process(node.encode("ascii"))]
        if self._occupancy is not None:
            removed.append(self._occupancy.remove_process(node))
        for done in removed:
            done.addErrback(_ignore)

    def send(self, node: str, message: bytes) -> "Deferred[Any]":
        """Send a control message to the process with the id `node`; if empty, to all processes, including this one."""
        key = CONTROL + b":" + node.encode("ascii") if node else CONTROL
        return self._link.command("PUBLISH", key, message)

    def consume(self, key: str, seconds: float) -> "Deferred[bool]":
        """Mark a one-time token as used; see `wsserver.hub.broker.Broker.consume`."""
        done = self._link.command("SET", f"{PRIVATE}used:{key}".encode(), b"1", "PX", milliseconds(seconds), "NX")
        return done.addCallback(lambda found: found is not None)

    # Callbacks of the `RedisLink`.

    def _on_up(self, again: bool) -> None:
        self._write_check.begin()
        self._send_heartbeat()
        self._subscribe_control()
        if again:
            if self._occupancy is not None:
                self._occupancy.renew()
            self._presence.refresh()
            self._listener.on_reconnect()
        self._listener.on_up()

    def _subscribe_control(self) -> None:
        """Subscribe to control messages when the link is first up; after an outage, the link subscribes again."""
        if self._control_subscribed:
            return
        self._control_subscribed = True

        def failed(failure: Failure) -> None:
            _ignore(failure)
            self._control_subscribed = False

        for key in self._control_channels:
            self._link.subscribe(key).addErrback(failed)

    def _on_down(self) -> None:
        """Stop the write check. The hub notifies subscribers later: when the link is up again, and gaps are known."""
        self._write_check.end()

    def _on_permission_revoked(self, key: bytes) -> None:
        self._listener.on_permission_revoked(channel_of(key))


@lru_cache(maxsize=256)
def _pack_options(dataset_id: str, keep: Keep | None) -> bytes:
    """Return the last five arguments of the script `wsserver.redis.scripts.PUBLISH`, encoded."""
    size, ttl = keep or (0, 0.0)
    return pack_arguments(dataset_id, size, milliseconds(ttl), milliseconds(max(META_TTL, ttl)), _IDEMPOTENT_FOR)


def _read_position(found: Sequence[Any]) -> Position | None:
    """Parse the result of the script `wsserver.redis.scripts.PUBLISH`."""
    offset, epoch = found
    return Position(offset, epoch.decode("ascii")) if offset else None


def _no_position(_: object) -> None:
    """Return the position of a publication that is not stored in a history."""


def _ignore(failure: Failure) -> None:
    failure.trap(BrokerDown)
