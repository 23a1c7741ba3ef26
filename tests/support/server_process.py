"""The server as a process of its own, with and without Redis."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from http_api import KEY
from peers import RawPeer
from waiting import wait_until

__all__ = ["SERVE", "Process", "RedisProcess"]

SERVE = "import sys; from wsserver.cli.main import main; main(sys.argv[1:])"


def serve_command(program: str = SERVE) -> list[str]:
    """Return the command that runs a Python program with the arguments of a server on a free port."""
    return [sys.executable, "-c", program, "serve", "--port", "0"]


class Process:
    """
    A server process that listens; its output goes to a temporary file.

    Args:
        options: further options of the server.
        command: the command that runs the server, with its first options.
        directory: the working directory; None for that of this process.
        environ: the environment variables; None for those of this process.
    """

    def __init__(
        self,
        *options: str,
        command: Sequence[str] = serve_command(),
        directory: Path | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `close`)
        self.process = subprocess.Popen(
            [*command, *options],
            cwd=directory,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
        )
        self.port = self.find_port("http")

    def find_port(self, scheme: str) -> int:
        """Wait until the log names the port for http or https, and return it."""
        pattern = re.compile(rf"the page is at {scheme}://127\.0\.0\.1:([0-9]+)/")
        self.wait_or_close(lambda: pattern.search(self.read_log()), f"its {scheme} port")
        return int(pattern.findall(self.read_log())[0])

    def wait_or_close(self, condition: Callable[[], object], what: str) -> None:
        """Wait until a condition is true; close the process if it ends or the wait fails."""

        def look() -> object:
            assert self.process.poll() is None, f"it has ended:\n{self.read_log()}"
            return condition()

        try:
            wait_until(look, what)
        except BaseException:
            self.close()
            raise

    def read_log(self) -> str:
        """Return the output of the process so far."""
        # The process writes at the file's position, so reading must not move it.
        return os.pread(self.log.fileno(), 2**20, 0).decode()

    def kill(self) -> None:
        """Kill the process with SIGKILL; do nothing if it has ended."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """Kill the process, and delete its output."""
        self.kill()
        self.log.close()


class RedisProcess(Process):
    """A server process that is connected to Redis and ready, with an API key."""

    def __init__(self, redis, *options, serve=SERVE, environ=None):
        super().__init__(
            "--redis", redis.url, "--api-key", KEY, *options, command=serve_command(serve), environ=environ
        )
        self.wait_or_close(self.is_ready, "the server is ready")

    def is_ready(self):
        """Return whether `/ready` returns 200."""
        with self.connect() as peer:
            return peer.request("/ready").status == 200

    def connect(self):
        """Open a connection."""
        return RawPeer(self.port)

    def open(self, path):
        """Open a WebSocket connection."""
        peer = self.connect()
        peer.handshake(path)
        return peer

    def stop(self):
        """Stop the process with SIGTERM."""
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(20)
        self.log.close()
