"""The client of the package websockets, which runs all cases: python websockets_all.py SERVER [autobahn]."""

import asyncio
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

AGENT = "websockets"


async def run_case(url):
    """Send back every message until the server closes the connection."""
    try:
        async with connect(url, max_size=None, ping_interval=None, close_timeout=5) as connection:
            async for message in connection:
                await connection.send(message)
    except (WebSocketException, OSError):
        pass


async def main(server, form):
    """Run the cases one after the other."""
    async with connect(f"{server}/getCaseCount") as connection:
        count = int(await connection.recv())
    path = "/runCase?case={}&agent={}" if form == "autobahn" else "/case/{}?agent={}"
    for number in range(1, count + 1):
        await run_case(server + path.format(number, AGENT))
    await run_case(f"{server}/updateReports?agent={AGENT}")


asyncio.run(main(sys.argv[1], *sys.argv[2:] or ["own"]))
