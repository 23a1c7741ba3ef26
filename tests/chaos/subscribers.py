"""
Subscribers of every kind, which record what they receive and reconnect after they are disconnected.

Each behaves like a client of its kind: one with the JSON format remembers epoch and offset of its last publication, an
`EventSource` the id of its last event, and a Centrifuge client counts from the position of its subscription.
"""

import asyncio
import json
import random
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Self
from urllib.parse import quote

import websockets
from accounts import Disconnected, Event, GapNotice, Log, Position, Received, Recovered, Subscribed
from centrifuge.fossil import apply_delta
from net import HTTP, NoAnswerError, read_head
from protobuf_messages import decode_replies, encode_commands
from websockets.asyncio.client import ClientConnection

__all__ = [
    "KINDS",
    "Centrifuge",
    "CentrifugeDelta",
    "CentrifugeProtobuf",
    "CentrifugeStream",
    "Events",
    "JSONFormat",
    "RawFormat",
    "Subscriber",
]

BACKOFF = (0.1, 1.0)
"""Minimum and maximum seconds between two attempts to connect."""

TIMEOUT = 8.0
"""Seconds to wait for a response to a request to connect or to subscribe."""

RECEIVE_BUFFER = 64 * 1024
"""Bytes of the kernel's receive buffer; with a larger one, a subscriber slow for seconds would not be noticed."""


class Subscriber:
    """
    A subscriber.

    Args:
        name: its name in the report.
        channels: the channels to subscribe to.
        ports: the ports of the servers; each connection goes to any of them, as behind a load balancer.
        rng: the random number generator for all choices.
    """

    kind = ""

    def __init__(self, name: str, channels: Sequence[str], ports: Sequence[int], rng: random.Random) -> None:
        self.name = name
        self.logs = {channel: Log(name, self.kind, channel) for channel in channels}
        self.port = 0
        self._ports, self._rng = ports, rng
        self._reads = asyncio.Event()
        self._reads.set()
        self._abort: Callable[[], None] | None = None
        self._away = 0.0
        """Seconds to wait before reconnecting after the next loss of the connection."""

    async def run(self) -> None:
        """Subscribe, and reconnect, until cancelled."""
        attempt = 0
        while True:
            self.port = self._rng.choice(self._ports)
            before = self._count()
            try:
                await self._listen()
            except (OSError, EOFError, TimeoutError, websockets.WebSocketException):
                pass
            finally:
                self._abort = None
            for channel in self.logs:
                self._left(channel)
            attempt = 0 if self._count() > before else attempt + 1
            away, self._away = self._away, 0.0
            await asyncio.sleep(away + min(BACKOFF[0] * 2**attempt, BACKOFF[1]) * self._rng.uniform(0.7, 1.3))

    def _count(self) -> int:
        return sum(len(log.events) for log in self.logs.values())

    def drop(self, away: float) -> None:
        """Reset the connection, and reconnect after some seconds."""
        if self._abort is not None:
            self._away = away
            self._abort()

    async def stall(self, seconds: float) -> None:
        """Read nothing for some seconds."""
        self._reads.clear()
        await asyncio.sleep(seconds)
        self._reads.set()

    async def _listen(self) -> None:
        raise NotImplementedError

    async def _socket(self) -> socket.socket:
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        connection.setblocking(False)
        try:
            async with asyncio.timeout(TIMEOUT):
                await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", self.port))
        except BaseException:
            connection.close()
            raise
        return connection

    async def _websocket(self, path: str) -> ClientConnection:
        connection = await websockets.connect(
            f"ws://127.0.0.1:{self.port}{path}",
            sock=await self._socket(),
            compression=None,
            ping_interval=None,
            open_timeout=TIMEOUT,
            close_timeout=1,
            max_queue=16,
            max_size=None,
            proxy=None,
        )
        self._abort = connection.transport.abort
        return connection

    def _note(self, channel: str, event: Event) -> None:
        self.logs[channel].events.append(event)

    def _left(self, channel: str) -> None:
        events = self.logs[channel].events
        if events and not isinstance(events[-1], Disconnected):
            events.append(Disconnected(time.monotonic()))

    def _received(self, channel: str, data: Any, position: Position | None, *, was_delta: bool = False) -> None:
        # A text that was published is one here, a value a value.
        value = json.loads(data) if isinstance(data, str) else data
        self._note(channel, Received(time.monotonic(), value["n"], position, was_delta))


