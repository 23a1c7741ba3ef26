"""
The endpoint at `/` and `/ws`, and with `--catch-all` at unknown paths: answer commands, and echo every other message.

A turn is one iteration of Twisted's event loop.
"""

from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime, tzinfo
from typing import Any, ClassVar

from twisted.internet.interfaces import IReactorTime

from wsserver.closecodes import CloseCode
from wsserver.endpoints.commands import CACHEABLE, Command, Session, parse
from wsserver.endpoints.description import describe_connection
from wsserver.wire.fastpath import OPEN
from wsserver.wire.metering import Allowance
from wsserver.wire.protocol import ServerProtocol

__all__ = ["CommandProtocol", "ReplyCache"]

MAX_COMMAND_BYTES = 4096
"""Maximum size of a command, in bytes. A longer message is echoed without being parsed."""


class ReplyCache:
    """
    A cache of the replies to the `CACHEABLE` commands, which are the same for all connections within a second.

    A reply is valid until UNIX time reaches the next whole second. Therefore a change to or from daylight saving time
    takes effect immediately.

    Args:
        now: returns UNIX time in seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._second = -1
        """The second of all replies in the cache."""
        self._replies: dict[bytes, bytes] = {}

    def find(self, message: bytes) -> bytes | None:
        """Return the cached reply to a message; None if there is no valid one."""
        reply = self._replies.get(message)
        # Round to microseconds, as `datetime.fromtimestamp` does, so that the cache and a reply have the same second.
        return reply if reply is None or int(self._now() + 5e-7) == self._second else None

    def reply(self, message: bytes, command: Command, session: Callable[[], Session]) -> bytes:
        """
        Return the reply to a command in UTF-8, and cache it.

        Args:
            message: the key of the reply in the cache. There may only be a limited number of them for each command.
            command: a command whose name is in `CACHEABLE`.
            session: creates the session that the command is called with if its reply is not cached.
        """
        reply = self.find(message)
        if reply is None:
            second = int(self._now() + 5e-7)
            if second != self._second:
                self._second = second
                self._replies.clear()
            reply = self._replies[message] = command.reply(session(), "").encode("utf-8")
        return reply


class CommandProtocol(ServerProtocol):
    """
    Answer commands, and echo every other message.

    Binary messages are echoed unchanged. Text messages are echoed after the reply prefix, which is empty by default.
    """

    commands: ClassVar[Mapping[str, Command]]
    common_messages: ClassVar[Mapping[bytes, tuple[Command, str]]]
    """Common messages that are commands, from `common_spellings`: message -> the result of `parse`."""
    reply_cache: ClassVar[ReplyCache]
    clock: ClassVar[IReactorTime]
    now: "ClassVar[staticmethod[[], float]]"
    """Returns UNIX time in seconds, which jumps if the system clock is set. `clock` may be a monotonic clock."""
    server_started: ClassVar[float]
    """The time in seconds that `clock` showed when the server started."""
    zone: ClassVar[tzinfo | None]
    """The time zone of `date` and `time`; None for the system's."""
    reply_prefix: ClassVar[bytes]
    """Prefix of every echoed text message."""

    close_with: tuple[int, str] | None = None
    """Code and reason to close the connection with after the current reply; None to keep it open."""

    _waiting_messages: deque[tuple[bytes, bool]] | None = None
    """Messages to be answered in later turns: (payload, whether it is binary), the first a command; None if none."""
    _is_arriving = False
    """Whether a message has just been read: it may be answered in this turn even if the peer does not read."""
    _rate: Allowance | None = None
    """How fast the client may send commands; None for any rate, and before the first command."""
    _delay: Any = None
    """The call that ends a delay, while commands wait because the client sends them too fast."""
    _is_corked = False
    """Whether `serve_one` collects the answers of this turn, to send them in one write at the end of the turn."""

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """
        Answer or echo a message.

        Echoes and replies to `CACHEABLE` commands are sent immediately. Any other command waits until the server's
        `WorkQueue` serves this connection. Messages after this command wait, too, so that answers keep the order of the
        messages.
        """
        if self._waiting_messages is None:
            # Only a shortcut: `_answer_at_once` would find the same reply.
            reply = None if isBinary else self.reply_cache.find(payload)
            if reply is not None:
                self.sendMessage(reply)
                return
            if self._answer_at_once(payload, isBinary):
                return
            self._waiting_messages = deque()
        self._waiting_messages.append((payload, isBinary))
        # Answer a message that has just been read even if the peer does not read, so that `bye` works then.
        self._is_arriving = True
        self.factory.work.submit(self)
        self._is_arriving = False
        if self._waiting_messages:
            self.pause_reading()

    def _parse(self, payload: bytes) -> tuple[Command, str] | None:
        """Parse a text message: return the command and its argument; None if it is not a command."""
        if len(payload) > MAX_COMMAND_BYTES:
            return None
        return self.common_messages.get(payload) or parse(payload.decode("utf-8"), self.commands)

    def _answer_at_once(self, payload: bytes, isBinary: bool) -> bool:
        """Answer the message unless it is a command that is not in `CACHEABLE`. Return whether it was answered."""
        found = None if isBinary else self._parse(payload)
        if isBinary:
            self.sendMessage(payload, isBinary)
        elif found is None:
            self.sendMessage(self.reply_prefix + payload)
        elif found[0].name in CACHEABLE:
            message = payload if payload in self.common_messages else found[0].name.encode("utf-8")
            self.sendMessage(self.reply_cache.reply(message, found[0], self._session))
        else:
            return False
        return True

    # The server's `WorkQueue` decides when the next message is answered.

    def _has_work(self) -> bool:
        if self._delay is not None:
            return False
        return bool(self._waiting_messages) and (self._is_arriving or not self._write_blocked) and self.state == OPEN

    def serve_one(self) -> bool:
        """Answer the first waiting message; see `wsserver.wire.limits.Worker`."""
        if self._has_work() and self._waiting_messages:
            if self._cork is None:
                self._cork, self._is_corked = [], True
            payload, is_binary = self._waiting_messages[0]
            before = self.bytes_out
            if not self._answer_at_once(payload, is_binary):
                if self._is_over_rate():
                    return False
                self._execute(payload)
            if self._waiting_messages:
                self._waiting_messages.popleft()
            self.factory.work.charge(self.bytes_out - before)
        return self._has_work()

    def _is_over_rate(self) -> bool:
        """Check whether the next command must wait, because the client sends commands too fast; or close."""
        settings, reactor = self.factory.settings, self.factory.reactor
        if not settings.command_rate:
            return False
        rate = self._rate = self._rate or Allowance(settings.command_rate, reactor.seconds())
        wait = rate.wait(reactor.seconds())
        if wait == 0:
            rate.use(1)
            return False
        self.factory.counters.limits["command_rate"] += 1
        if settings.rate_action == "close":
            self.fail(CloseCode.POLICY_VIOLATION, "the client sends too fast (server option --command-rate)")
        else:
            self._delay = reactor.callLater(wait, self._end_delay)
        return True

    def _end_delay(self) -> None:
        self._delay = None
        self.factory.work.submit(self)

    @property
    def is_throttled(self) -> bool:
        """Whether the server delays received messages, because the client sends faster than permitted."""
        return self._delay is not None or super().is_throttled

    def _execute(self, payload: bytes) -> None:
        found = self._parse(payload)
        assert found is not None
        command, argument = found
        self.sendMessage(command.reply(self._session(), argument).encode("utf-8"))
        if self.close_with is not None:
            self.close(*self.close_with)

    def finish_turn(self) -> None:
        """Send the answers of this turn. Resume reading if no message is waiting."""
        if self._is_corked:
            self._is_corked = False
            self._uncork()
        if not self._waiting_messages or self.state != OPEN:
            self._waiting_messages = None
            self.resume_reading()

    def is_answering(self) -> bool:
        """Return whether messages wait to be answered."""
        return bool(self._waiting_messages) or super().is_answering()

    def work_failed(self) -> None:
        """Close with 1011: a command raised an exception."""
        self._endpoint_failed()

    def resumeProducing(self) -> None:
        """Resume reading and answering: the peer reads again."""
        super().resumeProducing()
        if self._waiting_messages:
            self.factory.work.submit(self)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:  # noqa: ARG002
        """Drop the waiting messages."""
        self._waiting_messages = None
        if self._delay is not None:
            self._delay.cancel()
            self._delay = None
        self.factory.work.discard(self)

    def _session(self) -> Session:
        return _Session(self)


class _Session:
    """The `Session` that a command receives."""

    __slots__ = ("_connection",)

    def __init__(self, connection: CommandProtocol) -> None:
        self._connection = connection

    @property
    def commands(self) -> Mapping[str, Command]:
        return self._connection.commands

    @property
    def peer(self) -> str:
        address = self._connection.client_address
        return "client on a UNIX socket" if address == "unix" else address

    @property
    def uptime(self) -> float:
        return self._connection.clock.seconds() - self._connection.server_started

    def now(self) -> datetime:
        connection = self._connection
        return datetime.fromtimestamp(connection.now(), connection.zone).astimezone(connection.zone)

    def describe(self) -> dict[str, Any]:
        return describe_connection(self._connection)

    def close(self, code: int = 1000, reason: str = "") -> None:
        self._connection.close_with = (code, reason)
