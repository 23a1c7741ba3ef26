"""A server process and Centrifuge subscribers, for the programs that measure what subscribers cost."""

import selectors
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from os import sysconf
from pathlib import Path

from wsserver.testing import build_frame

__all__ = ["Subscribers", "cpu_seconds", "serving"]

TEXT = 1


@contextmanager
def serving(configuration: str) -> Iterator[tuple[int, int]]:
    """
    Run a server; yields its port and the ID of its process.

    Args:
        configuration: the content of its configuration file, without the port.
    """
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as directory:
        config, log = Path(directory, "config.toml"), Path(directory, "log")
        config.write_text(f"port = {port}\n{configuration}")
        command = [Path(sys.executable).with_name("wsserver"), "serve", "--config", config]
        with log.open("w") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output)  # noqa: S603 (ours)
        try:
            while True:
                with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                if process.poll() is not None:
                    raise RuntimeError(log.read_text())
                time.sleep(0.05)
            yield port, process.pid
        finally:
            process.terminate()
            process.wait(10)


class Subscribers:
    """
    Subscribers that count the bytes that they receive, in a thread.

    Args:
        port: the server's port.
        subscribes: the fields of the command `subscribe` of each subscriber.
        compressed: whether they offer compression.
    """

    def __init__(self, port: int, subscribes: Iterable[str], *, compressed: bool = False) -> None:
        self.received, self._stopped = 0, False
        self._selector = selectors.DefaultSelector()
        self._buffer = bytearray(1 << 20)
        offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n" if compressed else ""
        head = (
            "GET /connection/websocket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{offer}\r\n"
        )
        for subscribe in subscribes:
            commands = f'{{"id":1,"connect":{{}}}}\n{{"id":2,"subscribe":{subscribe}}}'
            frame = build_frame(TEXT, commands.encode())
            one = socket.create_connection(("127.0.0.1", port))
            one.sendall(head.encode() + frame)
            one.setblocking(False)
            self._selector.register(one, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        self.wait()

    def _read(self) -> None:
        while not self._stopped:
            for key, _ in self._selector.select(0.1):
                with suppress(BlockingIOError):
                    self.received += key.fileobj.recv_into(self._buffer)  # type: ignore[union-attr]

    def wait(self) -> None:
        """Wait until nothing has arrived for half a second."""
        before = -1
        while before != self.received:
            before = self.received
            time.sleep(0.5)

    def stop(self) -> None:
        """Close the connections."""
        self._stopped = True
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()


def cpu_seconds(process: int) -> float:
    """Return the CPU time that a process has taken."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / sysconf("SC_CLK_TCK")
