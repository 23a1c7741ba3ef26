"""A tap: the events of one connection, kept from its start, and passed on to its readers."""

import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from time import time
from typing import Any, Final, Protocol

from wsserver.text import redact, redact_header
from wsserver.typing import Header
from wsserver.wire.http11 import Request
from wsserver.wire.metering import Allowance
from wsserver.wire.tap_frames import CLOSE, PING, PONG, Frame, FrameReader, Inflater
from wsserver.wire.tap_readers import Event, Reader

__all__ = [
    "FRAMES_PER_SECOND",
    "MAX_FRAMES",
    "MAX_FRAMES_AT_ONCE",
    "MAX_KEPT",
    "MAX_KEPT_EVENTS",
    "Tap",
]

MAX_KEPT_EVENTS: Final = 256
"""Maximum number of events that a tap keeps from the start of its connection."""

MAX_KEPT: Final = 64 * 1024
"""Maximum size in bytes of the payloads and headers that a tap keeps from the start of its connection."""

MIN_KEPT: Final = 256
"""Number of bytes of a payload that an event has at least, if the payload has as many."""

MAX_FRAMES: Final = 1024
"""
Maximum number of frames that one call shows, of those that a connection has received or sent at once.

Showing a frame takes longer than serving it, and others wait meanwhile.
"""

MIN_FRAMES: Final = 2
"""Number of frames that one call always shows, so that a flood on one connection hides no conversation on another."""

FRAMES_PER_SECOND: Final = 20_000
"""
Maximum number of frames that all taps of the server show per second, each counted for the tap and for each reader.

Every 4 KiB of a payload count as another frame. Showing one takes about 10 us, and sending it to a reader about 30 us.
"""

MAX_FRAMES_AT_ONCE: Final = 2500
"""Maximum number of frames that all taps show at once, counted in the same way."""

MAX_HEAD: Final = 16 * 1024
"""Maximum size of a response head in bytes; what follows counts as bytes that are no frames."""

MAX_PINGS: Final = 16
"""Number of pings in each direction whose pong a tap waits for."""

_UNIT: Final = 4096
"""Number of bytes of a payload that count as a frame."""

_NAMES: Final = {"in": "client", "out": "server"}


class Owner(Protocol):
    """The taps of the server: `wsserver.wire.taps.Taps`."""

    limits: dict[str, int]
    """Counts how often a limit takes effect."""

    shown: Allowance
    """The number of frames that all taps may still show."""

    def ended(self, tap: "Tap") -> None:
        """Forget the tap after a while."""

    def connection_id(self, number: int) -> str:
        """Return the ID of a connection."""


