"""Echo server: Tornado on asyncio's own event loop."""

import asyncio

import arguments
import tornado.web
import tornado.websocket


class Echo(tornado.websocket.WebSocketHandler):
    """One connection."""

    def get_compression_options(self):
        """Enable permessage-deflate if `--compression` is set."""
        return {} if options.compression else None

    def open(self, *_):
        """Disable Nagle's algorithm, as Tornado's documentation recommends for small messages."""
        self.set_nodelay(True)

    def on_message(self, message):
        """Send the message back."""
        self.write_message(message, binary=isinstance(message, bytes))


async def main():
    """Serve until the process is stopped."""
    app = tornado.web.Application(
        [(r"/.*", Echo)],
        websocket_max_message_size=arguments.MAX_SIZE,
        websocket_ping_interval=options.ping,
        log_function=lambda _handler: None,
    )
    app.listen(options.port, "127.0.0.1", ssl_options=arguments.tls(options))
    await asyncio.Event().wait()


options = arguments.read()
asyncio.run(main())
