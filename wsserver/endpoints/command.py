"""`/`, `/ws` and the catch-all: commands, and an echo of everything else."""

from collections.abc import Callable, Mapping
from datetime import datetime, tzinfo
from typing import Any, ClassVar

from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import IReactorTime

from wsserver.endpoints.commands import STEADY, Command, Session, parse
from wsserver.wire.journal import show_peer
from wsserver.wire.protocol import ServerProtocol

__all__ = ["CommandProtocol", "SteadyReplies"]

LONGEST = 4096
"""Most bytes of a message that is searched for a command: the longest one with its argument is far shorter."""


class SteadyReplies:
    """
    The replies that are the same for everybody until the next second: each is made once in it.

    An instant determines what its date and time are in any zone, so no change of the clocks is missed.

    Args:
        now: returns UNIX time in seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._second = -1
        self._replies: dict[str, bytes] = {}

    def reply(self, command: Command, session: Callable[[], Session]) -> bytes:
        """
        Answer, as UTF-8.

        Args:
            command: one of `STEADY`.
            session: makes what it is to be asked with.
        """
        # Rounded to microseconds, as a datetime is.
        second = int(self._now() + 5e-7)
        if second != self._second:
            self._second = second
            self._replies.clear()
        reply = self._replies.get(command.name)
        if reply is None:
            reply = self._replies[command.name] = command.reply(session(), "").encode("utf-8")
        return reply


class CommandProtocol(ServerProtocol):
    """Answer commands; echo what is none, binary messages always untouched. It is the `Session` of its commands."""

    commands: ClassVar[Mapping[str, Command]]
    words: ClassVar[Mapping[bytes, tuple[Command, str]]]
    """The usual spellings of the commands without an argument: what `parse` makes of each."""
    steady: ClassVar[SteadyReplies]
    clock: ClassVar[IReactorTime]
    now: "ClassVar[staticmethod[[], float]]"
    """Returns UNIX time in seconds, which may jump; `clock` may be monotonic."""
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
        if isBinary:
            self.sendMessage(payload, isBinary)
            return
        found = None
        if len(payload) <= LONGEST:
            found = self.words.get(payload) or parse(payload.decode("utf-8"), self.commands)
        if found is None:
            self.sendMessage(self.reply_prefix + payload)
            return
        command, argument = found
        if command.name in STEADY:
            self.sendMessage(self.steady.reply(command, self._session))
            return
        self.sendMessage(command.reply(self._session(), argument).encode("utf-8"))
        if self.close_with is not None:
            self.close(*self.close_with)

    def _session(self) -> Session:
        return _Session(self)


class _Session:
    """What a command sees of its connection."""

    __slots__ = ("_connection",)

    def __init__(self, connection: CommandProtocol) -> None:
        self._connection = connection

    @property
    def commands(self) -> Mapping[str, Command]:
        return self._connection.commands

    @property
    def peer(self) -> str:
        address = self._connection.transport.getPeer()
        return "client on a UNIX socket" if isinstance(address, UNIXAddress) else show_peer(address)

    @property
    def uptime(self) -> float:
        return self._connection.clock.seconds() - self._connection.server_started

    def now(self) -> datetime:
        connection = self._connection
        return datetime.fromtimestamp(connection.now(), connection.zone).astimezone(connection.zone)

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
