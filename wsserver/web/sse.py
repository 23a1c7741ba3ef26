"""`/sse?channel=foo`: stream the publications of channel `foo` as Server-Sent Events (HTML Standard, section 9.2)."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from http import HTTPStatus
from typing import Any, cast

from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request
from zope.interface import implementer

from wsserver.centrifugecodes import CONNECTION_CLOSED
from wsserver.closecodes import CloseCode
from wsserver.endpoints.authorization import Admitted, Authorizer, Credentials
from wsserver.endpoints.raw.formats import gap_notice, rewound_notice, write_publication
from wsserver.endpoints.raw.positions import Missed, refuse_subscription
from wsserver.endpoints.raw.request import UNKNOWN_POSITION, Format
from wsserver.endpoints.raw.subscription import RawSubscription
from wsserver.hooks.messages import Caller
from wsserver.hub.filters import with_filter
from wsserver.hub.hub import Hub
from wsserver.hub.publication import Publication
from wsserver.hub.stream import parse_positions
from wsserver.typing import ChannelName, Header
from wsserver.web.site import PageRequest, refuse
from wsserver.wire.access_log import show_path, show_peer
from wsserver.wire.drain import Wait, must_wait
from wsserver.wire.eventstream import (
    HEADERS,
    LAST_CHUNK,
    accepts_event_stream,
    is_temporary,
    temporary_stream,
    write_retry,
)
from wsserver.wire.fastpath import Output
from wsserver.wire.frames import FIN_TEXT
from wsserver.wire.http11 import FORWARDING_HEADERS, Refusal, bad_request, parse_parameters
from wsserver.wire.linger import LINGER
from wsserver.wire.protocol import ServerFactory

__all__ = ["SSE"]

# At module level, because a Twisted Logger in a class body uses the name of the class as its namespace.
_log = Logger(namespace="wsserver.sse")

PING_INTERVAL = 15.0
"""Seconds between comments in a stream, which keep proxies from closing it as idle (HTML Standard, section 9.2.7)."""


CLOSED = (CONNECTION_CLOSED.code, CONNECTION_CLOSED.reason)
"""Code and reason that the backend receives when a client has ended its stream."""

FAILED = (CloseCode.INTERNAL_ERROR, "internal server error")
"""Code and reason that the backend receives when the server failed."""


class SSE(Resource):
    """
    The resource that serves event streams.

    Args:
        hub: the hub of the channels.
        authorizer: decides which channels a client may subscribe to.
        connections: the server's factory, which ends the streams when the server stops.
        reactor: the reactor, for timers.
        default: the format of streams whose client requests none.
        max_queued: maximum size of a client's send queue, in bytes.
        close_on_gap: whether to end a stream, instead of sending a gap notice, if publications may be missing.
    """

    isLeaf = True

    def __init__(
        self,
        hub: Hub,
        authorizer: Authorizer,
        connections: ServerFactory,
        reactor: IReactorTime,
        *,
        default: Format,
        max_queued: int,
        close_on_gap: bool,
    ) -> None:
        super().__init__()
        self.hub = hub
        self.authorizer = authorizer
        self.connections = connections
        self.reactor = reactor
        self.configure(default, max_queued=max_queued, close_on_gap=close_on_gap)

    def configure(self, default: Format, *, max_queued: int, close_on_gap: bool) -> None:
        """Replace what the options define for further streams; for the arguments see the constructor."""
        self.max_queued = max_queued
        self.close_on_gap = close_on_gap
        self._default = default

    def render_HEAD(self, request: Request) -> bytes:
        """Refuse with 405: a stream without its body would only keep the connection open."""
        reason = "method HEAD is not allowed for an event stream: expected GET"
        return refuse(request, Refusal(HTTPStatus.METHOD_NOT_ALLOWED, reason, (("Allow", "GET"),)))

    def render_GET(self, request: Request) -> Any:
        """Authorize the client, then start the stream or refuse the request."""
        query = parse_parameters((request.uri.partition(b"?")[2]).decode("ascii"))
        if query is None:
            return refuse(request, bad_request("the query is not UTF-8 or has more than a thousand parameters"))
        is_forwarded = any(request.requestHeaders.hasHeader(name) for name in FORWARDING_HEADERS)
        host = "" if is_forwarded else (request.getHeader(b"host") or b"").decode("latin-1")
        authorizations = request.requestHeaders.getRawHeaders(b"authorization") or []
        caller = self.authorizer.caller("sse", "raw", _headers(request), show_peer(request.getClientAddress()))
        credentials = Credentials(query, host, [value.decode("latin-1") for value in authorizations], caller=caller)
        gone: list[bool] = []
        request.notifyFinish().addBoth(lambda _: gone.append(True))
        done = self.authorizer.admit(credentials, self._default).addCallback(self._admitted, request, caller, gone)
        done.addErrback(self._failed, request, gone)
        return NOT_DONE_YET

    def _failed(self, failure: Failure, request: Request, gone: list[bool]) -> None:
        _log.failure("an event stream failed", failure)
        if not gone:
            _refuse(request, Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "internal server error"))

    def _admitted(self, found: Admitted | Refusal, request: Request, caller: Caller, gone: list[bool]) -> None:
        if not isinstance(found, Refusal) and found.request.binary:
            found = bad_request(
                "binary=1 is not supported for event streams; without it, binary data is sent in base64"
            )
        if isinstance(found, Refusal):
            if not gone:
                _refuse(request, found)
            return
        # A browser sends this header when it reconnects, with the query of the first request. So the header is newer.
        if last := (request.getHeader(b"last-event-id") or b"").decode("latin-1"):
            known = parse_positions(last, len(found.request.channels)) is not None
            found = replace(found, request=replace(found.request, last_event_id=last if known else UNKNOWN_POSITION))
        stream = _Stream(self, request, found, caller)
        if gone:
            # The client disconnected while keys were fetched or the backend was asked.
            stream.unsubscribe(*CLOSED)
        else:
            stream.begin()


@implementer(IPushProducer)
class _Stream(RawSubscription, Output):
    """The event stream of one client."""

    sends_event_ids = True

    transport_name = "sse"
    """The name of the transport in the metrics."""

    def __init__(self, resource: SSE, request: Request, admitted: Admitted, caller: Caller) -> None:
        super().__init__()
        self.hub = resource.hub
        self.authorizer = resource.authorizer
        self.max_queued = resource.max_queued
        self.close_on_gap = resource.close_on_gap
        self._connections = resource.connections
        self._reactor = resource.reactor
        self._counters = resource.connections.counters
        self._request = request
        self._chunked = request.clientproto == b"HTTP/1.1"
        """Whether the response is sent in chunks; `twisted.web` does so if the client's HTTP version has them."""
        # The ID of an event contains the client's positions in all its channels, so clients share encoded events only
        # if they have the same single channel.
        only = "" if len(admitted.request.channels) == 1 else caller.client
        self.kind = with_filter(("sse", admitted.request.format, self._chunked, only), admitted.request.filter)
        self._format = admitted.request.format
        self._is_over = self._ends_after_recovery = self._is_blocked = False
        """`_is_over`: the stream has ended. `_ends_after_recovery`: it ends once the missed publications are sent.
        `_is_blocked`: the client does not read."""
        self._ping: Any = None
        self._abort_timer: Any = None
        self.set_client(admitted, caller)

    def begin(self) -> None:
        """Subscribe to the channels; the response starts once the subscriptions are active."""
        self._request.notifyFinish().addErrback(self._on_finish)
        self.subscribe().addCallbacks(self._open, self._not_subscribed).addErrback(self._failed)

    def _open(self, _: object) -> None:
        if self._is_over:
            return
        request = self._request
        _set_headers(request)
        request.registerProducer(self, True)
        # `retry:` sets a random delay, so that clients do not reconnect all at once after their streams have ended.
        request.write(b": listening\n%s\n" % write_retry())
        # Everything after the head is written to the transport directly, as the fan-out does.
        self.transport = cast(PageRequest, request).channel.transport
        self._counters.opened[self.transport_name] += 1
        self._schedule_ping()
        self._connections.add(self)
        self.start()
        if self._positions is not None and (event_id := self._positions.write()):
            self._send(self.position_frame(event_id), 0, 0)
        cast(PageRequest, request).on_half_close(self._half_closed)

    def _half_closed(self) -> None:
        """End the stream after recovery: the client has closed its sending side, and may have disconnected."""
        self._ends_after_recovery = True
        self._end_if_recovered()

    def _end_if_recovered(self) -> None:
        if self._ends_after_recovery and not self.is_recovering:
            # The last page may be queued.
            self.release()
            self.close(*CLOSED)

    def _send_missed(self, missed: list[Missed], send: Callable[[bytes, int, int], None]) -> None:
        super()._send_missed(missed, send)
        self._end_if_recovered()

    def _not_subscribed(self, failure: Failure) -> None:
        refusal = refuse_subscription(failure)
        if not self._is_over:
            self._is_over = True
            self.unsubscribe(*CLOSED)
            _refuse(self._request, refusal)

    def _failed(self, failure: Failure) -> None:
        """Refuse or end the stream after an internal error; otherwise the client would wait forever."""
        _log.failure("an event stream failed", failure)
        if self._is_over:
            return
        if self._request.startedWriting:
            self.close(*FAILED)
            return
        self._is_over = True
        self._leave(*FAILED)
        _refuse(self._request, Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "internal server error"))

    def _schedule_ping(self) -> None:
        self._ping = self._reactor.callLater(PING_INTERVAL, self._send_ping)

    def _send_ping(self) -> None:
        if self._send_queue is None:
            self._send(self._chunk(b": ping\n\n"), 0, 0)
        self._schedule_ping()

    def _on_finish(self, _: object) -> None:
        self._is_over, self._writable, self.transport = True, False, None
        self._connections.connections.discard(self)
        if self._abort_timer is not None and self._abort_timer.active():
            self._abort_timer.cancel()
        self._leave(*CLOSED)

    def _leave(self, code: int, reason: str) -> None:
        if self._ping is not None:
            self._ping.cancel()
            self._ping = None
            self._counters.close(self.transport_name, code, "peer" if (code, reason) == CLOSED else "server")
            self._counters.traffic[self.transport_name].move(self)
        self.unsubscribe(code, reason)

    # The interface of `RawSubscription`.

    def encode(self, channel: ChannelName, publication: Publication, event_id: str) -> bytes:
        """Return a publication as an event, with one `data:` line for each line of the payload."""
        payload, first = write_publication(channel, publication, self._format)
        if first == FIN_TEXT:
            return self._chunk(_event(payload, event_id=event_id))
        envelope, _ = write_publication(channel, publication, Format.JSON)
        return self._chunk(_event(envelope, b"bytes", event_id))

    def gap_frame(self, channel: ChannelName, event_id: str = "") -> tuple[bytes, int]:
        """Return a gap notice as an event, and the size of its payload in bytes."""
        notice = gap_notice(channel)
        return self._chunk(_event(notice, b"gap", event_id)), len(notice)

    def position_frame(self, event_id: str) -> bytes:
        """Return an event without data, which only sets the last event ID (HTML Standard, section 9.2.6)."""
        return self._chunk(b"id: %s\n\n" % event_id.encode("ascii"))

    def rewound_frame(self, channel: ChannelName, event_id: str) -> tuple[bytes, int]:
        """Return the notice that a rewind has ended as an event, and the size of its payload in bytes."""
        notice = rewound_notice(channel)
        return self._chunk(_event(notice, b"rewound", event_id)), len(notice)

    def _send(self, frames: bytes, count: int, size: int) -> None:
        if not self._is_over and self.transport is not None:
            self.messages_out += count
            self.bytes_out += size
            self.transport.write(frames)

    def _chunk(self, event: bytes) -> bytes:
        """Return an event as it is sent: as a chunk (RFC 9112 section 7.1), if the response has chunks."""
        return b"%x\r\n%b\r\n" % (len(event), event) if self._chunked else event

    def _has_ended(self) -> bool:
        return self._is_over

    def close(self, code: int, reason: str) -> None:
        """
        End the stream. An EventSource then reconnects automatically.

        Args:
            code: the close code that the backend receives. The client receives no code.
            reason: the close reason that the backend receives.
        """
        if self._is_over:
            return
        self._is_over, self._writable = True, False
        self._cancel_queue_deadline()
        self._send_queue = None
        self._leave(code, reason)
        self._request.unregisterProducer()
        if self._chunked and self.transport is not None:
            self.transport.write(LAST_CHUNK)
        # The client has `LINGER` seconds to read the bytes that are already written.
        transport: Any = self._request.channel.transport
        self._abort_timer = self._reactor.callLater(LINGER, transport.abortConnection)
        self._request.loseConnection()

    def drain(self, code: int, reason: str, wait: Wait) -> bool:
        """End the stream: the server is stopping. An EventSource reconnects after the delay of `retry:`."""
        if must_wait(wait, is_answering=False, is_blocked=self._is_blocked and not self._is_over):
            return False
        self.close(code, reason)
        return True

    # IPushProducer.

    def pauseProducing(self) -> None:
        """Queue further events: the client does not read."""
        self._is_blocked = True
        self.hold()

    def resumeProducing(self) -> None:
        """Send the queued events, then continue the recovery."""
        self._is_blocked = False
        self.release()
        self.read_page()

    def stopProducing(self) -> None:
        """Do nothing: the Deferred of `notifyFinish` reports the end of the connection, too."""


