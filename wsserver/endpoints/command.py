"""`/`, `/ws` and the catch-all: commands, and an echo of everything else."""

from collections.abc import Mapping
from datetime import datetime, tzinfo
from typing import Any, ClassVar

from twisted.internet.interfaces import IReactorTime

from wsserver.endpoints.commands import Command, parse
from wsserver.wire.journal import show_peer
from wsserver.wire.protocol import ServerProtocol

__all__ = ["CommandProtocol"]


class CommandProtocol(ServerProtocol):
    """Answer commands; echo what is none, binary messages always untouched. It is the `Session` of its commands."""

    commands: ClassVar[Mapping[str, Command]]
    clock: ClassVar[IReactorTime]
    server_started: ClassVar[float]
    """The clock's seconds when the server started."""
    zone: ClassVar[tzinfo | None]
    """The zone of `date` and `time`; None for the machine's own."""
    reply_prefix: ClassVar[bytes]
    """Put before every text that is echoed."""

    close_with: tuple[int, str] | None = None
    """What to close with once the reply is sent."""

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Answer or echo."""
        # The longest command with its argument is far shorter: what is longer is not searched for one.
        found = None if isBinary or len(payload) > 4096 else parse(payload.decode("utf-8"), self.commands)
        if found is None:
            self.sendMessage(payload if isBinary else self.reply_prefix + payload, isBinary)
            return
        command, argument = found
        self.sendMessage(command.reply(self._session, argument).encode("utf-8"))
        if self.close_with is not None:
            self.close(*self.close_with)

    @property
    def _session(self) -> "_Session":
        return _Session(self)


class _Session:
    """What a command sees of its connection."""

    def __init__(self, connection: CommandProtocol) -> None:
        self._connection = connection
        self.commands = connection.commands

    @property
    def uptime(self) -> float:
        return self._connection.clock.seconds() - self._connection.server_started

    def now(self) -> datetime:
        connection = self._connection
        return datetime.fromtimestamp(connection.clock.seconds(), connection.zone).astimezone(connection.zone)

    def describe(self) -> dict[str, Any]:
        connection = self._connection
        request = connection.request
        return {
            "connection": connection.number,
            "address": show_peer(connection.transport.getPeer()),
            "path": request.path,
            "query": request.query,
            "headers": [list(header) for header in request.headers],
            "subprotocol": connection.websocket_protocol_in_use,
            "subprotocols_offered": request.tokens("sec-websocket-protocol"),
            "extensions": connection.extensions,
            "tls": connection.tls,
        }

    def close(self, code: int = 1000, reason: str = "") -> None:
        self._connection.close_with = (code, reason)
