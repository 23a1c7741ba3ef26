"""The wires of the clients: HTTP/1.1 and RESP on plain sockets, as little of each as is needed."""

import asyncio
import contextlib
import json
from collections.abc import Mapping
from typing import Any

__all__ = ["HTTP", "Lost", "Redis", "get"]

TIMEOUT = 8.0
"""Seconds after which an answer counts as one that does not come."""


class Lost(Exception):
    """The other end is away."""


class HTTP:
    """
    A connection to a server that is kept open, and made again when it is lost.

    Args:
        key: of the API.
    """

    def __init__(self, key: str) -> None:
        self._key = key
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, port: int, path: str, body: Mapping[str, Any]) -> tuple[int, Any]:
        """
        Post an object.

        Args:
            port: where, for a new connection.
            path: where.
            body: what.

        Returns:
            Status and answer.

        Raises:
            Lost: whether it was taken is not known.
        """
        encoded = json.dumps(body).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: {self._key}\r\nContent-Length: {len(encoded)}\r\n"
        )
        try:
            async with asyncio.timeout(TIMEOUT):
                if self._streams is None:
                    self._streams = await asyncio.open_connection("127.0.0.1", port)
                reader, writer = self._streams
                writer.write(head.encode() + b"Content-Type: application/json\r\n\r\n" + encoded)
                status, headers = await read_head(reader)
                content = await reader.readexactly(int(headers.get("content-length", 0)))
        except (OSError, EOFError, TimeoutError, ValueError) as error:
            self.close()
            raise Lost(str(error)) from error
        if headers.get("connection", "").lower() == "close":
            self.close()
        return status, json.loads(content) if content.startswith(b"{") else None

    def close(self) -> None:
        """Let the connection go."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None


async def read_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    """Read the head of a response: status, and headers by their names in lower case."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines[1:] if line)
    return int(lines[0].split(" ")[1]), {name.lower(): value.strip() for name, _, value in pairs}


async def get(port: int, path: str) -> int:
    """Get a page; returns the status, 0 where nobody answers."""
    writer = None
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
            return (await read_head(reader))[0]
    except (OSError, EOFError, TimeoutError):
        return 0
    finally:
        if writer is not None:
            writer.transport.abort()


class Redis:
    """A connection to Redis for `PUBLISH`, made again when it is lost."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def publish(self, channel: str, data: bytes) -> None:
        """
        Publish.

        Raises:
            Lost: whether it was taken is not known.
        """
        try:
            async with asyncio.timeout(TIMEOUT):
                if self._streams is None:
                    self._streams = await asyncio.open_connection("127.0.0.1", self._port)
                reader, writer = self._streams
                name = channel.encode()
                words = (b"PUBLISH", name, data)
                writer.write(b"*3\r\n" + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))
                answer = await reader.readuntil(b"\r\n")
                if not answer.startswith(b":"):
                    raise Lost(answer.decode())
        except (OSError, EOFError, TimeoutError, Lost) as error:
            self.close()
            raise Lost(str(error)) from error

    def close(self) -> None:
        """Let the connection go."""
        if self._streams is not None:
            with contextlib.suppress(RuntimeError):
                self._streams[1].transport.abort()
            self._streams = None
