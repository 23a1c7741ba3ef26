"""
Management: a backend's operations on connections and channels, in all processes that share a broker.

Each operation is a request to every process (`wsserver.hub.survey`); the result combines their answers.
"""

import json
import os
import time
from collections.abc import Collection, Mapping
from typing import Any

from twisted.internet.defer import Deferred

from wsserver.centrifugecodes import EXPIRED, FORCE_DISCONNECT, SERVER_UNSUBSCRIBE
from wsserver.closecodes import MAX_REASON_BYTES
from wsserver.hub.hub import Hub
from wsserver.hub.names import Patterns, check_name
from wsserver.hub.publication import check_int, check_text
from wsserver.jsonfields import read_json, write
from wsserver.typing import ChannelName

__all__ = ["MAX_CHANNELS", "MAX_CONNECTIONS", "Management"]

MAX_CONNECTIONS = 1000
"""Maximum number of connections in the answer of one process."""

MAX_CHANNELS = 10_000
"""Maximum number of channels in the answer of one process."""

# Answers can be large: a connection may subscribe to 128 channels with long names. Redis disconnects a process if more
# than 8 MB are queued for it, and then all clients of that process would be notified of a gap.
MAX_BYTES = 1024**2
"""Maximum size in bytes of the connections or channels in the answer of one process. The limit is per process."""


