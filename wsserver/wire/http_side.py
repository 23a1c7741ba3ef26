"""The interface of the HTTP side of a connection, which the frontend passes complete requests to."""

from typing import Protocol

from twisted.internet.interfaces import IAddress, ITransport
from twisted.python.failure import Failure

from wsserver.wire.http11 import Request

__all__ = ["HTTPSide"]


class HTTPSide(Protocol):
    """The HTTP side of a connection, which answers complete requests. Implemented by `wsserver.web.site.Channel`."""

    def makeConnection(self, transport: ITransport) -> None:
        """Set the transport that responses are written to."""

    def serve(self, request: Request, body: bytes, address: IAddress) -> None:
        """
        Answer a request.

        Calls `Frontend.response_written` when the response is written and the connection can carry another request.

        Args:
            request: the request head. Its body has been received, and decoded if it was chunked.
            body: the request body.
            address: the client's address.
        """

    def connectionLost(self, reason: Failure) -> None:
        """Handle the loss of the connection."""

    def half_closed(self) -> None:
        """End an endless response: the client has closed its sending side, but may still read."""

    def loseConnection(self) -> None:
        """Close the connection after everything written so far has been sent."""

    def release(self) -> None:
        """Stop using the transport: an endpoint takes the connection over."""
