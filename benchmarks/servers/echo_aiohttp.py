"""Echo server: aiohttp on uvloop."""

import arguments
import uvloop
from aiohttp import WSMsgType, web


async def echo(request):
    """Echo the messages of one connection."""
    connection = web.WebSocketResponse(
        compress=options.compression, max_msg_size=arguments.MAX_SIZE, heartbeat=options.ping
    )
    await connection.prepare(request)
    async for message in connection:
        if message.type == WSMsgType.TEXT:
            await connection.send_str(message.data)
        elif message.type == WSMsgType.BINARY:
            await connection.send_bytes(message.data)
    return connection


options = arguments.read()
app = web.Application()
app.router.add_get("/{path:.*}", echo)
web.run_app(
    app,
    host="127.0.0.1",
    port=options.port,
    ssl_context=arguments.tls(options),
    access_log=None,
    print=None,
    loop=uvloop.new_event_loop(),
)
