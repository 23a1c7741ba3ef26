"""
Presence: the clients that are subscribed to a channel, and the events of joining and leaving it.

The broker stores presence, and publishes joins and leaves to all processes.

If a user's connection is lost, the leave is delayed for `LEAVE_DELAY` seconds. If the user reconnects within the delay,
the join of the new connection precedes the leave of the old one, so that the user stays listed without interruption.
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
"""Seconds that the leave of a user is delayed after its connection was lost, in case the user reconnects."""

MAX_DELAYED = 10_000
"""Maximum number of delayed leaves; beyond it, leaves are not delayed."""


@dataclass(frozen=True, slots=True)
class PresenceEvent:
    """A client has joined or left a channel."""

    join: bool
    """True for a join, False for a leave."""
    info: ClientInfo


class PresenceStore(Protocol):
    """The methods of the broker that presence needs; see `wsserver.hub.broker.Broker`."""

    def join(self, channel: ChannelName, info: ClientInfo) -> "Deferred[None]":
        """Add a client of this process to a channel's presence, and publish a join event."""

    def leave(self, channel: ChannelName, info: ClientInfo) -> "Deferred[None]":
        """Remove a client of this process from a channel's presence, and publish a leave event."""

    def members(self, channel: ChannelName) -> "Deferred[Mapping[str, ClientInfo]]":
        """Return a channel's presence in all processes: client id -> info."""


class PresenceManager:
    """
    Reports the joins and leaves of this process's clients to the broker.

    Args:
        store: the broker, which stores presence and publishes joins and leaves to all processes.
        rules: define for which channels presence is tracked.
        clock: delays leaves by `LEAVE_DELAY`.
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
            may_reconnect: the connection was lost, and the user may reconnect: delay the leave by `LEAVE_DELAY`
                seconds, so that a user who reconnects stays listed without interruption. The leave of an anonymous
                client is never delayed, because the server cannot recognize it when it reconnects.
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
        Return a channel's presence in all processes.

        Args:
            channel: the channel's name.

        Returns:
            A Deferred that fires with client id -> info, empty if the channel's presence is not tracked. It fails with
            `BrokerDown`.

        Raises:
            TypeError: the channel is not a str.
            ValueError: the channel's name is invalid.
        """
        name = check_name(channel)
        return self._store.members(name) if self._rules.for_channel(name).presence else succeed({})

    def stop(self) -> None:
        """Send all delayed leaves now."""
        for (channel, _), (info, call) in list(self._delayed.items()):
            call.cancel()
            self._leave_now(channel, info)


def _ignore_outage(failure: Failure) -> None:
    # Ignore the outage: the broker sends the current presence again when it is back.
    failure.trap(BrokerDown)
