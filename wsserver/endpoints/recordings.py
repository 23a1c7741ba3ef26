"""
Recordings: read what a tap or a browser has recorded, and turn it into what a mock server has to send.

This module does not use Twisted, a clock or a socket.
"""

import json
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from math import isfinite
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from wsserver.errors import WsserverError

__all__ = ["Message", "Recording", "RecordingError", "Step", "read_files", "read_recordings"]

TEXT, CLOSE = 1, 8


class RecordingError(WsserverError):
    """A file is not a recording that can be replayed."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message: text, or binary data."""

    is_binary: bool
    payload: bytes


@dataclass(frozen=True, slots=True)
class Step:
    """Something that the server did."""

    after: int
    """How many messages of the client had arrived."""
    delay: float
    """Seconds since the last of these messages, or since the previous step if that was later."""
    message: Message | None = None
    """The message that the server sent; None if it closed the connection."""
    code: int | None = None
    """The code of its Close frame; None for a Close frame without one."""
    reason: str = ""
    drops: bool = False
    """Whether the server dropped the connection without a Close frame."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A recorded connection."""

    path: str
    """The path that the client connected to, without its query."""
    steps: tuple[Step, ...]
    """What the server did, in order."""
    received: tuple[Message | None, ...]
    """The messages of the client; None for one that was not recorded whole."""
    status: int = 101
    """The status of the response to the handshake."""
    subprotocol: str | None = None
    """The subprotocol of the response."""


def read_files(paths: Iterable[str]) -> list[Recording]:
    """
    Read the recordings of files.

    Args:
        paths: the paths of the files.

    Raises:
        RecordingError: a file cannot be read, or is not a recording.
    """
    found = []
    for path in paths:
        try:
            # Some editors put a byte order mark in front.
            text = Path(path).read_text("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise RecordingError(f"{path}: {reason}") from None
        found += read_recordings(text, path)
    return found


def read_recordings(text: str, where: str) -> list[Recording]:
    """
    Read a file.

    Args:
        text: the content: events of a tap as JSON lines, or a HAR.
        where: the name of the file, for error messages.

    Returns:
        The recorded connections; at least one.

    Raises:
        RecordingError: the text is neither, or server messages are missing.
    """
    try:
        whole = _parse_whole(text)
        if isinstance(whole, dict) and "log" in whole:
            return _read_har(whole)
        # Not `splitlines`: a text message may contain U+2028 or U+0085.
        return [_read_lines([_parse(line) for line in text.split("\n") if line.strip()])]
    except RecordingError as error:
        raise RecordingError(f"{where}: {error}") from None
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError):
        raise RecordingError(
            f"{where}: expected the events of a tap (format=jsonl), or a HAR with WebSockets"
        ) from None


def _parse(text: str) -> Any:
    """
    Parse JSON, without NaN and Infinity.

    Raises:
        ValueError: the text is not JSON, or too deeply nested.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("too deeply nested") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _parse_whole(text: str) -> object:
    try:
        return _parse(text)
    except ValueError:
        return None


def _seconds(at: Any) -> float:
    """
    Return a time in seconds.

    Raises:
        ValueError: the time is not a finite number.
    """
    seconds = float(at)
    # 1e309 is infinite, although JSON permits it.
    if not isfinite(seconds):
        raise ValueError("a time is not finite")
    return seconds


def _status(given: Any) -> int:
    """
    Return the status with which to answer a handshake: 101, or one that refuses it.

    Raises:
        RecordingError: the recorded server has answered with another one.
    """
    status = int(given)
    if status == HTTPStatus.SWITCHING_PROTOCOLS:
        return status
    if not 300 <= status <= 599:
        raise RecordingError(f"the server answered the handshake with {status}: expected 101, or 300 to 599")
    # RFC 9110 section 15: an unknown status is like the first one of its class.
    return status if status in set(HTTPStatus) else status // 100 * 100


def _closing(code: Any, reason: str) -> dict[str, Any]:
    """
    Return what a Close frame has contained.

    Raises:
        ValueError: no Close frame can contain it.
    """
    if code is not None and not 0 <= int(code) <= 0xFFFF:
        raise ValueError("a close code has two bytes")
    reason.encode("utf-8")
    return {"code": None if code is None else int(code), "reason": reason}


class _Builder:
    """Collects what a connection carried, in order."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.received: list[Message | None] = []
        self._last = 0.0

    def begin(self, at: Any) -> None:
        self._last = _seconds(at)

    def receive(self, at: Any, message: Message | None) -> None:
        self.received.append(message)
        self._last = max(self._last, _seconds(at))

    def send(self, at: Any, **what: Any) -> None:
        delay = round(max(0.0, _seconds(at) - self._last), 6)
        self.steps.append(Step(len(self.received), delay, **what))
        self._last = max(self._last, _seconds(at))


