"""
Ask a backend about clients over HTTP, as Centrifugo's proxy does.

Source: https://centrifugal.dev/docs/server/proxy
"""

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.web.client import Agent

from wsserver.hooks.messages import (
    TEMPORARY,
    Caller,
    Connected,
    Dropped,
    Published,
    Refused,
    Subscribed,
    read_connected,
    read_published,
    read_subscribed,
    write_question,
)
from wsserver.hooks.requester import MAX_AT_ONCE, Line
from wsserver.typing import ChannelName, JSONText
from wsserver.wire.connection_pool import QuietConnectionPool

__all__ = ["HTTPHooks"]

# Node.js closes an idle connection after 5 s, uvicorn too: ours is gone before.
KEEP_ALIVE = 4
"""Seconds for which an idle connection to the backend is kept."""


class HTTPHooks:
    """
    The backend.

    Args:
        urls: event -> where to send it, http:// or https://; what is not there is not asked.
        timeout: seconds a question may take, waiting included.
        reactor: for connections and deadlines.
    """

    def __init__(self, urls: Mapping[str, str], *, timeout: float, reactor: Any) -> None:
        self._pool = QuietConnectionPool(reactor)
        self._pool.maxPersistentPerHost = MAX_AT_ONCE
        self._pool.cachedConnectionTimeout = KEEP_ALIVE
        agent = Agent(reactor, connectTimeout=timeout, pool=self._pool)
        self.lines = {event: Line(event, url, agent, timeout, reactor) for event, url in urls.items()}
        """Event -> the questions about it, with their counters."""

    @property
    def events(self) -> frozenset[str]:
        """What is asked."""
        return frozenset(self.lines)

    def connect(
        self, caller: Caller, *, data: JSONText | None = None, name: str = "", version: str = ""
    ) -> "Deferred[Connected | Refused | Dropped]":
        """
        Ask whether a client may connect, and who it is.

        Args:
            caller: who asks.
            data: what it gave for the backend.
            name: of its library or application.
            version: of that.

        Returns:
            Fires with the answer; never fails.
        """
        question = write_question(caller, name=name or None, version=version or None, data=data)
        return self.lines["connect"].ask(question, caller.headers, read_connected)

    def subscribe(
        self, caller: Caller, channel: ChannelName, *, data: JSONText | None = None
    ) -> "Deferred[Subscribed | Refused | Dropped]":
        """
        Ask whether a client may listen to a channel.

        Args:
            caller: who asks.
            channel: which.
            data: what it gave for the backend.

        Returns:
            Fires with the answer; never fails.
        """
        question = write_question(caller, user=caller.user, channel=channel, data=data)
        return self.lines["subscribe"].ask(question, caller.headers, read_subscribed)

    def publish(
        self, caller: Caller, channel: ChannelName, *, data: JSONText
    ) -> "Deferred[Published | Refused | Dropped]":
        """
        Ask whether a client may publish, and what.

        Args:
            caller: who asks.
            channel: where.
            data: what it publishes.

        Returns:
            Fires with the answer; never fails.
        """
        question = write_question(caller, user=caller.user, channel=channel, data=data)
        return self.lines["publish"].ask(question, caller.headers, read_published)

    def disconnected(self, caller: Caller, *, code: int, reason: str) -> None:
        """
        Tell that a client has gone, once; where that fails it is counted, not tried again.

        Args:
            caller: who.
            code: of the close.
            reason: of the close.
        """
        line = self.lines.get("disconnect")
        if line is not None:
            question = write_question(caller, user=caller.user, disconnect={"code": code, "reason": reason})
            line.ask(question, caller.headers, lambda _: TEMPORARY)

    def stop(self) -> "Deferred[None]":
        """
        Ask nothing more.

        Returns:
            Fires when what was asked is answered or given up, and the connections are closed.
        """
        stopped = gatherResults([line.stop() for line in self.lines.values()])
        return stopped.addCallback(lambda _: self._pool.closeCachedConnections())
