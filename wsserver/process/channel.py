"""
The channel between the supervisor and a worker: JSON messages over a pair of UNIX sockets.

Each message is a JSON object, after its length as four bytes in network order. Both sides use the same protocol. They
trust each other: a message may have any size, such as settings with thousands of `[[channel]]` tables.
"""

import json
import socket
import struct
from collections.abc import Callable, Mapping
from typing import Any, Final

from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.protocols.basic import Int32StringReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

__all__ = ["Channel", "Message", "open_channel", "read_first", "write_last"]

_log = Logger(namespace="wsserver.workers")

Message = Mapping[str, Any]
"""A JSON object. Its member `type` says what the message is."""

_MAX_LENGTH: Final = 2**32 - 1
"""Largest length that fits into four bytes."""

_KIND: Final = "type", "number", "node"
"""
The members that distinguish kinds of messages: the type, and which worker it is about.

The messages of a kind are about the state of one thing, so that only the newest one counts.
"""


@implementer(IPushProducer)
class Channel(Int32StringReceiver):
    """
    One side of the channel.

    If the other side does not read, 64 KiB are queued, and behind them the newest message of each kind: a `reload`
    replaces an earlier one that waits, a `stop` is never lost.

    Args:
        on_message: called with each message that arrives.
        on_closed: called once, when the other process has closed its side or has ended.
    """

    MAX_LENGTH = _MAX_LENGTH
    _blocked = False

    def __init__(self, on_message: Callable[[Message], object], on_closed: Callable[[], object]) -> None:
        self._on_message, self._on_closed = on_message, on_closed
        self._waiting: dict[tuple[Any, ...], Message] = {}
        """Kind -> the newest message of the kind, in the order in which they are to be sent."""

    def connectionMade(self) -> None:
        """Ask the transport to report when its queue is long."""
        self.transport.registerProducer(self, True)  # type: ignore[union-attr]

    def send(self, message: Message) -> bool:
        """Send a message; return False if it waits, because the other side does not read, or the channel is closed."""
        if not self.connected:
            return False
        kind = tuple(message.get(name) for name in _KIND)
        self._waiting.pop(kind, None)
        self._waiting[kind] = message
        self._send_waiting()
        return not self._waiting

    def _send_waiting(self) -> None:
        while self._waiting and not self._blocked:
            message = self._waiting.pop(next(iter(self._waiting)))
            self.sendString(json.dumps(message).encode("utf-8"))

    def stringReceived(self, data: bytes) -> None:
        """Pass a message on; if it cannot be processed, log why, and go on with the next one."""
        try:
            self._on_message(json.loads(data))
        except Exception:
            _log.failure("processing a message between the supervisor and a worker failed")

    def close(self) -> None:
        """Close the channel."""
        self.transport.loseConnection()  # type: ignore[union-attr]

    def connectionLost(self, reason: Failure | None = None) -> None:  # noqa: ARG002
        """Report the end of the channel."""
        self.connected = 0
        self._waiting.clear()
        self._on_closed()

    def pauseProducing(self) -> None:
        """Let messages wait from now on: the other side does not read."""
        self._blocked = True

    def resumeProducing(self) -> None:
        """Send the messages that wait."""
        self._blocked = False
        self._send_waiting()

    def stopProducing(self) -> None:
        """Do nothing: the end of the connection is reported by `connectionLost`."""


def open_channel(reactor: Any, sock: socket.socket, channel: Channel) -> None:
    """
    Start a channel on a connected socket, which from then on belongs to the reactor.

    Raises:
        OSError: the process has too many descriptors; the socket stays open.
    """
    factory = Factory.forProtocol(lambda: channel)
    sock.setblocking(False)
    reactor.adoptStreamConnection(sock.fileno(), socket.AF_UNIX, factory)
    # The reactor has duplicated the descriptor.
    sock.close()


def read_first(sock: socket.socket) -> Message:
    """
    Wait for the first message, before a reactor runs, and read nothing beyond it.

    Raises:
        EOFError: the other side has closed the channel.
    """
    (size,) = struct.unpack("!I", _read(sock, 4))
    message: Message = json.loads(_read(sock, size))
    return message


def write_last(sock: socket.socket, message: Message) -> None:
    """Send a message before the process exits, without a reactor."""
    data = json.dumps(message).encode("utf-8")
    sock.setblocking(True)
    sock.sendall(struct.pack("!I", len(data)) + data)


def _read(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise EOFError("the supervisor has ended")
        data += more
    return data
