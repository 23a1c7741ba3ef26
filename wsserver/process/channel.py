"""
The channel between the supervisor and a worker: JSON messages over a pair of UNIX sockets.

Each message is a JSON object, after its length as four bytes in network order. Both sides use the same protocol.
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

__all__ = ["MAX_MESSAGE", "Channel", "Message", "open_channel", "read_first", "write_last"]

_log = Logger(namespace="wsserver.workers")

MAX_MESSAGE: Final = 1024 * 1024
"""Maximum size of a message in bytes; a larger one closes the channel."""

Message = Mapping[str, Any]
"""A JSON object. Its member `type` says what the message is."""


@implementer(IPushProducer)
class Channel(Int32StringReceiver):
    """
    One side of the channel.

    If the other side does not read, at most 64 KiB are queued: `send` then drops messages and returns False.

    Args:
        on_message: called with each message that arrives.
        on_closed: called once, when the other process has closed its side or has ended.
    """

    MAX_LENGTH = MAX_MESSAGE
    _blocked = False

    def __init__(self, on_message: Callable[[Message], object], on_closed: Callable[[], object]) -> None:
        self._on_message, self._on_closed = on_message, on_closed

    def connectionMade(self) -> None:
        """Ask the transport to report when its queue is long."""
        self.transport.registerProducer(self, True)  # type: ignore[union-attr]

    def send(self, message: Message) -> bool:
        """Send a message; return False if it was dropped: the channel is closed, or the other side does not read."""
        if self._blocked or not self.connected:
            return False
        self.sendString(json.dumps(message).encode("utf-8"))
        return True

    def stringReceived(self, data: bytes) -> None:
        """Pass a message on."""
        self._on_message(json.loads(data))

    def dataReceived(self, data: bytes) -> None:
        """Receive messages; a fault in processing one must not close the channel."""
        try:
            super().dataReceived(data)
        except Exception:
            _log.failure("processing a message between the supervisor and a worker failed")

    def connectionLost(self, reason: Failure | None = None) -> None:  # noqa: ARG002
        """Report the end of the channel."""
        self.connected = 0
        self._on_closed()

    def pauseProducing(self) -> None:
        """Drop messages from now on: the other side does not read."""
        self._blocked = True

    def resumeProducing(self) -> None:
        """Send messages again."""
        self._blocked = False

    def stopProducing(self) -> None:
        """Do nothing: the end of the connection is reported by `connectionLost`."""


def open_channel(reactor: Any, sock: socket.socket, channel: Channel) -> None:
    """Start a channel on a connected socket, which from then on belongs to the reactor."""
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
