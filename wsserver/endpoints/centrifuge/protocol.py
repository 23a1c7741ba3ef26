"""
`/connection/websocket`: the Centrifuge client protocol, version 2, for Centrifugo SDKs.

Source: https://centrifugal.dev/docs/transports/client_protocol.
"""

from collections.abc import Hashable
from typing import Any, ClassVar

from wsserver.centrifugecodes import TOO_MANY, centrifuge_code
from wsserver.closecodes import CloseCode
from wsserver.endpoints.authorization import find_token, select_subprotocol
from wsserver.endpoints.centrifuge.executor import Executor
from wsserver.endpoints.centrifuge.form import choose_codec, choose_subprotocol
from wsserver.endpoints.centrifuge.permissions import ClientContext
from wsserver.endpoints.subscriber import SubscriberProtocol
from wsserver.wire.drain import Wait
from wsserver.wire.frames import build
from wsserver.wire.http11 import Refusal
from wsserver.wire.protocol import ConnectionRequest, Denied, ServerProtocol

__all__ = ["CentrifugeProtocol"]


class CentrifugeProtocol(Executor, SubscriberProtocol):
    """The WebSocket connection of a client that speaks the Centrifuge protocol."""

    __slots__ = (*Executor.SLOTS, "_is_receiving")

    transport_name: ClassVar[str] = "websocket"
    """The name of the transport, as shown to the backend."""

    choose_codec = staticmethod(choose_codec)
    """Chooses the form of the protocol, given the parameters of the URL and the subprotocols; or refuses both."""

    choose_subprotocol = staticmethod(choose_subprotocol)
    """Chooses the subprotocol of the form, given those that the client offers; None for none."""

    def __init__(self) -> None:
        super().__init__()
        self._is_receiving = False
        """Whether received bytes are being processed. The commands in them are executed afterwards, together."""

    def _connection_request(self) -> None:
        """Make no `ConnectionRequest`: `onConnect` reads the handshake itself."""

    def onConnect(self, request: ConnectionRequest) -> Any:
        """
        Accept or refuse the opening handshake, and find the client's token.

        Raises:
            Denied: 400, the client requests an unknown form of the protocol or a version other than 2, or the request
                carries more than one token.
        """
        handshake = self.request
        query = handshake.query or {}
        offered = self._accept.offered if self._accept is not None else ()
        if query or offered:
            codec = self.choose_codec(query, offered)
            if isinstance(codec, Refusal):
                raise Denied(codec)
            self.codec = codec
        token = find_token(query, handshake.all("authorization"), offered)
        if isinstance(token, Refusal):
            raise Denied(token)
        caller = self.permissions.authorizer.caller(
            self.transport_name, self.codec.name, handshake.headers, self._shown_peer
        )
        self.context = ClientContext(caller, handshake.local_host)
        self.token = token or ""
        chosen = super().onConnect(request)
        return self.choose_subprotocol(offered) or select_subprotocol(chosen, offered)

    def onOpen(self) -> None:
        """Wait for the `connect` command."""
        self.start()

    # Receiving.

    def dataReceived(self, data: bytes) -> None:
        """Process bytes from the transport, then execute the commands of all messages that were complete."""
        self._is_receiving = True
        try:
            super().dataReceived(data)
        finally:
            self._is_receiving = False
        if self._frames:
            self._submit()

    def onMessage(self, payload: bytes, isBinary: bool) -> None:  # noqa: ARG002
        """Queue a message, which contains commands."""
        self.receive(payload)
        if not self._is_receiving:
            self._submit()

    # Sending.

    @property
    def form(self) -> Hashable:
        """What determines the bytes of a frame: the form of the protocol, and the compression."""
        return self.codec.name, self.window_bits

    def write_message(self, payload: bytes) -> bytes:
        """Return the frame of a push for all connections with the same `form`."""
        return self.write_frame(self.codec.first_byte, payload)

    def write_reply(self, payload: bytes) -> bytes:
        """Return the frame of replies and pushes to this client only, which is not compressed."""
        return build(self.codec.first_byte, payload)

    def _write_collected(self) -> None:
        if self._cork is not None:
            self._uncork()
            self._cork = []

    # Closing.

    def close(self, code: int = CloseCode.NORMAL_CLOSURE, reason: str = "") -> None:
        """
        Close the connection.

        Args:
            code: the close code. Those in `CLOSE_CODES` are replaced by the code that SDKs know for the same cause.
            reason: the close reason.
        """
        super().close(*centrifuge_code(code, reason))

    def is_answering(self) -> bool:
        """Return whether the client has sent something that is not answered."""
        return super().is_answering() or ServerProtocol.is_answering(self)

    def drain(self, code: int, reason: str, wait: Wait) -> bool:  # noqa: ARG002
        """Answer what was received, then close with 3001 whatever the option `drain_code` is: SDKs reconnect then."""
        return super().drain(CloseCode.GOING_AWAY, reason, wait)

    def _refuse_rate(self, reason: str) -> None:
        self.disconnect(TOO_MANY.because(reason))

    def abandon(self) -> None:
        """Drop the connection without waiting for the Close frame of the client."""
        self.dropConnection()

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:  # noqa: ARG002
        """End the session."""
        self.stop(*self.ended)

    # Flow control.

    def resumeProducing(self) -> None:
        """Resume sending and executing commands: the peer reads again."""
        if self._connect_replied:
            super().resumeProducing()
        else:
            # Publications remain queued until the client is connected.
            super(SubscriberProtocol, self).resumeProducing()
        self.factory.work.submit(self)
