"""The processes of a run: Redis, and servers started as a user starts them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ports import free_port
from proxy import Cable
from redis_server import RedisServer

__all__ = ["KEY", "NotReadyError", "Server", "Stage", "running"]

KEY = "chaos-api-key"
TIMEOUT = 20.0
"""Seconds to wait until a process has started or stopped."""

LAST_LINES = 5
"""Number of last log lines that are shown of a server that does not start."""

SETTINGS = """
redis = "redis://127.0.0.1:{redis}"
history_size = 300
history_ttl = "60s"
max_queued_bytes = "256KiB"
ping_interval = "5s"
api_key = "{key}"
channel_publish = ["*"]

[[channel]]
pattern = "close:*"
delta = "always"

[[channel]]
pattern = "drop:*"
slow = "drop-oldest"
delta = "always"

[[channel]]
pattern = "latest:*"
slow = "latest"
delta = "always"

[[channel]]
pattern = "short:*"
history_size = 5
delta = "always"

[[channel]]
pattern = "off:*"
history_size = 0
delta = "always"
"""


DURABLE = {"appendonly": "yes", "appendfsync": "always"}
LIMITS = {"client-output-buffer-limit": "pubsub 1mb 256kb 2"}
"""Makes Redis disconnect a server that does not read, far sooner than by default."""


class NotReadyError(Exception):
    """The servers did not become ready; the text has the last log lines of each."""


class Server:
    """
    A server process.

    Args:
        directory: where its configuration file and its log are written; it is created.
        redis_port: the port of Redis.
    """

    def __init__(self, directory: Path, redis_port: int) -> None:
        directory.mkdir()
        # The server runs in this directory: a relative path would lead it elsewhere.
        self.directory = directory.resolve()
        self.cable = Cable(redis_port)
        """The connection between the server and Redis."""
        self.cable_port = free_port()
        self._config = self.directory / "wsserver.toml"
        self._config.write_text(SETTINGS.format(redis=self.cable_port, key=KEY))
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process, without waiting until it is ready."""
        command = [str(Path(sys.executable).parent / "wsserver"), "serve", "--config", str(self._config)]
        with (self.directory / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--port", str(self.port)],
                cwd=self.directory,
                env={name: value for name, value in os.environ.items() if not name.startswith("WSSERVER_")},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def freeze(self) -> None:
        """Stop the process with SIGSTOP; its sockets stay open."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Continue the stopped process."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def end(self, number: signal.Signals) -> None:
        """End the process by a signal, if it is running."""
        process, self.process = self.process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"the server was still running {TIMEOUT:g} s after {number.name}") from None

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended without being stopped."""
        return self.process is not None and self.process.poll() is not None

    def describe(self) -> str:
        """Return whether the process still runs, and the last lines of its log."""
        code = None if self.process is None else self.process.poll()
        state = "is running" if code is None else f"ended with exit code {code}"
        lines = (self.directory / "server.log").read_text("utf-8", "replace").splitlines()[-LAST_LINES:]
        return "\n".join([f"the server on port {self.port} {state}; its last log lines:", *(lines or ["(none)"])])

    def complaints(self) -> list[str]:
        """Return the lines of its log that show an error of the server."""
        lines = (self.directory / "server.log").read_text("utf-8", "replace").splitlines()
        return [line for line in lines if "Traceback" in line or "Unhandled" in line or "[critical" in line.lower()]


class Stage:
    """The processes of a run."""

    def __init__(self, redis: RedisServer, servers: list[Server], another_redis: Callable[[], RedisServer]) -> None:
        self.redis = redis
        self.servers = servers
        self._another_redis = another_redis

    @property
    def ports(self) -> list[int]:
        """The ports of the servers."""
        return [server.port for server in self.servers]

    def describe_servers(self) -> str:
        """Return the state and the last log lines of every server."""
        return "\n".join(server.describe() for server in self.servers)

    def replace_redis(self) -> None:
        """Kill Redis, and start an empty one on the same port, which writes to the disk only if it gets `SAVE`."""
        self.redis.kill()
        self.redis = self._another_redis()
        self.redis.start()


@contextmanager
def running(directory: Path, servers: int, *, persistent: bool) -> Iterator[Stage]:
    """
    Run the processes until the block ends.

    Args:
        directory: an empty directory for all files.
        servers: the number of servers.
        persistent: whether the first Redis writes every command to the disk before it answers.
    """
    (directory / "redis").mkdir()
    redis = RedisServer(directory / "redis", **LIMITS, **(DURABLE if persistent else {}))

    def another_redis() -> RedisServer:
        place = directory / f"redis-{time.monotonic_ns()}"
        place.mkdir()
        return RedisServer(place, port=redis.port, **LIMITS)

    made = [Server(directory / f"server-{number}", redis.port) for number in range(servers)]
    stage = Stage(redis, made, another_redis)
    with ExitStack() as stack:
        stack.callback(lambda: stage.redis.kill())  # noqa: PLW0108 (Redis may have been replaced by then)
        redis.start()
        for server in made:
            stack.callback(server.end, signal.SIGTERM)
            server.start()
        yield stage
