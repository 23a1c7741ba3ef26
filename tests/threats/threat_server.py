"""A server process on a core of its own, whose resources can be measured."""

import os
import re
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cores import SERVER_CORE, place
from http_api import KEY
from peers import RawPeer, Response
from ports import free_port
from waiting import wait_until

__all__ = ["MESSAGE_LIMIT", "Lag", "ThreatServer"]

MESSAGE_LIMIT = 64 * 1024
PROGRAM = Path(__file__).parent / "probed_server.py"
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Lag:
    """How late the probe in the server's event loop was called, in seconds."""

    p99: float
    longest: float
    longest_cpu: float
    """CPU time of the longest turn. Other programs of the machine do not change it."""


class ThreatServer:
    """
    A server process, pinned to a core.

    Args:
        directory: an empty directory for its files.
        options: further options of the server.
        message_limit: `--max-message-size`; None for the default.
        program: a command to put before the server's, such as `faketime`.
        environ: more environment variables.
        core: the core to pin it to.
    """

    def __init__(
        self,
        directory: Path,
        *options: str,
        message_limit: int | None = MESSAGE_LIMIT,
        program: tuple[str, ...] = (),
        environ: Mapping[str, str] | None = None,
        core: int = SERVER_CORE,
    ) -> None:
        self.directory = directory
        self.port = free_port()
        self._core = core
        self._lags = directory / "lags"
        self._log = directory / "server.log"
        self._program = program
        self._environ = {name: value for name, value in os.environ.items() if not name.startswith("WSSERVER_")}
        self._environ |= environ or {}
        listen = () if "--listen" in options else ("--port", str(self.port))
        limit = () if message_limit is None else ("--max-message-size", f"{message_limit}B")
        self._options = [*listen, "--api-key", KEY, *limit, *options]
        self.process: subprocess.Popen[bytes]
        self.start()

    def start(self) -> None:
        """Start the process, and wait until it answers."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._program, sys.executable, str(PROGRAM), str(self._lags), "serve", *self._options],
                cwd=self.directory,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        place(self._core, prefer=True, pid=self.process.pid)
        before = self.log().count("the page is at")
        try:
            wait_until(lambda: self._has_started(before), "the server has started")
        except BaseException:
            self.close()
            raise

    def _has_started(self, before: int) -> bool:
        assert self.process.poll() is None, f"the server has ended:\n{self.log()[-3000:]}"
        # The probe is attached, too, and has opened its file; a process with a fake clock may have none.
        has_probe = "LD_PRELOAD" in self._environ or self.lag_position() > 0
        return self.log().count("the page is at") > before and has_probe

    @property
    def pid(self) -> int:
        """The process ID of the server."""
        return self.process.pid

    def log(self) -> str:
        """Return the log so far."""
        return self._log.read_text("utf-8", "replace")

    # Requests.

    def connect(self, **options: object) -> RawPeer:
        """Open a TCP connection."""
        return RawPeer(self.port, **options)

    def open(self, path: str = "/echo", *more: str, **options: object) -> RawPeer:
        """Open a WebSocket connection."""
        peer = self.connect(**options)
        peer.handshake(path, *more)
        return peer

    def get(self, path: str, *more: str) -> Response:
        """Send a GET request on a new connection."""
        with self.connect() as peer:
            return peer.request(path, *more)

    # Resources.

    def rss(self) -> int:
        """Return the resident memory in bytes."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def pss(self) -> int:
        """Return the proportional memory in bytes: pages that processes share count in part."""
        text = Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        return int(re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE)[1]) * 1024

    def descriptors(self) -> int:
        """Return the number of open descriptors."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def cpu(self) -> float:
        """Return the CPU time so far in seconds, with a resolution of 1 ms or better."""
        return int(Path(f"/proc/{self.pid}/schedstat").read_text().split()[0]) / 1e9

    def lag_position(self) -> int:
        """Return the current position in the record of lags, to give it to `lag`."""
        return self._lags.stat().st_size if self._lags.exists() else 0

    def lag(self, position: int = 0) -> Lag:
        """Return how late the event loop was since a position of the record."""
        # A call that never comes counts, too.
        time.sleep(0.2)
        with self._lags.open("rb") as file:
            file.seek(position)
            data = file.read()
        pairs = list(struct.iter_unpack("ff", data[: len(data) // 8 * 8]))
        assert pairs, "the event loop of the server has stood still"
        walls = sorted(wall for wall, _ in pairs)
        return Lag(walls[int((len(walls) - 1) * 0.99)], walls[-1], max(cpu for _, cpu in pairs))

    def wait_for(self, condition: Callable[[], object], what: str, timeout: float = 30.0) -> None:
        """Wait until a condition is true; fail if the server ends."""

        def look() -> object:
            assert self.process.poll() is None, f"the server has ended:\n{self.log()[-3000:]}"
            return condition()

        wait_until(look, what, timeout)

    # End.

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout: float = 30.0) -> int:
        """Stop the process; return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout)

    def close(self) -> None:
        """Kill the process if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *about: object) -> None:
        self.close()
