"""Tornado on asyncio, its own loop."""

import asyncio

import arguments
import tornado.web
import tornado.websocket


class Echo(tornado.websocket.WebSocketHandler):
    """Sends every message back."""

    def get_compression_options(self):
        """Agree to compression, or don't."""
        return {} if options.compression else None

    def open(self, *_):
        """Leave Nagle's algorithm out of it, as the documentation advises for small messages."""
        self.set_nodelay(True)

    def on_message(self, message):
        """Echo one message."""
        self.write_message(message, binary=isinstance(message, bytes))


async def main():
    """Serve."""
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
