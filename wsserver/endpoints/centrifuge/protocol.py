"""
`/connection/websocket`: the Centrifuge client protocol, version 2, for Centrifugo SDKs.

The server executes a client's commands one at a time, in the order received. Commands that arrive while one is being
executed are queued, up to `MAX_QUEUED_COMMANDS` commands. Only publications do not wait for the one before
(`wsserver.endpoints.centrifuge.unconfirmed`).

A turn is one iteration of Twisted's event loop.

Sources: https://centrifugal.dev/docs/transports/client_protocol, `client.go` of centrifugal/centrifuge.
"""

import random
from collections import deque
from collections.abc import Hashable
from typing import Any, ClassVar

from twisted.python.failure import Failure

from wsserver.centrifugecodes import (
    BAD_REQUEST,
    CLOSE_CODES,
    NO_PONG,
    STALE,
    TOO_MANY,
    TOO_MANY_REQUESTS,
    Disconnect,
    Error,
)
from wsserver.closecodes import CloseCode
from wsserver.endpoints.authorization import find_token, select_subprotocol
from wsserver.endpoints.centrifuge.client import Session
from wsserver.endpoints.centrifuge.codec import Codec
from wsserver.endpoints.centrifuge.commands import Command
from wsserver.endpoints.centrifuge.connection import Answer
from wsserver.endpoints.centrifuge.form import choose_codec, choose_subprotocol
from wsserver.endpoints.centrifuge.json_codec import JSON
from wsserver.endpoints.centrifuge.permissions import ClientContext, Permissions
from wsserver.endpoints.centrifuge.refusals import error_for
from wsserver.endpoints.centrifuge.replies import NO_REPLY, PUBLISHED, ConnectResult, Result
from wsserver.endpoints.centrifuge.subscriber import gap_message
from wsserver.endpoints.centrifuge.unconfirmed import Sent, UnconfirmedPublishes
from wsserver.endpoints.subscriber import SubscriberProtocol
from wsserver.hub.deferreds import waits
from wsserver.hub.send_queue import Batch
from wsserver.typing import ChannelName
from wsserver.wire.fastpath import OPEN
from wsserver.wire.frames import build
from wsserver.wire.http11 import Refusal
from wsserver.wire.protocol import ConnectionRequest, Denied
from wsserver.wire.timers import Deadline

__all__ = ["CONNECT_TIMEOUT", "CentrifugeProtocol"]

CONNECT_TIMEOUT = 10.0
"""Seconds within which a client must have connected; the default of Centrifugo's `client.stale_close_delay`."""

MAX_QUEUED_COMMANDS = 1000
"""Maximum number of queued commands per client. Further commands are refused with error 111, which is temporary."""

REFUSALS = (Error, Disconnect)
"""Types of a request that was refused before it could be executed. A tuple, because creating a union takes longer."""

UNEXPECTED_PONG = Command(0, BAD_REQUEST.because("an empty command is a pong, but no ping was sent"), 0)

TOO_MANY_MESSAGES = TOO_MANY.because("too many messages are queued")

MAX_JOINED_BYTES = 65_536
"""Replies are joined into one message until the message has this size in bytes. Centrifugo joins replies as well."""