class Management:
    """
    A backend's operations on connections and channels.

    The constructor registers this process's answers in `hub.control.handlers`.

    Args:
        hub: the clients and channels of this process.
        version: the server's version, for `info`.
        now: returns monotonic time in seconds, for the uptime.
    """

    def __init__(self, hub: Hub, version: str, now: Any = time.monotonic) -> None:
        self._hub, self._version, self._now = hub, version, now
        self._started = now()
        hub.control.handlers |= {
            "connections": self._connections,
            "channels": self._channels,
            "disconnect": self._disconnect,
            "unsubscribe": self._unsubscribe,
            "subscribe": self._subscribe,
            "refresh": self._refresh,
            "info": self._info,
        }

    # Operations on all processes.

    def connections(self, user: str = "", client: str = "", pattern: str = "*") -> "Deferred[dict[str, Any]]":
        """
        Return the connections.

        Args:
            user: only connections of this user; empty for all users.
            client: only the connection with this client id; empty for all.
            pattern: only connections that are subscribed to a channel matching this pattern; `*` for all.

        Returns:
            A Deferred that fires with client id -> `user`, `channels`, `transport` and so on (see `Client.about`);
            from each process at most `MAX_CONNECTIONS`, and at most `MAX_BYTES` in total.
        """
        arguments = {**_check_who(user, client), "pattern": check_text("pattern", pattern)}
        return self._hub.control.ask("connections", arguments).addCallback(_merge)

    def channels(self, pattern: str = "*") -> "Deferred[dict[str, int]]":
        """
        Return the channels that have subscribers.

        Args:
            pattern: only channels matching this pattern.

        Returns:
            A Deferred that fires with channel name -> number of subscribers in all processes; from each process at most
            `MAX_CHANNELS`, and at most `MAX_BYTES` of names.
        """

        def add(answers: list[Any]) -> dict[str, int]:
            found: dict[str, int] = {}
            for answer in answers:
                for channel, count in answer.items():
                    found[channel] = found.get(channel, 0) + count
            return found

        return self._hub.control.ask("channels", {"pattern": check_text("pattern", pattern)}).addCallback(add)

    def disconnect(
        self,
        user: str = "",
        client: str = "",
        *,
        code: int = FORCE_DISCONNECT.code,
        reason: str = FORCE_DISCONNECT.reason,
        except_clients: Collection[str] = (),
    ) -> "Deferred[int]":
        """
        Disconnect clients.

        Args:
            user: the user whose clients to disconnect.
            client: the client id. If both are given, both must match; if neither is given, no client is disconnected.
            code: the disconnect code, as in Centrifugo: 3000 to 4999.
            reason: the reason, at most `MAX_REASON_BYTES` bytes.
            except_clients: client ids that are not disconnected.

        Returns:
            A Deferred that fires with the number of disconnected clients.

        Raises:
            TypeError: an argument has the wrong type.
            ValueError: the code is out of range, or the reason is over `MAX_REASON_BYTES` bytes.
        """
        if not 3000 <= check_int("code", code) <= 4999:
            raise ValueError(f"code must be from 3000 to 4999, not {code}")
        if len(check_text("reason", reason).encode("utf-8")) > MAX_REASON_BYTES:
            raise ValueError(f"reason must be at most {MAX_REASON_BYTES} bytes long")
        if isinstance(except_clients, str):
            raise TypeError("except_clients must be a collection of str, not str")
        stay = [check_text("except_clients", one) for one in except_clients]
        arguments = {**_check_who(user, client), "code": code, "reason": reason, "except": stay}
        return self._hub.control.ask("disconnect", arguments).addCallback(sum)

    def unsubscribe(self, channel: str, user: str = "", client: str = "") -> "Deferred[int]":
        """
        Unsubscribe clients from a channel.

        Args:
            channel: the channel's name.
            user: the user whose clients to unsubscribe.
            client: the client id; for the combination with `user` see `disconnect`.

        Returns:
            A Deferred that fires with the number of clients that were unsubscribed.

        Raises:
            TypeError: an argument has the wrong type.
            ValueError: the channel's name is invalid.
        """
        arguments = {"channel": check_name(channel), **_check_who(user, client)}
        return self._hub.control.ask("unsubscribe", arguments).addCallback(sum)

    def subscribe(
        self, channel: str, user: str = "", client: str = "", options: Mapping[str, Any] = {}
    ) -> "Deferred[int]":
        """
        Subscribe clients to a channel.

        Args:
            channel: the channel's name.
            user: the user whose clients to subscribe.
            client: the client id; for the combination with `user` see `disconnect`.
            options: `info`, `data`, `expire_at` and `recover_since`, as in Centrifugo's API; `data` may be a JSON text
                in bytes.

        Returns:
            A Deferred that fires with the number of clients that were subscribed.

        Raises:
            TypeError: an argument has the wrong type.
            ValueError: the channel's name is invalid, or the options cannot be written as JSON.
        """
        encoded = dict(options)
        if (data := encoded.pop("data", None)) is not None:
            # As JSON text in a string, because parsing it would change how its numbers are written.
            encoded["data"] = (read_json(data) if isinstance(data, bytes) else write(data)).decode("utf-8")
        write(encoded)
        arguments = {"channel": check_name(channel), **_check_who(user, client), "options": encoded}
        return self._hub.control.ask("subscribe", arguments).addCallback(sum)

    def refresh(
        self, user: str = "", client: str = "", *, expired: bool = False, expire_at: int = 0
    ) -> "Deferred[int]":
        """
        Change the expiry of connections, or disconnect them as expired.

        Args:
            user: the user whose connections to refresh.
            client: the client id; for the combination with `user` see `disconnect`.
            expired: disconnect the clients with 3005 "connection expired".
            expire_at: the new expiry in seconds since 1970; 0 for none.

        Returns:
            A Deferred that fires with the number of connections that were changed or disconnected.

        Raises:
            TypeError: an argument has the wrong type.
        """
        arguments = {
            **_check_who(user, client),
            "expired": bool(expired),
            "expire_at": check_int("expire_at", expire_at),
        }
        return self._hub.control.ask("refresh", arguments).addCallback(sum)

    def info(self) -> "Deferred[list[dict[str, Any]]]":
        """Return the id, name, version, uptime, counts and metrics of each process."""
        return self._hub.control.ask("info", {})

    # Requests that each process answers.

    def _connections(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        wanted = Patterns([arguments["pattern"]])
        found: dict[str, Any] = {}
        size = 0
        for one in self._hub.clients.find(arguments["user"], arguments["client"]):
            channels = list(one.channels)
            if arguments["pattern"] != "*" and not any(channel in wanted for channel in channels):
                continue
            about = {"user": one.user, "channels": channels, **one.about()}
            size += len(json.dumps(about))
            if len(found) >= MAX_CONNECTIONS or size > MAX_BYTES:
                break
            found[one.client] = about
        return found

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
        stay = set(arguments["except"])
        gone = [one for one in self._find(arguments) if one.client not in stay]
        for one in gone:
            one.disconnect(arguments["code"], arguments["reason"])
        return len(gone)

    def _unsubscribe(self, arguments: Mapping[str, Any]) -> int:
        channel = ChannelName(arguments["channel"])
        off = [one for one in self._find(arguments) if channel in one.channels]
        for one in off:
            one.unsubscribe(channel, SERVER_UNSUBSCRIBE.code, SERVER_UNSUBSCRIBE.reason)
        return len(off)

    def _subscribe(self, arguments: Mapping[str, Any]) -> int:
        channel = ChannelName(arguments["channel"])
        on = [one for one in self._find(arguments) if channel not in one.channels]
        return sum(one.subscribe(channel, arguments["options"]) for one in on)

    def _refresh(self, arguments: Mapping[str, Any]) -> int:
        if arguments["expired"]:
            return self._disconnect({**arguments, "code": EXPIRED.code, "reason": EXPIRED.reason, "except": ()})
        return sum(one.refresh(arguments["expire_at"]) for one in self._find(arguments))

    def _find(self, arguments: Mapping[str, Any]) -> list[Any]:
        user, client = arguments["user"], arguments["client"]
        # Without a user and a client id, `find` would return all clients.
        return self._hub.clients.find(user, client) if user or client else []

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
        }

    def _metrics(self) -> dict[str, float]:
        """Return the counters since the start of the server, and the broker's metrics: metric name -> value."""
        hub = self._hub
        return {
            **hub.broker.metrics(),
            "plain_publications_total": float(hub.plain),
            "gaps_total": float(hub.gaps),
            "dropped_messages_total": float(hub.dropped),
        }


def _merge(answers: list[Any]) -> dict[str, Any]:
    return {name: value for answer in answers for name, value in answer.items()}


def _check_who(user: str, client: str) -> dict[str, str]:
    return {"user": check_text("user", user), "client": check_text("client", client)}
