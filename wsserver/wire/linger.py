"""Lingering close: end a connection so that the peer can still read the last response (RFC 9112 section 9.6)."""

from typing import Any

from twisted.internet.interfaces import IHalfCloseableDescriptor, ISSLTransport

from wsserver.wire.timers import Deadline, Deadlines

__all__ = ["LINGER", "linger"]

LINGER = 2.0
"""Seconds that a refused peer has to read the response before the connection is dropped."""


def linger(transport: Any, deadlines: Deadlines) -> Deadline:
    """
    Close the sending side of a connection, and drop the connection if the peer does not close it within `LINGER`.

    If the server closed the connection at once, with unread bytes of the peer, the operating system would reset it, and
    the peer might lose the response that it has received but not read.

    Args:
        transport: the connection's transport. Its protocol must ignore further data.
        deadlines: schedules the drop.

    Returns:
        The deadline, which the caller cancels when the connection is lost.
    """
    deadline = deadlines.call_later(LINGER, transport.abortConnection)
    # A TLS transport would half close the TCP connection before it has sent the data that it has yet to encrypt.
    half = IHalfCloseableDescriptor.providedBy(transport) and not ISSLTransport.providedBy(transport)
    (transport.loseWriteConnection if half else transport.loseConnection)()
    return deadline
