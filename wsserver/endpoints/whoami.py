"""`/whoami`: describe the connection as JSON, with the round-trip time of a ping."""

import json
from typing import Any

from wsserver.endpoints.description import describe_connection
from wsserver.wire.fastpath import OPEN
from wsserver.wire.protocol import ServerProtocol

__all__ = ["PONG_TIMEOUT", "WhoAmIProtocol"]

PONG_TIMEOUT = 2.0
"""Seconds that the server waits for a pong before it sends the description without a new round-trip time."""

_PING = b"whoami"


class WhoAmIProtocol(ServerProtocol):
    """
    Send a description of the connection, after the pong to a ping; the content of messages does not matter.

    Messages that arrive while the server waits for the pong have no further effect. The description is sent when the
    server's `WorkQueue` serves the connection.
    """

    _pinged: float | None = None
    """When the ping was sent; None if none is pending."""
    _timer: Any = None

    def onOpen(self) -> None:
        """Send the ping."""
        self._ping()

    def onMessage(self, payload: bytes, isBinary: bool) -> None:  # noqa: ARG002
        """Send another ping."""
        self._ping()

    def _ping(self) -> None:
        if self._pinged is None:
            self._pinged = self.factory.reactor.seconds()
            self._timer = self.factory.deadlines.call_later(PONG_TIMEOUT, self._describe_later)
            self.sendPing(_PING)

    def onPong(self, payload: bytes) -> None:
        """Measure the round-trip time, and send the description."""
        if payload == _PING and self._pinged is not None:
            self.round_trip_time = self.factory.reactor.seconds() - self._pinged
            self._describe_later()

    def _describe_later(self) -> None:
        self._timer.cancel()
        self._pinged = None
        self.factory.work.submit(self)

    # The server's `WorkQueue`; see `wsserver.wire.limits.Worker`.

    def serve_one(self) -> bool:
        """Send the description."""
        if self.state == OPEN:
            message = json.dumps(describe_connection(self), ensure_ascii=False).encode("utf-8")
            self.sendMessage(message)
            self.factory.work.charge(len(message))
        return False

    def finish_turn(self) -> None:
        """Do nothing: the description is sent."""

    def work_failed(self) -> None:
        """Close with 1011."""
        self._endpoint_failed()

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:  # noqa: ARG002
        """Stop waiting for a pong."""
        if self._timer is not None:
            self._timer.cancel()
        self.factory.work.discard(self)
