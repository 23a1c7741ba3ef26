"""`/ws?channel=foo`: a raw subscription over WebSocket. The client receives the publications of channel `foo`."""

from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

from twisted.python.failure import Failure

from wsserver.closecodes import CloseCode
from wsserver.endpoints.authorization import Admitted, Credentials, select_subprotocol
from wsserver.endpoints.raw.formats import gap_notice, write_publication
from wsserver.endpoints.raw.messages import MessageQueue
from wsserver.endpoints.raw.positions import refuse_subscription
from wsserver.endpoints.raw.request import Format
from wsserver.endpoints.raw.subscription import RawSubscription
from wsserver.endpoints.subscriber import SubscriberProtocol
from wsserver.hooks.messages import Caller
from wsserver.hub.filters import with_filter
from wsserver.hub.publication import Publication
from wsserver.typing import ChannelName
from wsserver.wire.fastpath import CLOSED, CONNECTING
from wsserver.wire.frames import FIN_BINARY, FIN_TEXT, build, is_utf8
from wsserver.wire.http11 import Refusal
from wsserver.wire.protocol import ConnectionRequest, Denied

__all__ = ["RawProtocol"]


class _Kind(NamedTuple):
    """What the frame of a publication depends on."""

    form: Format
    binary: bool
    window_bits: int


# All subscribers of a kind share the object: it takes memory only once, and stays in the processor's cache.
_kind = lru_cache(maxsize=256)(_Kind)


class RawProtocol(SubscriberProtocol, RawSubscription):
    """The connection of a raw subscriber, which is subscribed to the channels that its URL names."""

    default_format: ClassVar[Format]
    accepts_messages: ClassVar[bool]
    """Whether messages are passed to the backend. If not, subscribers are receive-only."""

    _messages: MessageQueue | None = None
    """The client's messages to the backend; None before the first one."""
    sends_event_ids = False

    def onConnect(self, request: ConnectionRequest) -> Any:
        """
        Authorize the client and subscribe it. The opening handshake completes once the channels are subscribed.

        Returns:
            A Deferred that fires with the subprotocol. It fails with `Denied` if the client is refused or the broker
            is unavailable.
        """
        handshake = self.request
        subprotocol = select_subprotocol(super().onConnect(request), request.protocols)
        caller = self.authorizer.caller("websocket", "raw", handshake.headers, self._shown_peer)
        tokens = handshake.all("authorization")
        credentials = Credentials(handshake.query or {}, handshake.local_host, tokens, request.protocols, caller)
        return self.authorizer.admit(credentials, self.default_format).addCallback(self._admitted, caller, subprotocol)

    def _admitted(self, found: Admitted | Refusal, caller: Caller, subprotocol: str | None) -> Any:
        if isinstance(found, Refusal):
            raise Denied(found)
        self.set_client(found, caller)
        if self.state == CLOSED:
            # The client disconnected while keys were fetched or the backend was asked. `connectionLost` has already
            # run.
            self.unsubscribe(*self.ended)
        if self.state != CONNECTING:
            return subprotocol
        kind = _kind(found.request.format, found.request.binary, self.window_bits)
        self.kind = with_filter(kind, found.request.filter)
        return self.subscribe().addCallbacks(lambda _: subprotocol, self._not_subscribed)

    def _not_subscribed(self, failure: Failure) -> Any:
        raise Denied(refuse_subscription(failure))

    def onOpen(self) -> None:
        """Start the subscription: the opening handshake is complete."""
        self.start()

    def resumeProducing(self) -> None:
        """Send the queued publications, then continue the recovery: the peer reads again."""
        super().resumeProducing()
        self.read_page()

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Pass a message to the backend; close with 1008 if subscribers are receive-only."""
        hooks = self.authorizer.hooks_for("message")
        if hooks is None or not self.accepts_messages:
            self.close(CloseCode.POLICY_VIOLATION, "this connection is receive-only; publish over HTTP or Redis")
            return
        if self._messages is None:
            assert self.subscribe_request is not None
            assert self._client is not None
            self._messages = MessageQueue(
                self.hub,
                hooks,
                self._client.caller,
                self.subscribe_request.channels,
                max_size=self.maxMessagePayloadSize,
                send=self._send_data,
                close=self.fail,
            )
        self._messages.add(payload, isBinary)

    def _send_data(self, content: Publication) -> None:
        """Send data that the backend has sent to this client only: JSON as text, other bytes as a binary message."""
        payload = content.as_bytes()
        is_text = content.json and is_utf8(payload) and not self._wants_binary()
        self.send_in_order(self.write_frame(FIN_TEXT if is_text else FIN_BINARY, payload), 1, len(payload))

    def is_answering(self) -> bool:
        """Return whether the backend has yet to answer messages of the client."""
        return (self._messages is not None and self._messages.is_busy) or super().is_answering()

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        """Unsubscribe from the channels, even if the opening handshake was not completed, and notify the backend."""
        # Unsubscribe before the server removes the connection: once a stopping server has removed the last one, it
        # sends no more hooks.
        self.unsubscribe(*self.ended)
        messages, self._messages = self._messages, None
        if messages is not None:
            messages.clear()
        super().connectionLost(reason)

    def frame(self, channel: ChannelName, publication: Publication) -> bytes:
        """Return the frame of a publication for every subscriber with the same `kind`."""
        request = self.subscribe_request
        assert request is not None
        payload, first = write_publication(channel, publication, request.format, binary=request.binary)
        return self.write_frame(first, payload)

    # The interface of `RawSubscription`.

    def encode(self, channel: ChannelName, publication: Publication, event_id: str) -> bytes:  # noqa: ARG002
        """Return the frame of a publication."""
        return self.frame(channel, publication)

    def gap_frame(self, channel: ChannelName, event_id: str = "") -> tuple[bytes, int]:  # noqa: ARG002
        """Return the frame of a gap notice, and the size of its payload in bytes."""
        notice = gap_notice(channel)
        return build(FIN_BINARY if self._wants_binary() else FIN_TEXT, notice), len(notice)

    def _wants_binary(self) -> bool:
        return self.subscribe_request is not None and self.subscribe_request.binary
