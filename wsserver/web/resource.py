"""
A WebSocket endpoint as a resource of your own `twisted.web` site.

The site's HTTP parser reads the request head, so the limits and deadlines of `wsserver.wire.frontend` do not apply to
the head. The rules of `wsserver.wire.http11` and `wsserver.wire.handshake` apply as usual.
"""

import ipaddress
import re
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from wsserver.config.settings import Settings
from wsserver.endpoints.application import Endpoint, bind_endpoint
from wsserver.web.site import needs_websocket, refuse
from wsserver.wire.handshake import Accept, Policy, check, refuse_removed_upgrade
from wsserver.wire.http11 import Refusal, make
from wsserver.wire.http11 import Request as Head
from wsserver.wire.protocol import ServerFactory

__all__ = ["WebSocketResource"]


class WebSocketResource(Resource):
    """
    A resource that serves an endpoint at one path of a site.

    Example: `root.putChild(b"ws", WebSocketResource(MyProtocol, settings, reactor))`.

    Args:
        protocol: the endpoint: a subclass of `ServerProtocol`, or a callable that returns a new instance of one.
        settings: the server's options. The options about listening have no effect.
        reactor: the reactor, for the timers of connections.
    """

    isLeaf = True

    def __init__(self, protocol: Endpoint, settings: Settings, reactor: Any) -> None:
        super().__init__()
        self.connections = ServerFactory(settings, reactor)
        """The factory that all connections share; its `drain` closes them when the application stops."""
        self._protocol = bind_endpoint("WebSocketResource", protocol, self.connections)
        self._policy = Policy.of(settings, loopback_only=False)
        self._local_policy = Policy.of(settings, loopback_only=True)

    def render(self, request: Request) -> Any:
        """Accept or refuse the opening handshake."""
        head = _head(request)
        if isinstance(head, Refusal):
            return refuse(request, head)
        if not head.wants_websocket:
            removed = bool(head.all("sec-websocket-key"))
            return refuse(request, refuse_removed_upgrade() if removed else needs_websocket(request.path or b""))
        accept = check(head, self._local_policy if _is_loopback(request) else self._policy)
        if isinstance(accept, Refusal):
            return refuse(request, accept)
        self._take_over(request, head, accept)
        return NOT_DONE_YET

    def _take_over(self, request: Request, head: Head, accept: Accept) -> None:
        channel: Any = request.channel
        # From now on, the endpoint receives the connection's bytes, as in twisted.web's own WebSocket resource.
        rest = channel.clearLineBuffer()
        channel.setTimeout(None)
        channel.transport.unregisterProducer()
        endpoint = self._protocol()
        channel.dataReceived = endpoint.dataReceived
        channel.connectionLost = endpoint.connectionLost
        endpoint.makeConnection(channel.transport)
        endpoint.begin(head, accept, rest)


def _is_loopback(request: Request) -> bool:
    # The site's listeners are unknown here. A connection to a loopback address comes from this machine.
    address = request.getHost()
    return isinstance(address, IPv4Address | IPv6Address) and ipaddress.ip_address(address.host).is_loopback


def _head(request: Request) -> Head | Refusal:
    """Check the request head, which twisted.web has parsed, against the rules of `wsserver.wire.http11`."""
    match = re.fullmatch(rb"HTTP/([0-9])\.([0-9])", request.clientproto)
    version = (int(match[1]), int(match[2])) if match else (0, 9)
    fields = [(name, value) for name, values in request.requestHeaders.getAllRawHeaders() for value in values]
    return make(request.method, request.uri, version, fields)
