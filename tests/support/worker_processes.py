"""A server with several worker processes, and clients that connect to it all the time."""

import contextlib
import os
import re
import threading
import time
from collections.abc import Iterator

from peers import CLOSE, RawPeer, close_payload
from server_process import SERVE, Process, serve_command
from waiting import wait_until

__all__ = ["Connecting", "Workers", "connecting"]

WORKERS = 2


class Workers(Process):
    """
    A supervisor and its workers, all of which accept connections.

    Args:
        options: further options of the server.
        arguments: see `Process`.
    """

    def __init__(self, *options: str, count: int = WORKERS, command: list[str] | None = None, **arguments) -> None:
        command = serve_command(SERVE) if command is None else command
        super().__init__("--workers", str(count), *options, command=command, **arguments)
        self.count = count
        self.wait_or_close(lambda: "all workers accept connections" in self.read_log(), "the workers")

    def read_log(self) -> str:
        """Return the whole output so far: that of clients that connect all the time is long."""
        return os.pread(self.log.fileno(), 2**28, 0).decode()

    def find_port(self, scheme: str) -> int:
        """Return the port; 0 if the log names none, such as with a UNIX socket."""
        self.wait_or_close(lambda: "worker started" in self.read_log(), "a worker")
        found = re.findall(rf"the page is at {scheme}://127\.0\.0\.1:([0-9]+)/", self.read_log())
        return int(found[0]) if found else 0

    def find_ports(self) -> list[int]:
        """Return the ports of all listeners, in their order."""
        pattern = r"(?:the page is at https?://|listening on )[^\n]*?(?:127\.0\.0\.1:|port=)([0-9]+)"
        return [int(port) for port in re.findall(pattern, self.read_log())]

    def started(self, number: int) -> list[int]:
        """Return the process IDs of all workers with a number that were started, in order."""
        return [int(pid) for pid in re.findall(rf"worker started worker={number} pid=([0-9]+)", self.read_log())]

    def pid(self, number: int) -> int:
        """Return the process ID of the worker with a number that was started last."""
        return self.started(number)[-1]

    def connect(self) -> RawPeer:
        """Open a connection."""
        return RawPeer(self.port)

    def number_of(self, peer: RawPeer) -> int:
        """Return the number of the worker that has accepted a WebSocket connection."""
        pattern = rf"opened .*127\.0\.0\.1:{peer.socket.getsockname()[1]} .* worker=([0-9]+)"
        self.wait_or_close(lambda: re.search(pattern, self.read_log()), "the log line of the connection")
        return int(re.findall(pattern, self.read_log())[-1])

    def open_many(self, count: int = 20) -> list[RawPeer]:
        """Open WebSocket connections, which are spread over all workers."""
        peers = [RawPeer(self.port) for _ in range(count)]
        for peer in peers:
            peer.handshake("/echo")
            assert peer.echoes()
        return peers

    def open_at_each(self) -> list[RawPeer]:
        """Open WebSocket connections, at least one at each worker: a slow worker is replaced by another for a while."""
        peers: list[RawPeer] = []
        numbers: set[int] = set()

        def are_spread() -> bool:
            opened = self.open_many()
            peers.extend(opened)
            numbers.update(map(self.number_of, opened))
            return len(numbers) == self.count

        wait_until(are_spread, "each worker has a connection")
        return peers


class Connecting:
    """
    Clients that connect, exchange a message and close, one after the other in each of several threads.

    Args:
        port: the server's port.
        threads: the number of threads.
        pause: seconds between two connections of a thread.
    """

    def __init__(self, port: int, threads: int, pause: float) -> None:
        self._port, self._pause = port, pause
        self._end = threading.Event()
        self.refused: list[str] = []
        """Connections that were not accepted."""
        self.broken: list[str] = []
        """Connections that were accepted, but ended before the server has echoed."""
        self.served: list[float] = []
        """The times when connections were served."""
        self.longest = 0.0
        """The longest time in seconds from a connect to its echo."""
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        while not self._end.wait(self._pause):
            began = time.monotonic()
            try:
                peer = RawPeer(self._port)
            except OSError as error:
                self.refused.append(repr(error))
                continue
            try:
                with peer:
                    peer.handshake("/echo")
                    assert peer.echoes()
                    ended = time.monotonic()
                    self.longest = max(self.longest, ended - began)
                    self.served.append(ended)
                    peer.send_frame(CLOSE, close_payload(1000))
            except (OSError, AssertionError, EOFError) as error:
                self.broken.append(repr(error))

    def stop(self) -> None:
        """Stop all threads."""
        self._end.set()
        for thread in self._threads:
            thread.join(30)


@contextlib.contextmanager
def connecting(port: int, *, threads: int = 4, pause: float = 0.005) -> Iterator[Connecting]:
    """Run `Connecting` until the block ends."""
    clients = Connecting(port, threads, pause)
    try:
        yield clients
    finally:
        clients.stop()
