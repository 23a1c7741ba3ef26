"""
An application of your own with wsserver in it: run `twistd -ny application.py`.

It serves wsserver as a service (page, echo, commands and an endpoint of its own at /shout) on port 8080, and the same
endpoint as a resource of a twisted.web site on port 8081, at /shout too.
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
    """Send every text back in capitals."""

    def onMessage(self, payload, isBinary):
        """Answer."""
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
