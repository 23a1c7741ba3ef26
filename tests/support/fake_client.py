"""A Centrifuge client that is registered with a hub without a connection."""

from wsserver.typing import ChannelName

__all__ = ["FakeClient", "join"]


class FakeClient:
    """A connection of a Centrifuge SDK that only records what is done with it."""

    def __init__(self, client, user="", channels=()):
        self.client = client
        self.user = user
        self.channels = {ChannelName(name) for name in channels}
        self.done = []

    def describe(self):
        return {"transport": "websocket", "protocol": "json"}

    def disconnect(self, code, reason):
        self.done.append(("disconnect", code, reason))

    def expire(self):
        self.done.append(("expire",))

    def unsubscribe(self, channel):
        self.done.append(("unsubscribe", channel))

    def subscribe(self, channel, options):
        self.done.append(("subscribe", channel, options))
        return True

    def refresh(self, expire_at):
        self.done.append(("refresh", expire_at))
        return True


def join(server, client):
    """Register a client with the server's hub."""
    server.ask(lambda: server.service.hub.clients.add(client))
    return client