# The events of a tap.


def _read_lines(events: list[Mapping[str, Any]]) -> Recording:
    if not events:
        raise ValueError
    reader = _EventReader()
    for event in events:
        reader.read(event)
    return reader.recording()


class _EventReader:
    """Reads the events of a tap."""

    def __init__(self) -> None:
        self._built = _Builder()
        self._parts: dict[str, tuple[int, list[bytes], bool]] = {}
        """Direction -> opcode and payloads of the message that has begun, and whether they are whole."""
        self._target, self._status = "/", 101
        self._subprotocol: str | None = None
        self._has_closed = False

    def read(self, event: Mapping[str, Any]) -> None:
        kind = event["type"]
        if kind == "gap":
            raise RecordingError(f"{event['missed']} events are missing: read the tap while the connection is open")
        if kind == "handshake":
            self._read_handshake(event)
        elif kind == "joined":
            self._built.begin(event["t"])
        elif kind == "frame" and event["message"] is not None:
            self._read_frame(event)
        elif kind == "frame" and event["opcode"] == CLOSE:
            self._read_close(event)
        elif kind == "tcp" and not self._has_closed:
            self._built.send(event["t"], drops=True)
            self._has_closed = True

    def recording(self) -> Recording:
        steps, received = tuple(self._built.steps), tuple(self._built.received)
        return Recording(_path_of(self._target), steps, received, self._status, self._subprotocol)

    def _read_handshake(self, event: Mapping[str, Any]) -> None:
        word = event["line"].split(" ")[1]
        if event["direction"] == "in":
            self._target = word
            return
        self._status, self._subprotocol = _status(word), _find_subprotocol(event["headers"])
        self._built.begin(event["t"])

    def _read_close(self, event: Mapping[str, Any]) -> None:
        # If the client closed first, the server only answers.
        if event["direction"] == "out" and not self._has_closed:
            self._built.send(event["t"], **_closing(event["code"], event["reason"]))
        self._has_closed = True

    def _read_frame(self, event: Mapping[str, Any]) -> None:
        direction = event["direction"]
        opcode, payloads, is_whole = self._parts.pop(direction, (event["opcode"], [], True))
        is_whole = is_whole and "cut" not in event and event["length"] is not None
        payloads.append(event["text"].encode("utf-8") if "text" in event else b64decode(event["payload"]))
        if not event["fin"]:
            self._parts[direction] = opcode, payloads, is_whole
            return
        message = Message(opcode != TEXT, b"".join(payloads)) if is_whole else None
        if direction == "in":
            self._built.receive(event["t"], message)
        elif message is not None:
            self._built.send(event["t"], message=message)
        else:
            raise RecordingError(
                f"message {event['message']} of the server is not whole: read the tap while the connection is open"
            )


def _find_subprotocol(headers: Iterable[Iterable[str]]) -> str | None:
    return next((value for name, value in headers if name.lower() == "sec-websocket-protocol"), None)


def _path_of(target: str) -> str:
    path = unquote(urlsplit(target).path) or "/"
    if not path.startswith("/"):
        raise ValueError("a path begins with a slash")
    return path


# HAR.


def _read_har(archive: Mapping[str, Any]) -> list[Recording]:
    found = [one for entry in archive["log"]["entries"] for one in _read_entry(entry)]
    if not found:
        raise RecordingError("the HAR has no WebSocket: its entries have no `_webSocketMessages`")
    return found


def _read_entry(entry: Mapping[str, Any]) -> Iterator[Recording]:
    messages = entry.get("_webSocketMessages")
    if messages is None:
        return
    if "events are missing" in (entry.get("comment") or ""):
        raise RecordingError("events are missing: read the tap while the connection is open")
    built = _Builder()
    if messages:
        started = datetime.fromisoformat(entry["startedDateTime"]).timestamp()
        built.begin(min(started, _seconds(messages[0]["time"])))
    for one in messages:
        # Chrome also lists errors, and other tools control frames.
        if one["type"] not in ("send", "receive") or one["opcode"] >= CLOSE:
            continue
        is_text = one["opcode"] == TEXT
        message = Message(not is_text, one["data"].encode("utf-8") if is_text else b64decode(one["data"]))
        if one["type"] == "send":
            built.receive(one["time"], message)
        else:
            built.send(one["time"], message=message)
    response = entry["response"]
    headers = [(header["name"], header["value"]) for header in response["headers"]]
    # Chrome writes 101; some exporters leave the status at 0.
    status = _status(response["status"] or HTTPStatus.SWITCHING_PROTOCOLS)
    path = _path_of(entry["request"]["url"])
    yield Recording(path, tuple(built.steps), tuple(built.received), status, _find_subprotocol(headers))
