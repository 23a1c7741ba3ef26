"""Results of conformance cases: the verdict, its reason, and the frames that were seen."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from wsserver.endpoints.cases.frames import Frame

__all__ = ["Result", "Seen", "SeenFrames", "Verdict"]

SHOWN_BYTES = 32
"""Number of payload bytes of a frame that a result keeps."""

FIRST_FRAMES, LAST_FRAMES = 16, 8
"""Number of frames that a result keeps: those at the start, and those at the end."""


class Verdict(StrEnum):
    """The outcome of a case for a client."""

    PASS = "pass"
    """The client did what the RFC says."""
    INFORMATIONAL = "informational"
    """The client did something else that the RFC permits, or the case does not apply to it."""
    FAIL = "fail"
    """The client did what the RFC forbids, or did not do what it demands."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A frame that was sent or received."""

    seconds: float
    """Time since the end of the opening handshake."""
    by_client: bool
    name: str
    """The name of the opcode."""
    fin: bool
    rsv: int
    size: int
    """Size of the payload, in bytes."""
    start: bytes
    """The first bytes of the payload."""

    def describe(self) -> dict[str, Any]:
        """Return the frame as JSON-serializable data."""
        return {
            "seconds": round(self.seconds, 4),
            "from": "client" if self.by_client else "server",
            "frame": self.name,
            "fin": self.fin,
            "rsv": self.rsv,
            "size": self.size,
            "payload": self.start.hex(),
        }

    def show(self) -> str:
        """Return the frame as a line for people."""
        flags = ("" if self.fin else ", more follows") + (f", RSV {self.rsv:03b}" if self.rsv else "")
        start = f" {self.start!r}{'...' if self.size > len(self.start) else ''}" if self.size else ""
        side = "client" if self.by_client else "server"
        return f"{self.seconds:8.3f} s  {side}: {self.name}{flags}, {self.size} bytes{start}"


class SeenFrames:
    """The frames of a connection: the first ones, the last ones, and the number of all."""

    def __init__(self) -> None:
        self.count = 0
        self._first: list[Seen] = []
        self._last: list[Seen] = []

    def add(self, frame: Frame, *, by_client: bool, seconds: float) -> None:
        """Add a frame."""
        self.count += 1
        start = bytes(frame.payload[:SHOWN_BYTES])
        seen = Seen(seconds, by_client, frame.name, frame.fin, frame.rsv, len(frame.payload), start)
        if len(self._first) < FIRST_FRAMES:
            self._first.append(seen)
            return
        self._last.append(seen)
        if len(self._last) > LAST_FRAMES:
            del self._last[0]

    def kept(self) -> tuple[Seen, ...]:
        """Return the frames that are kept, in order."""
        return (*self._first, *self._last)


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one case for one client."""

    case: str
    """The id of the case."""
    verdict: Verdict
    reason: str
    seconds: float = 0.0
    """How long the case took."""
    frames: tuple[Seen, ...] = ()
    frame_count: int = 0
    """Number of frames, with those that were not kept."""
    is_tested: bool = True
    """False if the case does not apply to the client, for example because it does not offer compression."""

    def describe(self) -> dict[str, Any]:
        """Return the result as JSON-serializable data."""
        return {
            "case": self.case,
            "verdict": self.verdict.value,
            "tested": self.is_tested,
            "reason": self.reason,
            "seconds": round(self.seconds, 4),
            "frame_count": self.frame_count,
            "frames": [frame.describe() for frame in self.frames],
        }
