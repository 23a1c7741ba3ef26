"""
Presence types: the clients that are subscribed to a channel, and the events of joining and leaving it.

Rule 1: no Twisted, no clock, no socket.
"""

import json
from dataclasses import dataclass
from typing import Any

__all__ = ["ClientInfo", "PresenceEvent", "read_info", "write_info"]


@dataclass(frozen=True, slots=True)
class ClientInfo:
    """A client on a channel; the `ClientInfo` of the Centrifuge protocol."""

    client: str
    """The client id, new for each connection."""
    user: str = ""
    """The user id from the token; empty if anonymous."""
    conn_info: Any = None
    """Information about the connection, from the token or the backend: any JSON value; None for none."""
    chan_info: Any = None
    """Information about the subscription, from the token or the backend: any JSON value; None for none."""

    def as_json(self) -> dict[str, Any]:
        """Return a JSON object with the Centrifuge protocol's field names, without empty fields."""
        parts: dict[str, Any] = {"client": self.client}
        if self.user:
            parts["user"] = self.user
        if self.conn_info is not None:
            parts["conn_info"] = self.conn_info
        if self.chan_info is not None:
            parts["chan_info"] = self.chan_info
        return parts


@dataclass(frozen=True, slots=True)
class PresenceEvent:
    """A client has joined or left a channel."""

    join: bool
    """True for a join, False for a leave."""
    info: ClientInfo


def write_info(info: ClientInfo) -> bytes:
    """Serialize a client's info as JSON."""
    return json.dumps(info.as_json(), ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def read_info(text: bytes | str) -> ClientInfo:
    """
    Parse the result of `write_info`.

    Raises:
        ValueError: the text is not a client's info.
    """
    parts = json.loads(text)
    if not isinstance(parts, dict) or not isinstance(parts.get("client"), str):
        raise ValueError("no client's info")
    return ClientInfo(parts["client"], str(parts.get("user", "")), parts.get("conn_info"), parts.get("chan_info"))
