"""`/ws?channel=foo`: what is published to the channel."""

from collections.abc import Hashable
from http import HTTPStatus
from typing import Any, ClassVar

from twisted.python.failure import Failure

from wsserver.closecodes import CloseCode
from wsserver.errors import BrokerDown
from wsserver.hub.channels import Ask, Format
from wsserver.hub.formats import gap_notice, write
from wsserver.hub.history import Publication
from wsserver.hub.hub import Hub
from wsserver.hub.presence import PresenceEvent
from wsserver.typing import ChannelName
from wsserver.wire.frames import FIN_BINARY, build
from wsserver.wire.protocol import ConnectionDeny, ConnectionRequest, ServerProtocol
from wsserver.wire.requests import Refusal
from wsserver.wire.traffic import OPEN

__all__ = ["PushProtocol"]


class PushProtocol(ServerProtocol):
    """A raw subscriber: what is published to its channels, as it was published, until it leaves."""

    hub: ClassVar[Hub]
    default_format: ClassVar[Format]
    max_queued: ClassVar[int]
    """Most bytes that wait for a client that does not read."""
    close_on_gap: ClassVar[bool]

    _ask: Ask | None = None
    _backlog: list[tuple[bytes, int, int]] | None = None
    """What waits until the connection is open, and the peer reads."""
    _backlog_size = 0
    _overflowed = False
    """Too much has waited: something was dropped, and the connection is closed for it."""

    def onConnect(self, request: ConnectionRequest) -> Any:
        """Subscribe; the handshake is completed when publications arrive."""
        handshake = self.request
        ask = self.hub.access.admit(handshake.query or {}, self.default_format, handshake.host)
        if isinstance(ask, Refusal):
            raise ConnectionDeny(int(ask.status), ask.reason)
        self._ask, self._backlog = ask, []
        self.kind = (ask.format, ask.binary)
        subprotocol = super().onConnect(request)
        done = self.hub.listen(ask.channels, self)
        return done.addCallbacks(lambda _: subprotocol, self._not_subscribed)

    def _not_subscribed(self, failure: Failure) -> Any:
        self._leave()
        failure.trap(BrokerDown)
        raise ConnectionDeny(int(HTTPStatus.SERVICE_UNAVAILABLE), str(failure.value))

    def onOpen(self) -> None:
        """Send what came while the handshake was completed."""
        if self._overflowed:
            self.close(CloseCode.TRY_AGAIN_LATER, "reads too slowly")
            return
        self._send_backlog()

    def onMessage(self, payload: bytes, isBinary: bool) -> None:  # noqa: ARG002
        """Refuse: whoever listens here does not speak."""
        self.close(CloseCode.POLICY_VIOLATION, "this connection only listens; publish over HTTP or Redis")

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        """Leave the channels, whether or not the connection was ever open."""
        self._leave()
        super().connectionLost(reason)

    def _leave(self) -> None:
        ask, self._ask, self._backlog = self._ask, None, None
        if ask is not None:
            self.hub.leave(ask.channels, self)

    # What the hub calls: `Subscriber`.

    kind: Hashable = None

    def frame(self, channel: ChannelName, publication: Publication) -> bytes:
        """Write a publication as every subscriber of this kind gets it."""
        assert self._ask is not None
        payload, first = write(channel, publication, self._ask.format, binary=self._ask.binary)
        return build(first, payload)

    def event_frame(self, channel: ChannelName, event: PresenceEvent) -> bytes:  # noqa: ARG002
        """Tell nothing: whoever listens here is not told who else does."""
        return b""

    def deliver(self, frames: bytes, count: int, size: int) -> None:
        """Send some publications, or keep them while the peer does not read."""
        if self._backlog is None:
            if self.state == OPEN:
                self.messages_out += count
                self.bytes_out += size
                self.transport.write(frames)
            return
        if self._overflowed:
            return
        self._backlog.append((frames, count, size))
        self._backlog_size += len(frames)
        if self._backlog_size > self.max_queued:
            self._backlog, self._backlog_size, self._overflowed = [], 0, True
            self.close(CloseCode.TRY_AGAIN_LATER, "reads too slowly")

    def missed(self, channel: ChannelName, stream: bool) -> None:  # noqa: ARG002
        """Tell that publications may be missing, or close."""
        if self.close_on_gap:
            self.close(CloseCode.SERVICE_RESTART, f"publications to {channel} may be missing")
            return
        assert self._ask is not None
        notice = gap_notice(channel)
        first = FIN_BINARY if self._ask.binary else 0x81
        self.deliver(build(first, notice), 1, len(notice))

    # Flow control.

    def pauseProducing(self) -> None:
        """Keep what comes: the peer does not read."""
        super().pauseProducing()
        if self._ask is not None and self._backlog is None:
            self._backlog, self._backlog_size = [], 0

    def resumeProducing(self) -> None:
        """Send what was kept, then read again."""
        self._send_backlog()
        if self._backlog is None:
            super().resumeProducing()

    def _send_backlog(self) -> None:
        backlog, self._backlog, self._backlog_size = self._backlog, None, 0
        if backlog:
            frames, counts, sizes = zip(*backlog, strict=True)
            self.deliver(b"".join(frames), sum(counts), sum(sizes))
