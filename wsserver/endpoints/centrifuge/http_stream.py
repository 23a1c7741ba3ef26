"""
A Centrifuge client whose replies and pushes are the endless body of an HTTP response.

Browsers use it where a proxy blocks WebSocket. The client sends its first commands with the request, and each further
one in a request of its own (`wsserver.endpoints.centrifuge.emulation`). The session is the same as over a WebSocket.

A disconnect is a `disconnect` push and the end of the response, because a response has no close code.

Sources: `handler_http_stream.go`, `handler_sse.go` of centrifugal/centrifuge.
"""

from collections.abc import Callable, Hashable
from typing import Any

from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from wsserver.centrifugecodes import CONNECTION_CLOSED, SERVER_ERROR, centrifuge_code
from wsserver.closecodes import CloseCode
from wsserver.endpoints.centrifuge.codec import Codec
from wsserver.endpoints.centrifuge.commands import Command
from wsserver.endpoints.centrifuge.connection import Answer
from wsserver.endpoints.centrifuge.executor import MAX_QUEUED_COMMANDS, Executor
from wsserver.endpoints.centrifuge.permissions import ClientContext
from wsserver.endpoints.centrifuge.replies import DisconnectPush
from wsserver.wire.drain import Wait, must_wait
from wsserver.wire.eventstream import LAST_CHUNK
from wsserver.wire.fastpath import CLOSED, CLOSING, CONNECTING, OPEN, Output
from wsserver.wire.linger import LINGER
from wsserver.wire.protocol import ServerFactory
from wsserver.wire.timers import Deadline

__all__ = ["HTTPStream", "bind_stream", "write_delimited", "write_events", "write_lines"]

# At module level, because a Twisted Logger in a class body uses the name of the class as its namespace.
_log = Logger(namespace="wsserver.centrifuge")


def write_lines(payload: bytes) -> bytes:
    """Return replies and pushes, which are separated by line feeds, with one per line."""
    return payload + b"\n"


def write_events(payload: bytes) -> bytes:
    """
    Return replies and pushes, which are separated by line feeds, as one Server-Sent Event each.

    A carriage return also ends a line of an event stream, so it is replaced by a space. This does not change the value:
    in JSON, it is only allowed as white space between tokens.
    """
    return b"data: %b\n\n" % payload.replace(b"\r", b" ").replace(b"\n", b"\n\ndata: ")


def write_delimited(payload: bytes) -> bytes:
    """Return replies and pushes in Protobuf unchanged: each begins with its length."""
    return payload


