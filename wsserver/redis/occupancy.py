"""
Occupancy in Redis: which channels have subscribers in any process, and the queue of events for the backend.

| key | type and content |
|---|---|
| `wsserver:occupancy:{all}:processes` | sorted set: ids of the processes, scored by the time of their last `tick` |
| `wsserver:occupancy:{all}:dead` | set: ids of dead processes whose channels have not all been removed |
| `wsserver:occupancy:{all}:channels:ID` | set: the channels that have subscribers in the process with this id |
| `wsserver:occupancy:{all}:counts` | hash: channel -> number of processes in which it has subscribers |
| `wsserver:occupancy:{all}:vacating` | sorted set: channels without subscribers, scored by when they are vacated |
| `wsserver:occupancy:{all}:events` | list: the events that the backend has not accepted, the oldest first |
| `wsserver:occupancy:{all}:lease` | string: id of the process that sends the events |

All keys have the same hash tag, so in a Redis Cluster they are on one node. All times are those of the clock of Redis.

A process has another id in these keys after each outage of Redis, in which Redis may have lost what the process has
recorded, and the other processes may have taken it for dead. It records its channels again under the new id, and the
others remove the old id like that of a dead process. All ids of a process begin with its
`wsserver.hub.broker.Broker.node`.
"""

import random
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, gatherResults, succeed

from wsserver.hub.broker import first_cause
from wsserver.hub.channel_events import ChannelEvent
from wsserver.hub.names import PRIVATE
from wsserver.hub.occupancy import BATCH, MAX_EVENTS, VACATE_DELAY, Tick
from wsserver.hub.presence import LEAVE_DELAY
from wsserver.redis import occupancy_scripts as scripts
from wsserver.redis.encoding import milliseconds
from wsserver.typing import ChannelName

if TYPE_CHECKING:
    from wsserver.redis.supervisor import RedisLink

__all__ = ["RedisOccupancy"]

TTL = 30 * 86_400.0
"""Seconds without a running process after which Redis forgets the occupancy."""

_PREFIX = f"{PRIVATE}occupancy:{{all}}:"
_PROCESSES, _DEAD, _COUNTS, _VACATING, _EVENTS, _LEASE = (
    f"{_PREFIX}{name}".encode() for name in ("processes", "dead", "counts", "vacating", "events", "lease")
)


class RedisOccupancy:
    """
    The occupancy of all processes that share a Redis; implements `wsserver.hub.occupancy.OccupancyStore`.

    Args:
        link: the connection to Redis, not started yet.
        node: the id of this process, with which its ids in Redis begin.
        dead_after: seconds without a `tick` after which a process counts as dead.
        lease: seconds for which only this process sends events after it has called `take`.
    """

    def __init__(self, link: "RedisLink", node: str, *, dead_after: float, lease: float) -> None:
        self._node = node
        self._dead_after, self._lease = milliseconds(dead_after), milliseconds(lease)
        self._update, self._tick, self._forget, self._take, self._accept, self._remove_process = (
            link.script(text)
            for text in (
                *(scripts.UPDATE, scripts.TICK, scripts.FORGET, scripts.TAKE, scripts.ACCEPT),
                scripts.REMOVE_PROCESS,
            )
        )
        self._sender = self._new_id()
        self.renew()

    def renew(self) -> None:
        """Use a new id for this process: Redis may have lost what was recorded under the old one."""
        self._id, self._is_new = self._new_id(), True

    def _new_id(self) -> str:
        return f"{_prefix(self._node)}{random.getrandbits(64):016x}"

    def update(
        self, occupied: Collection[ChannelName], left: Collection[ChannelName]
    ) -> "Deferred[Collection[ChannelName]]":
        """Record which channels have subscribers in this process; see `OccupancyStore.update`."""
        if self._is_new:
            # Not before `tick`, which adds the process to the list. Otherwise, no process would notice its death.
            return succeed([*occupied, *left])
        keys = [_PROCESSES, _channels_key(self._id), _COUNTS, _VACATING, _EVENTS]
        arguments = (self._id, milliseconds(VACATE_DELAY), MAX_EVENTS, len(occupied), *occupied, *left)

        def read(found: Any) -> Collection[ChannelName]:
            if found is None:
                self.renew()
                return [*occupied, *left]
            return [ChannelName(name.decode("utf-8")) for name in found]

        return self._update.call(keys, arguments, read)

    def tick(self) -> "Deferred[Tick]":
        """Queue the events of vacated channels, and remove dead processes; see `OccupancyStore.tick`."""
        keys = [_PROCESSES, _DEAD, _channels_key(self._id), _COUNTS, _VACATING, _EVENTS]
        arguments = (self._id, "1" if self._is_new else "", self._dead_after, milliseconds(TTL), MAX_EVENTS, BATCH)
        mine = self._id

        def read(found: Sequence[Any]) -> Any:
            known, dead, events, vacated = found
            if mine != self._id:
                # Renewed meanwhile.
                return Tick(False, events)
            if not known:
                self.renew()
                return self.tick()
            was_new, self._is_new = self._is_new, False
            removed = gatherResults([self._remove(process) for process in dead], consumeErrors=True)

            def done(numbers: Sequence[int]) -> Tick:
                return Tick(not was_new, events, BATCH in (vacated, *numbers))

            return removed.addCallbacks(done, first_cause)

        return self._tick.call(keys, arguments).addCallback(read)

    def _remove(self, process: bytes, delay: float = VACATE_DELAY) -> "Deferred[Any]":
        """Remove the channels of a dead process: at most `BATCH`; the next `tick` removes more. Return their number."""
        return self._forget.call(
            [_DEAD, _channels_key(process.decode("ascii")), _COUNTS, _VACATING], (process, milliseconds(delay), BATCH)
        )

    def remove_process(self, node: str) -> "Deferred[Any]":
        """
        Remove the channels of a process that died `LEAVE_DELAY` seconds ago, before `tick` finds that it is dead.

        Args:
            node: the id of the dead process.

        Returns:
            A Deferred that fires when it is done. It fails as `RedisLink.command` does.
        """

        def remove(found: Sequence[bytes]) -> "Deferred[Any]":
            removed = [self._remove(process, VACATE_DELAY - LEAVE_DELAY) for process in found]
            return gatherResults(removed, consumeErrors=True).addErrback(first_cause)

        return self._remove_process.call([_PROCESSES, _DEAD, _LEASE], (_prefix(node),)).addCallback(remove)

    def take(self, limit: int) -> "Deferred[Sequence[ChannelEvent]]":
        """Return the oldest events; none if another process is sending them."""
        return self._take.call([_LEASE, _EVENTS], (self._sender, self._lease, limit), _read_events)

    def accept(self, count: int) -> "Deferred[None]":
        """Remove the oldest events from the queue, unless another process sends them by now."""
        return self._accept.call([_LEASE, _EVENTS], (self._sender, count), lambda _: None)

    def close(self) -> None:
        """Use another id after the next start. Other processes remove this one like a dead process."""
        self.renew()


def _prefix(node: str) -> str:
    return f"{node}-"


def _channels_key(process: str) -> bytes:
    return f"{_PREFIX}channels:{process}".encode()


def _read_events(found: Sequence[bytes]) -> Sequence[ChannelEvent]:
    events = []
    for text in found:
        kind, time_ms, channel = text.decode("utf-8").split(":", 2)
        events.append(ChannelEvent(ChannelName(channel), kind == "occupied", int(time_ms)))
    return events
