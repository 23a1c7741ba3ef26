"""
A chat with rooms. Run it with `twistd -ny chat.py`, and connect two clients to ws://127.0.0.1:8080/chat/lobby.

Each client receives what the other sends.
"""

import re

from twisted.application.service import Application
from twisted.internet import reactor

from wsserver.config.settings import Settings
from wsserver.service import WebSocketService
from wsserver.wire.protocol import ConnectionDeny, ServerProtocol


class ChatProtocol(ServerProtocol):
    def onConnect(self, request):
        if not re.fullmatch(r"\w{1,50}", self.subpath):
            raise ConnectionDeny(404, "no such room; connect to /chat/NAME")

    def onOpen(self):
        self.room = "chat:" + self.subpath
        self.subscription = self.service.hub.listen(self.room, self.on_publication, on_gap=self.on_gap)

    def onMessage(self, payload, isBinary):
        if isBinary:
            self.close(1003, "expected text")
        else:
            # As a `str`, so that a text stays a text: bytes that look like JSON are JSON for a Centrifuge client.
            publishing = self.service.hub.publish(self.room, payload.decode())
            publishing.addErrback(lambda _: self.close(1013, "try again later"))

    def on_publication(self, room, publication):
        self.sendMessage(publication.as_bytes(), isBinary=False)

    def on_gap(self, room):
        self.close(1012, "messages may be missing; connect again")

    def onClose(self, wasClean, code, reason):
        self.subscription.stop()


application = Application("chat")
service = WebSocketService(Settings.from_environment(), reactor, endpoints={"/chat/": ChatProtocol})
service.setServiceParent(application)
