"""`/ws?channel=foo`: a raw subscription over WebSocket. The client receives the channel's publications."""

from collections.abc import Hashable
from typing import Any, ClassVar

from twisted.logger import Logger
from twisted.python.failure import Failure

from wsserver.closecodes import CloseCode
from wsserver.endpoints.authorization import Admitted, Authorizer, Credentials, agree
from wsserver.endpoints.raw.catchup import CatchUp
from wsserver.endpoints.raw.client import RawClient
from wsserver.endpoints.raw.formats import gap_notice, write
from wsserver.endpoints.raw.positions import Missed, StreamPositions, refuse_subscription
from wsserver.endpoints.raw.request import Format, RawSubscribeRequest
from wsserver.endpoints.subscriber import SubscriberProtocol
from wsserver.errors import BrokerDown
from wsserver.hooks.messages import Caller
from wsserver.hub.presence import PresenceEvent
from wsserver.hub.publication import Publication
from wsserver.hub.send_queue import Batch
from wsserver.typing import ChannelName
from wsserver.wire.access_log import show_peer
from wsserver.wire.fastpath import CONNECTING, OPEN
from wsserver.wire.frames import FIN_BINARY, FIN_TEXT, build
from wsserver.wire.http11 import Refusal
from wsserver.wire.protocol import ConnectionRequest, Denied

__all__ = ["PushProtocol"]

# A module attribute, because Twisted replaces the namespace of a logger that is a class attribute by the class's name.
_log = Logger(namespace="wsserver.push")


class PushProtocol(SubscriberProtocol):
    """A raw subscriber: a receive-only connection, subscribed to the channels that its URL names."""

    admission: ClassVar[Authorizer]
    default_format: ClassVar[Format]
    close_on_gap: ClassVar[bool]

    _ask: RawSubscribeRequest | None = None
    _places: StreamPositions | None = None
    _catch_up: CatchUp | None = None
    _client: RawClient | None = None
    """The connection as the registry of clients, its token's expiry and the backend see it."""

    def onConnect(self, request: ConnectionRequest) -> Any:
        """
        Authorize the client and subscribe it. The opening handshake completes once the channels are subscribed.

        Returns:
            Fires with the subprotocol; fails with `Denied` if the client is refused or the broker is unavailable.
        """
        handshake = self.request
        subprotocol = agree(super().onConnect(request), request.protocols)
        caller = self.admission.caller("websocket", "raw", handshake.headers, show_peer(self.transport.getPeer()))
        tokens = handshake.all("authorization")
        visit = Credentials(handshake.query or {}, handshake.host, tokens, request.protocols, caller)
        return self.admission.admit(visit, self.default_format).addCallback(self._admitted, caller, subprotocol)

    def _admitted(self, found: Admitted | Refusal, caller: Caller, subprotocol: str | None) -> Any:
        if isinstance(found, Refusal):
            raise Denied(found)
        # The peer may have disconnected while keys were fetched or the backend was asked. `connectionLost` has already
        # run then, so nothing would end a subscription.
        if self.state != CONNECTING:
            return subprotocol
        self._ask, self._places = found.ask, StreamPositions(found.ask)
        self._client = RawClient(self.hub.clients, self.admission, found, caller, self.close)
        self.kind = (found.ask.format, found.ask.binary, self.window_bits)
        self.hold()
        done = self._places.subscribe(self.hub, self, positioned=False)
        return done.addCallbacks(lambda _: subprotocol, self._not_subscribed)

    def _not_subscribed(self, failure: Failure) -> Any:
        self._leave()
        raise Denied(refuse_subscription(failure))

    def onOpen(self) -> None:
        """
        Send gap notices and the publications queued so far, then start to send those that the client missed.

        A gap notice is sent here for each channel that cannot be recovered.
        """
        assert self._client is not None
        assert self._places is not None
        self._client.come()
        self._send_missed(self._places.begin())
        self.release()
        self._catch_up = CatchUp(
            self.hub,
            self._places,
            self,
            ready=lambda: self.state == OPEN and self._backlog is None,
            send=self._send_missed,
            failed=self._not_recovered,
        )
        self._places = None
        self._catch_up.advance()

    def _send_missed(self, missed: list[Missed]) -> None:
        frames, size = [], 0
        for channel, publication, _ in missed:
            if publication is None and self.close_on_gap:
                self.missed(channel, True)
                return
            frame, length = (
                self.gap_frame(channel)
                if publication is None
                else (self.frame(channel, publication), len(publication.data))
            )
            frames.append(frame)
            size += length
        if frames:
            self._send(b"".join(frames), len(frames), size)

    def _not_recovered(self, failure: Failure) -> None:
        if not failure.check(BrokerDown):
            _log.failure("recovery failed", failure)
        self.close(CloseCode.TRY_AGAIN_LATER, "what was missed cannot be read: connect again")

    def resumeProducing(self) -> None:
        """Send the queued publications, then continue with the missed ones: the peer reads again."""
        super().resumeProducing()
        if self._catch_up is not None:
            self._catch_up.advance()

    def onMessage(self, payload: bytes, isBinary: bool) -> None:  # noqa: ARG002
        """Close with 1008: subscribers are receive-only."""
        self.close(CloseCode.POLICY_VIOLATION, "this connection only listens; publish over HTTP or Redis")

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        """Unsubscribe from the channels, even if the opening handshake was not completed, and notify the backend."""
        self._leave()
        # Before the server removes the connection: after the last one, a stopping server calls the backend no more.
        client, self._client = self._client, None
        if client is not None:
            client.go(*self.ended)
        super().connectionLost(reason)

    def _leave(self) -> None:
        ask, self._ask = self._ask, None
        if self._catch_up is not None:
            self._catch_up.stop()
            self._catch_up = None
        if ask is not None:
            self.hub.leave(ask.channels, self)

    # Called by the hub: the interface `Subscriber`.

    kind: Hashable = None

    def frame(self, channel: ChannelName, publication: Publication) -> bytes:
        """Return the frame of a publication for every subscriber with the same `kind`."""
        assert self._ask is not None
        payload, first = write(channel, publication, self._ask.format, binary=self._ask.binary)
        return self.write_frame(first, payload)

    def event_frame(self, channel: ChannelName, event: PresenceEvent) -> bytes:  # noqa: ARG002
        """Return no frame: raw subscribers receive no presence events."""
        return b""

    def missed(self, channel: ChannelName, stream: bool) -> None:  # noqa: ARG002
        """Send a gap notice for the channel, or close with 1012 if `close_on_gap` is set."""
        if self.close_on_gap:
            self.close(CloseCode.SERVICE_RESTART, f"publications to {channel} may be missing")
            return
        frame, size = self.gap_frame(channel)
        self.take(Batch(channel, frame, 1, size))

    def gap_frame(self, channel: ChannelName) -> tuple[bytes, int]:
        """Return the frame of a gap notice, and the bytes of its payload."""
        notice = gap_notice(channel)
        first = FIN_BINARY if self._ask is not None and self._ask.binary else FIN_TEXT
        return build(first, notice), len(notice)

    def on_permission_revoked(self, channel: ChannelName) -> None:
        """Close with 1008: Redis no longer permits the server to subscribe to the channel."""
        self.close(CloseCode.POLICY_VIOLATION, f"Redis does not permit {channel} any more")
