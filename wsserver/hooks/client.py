"""
Hooks over HTTP: ask the application's backend what a client may do, pass the client's messages on, and report events.

The requests have the format of Centrifugo's proxy.

Source: https://centrifugal.dev/docs/server/proxy
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.web.client import Agent

from wsserver.config.settings import Settings
from wsserver.errors import SettingError
from wsserver.hooks.messages import (
    EVENTS,
    TEMPORARY,
    Answered,
    Caller,
    Connected,
    HookDisconnect,
    HookError,
    Published,
    Subscribed,
    read_answered,
    read_connected,
    read_published,
    read_subscribed,
    read_taken,
    write_channel_events,
    write_request,
)
from wsserver.hooks.requester import MAX_AT_ONCE, HookQueue
from wsserver.hub.channel_events import ChannelEvent
from wsserver.typing import ChannelName, Header
from wsserver.wire.http_client import QuietConnectionPool

__all__ = ["HTTPHooks", "check_settings", "urls_of"]

# Node.js and uvicorn close an idle connection after 5 s. This server closes it earlier, so that it never sends a
# request on a connection that the backend is closing.
KEEP_ALIVE = 4
"""Seconds that an idle connection to the backend is kept open."""


_Answer = TypeVar("_Answer")


class HTTPHooks:
    """
    The backend's hooks over HTTP; implements `wsserver.hooks.interface.Hooks`.

    Args:
        urls: event -> URL of its hook, http:// or https://; an event without a URL is not sent.
        timeout: maximum seconds per request, including the time that it is queued because of `MAX_AT_ONCE`.
        reactor: makes connections and timers.
    """

    def __init__(self, urls: Mapping[str, str], *, timeout: float, reactor: Any) -> None:
        self._pool = QuietConnectionPool(reactor)
        self._pool.maxPersistentPerHost = MAX_AT_ONCE
        self._pool.cachedConnectionTimeout = KEEP_ALIVE
        self._reactor = reactor
        self.queues: dict[str, HookQueue] = {}
        """Event -> the queue that sends its requests, and counts them."""
        self._removed: list[HookQueue] = []
        self.configure(urls, timeout)

    @classmethod
    def from_settings(cls, settings: Settings, reactor: Any) -> "HTTPHooks":
        """
        Return the hooks that the server's options define.

        Raises:
            SettingError: an option needs another one.
        """
        check_settings(settings)
        return cls(urls_of(settings), timeout=settings.hook_timeout, reactor=reactor)

    def configure(self, urls: Mapping[str, str], timeout: float) -> None:
        """
        Replace the hooks. Requests that have been made already are not affected.

        Args:
            urls: as for the constructor.
            timeout: as for the constructor.
        """
        agent = Agent(self._reactor, connectTimeout=timeout, pool=self._pool)
        for event in self.queues.keys() - urls.keys():
            self._removed.append(self.queues.pop(event))
        for event, url in urls.items():
            if event in self.queues:
                self.queues[event].configure(url, timeout)
            else:
                self.queues[event] = HookQueue(event, url, agent, timeout, self._reactor)

    @property
    def events(self) -> frozenset[str]:
        """The events that are sent to the backend."""
        return frozenset(self.queues)

    def connect(
        self, caller: Caller, *, data: bytes | None = None, name: str = "", version: str = ""
    ) -> "Deferred[Connected | HookError | HookDisconnect]":
        """
        Ask the backend whether a client may connect, and which user the client is.

        Args:
            caller: the client.
            data: the client's data for the backend.
            name: the name of the client's library or application.
            version: the version of the library or application.

        Returns:
            A Deferred that fires with the answer. It never fails.
        """
        request = write_request(caller, name=name or None, version=version or None, data=data)
        return self._request("connect", request, caller.headers, read_connected)

    def subscribe(
        self, caller: Caller, channel: ChannelName, *, data: bytes | None = None
    ) -> "Deferred[Subscribed | HookError | HookDisconnect]":
        """
        Ask the backend whether a client may subscribe to a channel.

        Args:
            caller: the client.
            channel: the channel.
            data: the client's data for the backend.

        Returns:
            A Deferred that fires with the answer. It never fails.
        """
        request = write_request(caller, user=caller.user, channel=channel, data=data)
        return self._request("subscribe", request, caller.headers, read_subscribed)

    def publish(
        self, caller: Caller, channel: ChannelName, *, data: bytes
    ) -> "Deferred[Published | HookError | HookDisconnect]":
        """
        Ask the backend whether a client may publish this data to a channel; the answer may replace the data.

        Args:
            caller: the client.
            channel: the channel.
            data: the data to publish.

        Returns:
            A Deferred that fires with the answer. It never fails.
        """
        request = write_request(caller, user=caller.user, channel=channel, data=data)
        return self._request("publish", request, caller.headers, read_published)

    def rpc(
        self, caller: Caller, method: str, *, data: bytes | None = None
    ) -> "Deferred[Answered | HookError | HookDisconnect]":
        """
        Pass a client's call to the backend.

        Args:
            caller: the client.
            method: the name of the method; may be empty.
            data: the data of the call; None for none.

        Returns:
            A Deferred that fires with the answer. It never fails.
        """
        request = write_request(caller, user=caller.user, method=method, data=data)
        return self._request("rpc", request, caller.headers, read_answered)

    def message(
        self,
        caller: Caller,
        *,
        data: bytes | None = None,
        b64data: str | None = None,
        channels: Sequence[ChannelName] | None = None,
    ) -> "Deferred[Answered | HookError | HookDisconnect]":
        """
        Pass a client's message to the backend.

        Args:
            caller: the client.
            data: the data of the message; None for none.
            b64data: the data in base64 instead, if it is a binary message of a raw subscriber.
            channels: the channels that a raw subscriber is subscribed to; None for a Centrifuge client.

        Returns:
            A Deferred that fires with the answer. It never fails.
        """
        request = write_request(caller, user=caller.user, data=data, b64data=b64data, channels=channels)
        return self._request("message", request, caller.headers, read_answered)

    def disconnected(self, caller: Caller, *, code: int, reason: str) -> None:
        """
        Report to the backend that a client has disconnected; a failed report is counted, not retried.

        Do nothing if `disconnect` has no URL.

        Args:
            caller: the client.
            code: the close code.
            reason: the close reason.
        """
        queue = self.queues.get("disconnect")
        if queue is not None:
            request = write_request(caller, user=caller.user, disconnect={"code": code, "reason": reason})
            queue.request(request, caller.headers, lambda _: TEMPORARY)

    def channel_events(self, events: Sequence[ChannelEvent]) -> "Deferred[bool]":
        """
        Report that channels were occupied or vacated.

        Args:
            events: the events, the oldest first.

        Returns:
            A Deferred that fires with whether the backend has taken the events, or has refused them for good. It never
            fails.
        """
        done = self._request("channel", write_channel_events(events), (), read_taken)
        return done.addCallback(lambda answer: answer is True)

    def _request(
        self, event: str, request: bytes, headers: Iterable[Header], read: Callable[[bytes], _Answer]
    ) -> "Deferred[_Answer | HookError]":
        queue = self.queues.get(event)
        # The hook may have been removed since the caller has found it.
        return succeed(TEMPORARY) if queue is None else queue.request(request, headers, read)

    def stop(self) -> "Deferred[None]":
        """
        Reject further requests.

        Returns:
            A Deferred that fires when every open request has ended and the connections are closed.
        """
        stopped = gatherResults([queue.stop() for queue in (*self.queues.values(), *self._removed)])
        return stopped.addCallback(lambda _: self._pool.closeCachedConnections())


def urls_of(settings: Settings) -> dict[str, str]:
    """Return the URLs of the hooks that the options define: event -> URL."""
    return {event: url for event in EVENTS if (url := getattr(settings, f"hook_{event}"))}


def check_settings(settings: Settings) -> None:
    """
    Check that the options of the hooks fit together.

    Raises:
        SettingError: an option needs another one.
    """
    if settings.hook_message_raw and not settings.hook_message:
        raise SettingError("--hook-message-raw", "expected --hook-message to be set as well")
