"""websockets on uvloop, with its own broadcast()."""

import arguments
import uvloop
from websockets.asyncio.server import broadcast, serve

subscribers = set()


async def client(connection):
    """Serve a subscriber, or on /publish the publisher."""
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
    """Serve."""
    async with serve(client, "127.0.0.1", arguments.read().port, compression=None, ping_interval=None) as server:
        await server.serve_forever()


uvloop.run(main())
