"""The clients of this process that are on a channel: when they come and leave is told to all processes."""

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

# Of the module, not of a class: on a class Twisted would replace the namespace by the class's name.
_log = Logger(namespace="wsserver.hub")

GRACE = 3.0
"""Seconds that a user whose connection was lost stays on its channels: who connects again was never away."""

MAX_WAITING = 10_000
"""Most clients that stay so at a time; one more leaves at once."""


class PresenceManager:
    """
    Who of this process is on which channel.

    Args:
        broker: tells it to all processes.
        rules: of which channels it is kept.
        clock: for the grace.
    """

    def __init__(self, broker: Broker, rules: Rules, clock: IReactorTime) -> None:
        self._broker, self._rules, self._clock = broker, rules, clock
        self._waiting: dict[tuple[ChannelName, str], tuple[ClientInfo, Any]] = {}

    def join(self, channel: ChannelName, info: ClientInfo) -> None:
        """Put a client on a channel."""
        if self._rules.for_channel(channel).presence:
            self._broker.join(channel, info).addErrback(_lost)

    def leave(self, channel: ChannelName, info: ClientInfo, *, quick: bool = False) -> None:
        """
        Take a client off a channel.

        Args:
            channel: which.
            info: who.
            quick: its connection was lost, and it may be back within a moment: it stays for `GRACE` seconds. So a
                user who connects again is at no time away. Of somebody without a name nobody knows whether they are
                back.
        """
        if not self._rules.for_channel(channel).presence:
            return
        if quick and info.user and len(self._waiting) < MAX_WAITING:
            call = self._clock.callLater(GRACE, self._leave, channel, info)
            self._waiting[channel, info.client] = (info, call)
        else:
            self._broker.leave(channel, info).addErrback(_lost)

    def _leave(self, channel: ChannelName, info: ClientInfo) -> None:
        del self._waiting[channel, info.client]
        self._broker.leave(channel, info).addErrback(_lost)

    def of(self, channel: str) -> "Deferred[Mapping[str, ClientInfo]]":
        """
        Return a channel's clients in all processes; the Deferred fails with `BrokerDown`.

        Raises:
            TypeError: the channel is not a str.
            ValueError: the channel's name is invalid.
        """
        name = check_name(channel)
        return self._broker.members(name) if self._rules.for_channel(name).presence else succeed({})

    def stop(self) -> None:
        """Let those that still stay leave."""
        for (channel, _), (info, call) in list(self._waiting.items()):
            call.cancel()
            self._leave(channel, info)


def _lost(failure: Any) -> None:
    # While the broker is down, who is here is told when it is back.
    failure.trap(BrokerDown)
