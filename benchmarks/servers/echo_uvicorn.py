"""Echo server: uvicorn on uvloop, with uvicorn's default WebSocket library, or with wsproto if `--wsproto` is set."""

import sys

import arguments
import uvicorn


async def echo(scope, receive, send):
    """Echo the messages of one connection, as an ASGI application without a framework."""
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
