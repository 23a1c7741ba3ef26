"""Fan-out server: Autobahn|Python on Twisted's epoll reactor; prepares each message once for all subscribers."""

import arguments
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet import reactor


class Client(WebSocketServerProtocol):
    """The connection of a subscriber, or of the publisher if its path is `/publish`."""

    def onOpen(self):
        """Add a subscriber."""
        if self.http_request_path != "/publish":
            subscribers.add(self)

    def onMessage(self, payload, isBinary):
        """Send a message of the publisher to all subscribers."""
        prepared = factory.prepareMessage(payload, isBinary)
        for one in subscribers:
            one.sendPreparedMessage(prepared)

    def onClose(self, *_):
        """Remove a subscriber."""
        subscribers.discard(self)


options = arguments.read()
subscribers = set()
factory = WebSocketServerFactory()
factory.protocol = Client
reactor.listenTCP(options.port, factory, interface="127.0.0.1", backlog=1024)
reactor.run()
