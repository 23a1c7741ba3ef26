"""
The two servers that the sequences are played on: Centrifugo, as a process, and this server, in memory.

Both have the same interface: `connect` opens a connection, whose `read` returns the bytes that have been received when
nothing more is coming.
"""

import json
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from ports import free_port
from waiting import TIMEOUT, wait_until

from wsserver.config.settings import Settings
from wsserver.testing import MemoryServer

__all__ = ["API_KEY", "SECRET", "Centrifugo", "Here"]

API_KEY = "the key of the API"
SECRET = "a secret that is long enough to sign tokens with, for tests only"
START = 1_800_000_000


class SocketPeer:
    """
    A connection to Centrifugo.

    Args:
        port: its port.
        quiet: seconds without data after which nothing more is expected.
    """

    def __init__(self, port: int, quiet: float) -> None:
        self._quiet = quiet
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.ended = False

    def send(self, data: bytes) -> None:
        """Send bytes; they are lost if the server has closed the connection."""
        try:
            self._socket.sendall(data)
        except OSError:
            self.ended = True

    def read(self, *, response: bool = False) -> bytes:
        """Read until nothing has come for a time; wait longer for the response to a request."""
        read = bytearray()
        try:
            if response:
                self._socket.settimeout(TIMEOUT)
                read += self._socket.recv(65536)
            self._socket.settimeout(self._quiet)
            while data := self._socket.recv(65536):
                read += data
            self.ended = True
        except TimeoutError:
            pass
        except OSError:
            self.ended = True
        return bytes(read)

    def drop(self) -> None:
        """Close the connection."""
        self._socket.close()
        self.ended = True


class Centrifugo:
    """
    A process of Centrifugo.

    Args:
        program: the path of Centrifugo.
        config: its configuration, without address, keys and log.
        quiet: see `SocketPeer`.
    """

    def __init__(self, program: Path, config: Mapping[str, Any], quiet: float) -> None:
        self._quiet = quiet
        self.port = free_port()
        client = {"allowed_origins": ["*"], "token": {"hmac_secret_key": SECRET}} | dict(config.get("client", {}))
        whole = dict(config) | {
            "http_server": {"address": "127.0.0.1", "port": self.port},
            "http_api": {"key": API_KEY},
            "http_stream": {"enabled": True},
            "log": {"level": "none"},
            "client": client,
        }
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(whole, file)
            file.flush()
            self._process = subprocess.Popen([program, "--config", file.name], stderr=subprocess.DEVNULL)
            wait_until(self._listens, f"Centrifugo listens; its configuration is {whole}")

    def _listens(self) -> bool:
        assert self._process.poll() is None, "Centrifugo has ended"
        try:
            socket.create_connection(("127.0.0.1", self.port)).close()
        except OSError:
            return False
        return True

    def connect(self) -> SocketPeer:
        """Open a connection."""
        return SocketPeer(self.port, self._quiet)

    def now(self) -> int:
        """Return UNIX time in seconds."""
        return int(time.time())

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        time.sleep(seconds)

    def close(self) -> None:
        """Stop the process."""
        self._process.kill()
        self._process.wait()


class MemoryPeer:
    """A connection to the server in memory."""

    def __init__(self, server: MemoryServer) -> None:
        self._client, self._clock = server.connect(), server.clock

    @property
    def ended(self) -> bool:
        """Whether the server has closed the connection."""
        transport = self._client.transport
        return transport.lost or transport.disconnecting or transport.write_closed

    def send(self, data: bytes) -> None:
        """Send bytes; they are lost if the server has closed the connection."""
        self._client.send(data)

    def read(self, *, response: bool = False) -> bytes:
        """Run what the server does now, and return the bytes that it has sent."""
        while self._clock.calls and self._clock.calls[0].getTime() <= self._clock.seconds():
            self._clock.advance(0)
        written = self._client.transport.written
        read = bytes(written)
        written.clear()
        return read

    def drop(self) -> None:
        """Close the connection."""
        self._client.transport.lose()


class Here:
    """
    This server, in memory, with a clock of its own.

    Args:
        config: the server's options.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        options = {name: tuple(value) if isinstance(value, list) else value for name, value in config.items()}
        channels = options.pop("channel", ())
        options["channel"] = tuple(
            (table["pattern"], {name: value for name, value in table.items() if name != "pattern"})
            for table in channels
        )
        # Tokens expire by the clock of the server in memory.
        with (
            mock.patch("wsserver.service.time", SimpleNamespace(time=self._seconds)),
            mock.patch("wsserver.auth.jwks.time", self._seconds),
        ):
            self._server = MemoryServer(Settings(**{"api_key": API_KEY, "token_secret": SECRET} | options))
        self._server.clock.advance(START)

    def _seconds(self) -> float:
        return self._server.clock.seconds()

    def connect(self) -> MemoryPeer:
        """Open a connection."""
        return MemoryPeer(self._server)

    def now(self) -> int:
        """Return UNIX time in seconds."""
        return int(self._seconds())

    def wait(self, seconds: float) -> None:
        """Let time pass, at most a second at a time."""
        whole, rest = divmod(seconds, 1)
        for step in [1.0] * int(whole) + [rest]:
            self._server.clock.advance(step)

    def close(self) -> None:
        """Do nothing."""
