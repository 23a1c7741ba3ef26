"""
The client connections of this process, of all protocols, and a registry that finds them by client id and by user.

This module does not use Twisted, a clock or a socket.
"""

import json
import os
from collections.abc import Collection, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from wsserver.jsonfields import encode_text
from wsserver.typing import ChannelName

__all__ = ["Client", "ClientInfo", "Clients", "new_client_id", "read_info", "write_info"]


def new_client_id() -> str:
    """Return a random client id: a UUID of version 4 (RFC 9562 section 5.4), as in Centrifugo."""
    # `uuid.uuid4` takes five times as long.
    digits = os.urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


@dataclass(frozen=True, slots=True)
class ClientInfo:
    """A client that is subscribed to a channel or publishes to it; the `ClientInfo` of the Centrifuge protocol."""

    client: str
    """The client id, which is different for each connection."""
    user: str = ""
    """The user id from the client's token; empty if the client is anonymous."""
    conn_info: Any = None
    """Information about the connection, from the token or the application's backend: a JSON value; None for none."""
    chan_info: Any = None
    """Information about the subscription, from the token or the application's backend: a JSON value; None for none."""
    text: bytes = field(default=b"", init=False, repr=False, compare=False)
    """The info as JSON text, once `write_info` has written it: it is part of each publication of the client."""

    def as_json(self) -> dict[str, Any]:
        """
        Return the info as a JSON object with the Centrifuge protocol's field names.

        As in Centrifugo, `user` is always present, and the two fields with information are omitted if they are empty.
        """
        fields: dict[str, Any] = {"client": self.client, "user": self.user}
        if self.conn_info is not None:
            fields["conn_info"] = self.conn_info
        if self.chan_info is not None:
            fields["chan_info"] = self.chan_info
        return fields


def write_info(info: ClientInfo) -> bytes:
    """Serialize a client's info as JSON in UTF-8."""
    if not info.text:
        text = encode_text(json.dumps(info.as_json(), ensure_ascii=False, separators=(",", ":")))
        object.__setattr__(info, "text", text)
    return info.text


def read_info(text: bytes | str) -> ClientInfo:
    """
    Parse the result of `write_info`.

    Raises:
        ValueError: the text is not JSON, or not a client's info.
    """
    fields = json.loads(text)
    if not isinstance(fields, dict) or not isinstance(fields.get("client"), str):
        raise ValueError("a client's info must be a JSON object with a string 'client'")
    return ClientInfo(fields["client"], str(fields.get("user", "")), fields.get("conn_info"), fields.get("chan_info"))


class Client(Protocol):
    """A client connection, with the methods that the management operations (`wsserver.hub.operations`) use."""

    client: str
    """The client id."""
    user: str
    """The user id from the client's token; empty if the client is anonymous."""

    @property
    def channels(self) -> Collection[ChannelName]:
        """The channels that the client is subscribed to."""

    def describe(self) -> Mapping[str, Any]:
        """Return details for a backend: `transport`, `protocol`, `address`, `connected` (age in seconds)."""

    def presences(self) -> Iterable[tuple[ChannelName, ClientInfo]]:
        """Return the channels that the client is subscribed to, each with the info that presence shows there."""

    def disconnect(self, code: int, reason: str) -> None:
        """
        Close the connection.

        Args:
            code: a disconnect code of Centrifugo (3000 to 4999). The client's protocol determines how it is sent.
            reason: the reason that is sent to the client.
        """

    def expire(self) -> None:
        """Close the connection, with the code that tells the client that its token has expired."""

    def unsubscribe(self, channel: ChannelName) -> None:
        """Unsubscribe the client from a channel that it is subscribed to."""

    def subscribe(self, channel: ChannelName, options: Mapping[str, Any]) -> bool:
        """
        Subscribe the client to a channel.

        Args:
            channel: the channel's name.
            options: the options that `wsserver.hub.management.Management.subscribe` describes.

        Returns:
            True if the client is now subscribed. False if its protocol does not support subscriptions made by the
            server, or if the client already has the maximum number of channels.
        """

    def refresh(self, expire_at: int) -> bool:
        """
        Change the time at which the connection expires.

        Args:
            expire_at: seconds since 1970; 0 for no expiry.

        Returns:
            True if the time was changed; False if the connection has no expiry time.
        """


_LIMIT = "max_connections_per_user"


class Clients:
    """The registry of the client connections of this process."""

    def __init__(self) -> None:
        self.max_per_user = 0
        """Maximum number of clients of a user; 0 for no limit. Anonymous clients have none."""
        self.limits: MutableMapping[str, int] = {}
        """Name of a limit -> how often it took effect. The service replaces it by the counters for the metrics."""
        self._reserved: dict[str, int] = {}
        """User id -> number of clients that have been admitted, but are not registered yet."""
        self._by_id: dict[str, Client] = {}
        self._by_user: dict[str, dict[str, Client]] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def add(self, client: Client) -> None:
        """Register a client."""
        self._by_id[client.client] = client
        if client.user:
            self._by_user.setdefault(client.user, {})[client.client] = client

    def is_full(self, user: str) -> bool:
        """Return whether a user has the maximum number of clients, so that a further one must be refused."""
        if not (user and self.max_per_user):
            return False
        if len(self._by_user.get(user, ())) + self._reserved.get(user, 0) < self.max_per_user:
            return False
        self.limits[_LIMIT] = self.limits.get(_LIMIT, 0) + 1
        return True

    def reserve(self, user: str) -> None:
        """Count a client of a user that will be registered later, until `release` is called."""
        if user:
            self._reserved[user] = self._reserved.get(user, 0) + 1

    def release(self, user: str) -> None:
        """No longer count a client that `reserve` was called for: it is registered now, or never will be."""
        left = self._reserved.get(user, 0) - 1
        if left > 0:
            self._reserved[user] = left
        else:
            self._reserved.pop(user, None)

    def remove(self, client: Client) -> None:
        """Unregister a client; do nothing if it is not registered."""
        if self._by_id.get(client.client) is not client:
            return
        del self._by_id[client.client]
        same_user = self._by_user.get(client.user, {})
        if same_user.pop(client.client, None) is not None and not same_user:
            del self._by_user[client.user]

    def find(self, user: str = "", client: str = "") -> list[Client]:
        """
        Find clients by user id, client id or both.

        Args:
            user: the user id; empty for any user.
            client: the client id; empty for any client.

        Returns:
            The clients that match both arguments; all clients if both arguments are empty.
        """
        if client:
            found = self._by_id.get(client)
            return [found] if found is not None and user in ("", found.user) else []
        return list(self._by_user.get(user, {}).values()) if user else list(self._by_id.values())

    @property
    def users(self) -> int:
        """Number of users with at least one client; anonymous clients are not counted."""
        return len(self._by_user)
