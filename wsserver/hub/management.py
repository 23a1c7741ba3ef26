"""
What a backend can do with connections and channels, in all processes that share a broker.

Each operation is asked of every process; what they answer is put together.
"""

import json
import os
import time
from collections.abc import Collection, Mapping
from typing import Any, Final

from twisted.internet.defer import Deferred

from wsserver.hub.hub import Hub
from wsserver.hub.names import Patterns, check_name
from wsserver.hub.publication import check_int, check_text
from wsserver.jsonfields import read_json, write
from wsserver.typing import ChannelName

__all__ = ["FORCE_DISCONNECT", "MAX_CHANNELS", "MAX_CONNECTIONS", "SERVER_UNSUBSCRIBE", "Management"]

# Centrifugo's codes: https://centrifugal.dev/docs/server/codes
FORCE_DISCONNECT: Final = (3503, "force disconnect")
SERVER_UNSUBSCRIBE: Final = (2000, "server unsubscribe")

MAX_REASON: Final = 123
"""Maximum length of a reason in a Close frame, in bytes (RFC 6455 section 5.5)."""

MAX_CONNECTIONS = 1000
"""Most connections that one process tells of."""

MAX_CHANNELS = 10_000
"""Most channels that one process tells of."""

# A connection may listen to 128 channels with long names; Redis cuts off a listener for whom over 8 MB wait, and all
# clients of that process would be told of a gap because of an answer.
MAX_BYTES = 1024**2
"""Most bytes of what one process tells of connections, or of channels; there are more answers where there are more."""


class Management:
    """
    The operations.

    Args:
        hub: whose clients and channels these are in this process.
        version: of the server, for `info`.
        now: tells the seconds since some moment that does not change.
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

    # Asked of all.

    def connections(self, user: str = "", client: str = "", pattern: str = "*") -> "Deferred[dict[str, Any]]":
        """
        Tell who is connected.

        Args:
            user: only of whom; empty for anybody.
            client: only with which id; empty for any.
            pattern: only those that listen to a channel that fits.

        Returns:
            Fires with client id -> what is known: `user`, `channels`, `transport` and so on; at most
            `MAX_CONNECTIONS` of each process, and `MAX_BYTES`.
        """
        arguments = {**_check_who(user, client), "pattern": check_text("pattern", pattern)}
        return self._hub.control.ask("connections", arguments).addCallback(_merge)

    def channels(self, pattern: str = "*") -> "Deferred[dict[str, int]]":
        """Tell the channels that somebody listens to, and how many do; at most `MAX_CHANNELS` of each process."""

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
        code: int = FORCE_DISCONNECT[0],
        reason: str = FORCE_DISCONNECT[1],
        except_clients: Collection[str] = (),
    ) -> "Deferred[int]":
        """
        End connections.

        Args:
            user: of whom.
            client: which one; both must fit where both are given, one must be.
            code: Centrifugo's code, 3000 to 4999.
            reason: why.
            except_clients: ids that stay.

        Returns:
            Fires with how many there were.

        Raises:
            TypeError: an argument has the wrong type.
            ValueError: the code is out of range, or the reason is over `MAX_REASON` bytes.
        """
        if not 3000 <= check_int("code", code) <= 4999:
            raise ValueError(f"code must be from 3000 to 4999, not {code}")
        if len(check_text("reason", reason).encode("utf-8")) > MAX_REASON:
            raise ValueError(f"reason must be at most {MAX_REASON} bytes long")
        if isinstance(except_clients, str):
            raise TypeError("except_clients must be a collection of str, not str")
        stay = [check_text("except_clients", one) for one in except_clients]
        arguments = {**_check_who(user, client), "code": code, "reason": reason, "except": stay}
        return self._hub.control.ask("disconnect", arguments).addCallback(sum)

    def unsubscribe(self, channel: str, user: str = "", client: str = "") -> "Deferred[int]":
        """Take clients off a channel; fires with how many were on it."""
        arguments = {"channel": check_name(channel), **_check_who(user, client)}
        return self._hub.control.ask("unsubscribe", arguments).addCallback(sum)

    def subscribe(
        self, channel: str, user: str = "", client: str = "", options: Mapping[str, Any] = {}
    ) -> "Deferred[int]":
        """
        Subscribe clients to a channel.

        Args:
            channel: the channel's name.
            user: whose clients.
            client: the id of one client; both must match if both are given.
            options: `info`, `data`, `expire_at` and `recover_since`, as in Centrifugo's API; `data` may be a JSON text
                in bytes.

        Returns:
            Fires with the number of clients that were subscribed.

        Raises:
            TypeError: an argument has the wrong type.
            ValueError: the channel's name is invalid, or the options cannot be written as JSON.
        """
        told = dict(options)
        if (data := told.pop("data", None)) is not None:
            # As a text: its numbers would not stay as they are written.
            told["data"] = (read_json(data) if isinstance(data, bytes) else write(data)).decode("utf-8")
        write(told)
        arguments = {"channel": check_name(channel), **_check_who(user, client), "options": told}
        return self._hub.control.ask("subscribe", arguments).addCallback(sum)

    def refresh(
        self, user: str = "", client: str = "", *, expired: bool = False, expire_at: int = 0
    ) -> "Deferred[int]":
        """Let connections live until another time (seconds since 1970), or end them as expired; fires with how many."""
        arguments = {
            **_check_who(user, client),
            "expired": bool(expired),
            "expire_at": check_int("expire_at", expire_at),
        }
        return self._hub.control.ask("refresh", arguments).addCallback(sum)

    def info(self) -> "Deferred[list[dict[str, Any]]]":
        """Tell of each process what it is and how much it has to do."""
        return self._hub.control.ask("info", {})

    # Done in each.

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
        gone = [one for one in self._named(arguments) if one.client not in stay]
        for one in gone:
            one.disconnect(arguments["code"], arguments["reason"])
        return len(gone)

    def _unsubscribe(self, arguments: Mapping[str, Any]) -> int:
        channel = ChannelName(arguments["channel"])
        off = [one for one in self._named(arguments) if channel in one.channels]
        for one in off:
            one.unsubscribe(channel, *SERVER_UNSUBSCRIBE)
        return len(off)

    def _subscribe(self, arguments: Mapping[str, Any]) -> int:
        channel = ChannelName(arguments["channel"])
        on = [one for one in self._named(arguments) if channel not in one.channels]
        return sum(one.subscribe(channel, arguments["options"]) for one in on)

    def _refresh(self, arguments: Mapping[str, Any]) -> int:
        if arguments["expired"]:
            return self._disconnect({**arguments, "code": 3005, "reason": "connection expired", "except": ()})
        return sum(one.refresh(arguments["expire_at"]) for one in self._named(arguments))

    def _named(self, arguments: Mapping[str, Any]) -> list[Any]:
        user, client = arguments["user"], arguments["client"]
        # Without a name it would be everybody.
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
            "metrics": {"interval": 0, "items": self._counts()},
        }

    def _counts(self) -> dict[str, float]:
        """Tell what was counted since the start, with the names that metrics will have."""
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