@implementer(IPushProducer)
class HTTPStream(Executor, Output):
    """
    The connection of a client that receives an endless response.

    Args:
        codec: the client's form of the protocol.
        write: writes a payload as a part of the response: `write_lines`, `write_events` or `write_delimited`.
        context: the client.
        token: the token in the headers of the request; empty if there was none.
        origin: the Origin header of the request; empty if there was none.
        ended: called with the code and the reason when the response has ended.
    """

    # What every connection uses, so that an idle connection needs no dictionary.
    __slots__ = (
        *Executor.SLOTS,
        "_abort_deadline",
        "_ended",
        "_is_chunked",
        "_is_half_closed",
        "_send_queue",
        "_write",
        "_write_blocked",
        "form",
        "origin",
        "session_id",
        "state",
    )

    def __init__(
        self,
        codec: Codec,
        write: Callable[[bytes], bytes],
        context: ClientContext,
        *,
        token: str,
        session_id: str,
        origin: str,
        is_chunked: bool,
        ended: Callable[[int, str], object],
    ) -> None:
        super().__init__()
        self.codec, self._write, self.context, self.token = codec, write, context, token
        self.session_id, self.origin = session_id, origin
        self._is_chunked = is_chunked
        """Whether the response is sent in chunks (RFC 9112 section 7.1); HTTP/1.0 does not have them."""
        self.form: Hashable = (context.caller.transport, codec.name, is_chunked)
        self.state = CONNECTING
        self._writable, self._send_queue = True, None
        self._write_blocked = self._is_half_closed = False
        self._abort_deadline: Deadline | None = None
        self._ended = ended

    @property
    def transport_name(self) -> str:
        """The name of the transport in the metrics."""
        return self.context.caller.transport

    # Opening.

    def begin(self, transport: Any, head: bytes, frame: bytes) -> None:
        """
        Send the head of the response, and execute the commands of the request.

        Args:
            transport: the transport of the connection. The stream becomes its producer.
            head: the head of the response, and the first bytes of its body.
            frame: the commands.
        """
        self.transport = transport
        self.state = OPEN
        self.factory.add(self)
        self.factory.counters.opened[self.transport_name] += 1
        transport.registerProducer(self, True)
        transport.write(head)
        self.start()
        self._receive(frame)

    # Receiving.

    def receive_more(self, frame: bytes) -> bool:
        """
        Execute commands that arrived in a request of their own.

        Returns:
            False if too many commands are waiting, so that these are not executed.
        """
        waiting = self._frames or ()
        size = self._commands_size + sum(map(len, waiting))
        if size and (size + len(frame) > self.maxMessagePayloadSize or len(waiting) >= MAX_QUEUED_COMMANDS):
            return False
        self._receive(frame)
        return True

    def _receive(self, frame: bytes) -> None:
        self.messages_in += 1
        self.bytes_in += len(frame)
        self.receive(frame)
        self._submit()

    def pause_reading(self) -> None:
        """Do nothing: `receive_more` limits the commands that wait."""

    def resume_reading(self) -> None:
        """Do nothing; see `pause_reading`."""

    # Sending.

    def write_message(self, payload: bytes) -> bytes:
        """Return the part of the response for replies and pushes."""
        part = self._write(payload)
        return b"%x\r\n%b\r\n" % (len(part), part) if self._is_chunked else part

    write_reply = write_message

    def _send(self, frames: bytes, count: int, size: int) -> None:
        if self.state == OPEN:
            self.messages_out += count
            self.bytes_out += size
            self.transport.write(frames)

    def _write_collected(self) -> None:
        """Do nothing: the stream writes at once."""

    def _has_ended(self) -> bool:
        return self.state != OPEN

    # Closing.

    def close(self, code: int, reason: str) -> None:
        """
        Close the connection.

        Args:
            code: the close code, for which SDKs may know another one.
            reason: the close reason.
        """
        self.fail(*centrifuge_code(code, reason))

    def fail(self, code: int, reason: str) -> None:
        """Send a `disconnect` push, and end the response."""
        if self.state == OPEN:
            push = self.codec.push("", DisconnectPush(code, reason))
            self._send(self.write_message(push), 1, len(push))
            self._end(code, reason)

    def drain(self, code: int, reason: str, wait: Wait) -> bool:  # noqa: ARG002
        """Answer the commands that were received, then disconnect with 3001: SDKs reconnect then."""
        if self.state == OPEN:
            if must_wait(wait, is_answering=self.is_answering(), is_blocked=self._write_blocked):
                return False
            self.close(CloseCode.GOING_AWAY, reason)
        return True

    def half_closed(self) -> None:
        """End the response after the replies: the client has closed its sending side, and may have disconnected."""
        self._is_half_closed = True
        self.factory.work.submit_later(self)

    def finish_turn(self) -> None:
        """Send the replies that were collected in this turn."""
        super().finish_turn()
        if self._is_half_closed and not (self._has_work() or self._busy or self._unconfirmed):
            self._end(CONNECTION_CLOSED.code, CONNECTION_CLOSED.reason)

    def _answer_late(self, answer: Answer, command: Command) -> None:
        super()._answer_late(answer, command)
        if self._is_half_closed:
            self.factory.work.submit_later(self)

    def abandon(self) -> None:
        """Drop the connection without waiting until the client has read what was sent."""
        self.transport.abortConnection()

    def connectionLost(self) -> None:
        """End the session: the client has disconnected, or the response has ended."""
        self._stop(CONNECTION_CLOSED.code, CONNECTION_CLOSED.reason)
        self.state = CLOSED
        if self._abort_deadline is not None:
            self._abort_deadline.cancel()
        self.factory.connections.discard(self)

    def _end(self, code: int, reason: str) -> None:
        if self.state != OPEN:
            return
        if self._is_chunked:
            self.transport.write(LAST_CHUNK)
        self._stop(code, reason)
        self.transport.unregisterProducer()
        # The client has `LINGER` seconds to read what is already written.
        self._abort_deadline = self.factory.deadlines.call_later(LINGER, self.transport.abortConnection)
        self.transport.loseConnection()

    def _stop(self, code: int, reason: str) -> None:
        if self.state == OPEN:
            self.state = CLOSING
            self._cancel_queue_deadline()
            self._writable, self._send_queue = False, None
            self.stop(code, reason)
            by = "peer" if code == CONNECTION_CLOSED.code else "server"
            self.factory.counters.close(self.transport_name, code, by)
            self.factory.counters.traffic[self.transport_name].move(self)
            self._ended(code, reason)

    def _crash(self, failure: Failure) -> None:
        _log.failure("a stream failed", failure)
        self.fail(SERVER_ERROR.code, SERVER_ERROR.reason)

    # Flow control: IPushProducer.

    def pauseProducing(self) -> None:
        """Queue further messages: the client does not read."""
        self._write_blocked = True
        self.hold()

    def resumeProducing(self) -> None:
        """Resume sending and executing commands: the client reads again."""
        self._write_blocked = False
        # Before the reply to `connect`, publications remain queued.
        self.release()
        self.factory.work.submit(self)

    def stopProducing(self) -> None:
        """Do nothing: `connectionLost` is called, too."""


def bind_stream(stream: type[HTTPStream], factory: ServerFactory, **attributes: Any) -> type[HTTPStream]:
    """
    Return a subclass of a stream with the server's options as class attributes.

    Args:
        stream: the class.
        factory: the server's factory, which streams share with WebSocket connections.
        attributes: further class attributes: those of a `CentrifugeProtocol`.
    """
    limit = factory.maxMessagePayloadSize
    return type(stream.__name__, (stream,), {"factory": factory, "maxMessagePayloadSize": limit, **attributes})
