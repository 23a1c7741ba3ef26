"""Fan-out server: websockets on uvloop, with the function `broadcast` of websockets."""

import arguments
import uvloop
from websockets.asyncio.server import broadcast, serve

subscribers = set()


async def client(connection):
    """Serve a subscriber, or the publisher if the path is `/publish`."""
    if connection.request.path != "/publish":
        subscribers.add(connection)
        try:
            await connection.wait_closed()
        finally:
            subscribers.discard(connection)
        return
    async for message in connection:
        broadcast(subscribers, message)


async def main():
    """Serve until the process is stopped."""
    async with serve(client, "127.0.0.1", arguments.read().port, compression=None, ping_interval=None) as server:
        await server.serve_forever()


uvloop.run(main())
