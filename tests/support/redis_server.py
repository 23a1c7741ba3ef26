"""Real `redis-server` and sentinel processes for tests, each on a free port."""

import contextlib
import signal
import socket
import ssl
import subprocess
import time
from pathlib import Path

from ports import free_port

__all__ = ["RedisServer", "Sentinel"]


class RedisServer:
    """
    A Redis server that can be stopped, killed, suspended, and started again on the same port.

    Args:
        directory: its working directory.
        port: the port to listen on; 0 for a free one.
        tls: paths of a private key and a certificate, to accept only TLS; None for plain TCP.
        options: further options of `redis-server`.
    """

    def __init__(
        self, directory: Path, *, port: int = 0, tls: tuple[Path, Path] | None = None, **options: str | int
    ) -> None:
        self.directory = directory
        self.port = port or free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._tls = tls
        self._options = {"bind": "127.0.0.1", "save": "", "appendonly": "no", "dir": directory} | options
        if tls is None:
            self._options["port"] = self.port
        else:
            self._options |= {"port": 0, "tls-port": self.port, "tls-auth-clients": "no"}
            self._options |= {"tls-key-file": tls[0], "tls-cert-file": tls[1], "tls-ca-cert-file": tls[1]}

    @property
    def url(self) -> str:
        """The URL of the server."""
        return f"redis{'s' if self._tls else ''}://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the server and wait until it responds."""
        self._process = subprocess.Popen(self._command(), stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                # A server that requires a password responds with an error.
                if self.run("PING")[:1] in (b"+", b"-"):
                    return
            time.sleep(0.02)
        raise AssertionError("redis-server does not answer")

    def _command(self) -> list[str]:
        return ["redis-server", *(word for name, value in self._options.items() for word in (f"--{name}", str(value)))]

    def run(self, *words: str | bytes) -> bytes:
        """Send a command on a new connection; returns the raw reply, at most 64 KiB."""
        encoded = [word.encode() if isinstance(word, str) else word for word in words]
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as plain, self._secure(plain) as connection:
            parts = b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded)
            connection.sendall(b"*%d\r\n%s" % (len(encoded), parts))
            return connection.recv(65536)

    def _secure(self, plain: socket.socket) -> contextlib.AbstractContextManager[socket.socket]:
        if self._tls is None:
            return contextlib.nullcontext(plain)
        return ssl.create_default_context(cafile=self._tls[1]).wrap_socket(plain, server_hostname="127.0.0.1")

    def publish(self, channel: str, data: bytes) -> int:
        """Publish to a channel; returns the number of subscribers that received it."""
        return int(self.run("PUBLISH", channel, data)[1:])

    def kill(self) -> None:
        """Kill the server with SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def stop(self) -> None:
        """Stop the server with SIGTERM."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def freeze(self) -> None:
        """Suspend the server; its sockets stay open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Resume a suspended server."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


class Sentinel(RedisServer):
    """
    A sentinel that monitors a master named `mymaster`.

    Its quorum is 1: it declares the master down by itself, after half a second without a reply.

    Args:
        directory: its working directory.
        master: the server to monitor.
        password: the password of the sentinel; empty for none.
    """

    def __init__(self, directory: Path, master: RedisServer, *, password: str = "") -> None:
        super().__init__(directory)
        self._file = directory / f"sentinel-{self.port}.conf"
        lines = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f"dir {directory}",
            f"sentinel monitor mymaster 127.0.0.1 {master.port} 1",
            "sentinel down-after-milliseconds mymaster 500",
            "sentinel failover-timeout mymaster 2000",
            *([f"requirepass {password}"] if password else []),
        ]
        self._file.write_text("\n".join(lines) + "\n")

    def _command(self) -> list[str]:
        return ["redis-server", str(self._file), "--sentinel"]
