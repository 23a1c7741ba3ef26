"""A client of the Centrifuge protocol on a connection to a test server, which reads replies and pushes as they are."""

import json
from typing import Any

from peers import TEXT, RawPeer

__all__ = ["CentrifugePeer"]


class CentrifugePeer:
    """
    A client of the Centrifuge protocol.

    Args:
        port: the server's port on 127.0.0.1.
    """

    def __init__(self, port: int) -> None:
        self.peer = RawPeer(port)
        self.peer.handshake("/connection/websocket")
        self._number = 0
        self._lines: list[str] = []
        self.pushes: list[dict[str, Any]] = []
        """The pushes that arrived before a reply, and that `read` has not returned yet."""
        self.client: str = self.ask("connect", {})["client"]

    def ask(self, method: str, parameters: dict[str, Any]) -> Any:
        """Send a command; return its result."""
        self._number += 1
        self.peer.send_frame(TEXT, json.dumps({"id": self._number, method: parameters}).encode())
        while (got := self._receive()).get("id") != self._number:
            self.pushes.append(got)
        return got[method]

    def read(self) -> dict[str, Any]:
        """Return the next push."""
        return self.pushes.pop(0) if self.pushes else self._receive()

    def read_leaves(self, count: int) -> set[str]:
        """Read until so many clients have left; return their ids."""
        found: set[str] = set()
        while len(found) < count:
            left = self.read()["push"].get("leave")
            if left is not None:
                found.add(left["info"]["client"])
        return found

    def _receive(self) -> dict[str, Any]:
        while not self._lines:
            text = self.peer.read_frame().payload.decode()
            self._lines = [line for line in text.split("\n") if line != "{}"]
        got: dict[str, Any] = json.loads(self._lines.pop(0))
        return got

    def close(self) -> None:
        """Close the connection."""
        self.peer.socket.close()
