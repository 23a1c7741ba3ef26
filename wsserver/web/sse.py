"""`/sse?channel=foo`: stream the channel's publications as Server-Sent Events (HTML Standard, section 9.2)."""

from collections.abc import Hashable, Iterator
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
from wsserver.endpoints.authorization import Admitted, Authorizer, Credentials
from wsserver.endpoints.raw.catchup import CatchUp
from wsserver.endpoints.raw.client import RawClient
from wsserver.endpoints.raw.formats import gap_notice, write
from wsserver.endpoints.raw.positions import Missed, StreamPositions, refuse_subscription
from wsserver.endpoints.raw.request import UNKNOWN_PLACE, Format
from wsserver.errors import BrokerDown
from wsserver.hooks.messages import Caller
from wsserver.hub.hub import Hub
from wsserver.hub.presence import PresenceEvent
from wsserver.hub.publication import Publication
from wsserver.hub.send_queue import Batch, SendQueue, SlowConsumerPolicy
from wsserver.hub.stream import parse_positions
from wsserver.typing import ChannelName, Header
from wsserver.web.site import PageRequest, refuse
from wsserver.wire import access_log
from wsserver.wire.access_log import show_path, show_peer
from wsserver.wire.eventstream import HEADERS, accepts_event_stream, is_temporary, temporary_stream, write_retry
from wsserver.wire.frames import FIN_TEXT
from wsserver.wire.http11 import Refusal, bad_request, parse_parameters
from wsserver.wire.linger import LINGER

__all__ = ["SSE"]

# A module variable, because on a class Twisted replaces the namespace with the class's name.
_log = Logger(namespace="wsserver.sse")

PING_INTERVAL = 15.0
"""Seconds between comments that keep proxies from closing an idle stream (HTML Standard, section 9.2.7)."""


class SSE(Resource):
    """
    The resource that serves event streams.

    Args:
        hub: the channels.
        admission: decides which channels a client may subscribe to.
        reactor: the reactor, for timers.
        default: the format of streams whose client requests none.
        max_queued: maximum size of a client's send queue, in bytes.
        close_on_gap: whether to end a stream, instead of sending a gap notice, if publications may be missing.
    """

    isLeaf = True

    def __init__(
        self,
        hub: Hub,
        admission: Authorizer,
        reactor: IReactorTime,
        *,
        default: Format,
        max_queued: int,
        close_on_gap: bool,
    ) -> None:
        super().__init__()
        self.hub = hub
        self.admission = admission
        self.reactor = reactor
        self.max_queued = max_queued
        self.close_on_gap = close_on_gap
        self._default = default

    def render_HEAD(self, request: Request) -> bytes:
        """Refuse with 405: a stream without its body would only keep the connection open."""
        reason = "a stream of events can only be fetched"
        return refuse(request, Refusal(HTTPStatus.METHOD_NOT_ALLOWED, reason, (("Allow", "GET"),)))

    def render_GET(self, request: Request) -> Any:
        """Authorize the client, then start the stream or refuse the request."""
        query = parse_parameters((request.uri.partition(b"?")[2]).decode("ascii"))
        if query is None:
            return refuse(request, bad_request("the query is not UTF-8 or too long"))
        host = (request.getHeader(b"host") or b"").decode("latin-1")
        authorizations = request.requestHeaders.getRawHeaders(b"authorization") or []
        caller = self.admission.caller("sse", "raw", _headers(request), show_peer(request.getClientAddress()))
        credentials = Credentials(query, host, [value.decode("latin-1") for value in authorizations], caller=caller)
        gone: list[bool] = []
        request.notifyFinish().addBoth(lambda _: gone.append(True))
        done = self.admission.admit(credentials, self._default).addCallback(self._admitted, request, caller, gone)
        done.addErrback(self._failed, request, gone)
        return NOT_DONE_YET

    def _failed(self, failure: Failure, request: Request, gone: list[bool]) -> None:
        _log.failure("a stream of events failed", failure)
        if not gone:
            _refuse(request, Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "the server failed"))

    def _admitted(self, found: Admitted | Refusal, request: Request, caller: Caller, gone: list[bool]) -> None:
        if not isinstance(found, Refusal) and found.ask.binary:
            found = bad_request("an event is text: without binary=1, bytes that are no UTF-8 come in base64")
        if gone:
            return
        if isinstance(found, Refusal):
            _refuse(request, found)
            return
        assert isinstance(found, Admitted)
        # A browser sends this header when it reconnects. Its query is that of the first request, so the header wins.
        if last := (request.getHeader(b"last-event-id") or b"").decode("latin-1"):
            known = parse_positions(last, len(found.ask.channels)) is not None
            found = replace(found, ask=replace(found.ask, last_event_id=last if known else UNKNOWN_PLACE))
        _Stream(self, request, found, caller).begin()


