"""
Presence in Redis: one hash per channel, with the clients of all processes.

Redis deletes a hash that no process refreshes. So the clients of a killed process do not stay listed.
"""

from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import gatherResults, inlineCallbacks

from wsserver.errors import BrokerDown
from wsserver.hub.broker import first_cause
from wsserver.redis import scripts
from wsserver.redis.encoding import PUB, key_of, milliseconds, tag_of
from wsserver.typing import ChannelName

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.python.failure import Failure

    from wsserver.redis.supervisor import RedisLink

__all__ = ["BATCH", "MAX_DEPARTED", "PRESENCE_REFRESH", "PRESENCE_TTL", "RedisPresence"]

PRESENCE_TTL = 100.0
"""Seconds after which Redis deletes a channel's presence if no process refreshes it."""

PRESENCE_REFRESH = 30.0
"""Seconds between two refreshes: a process stores the presence of its clients again, so that it does not expire."""

BATCH = 500
"""Maximum number of clients that one command to Redis adds to or removes from a channel's presence."""

CHANNELS_AT_ONCE = 100
"""Number of channels from which a dead process's clients are removed at the same time."""

MAX_DEPARTED = 100_000
"""Maximum number of clients to remove later, because Redis was unavailable when they left."""


class RedisPresence:
    """
    Stores in Redis which clients of this process are present on each channel.

    If Redis is unavailable when a client leaves, the store removes the client with the next `refresh`. Otherwise the
    client would stay listed for as long as other clients of the channel keep the hash from expiring.

    Args:
        link: the connection to Redis, not started yet.
    """

    def __init__(self, link: "RedisLink") -> None:
        self._link = link
        self._join, self._leave, self._remove_process = (
            link.script(text) for text in (scripts.JOIN, scripts.LEAVE, scripts.REMOVE_PROCESS)
        )
        self._present: dict[ChannelName, dict[str, bytes]] = {}
        """Channel -> the clients of this process that are present: client id -> value in the hash."""
        self._departed: dict[tuple[ChannelName, str], None] = {}
        """The channels and client ids to remove from Redis with the next `refresh`."""

    def add(self, channel: ChannelName, client: str, value: bytes) -> "Deferred[Any]":
        """
        Add a client of this process to a channel's presence.

        Args:
            channel: the channel's name.
            client: the client id.
            value: what the hash contains for this client.

        Returns:
            A Deferred that fires when Redis has stored the client. It fails as `RedisLink.command` does; the client is
            then stored by the next `refresh`.
        """
        self._present.setdefault(channel, {})[client] = value
        self._departed.pop((channel, client), None)
        return self._store(channel, [client, value])

    def remove(self, channel: ChannelName, client: str) -> "Deferred[Any] | None":
        """
        Remove a client of this process from a channel's presence.

        Returns:
            None if the client is not present. Otherwise a Deferred that fires when Redis has removed the client. It
            fails as `RedisLink.command` does; the client is then removed by the next `refresh`.
        """
        clients = self._present.get(channel, {})
        if clients.pop(client, None) is None:
            return None
        if not clients:
            del self._present[channel]
        return self.delete(channel, [client]).addErrback(self._delete_later, channel, [client])

    def delete(self, channel: ChannelName, clients: "list[str] | list[bytes]") -> "Deferred[Any]":
        """
        Delete clients of any process from a channel's presence.

        Args:
            channel: the channel's name.
            clients: at most `BATCH` client ids.

        Returns:
            A Deferred that fires when Redis has removed the clients. It fails as `RedisLink.command` does.
        """
        return self._leave.call([key_of("presence", tag_of(channel))], clients)

    def refresh(self) -> None:
        """
        Store the presence of this process's clients again, and remove those that left while Redis was unavailable.

        Called every `PRESENCE_REFRESH` seconds, and when the connection to Redis is restored. Does nothing while the
        connection is down.
        """
        if not self._link.up:
            return
        departed: dict[ChannelName, list[str]] = {}
        for channel, client in self._departed:
            departed.setdefault(channel, []).append(client)
        self._departed.clear()
        for channel, clients in departed.items():
            for batch in _batches(clients, BATCH):
                self.delete(channel, batch).addErrback(self._delete_later, channel, batch).addErrback(_ignore)
        for channel, present in list(self._present.items()):
            for batch in _batches([part for client in present.items() for part in client], 2 * BATCH):
                self._store(channel, batch).addErrback(_ignore)

    @inlineCallbacks
    def remove_process(self, node: bytes) -> Generator[Any, Any, None]:
        """
        Remove the clients of a dead process, and publish their leave events.

        Only the channels of this process's clients are searched: on the others, nobody here receives the events. Other
        processes do the same; each client is removed by the first one.

        Args:
            node: the id of the dead process.

        Returns:
            A Deferred that fires when it is done. It fails as `RedisLink.command` does; the dead process's clients then
            leave without events.
        """
        for channels in _batches(list(self._present), CHANNELS_AT_ONCE):
            tags = list(map(tag_of, channels))
            while tags:
                calls = [
                    self._remove_process.call([key_of("presence", tag)], (node + b" ", PUB + tag, BATCH))
                    for tag in tags
                ]
                removed = yield gatherResults(calls, consumeErrors=True).addErrback(first_cause)
                tags = [tag for tag, number in zip(tags, removed, strict=True) if number == BATCH]

    def _store(self, channel: ChannelName, pairs: list[Any]) -> "Deferred[Any]":
        return self._join.call([key_of("presence", tag_of(channel))], (milliseconds(PRESENCE_TTL), *pairs))

    def _delete_later(self, failure: "Failure", channel: ChannelName, clients: list[str]) -> "Failure":
        present = self._present.get(channel, {})
        for client in clients[: MAX_DEPARTED - len(self._departed)]:
            if client not in present:
                self._departed[channel, client] = None
        return failure


def _batches(items: list[Any], size: int) -> Iterable[list[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _ignore(failure: "Failure") -> None:
    """Ignore that Redis is unavailable: the next `refresh` repeats the command."""
    failure.trap(BrokerDown)
