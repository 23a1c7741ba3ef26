"""Play the scenarios with websockets and aiohttp; reads them from the standard input, and prints the reports."""

import asyncio
import json
import sys

import aiohttp
import websockets
from websockets.asyncio.client import connect

AT_ONCE = 45


def show(code, messages, *, was_open=False):
    """Return a report: how many messages came, and how the connection ended, or that it did not."""
    count = f", {messages} message{'s' if messages > 1 else ''}" if messages else ""
    if was_open:
        return f"open{count}" + ("" if code == 1000 else f"; then {code}")
    return f"{code}{count}"


async def play_websockets(url, scenario, quiet):
    messages = 0
    pings = 0.5 if scenario["pings"] else None
    try:
        connection = await connect(
            url, open_timeout=quiet, close_timeout=1, ping_interval=pings, ping_timeout=1, proxy=None
        )
    except Exception as error:
        return type(error).__name__
    try:
        await connection.send("hello")
        while True:
            await asyncio.wait_for(connection.recv(), quiet)
            messages += 1
    except TimeoutError:
        await connection.close()
        return show(connection.close_code, messages, was_open=True)
    except websockets.ConnectionClosed as error:
        sent = f" (sent {error.sent.code})" if error.sent and not error.rcvd else ""
        return show(f"{connection.close_code}{sent}", messages)


async def play_aiohttp(url, scenario, quiet, session):
    messages = 0
    try:
        connection = await asyncio.wait_for(
            session.ws_connect(
                url,
                heartbeat=1 if scenario["pings"] else None,
                timeout=aiohttp.ClientWSTimeout(ws_close=1),
                compress=15 if scenario["compresses"] else 0,
            ),
            quiet,
        )
    except Exception as error:
        return type(error).__name__
    await connection.send_str("hello")

    async def receive():
        nonlocal messages, last
        while True:
            message = await connection.receive()
            if message.type not in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                return
            messages += 1
            last = asyncio.get_running_loop().time()

    last = asyncio.get_running_loop().time()
    receiving = asyncio.ensure_future(receive())
    # aiohttp counts a timeout of `receive` as the loss of the connection, so the receiver goes on.
    while not receiving.done() and asyncio.get_running_loop().time() - last < quiet:
        await asyncio.wait([receiving], timeout=0.1)
    was_open = not receiving.done()
    code = connection.close_code
    await connection.close()
    receiving.cancel()
    return show(connection.close_code if was_open else code, messages, was_open=was_open)


async def limit(playing):
    try:
        return await asyncio.wait_for(playing, 15)
    except TimeoutError:
        return "does not end"


async def main():
    given = json.loads(sys.stdin.read())
    gate = asyncio.Semaphore(AT_ONCE)
    reports = {"websockets": {}, "aiohttp": {}}

    async def play(client, scenario):
        async with gate:
            url = f"ws://127.0.0.1:{given['port']}{scenario['target']}"
            if client == "websockets":
                report = await limit(play_websockets(url, scenario, given["quiet"]))
            else:
                async with aiohttp.ClientSession() as session:
                    report = await limit(play_aiohttp(url, scenario, given["quiet"], session))
            reports[client][scenario["target"]] = report

    await asyncio.gather(*(play(client, scenario) for client in reports for scenario in given["scenarios"]))
    print(json.dumps(reports))


asyncio.run(main())