@implementer(IPushProducer)
class _Stream:
    """The stream of one client: a `Subscriber` of the hub."""

    def __init__(self, resource: SSE, request: Request, admitted: Admitted, caller: Caller) -> None:
        self._resource = resource
        self._request = request
        self._ask = admitted.ask
        self._client = RawClient(resource.hub.clients, resource.admission, admitted, caller, self._end_by)
        self._positions = StreamPositions(self._ask)
        # The id of an event contains the client's positions in all its channels, so clients share encoded events only
        # if they have the same single channel.
        self.kind: Hashable = ("sse", self._ask.format, "" if len(self._ask.channels) == 1 else caller.client)
        self._send_queue: SendQueue | None = SendQueue(resource.max_queued)
        """The send queue, until the stream is open and while the client does not read; None while it reads."""
        self._is_over = self._ends_after_recovery = False
        """Whether the stream has ended, and whether it ends after recovery."""
        self._close_reason = (CONNECTION_CLOSED.code, CONNECTION_CLOSED.reason)
        self._ping: Any = None
        self._abort_timer: Any = None
        self._catch_up = CatchUp(
            resource.hub,
            self._positions,
            self,
            ready=lambda: self._send_queue is None and not self._is_over,
            send=self._send_missed,
            failed=self._not_recovered,
        )

    def begin(self) -> None:
        """Subscribe to the channels; the response starts once the subscriptions are active."""
        self._request.notifyFinish().addErrback(self._on_finish)
        done = self._positions.subscribe(self._resource.hub, self, positioned=True)
        done.addCallbacks(self._open, self._not_subscribed).addErrback(self._failed)

    def _open(self, _: object) -> None:
        if self._is_over:
            return
        request = self._request
        _set_headers(request)
        request.registerProducer(self, True)
        # The random delay keeps clients from reconnecting all at once after their streams have ended.
        request.write(b": listening\n%s\n" % write_retry())
        self._schedule_ping()
        self._client.come()
        self._send_missed(self._positions.begin())
        self.resumeProducing()
        # An event without data only sets the last event id (HTML Standard, section 9.2.6).
        if not self._is_over and (where := self._positions.write()):
            request.write(b"id: %s\n\n" % where.encode("ascii"))
        self._catch_up.advance()
        cast(PageRequest, request).on_half_close(self._half_closed)

    def _half_closed(self) -> None:
        """End the stream after recovery: the client has closed its sending side, and may have left."""
        self._ends_after_recovery = True
        self._end_if_recovered()

    def _end_if_recovered(self) -> None:
        if self._ends_after_recovery and self._positions.behind is None:
            self._end()

    def _send_missed(self, missed: list[Missed]) -> None:
        if self._resource.close_on_gap and any(publication is None for _, publication, _ in missed):
            self._end()
            return
        events = [
            _event(gap_notice(channel), b"gap", place)
            if publication is None
            else self._write(channel, publication, place)
            for channel, publication, place in missed
        ]
        if events:
            self._request.write(b"".join(events))
        self._end_if_recovered()

    def _not_recovered(self, failure: Failure) -> None:
        """End the stream; the client reconnects and recovers from its last event id."""
        if not failure.check(BrokerDown):
            _log.failure("recovery failed", failure)
        self._end()

    def _not_subscribed(self, failure: Failure) -> None:
        refusal = refuse_subscription(failure)
        if not self._is_over:
            self._is_over = True
            self._client.go(CONNECTION_CLOSED.code, CONNECTION_CLOSED.reason)
            _refuse(self._request, refusal)

    def _failed(self, failure: Failure) -> None:
        """Refuse or end the stream after an internal error; otherwise the client would wait forever."""
        _log.failure("an event stream failed", failure)
        if self._is_over:
            return
        if self._request.startedWriting:
            self._end()
            return
        self._is_over = True
        self._leave()
        _refuse(self._request, Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "the server failed"))

    def _schedule_ping(self) -> None:
        self._ping = self._resource.reactor.callLater(PING_INTERVAL, self._send_ping)

    def _send_ping(self) -> None:
        if self._send_queue is None:
            self._request.write(b": ping\n\n")
        self._schedule_ping()

    def _on_finish(self, _: object) -> None:
        self._is_over = True
        if self._abort_timer is not None and self._abort_timer.active():
            self._abort_timer.cancel()
        self._leave()

    def _leave(self) -> None:
        if self._ping is not None:
            self._ping.cancel()
            self._ping = None
        self._catch_up.stop()
        self._client.go(*self._close_reason)
        self._resource.hub.leave(self._ask.channels, self)

    def _end_by(self, code: int, reason: str) -> None:
        self._close_reason = (code, reason)
        self._end()

    def _end(self) -> None:
        """End the stream from the server's side; the client reconnects by itself."""
        if not self._is_over:
            self._is_over = True
            self._send_queue = None
            self._leave()
            self._request.unregisterProducer()
            # The client has `LINGER` seconds to read the bytes that are already written.
            transport: Any = self._request.channel.transport
            self._abort_timer = self._resource.reactor.callLater(LINGER, transport.abortConnection)
            self._request.loseConnection()

    # Called by the hub: the interface `Subscriber`.

    def frame(self, channel: ChannelName, publication: Publication) -> bytes:
        """Encode a publication as an event, with one `data:` line for each line of the payload."""
        return self._write(channel, publication, self._positions.move(channel, publication))

    def _write(self, channel: ChannelName, publication: Publication, place: str) -> bytes:
        payload, first = write(channel, publication, self._ask.format)
        if first == FIN_TEXT:
            return _event(payload, place=place)
        envelope, _ = write(channel, publication, Format.JSON)
        return _event(envelope, b"bytes", place)

    def event_frame(self, channel: ChannelName, event: PresenceEvent) -> bytes:  # noqa: ARG002
        """Return no bytes: raw subscribers receive no presence events."""
        return b""

    def take(self, batch: Batch) -> None:
        """Send events, or queue them by the channel's slow-consumer policy while the client does not read."""
        self._put(batch, SlowConsumerPolicy(self._resource.hub.rules.for_channel(batch.channel).slow))

    def deliver(self, frames: bytes, count: int, size: int) -> None:
        """Send events, or queue them while the client does not read; they are never dropped from the queue."""
        self._put(Batch(ChannelName(""), frames, count, size), SlowConsumerPolicy.CLOSE)

    def _put(self, batch: Batch, slow: SlowConsumerPolicy) -> None:
        if self._is_over:
            return
        if self._send_queue is None:
            self._request.write(batch.frames)
            return
        loss = self._send_queue.add(batch, slow)
        if self._send_queue.full:
            self._end()
            return
        self._resource.hub.dropped += loss.messages
        for channel in loss.channels:
            notice = gap_notice(channel)
            self._send_queue.tell(channel, _event(notice, b"gap"), len(notice))

    def missed(self, channel: ChannelName, stream: bool) -> None:
        """Send a gap notice, or end the stream if the server runs with `--gap close`."""
        if self._resource.close_on_gap:
            self._end()
            return
        # The id moves past the gap, so that the client gets no second notice of it after a reconnect.
        place = self._positions.jump(channel, self._resource.hub.position(channel)) if stream else ""
        notice = gap_notice(channel)
        self.take(Batch(channel, _event(notice, b"gap", place), 1, len(notice)))

    def on_permission_revoked(self, channel: ChannelName) -> None:  # noqa: ARG002
        """End the stream; when the client reconnects, the refusal states the reason."""
        self._end()

    # IPushProducer.

    def pauseProducing(self) -> None:
        """Queue events from now on: the client does not read."""
        if self._send_queue is None:
            self._send_queue = SendQueue(self._resource.max_queued)

    def resumeProducing(self) -> None:
        """Send the queued events, then continue the recovery."""
        queue, self._send_queue = self._send_queue, None
        if queue is not None and not self._is_over:
            frames, _, _ = queue.take()
            if frames:
                self._request.write(frames)
        self._catch_up.advance()

    def stopProducing(self) -> None:
        """Do nothing: `notifyFinish` reports the end of the connection too."""


def _event(payload: bytes, name: bytes = b"", place: str = "") -> bytes:
    lines = payload.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    start = b"id: " + place.encode("ascii") + b"\n" if place else b""
    if name:
        start += b"event: " + name + b"\n"
    return start + b"".join(b"data: " + line + b"\n" for line in lines) + b"\n"


def _headers(request: Request) -> Iterator[Header]:
    for name, values in request.requestHeaders.getAllRawHeaders():
        yield from ((name.decode("latin-1").lower(), value.decode("latin-1")) for value in values)


def _refuse(request: Request, refusal: Refusal) -> None:
    """Refuse a stream. An EventSource gets a temporary refusal as a stream that ends at once, so that it reconnects."""
    path = show_path(request.uri.partition(b"?")[0].decode("latin-1"))
    access_log.refused(refusal, number=None, peer=show_peer(request.getClientAddress()), path=path)
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
