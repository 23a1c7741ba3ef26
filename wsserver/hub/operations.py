"""The management operations as each process carries them out, on request of `wsserver.hub.management`."""

import heapq
import itertools
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from wsserver.hub.hub import Hub
from wsserver.hub.names import Patterns
from wsserver.hub.parameters import MAX_CONNECTIONS
from wsserver.hub.survey import Handlers
from wsserver.typing import ChannelName

__all__ = ["MAX_BYTES", "MAX_CHANNELS", "MAX_CONNECTIONS", "Operations"]

MAX_CHANNELS = 10_000
"""Maximum number of channels in one process's answer to the request `channels`."""

# Answers can be large: a connection may subscribe to 128 channels with long names. If more than 8 MB are queued for a
# process, Redis disconnects it, and then all its clients would be notified of a gap.
MAX_BYTES = 1024**2
"""Maximum size in bytes of one process's answer to `connections` or `channels`. Further entries are left out."""


class Operations:
    """
    Carries out management operations on the connections and channels of this process.

    Args:
        hub: the hub of this process, with its clients and channels.
        version: the server's version, which the operation `info` returns.
        now: returns monotonic time in seconds, to compute the uptime.
        numbers: returns further metrics for the operation `info`: metric name -> value.
        worker: returns the number of this process among the workers of its server; 0 if it is the only process.
    """

    def __init__(
        self,
        hub: Hub,
        version: str,
        now: Callable[[], float] = time.monotonic,
        numbers: Callable[[], Mapping[str, float]] = dict,
        worker: Callable[[], int] = int,
    ) -> None:
        self._hub, self._version, self._now, self._numbers, self._worker = hub, version, now, numbers, worker
        self._started = now()
        self.handlers: Handlers = {
            "connections": self._connections,
            "channels": self._channels,
            "disconnect": self._disconnect,
            "unsubscribe": self._unsubscribe,
            "subscribe": self._subscribe,
            "refresh": self._refresh,
            "info": self._info,
            "remove_process": self._remove_process,
        }
        """Name of a request -> the operation that answers it; passed to `wsserver.hub.survey.Survey`."""

    def _connections(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        limit, after = arguments["limit"] or MAX_CONNECTIONS, arguments["after"]
        matching = list(self._matching(arguments))
        if arguments["limit"]:
            chosen: Iterable[Any] = heapq.nsmallest(
                limit, (one for one in matching if one.client > after), key=lambda one: one.client
            )
        else:
            chosen = itertools.islice(matching, limit)
        found: dict[str, Any] = {}
        size = 0
        for one in chosen:
            connection = {"user": one.user, "channels": list(one.channels), **one.describe()}
            size += len(json.dumps(connection))
            if size > MAX_BYTES:
                # The next page begins here.
                return {"connections": found, "total": len(matching), "last": max(found, default=after)}
            found[one.client] = connection
        return {"connections": found, "total": len(matching), "last": None}

    def _matching(self, arguments: Mapping[str, Any]) -> Iterable[Any]:
        clients, pattern = self._hub.clients.find(arguments["user"], arguments["client"]), arguments["pattern"]
        wanted, text = Patterns([pattern]), arguments["search"].casefold()
        for one in clients:
            if pattern != "*" and not any(channel in wanted for channel in one.channels):
                continue
            if text and not _contains(one, text):
                continue
            yield one

    def _channels(self, arguments: Mapping[str, Any]) -> dict[str, int]:
        wanted = Patterns([arguments["pattern"]])
        found: dict[str, int] = {}
        size = 0
        for channel, count in self._hub.counts().items():
            if channel in wanted:
                size += len(json.dumps(channel))
                if len(found) >= MAX_CHANNELS or size > MAX_BYTES:
                    break
                found[channel] = count
        return found

    def _disconnect(self, arguments: Mapping[str, Any]) -> int:
        excepted = set(arguments["except"])
        clients = [one for one in self._find(arguments) if one.client not in excepted]
        for one in clients:
            self._deliver_pending(one.channels)
            one.disconnect(arguments["code"], arguments["reason"])
        return len(clients)

    def _unsubscribe(self, arguments: Mapping[str, Any]) -> int:
        channel = ChannelName(arguments["channel"])
        clients = [one for one in self._find(arguments) if channel in one.channels]
        self._deliver_pending([channel])
        for one in clients:
            one.unsubscribe(channel)
        return len(clients)

    def _subscribe(self, arguments: Mapping[str, Any]) -> int:
        channel = ChannelName(arguments["channel"])
        clients = [one for one in self._find(arguments) if channel not in one.channels]
        return sum(one.subscribe(channel, arguments["options"]) for one in clients)

    def _refresh(self, arguments: Mapping[str, Any]) -> int:
        found = self._find(arguments)
        if not arguments["expired"]:
            return sum(one.refresh(arguments["expire_at"]) for one in found)
        for one in found:
            self._deliver_pending(one.channels)
            one.expire()
        return len(found)

    def _deliver_pending(self, channels: Iterable[ChannelName]) -> None:
        # Clients receive what was published before the call, for example in the same batch of the HTTP API.
        for channel in list(channels):
            self._hub.deliver_pending(channel)

    def _find(self, arguments: Mapping[str, Any]) -> list[Any]:
        user, client = arguments["user"], arguments["client"]
        # If both are empty, `Clients.find` would return all clients.
        return self._hub.clients.find(user, client) if user or client else []

    def _remove_process(self, arguments: Mapping[str, Any]) -> bool:
        self._hub.broker.remove_process(arguments["node"])
        return True

    def _info(self, _: Mapping[str, Any]) -> dict[str, Any]:
        hub = self._hub
        counts = hub.counts()
        return {
            "uid": hub.broker.node,
            "name": f"{os.uname().nodename}_{os.getpid()}",
            "version": self._version,
            "num_clients": len(hub.clients),
            "num_users": hub.clients.users,
            "num_channels": len(counts),
            "num_subs": sum(counts.values()),
            "uptime": int(self._now() - self._started),
            "metrics": {"interval": 0, "items": self._metrics()},
            **({"worker": worker} if (worker := self._worker()) else {}),
        }

    def _metrics(self) -> dict[str, float]:
        """Return the process's counters since its start, and the broker's metrics: metric name -> value."""
        hub = self._hub
        return {
            **hub.broker.metrics(),
            **self._numbers(),
            "plain_publications_total": float(hub.plain),
            "gaps_total": float(hub.gaps),
            "dropped_messages_total": float(hub.dropped),
        }


def _contains(client: Any, text: str) -> bool:
    """Return whether the client's id, user, address or one of its channels contains a text, which is case-folded."""
    if text in client.client or text in client.user.casefold():
        return True
    address = client.describe().get("address") or ""
    return text in address or any(text in channel.casefold() for channel in client.channels)
