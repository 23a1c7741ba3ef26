"""A Redis of our own: a real `redis-server` in a directory of its own, on a port that was free."""

import contextlib
import signal
import socket
import subprocess
import time
from pathlib import Path

__all__ = ["RedisServer"]


class RedisServer:
    """
    A Redis that can be killed, started again on the same port, and stopped in its tracks.

    Args:
        directory: where it works.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = {"port": self.port, "bind": "127.0.0.1", "save": "", "appendonly": "no", "dir": self._directory}
        command = ["redis-server", *(word for name, value in options.items() for word in (f"--{name}", str(value)))]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                if self.run("PING") == b"+PONG\r\n":
                    return
            time.sleep(0.02)
        raise AssertionError("redis-server does not answer")

    def run(self, *words: str | bytes) -> bytes:
        """Send a command as `redis-cli` would; returns the answer as it came, at most 64 KiB."""
        encoded = [word.encode() if isinstance(word, str) else word for word in words]
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            parts = b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded)
            connection.sendall(b"*%d\r\n%s" % (len(encoded), parts))
            return connection.recv(65536)

    def publish(self, channel: str, data: bytes) -> int:
        """Publish; returns how many listened."""
        return int(self.run("PUBLISH", channel, data)[1:])

    def kill(self) -> None:
        """Kill it as a power failure would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def freeze(self) -> None:
        """Let it do nothing, its sockets open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)
