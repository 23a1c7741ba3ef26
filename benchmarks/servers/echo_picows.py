"""Echo server: picows on uvloop. picows uses the transports of aiofastnet if that is installed."""

import arguments
import uvloop
from picows import WSListener, WSMsgType, ws_create_server


class Echo(WSListener):
    """One connection."""

    def on_ws_frame(self, transport, frame):
        """Send a message back. Fragments are ignored, because the load generator sends none."""
        if frame.msg_type in {WSMsgType.TEXT, WSMsgType.BINARY}:
            transport.send(frame.msg_type, frame.get_payload_as_memoryview())
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()


async def main():
    """Serve until the process is stopped."""
    options = arguments.read()
    more = {"enable_auto_ping": True, "auto_ping_idle_timeout": options.ping} if options.ping else {}
    server = await ws_create_server(
        lambda _request: Echo(),
        "127.0.0.1",
        options.port,
        ssl=arguments.tls(options),
        max_frame_size=arguments.MAX_SIZE,
        **more,
    )
    await server.serve_forever()


uvloop.run(main())
