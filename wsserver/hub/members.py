"""
Presence of this process's clients: the broker publishes their joins and leaves to all processes.

If a user's connection is lost, the leave is delayed for `GRACE` seconds. If the user reconnects within the delay, the
join of the new connection precedes the leave of the old one, so that the user is present all the time.
"""

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from wsserver.errors import BrokerDown
from wsserver.hub.broker import Broker
from wsserver.hub.names import check_name
from wsserver.hub.presence import ClientInfo
from wsserver.hub.rules import Rules
from wsserver.typing import ChannelName

__all__ = ["GRACE", "PresenceManager"]

# At module level, because Twisted replaces the namespace of a class's logger by the class's name.
_log = Logger(namespace="wsserver.hub")

GRACE = 3.0
"""Seconds that the leave of a user is delayed after its connection was lost, in case the user reconnects."""

MAX_WAITING = 10_000
"""Maximum number of delayed leaves; beyond it, leaves are not delayed."""


class PresenceManager:
    """
    Reports the joins and leaves of this process's clients to the broker.

    Args:
        broker: stores presence, and publishes joins and leaves to all processes.
        rules: define for which channels presence is tracked.
        clock: delays leaves by `GRACE`.
    """

    def __init__(self, broker: Broker, rules: Rules, clock: IReactorTime) -> None:
        self._broker, self._rules, self._clock = broker, rules, clock
        self._waiting: dict[tuple[ChannelName, str], tuple[ClientInfo, Any]] = {}

    def join(self, channel: ChannelName, info: ClientInfo) -> None:
        """Add a client to a channel's presence; do nothing if the channel's presence is not tracked."""
        if self._rules.for_channel(channel).presence:
            self._broker.join(channel, info).addErrback(_ignore_outage)

    def leave(self, channel: ChannelName, info: ClientInfo, *, may_reconnect: bool = False) -> None:
        """
        Remove a client from a channel's presence; do nothing if the channel's presence is not tracked.

        Args:
            channel: the channel's name.
            info: the client.
            may_reconnect: the connection was lost, and the user may reconnect: delay the leave by `GRACE` seconds, so
                that a user who reconnects is present all the time. The leave of an anonymous client is never delayed:
                the server cannot recognize it when it reconnects.
        """
        if not self._rules.for_channel(channel).presence:
            return
        if may_reconnect and info.user and len(self._waiting) < MAX_WAITING:
            call = self._clock.callLater(GRACE, self._leave, channel, info)
            self._waiting[channel, info.client] = (info, call)
        else:
            self._broker.leave(channel, info).addErrback(_ignore_outage)

    def _leave(self, channel: ChannelName, info: ClientInfo) -> None:
        del self._waiting[channel, info.client]
        self._broker.leave(channel, info).addErrback(_ignore_outage)

    def of(self, channel: str) -> "Deferred[Mapping[str, ClientInfo]]":
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
        return self._broker.members(name) if self._rules.for_channel(name).presence else succeed({})

    def stop(self) -> None:
        """Send all delayed leaves now."""
        for (channel, _), (info, call) in list(self._waiting.items()):
            call.cancel()
            self._leave(channel, info)


def _ignore_outage(failure: Any) -> None:
    # Ignore the outage: the broker sends the current presence again when it is back.
    failure.trap(BrokerDown)
