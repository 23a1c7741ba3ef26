"""An endless response that reads nothing more from its client: what the event streams of the test paths share."""

from typing import Any

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from wsserver.wire.eventstream import LAST_CHUNK
from wsserver.wire.linger import LINGER
from wsserver.wire.protocol import ServerFactory
from wsserver.wire.timers import Deadline

__all__ = ["EndlessResponse"]


@implementer(IPushProducer)
class EndlessResponse:
    """
    The response to one client.

    Args:
        factory: the server's factory, which ends the response when the server stops.
        is_chunked: whether the body is sent in chunks (RFC 9112 section 7.1).
    """

    def __init__(self, factory: ServerFactory, *, is_chunked: bool) -> None:
        self._factory = factory
        self._is_chunked = is_chunked
        self._transport: Any = None
        self._is_over = self._is_blocked = False
        self._abort: Deadline | None = None

    # Called by the HTTP side of the connection.

    def begin(self, transport: Any, head: bytes, frame: bytes) -> None:  # noqa: ARG002
        """Send the head of the response, with the first events."""
        self._transport = transport
        self._factory.add(self)
        transport.registerProducer(self, True)
        transport.write(head)

    def half_closed(self) -> None:
        """End the response: the client has closed its sending side, and may have disconnected."""
        self._end()

    def connectionLost(self) -> None:
        """Release everything: the connection has ended."""
        self._leave()
        if self._abort is not None:
            self._abort.cancel()
        self._factory.connections.discard(self)

    def close(self, code: int = 0, reason: str = "") -> None:  # noqa: ARG002 (named as for WebSockets)
        """End the response."""
        self._end()

    def _write(self, data: bytes) -> None:
        self._transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data)

    def _rest(self) -> bytes:
        """Return the end of the body."""
        return b""

    def _leave(self) -> None:
        """Stop the timers, and send no more; called again when the connection has ended."""
        raise NotImplementedError

    def _end(self) -> None:
        if self._is_over:
            return
        rest = self._rest()
        if rest:
            self._write(rest)
        if self._is_chunked:
            self._transport.write(LAST_CHUNK)
        self._leave()
        self._transport.unregisterProducer()
        if self._abort is not None:
            self._abort.cancel()
        # The client has `LINGER` seconds to read what is already written.
        self._abort = self._factory.deadlines.call_later(LINGER, self._transport.abortConnection)
        self._transport.loseConnection()

    # IPushProducer.

    def pauseProducing(self) -> None:
        """Send nothing more for now: the client does not read."""
        self._is_blocked = True

    def resumeProducing(self) -> None:
        """Send again."""
        self._is_blocked = False

    def stopProducing(self) -> None:
        """Do nothing: `connectionLost` is called, too."""
