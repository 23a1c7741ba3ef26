"""HTTP client parts: a connection pool that does not log each connection, and response bodies of limited size."""

from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint, ITransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import HTTPConnectionPool, ResponseDone
from twisted.web.http import PotentialDataLoss
from zope.interface import implementer

__all__ = ["BodyCollector", "QuietConnectionPool"]


@implementer(IStreamClientEndpoint)
class _QuietEndpoint:
    """A wrapper of a client endpoint: its factories do not log when they start and stop."""

    def __init__(self, endpoint: IStreamClientEndpoint) -> None:
        self._endpoint = endpoint

    def connect(self, protocolFactory: IProtocolFactory) -> "Deferred[IProtocol]":
        """Connect without log lines of the factory."""
        protocolFactory.noisy = False  # type: ignore[attr-defined]
        return self._endpoint.connect(protocolFactory)


class QuietConnectionPool(HTTPConnectionPool):
    """A pool of HTTP connections whose factories do not log when they start and stop."""

    def getConnection(self, key: Any, endpoint: IStreamClientEndpoint) -> "Deferred[Any]":
        """Return a connection from the pool, or a new one."""
        return super().getConnection(key, _QuietEndpoint(endpoint))


class BodyCollector(Protocol):
    """
    A protocol that collects a response body: pass it to the response's `deliverBody`, and wait for `done`.

    Args:
        max_size: maximum size of the body, in bytes.
    """

    def __init__(self, max_size: int) -> None:
        self.done: Deferred[bytes] = Deferred(lambda _: self._close())
        """
        A Deferred that fires with the body. It fails with a `ValueError` if the body is too large or after `fail`, and
        with Twisted's reason if the body is incomplete. Cancelling it closes the connection.
        """
        self._max_size = max_size
        self._body = bytearray()

    def fail(self, reason: str) -> None:
        """
        Close the connection, and make `done` fail unless it has fired.

        Args:
            reason: the text of the `ValueError`.
        """
        self._close()
        if not self.done.called:
            self.done.errback(ValueError(reason))

    def dataReceived(self, data: bytes) -> None:
        """Append a part of the body; make `done` fail if the body is too large."""
        self._body += data
        if len(self._body) > self._max_size and not self.done.called:
            self.fail(f"the response body is over {self._max_size} bytes")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Fire `done`: with the body if it is complete, else with the reason."""
        if self.done.called:
            return
        # Without a Content-Length, the body ends when the connection is closed.
        if reason.check(ResponseDone, PotentialDataLoss):
            self.done.callback(bytes(self._body))
        else:
            self.done.errback(reason)

    def _close(self) -> None:
        cast(ITransport, self.transport).loseConnection()