def _event(payload: bytes, name: bytes = b"", event_id: str = "") -> bytes:
    lines = payload.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    start = b"id: " + event_id.encode("ascii") + b"\n" if event_id else b""
    if name:
        start += b"event: " + name + b"\n"
    return start + b"".join(b"data: " + line + b"\n" for line in lines) + b"\n"


def _headers(request: Request) -> Iterator[Header]:
    for name, values in request.requestHeaders.getAllRawHeaders():
        yield from ((name.decode("latin-1").lower(), value.decode("latin-1")) for value in values)


def _refuse(request: Request, refusal: Refusal) -> None:
    """Refuse a stream. An EventSource gets a temporary refusal as an empty stream, so that it reconnects."""
    path = show_path(request.uri.partition(b"?")[0].decode("latin-1"))
    page = cast(PageRequest, request)
    page.logged = False
    page.site.access_log.refused(refusal, number=None, peer=show_peer(request.getClientAddress()), path=path)
    accept = [value.decode("latin-1") for value in request.requestHeaders.getRawHeaders(b"accept") or []]
    if is_temporary(refusal) and accepts_event_stream(accept):
        _set_headers(request)
        body = temporary_stream(refusal)
    else:
        body = refuse(request, refusal)
    request.setHeader(b"content-length", b"%d" % len(body))
    request.write(body)
    request.finish()


def _set_headers(request: Request) -> None:
    for name, value in HEADERS:
        request.setHeader(name.lower().encode("ascii"), value.encode("ascii"))
