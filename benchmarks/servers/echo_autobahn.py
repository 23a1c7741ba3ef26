"""Echo server: Autobahn|Python on Twisted's epoll reactor, as in Autobahn's documentation."""

import arguments
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.compress import PerMessageDeflateOfferAccept
from twisted.internet import reactor, ssl


class Echo(WebSocketServerProtocol):
    """One connection."""

    def onMessage(self, payload, isBinary):
        """Send the message back."""
        self.sendMessage(payload, isBinary)


options = arguments.read()
factory = WebSocketServerFactory()
factory.protocol = Echo
factory.setProtocolOptions(maxMessagePayloadSize=arguments.MAX_SIZE, autoPingInterval=options.ping or 0)
if options.compression:
    factory.setProtocolOptions(
        perMessageCompressionAccept=lambda offers: PerMessageDeflateOfferAccept(offers[0]) if offers else None
    )
if options.cert:
    context = ssl.DefaultOpenSSLContextFactory(options.key, options.cert)
    reactor.listenSSL(options.port, factory, context, interface="127.0.0.1")
else:
    reactor.listenTCP(options.port, factory, interface="127.0.0.1")
reactor.run()
