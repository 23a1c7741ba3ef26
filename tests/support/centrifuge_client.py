"""Centrifuge clients that send raw commands: a client in memory, and one on a connection to a test server."""

import json

from peers import TEXT

__all__ = ["PATH", "Client", "ask"]

PATH = "/connection/websocket"


class Client:
    """A Centrifuge client in memory."""

    def __init__(self, server, target=PATH, headers=None):
        self.clock, self._id = server.clock, 0
        self.peer = server.connect()
        self.head = self.peer.open(target, headers or {})

    def turn(self):
        """Run three turns of the reactor."""
        for _ in range(3):
            self.clock.advance(0)

    def receive(self):
        """Return the messages since the last call, one object per line."""
        self.turn()
        return [json.loads(line) for text in self.peer.messages() for line in text.split("\n")]

    def send(self, *commands):
        """Send commands in one frame, without waiting for the replies."""
        self.peer.send_text("\n".join(map(json.dumps, commands)))

    def request(self, method, /, **fields):
        """Send a command and return its reply; drop all other messages."""
        self._id += 1
        self.send({"id": self._id, method: fields})
        replies = [one for one in self.receive() if one.get("id") == self._id]
        assert len(replies) == 1
        return replies[0].get(method, replies[0].get("error"))

    def connected(self, **fields):
        """Connect, and return the client itself."""
        assert self.request("connect", **fields)["client"]
        return self

    def closed(self):
        """Return the code and reason of the server's close frame; None if the connection is open."""
        self.turn()
        return self.peer.close_frame()


def ask(peer, method, parameters):
    """Send a command on a connection to a test server; return the reply, as it is written."""
    peer.send_frame(TEXT, b'{"id":1,"%b":%b}' % (method, parameters))
    reply = peer.read_frame().payload
    assert reply.startswith(b'{"id":1,"%b":' % method), reply
    return reply
