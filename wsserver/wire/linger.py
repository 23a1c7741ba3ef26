"""Ending a connection so that its peer can read what it was told last."""

from typing import Any

from twisted.internet.interfaces import IHalfCloseableDescriptor, ISSLTransport

from wsserver.wire.deadlines import Deadline, Deadlines

__all__ = ["LINGER", "linger"]

LINGER = 2.0
"""Seconds for a refused peer to read why before the connection is dropped."""


def linger(transport: Any, deadlines: Deadlines) -> Deadline:
    """
    End a connection from our side, and drop it if the peer does not end it too.

    Closing at once, with bytes of the peer unread, would reset the connection, and the peer's system might throw away
    what it has received.

    Args:
        transport: its protocol must ignore what still comes.
        deadlines: where the deadline is set.

    Returns:
        The deadline, to be cancelled when the connection is lost.
    """
    deadline = deadlines.call_later(LINGER, transport.abortConnection)
    # A TLS transport passes a half close on to the TCP connection under it, before what it has yet to encrypt.
    half = IHalfCloseableDescriptor.providedBy(transport) and not ISSLTransport.providedBy(transport)
    (transport.loseWriteConnection if half else transport.loseConnection)()
    return deadline
