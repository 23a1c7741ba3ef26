"""A service manager for tests: it passes listening sockets to a server and receives notifications, as systemd does."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from server_process import SERVE
from waiting import TIMEOUT, wait_until

__all__ = ["ServiceManager", "service_manager"]

LAUNCH = """
import os, sys

names, *command = sys.argv[1:]
descriptors = [name.partition("=") for name in names.split(",") if name]
# Twice, because a descriptor may have the number of another one's copy.
copies = [os.dup2(int(descriptor), 100 + index) for index, (_, _, descriptor) in enumerate(descriptors)]
for index, copy in enumerate(copies):
    os.dup2(copy, 3 + index)
    os.close(copy)
os.environ["LISTEN_PID"] = os.environ["WATCHDOG_PID"] = str(os.getpid())
os.environ["LISTEN_FDS"] = str(len(descriptors))
os.environ["LISTEN_FDNAMES"] = ":".join(name for name, _, _ in descriptors)
os.execv(command[0], command)
"""


def _listening_socket() -> socket.socket:
    """Return a socket that listens on a free port of 127.0.0.1; like those of systemd, it blocks."""
    return socket.create_server(("127.0.0.1", 0))


class ServiceManager:
    """
    Starts servers with the same sockets, and receives their notifications.

    Args:
        folder: an empty directory for the socket of notifications and for the log.
        abstract: whether the socket of notifications has an abstract address, as in some containers.
        sockets: the sockets to pass: name -> listening socket.
    """

    def __init__(self, folder: Path, sockets: Mapping[str, socket.socket], *, abstract: bool = False) -> None:
        self._sockets = sockets
        self._notifications = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.address = f"@{folder.name}-{os.getpid()}" if abstract else str(folder / "notify")
        self._notifications.bind(self.address.replace("@", "\0"))
        self._notifications.setblocking(False)
        self._log = folder / "log.txt"
        self._processes: list[subprocess.Popen[bytes]] = []
        self.received: list[list[str]] = []
        """The notifications: the lines of each datagram."""

    def start(
        self, *options: str, program: str = SERVE, environ: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """
        Start a server, as the unit file does.

        Args:
            options: the options of `wsserver serve`.
            program: the Python program that runs `wsserver`.
            environ: further environment variables.
        """
        return self.run(sys.executable, "-c", program, "serve", *options, environ=environ)

    def run(self, *command: str, environ: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start any program with the sockets."""
        names = ",".join(f"{name}={sock.fileno()}" for name, sock in self._sockets.items())
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", LAUNCH, names, *command],
                env={**os.environ, "NOTIFY_SOCKET": self.address, **(environ or {})},
                pass_fds=[sock.fileno() for sock in self._sockets.values()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._processes.append(process)
        return process

    def read_log(self) -> str:
        """Return what the programs have written."""
        return self._log.read_text("utf-8")

    def read_all(self) -> Sequence[list[str]]:
        """Receive the notifications that wait; return all so far."""
        while True:
            try:
                self.received.append(self._notifications.recv(4096).decode().splitlines())
            except BlockingIOError:
                return self.received

    def wait_for(self, line: str) -> list[list[str]]:
        """Wait for a notification with a line; return those before it, and forget it and them."""

        def find() -> int | None:
            return next((n for n, lines in enumerate(self.read_all(), 1) if line in lines), None)

        wait_until(find, lambda: f"{line} notified, but {self.received}:\n{self.read_log()}")
        index = find() or 0
        before, self.received = self.received[: index - 1], self.received[index:]
        return before

    def stop(self, process: subprocess.Popen[bytes]) -> int:
        """Stop a server with SIGTERM, and return its exit status."""
        process.terminate()
        return process.wait(TIMEOUT)

    def close(self) -> None:
        """Kill the servers that still run."""
        for process in self._processes:
            process.kill()
            process.wait()
        self._notifications.close()


@contextmanager
def service_manager(
    folder: Path, names: Sequence[str] = ("wsserver",), *, abstract: bool = False
) -> Iterator[tuple[ServiceManager, dict[str, int]]]:
    """Make a service manager with one listening socket per name; yield it, and name -> port."""
    sockets = {name: _listening_socket() for name in names}
    manager = ServiceManager(folder, sockets, abstract=abstract)
    try:
        yield manager, {name: sock.getsockname()[1] for name, sock in sockets.items()}
    finally:
        manager.close()
        for sock in sockets.values():
            sock.close()