class CentrifugeProtocol(SubscriberProtocol):
    """The connection of a client that speaks the Centrifuge protocol."""

    # What every connection has, so that an idle connection needs no dictionary.
    __slots__ = (
        "_busy",
        "_commands",
        "_commands_size",
        "_connect_deadline",
        "_connect_replied",
        "_frames",
        "_is_receiving",
        "_next_ping",
        "_pong_deadline",
        "_replies",
        "_replies_size",
        "_unconfirmed",
        "codec",
        "context",
        "session",
        "token",
    )

    permissions: ClassVar[Permissions]
    ping_interval: ClassVar[int]
    """Seconds between pings; 0 for none. An integer, because the reply to `connect` announces whole seconds."""

    context: ClientContext

    def __init__(self) -> None:
        super().__init__()
        self.codec: Codec = JSON
        self.session: Session | None = None
        self.token = ""
        self._connect_deadline: Deadline | None = None
        self._next_ping: Deadline | None = None
        self._pong_deadline: Deadline | None = None
        """Deadline of the pong that the server expects; None if the server does not expect a pong."""
        self._frames: deque[bytes] | None = None
        """Received messages that are not parsed yet; None if there are none."""
        self._commands: deque[Command] | None = None
        """Parsed commands that are not executed yet; None if there are none."""
        self._commands_size = 0
        """Size of the commands in `_commands`, in bytes."""
        self._is_receiving = False
        """Whether received bytes are being processed. The commands in them are executed afterwards, together."""
        self._busy = False
        """Whether a command is still being executed: its result is a Deferred that has not fired."""
        self._unconfirmed: UnconfirmedPublishes | None = None
        """Publish commands that the broker has yet to confirm."""
        self._connect_replied = False
        """Whether the reply to `connect` has been sent. Until then, publications to the client are queued."""
        self._replies: list[bytes] | None = None
        """Replies and pushes of this turn, which are sent as one message; None if none are collected."""
        self._replies_size = 0
        """Size of the replies and pushes in `_replies`, in bytes."""

    def _connection_request(self) -> None:
        """Make no `ConnectionRequest`: `onConnect` reads the handshake itself."""

    def onConnect(self, request: ConnectionRequest) -> Any:
        """
        Accept or refuse the opening handshake, and find the client's token.

        Raises:
            Denied: 400, the client requests an unknown form of the protocol or a version other than 2, or the request
                carries more than one token.
        """
        handshake = self.request
        query = handshake.query or {}
        offered = self._accept.offered if self._accept is not None else ()
        if query or offered:
            codec = choose_codec(query, offered)
            if isinstance(codec, Refusal):
                raise Denied(codec)
            self.codec = codec
        token = find_token(query, handshake.all("authorization"), offered)
        if isinstance(token, Refusal):
            raise Denied(token)
        caller = self.permissions.authorizer.caller("websocket", self.codec.name, handshake.headers, self._shown_peer)
        self.context = ClientContext(caller, handshake.host)
        self.token = token or ""
        chosen = super().onConnect(request)
        return choose_subprotocol(offered) or select_subprotocol(chosen, offered)

    def onOpen(self) -> None:
        """Wait for the `connect` command."""
        self.session = Session(self)
        self._connect_deadline = self.factory.deadlines.call_later(CONNECT_TIMEOUT, self._connect_timed_out)

    def _connect_timed_out(self) -> None:
        self.disconnect(STALE.because(f"no connect within {CONNECT_TIMEOUT:g} s"))

    # Commands. The server's `WorkQueue` decides when the next one is executed.

    def dataReceived(self, data: bytes) -> None:
        """Process bytes from the transport, then execute the commands of all messages that were complete."""
        self._is_receiving = True
        try:
            super().dataReceived(data)
        finally:
            self._is_receiving = False
        if self._frames:
            self._submit()

    def onMessage(self, payload: bytes, isBinary: bool) -> None:  # noqa: ARG002
        """Queue a message, which contains commands. It is parsed once all earlier commands have been executed."""
        if self._frames is None:
            self._frames = deque()
        self._frames.append(payload)
        if not self._is_receiving:
            self._submit()

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
        self._endpoint_failed()

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
                refusal = TOO_MANY_REQUESTS.because("too many commands are queued")
                self.send_payload(self.codec.error_reply(command.id, refusal))
                continue
            queue.append(command)
            self._commands_size = size

    def _execute(self, command: Command) -> None:
        assert self.session is not None
        request = command.request
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
            assert self.session is not None
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
        if self._pong_deadline is None:
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
        self.disconnect(NO_PONG)
        # The client is most likely gone, so the server does not wait for its Close frame.
        self.dropConnection()

    # Called by the session: the interface `Connection`.

    @property
    def form(self) -> Hashable:
        """What determines the bytes of a frame: the form of the protocol, and the compression."""
        return self.codec.name, self.window_bits

    def write_message(self, payload: bytes) -> bytes:
        """Return the frame of a push for all connections with the same `form`."""
        return self.write_frame(self.codec.first_byte, payload)

    def send_payload(self, payload: bytes) -> None:
        """
        Send a reply or a push.

        It is sent after all messages that are queued for the client; but before the reply to `connect`, immediately.

        Args:
            payload: one reply or push, in the client's form of the protocol.
        """
        if self._replies is None:
            say = self.send_in_order if self._connect_replied else self._send
            say(build(self.codec.first_byte, payload), 1, len(payload))
            return
        self._replies.append(payload)
        self._replies_size += len(payload)
        if self._replies_size >= MAX_JOINED_BYTES:
            self._send_replies()
            self._collect_replies()
            if self._cork is not None:
                # Write now, so that the transport can report that the peer does not read, which ends this turn's work.
                self._uncork()
                self._cork = []

    def _collect_replies(self) -> None:
        """Collect the replies and pushes of this turn. Meanwhile, publications are passed to `deliver`."""
        self._replies = []
        self._writable = False

    def deliver(self, batch: Batch) -> None:
        """Send or queue publications of one channel, after the replies that have been collected in this turn."""
        if self._replies:
            self._send_replies()
            self._collect_replies()
        super().deliver(batch)

    def _send_replies(self) -> None:
        replies, self._replies, self._replies_size = self._replies, None, 0
        if replies:
            self.send_payload(self.codec.separator.join(replies))

    def disconnect(self, how: Disconnect) -> None:
        """Send the pending replies, then close the connection. Commands that the client still sends are ignored."""
        serving = self._replies is not None
        self._send_replies()
        self.fail(how.code, how.reason)
        if serving:
            self._collect_replies()

    # Closing.

    def close(self, code: int = CloseCode.NORMAL_CLOSURE, reason: str = "") -> None:
        """
        Close the connection.

        Args:
            code: the close code. Those in `CLOSE_CODES` are replaced by the code that SDKs know for the same cause.
            reason: the close reason.
        """
        known = CLOSE_CODES.get(code)
        super().close(*((known.code, f"{known.reason}: {reason}") if known is not None else (code, reason)))

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:  # noqa: ARG002
        """Cancel the timers, drop queued commands, and unsubscribe from all channels."""
        for deadline in (self._connect_deadline, self._next_ping, self._pong_deadline):
            if deadline is not None:
                deadline.cancel()
        session, self.session = self.session, None
        self._commands = self._frames = None
        self.factory.work.discard(self)
        if session is not None:
            session.close(*self.ended)

    # Flow control.

    def resumeProducing(self) -> None:
        """Resume sending and executing commands: the peer reads again."""
        if self._connect_replied:
            super().resumeProducing()
        else:
            # Publications remain queued until the client is connected.
            super(SubscriberProtocol, self).resumeProducing()
        self.factory.work.submit(self)

    def release(self) -> None:
        """Send the queued publications, and stop queueing. Do nothing before the reply to `connect`."""
        if self._connect_replied:
            super().release()

    def dropped(self, channel: ChannelName) -> None:
        """
        Notify the client that publications of a channel were dropped from its send queue.

        A client that tracks offsets is unsubscribed, so that it subscribes again and recovers. Any other client
        receives a gap notice.
        """
        subscription = self.session.subscription(channel) if self.session is not None else None
        if subscription is not None and subscription.positioned:
            subscription.missed(channel, stream=True)
        else:
            super().dropped(channel)

    def gap_frame(self, channel: ChannelName) -> tuple[bytes, int]:
        """Return the frame of a gap notice, and the size of its payload in bytes."""
        notice = gap_message(self.codec, channel)
        return build(self.codec.first_byte, notice), len(notice)
