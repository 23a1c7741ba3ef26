"""A Redis of our own: a real `redis-server` in a directory of its own, on a port that was free."""

import contextlib
import signal
import socket
import ssl
import subprocess
import time
from pathlib import Path

__all__ = ["RedisServer", "Sentinel"]


class RedisServer:
    """
    A Redis that can be killed, started again on the same port, and stopped in its tracks.

    Args:
        directory: where it works.
        port: where it listens; 0 for one that is free.
        tls: paths of a private key and a certificate: it speaks TLS only.
        options: more of its options.
    """

    def __init__(
        self, directory: Path, *, port: int = 0, tls: tuple[Path, Path] | None = None, **options: str | int
    ) -> None:
        self._directory = directory
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = port or probe.getsockname()[1]
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
        """Where it is."""
        return f"redis{'s' if self._tls else ''}://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._process = subprocess.Popen(self._command(), stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                # One with a password answers too.
                if self.run("PING")[:1] in (b"+", b"-"):
                    return
            time.sleep(0.02)
        raise AssertionError("redis-server does not answer")

    def _command(self) -> list[str]:
        return ["redis-server", *(word for name, value in self._options.items() for word in (f"--{name}", str(value)))]

    def run(self, *words: str | bytes) -> bytes:
        """Send a command as `redis-cli` would; returns the answer as it came, at most 64 KiB."""
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
        """Publish; returns how many listened."""
        return int(self.run("PUBLISH", channel, data)[1:])

    def kill(self) -> None:
        """Kill it as a power failure would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def stop(self) -> None:
        """Stop it as an administrator does."""
        if self._process is not None:
            self._process.terminate()
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


class Sentinel(RedisServer):
    """
    A sentinel that watches a master, called `mymaster`, and by itself decides that it is dead, after half a second.

    Args:
        directory: where it works.
        master: whom it watches.
        password: the sentinel's own; empty for none.
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
