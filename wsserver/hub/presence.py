"""
Presence: the list of the clients that are subscribed to a channel, and the events of clients joining and leaving it.

The broker stores the presence of all channels, and publishes join and leave events to all processes.

If a user's connection is lost, the leave of this client is delayed for `LEAVE_DELAY` seconds. If the user reconnects
within this time, the new client joins before the old one leaves, so that the user stays listed without interruption.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from wsserver.errors import BrokerDown
from wsserver.hub.clients import ClientInfo
from wsserver.hub.names import check_name
from wsserver.hub.rules import Rules
from wsserver.typing import ChannelName

__all__ = ["LEAVE_DELAY", "PresenceEvent", "PresenceManager", "PresenceStore"]

LEAVE_DELAY = 3.0
"""Seconds by which a client's leave is delayed after its connection was lost, because its user may reconnect."""

MAX_DELAYED = 10_000
"""Maximum number of leaves that are delayed at the same time; beyond it, further leaves are not delayed."""


@dataclass(frozen=True, slots=True)
class PresenceEvent:
    """The event that a client has joined or left a channel."""

    join: bool
    """True for a join, False for a leave."""
    info: ClientInfo
    """The client that has joined or left."""


class PresenceStore(Protocol):
    """The methods of the broker that `PresenceManager` needs; see `wsserver.hub.broker.Broker`."""

    def join(self, channel: ChannelName, info: ClientInfo) -> "Deferred[None]":
        """Add a client of this process to a channel's presence, and publish a join event."""

    def leave(self, channel: ChannelName, info: ClientInfo) -> "Deferred[None]":
        """Remove a client of this process from a channel's presence, and publish a leave event."""

    def members(self, channel: ChannelName) -> "Deferred[Mapping[str, ClientInfo]]":
        """Return the clients that are present on a channel, in all processes: client id -> info."""


class PresenceManager:
    """
    Reports the joins and leaves of this process's clients to the broker.

    Args:
        store: the broker, which stores presence and publishes joins and leaves to all processes.
        rules: define for which channels presence is tracked.
        clock: schedules the delayed leaves.
    """

    def __init__(self, store: PresenceStore, rules: Rules, clock: IReactorTime) -> None:
        self._store, self._rules, self._clock = store, rules, clock
        self._delayed: dict[tuple[ChannelName, str], tuple[ClientInfo, Any]] = {}

    def join(self, channel: ChannelName, info: ClientInfo) -> None:
        """Add a client to a channel's presence; do nothing if the channel's presence is not tracked."""
        if self._rules.for_channel(channel).presence:
            self._store.join(channel, info).addErrback(_ignore_outage)

    def leave(self, channel: ChannelName, info: ClientInfo, *, may_reconnect: bool = False) -> None:
        """
        Remove a client from a channel's presence; do nothing if the channel's presence is not tracked.

        Args:
            channel: the channel's name.
            info: the client.
            may_reconnect: whether the connection was lost, so that the user may reconnect. The client is then removed
                after `LEAVE_DELAY` seconds, so that a user who reconnects stays listed without interruption. An
                anonymous client is always removed immediately, because the server cannot recognize it when it
                reconnects.
        """
        if not self._rules.for_channel(channel).presence:
            return
        if may_reconnect and info.user and len(self._delayed) < MAX_DELAYED:
            call = self._clock.callLater(LEAVE_DELAY, self._leave_now, channel, info)
            self._delayed[channel, info.client] = (info, call)
        else:
            self._store.leave(channel, info).addErrback(_ignore_outage)

    def _leave_now(self, channel: ChannelName, info: ClientInfo) -> None:
        del self._delayed[channel, info.client]
        self._store.leave(channel, info).addErrback(_ignore_outage)

    def clients(self, channel: str) -> "Deferred[Mapping[str, ClientInfo]]":
        """
        Return the clients that are present on a channel, in all processes.

        Args:
            channel: the channel's name.

        Returns:
            A Deferred that fires with a mapping: client id -> info. The mapping is empty if the channel's presence is
            not tracked. The Deferred fails with `BrokerDown` if the broker is down.

        Raises:
            TypeError: the channel is not a str.
            ValueError: the channel's name is invalid.
        """
        name = check_name(channel)
        return self._store.members(name) if self._rules.for_channel(name).presence else succeed({})

    def stop(self) -> None:
        """Immediately remove all clients whose leave is delayed; called when the server stops."""
        for (channel, _), (info, call) in list(self._delayed.items()):
            call.cancel()
            self._leave_now(channel, info)


def _ignore_outage(failure: Failure) -> None:
    # Ignore the outage: when it has ended, the broker stores the clients of this process that are present again.
    failure.trap(BrokerDown)
