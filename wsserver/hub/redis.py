"""
The broker of servers that share a Redis.

What is published with a plain `PUBLISH foo hello` reaches the subscribers of `foo` here as it is, without an offset.
While the link to Redis is down, nothing is acknowledged and no subscriber is taken; afterwards every subscriber is told
that something may be missing.
"""

from typing import Any

from twisted.internet.defer import Deferred

from wsserver.hub.formats import Publication
from wsserver.hub.hub import Listener
from wsserver.hub.redislink import RedisLink
from wsserver.redisurl import RedisURL
from wsserver.typing import ChannelName

__all__ = ["RedisBroker"]


class RedisBroker:
    """
    Bring publications from a Redis, and take them there.

    Args:
        url: where it is.
        reactor: what it runs on.

    Attributes:
        listener: must be set before `start`.
    """

    listener: Listener

    def __init__(self, url: RedisURL, reactor: Any) -> None:
        self._link = RedisLink(url, reactor, told=self._told, rose=self._rose, fell=self._fell)

    @property
    def up(self) -> bool:
        """Whether publications arrive."""
        return self._link.up

    def start(self) -> None:
        """Connect; a Redis that is not there is waited for."""
        self._link.start()

    def stop(self) -> "Deferred[Any]":
        """Disconnect."""
        return self._link.stop()

    def subscribe(self, channel: ChannelName) -> "Deferred[None]":
        """Have a channel's publications sent here; fires once Redis has confirmed it."""
        return self._link.subscribe(channel.encode("utf-8"))

    def unsubscribe(self, channel: ChannelName) -> None:
        """Have them sent here no more."""
        self._link.unsubscribe(channel.encode("utf-8"))

    def publish(self, channel: ChannelName, data: bytes) -> "Deferred[Publication]":
        """Publish; fails with `BrokerDown` where Redis has not taken it, or listeners here could not have it."""
        return self._link.command("PUBLISH", channel.encode("utf-8"), data).addCallback(lambda _: Publication(data))

    def _told(self, key: bytes, data: bytes) -> None:
        self.listener.arrived(ChannelName(key.decode("utf-8")), Publication(data))

    def _rose(self, again: bool) -> None:
        if again:
            self.listener.interrupted()

    def _fell(self) -> None:
        """Do nothing: the subscribers are told once it is known that there is something to hear again."""