class RawFormat(Subscriber):
    """`/ws?channel=foo`: receives no offsets, so it cannot recover."""

    kind = "raw"

    async def _listen(self) -> None:
        (channel,) = self.logs
        connection = await self._websocket(f"/ws?channel={quote(channel)}")
        async with connection:
            self._note(channel, Subscribed(time.monotonic()))
            async for message in connection:
                value = json.loads(message)
                if value.get("event") == "gap":
                    self._note(channel, GapNotice(time.monotonic()))
                else:
                    self._received(channel, value, None)
                await self._reads.wait()


class Envelopes(Subscriber):
    """Common code of subscribers that receive each publication with its channel and position."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._positions: dict[str, Position] = {}

    def _take(self, message: Any) -> None:
        value = json.loads(message)
        channel = value["channel"]
        if value.get("event") == "gap":
            self._note(channel, GapNotice(time.monotonic()))
            return
        position = Position(value["epoch"], value["offset"]) if "offset" in value else None
        if position is not None:
            self._positions[channel] = position
        self._received(channel, value["data"], position)


class JSONFormat(Envelopes):
    """`/ws?channel=foo,bar&format=json&last_event_id=...`."""

    kind = "json"

    async def _listen(self) -> None:
        path = f"/ws?format=json&channel={quote(','.join(self.logs))}"
        known = dict(self._positions)
        if known:
            where = (f"{known[name].epoch}:{known[name].offset}" if name in known else "-" for name in self.logs)
            path += f"&last_event_id={quote(','.join(where))}"
        connection = await self._websocket(path)
        async with connection:
            for channel in self.logs:
                at = time.monotonic()
                self._note(channel, Recovered(at) if channel in known else Subscribed(at))
            async for message in connection:
                self._take(message)
                await self._reads.wait()


class Events(Envelopes):
    """`/sse?channel=foo,bar&format=json` with `Last-Event-ID`, as `EventSource` sends it."""

    kind = "sse"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._last_id = ""

    async def _listen(self) -> None:
        reader, writer = await asyncio.open_connection(sock=await self._socket(), limit=1024 * 1024)
        self._abort = writer.transport.abort
        try:
            last = f"Last-Event-ID: {self._last_id}\r\n" if self._last_id else ""
            path = f"/sse?format=json&channel={quote(','.join(self.logs))}"
            writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{last}\r\n".encode())
            async with asyncio.timeout(TIMEOUT):
                status, headers = await read_head(reader)
            if status != 200 or headers.get("transfer-encoding") != "chunked":
                return
            await self._read(reader)
        finally:
            writer.transport.abort()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        rest = b""
        while True:
            size = int(await reader.readuntil(b"\r\n"), 16)
            rest += (await reader.readexactly(size + 2))[:-2]
            if not size:
                return
            *events, rest = rest.split(b"\n\n")
            for event in events:
                self._event(event.decode())
            await self._reads.wait()

    def _event(self, text: str) -> None:
        fields = dict(line.split(": ", 1) for line in text.split("\n") if not line.startswith(":"))
        if text == ": listening":
            for channel in self.logs:
                at = time.monotonic()
                self._note(channel, Recovered(at) if self._last_id else Subscribed(at))
        if "data" in fields:
            self._take(fields["data"])
        self._last_id = fields.get("id", self._last_id)


class Centrifuge(Subscriber):
    """The Centrifuge protocol, version 2, in JSON, with recovery; it also publishes."""

    kind = "centrifuge"
    path = "/connection/websocket"
    options: Mapping[str, Any] = {}
    """Further fields of the subscribe command."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._positions: dict[str, Position] = {}
        self._connection: ClientConnection | StreamConnection | None = None
        self._number = 0
        self._asked: dict[int, str] = {}
        """Id of a subscribe command -> channel."""
        self._published: dict[int, asyncio.Future[bool | None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def publish(self, channel: str, data: Any) -> bool | None:
        """Publish; return whether the server acknowledged it, or None if that is unknown."""
        connection = self._connection
        if connection is None:
            return False
        done = asyncio.get_running_loop().create_future()
        number = self._next()
        self._published[number] = done
        try:
            async with asyncio.timeout(TIMEOUT):
                await self._send(connection, {"id": number, "publish": {"channel": channel, "data": data}})
                return await done
        except (OSError, EOFError, TimeoutError, websockets.WebSocketException):
            return None
        finally:
            self._published.pop(number, None)

    def _next(self) -> int:
        self._number += 1
        return self._number

    # The form of the protocol; a command's data is a JSON value.

    def _encode(self, command: dict[str, Any]) -> str | bytes:
        return json.dumps(command)

    def _decode(self, message: str | bytes) -> list[dict[str, Any]]:
        return [json.loads(line) for line in str(message).split("\n")]

    async def _send(self, connection: "ClientConnection | StreamConnection", command: dict[str, Any]) -> None:
        await connection.send(self._encode(command))

    async def _open(self) -> "ClientConnection | StreamConnection":
        return await self._websocket(self.path)

    async def _listen(self) -> None:
        self._asked.clear()
        connection = await self._open()
        try:
            async with connection:
                await self._send(connection, {"id": self._next(), "connect": {}})
                connect = self._number
                async for message in connection:
                    for reply in self._decode(message):
                        await self._take(connection, connect, reply)
                    await self._reads.wait()
        finally:
            self._connection = None
            for done in self._published.values():
                if not done.done():
                    done.set_result(None)
            for task in self._tasks:
                task.cancel()

    async def _take(self, connection: "ClientConnection | StreamConnection", connect: int, reply: Any) -> None:
        number = reply.get("id", 0)
        if not reply:
            await self._send(connection, {})
        elif number == connect:
            if "error" in reply:
                await connection.close()
                return
            self._connection = connection
            for channel in self.logs:
                await self._subscribe(connection, channel)
        elif number in self._asked:
            self._subscribed(connection, self._asked.pop(number), reply)
        elif number in self._published:
            done = self._published[number]
            if not done.done():
                # Error 100 is an internal error: the publication may have been stored.
                if reply.get("error", {}).get("code") == 100:
                    done.set_result(None)
                else:
                    done.set_result("error" not in reply)
        elif "push" in reply:
            self._pushed(connection, reply["push"])

    async def _subscribe(self, connection: "ClientConnection | StreamConnection", channel: str) -> None:
        number = self._next()
        self._asked[number] = channel
        command: dict[str, Any] = {"channel": channel, **self.options}
        if channel in self._positions:
            position = self._positions[channel]
            command |= {"recover": True, "epoch": position.epoch, "offset": position.offset}
        await self._send(connection, {"id": number, "subscribe": command})

    def _subscribe_later(self, connection: "ClientConnection | StreamConnection", channel: str) -> None:
        async def wait() -> None:
            await asyncio.sleep(self._rng.uniform(0.1, 0.4))
            await self._subscribe(connection, channel)

        task = asyncio.create_task(wait())
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        # The reader notices a connection that was closed while this task waited.
        if not task.cancelled() and isinstance(task.exception(), websockets.WebSocketException):
            return

    def _subscribed(self, connection: "ClientConnection | StreamConnection", channel: str, reply: Any) -> None:
        if "error" in reply:
            self._subscribe_later(connection, channel)
            return
        result, at = reply["subscribe"], time.monotonic()
        position = None
        # A channel without history has no positions.
        if result.get("positioned"):
            position = self._positions[channel] = Position(result["epoch"], result.get("offset", 0))
        self._note(channel, Recovered(at) if result.get("recovered") else Subscribed(at, position))
        for one in result.get("publications", ()):
            self._publication(channel, one)

    def _publication(self, channel: str, one: Any) -> None:
        position = None
        if one.get("offset"):
            position = self._positions[channel] = Position(self._positions[channel].epoch, one["offset"])
        self._received(channel, self._read_data(channel, one), position, was_delta=one.get("delta", False))

    def _read_data(self, channel: str, one: Any) -> Any:
        return one["data"]

    def _pushed(self, connection: "ClientConnection | StreamConnection", push: Any) -> None:
        if "pub" in push:
            self._publication(push["channel"], push["pub"])
        elif "unsubscribe" in push:
            self._left(push["channel"])
            self._subscribe_later(connection, push["channel"])
        elif push.get("message", {}).get("data", {}).get("event") == "gap":
            self._note(push["message"]["data"]["channel"], GapNotice(time.monotonic(), stream=False))


class CentrifugeProtobuf(Centrifuge):
    """The same in Protobuf."""

    kind = "protobuf"
    path = "/connection/websocket?format=protobuf"

    def _encode(self, command: dict[str, Any]) -> bytes:
        publish = command.get("publish")
        if publish is not None:
            command = {**command, "publish": {**publish, "data": json.dumps(publish["data"]).encode()}}
        return encode_commands(command)

    def _decode(self, message: str | bytes) -> list[dict[str, Any]]:
        assert isinstance(message, bytes)
        replies = decode_replies(message)
        for reply in replies:
            push, result = reply.get("push", {}), reply.get("subscribe", {})
            for content in (push.get("pub"), push.get("message"), *result.get("publications", ())):
                if content is not None:
                    content["data"] = json.loads(content["data"])
        return replies


class StreamConnection:
    """
    A connection over HTTP: the response to the first command never ends, and each further command is a request.

    Args:
        reader: reads from the connection of the first request.
        writer: writes to it.
        port: returns the port of any server, for each request.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: Callable[[], int]) -> None:
        self._reader, self._writer = reader, writer
        self._port = port
        self._http = HTTP("")
        self._turn = asyncio.Lock()
        self._session: dict[str, str] | None = None
        """The session and the server that has it, from the reply to the first command."""
        self._is_open = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *about: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        self._http.close()
        self._writer.transport.abort()

    async def send(self, commands: str) -> None:
        """
        Send commands. A lost or refused request also closes the connection.

        Raises:
            OSError: the commands may not have been executed.
        """
        if not self._is_open:
            self._is_open = True
            body = commands.encode()
            head = f"POST /connection/http_stream HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
            self._writer.write(head.encode() + body)
            return
        async with self._turn:
            try:
                status, _ = await self._http.post(
                    self._port(), "/emulation", {**(self._session or {}), "data": commands}
                )
            except NoAnswerError as error:
                await self.close()
                raise OSError(str(error)) from error
            finally:
                # The next request goes to any server.
                self._http.close()
        if status != 204:
            await self.close()
            raise OSError(f"the commands were refused with {status}")

    async def __aiter__(self) -> AsyncIterator[str]:
        async with asyncio.timeout(TIMEOUT):
            status, headers = await read_head(self._reader)
        if status != 200 or headers.get("transfer-encoding") != "chunked":
            return
        rest = b""
        while True:
            size = int(await self._reader.readuntil(b"\r\n"), 16)
            rest += (await self._reader.readexactly(size + 2))[:-2]
            if not size:
                return
            *lines, rest = rest.split(b"\n")
            for line in lines:
                if self._session is None:
                    connect = json.loads(line).get("connect", {})
                    self._session = {name: connect.get(name, "") for name in ("session", "node")}
                yield line.decode()


class CentrifugeStream(Centrifuge):
    """The Centrifuge protocol in JSON over HTTP, as an SDK uses it where a proxy blocks WebSocket."""

    kind = "http_stream"

    async def _open(self) -> StreamConnection:
        reader, writer = await asyncio.open_connection(sock=await self._socket(), limit=1024 * 1024)
        self._abort = writer.transport.abort
        return StreamConnection(reader, writer, lambda: self._rng.choice(self._ports))


class CentrifugeDelta(Centrifuge):
    """The Centrifuge protocol in JSON; publications may be deltas."""

    kind = "delta"
    options: Mapping[str, Any] = {"delta": "fossil"}

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._last: dict[str, bytes] = {}
        """Channel -> the data of the last publication."""

    def _read_data(self, channel: str, one: Any) -> Any:
        data = one["data"].encode()
        self._last[channel] = apply_delta(self._last[channel], data) if one.get("delta") else data
        return json.loads(self._last[channel])


KINDS: tuple[type[Subscriber], ...] = (
    JSONFormat,
    RawFormat,
    Events,
    Centrifuge,
    CentrifugeProtobuf,
    CentrifugeStream,
    CentrifugeDelta,
)
"""All kinds of subscribers."""
