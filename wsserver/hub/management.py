"""
Management: the operations with which an application's backend controls connections and channels.

The operations act on all server processes that share a broker. Each operation sends a request to every process
(`wsserver.hub.survey`), and combines the answers into one result.
"""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from wsserver.centrifugecodes import FORCE_DISCONNECT
from wsserver.closecodes import MAX_REASON_BYTES
from wsserver.errors import BrokerDown
from wsserver.hub.names import check_name
from wsserver.hub.publication import check_int, check_text
from wsserver.hub.survey import Survey
from wsserver.jsonfields import read_json, write
from wsserver.text import quote

__all__ = ["MAX_REJECTS", "ConnectionPage", "Management"]

MAX_REJECTS = 1000
"""Maximum number of refused requests that are returned."""


class ConnectionPage(NamedTuple):
    """Connections, or some of them."""

    connections: dict[str, Any]
    """Client id -> a JSON object with `user`, `channels` and the fields of `wsserver.hub.clients.Client.describe`."""
    total: int
    """Number of all connections that the caller has selected."""
    after: str = ""
    """The argument `after` for the next page; empty if there is none."""


class Management:
    """
    The operations of an application's backend on connections and channels, in all server processes.

    The Deferreds that the methods return fail with `BrokerDown` if the broker is down.

    Args:
        survey: sends the requests to every process; `wsserver.hub.operations.Operations` answers them there.
    """

    def __init__(self, survey: Survey) -> None:
        self._survey = survey

    # Operations on all processes.

    def connections(
        self, user: str = "", client: str = "", pattern: str = "*", *, search: str = "", limit: int = 0, after: str = ""
    ) -> "Deferred[ConnectionPage]":
        """
        Return the client connections of all processes.

        Args:
            user: return only connections of the user with this id; empty for all users.
            client: return only the connection with this client id; empty for all connections.
            pattern: return only connections that are subscribed to a channel matching this pattern; `*` for all
                connections.
            search: return only connections whose client id, user, address or one of its channels contains this text;
                upper and lower case do not matter. Empty for all connections.
            limit: the maximum number of connections to return, which are then in the order of their client ids; 0 for
                at most `wsserver.hub.operations.MAX_CONNECTIONS` of each process, in no order.
            after: with `limit`, return only connections whose client id is greater than this.

        Returns:
            A Deferred that fires with the connections.

        Raises:
            TypeError: an argument has the wrong type.
        """
        arguments = {
            **_check_who(user, client),
            "pattern": check_text("pattern", pattern),
            "search": check_text("search", search),
            "limit": check_int("limit", limit),
            "after": check_text("after", after),
        }
        return self._survey.ask("connections", arguments).addCallback(_merge, limit)

    def channels(self, pattern: str = "*") -> "Deferred[dict[str, int]]":
        """
        Return the channels that have subscribers in any process.

        Args:
            pattern: return only channels matching this pattern; `*` for all channels.

        Returns:
            A Deferred that fires with channel name -> number of subscribers in all processes. Each process returns at
            most `wsserver.hub.operations.MAX_CHANNELS` channels.

        Raises:
            TypeError: the pattern is not a str.
        """

        def add(answers: list[Any]) -> dict[str, int]:
            found: dict[str, int] = {}
            for answer in answers:
                for channel, count in answer.items():
                    found[channel] = found.get(channel, 0) + count
            return found

        return self._survey.ask("channels", {"pattern": check_text("pattern", pattern)}).addCallback(add)

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
            user: the id of the user whose clients to disconnect; empty for any user.
            client: the id of the client to disconnect; empty for any client. If `user` and `client` are both given,
                both must match. If both are empty, no client is disconnected.
            code: the disconnect code that is sent to the clients: 3000 to 4999, as in Centrifugo.
            reason: the reason that is sent to the clients: at most `MAX_REASON_BYTES` bytes.
            except_clients: the ids of clients to leave connected.

        Returns:
            A Deferred that fires with the number of disconnected clients.

        Raises:
            TypeError: an argument has the wrong type.
            ValueError: the code is out of range, or the reason is over `MAX_REASON_BYTES` bytes.
        """
        if not 3000 <= check_int("code", code) <= 4999:
            raise ValueError(f"code must be from 3000 to 4999, not {code}")
        if len(check_text("reason", reason).encode("utf-8")) > MAX_REASON_BYTES:
            raise ValueError(f"reason {quote(reason)} is too long: expected at most {MAX_REASON_BYTES} bytes")
        if isinstance(except_clients, str):
            raise TypeError("except_clients must be a collection of str, not str")
        excepted = [check_text("except_clients", one) for one in except_clients]
        arguments = {**_check_who(user, client), "code": code, "reason": reason, "except": excepted}
        return self._survey.ask("disconnect", arguments).addCallback(sum)

    def unsubscribe(self, channel: str, user: str = "", client: str = "") -> "Deferred[int]":
        """
        Unsubscribe clients from a channel.

        Args:
            channel: the channel's name.
            user: the id of the user whose clients to unsubscribe.
            client: the id of the client to unsubscribe. `user` and `client` are combined as in `disconnect`.

        Returns:
            A Deferred that fires with the number of clients that were unsubscribed.

        Raises:
            TypeError: an argument has the wrong type.
            ValueError: the channel's name is invalid.
        """
        arguments = {"channel": check_name(channel), **_check_who(user, client)}
        return self._survey.ask("unsubscribe", arguments).addCallback(sum)

    def subscribe(
        self, channel: str, user: str = "", client: str = "", options: Mapping[str, Any] = {}
    ) -> "Deferred[int]":
        """
        Subscribe clients to a channel.

        Args:
            channel: the channel's name.
            user: the id of the user whose clients to subscribe.
            client: the id of the client to subscribe. `user` and `client` are combined as in `disconnect`.
            options: the options `info`, `data`, `expire_at` and `recover_since` of the method `subscribe` of
                Centrifugo's HTTP API, and `force_push_join_leave` of its `override`. `data` may also be the bytes of a
                JSON text.

        Returns:
            A Deferred that fires with the number of clients that were subscribed.

        Raises:
            TypeError: an argument has the wrong type.
            ValueError: the channel's name is invalid, or the options cannot be written as JSON.
        """
        encoded = dict(options)
        if (data := encoded.pop("data", None)) is not None:
            # Sent as a string that contains the JSON text, because parsing would change how its numbers are written.
            encoded["data"] = (read_json(data) if isinstance(data, bytes) else write(data)).decode("utf-8")
        write(encoded)
        arguments = {"channel": check_name(channel), **_check_who(user, client), "options": encoded}
        return self._survey.ask("subscribe", arguments).addCallback(sum)

    def refresh(
        self, user: str = "", client: str = "", *, expired: bool = False, expire_at: int = 0
    ) -> "Deferred[int]":
        """
        Change the time at which connections expire, or disconnect them as expired.

        Args:
            user: the id of the user whose connections to refresh.
            client: the id of the client to refresh. `user` and `client` are combined as in `disconnect`.
            expired: whether to disconnect the clients, with 3005 "connection expired".
            expire_at: the new expiry time, in seconds since 1970; 0 for no expiry. Ignored if `expired` is True.

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
        return self._survey.ask("refresh", arguments).addCallback(sum)

    def info(self) -> "Deferred[list[dict[str, Any]]]":
        """
        Return the processes; only this one if the broker is down.

        Returns:
            A Deferred that fires with the id, name, version, uptime, counts and metrics of each process.
        """
        return self._survey.ask("info", {}).addErrback(self._answer_alone, "info")

    def remove_process(self, node: str) -> "Deferred[list[Any]]":
        """
        Remove a server process that has died from the presence and the occupancy, with leave events for its clients.

        Args:
            node: the id of the dead process: its `Broker.node`.
        """
        return self._survey.ask("remove_process", {"node": node}, dead=node)

    def rejects(self) -> "Deferred[list[dict[str, Any]]]":
        """
        Return the last refused requests of all processes; only of this one if the broker is down.

        Returns:
            A Deferred that fires with the JSON objects of `wsserver.wire.rejects.Rejects`, the last refusal first. Each
            also has the field `node`, the id of the process.
        """

        def merge(answers: list[Any]) -> list[dict[str, Any]]:
            found = [{**one, "node": answer["node"]} for answer in answers for one in answer["rejects"]]
            return sorted(found, key=lambda one: one["time"], reverse=True)[:MAX_REJECTS]

        return self._survey.ask("rejects", {}).addErrback(self._answer_alone, "rejects").addCallback(merge)

    def _answer_alone(self, failure: Failure, name: str) -> list[Any]:
        failure.trap(BrokerDown)
        return [self._survey.answer(name, {})]


def _merge(answers: list[Any], limit: int) -> ConnectionPage:
    total = sum(answer["total"] for answer in answers)
    found = {client: about for answer in answers for client, about in answer["connections"].items()}
    if not limit:
        return ConnectionPage(found, total)
    # A process whose answer would have been too large has omitted what is after its last connection.
    end = min((answer["last"] for answer in answers if answer["last"] is not None), default=None)
    clients = sorted(client for client in found if end is None or client <= end)
    is_last = end is None and len(clients) < limit
    page = {client: found[client] for client in clients[:limit]}
    return ConnectionPage(page, total, "" if is_last else max(page, default=""))


def _check_who(user: str, client: str) -> dict[str, str]:
    return {"user": check_text("user", user), "client": check_text("client", client)}
