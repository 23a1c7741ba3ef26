"""The network cable between a server and its Redis, which can be pulled: a TCP proxy."""

import asyncio

__all__ = ["Cable"]


class Cable:
    """
    A proxy from a port of its own to another port.

    Args:
        port: the port that it connects to.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._server: asyncio.Server | None = None
        self._whole = asyncio.Event()
        self._whole.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None] | None] = set()

    async def lay(self, port: int) -> None:
        """Start to listen on a port."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", port)

    async def take_up(self) -> None:
        """Stop, and close all connections."""
        if self._server is not None:
            self._server.close()
        self._abort()
        self._whole.set()
        await asyncio.gather(*filter(None, self._tasks), return_exceptions=True)

    def _abort(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    def pull(self) -> None:
        """Stop forwarding: data that is sent from now on waits, unnoticed by either end."""
        self._whole.clear()

    def plug_in(self, *, lose: bool) -> None:
        """
        Resume forwarding.

        Args:
            lose: whether to close the connections, which loses the waiting data; otherwise it is forwarded late.
        """
        if lose:
            self._abort()
        self._whole.set()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._tasks.add(task)
        try:
            await self._join(reader, writer)
        finally:
            self._tasks.discard(task)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._whole.wait()
            other_reader, other_writer = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, other_writer}
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass_on(reader, other_writer))
                group.create_task(self._pass_on(other_reader, writer))
        except* (OSError, EOFError):
            pass
        finally:
            self._writers -= {writer, other_writer}
            # One end has closed, so the other one is closed too.
            writer.transport.abort()
            other_writer.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await self._whole.wait()
            writer.write(data)
            await writer.drain()
        raise EOFError
