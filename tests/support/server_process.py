"""Server processes that are connected to Redis."""

import os
import re
import subprocess
import sys
import tempfile

from http_api import KEY
from peers import RawPeer, wait_until

__all__ = ["SERVE", "Process"]

SERVE = "import sys; from wsserver.cli.main import main; main(sys.argv[1:])"


class Process:
    """A server process."""

    def __init__(self, redis, *options, serve=SERVE, environ=None):
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 (closed by stop)
        command = [
            sys.executable,
            "-c",
            serve,
            "serve",
            "--port",
            "0",
            "--redis",
            redis.url,
            "--api-key",
            KEY,
            *options,
        ]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, env=environ)
        try:
            wait_until(self._listens, "the server listens")
            wait_until(self.is_ready, "the server is ready")
        except BaseException:
            self.kill()
            raise

    def _listens(self):
        assert self.process.poll() is None, self.read_log()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", self.read_log())
        if found:
            self.port = int(found[1])
        return found

    def read_log(self):
        """Return its output so far."""
        # The process writes at the file's position, so reading must not move it.
        return os.pread(self.log.fileno(), 2**20, 0).decode()

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

    def kill(self):
        """Kill the process with SIGKILL."""
        self.process.kill()
        self.process.wait()

    def stop(self):
        """Stop the process with SIGTERM."""
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(20)
        self.log.close()
