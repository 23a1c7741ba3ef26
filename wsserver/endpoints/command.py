"""`/`, `/ws` and the catch-all: commands, and an echo of everything else."""

from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime, tzinfo
from typing import Any, ClassVar

from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import IReactorTime

from wsserver.endpoints.commands import STEADY, Command, Session, parse
from wsserver.wire.access_log import show_peer
from wsserver.wire.fastpath import OPEN
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

    _waiting_messages: deque[tuple[bytes, bool]] | None = None
    """A command that waits for its turn, and the messages behind it, each with whether it is binary; None for none."""
    _is_arriving = False
    """A message has just been read, and is answered now if the budget of the turn suffices."""
    _is_corked = False
    """The answers of this turn leave in one write at its end."""

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Answer or echo; commands that take time wait for their turn, and what comes behind them waits with them."""
        if self._waiting_messages is None and self._answer_at_once(payload, isBinary):
            return
        if self._waiting_messages is None:
            self._waiting_messages = deque()
        self._waiting_messages.append((payload, isBinary))
        # Of what has been read, `bye` must work for a peer that does not read its answers.
        self._is_arriving = True
        self.factory.work.submit(self)
        self._is_arriving = False
        if self._waiting_messages:
            self.stop_reading()

    def _find(self, payload: bytes) -> tuple[Command, str] | None:
        """Return the command and its argument that a text message is; None if it is no command."""
        if len(payload) > LONGEST:
            return None
        return self.words.get(payload) or parse(payload.decode("utf-8"), self.commands)

    def _answer_at_once(self, payload: bytes, isBinary: bool) -> bool:
        """Answer what takes no time: everything but commands whose answer is made anew; return whether it was done."""
        found = None if isBinary else self._find(payload)
        if isBinary:
            self.sendMessage(payload, isBinary)
        elif found is None:
            self.sendMessage(self.reply_prefix + payload)
        elif found[0].name in STEADY:
            self.sendMessage(self.steady.reply(found[0], self._session))
        else:
            return False
        return True

    # The server's `WorkQueue` says when the next message is answered.

    def _has_work(self) -> bool:
        return bool(self._waiting_messages) and (self._is_arriving or not self._held) and self.state == OPEN

    def serve_one(self) -> bool:
        """Answer one message that has waited; see `wsserver.wire.limits.Worker`."""
        if self._has_work() and self._waiting_messages:
            if self._cork is None:
                self._cork, self._is_corked = [], True
            payload, is_binary = self._waiting_messages.popleft()
            before = self.bytes_out
            if not self._answer_at_once(payload, is_binary):
                self._carry_out(payload)
            self.factory.work.charge(self.bytes_out - before)
        return self._has_work()

    def _carry_out(self, payload: bytes) -> None:
        found = self._find(payload)
        assert found is not None
        command, argument = found
        self.sendMessage(command.reply(self._session(), argument).encode("utf-8"))
        if self.close_with is not None:
            self.close(*self.close_with)

    def finish_turn(self) -> None:
        """Send the answers of this turn, and read on when none is left to be made."""
        if self._is_corked:
            self._is_corked = False
            self._uncork()
        if not self._waiting_messages or self.state != OPEN:
            self._waiting_messages = None
            self.read_on()

    def work_failed(self) -> None:
        """Close with 1011: a command has raised."""
        self._endpoint_failed()

    def resumeProducing(self) -> None:
        """Read again, and answer what waits: the peer reads."""
        super().resumeProducing()
        if self._waiting_messages:
            self.factory.work.submit(self)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:  # noqa: ARG002
        """Forget what waits."""
        self._waiting_messages = None
        self.factory.work.discard(self)

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
