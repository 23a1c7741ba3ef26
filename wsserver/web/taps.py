"""`/tap/...`: stream what the wire of one WebSocket connection carried, to its own client or to the operator."""

import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

import msgspec

from wsserver.text import quote
from wsserver.web.api import API
from wsserver.web.endless import EndlessResponse
from wsserver.web.responses import Response, StreamResponse, refusal_response, write_lines
from wsserver.web.tap_formats import FORMATS, Form
from wsserver.wire.drain import Wait
from wsserver.wire.eventstream import HEADERS, UNBUFFERED
from wsserver.wire.http11 import Refusal, Request, bad_request, forbidden
from wsserver.wire.protocol import ServerFactory, ServerProtocol
from wsserver.wire.tap_attach import join
from wsserver.wire.tap_events import Tap
from wsserver.wire.tap_readers import Event
from wsserver.wire.taps import MAX_READERS, RETENTION
from wsserver.wire.timers import Deadline

__all__ = ["MAX_QUEUED", "TapPath", "refuse_key"]

MAX_QUEUED: Final = 1024 * 1024
"""Maximum size in bytes of the events that wait for a reader who does not read."""

MAX_PAYLOAD: Final = 1024 * 1024
"""Maximum value of the parameter `payload`."""

_PAYLOAD: Final = {"sse": 256, "jsonl": MAX_PAYLOAD, "har": MAX_PAYLOAD}
"""Value of the parameter `format` -> default value of the parameter `payload`."""

PING_INTERVAL: Final = 15.0
"""Seconds between comments in an event stream, which keep proxies from closing it as idle."""

_PREFIX: Final = "/tap/"


class TapPath:
    """
    Answers requests for `/tap/SECRET` and `/tap/ID`.

    Args:
        factory: the server's factory, with the taps and the connections.
        check_key: returns the refusal of a request without the API key; None if there is no key on this port.
    """

    def __init__(self, factory: ServerFactory, check_key: Callable[[Request], Refusal | None] | None) -> None:
        self._factory = factory
        self._check_key = check_key

    def answer(self, request: Request, body: bytes, peer: str) -> Response | StreamResponse:  # noqa: ARG002
        """Answer a request."""
        found = self._answer(request, peer)
        if not isinstance(found, Refusal):
            return found
        # With several processes, the next request must come on another connection, which another one may accept.
        closes = found.status == HTTPStatus.NOT_FOUND and self._factory.settings.workers != 1
        return msgspec.structs.replace(refusal_response(found), closes=closes)

    def _answer(self, request: Request, peer: str) -> Response | StreamResponse | Refusal:
        if request.method != "GET":
            reason = f"method {quote(request.method)} is not allowed: expected GET"
            return Refusal(HTTPStatus.METHOD_NOT_ALLOWED, reason, (("Allow", "GET"),))
        query = request.query
        if query is None:
            return bad_request("the query is not UTF-8 or has more than a thousand parameters")
        values = {name: given[-1] for name, given in query.items()}
        name = values.get("format", "sse")
        if name not in FORMATS:
            return bad_request(f"format={quote(name)} is invalid: expected sse, jsonl or har")
        payload = _read_number(values.get("payload", str(_PAYLOAD[name])))
        if payload is None:
            return bad_request(f"payload={quote(values['payload'])} is invalid: expected 0 to {MAX_PAYLOAD}")
        found = self._find(request, values)
        if isinstance(found, Refusal):
            return found
        tap, is_operator = found
        last = _read_last(request.fields.get("last-event-id", ""), tap)
        if tap.has_ended and last >= tap.last_number:
            # It ends the attempts of an EventSource to connect again (HTML Standard, section 9.2.3).
            return Response(HTTPStatus.NO_CONTENT, b"")
        # A client must not be able to keep the operator away.
        if len(tap.readers) >= MAX_READERS and not is_operator:
            self._factory.counters.limits["tap_readers"] += 1
            return Refusal(HTTPStatus.TOO_MANY_REQUESTS, f"the tap has {MAX_READERS} readers already")
        self._factory.taps.opened(tap, peer)
        stream = _Stream(
            self._factory,
            tap,
            FORMATS[name](tap.serial),
            payload,
            last,
            is_chunked=request.version == (1, 1),
            name=name,
        )
        stream.follows = values.get("follow", "1") != "0"
        start = b": tap\n\n" if name == "sse" else b""
        return StreamResponse(stream, _head_lines(name, tap), start, b"")

    def _find(self, request: Request, values: dict[str, str]) -> tuple[Tap, bool] | Refusal:
        """Return the tap that a request may read, and whether the API key permits it; or why it may not."""
        taps = self._factory.taps
        if not taps.enabled:
            return Refusal(HTTPStatus.NOT_FOUND, "taps are disabled; see the server option --tap")
        text = request.raw_path.removeprefix(_PREFIX).rstrip("/")
        if taps.is_secret(text):
            tap = taps.find(text)
            return (tap, False) if tap is not None else self._not_found("no tap has this secret")
        if not taps.is_id(text):
            return self._not_found("expected a secret, or the ID of a connection")
        number = taps.number_of(text)
        secret = request.fields.get("wsserver-tap-secret") or values.get("secret")
        if secret is not None:
            if number is None:
                return self._not_found("this process has not given this ID to a connection")
            if not text.isascii() or not taps.knows(text, secret):
                return forbidden("the secret does not belong to this connection")
        elif (refusal := self._refuse_key(request)) is not None:
            return refusal
        if number is None:
            return self._not_found("this process has not given this ID to a connection")
        is_operator = secret is None
        joined = taps.of_connection(number) or self._join(number, is_operator=is_operator)
        return joined if isinstance(joined, Refusal) else (joined, is_operator)

    def _refuse_key(self, request: Request) -> Refusal | None:
        if self._check_key is None:
            return forbidden("expected a secret of the client; with --admin-listen, the API key is for that port")
        return self._check_key(request)

    def _join(self, number: int, *, is_operator: bool) -> Tap | Refusal:
        connection = next(
            (one for one in self._factory.connections if isinstance(one, ServerProtocol) and one.number == number), None
        )
        if connection is None:
            return self._not_found("the connection is closed")
        tap = join(connection, is_limited=not is_operator)
        return tap if isinstance(tap, Tap) else Refusal(HTTPStatus.CONFLICT, tap)

    def _not_found(self, reason: str) -> Refusal:
        reason += (
            "; connect with ?tap=SECRET, 32 to 64 hexadecimal digits; a tap can be read until "
            f"{RETENTION:.0f} s after its connection has closed, and a server has up to --max-taps"
        )
        if self._factory.settings.workers == 1:
            return Refusal(HTTPStatus.NOT_FOUND, reason)
        reason += "; the connection may be in another process (--workers): retry on a new connection"
        return Refusal(HTTPStatus.NOT_FOUND, reason)


