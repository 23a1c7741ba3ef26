"""Fan-out server: picows on uvloop. picows uses the transports of aiofastnet if that is installed."""

import arguments
import uvloop
from picows import WSListener, WSMsgType, ws_create_server


class Client(WSListener):
    """The connection of a subscriber, or of the publisher if its path is `/publish`."""

    def __init__(self, subscribes):
        super().__init__()
        self.subscribes = subscribes

    def on_ws_connected(self, transport):
        """Add a subscriber."""
        if self.subscribes:
            subscribers.add(transport)

    def on_ws_disconnected(self, transport):
        """Remove a subscriber."""
        subscribers.discard(transport)

    def on_ws_frame(self, transport, frame):
        """Send a message of the publisher to all subscribers."""
        if frame.msg_type in {WSMsgType.TEXT, WSMsgType.BINARY}:
            payload, kind = frame.get_payload_as_bytes(), frame.msg_type
            for one in subscribers:
                one.send(kind, payload)
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()


async def main():
    """Serve until the process is stopped."""
    server = await ws_create_server(
        lambda request: Client(request.path != b"/publish"), "127.0.0.1", arguments.read().port, backlog=1024
    )
    await server.serve_forever()


subscribers = set()
uvloop.run(main())
