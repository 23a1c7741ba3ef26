"""The client of the package aiohttp, which runs all cases: python aiohttp_all.py SERVER [autobahn]."""

import asyncio
import sys

import aiohttp

AGENT = "aiohttp"


async def run_case(url):
    """Send back every message until the server closes the connection."""
    try:
        async with aiohttp.ClientSession() as session, session.ws_connect(url, compress=15, max_msg_size=0) as socket:
            async for message in socket:
                if message.type is aiohttp.WSMsgType.TEXT:
                    await socket.send_str(message.data)
                elif message.type is aiohttp.WSMsgType.BINARY:
                    await socket.send_bytes(message.data)
    except (aiohttp.ClientError, OSError):
        pass


async def main(server, form):
    """Run the cases one after the other."""
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{server}/getCaseCount") as socket:
        count = int(await socket.receive_str())
    path = "/runCase?case={}&agent={}" if form == "autobahn" else "/case/{}?agent={}"
    for number in range(1, count + 1):
        await run_case(server + path.format(number, AGENT))
    await run_case(f"{server}/updateReports?agent={AGENT}")


asyncio.run(main(sys.argv[1], *sys.argv[2:] or ["own"]))
