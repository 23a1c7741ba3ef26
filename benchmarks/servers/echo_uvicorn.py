"""uvicorn on uvloop, with the WebSocket implementation it prefers; with --wsproto on wsproto."""

import sys

import arguments
import uvicorn


async def echo(scope, receive, send):
    """Echo one connection's messages, as plain ASGI."""
    if scope["type"] != "websocket":
        return
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": event.get("text"), "bytes": event.get("bytes")})


implementation = "auto"
if "--wsproto" in sys.argv:
    sys.argv.remove("--wsproto")
    implementation = "wsproto"
options = arguments.read()
uvicorn.run(
    echo,
    host="127.0.0.1",
    port=options.port,
    loop="uvloop",
    ws=implementation,
    ws_max_size=arguments.MAX_SIZE,
    ws_ping_interval=options.ping,
    ws_per_message_deflate=options.compression,
    ssl_certfile=options.cert,
    ssl_keyfile=options.key,
    lifespan="off",
    log_config=None,
    access_log=False,
)
