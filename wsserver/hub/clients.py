"""The clients of this process: every connection that is on a channel, whatever it speaks."""

import uuid
from collections.abc import Collection, Mapping
from typing import Any, Protocol

from wsserver.typing import ChannelName

__all__ = ["Client", "Clients", "new_client_id"]


def new_client_id() -> str:
    """Name a connection: a random UUID, as Centrifugo does."""
    return str(uuid.uuid4())


class Client(Protocol):
    """What can be done with a connection from outside."""

    client: str
    """Its id."""
    user: str
    """Who it is, by its token; empty for nobody in particular."""

    @property
    def channels(self) -> Collection[ChannelName]:
        """What it listens to."""

    def about(self) -> Mapping[str, Any]:
        """Tell what a backend may know, as JSON: `transport`, `protocol`, `address`, seconds `connected`."""

    def disconnect(self, code: int, reason: str) -> None:
        """End it. Code and reason are Centrifugo's (3000-4999); what it speaks decides what the client sees of them."""

    def unsubscribe(self, channel: ChannelName, code: int, reason: str) -> None:
        """Take it off a channel that it listens to."""

    def subscribe(self, channel: ChannelName, options: Mapping[str, Any]) -> bool:
        """Put it on a channel; False where it speaks nothing in which that could be said."""

    def refresh(self, expire_at: int) -> bool:
        """Let it live until then (seconds since 1970, 0 for no end); False where its time is not limited."""


class Clients:
    """All of them, by id and by user."""

    def __init__(self) -> None:
        self._by_id: dict[str, Client] = {}
        self._by_user: dict[str, dict[str, Client]] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def add(self, client: Client) -> None:
        """Take note of one."""
        self._by_id[client.client] = client
        if client.user:
            self._by_user.setdefault(client.user, {})[client.client] = client

    def remove(self, client: Client) -> None:
        """Forget one; it may be unknown."""
        if self._by_id.get(client.client) is not client:
            return
        del self._by_id[client.client]
        mine = self._by_user.get(client.user, {})
        if mine.pop(client.client, None) is not None and not mine:
            del self._by_user[client.user]

    def find(self, user: str = "", client: str = "") -> list[Client]:
        """
        Find clients.

        Args:
            user: of whom; empty for anybody.
            client: with which id; empty for any.

        Returns:
            Those that fit both; all where nothing is asked.
        """
        if client:
            found = self._by_id.get(client)
            return [found] if found is not None and user in ("", found.user) else []
        return list(self._by_user.get(user, {}).values()) if user else list(self._by_id.values())

    @property
    def users(self) -> int:
        """How many have a name, each counted once."""
        return len(self._by_user)
