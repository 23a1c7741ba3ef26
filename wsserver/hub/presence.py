"""
Who is on a channel.

Rule 1: no Twisted, no clock, no socket.
"""

import json
from dataclasses import dataclass
from typing import Any

__all__ = ["ClientInfo", "PresenceEvent", "read_info", "write_info"]


@dataclass(frozen=True, slots=True)
class ClientInfo:
    """A client on a channel: `ClientInfo` of the Centrifuge protocol."""

    client: str
    """The connection's id, a new one for each connection."""
    user: str = ""
    """Who it is, by its token; empty for nobody in particular."""
    conn_info: Any = None
    """What the token, or the backend, says about the connection: any JSON value."""
    chan_info: Any = None
    """The same about its subscription to the channel."""

    def as_json(self) -> dict[str, Any]:
        """Tell it with the protocol's names; what is empty is left out."""
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
    """A client has come to a channel, or left it."""

    join: bool
    info: ClientInfo


def write_info(info: ClientInfo) -> bytes:
    """Write it as JSON."""
    return json.dumps(info.as_json(), ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def read_info(text: bytes | str) -> ClientInfo:
    """
    Read what `write_info` has written.

    Raises:
        ValueError: it is something else.
    """
    parts = json.loads(text)
    if not isinstance(parts, dict) or not isinstance(parts.get("client"), str):
        raise ValueError("no client's info")
    return ClientInfo(parts["client"], str(parts.get("user", "")), parts.get("conn_info"), parts.get("chan_info"))
