"""Echo client for one conformance case: wsserver conformance -- python client.py {url}"""

import asyncio
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException


async def main(url):
    """Send back every message until the connection ends."""
    try:
        async with connect(url, max_size=None) as connection:
            async for message in connection:
                await connection.send(message)
    except (WebSocketException, OSError) as error:
        # Many cases must end like this: the server sends what a client has to reject.
        print(error)


asyncio.run(main(sys.argv[1]))
