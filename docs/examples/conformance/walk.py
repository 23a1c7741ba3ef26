"""Echo client for all conformance cases: wsserver conformance -- python walk.py {server}"""

import asyncio
import sys

import aiohttp


async def run_case(url):
    """Send back every message until the server closes the connection."""
    async with aiohttp.ClientSession() as session, session.ws_connect(url, compress=15, max_msg_size=0) as socket:
        async for message in socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                await socket.send_str(message.data)
            elif message.type is aiohttp.WSMsgType.BINARY:
                await socket.send_bytes(message.data)


async def main(server):
    """Ask for the number of cases, and run them one after the other."""
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{server}/case/count") as socket:
        count = int(await socket.receive_str())
    for number in range(1, count + 1):
        try:
            await run_case(f"{server}/case/{number}?agent=aiohttp")
        except (aiohttp.ClientError, ConnectionError):
            # Many cases must end like this: the server sends what a client has to reject.
            print("rejected", number)


asyncio.run(main(sys.argv[1]))
