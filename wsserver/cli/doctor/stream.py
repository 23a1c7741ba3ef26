"""A connection for `wsserver doctor`: TCP, with TLS or without. Every read has a deadline and a limit."""

import socket
import ssl
import time
from dataclasses import dataclass

from wsserver.cli.urls import Target

__all__ = ["ANSWER_TIMEOUT", "CONNECT_TIMEOUT", "ConnectionEnded", "Dialer", "Stream"]

CONNECT_TIMEOUT = 5.0
"""Seconds allowed for a TCP connection, and again for its TLS handshake."""

ANSWER_TIMEOUT = 10.0
"""Seconds allowed for an answer of the server."""

_BLOCK = 65536


class ConnectionEnded(ConnectionError):
    """
    The server, or something between, has ended the connection.

    Args:
        how: `FIN` or `RST`.
    """

    def __init__(self, how: str) -> None:
        super().__init__(f"the connection was ended with {how}")
        self.how = how


class Stream:
    """
    The bytes of a connection.

    Args:
        connection: a connected socket, possibly with TLS.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.buffer = bytearray()

    def send(self, data: bytes) -> None:
        """
        Send bytes.

        Raises:
            OSError: the connection has ended, or the peer does not read.
        """
        self.connection.settimeout(ANSWER_TIMEOUT)
        try:
            self.connection.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            raise ConnectionEnded("RST") from None

    def receive(self, deadline: float) -> None:
        """
        Read more bytes into the buffer.

        Args:
            deadline: when to stop waiting, on the monotonic clock.

        Raises:
            TimeoutError: no bytes in time.
            ConnectionEnded: the connection has ended.
        """
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.connection.settimeout(left)
        try:
            data = self.connection.recv(_BLOCK)
        except ConnectionResetError:
            raise ConnectionEnded("RST") from None
        except ssl.SSLEOFError:
            data = b""
        if not data:
            raise ConnectionEnded("FIN")
        self.buffer += data

    def take(self, count: int) -> bytes:
        """Remove bytes from the buffer, and return them."""
        taken = bytes(self.buffer[:count])
        del self.buffer[:count]
        return taken

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()


@dataclass
class Dialer:
    """Opens connections to the address that has answered."""

    target: Target
    address: str
    """The IP address."""
    context: ssl.SSLContext | None = None
    """The TLS context; None for a connection without TLS."""

    @property
    def is_impostor(self) -> bool:
        """Whether the certificate of the server is not accepted, so anybody may be at the other end."""
        return self.context is not None and self.context.verify_mode is ssl.CERT_NONE

    def connect(self) -> socket.socket:
        """Open a TCP connection."""
        connection = socket.create_connection((self.address, self.target.port), CONNECT_TIMEOUT)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def dial(self) -> Stream:
        """Open a connection, with TLS if the URL asks for it."""
        connection = self.connect()
        return Stream(connection if self.context is None else wrap(connection, self.context, self.target.host))


def wrap(connection: socket.socket, context: ssl.SSLContext, host: str) -> ssl.SSLSocket:
    """Do the TLS handshake; close the connection if it fails."""
    try:
        return context.wrap_socket(connection, server_hostname=host)
    except BaseException:
        connection.close()
        raise
