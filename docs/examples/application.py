"""
A Twisted application that embeds wsserver. Run it with `twistd -ny application.py`.

On port 8080 it runs wsserver as a service, with the browser page, the built-in endpoints and its own endpoint /shout.
On port 8081 it runs a twisted.web site with the same endpoint as a resource, also at /shout.
"""

import os

from twisted.application.internet import StreamServerEndpointService
from twisted.application.service import Application
from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted.web.resource import Resource
from twisted.web.server import Site

from wsserver.config.settings import Settings
from wsserver.service import WebSocketService
from wsserver.web.resource import WebSocketResource
from wsserver.wire.protocol import ServerProtocol


class ShoutProtocol(ServerProtocol):
    """Return every text in capitals, and binary messages unchanged."""

    def onMessage(self, payload, isBinary):
        """Return the message."""
        self.sendMessage(payload if isBinary else payload.decode().upper().encode(), isBinary)


service_port = int(os.environ.get("SERVICE_PORT", "8080"))
site_port = int(os.environ.get("SITE_PORT", "8081"))

application = Application("shout")
settings = Settings(port=service_port)
WebSocketService(settings, reactor, endpoints={"/shout": ShoutProtocol}).setServiceParent(application)

root = Resource()
root.putChild(b"shout", WebSocketResource(ShoutProtocol, settings, reactor))
endpoint = serverFromString(reactor, f"tcp:{site_port}:interface=127.0.0.1")
StreamServerEndpointService(endpoint, Site(root)).setServiceParent(application)
