"""Autobahn|Python on Twisted's epoll reactor: a message prepared once, sent to each, as in its broadcast example."""

import arguments
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet import reactor


class Client(WebSocketServerProtocol):
    """A subscriber, or on /publish the publisher."""

    def onOpen(self):
        """Subscribe."""
        if self.http_request_path != "/publish":
            subscribers.add(self)

    def onMessage(self, payload, isBinary):
        """Publish one message."""
        prepared = factory.prepareMessage(payload, isBinary)
        for one in subscribers:
            one.sendPreparedMessage(prepared)

    def onClose(self, *_):
        """Leave."""
        subscribers.discard(self)


options = arguments.read()
subscribers = set()
factory = WebSocketServerFactory()
factory.protocol = Client
reactor.listenTCP(options.port, factory, interface="127.0.0.1", backlog=1024)
reactor.run()
