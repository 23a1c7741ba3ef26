"""
Fan-out server: wsserver embedded in an application.

Subscribers connect to `/ws?channel=foo`; an endpoint of the application publishes each message that it receives.
"""

import sys

from twisted.application.service import Application
from twisted.internet import reactor

from wsserver.service import WebSocketService
from wsserver.tap import Options
from wsserver.wire.protocol import ServerProtocol


class Publish(ServerProtocol):
    """The endpoint `/publish`: publishes every message to the channel `foo`."""

    def onMessage(self, payload, _is_binary):
        """Publish one message."""
        service.hub.publish("foo", payload)


class PublishInTurn(ServerProtocol):
    """The endpoint `/publish-in-turn`: publishes to the channels c00000, c00001 and so on, in turn."""

    turn = 0

    def onMessage(self, payload, _is_binary):
        """Publish one message."""
        service.hub.publish(f"c{self.turn:05}", payload)
        self.turn = (self.turn + 1) % 10_000


options = Options()
options.parseOptions(["--port", *sys.argv[1:]])
endpoints = {"/publish": Publish, "/publish-in-turn": PublishInTurn}
service = WebSocketService(options.settings, reactor, endpoints=endpoints)
service.setServiceParent(Application("wsserver"))
reactor.callWhenRunning(service.startService)
reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
reactor.run()
