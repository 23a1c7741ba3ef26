"""
Management: a backend's operations on connections and channels, in all processes that share a broker.

Each operation is a request to every process (`wsserver.hub.survey`); the result combines their answers.
"""

from collections.abc import Collection, Mapping
from typing import Any

from twisted.internet.defer import Deferred

from wsserver.centrifugecodes import FORCE_DISCONNECT
from wsserver.closecodes import MAX_REASON_BYTES
from wsserver.hub.names import check_name
from wsserver.hub.publication import check_int, check_text
from wsserver.hub.survey import Survey
from wsserver.jsonfields import read_json, write
from wsserver.text import quote

__all__ = ["Management"]


class Management:
    """
    A backend's operations on connections and channels.

    Args:
        survey: sends the requests of `wsserver.hub.operations.Operations` to every process.
    """

    def __init__(self, survey: Survey) -> None:
        self._survey = survey

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
            from each process at most
            `wsserver.hub.operations.MAX_CONNECTIONS`.
        """
        arguments = {**_check_who(user, client), "pattern": check_text("pattern", pattern)}
        return self._survey.ask("connections", arguments).addCallback(_merge)

    def channels(self, pattern: str = "*") -> "Deferred[dict[str, int]]":
        """
        Return the channels that have subscribers.

        Args:
            pattern: only channels matching this pattern.

        Returns:
            A Deferred that fires with channel name -> number of subscribers in all processes; from each process at most
            `wsserver.hub.operations.MAX_CHANNELS`.
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
            raise ValueError(f"reason {quote(reason)} is too long: expected at most {MAX_REASON_BYTES} bytes")
        if isinstance(except_clients, str):
            raise TypeError("except_clients must be a collection of str, not str")
        stay = [check_text("except_clients", one) for one in except_clients]
        arguments = {**_check_who(user, client), "code": code, "reason": reason, "except": stay}
        return self._survey.ask("disconnect", arguments).addCallback(sum)

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
        return self._survey.ask("unsubscribe", arguments).addCallback(sum)

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
        return self._survey.ask("subscribe", arguments).addCallback(sum)

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
        return self._survey.ask("refresh", arguments).addCallback(sum)

    def info(self) -> "Deferred[list[dict[str, Any]]]":
        """Return the id, name, version, uptime, counts and metrics of each process."""
        return self._survey.ask("info", {})


def _merge(answers: list[Any]) -> dict[str, Any]:
    return {name: value for answer in answers for name, value in answer.items()}


def _check_who(user: str, client: str) -> dict[str, str]:
    return {"user": check_text("user", user), "client": check_text("client", client)}
