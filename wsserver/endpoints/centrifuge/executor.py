"""
The execution of a Centrifuge client's commands, and its pings: what all its transports have in common.

The server executes a client's commands one at a time, in the order received. Commands that arrive while one is being
executed are queued, up to `MAX_QUEUED_COMMANDS` commands. Only publications do not wait for the one before
(`wsserver.endpoints.centrifuge.unconfirmed`).

A turn is one iteration of Twisted's event loop.

Sources: https://centrifugal.dev/docs/transports/client_protocol, `client.go` of centrifugal/centrifuge.
"""

import random
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar

from twisted.python.failure import Failure

from wsserver.centrifugecodes import (
    BAD_REQUEST,
    NO_PONG,
    STALE,
    TOO_MANY,
    TOO_MANY_REQUESTS,
    Disconnect,
    Error,
)
from wsserver.endpoints.centrifuge.client import Session
from wsserver.endpoints.centrifuge.commands import Command
from wsserver.endpoints.centrifuge.connection import Answer
from wsserver.endpoints.centrifuge.output import CentrifugeOutput
from wsserver.endpoints.centrifuge.permissions import ClientContext, Permissions
from wsserver.endpoints.centrifuge.refusals import error_for
from wsserver.endpoints.centrifuge.replies import NO_REPLY, PUBLISHED, ConnectResult, Result
from wsserver.endpoints.centrifuge.unconfirmed import Sent, UnconfirmedPublishes
from wsserver.hub.deferreds import waits
from wsserver.wire.fastpath import OPEN
from wsserver.wire.metering import Allowance
from wsserver.wire.protocol import ServerFactory
from wsserver.wire.timers import Deadline

__all__ = ["CONNECT_TIMEOUT", "MAX_QUEUED_COMMANDS", "Executor"]

CONNECT_TIMEOUT = 10.0
"""Seconds within which a client must have connected; the default of Centrifugo's `client.stale_close_delay`."""

MAX_QUEUED_COMMANDS = 1000
"""Maximum number of queued commands per client. Further commands are refused with error 111, which is temporary."""

REFUSALS = (Error, Disconnect)
"""Types of a request that was refused before it could be executed. A tuple, because creating a union takes longer."""

UNEXPECTED_PONG = Command(0, BAD_REQUEST.because("an empty command is a pong, but no ping was sent"), 0)

TOO_MANY_MESSAGES = TOO_MANY.because("too many messages are queued")


