"""The clients' connections: HTTP/1.1 and RESP on plain sockets, only as much of each as is needed."""

import asyncio
import contextlib
import json
from collections.abc import Mapping
from typing import Any

__all__ = ["HTTP", "NoAnswerError", "Redis", "get"]

TIMEOUT = 8.0
"""Seconds to wait for a response."""


class NoAnswerError(Exception):
    """The connection failed, or no response came in time."""


class HTTP:
    """
    A persistent connection to a server, reopened after it is lost.

    Args:
        key: the API key.
    """

    def __init__(self, key: str) -> None:
        self._key = key
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, port: int, path: str, body: Mapping[str, Any]) -> tuple[int, Any]:
        """
        Post a JSON object.

        Args:
            port: the server's port, for a new connection.
            path: the path of the request.
            body: the object.

        Returns:
            The status, and the decoded body if it is a JSON object.

        Raises:
            NoAnswerError: no response came; the server may or may not have processed the request.
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
            raise NoAnswerError(str(error)) from error
        if headers.get("connection", "").lower() == "close":
            self.close()
        return status, json.loads(content) if content.startswith(b"{") else None

    def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None


async def read_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    """Read the head of a response; return the status, and the headers by lower-case name."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines[1:] if line)
    return int(lines[0].split(" ")[1]), {name.lower(): value.strip() for name, _, value in pairs}


async def get(port: int, path: str, patience: float = 2.0) -> int:
    """Get a page; return the status, or 0 without a response within `patience` seconds."""
    writer = None
    try:
        async with asyncio.timeout(patience):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
            return (await read_head(reader))[0]
    except (OSError, EOFError, TimeoutError):
        return 0
    finally:
        if writer is not None:
            writer.transport.abort()


class Redis:
    """A connection to Redis for `PUBLISH`, reopened after it is lost."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def publish(self, channel: str, data: bytes) -> None:
        """
        Publish data to a channel.

        Raises:
            NoAnswerError: no acknowledgement came; Redis may or may not have published the data.
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
                    raise NoAnswerError(answer.decode())
        except (OSError, EOFError, TimeoutError, NoAnswerError) as error:
            self.close()
            raise NoAnswerError(str(error)) from error

    def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            with contextlib.suppress(RuntimeError):
                self._streams[1].transport.abort()
            self._streams = None