def refuse_key(api: API) -> Callable[[Request], Refusal | None]:
    """Return the check of the API key, for `TapPath`."""

    def check(request: Request) -> Refusal | None:
        problem = api.check_key(request)
        return None if problem is None else Refusal(problem.status, problem.message, problem.headers)

    return check


def _read_number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 8 and int(text) <= MAX_PAYLOAD else None


def _read_last(text: str, tap: Tap) -> int:
    """Return the number in the ID of the last event; 0 if the event belongs to another tap, with the same secret."""
    serial, _, number = text.partition("-")
    return int(number) if serial == str(tap.serial) and re.fullmatch("[0-9]{1,15}", number) else 0


def _head_lines(name: str, tap: Tap) -> bytes:
    if name == "sse":
        return write_lines(HEADERS)
    kind = "application/jsonl" if name == "jsonl" else "application/json"
    attachment = f'attachment; filename="tap-{tap.connection_id}.{name}"'
    return write_lines((("Content-Type", kind), ("Content-Disposition", attachment), *UNBUFFERED))


class _Stream(EndlessResponse):
    """The response to one reader of a tap."""

    follows = True
    """Whether the response goes on until the connection closes; otherwise it ends after what was kept."""

    def __init__(
        self, factory: ServerFactory, tap: Tap, form: Form, payload: int, last: int, *, is_chunked: bool, name: str
    ) -> None:
        super().__init__(factory, is_chunked=is_chunked)
        self.payload = payload
        """Maximum number of bytes of each payload."""
        self._tap = tap
        self._form = form
        self._last = last
        self._pings = name == "sse"
        self._ends = False
        self._queue: list[bytes] = []
        self._queued = 0
        self._missed = 0
        self._ping: Deadline | None = None

    # Called by the HTTP side of the connection.

    def begin(self, transport: Any, head: bytes, frame: bytes) -> None:
        """Send the head of the response, then the events."""
        super().begin(transport, head, frame)
        if self._pings:
            self._schedule_ping()
        self._tap.add_reader(self, self._last)
        if not self.follows:
            self.on_end()

    # Called by the tap.

    def on_event(self, event: Event) -> None:
        """Send an event, or keep it while the client does not read; beyond the limit, drop it."""
        size = min(len(event.payload or b""), self.payload)
        if self._missed or (self._is_blocked and self._queued + size > MAX_QUEUED):
            if not self._missed:
                self._factory.counters.limits["tap_queue"] += 1
            self._missed += 1
            return
        self._send(self._form.event(event, self.payload))

    def on_gap(self, missed: int) -> None:
        """Send how many events are missing."""
        self._send(self._form.gap(missed))

    def on_end(self) -> None:
        """End the response after what is queued."""
        self._ends = True
        if not self._is_blocked:
            self._end()
        elif self._abort is None:
            # A reader that never reads must not keep the events for ever.
            self._abort = self._factory.deadlines.call_later(RETENTION, self._transport.abortConnection)

    # Sending.

    def _send(self, data: bytes) -> None:
        if self._is_over or not data:
            return
        if self._is_blocked:
            self._queue.append(data)
            self._queued += len(data)
        else:
            self._write(data)

    def _schedule_ping(self) -> None:
        self._ping = self._factory.deadlines.call_later(PING_INTERVAL, self._send_ping)

    def _send_ping(self) -> None:
        if not self._is_blocked:
            self._send(b": ping\n\n")
        self._schedule_ping()

    # Ending.

    def drain(self, code: int, reason: str, wait: Wait) -> bool:  # noqa: ARG002
        """End the response once the connection that it shows is closed: the server is stopping."""
        if wait != Wait.NOTHING and not (self._tap.has_ended or self._is_over):
            return False
        self._end()
        return True

    def _leave(self) -> None:
        self._is_over, self._queue, self._queued = True, [], 0
        if self._ping is not None:
            self._ping.cancel()
            self._ping = None
        self._tap.remove_reader(self)

    def _rest(self) -> bytes:
        return self._form.end()

    # IPushProducer.

    def resumeProducing(self) -> None:
        """Send what was kept, and how many events were dropped."""
        super().resumeProducing()
        queue, self._queue, self._queued = self._queue, [], 0
        if queue:
            self._write(b"".join(queue))
        missed, self._missed = self._missed, 0
        if missed:
            self._send(self._form.gap(missed))
        if self._ends and not self._is_blocked:
            self._end()