class Executor(CentrifugeOutput):
    """
    A base class of the connections of Centrifuge clients.

    The subclass is the transport. It calls `start`, then `receive` with each frame of commands, and `stop` when the
    connection is closed. It provides what is declared below and by the base classes.
    """

    __slots__ = ()
    SLOTS: ClassVar = (
        "_busy",
        "_commands",
        "_commands_size",
        "_connect_deadline",
        "_connect_replied",
        "_frames",
        "_next_ping",
        "_pong_deadline",
        "_rate",
        "_replies",
        "_replies_size",
        "_unconfirmed",
        "codec",
        "context",
        "session",
        "token",
    )
    """
    The attributes of every connection, as the subclass's `__slots__`, so that an idle connection needs no dictionary.
    They cannot be slots of this class, because Python permits them only in one base of a class.
    """

    permissions: ClassVar[Permissions]
    ping_interval: ClassVar[int]
    """Seconds between pings; 0 for none. An integer, because the reply to `connect` announces whole seconds."""

    is_one_way: ClassVar[bool] = False
    """Whether the client only receives: it sends neither commands nor pongs after it has connected."""
    session_id = node = ""

    context: ClientContext

    # Provided by the transport.
    factory: ServerFactory
    state: int
    """The state of the connection, such as `wsserver.wire.fastpath.OPEN`."""
    maxMessagePayloadSize: int
    """Maximum size of a frame of commands, and of all queued commands, in bytes."""
    pause_reading: Callable[[], None]
    """Stops receiving frames, until `resume_reading` is called."""
    resume_reading: Callable[[], None]
    abandon: Callable[[], None]
    """Drops a connection that `fail` has closed: the peer is gone."""
    _crash: Callable[[Failure], None]
    """Logs an unexpected failure, and closes the connection with 1011."""

    def __init__(self) -> None:
        super().__init__()
        self.token = ""
        self._connect_deadline: Deadline | None = None
        self._next_ping: Deadline | None = None
        self._pong_deadline: Deadline | None = None
        """Deadline of the pong that the server expects; None if the server does not expect a pong."""
        self._frames: deque[bytes] | None = None
        """Received frames that are not parsed yet; None if there are none."""
        self._commands: deque[Command] | None = None
        """Parsed commands that are not executed yet; None if there are none."""
        self._commands_size = 0
        """Size of the commands in `_commands`, in bytes."""
        self._busy = False
        """Whether a command is still being executed: its result is a Deferred that has not fired."""
        self._unconfirmed: UnconfirmedPublishes | None = None
        """Publish commands that the broker has yet to confirm."""
        self._rate: Allowance | None = None
        """How fast the client may send commands; None for any rate."""

    # Opening.

    def start(self) -> None:
        """Wait for the `connect` command."""
        self.session = Session(self)
        if rate := self.factory.settings.command_rate:
            self._rate = Allowance(rate, self.factory.reactor.seconds())
        self._connect_deadline = self.factory.deadlines.call_later(CONNECT_TIMEOUT, self._connect_timed_out)

    def _connect_timed_out(self) -> None:
        self.disconnect(STALE.because(f"no connect within {CONNECT_TIMEOUT:g} s"))

    # Commands. The server's `WorkQueue` decides when the next one is executed.

    def receive(self, frame: bytes) -> None:
        """Queue a frame of commands. It is parsed once all earlier commands have been executed; see `_submit`."""
        if self._frames is None:
            self._frames = deque()
        self._frames.append(frame)

    def _submit(self) -> None:
        self.factory.work.submit(self)
        if self._has_work():
            self.pause_reading()

    def _has_work(self) -> bool:
        """Return whether a message or command can be processed without waiting for a broker, a hook or the peer."""
        if self._write_blocked or self.state != OPEN:
            return False
        return bool(self._frames) or self._may_execute()

    def _may_execute(self) -> bool:
        """Return whether there is a command that can be executed now."""
        if self._busy or not self._commands:
            return False
        return not self._unconfirmed or self._unconfirmed.admits(self._commands[0])

    def serve_one(self) -> bool:
        """Execute the next command, if the previous command has been answered; see `wsserver.wire.limits.Worker`."""
        if self._write_blocked or self.state != OPEN:
            return False
        if self._replies is None:
            self._collect_replies()
        command = self._take_command()
        if command is None and self._frames:
            self._parse(self._frames.popleft())
            command = self._take_command()
        if command is not None:
            self._execute(command)
        else:
            # A frame without a command that can be executed now takes a piece of the budget, too.
            self.factory.work.charge(0)
        return self._has_work()

    def _take_command(self) -> Command | None:
        """Remove and return the next command; None if there is none that can be executed now."""
        commands = self._commands
        if not commands or not self._may_execute() or self.state != OPEN:
            return None
        command = commands.popleft()
        self._commands_size -= command.size
        return command

    def finish_turn(self) -> None:
        """Send the replies that were collected in this turn. Resume reading if nothing can be processed now."""
        self._send_replies()
        self._writable = self._send_queue is None and not self._overflowed and self.state == OPEN
        if not self._frames:
            self._frames = None
        if not self._commands:
            self._commands = None
        if not self._has_work():
            self.resume_reading()

    def work_failed(self) -> None:
        """Close the connection because a command raised an exception: 1011, which the client receives as 3004."""
        self._crash(Failure())

    def _parse(self, payload: bytes) -> None:
        if self._commands is None:
            self._commands = deque()
        queue = self._commands
        if queue and isinstance(queue[-1].request, Disconnect):
            # Only the commands before an invalid one are answered.
            return
        for command in self.codec.parse(payload):
            if not command.id:
                if command.request is None and self._pong():
                    continue
                if command.request is None or isinstance(command.request, Disconnect):
                    # Queued even if the queue is full: later commands are ignored, so it is queued only once.
                    queue.append(command if command.request is not None else UNEXPECTED_PONG)
                    return
            size = self._commands_size + command.size
            if queue and (size > self.maxMessagePayloadSize or len(queue) >= MAX_QUEUED_COMMANDS):
                if not command.id:
                    # A message (`send`), which has no reply.
                    queue.append(Command(0, TOO_MANY_MESSAGES, 0))
                    return
                self.factory.counters.limits["queued_commands"] += 1
                refusal = TOO_MANY_REQUESTS.because("too many commands are queued")
                self.send_payload(self.codec.error_reply(command.id, refusal))
                continue
            queue.append(command)
            self._commands_size = size

    def _execute(self, command: Command) -> None:
        assert self.session is not None
        request = command.request if self._rate is None else self._check_rate(command, self._rate)
        try:
            answer = request if isinstance(request, REFUSALS) else self.session.handle(request)
        except Exception:
            answer = error_for(Failure())
        if isinstance(answer, Result):
            self._answer(answer, command)
        elif isinstance(answer, Sent):
            self.factory.work.charge(0)
            self._unconfirmed = self._unconfirmed or UnconfirmedPublishes()
            entry = self._unconfirmed.add(command)
            answer.done.addBoth(self._confirmed, entry).addErrback(self._crash)
        elif waits(answer):
            self.factory.work.charge(0)
            self._busy = True
            answer.addErrback(error_for).addCallback(self._answer_late, command).addErrback(self._crash)
        else:
            self._answer(answer, command)

    def _check_rate(self, command: Command, rate: Allowance) -> Any:
        """Return the request of a command, or its refusal if the client sends commands too fast."""
        if rate.wait(self.factory.reactor.seconds()) == 0:
            rate.use(1)
            return command.request
        self.factory.counters.limits["command_rate"] += 1
        # A message (`send`) has no reply that could say it.
        closes = self.factory.settings.rate_action == "close" or not command.id
        return (TOO_MANY if closes else TOO_MANY_REQUESTS).because("over the server option --command-rate")

    def _answer_late(self, answer: Answer, command: Command) -> None:
        self._busy = False
        self._answer(answer, command)
        if self._has_work():
            self.factory.work.submit(self)

    def _confirmed(self, result: Any, entry: Any) -> None:
        assert self._unconfirmed is not None
        if self._replies is None and self.state == OPEN:
            # The replies to all confirmations that arrive in this turn are sent as one message.
            self._collect_replies()
            self.factory.work.submit_later(self)
        answer = error_for(result) if isinstance(result, Failure) else PUBLISHED
        for found, command in self._unconfirmed.confirm(entry, answer):
            self._reply(found, command)

    def _answer(self, answer: Answer, command: Command) -> None:
        if self._unconfirmed:
            self.factory.work.charge(0)
            self._unconfirmed.add(command, answer)
        else:
            self._reply(answer, command)

    def _reply(self, answer: Answer, command: Command) -> None:
        if isinstance(answer, Disconnect):
            if self.session is None:
                # The connection was closed while the command was executed.
                return
            # The client receives what it published before, even in the same frame.
            for channel in list(self.session.channels):
                self.hub.deliver_pending(channel)
            self.disconnect(answer)
            return
        if answer is NO_REPLY:
            self.factory.work.charge(0)
            return
        codec, number = self.codec, command.id
        payload = codec.reply(number, answer) if isinstance(answer, Result) else codec.error_reply(number, answer)
        self.factory.work.charge(len(payload))
        self.send_payload(payload)
        if type(answer) is ConnectResult:
            self._connected()

    # Pings and pongs. They are messages of the Centrifuge protocol, because browsers hide WebSocket pings from scripts.

    def _connected(self) -> None:
        if self._send_queue is None:
            self._connect_replied = True
        else:
            # Queued publications are sent after the reply: an SDK drops publications to channels that it does not know
            # yet. Before `_connect_replied` is set, the reply is not queued behind them.
            serving = self._replies is not None
            self._send_replies()
            self._connect_replied = True
            if not self._write_blocked:
                self.release()
            if serving:
                self._collect_replies()
        if self._connect_deadline is not None:
            self._connect_deadline.cancel()
            self._connect_deadline = None
        if self.ping_interval:
            # After a restart many clients connect at once. The random first delay spreads their pings.
            first = self.ping_interval * (8 + int(random.random() * 9)) / 16  # noqa: S311 (no secret)
            self._next_ping = self.factory.deadlines.call_later(first, self._ping)

    def _ping(self) -> None:
        deadlines = self.factory.deadlines
        self._next_ping = deadlines.call_later(self.ping_interval, self._ping)
        if self.is_one_way:
            self.send_payload(self.codec.ping)
        elif self._pong_deadline is None:
            self._pong_deadline = deadlines.call_later(self.factory.settings.ping_timeout, self._pong_timed_out)
            self.send_payload(self.codec.ping)

    def _pong(self) -> bool:
        """Accept a pong. Return False if the server does not expect one."""
        if self._pong_deadline is None:
            return False
        self._pong_deadline.cancel()
        self._pong_deadline = None
        return True

    def _pong_timed_out(self) -> None:
        self.factory.counters.limits["ping_timeout"] += 1
        self.disconnect(NO_PONG)
        # The client is most likely gone, so the server does not wait for its answer.
        self.abandon()

    # Closing.

    def is_answering(self) -> bool:
        """Return whether the client has sent commands that are not answered, or replies of this turn are not sent."""
        return bool(self._frames or self._commands or self._busy or self._unconfirmed or self._replies)

    def stop(self, code: int, reason: str) -> None:
        """
        Cancel the timers, drop queued commands, and unsubscribe from all channels: the connection is closed.

        Args:
            code: the close code.
            reason: the close reason.
        """
        for deadline in (self._connect_deadline, self._next_ping, self._pong_deadline):
            if deadline is not None:
                deadline.cancel()
        session, self.session = self.session, None
        self._commands = self._frames = None
        self.factory.work.discard(self)
        if session is not None:
            session.close(code, reason)