class Tap:
    """
    The tap of one connection.

    Args:
        owner: the taps of the server.
        serial: the number of the tap in its process.
    """

    def __init__(self, owner: Owner, serial: int = 0) -> None:
        self._owner = owner
        self.serial = serial
        self.number: int | None = None
        """The number of the connection in the log, once it is known."""
        self.has_ended = False
        self.readers: list[Reader] = []
        self.shows_all = False
        """Whether all frames are shown, however many and whatever that costs the other connections."""
        self.detach: Callable[[], None] | None = None
        """Ends the tap before its connection closes; None if it lasts as long as the connection."""
        self._now: Callable[[], float] = time
        self._started = 0.0
        self._count = 0
        self._kept: list[Event] = []
        self._room = MAX_KEPT
        self._missed = 0
        self._frames = {"in": FrameReader(), "out": FrameReader()}
        self._head: bytearray | None = None
        """The bytes of the response head so far; None once it is complete."""
        self._is_websocket = False
        self._pings: dict[str, dict[bytes, float]] = {"in": {}, "out": {}}
        self._closes: dict[str, tuple[float, int | None, str]] = {}
        """Direction -> when its Close frame passed, with which code and reason; the first one is first."""
        self._dropped_by = ""
        self._limit = 0

    @property
    def last_number(self) -> int:
        """The number of the last event."""
        return self._count

    @property
    def connection_id(self) -> str:
        """The ID of the connection."""
        return self._owner.connection_id(self.number or 0)

    # Called by `wsserver.wire.tap_attach`.

    def begin(self, now: Callable[[], float], limit: int) -> None:
        """
        Start the clock.

        Args:
            now: returns the current time in seconds.
            limit: maximum size of a received message, in bytes.
        """
        self._now, self._started, self._limit = now, now(), limit

    def request(self, request: Request) -> None:
        """Record the opening handshake of the client, and expect the response."""
        self._head = bytearray()
        line = " ".join((request.method, request.target, "HTTP/{}.{}".format(*request.version)))
        self._add_head("in", line, request.headers, time=_show_time(time()))

    def join(self, skip: int, compression: tuple[bool, bool] | None) -> None:
        """
        Begin in the middle of an open connection.

        Args:
            skip: number of bytes of the frame that the client is sending, which have yet to arrive.
            compression: whether messages received, and sent, may refer to earlier ones; None without compression.
        """
        self._is_websocket = True
        self._frames["in"] = FrameReader(skip)
        if compression is not None:
            self._use_compression(*compression)
            for direction, refers in zip(("in", "out"), compression, strict=True):
                inflater = self._frames[direction].inflater
                assert inflater is not None
                # Earlier messages are unknown.
                inflater.broken = refers
        self._add({"type": "joined", "time": _show_time(time())})

    def received(self, data: bytes) -> None:
        """Record bytes from the client."""
        self._add_frames("in", data)

    def sent(self, data: bytes) -> None:
        """Record bytes from the server."""
        if self._head is not None:
            data = self._read_head(self._head, data)
        if not data:
            return
        if self._is_websocket:
            self._add_frames("out", data)
        else:
            self._add({"type": "bytes", "direction": "out", "length": len(data)}, data[:MAX_KEPT], len(data))

    def dropping(self, how: str) -> None:
        """Record that the server ends the TCP connection: `close` or `abort`."""
        self._dropped_by = self._dropped_by or "server"
        self._add({"type": "tcp", "direction": "out", "action": how})

    def end(self, error: str = "") -> None:
        """
        Record the end of the connection.

        Args:
            error: how the TCP connection has failed; empty if it was closed.
        """
        if self.has_ended:
            return
        for direction in ("in", "out"):
            rest = self._frames[direction].rest()
            if rest is not None:
                self._add_frame(direction, rest)
        first = next(iter(self._closes), "")
        fields: dict[str, Any] = {
            "type": "end",
            "clean": len(self._closes) == 2,
            "closed_by": _NAMES.get(first, ""),
            "dropped_by": self._dropped_by or "client",
        }
        if first:
            began, code, reason = self._closes[first]
            fields |= {"code": code, "reason": reason}
            if len(self._closes) == 2:
                fields["close_seconds"] = round(max(at for at, _, _ in self._closes.values()) - began, 6)
        if error:
            fields["error"] = error
        self._add(fields)
        self._finish()

    def leave(self) -> None:
        """End the tap; the connection stays open."""
        if not self.has_ended:
            self._add({"type": "left"})
            self._finish()

    def _finish(self) -> None:
        self.has_ended, self.detach = True, None
        # The windows of the compression are not needed any more.
        self._frames = {"in": FrameReader(), "out": FrameReader()}
        self._owner.ended(self)
        for reader in list(self.readers):
            reader.on_end()

    # Readers.

    def add_reader(self, reader: Reader, after: int = 0) -> None:
        """
        Pass the events that were kept to a reader, and then every further one.

        Args:
            reader: the reader.
            after: the number of the last event that the reader knows.
        """
        self.readers.append(reader)
        for event in self._kept:
            if event.number > after:
                if event.fields["type"] in ("end", "left"):
                    self._report_missed(reader, after)
                reader.on_event(event)
        if self.has_ended:
            reader.on_end()
        else:
            self._report_missed(reader, after)

    def _report_missed(self, reader: Reader, after: int) -> None:
        last = self._count - (1 if self.has_ended else 0)
        missed = min(self._missed, last - after)
        if missed > 0:
            reader.on_gap(missed)

    def remove_reader(self, reader: Reader) -> None:
        """Forget a reader. Without readers, a tap that was opened for one ends."""
        if reader in self.readers:
            self.readers.remove(reader)
        if not self.readers and self.detach is not None:
            self.detach()

    # Events.

    def _add(self, fields: dict[str, Any], payload: bytes | None = None, size: int = 0) -> None:
        self._count += 1
        fields = {"id": self._count, "t": round(self._now() - self._started, 6), **fields}
        event = Event(self._count, fields, payload, size)
        if fields["type"] in ("end", "left") or self._has_room:
            self._keep(event)
        else:
            self._missed += 1
        for reader in list(self.readers):
            reader.on_event(event)

    @property
    def _has_room(self) -> bool:
        return not self._missed and self._room > 0 and len(self._kept) < MAX_KEPT_EVENTS

    @property
    def _most_kept(self) -> int:
        # A large message must not take the room of all later events.
        return max(MIN_KEPT, self._room // 16)

    def _keep(self, event: Event) -> None:
        most = self._most_kept
        if event.payload is not None and len(event.payload) > most:
            event = Event(event.number, event.fields, event.payload[:most], event.payload_size)
        self._kept.append(event)
        self._room -= len(event.payload or b"") + len(str(event.fields.get("headers", "")))

    def _add_head(self, direction: str, line: str, headers: Iterable[Header], **more: Any) -> None:
        shown = [[name, redact_header(name.lower(), value)] for name, value in headers]
        self._add({"type": "handshake", "direction": direction, "line": redact(line), "headers": shown, **more})

    def _read_head(self, head: bytearray, data: bytes) -> bytes:
        """Collect the response head; return the bytes that follow it."""
        head += data
        end = head.find(b"\r\n\r\n")
        if end < 0 and len(head) <= MAX_HEAD:
            return b""
        self._head = None
        if end < 0 or not head.startswith(b"HTTP/"):
            return bytes(head)
        line, *lines = head[:end].decode("latin-1").split("\r\n")
        fields = [(name, value.strip()) for name, _, value in (one.partition(":") for one in lines)]
        # The client may have sent frames early, but what a server sends after another status are no frames.
        self._is_websocket = line.split(" ")[1:2] == ["101"]
        extensions = ",".join(value for name, value in fields if name.lower() == "sec-websocket-extensions")
        if self._is_websocket and "permessage-deflate" in extensions:
            self._use_compression(
                "client_no_context_takeover" not in extensions, "server_no_context_takeover" not in extensions
            )
        self._add_head("out", line, fields)
        return bytes(head[end + 4 :])

    def _use_compression(self, received: bool, sent: bool) -> None:
        self._frames["in"].inflater = Inflater(takeover=received, limit=self._limit)
        self._frames["out"].inflater = Inflater(takeover=sent)

    def _add_frames(self, direction: str, data: bytes) -> None:
        frames = self._frames[direction]
        frames.keep = max(self._most_kept, *(reader.payload for reader in self.readers), 0)
        now, cost = self._now(), 1 + len(self.readers)
        units = 0
        for frame in frames.feed(data, now, self._find_most(now, cost)):
            units += 1 + len(frame.payload) // _UNIT
            self._add_skipped(frames)
            self._add_frame(direction, frame)
        self._owner.shown.use(units * cost)
        self._add_skipped(frames)

    def _find_most(self, now: float, cost: int) -> int:
        """Return how many frames may be shown, of which each counts `cost` times."""
        if self.shows_all:
            return sys.maxsize
        return max(MIN_FRAMES, min(MAX_FRAMES, self._owner.shown.use_and_renew(0, now) // cost))

    def _add_skipped(self, frames: FrameReader) -> None:
        skipped, frames.skipped = frames.skipped, 0
        if not skipped:
            return
        self._owner.limits["tap_frames"] += 1
        self._count += skipped
        self._missed += skipped
        for reader in list(self.readers):
            reader.on_gap(skipped)

    def _add_frame(self, direction: str, frame: Frame) -> None:
        payload = bytes(frame.payload)
        size = frame.size if frame.inflated is None else frame.inflated
        fields: dict[str, Any] = {
            "type": "frame" if frame.is_whole else "cut",
            "direction": direction,
            "opcode": frame.opcode,
            "fin": frame.fin,
            "rsv": frame.rsv,
            "masked": bool(frame.mask),
            "mask": frame.mask.hex() or None,
            "wire_length": frame.header_size + (frame.size if frame.is_whole else frame.passed),
            "length": None if frame.inflated is None and frame.rsv & 4 and self._frames[direction].inflater else size,
            "message": frame.message,
        }
        if not frame.is_whole:
            fields["declared_length"] = frame.size
        if (seconds := self._now() - frame.began) > 0.001:
            fields["seconds"] = round(seconds, 6)
        if frame.is_whole and frame.opcode >= CLOSE:
            fields |= self._describe_control(direction, frame.opcode, payload)
        self._add(fields, payload, size)

    def _describe_control(self, direction: str, opcode: int, payload: bytes) -> dict[str, Any]:
        now = self._now()
        if opcode == CLOSE:
            code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else None
            reason = payload[2:].decode("utf-8", "replace")
            self._closes.setdefault(direction, (now, code, reason))
            return {"code": code, "reason": reason}
        if opcode == PING:
            pings = self._pings[direction]
            pings[payload] = now
            if len(pings) > MAX_PINGS:
                del pings[next(iter(pings))]
        elif opcode == PONG:
            sent = self._pings["out" if direction == "in" else "in"].pop(payload, None)
            if sent is not None:
                return {"round_trip": round(now - sent, 6)}
        return {}


def _show_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
