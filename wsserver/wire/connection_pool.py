"""A pool of HTTP client connections, without Twisted's log lines for each connection."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.web.client import HTTPConnectionPool
from zope.interface import implementer

__all__ = ["QuietConnectionPool"]


@implementer(IStreamClientEndpoint)
class _QuietEndpoint:
    """Wrap a client endpoint so that its factories do not log when they start and stop."""

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
