"""The forms in which the events of a tap are sent: Server-Sent Events, JSON lines, and HAR."""

import codecs
import json
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from wsserver import __version__
from wsserver.wire.tap_readers import Event

__all__ = ["FORMATS", "Form", "describe"]

_TEXT, _BINARY = 1, 2


class Form(Protocol):
    """Writes the events of one reader."""

    def event(self, event: Event, limit: int) -> bytes:
        """Write an event, with at most `limit` bytes of its payload."""

    def gap(self, missed: int) -> bytes:
        """Write that a number of events is missing."""

    def end(self) -> bytes:
        """Write the end of the response."""


def describe(event: Event, limit: int) -> dict[str, Any]:
    """
    Return an event as JSON-serializable data.

    Args:
        event: the event.
        limit: maximum number of bytes of the payload.
    """
    if event.payload is None:
        return event.fields
    payload = event.payload[:limit]
    is_whole = len(payload) == event.payload_size
    fields = {**event.fields, "payload": b64encode(payload).decode("ascii")}
    if not is_whole:
        fields["cut"] = event.payload_size - len(payload)
    with suppress(UnicodeDecodeError):
        # A character may be cut off at the end of the prefix.
        fields["text"] = codecs.getincrementaldecoder("utf-8")().decode(payload, is_whole)
    return fields


def _write(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


class JSONLines:
    """One JSON object in each line."""

    def event(self, event: Event, limit: int) -> bytes:
        """Write an event, with at most `limit` bytes of its payload: as text, or in base64 if it is not UTF-8."""
        fields = describe(event, limit)
        if "text" in fields:
            del fields["payload"]
        return _write(fields) + b"\n"

    def gap(self, missed: int) -> bytes:
        """Write that a number of events is missing."""
        return _write({"type": "gap", "missed": missed}) + b"\n"

    def end(self) -> bytes:
        """Write nothing: the lines are complete."""
        return b""


class Events:
    """
    Server-Sent Events: the same objects as `data`.

    Args:
        serial: distinguishes the IDs of this tap from those of another one.
    """

    def __init__(self, serial: int) -> None:
        self._serial = serial

    def event(self, event: Event, limit: int) -> bytes:
        """Write an event, with at most `limit` bytes of its payload."""
        return b"id: %d-%d\ndata: %b\n\n" % (self._serial, event.number, _write(describe(event, limit)))

    def gap(self, missed: int) -> bytes:
        """Write that a number of events is missing."""
        return b"data: %b\n\n" % _write({"type": "gap", "missed": missed})

    def end(self) -> bytes:
        """Write nothing: the events are complete."""
        return b""


class HAR:
    """
    An HTTP Archive 1.2 with one entry, and with its messages as Chrome writes them: `_webSocketMessages`.

    The messages are written as they pass, so a long recording needs no memory.
    """

    def __init__(self) -> None:
        self._start = 0.0
        self._request: dict[str, Any] | None = None
        self._has_begun = self._has_messages = False
        self._parts: dict[tuple[str, int], tuple[int, bytearray]] = {}
        """Direction and number of a message -> its opcode, and the payload of its frames so far."""
        self._seconds = 0.0
        self._missed = 0

    def event(self, event: Event, limit: int) -> bytes:
        """Write an event, with at most `limit` bytes of its payload."""
        fields = event.fields
        self._seconds = fields["t"]
        kind = fields["type"]
        if kind in ("handshake", "joined") and not self._has_begun:
            return self._handshake(fields)
        if kind == "frame" and fields["message"] is not None:
            return self._frame(fields, (event.payload or b"")[:limit])
        return b""

    def gap(self, missed: int) -> bytes:
        """Count the events that are missing."""
        self._missed += missed
        return b""

    def end(self) -> bytes:
        """Write the rest of the archive."""
        begin = b"" if self._has_begun else self._begin({})
        missed = f"; {self._missed} events are missing" if self._missed else ""
        rest = {
            "time": round(self._seconds * 1000, 3),
            "cache": {},
            "timings": {"send": 0, "wait": round(self._seconds * 1000, 3), "receive": 0},
            "comment": f"recorded by wsserver as the server saw it{missed}",
        }
        return begin + b"]," + _write(rest)[1:] + b"]}}\n"

    def _handshake(self, fields: dict[str, Any]) -> bytes:
        if "time" in fields:
            self._start = datetime.fromisoformat(fields["time"]).timestamp() - fields["t"]
        if fields["type"] == "handshake" and fields["direction"] == "in":
            self._request = fields
            return b""
        return self._begin(fields)

    def _begin(self, response: dict[str, Any]) -> bytes:
        self._has_begun = True
        entry = {
            "startedDateTime": _show_time(self._start),
            "_resourceType": "websocket",
            "request": _request(self._request or {}),
            "response": _response(response),
        }
        log = {
            "version": "1.2",
            "creator": {"name": "wsserver", "version": __version__},
            "pages": [],
        }
        return b'{"log":%b,"entries":[%b,"_webSocketMessages":[' % (_write(log)[:-1], _write(entry)[:-1])

    def _frame(self, fields: dict[str, Any], payload: bytes) -> bytes:
        key = fields["direction"], fields["message"]
        opcode, whole = self._parts.pop(key, (fields["opcode"], bytearray()))
        whole += payload
        if not fields["fin"]:
            # A message that never ends must not be kept for ever; each direction has one.
            self._parts = {one: part for one, part in self._parts.items() if one[0] != key[0]}
            self._parts[key] = opcode, whole
            return b""
        text = _decode(bytes(whole)) if opcode == _TEXT else None
        message = {
            "type": "send" if fields["direction"] == "in" else "receive",
            "time": round(self._start + fields["t"], 6),
            "opcode": _TEXT if text is not None else _BINARY,
            "data": text if text is not None else b64encode(whole).decode("ascii"),
        }
        begin = b"" if self._has_begun else self._begin({})
        comma = b"," if self._has_messages else b""
        self._has_messages = True
        return begin + comma + _write(message)


def _decode(payload: bytes) -> str | None:
    try:
        return payload.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _show_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _headers(fields: dict[str, Any]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in fields.get("headers", ())]


def _request(fields: dict[str, Any]) -> dict[str, Any]:
    method, _, rest = fields.get("line", "GET / HTTP/1.1").partition(" ")
    target, _, version = rest.rpartition(" ")
    headers = _headers(fields)
    host = next((one["value"] for one in headers if one["name"].lower() == "host"), "localhost")
    return {
        "method": method,
        "url": f"ws://{host}{target}",
        "httpVersion": version,
        "headers": headers,
        "queryString": [],
        "cookies": [],
        "headersSize": -1,
        "bodySize": 0,
    }


def _response(fields: dict[str, Any]) -> dict[str, Any]:
    version, _, rest = fields.get("line", "HTTP/1.1 101 Switching Protocols").partition(" ")
    status, _, reason = rest.partition(" ")
    return {
        "status": int(status) if status.isdecimal() else 0,
        "statusText": reason,
        "httpVersion": version,
        "headers": _headers(fields),
        "cookies": [],
        "content": {"size": 0, "mimeType": "x-unknown"},
        "redirectURL": "",
        "headersSize": -1,
        "bodySize": -1,
    }


FORMATS: Final[dict[str, Callable[[int], Form]]] = {
    "sse": Events,
    "jsonl": lambda _: JSONLines(),
    "har": lambda _: HAR(),
}
"""Value of the parameter `format` -> makes what writes the events, given the serial number of the tap."""
