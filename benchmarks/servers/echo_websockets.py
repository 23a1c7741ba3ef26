"""Echo server: websockets on asyncio, or on uvloop if `--uvloop` is set."""

import asyncio
import sys

import arguments
from websockets.asyncio.server import serve


async def echo(connection):
    """Echo the messages of one connection."""
    async for message in connection:
        await connection.send(message)


async def main():
    """Serve until the process is stopped."""
    async with serve(
        echo,
        "127.0.0.1",
        options.port,
        ssl=arguments.tls(options),
        compression="deflate" if options.compression else None,
        max_size=arguments.MAX_SIZE,
        ping_interval=options.ping,
    ) as server:
        await server.serve_forever()


if __name__ == "__main__":
    run = asyncio.run
    if "--uvloop" in sys.argv:
        sys.argv.remove("--uvloop")
        import uvloop

        run = uvloop.run
    options = arguments.read()
    run(main())
