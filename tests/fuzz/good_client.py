"""A well-behaved client beside a fuzzer: it sends a message every 100 ms, and expects it back."""

import threading
import time
from typing import Any, Self

from peers import PING, PONG, TEXT, RawPeer

__all__ = ["BOUND", "Probe"]

EVERY = 0.1

BOUND = 10.0
"""Maximum seconds until the echo. The machine may be busy with other programs, so this detects a server that hangs."""


class Probe:
    """
    The client; it runs in a thread until the block ends.

    Args:
        port: the port of the server.
    """

    def __init__(self, port: int) -> None:
        self._peer = RawPeer(port)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._seconds: list[float] = []
        self.complaints: list[str] = []

    def __enter__(self) -> Self:
        """Start."""
        self._peer.handshake("/echo")
        self._peer.socket.settimeout(BOUND)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self._stopped.set()
        self._thread.join()
        self._peer.socket.close()

    def _run(self) -> None:
        number = 0
        while not self._stopped.wait(EVERY):
            number += 1
            try:
                self._echo(f"probe {number}")
            except (OSError, AssertionError) as error:
                self.complaints.append(f"echo {number} of the well-behaved client: {error or type(error).__name__}")
                return

    def _echo(self, text: str) -> None:
        begin = time.monotonic()
        self._peer.send_frame(TEXT, text.encode())
        assert self._read() == text
        self._seconds.append(time.monotonic() - begin)
        if self._seconds[-1] > BOUND:
            self.complaints.append(f"{text}: the echo came after {self._seconds[-1]:.1f} s")

    def _read(self) -> str:
        """Read a message; answer pings on the way."""
        while (frame := self._peer.read_frame()).opcode == PING:
            self._peer.send_frame(PONG, frame.payload)
        return frame.payload.decode()

    def figures(self) -> dict[str, Any]:
        """Return the number of echoes, and their latencies."""
        seconds = sorted(self._seconds) or [0.0]
        p99 = seconds[min(len(seconds) - 1, int(len(seconds) * 0.99))]
        return {
            "echoes": len(self._seconds),
            "p99_ms": round(p99 * 1000, 1),
            "longest_ms": round(seconds[-1] * 1000, 1),
        }
